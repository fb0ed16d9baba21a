"""The lessons as a course: each says what one will be able to do, tests it, names its limits, and
leads to the others"""
import re
from functools import lru_cache
from typing import NamedTuple

import pytest
from fastcore.nbio import read_nb
from glossary import Entry, explanation, glossary, markdown_cells
from lessons import all_lessons, nbs, notebooks

lessons = all_lessons()
each_lesson = pytest.mark.parametrize('lesson', lessons, ids=lambda l: l.path.stem)
texts = [*notebooks(), *sorted(nbs.glob('*.md'))]
each_text = pytest.mark.parametrize('path', texts, ids=lambda p: str(p.relative_to(nbs)))
ASKED = ['What was the split?', 'What is the baseline?', 'What is the interval?',
    'What does it look at?', 'Where would it fail?']
SECTIONS = ['Five questions to ask of a result', 'Questions', 'What this does not show',
    'On real data and on a GPU', 'If you come from', 'Read on']
DOI = r'10\.\d{4,9}/[-._;()/:A-Za-z0-9]*[A-Za-z0-9)]'

@lru_cache
def cells(path): return read_nb(path).cells

@lru_cache
def prose(path):
    "A notebook's Markdown, or that of a page"
    if path.suffix == '.md':
        return path.read_text(encoding='utf-8')
    return '\n\n'.join(c.source for c in cells(path) if c.cell_type == 'markdown')

def section(lesson, name):
    "The text under a heading of level 2"
    heading = rf'^## {re.escape(name)}[^\n]*\n'
    m = re.search(rf'{heading}(.*?)(?=^## |\Z)', prose(lesson.path), re.M | re.S)
    assert m, f'no section "{name}"'
    return m[1]

def numbers(pattern, text):
    "All digits in what the pattern's group finds"
    return {int(n) for group in re.findall(pattern, text) for n in re.findall(r'\d', group)}

def goals_in(text):
    "Numbers of the goals that a heading or a question names: (goal 2), (goals 1 and 3)"
    return numbers(r'\(goals? ([\d, and]+)\)', text)

class Exercise(NamedTuple):
    text: str
    heading: str
    solution: object # the cell behind it

def exercises(lesson):
    all_cells = cells(lesson.path)
    for cell, following in zip(all_cells, all_cells[1:]):
        if cell.cell_type != 'markdown' or '### Your turn' not in cell.source:
            continue
        _, heading, text = cell.source.partition('### Your turn')
        yield Exercise(text, heading + text.partition('\n')[0], following)

class Question(NamedTuple):
    number: int
    asked: str
    answer: str

QUESTION = re.compile(r'<details><summary>(\d+)\. (.+?)</summary>\n\n(.+?)\n</details>', re.S)

def questions(lesson):
    found = QUESTION.findall(section(lesson, 'Questions'))
    return [Question(int(number), asked, answer) for number, asked, answer in found]

# --- each lesson

@each_lesson
def test_goals_are_tested(lesson):
    "Goals are numbered, and each is named by an exercise or a question"
    opening = r'\*\*After this lesson you can\*\*\n\n((?:\d\. .+\n)+)'
    m = re.search(opening, prose(lesson.path))
    assert m, 'the goals must be a numbered list'
    goals = [int(n) for n in re.findall(r'^(\d)\. ', m[1], re.M)]
    assert goals == list(range(1, len(goals) + 1))
    assert len(goals) >= 3
    headings = re.findall(r'^### Your turn.*', prose(lesson.path), re.M)
    named = [goals_in(text) for text in [*headings, *[q.asked for q in questions(lesson)]]]
    assert all(named), 'each exercise and each question names its goal'
    assert set().union(*named) == set(goals)

@each_lesson
def test_exercises(lesson):
    "At least three, from warm-up to open-ended"
    headings = [e.heading for e in exercises(lesson)]
    assert len(headings) >= 3
    assert 'warm-up' in headings[0]
    assert 'open-ended' in headings[-1]

@each_lesson
def test_solutions(lesson):
    "Each exercise has a hint and a folded solution that runs in the tests"
    for exercise in exercises(lesson):
        assert re.search(r'<details><summary>Hint</summary>\n\n\S', exercise.text)
        solution = exercise.solution
        assert solution.cell_type == 'code'
        assert solution.directives['code-summary'] == '"Solution"'
        assert solution.metadata['cellView'] == 'form'
        left_out = {'eval', 'slow', 'cuda'} & set(solution.directives)
        assert not left_out, 'the tests leave this solution out'
        assert solution.outputs, 'a solution shows what comes out'

@each_lesson
def test_questions(lesson):
    found = questions(lesson)
    assert [q.number for q in found] == list(range(1, len(found) + 1))
    assert len(found) >= 5
    assert len(found) == section(lesson, 'Questions').count('<details>')

@each_lesson
def test_sections(lesson):
    "What each lesson ends with, in one order"
    headings = re.findall(r'^## (.+)', prose(lesson.path), re.M)
    named = [name for heading in headings for name in SECTIONS if heading.startswith(name)]
    assert named == SECTIONS
    assert len(section(lesson, 'What this does not show').split()) > 40
    rows = re.findall(r'^\|(?![-| ]+\|$).+\|$', section(lesson, 'If you come from'), re.M)
    widths = {row.count(' |') for row in rows}
    assert len(rows) > 3
    assert len(widths) == 1

@each_lesson
def test_five_questions(lesson):
    text = section(lesson, SECTIONS[0])
    _, *rows = re.findall(r'^\| (.+?) \| (.+) \|$', text, re.M)
    assert [asked for asked, _ in rows] == ASKED
    assert all(len(answer.split()) > 8 for _, answer in rows)
    assert '(checklist.md)' in text

@each_lesson
def test_further_reading(lesson):
    "Papers have a DOI or an arXiv number"
    items = [line for line in section(lesson, 'Read on').splitlines() if line.startswith('- ')]
    source = re.compile(rf'\[doi:{DOI}\]|\[arXiv:\d{{4}}\.\d{{4,5}}\]')
    others = [line for line in items if not source.search(line)]
    assert len(items) - len(others) >= 2
    assert all(re.search('standard|documentation', line) for line in others)

# --- links

def without_open_bracket(link):
    "A DOI may end with a bracket, and so may the text round it"
    return link.removesuffix(')') if link.count('(') < link.count(')') else link

@each_text
def test_dois_have_the_right_form(path):
    text = prose(path)
    for link in re.findall(r'https?://(?:dx\.)?doi\.org/([^)\s>"]*\)?)', text):
        assert re.fullmatch(DOI, without_open_bracket(link)), link
    dois = re.findall(r'\[doi:([^\]]+)\]\(https://doi\.org/([^)\s]+)\)', text)
    preprints = re.findall(r'\[arXiv:([^\]]+)\]\(https://arxiv\.org/abs/([^)\s]+)\)', text)
    for said, link in [*dois, *preprints]:
        assert said == link

def slug(heading):
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')

def anchors(file):
    "What a link may name in a notebook or a page: its headings, and a notebook's cells"
    headings = {slug(heading) for heading in re.findall('^#+ (.+)', prose(file), re.M)}
    if file.suffix != '.ipynb': return headings
    return headings | {c.id for c in cells(file)}

@each_text
def test_links_lead_somewhere(path):
    "To a file of the project and, if they name one, to a heading in it"
    text = re.sub(r'`[^`\n]+`', '', prose(path))
    for target in re.findall(r'\]\((?!\w+:|#|/|\{)([^)\s]+)', text):
        name, _, anchor = target.partition('#')
        file = path.parent/name
        assert file.exists(), f'{target}: no such file'
        if anchor:
            assert anchor in anchors(file), f'{target}: no such heading'

@each_lesson
def test_lessons_are_referred_to_by_link(lesson):
    text = prose(lesson.path)
    mentioned = numbers(r'[Ll]essons? (\d(?:(?:, | and )\d)*)', text)
    others = [other for other in lessons if other is not lesson]
    linked = {other.number for other in others if f']({other.path.name}' in text}
    assert linked, 'leads to no other lesson'
    without_link = (mentioned - {lesson.number}) & {other.number for other in others} - linked
    assert not without_link, 'lessons named without a link'

# --- the glossary

# Words that the lessons also use in their everyday sense, before they mean the term
EVERYDAY = {'chance', 'channel', 'features', 'private', 'test', 'width', 'leak'}

def after_the_opening(entry):
    """The markdown cells behind the opening, which says in the learner's words what is to come,
    and explains little"""
    all_cells = list(markdown_cells(entry.path).items())
    opening = [id for id, _ in all_cells[:2]]
    return all_cells[1 if entry.cell in opening else 2:]

@pytest.mark.parametrize('entry', glossary(), ids=lambda e: e.term)
def test_terms_are_explained_where_they_first_appear(entry):
    """In its lesson a term of the glossary appears, after the opening, first as the words that are
    explained: in bold or italics, or in front of a table's row"""
    assert explanation(entry)  # raises if the place is gone
    if entry.path.parts[0] == 'toolbox' or entry.written in EVERYDAY:
        return
    term = re.compile(rf'(?<![\w`]){re.escape(entry.written)}(?![\w`])', re.I)
    for cell, text in after_the_opening(entry):
        text = re.sub(r'`[^`\n]+`', '', text)
        used = term.search(text)
        if not used: continue
        explained = cell == entry.cell or text[:used.start()].endswith(('*', '| '))
        assert explained, (f'{entry.path}, cell {cell}: "{used[0]}" is used before it is '
                           'explained')
        return

def test_glossary_lists_each_term_once():
    terms = [e.term.lower() for e in glossary()]
    assert len(terms) == len(set(terms))
    assert terms == sorted(terms)
    listed = re.findall('^- ', (nbs/'glossary.md').read_text(encoding='utf-8'), re.M)
    assert len(terms) == len(listed), ('a line of glossary.md is not of the form '
                                       '- [term](notebook.ipynb#cell)')

@pytest.mark.parametrize('lost', [dict(cell='nowhere'), dict(written='no such word')])
def test_a_lost_place_is_noticed(lost):
    """The oracle of the tests above: an entry whose cell, or whose word in it, is not there"""
    entry = Entry(**vars(glossary()[0]) | lost)
    with pytest.raises(ValueError, match='glossary'):
        explanation(entry)
