"The lessons as their notebooks describe themselves: title, the quoted line under it, minutes"
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import metadata
from pathlib import Path

from fastcore.nbio import read_nb
from nbdev.config import get_config
from nbdev.doclinks import nbglob

config = get_config(Path(__file__).parent)
nbs = config.nbs_path

def notebooks(): return sorted(nbglob(nbs, as_path=True))

@dataclass
class Lesson:
    path: Path            # the notebook
    number: int           # as in the file's name
    title: str            # first heading, without the lesson's number
    goal: str             # quoted line under the title: what the learner will be able to do
    minutes: float | None # to run on two CPU cores, as `make outputs` measured it

    @property
    def time(self):
        return '' if self.minutes is None else f'{self.minutes:g}'

    @property
    def badge(self):
        repository = f'{config.user}/{config.repo}/blob/{config.branch}'
        url = f'https://colab.research.google.com/github/{repository}/nbs/{self.path.name}'
        return f'[![Open in Colab](images/colab.svg)]({url})'

OPENING = re.compile(r'# (?:Lesson \d+: )?(?P<title>.+)\n+> (?P<goal>.+)')

def read_lesson(path):
    "What the notebook at `path` says of itself"
    nb = read_nb(path)
    opening = OPENING.match(nb.cells[0].source)
    if not opening:
        raise ValueError(f'{path} must open with a cell of a "# title" and, under it, a line '
                         '"> what you will be able to do"')
    minutes = nb.metadata.get('medtut', {}).get('minutes')
    return Lesson(path, int(path.name[:2]), opening['title'], opening['goal'], minutes)

def all_lessons():
    return [read_lesson(p) for p in sorted(nbs.glob('[0-9][0-9]_*.ipynb'))]

# What each lesson answers, by its number: the map of the course is drawn from it
QUESTIONS = {
    0: 'What is training, and how can a perfect score be worth nothing?',
    1: 'What is in a DICOM file, and how does it become a correct picture?',
    2: 'How does a collection become a data set, and what does a leak do to the score?',
    3: 'Is there a pneumothorax on this film, and how far can I trust the answer?',
    4: 'Where did the classifier look?',
    5: 'What is a volume, and which grade does this glioma have?',
    6: 'Where exactly does the tumour end, and how good is the outline?',
    7: 'Does all this hold on real patients?',
    8: 'How does a result get to the images in the hospital, and back?'}

def lesson_table():
    "Markdown table of the lessons, its links relative to the notebooks"
    lines = ['| | Lesson | Question | Afterwards you can | Minutes | |', '|-|-|-|-|-|-|']
    for l in all_lessons():
        link = f'[{l.title}]({l.path.name})'
        able = l.goal[0].lower() + l.goal[1:]
        cells = str(l.number), link, QUESTIONS[l.number], able, l.time, l.badge
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)

@cache
def addresses():
    "Where the project is found: (label, address) of each place"
    urls = metadata(config.lib_name).get_all('Project-URL')
    pairs = [url.split(', ') for url in urls]
    return [(label.lower(), address) for label, address in pairs]

def filled(md):
    """`md` with its placeholders filled in: what is known elsewhere is not typed again in a
    notebook"""
    if '{lessons}' in md:
        md = md.replace('{lessons}', lesson_table())
    for label, address in addresses(): md = md.replace('{%s}' % label, address)
    return md
