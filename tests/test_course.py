"The lessons as a course: each says what one will be able to do, tests it, names its limits, and leads to the others"
import re
from functools import lru_cache

import pytest
from fastcore.nbio import read_nb

import pages
from lessons import all_lessons, nbs, notebooks

lessons = all_lessons()
each_lesson = pytest.mark.parametrize('lesson', lessons, ids=lambda l: l.path.stem)
texts = [*notebooks(), *sorted(nbs.glob('*.md'))]
each_text = pytest.mark.parametrize('path', texts, ids=lambda p: str(p.relative_to(nbs)))
ASKED = ['What was the split?', 'What is the baseline?', 'What is the interval?', 'What does it look at?', 'Where would it fail?']
SECTIONS = ['Five questions to ask of a result', 'Questions', 'What this does not show', 'On real data and on a GPU', 'If you come from', 'Read on']
DOI = r'10\.\d{4,9}/[-._;()/:A-Za-z0-9]*[A-Za-z0-9)]'

@lru_cache
def cells(path): return read_nb(path).cells

def prose(path):
    "A notebook's Markdown, or that of a page"
    return path.read_text(encoding='utf-8') if path.suffix == '.md' else '\n\n'.join(c.source for c in cells(path) if c.cell_type == 'markdown')

def section(lesson, name):
    "The text under a heading of level 2"
    found = re.search(rf'^## {re.escape(name)}.*\n(.*?)(?=^## |\Z)', prose(lesson.path), re.M | re.S)
    assert found, f'no section "{name}"'
    return found[1]

def goals_in(text):
    "Numbers of the goals that a heading or a question names: (goal 2), (goals 1 and 3)"
    return {int(n) for named in re.findall(r'\(goals? ([\d, and]+)\)', text) for n in re.findall(r'\d', named)}

def exercises(lesson): return [(i, c) for i, c in enumerate(cells(lesson.path)) if c.cell_type == 'markdown' and '### Your turn' in c.source]

def questions(lesson):
    found = re.findall(r'<details><summary>(\d+)\. (.+?)</summary>\n\n(.+?)\n</details>', section(lesson, 'Questions'), re.S)
    return [(int(number), asked, answer) for number, asked, answer in found]

@each_lesson
def test_goals_are_tested(lesson):
    "Goals are numbered, and each is named by an exercise or a question"
    opening = re.search(r'\*\*After this lesson you can\*\*\n\n((?:\d\. .+\n)+)', prose(lesson.path))
    assert opening, 'the goals must be a numbered list'
    goals = [int(n) for n in re.findall(r'^(\d)\. ', opening[1], re.M)]
    assert goals == list(range(1, len(goals) + 1)) and len(goals) >= 3
    headings = re.findall(r'^### Your turn.*', prose(lesson.path), re.M)
    assert all(goals_in(h) for h in headings) and all(goals_in(asked) for _, asked, _ in questions(lesson)), 'each names its goal'
    named = set().union(*map(goals_in, headings), *(goals_in(asked) for _, asked, _ in questions(lesson)))
    assert named == set(goals)

@each_lesson
def test_exercises(lesson):
    "At least three, from warm-up to open-ended, each with a hint and a folded solution that runs in the tests"
    found = exercises(lesson)
    assert len(found) >= 3
    headings = [re.search('### Your turn.*', c.source)[0] for _, c in found]
    assert 'warm-up' in headings[0] and 'open-ended' in headings[-1]
    for i, cell in found:
        assert re.search(r'<details><summary>Hint</summary>\n\n\S', cell.source.partition('### Your turn')[2])
        solution = cells(lesson.path)[i + 1]
        assert solution.cell_type == 'code' and solution.directives['code-summary'] == '"Solution"' and solution.metadata['cellView'] == 'form'
        assert not {'eval', 'slow', 'cuda'} & set(solution.directives), 'the tests leave this solution out'
        assert solution.outputs, 'a solution shows what comes out'

@each_lesson
def test_questions(lesson):
    found = questions(lesson)
    assert [n for n, *_ in found] == list(range(1, len(found) + 1)) and len(found) >= 5
    assert len(found) == section(lesson, 'Questions').count('<details>')

@each_lesson
def test_sections(lesson):
    "What each lesson ends with, in one order"
    headings = re.findall(r'^## (.+)', prose(lesson.path), re.M)
    assert [name for h in headings for name in SECTIONS if h.startswith(name)] == SECTIONS
    assert len(section(lesson, 'What this does not show').split()) > 40
    rows = re.findall(r'^\|(?![-| ]+\|$).+\|$', section(lesson, 'If you come from'), re.M)
    assert len(rows) > 3 and len({row.count(' |') for row in rows}) == 1

@each_lesson
def test_five_questions(lesson):
    rows = re.findall(r'^\| (.+?) \| (.+) \|$', section(lesson, SECTIONS[0]), re.M)
    assert [asked for asked, _ in rows[1:]] == ASKED
    assert all(len(answer.split()) > 8 for _, answer in rows[1:])
    assert '(checklist.md)' in section(lesson, SECTIONS[0])

@each_lesson
def test_further_reading(lesson):
    "Papers have a DOI or an arXiv number"
    read_on = [line for line in section(lesson, 'Read on').splitlines() if line.startswith('- ')]
    with_source = [line for line in read_on if re.search(rf'\[doi:{DOI}\]|\[arXiv:\d{{4}}\.\d{{4,5}}\]', line)]
    assert len(with_source) >= 2 and all(line in with_source or re.search('standard|documentation', line) for line in read_on)

@each_text
def test_dois_have_the_right_form(path):
    text = prose(path)
    for link in re.findall(r'https?://(?:dx\.)?doi\.org/([^)\s>"]*\)?)', text):
        link = link.removesuffix(')') if link.count('(') < link.count(')') else link
        assert re.fullmatch(DOI, link), link
    for said, link in re.findall(r'\[doi:([^\]]+)\]\(https://doi\.org/([^)\s]+)\)', text): assert said == link
    for said, link in re.findall(r'\[arXiv:([^\]]+)\]\(https://arxiv\.org/abs/([^)\s]+)\)', text): assert said == link

@each_text
def test_links_lead_somewhere(path):
    "To a file of the project and, if they name one, to a heading in it"
    for target in re.findall(r'\]\((?!\w+:|#|/|\{)([^)\s]+)', re.sub(r'`[^`\n]+`', '', prose(path))):
        name, _, anchor = target.partition('#')
        file = path.parent/name
        assert file.exists(), f'{target}: no such file'
        if not anchor: continue
        slugs = {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in re.findall('^#+ (.+)', prose(file), re.M)}
        ids = {c.id for c in cells(file)} if file.suffix == '.ipynb' else set()
        assert anchor in slugs | ids, f'{target}: no such heading'

@each_lesson
def test_lessons_are_referred_to_by_link(lesson):
    mentioned = {int(n) for names in re.findall(r'[Ll]essons? (\d(?:(?:, | and )\d)*)', prose(lesson.path)) for n in re.findall(r'\d', names)}
    for other in lessons:
        if other.number in mentioned - {lesson.number}: assert f']({other.path.name}' in prose(lesson.path), f'lesson {other.number} is named without a link'
    assert any(f']({other.path.name}' in prose(lesson.path) for other in lessons if other is not lesson)

# Words that the lessons also use in their everyday sense, before they mean the term
EVERYDAY = {'chance', 'channel', 'features', 'private', 'test', 'width', 'leak'}

@pytest.mark.parametrize('entry', pages.glossary(), ids=lambda e: e.term)
def test_terms_are_explained_where_they_first_appear(entry):
    "In its lesson a term of the glossary appears, after the opening, first as the words that are explained: in bold or italics, or in front of a table's row"
    assert pages.explanation(entry)  # raises if the place is gone
    if entry.path.parts[0] == 'toolbox' or entry.written in EVERYDAY: return
    term, cells = re.compile(rf'(?<![\w`]){re.escape(entry.written)}(?![\w`])', re.I), list(pages.markdown_cells(entry.path).items())
    # the opening says in the learner's words what is to come, and explains little
    opening = 2 if entry.cell not in dict(cells[:2]) else 1
    for cell, text in cells[opening:]:
        text = re.sub(r'`[^`\n]+`', '', text)
        if used := term.search(text):
            explained = cell == entry.cell or text[:used.start()].endswith(('*', '| '))
            assert explained, f'{entry.path}, cell {cell}: "{used[0]}" is used before it is explained'
            return

def test_glossary_lists_each_term_once():
    terms = [e.term.lower() for e in pages.glossary()]
    assert len(terms) == len(set(terms)) and terms == sorted(terms)
    listed = re.findall('^- ', (nbs/'glossary.md').read_text(encoding='utf-8'), re.M)
    assert len(terms) == len(listed), 'a line of glossary.md is not of the form - [term](notebook.ipynb#cell)'

def test_a_lost_place_is_noticed():
    "The oracle of the tests above: an entry whose cell, or whose word in it, is not there"
    entry = pages.glossary()[0]
    for lost in dict(cell='nowhere'), dict(written='no such word'):
        with pytest.raises(ValueError, match='glossary'): pages.explanation(pages.Entry(**vars(entry) | lost))
