"What the site's pages take from elsewhere: definitions from the lessons, the data sets' records, the work that a lesson's training takes"
import inspect, re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from fastcore.docments import docments
from fastcore.nbio import read_nb

from lessons import nbs
from medtut.archives import SETS

# Glossary: `glossary.md` lists terms, each with the cell that explains it. The explanation stands there alone.

@dataclass
class Entry:
    term: str      # as the glossary lists it
    path: Path     # the notebook that explains it, relative to the notebooks' folder
    cell: str      # id of the cell
    written: str   # the term as it stands there
    sentences: int # how many make up the explanation
    before: int    # how many of them stand before the one that holds the term

    @property
    def target(self): return 'term-' + re.sub(r'\W+', '-', self.term.lower()).strip('-')

ENTRY = re.compile(r'^- \[(?P<term>[^\]]+)\]\((?P<path>[\w/]+\.ipynb)#(?P<cell>[\w-]+)(?: "(?P<written>[^"]+)")?\)(?:, (?P<n>\d) sentences(?: from (?P<before>\d) before)?)?$', re.M)

def glossary():
    "The entries that `glossary.md` lists"
    text = (nbs/'glossary.md').read_text(encoding='utf-8')
    return [Entry(m['term'], Path(m['path']), m['cell'], m['written'] or m['term'], int(m['n'] or 1), int(m['before'] or 0)) for m in ENTRY.finditer(text)]

@lru_cache
def markdown_cells(path): return {c.id: c.source for c in read_nb(nbs/path).cells if c.cell_type == 'markdown'}

def place(entry, text):
    "Where `text` explains the term: in bold or italics, or in front of a table's row. `(start, end)`"
    word = re.escape(entry.written)
    found = re.search(rf'(?<![*\w])(\*\*?){word}[.,]?\1(?![*\w])|(?<=^\| ){word}(?= \|)', text, re.M | re.I)
    if not found: raise ValueError(f'glossary: {entry.term}: cell {entry.cell} of {entry.path} has no "{entry.written}" in bold, in italics or in front of a table\'s row')
    return found.span()

def sentences(text):
    "`text` cut behind full stops; not behind those of `et al.` and of initials"
    return re.split(r'(?:(?<=[.!?])|(?<=[.!?][)*])|(?<=[.!?][*][*]))(?<!al\.)(?<![A-Z]\.)\s+(?=[A-Z*`"(\[])', text)

def explanation(entry):
    "Markdown of the sentences, or of the table's row, that explain the term"
    cells = markdown_cells(entry.path)
    if entry.cell not in cells: raise ValueError(f'glossary: {entry.term}: {entry.path} has no markdown cell {entry.cell}')
    text = cells[entry.cell]
    start, end = place(entry, text)
    line = text.rfind('\n', 0, start) + 1
    if text[line:start] == '| ':
        header = re.findall(r'^\|(.+)\|\n\|[-| :]+\|$', text[:start], re.M)[-1].split('|')
        row = text[start:].partition('\n')[0].rstrip(' |').split('|')
        said = '; '.join(f'{h.strip()}: {c.strip()}' for h, c in zip(header[1:], row[1:]) if c.strip())
    else:
        first = max(text.rfind(mark, 0, start) + len(mark) if mark in text[:start] else 0 for mark in ('\n\n', '\n- '))
        last = min(i for mark in ('\n\n', '\n- ', '\n|') if (i := text.find(mark, end)) >= 0 or mark == '\n\n' and (i := len(text)))
        begin = len(sentences(text[first:end])) - 1 - entry.before
        said = ' '.join(sentences(text[first:last])[begin:begin + entry.sentences])
    # links are relative to the notebook
    said = re.sub(r'\[([^\]]+)\]\((?!https?:)[^)]*\)', r'\1', ' '.join(said.split())).rstrip(':')
    return said if said[-1] in '.?!)' else f'{said}.'

def with_targets(path, cell_id, text):
    "A cell's markdown with a link's target on each term that the glossary takes from it"
    for e in glossary():
        if (e.path, e.cell) != (path, cell_id): continue
        start, end = place(e, text)
        text = f'{text[:start]}[{text[start:end]}]{{#{e.target}}}{text[end:]}'
    return text

def short_title(path): return re.match(r'# (Lesson \d+|.+)', next(iter(markdown_cells(path).values())))[1]

def glossary_list():
    "The glossary's entries in alphabetical order, each with its explanation and a link to where it stands"
    for e in sorted(glossary(), key=lambda e: e.term.lower()):
        yield f'{e.term}\n: {explanation(e)} [{short_title(e.path)}](#{e.target})\n'

# Pages: `<!-- name -->` in a page's Markdown stands for what a function below makes

def filled_page(text):
    "A page's Markdown with its placeholders filled in"
    if ENTRY.search(text): text = ENTRY.sub('', text).rstrip() + '\n\n' + '\n'.join(glossary_list())
    return re.sub(r'<!-- ([\w ]+) -->', lambda m: PARTS[m[1]](), text)

PARTS = {}
