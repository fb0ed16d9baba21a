"""The lessons as a course: each says what one will be able to do, tests it, names its limits, and
leads to the others"""
import re
from functools import lru_cache
from typing import NamedTuple

import pytest
from cell_names import names_in
from course import counts, declared, exercises_among, is_essay, mistakes, quiz_in
from fastcore.basics import AttrDict
from fastcore.nbio import read_nb, write_nb
from fold import fold, gives_away, unfolded
from glossary import Entry, explanation, glossary, markdown_cells
from lessons import all_lessons, nbs, notebooks

lessons = all_lessons()
each_lesson = pytest.mark.parametrize('lesson', lessons, ids=lambda l: l.path.stem)
texts = [*notebooks(), *sorted(nbs.glob('*.md'))]
each_text = pytest.mark.parametrize('path', texts, ids=lambda p: str(p.relative_to(nbs)))
ASKED = ['What was the split?', 'What is the baseline?', 'What is the interval?',
    'What does it look at?', 'Where would it fail?']
SECTIONS = ['Five questions to ask of a result', 'Questions', 'What this does not show',
    'On real data and on a GPU', 'If you come from', 'Recap', 'Read on']
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

def exercises(lesson):
    return list(exercises_among(cells(lesson.path)))

class Question(NamedTuple):
    number: int
    asked: str
    answer: str

QUESTION = re.compile(r'<details><summary>(\d+)\. (.+?)</summary>\n\n(.+?)\n</details>', re.S)

def questions(lesson):
    found = QUESTION.findall(section(lesson, 'Questions'))
    return [Question(int(number), asked, answer) for number, asked, answer in found]

def quiz(lesson): return quiz_in(section(lesson, 'Questions'))

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
    asked = [question.asked for question in [*quiz(lesson), *questions(lesson)]]
    named = [goals_in(text) for text in [*headings, *asked]]
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
        assert exercise.cells[0] is exercise.solution
        folded = [exercise.solution, exercise.key] if exercise.answers else [exercise.solution]
        for cell in folded:
            assert cell.metadata['cellView'] == 'form'
            left_out = {'eval', 'slow', 'cuda'} & set(cell.directives)
            assert not left_out, 'the tests leave this solution out'
        assert folded[-1].outputs, 'a solution shows what comes out'

@each_lesson
def test_questions(lesson):
    "Those to choose an answer of come first"
    found = [*quiz(lesson), *questions(lesson)]
    assert [q.number for q in found] == list(range(1, len(found) + 1))
    assert len(found) >= 5
    choices = sum(len(question.choices) for question in quiz(lesson))
    folds = choices + len(questions(lesson))
    assert folds == section(lesson, 'Questions').count('<details')

@each_lesson
def test_quiz(lesson):
    "One choice is right, the others are mistakes, and each has its own answer"
    for question in quiz(lesson):
        choices = question.choices
        assert len(choices) >= 3 and [c.right for c in choices].count(True) == 1, question.asked
        wrong = [choice.feedback for choice in choices if not choice.right]
        assert all(feedback.startswith('**No.**') for feedback in wrong), question.asked
        feedback = {choice.feedback for choice in choices}
        assert len(feedback) == len(choices), question.asked
        assert all(len(said.split()) > 5 for said in feedback), question.asked

def test_the_right_choice_has_no_place():
    "Nor does it always stand first, or last, or is the longest"
    questions = [question for lesson in lessons for question in quiz(lesson)]
    rights = [next(c for c in question.choices if c.right) for question in questions]
    places = [q.choices.index(right) for q, right in zip(questions, rights)]
    longest = [max(q.choices, key=lambda c: len(c.text)) is r for q, r in zip(questions, rights)]
    assert max(map(places.count, places)) <= .6*len(places)
    assert sum(longest) <= .6*len(longest)

# --- each answer is answered

# Lessons whose exercises have to answer. Others may, and what they have is tested all the same.
ANSWERING = {0, 1, 2, 3, 4, 5, 6, 7, 8}

def not_yet(lesson):
    "Leave a test of a lesson that does not answer yet"
    if lesson.number in ANSWERING: return
    found = counts(lesson.path)
    if found.answering < found.exercises or found.quiz < 5:
        pytest.skip(f'not yet: {found.answering} of {found.exercises} exercises answer, '
                    f'{found.quiz} of 5 quiz questions')

@each_lesson
def test_lesson_answers(lesson):
    "At least four exercises, all of which answer, a task that breaks something, and a quiz"
    not_yet(lesson)
    found = counts(lesson.path)
    assert found.exercises >= 4
    assert found.answering == found.exercises
    assert found.fewest_mistakes >= 2
    assert found.quiz >= 5
    assert any('break' in exercise.heading for exercise in exercises(lesson))
    assert is_essay(declared(exercises(lesson)[-1].solution))
    source = '\n'.join(cell.source for cell in cells(lesson.path))
    assert 'Predict first' in source
    assert 'print(predicted(' in source

@each_lesson
def test_exercises_answer(lesson):
    """Solution, cell to type in and key speak of one exercise; they are numbered; nothing is
    typed in yet, and the solution says nothing before it is asked"""
    answering = [exercise for exercise in exercises(lesson) if exercise.answers]
    if not answering: not_yet(lesson)
    for i, exercise in enumerate(answering, 1):
        number = f'{lesson.number}.{i}'
        call = declared(exercise.solution)
        assert call.args[0].value == number
        assert mistakes(call) >= 2, f'{number} knows {mistakes(call)} mistakes'
        assert f"check('{number}', answer)" in exercise.typed.source
        assert re.search(rf"^answer_key\('{number}'[,)]", exercise.key.source, re.M)
        assert not exercise.solution.outputs, f'{number}: the solution gives itself away'
        assert re.search(r"^answer = (\.\.\.|'\.\.\.')", exercise.typed.source, re.M)
        said = ''.join(exercise.typed.outputs[-1].text)
        assert said == f'{number}: not answered yet\n'
        assert exercise.cells.index(exercise.typed) < exercise.cells.index(exercise.key)

def key_lines(cell):
    "The lines of an answer key; as text, they stand in the first of the outputs"
    first = cell.outputs[0]
    return ''.join(first.get('text') or first.data['text/plain']).splitlines()

@each_lesson
def test_code_is_read_in_small_steps(lesson):
    "What is longer is folded, and there is something to see, or to do, before much is read"
    found = counts(lesson.path)
    assert found.median <= 4
    assert found.longest <= 15
    assert found.stretch <= 60

def figures(text):
    "Numbers of two or more digits"
    return set(re.findall(r'\d[\d.]*\d', text))

@each_lesson
def test_keys(lesson):
    "Each mistake is told from the solution and from the others; no reason has the solution in it"
    answering = [exercise for exercise in exercises(lesson) if exercise.answers]
    if not answering: not_yet(lesson)
    for exercise in answering:
        call = declared(exercise.solution)
        printed = key_lines(exercise.key)
        if is_essay(call):
            assert mistakes(call) == sum(line.startswith('  [ ]') for line in printed)
            continue
        lines = [line for line in printed if line.startswith('- ')]
        assert len(lines) == mistakes(call), printed
        solution = printed[0].partition(': ')[2].partition('. ')[0]
        reasons = [line.partition(': ')[2] for line in lines]
        assert not figures(solution) & figures(' '.join(reasons)), printed

@each_lesson
def test_keys_fold_themselves(lesson):
    """Also where all cells are run, which shows the outputs of folded cells: a key has one output,
    and that is folded"""
    for exercise in exercises(lesson):
        if not exercise.answers: continue
        output, = exercise.key.outputs
        html = ''.join(output.data['text/html'])
        assert html.startswith('<details class="answer-key"><summary'), exercise.key.id
        assert html.endswith('</details>')
        assert html.count('<details') == 1 and '<details open' not in html

def read_after_keys(cells):
    "(Cell, name) where a key that a learner may skip has changed what a later cell reads"
    set_before, changed = set(), set()
    for cell in cells:
        if cell.cell_type != 'code': continue
        read, bound = names_in(cell.source)
        for name in sorted(read & changed): yield cell.id, name
        if 'answer_key(' in cell.source: changed |= bound & set_before
        else: changed -= bound
        set_before |= bound

@each_lesson
def test_keys_change_no_name_that_is_read_later(lesson):
    assert not list(read_after_keys(cells(lesson.path)))

@pytest.mark.parametrize('later, found', [
    ('print(scores)', ['scores']), ('scores = 3', []), ('scores += 3', ['scores']),
    ('for scores in range(3): print(scores)', []), ('[scores for scores in range(3)]', []),
    ('def best(): return max(scores)', ['scores']), ('def best(scores): return max(scores)', []),
    ('scores = scores[1:]', ['scores']), ('%timeit scores', [])])
def test_a_name_that_a_key_changes_is_noticed(later, found):
    texts = 'scores = [1, 2]', "scores = [3]\nanswer_key('1.1')", later
    cells = [AttrDict(cell_type='code', id=str(i), source=text) for i, text in enumerate(texts)]
    assert [name for _, name in read_after_keys(cells)] == found

@each_lesson
def test_what_gives_away_is_folded(lesson):
    if lesson.number not in ANSWERING: not_yet(lesson)
    assert not unfolded(lesson.path), 'run `python tools/fold.py`'

def test_fold(tmp_path):
    "With source and outputs, and nothing else of the notebook"
    path = tmp_path/'copy.ipynb'
    path.write_bytes(lessons[0].path.read_bytes())
    nb = read_nb(path)
    for cell in nb.cells: cell.metadata = {}
    write_nb(nb, path)
    given_away = [cell.id for cell in nb.cells if gives_away(cell)]
    assert given_away
    assert unfolded(path) == given_away
    fold(path)
    assert not unfolded(path)
    folded = [cell.id for cell in read_nb(path).cells if cell.metadata]
    assert folded == given_away

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
    """What a link may name in a notebook or a page: its headings, and a notebook's cells and the
    terms that the glossary takes from it"""
    headings = {slug(heading) for heading in re.findall('^#+ (.+)', prose(file), re.M)}
    if file.suffix != '.ipynb': return headings
    terms = {e.target for e in glossary() if nbs/e.path == file}
    return headings | terms | {c.id for c in cells(file)}

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
    listed = re.findall(r'^- \[', (nbs/'glossary.md').read_text(encoding='utf-8'), re.M)
    assert len(terms) == len(listed), ('a line of glossary.md is not of the form '
                                       '- [term](notebook.ipynb#cell)')

@pytest.mark.parametrize('lost', [dict(cell='nowhere'), dict(written='no such word')])
def test_a_lost_place_is_noticed(lost):
    """The oracle of the tests above: an entry whose cell, or whose word in it, is not there"""
    entry = Entry(**vars(glossary()[0]) | lost)
    with pytest.raises(ValueError, match='glossary'):
        explanation(entry)
