"""A sentence about a result is printed by the cell that has the result, or asserted before it

What a model scores changes with its seed, its phantoms and the versions of what it is built on.
Prose does not. So a prose cell holds no number beside a measure's name and no verdict, unless the cells
before it, back to the last prose, assert something. Definitions and figures of others are
exceptions, each with its reason."""
import re

import pytest
from fastcore.nbio import read_nb
from lessons import all_lessons

lessons = all_lessons()
each_lesson = pytest.mark.parametrize('lesson', lessons, ids=lambda lesson: lesson.path.stem)

MEASURE = (r'AUC|Dice|accuracy|sensitivity|specificity|PPV|NPV|HD95|Hausdorff|precision|recall|IoU'
           r'|loss|correlation|score')
VERDICT = (r'better|worse|best|worst|beats?|gone|outperforms?|no difference'
           r'|as good as|improves?|(?:fails?|missed) first|most reliabl\w+')
# not a lesson's or a goal's number, nor part of a word or a version
NUMBER = r'(?<![\w.,/-])(?<![Ll]esson )(?<!goal )\d+(?:\.\d+)?(?: ?%)?(?![\w/-])'
# a place where a result is stated by the code itself
ASSERTED = r'\bassert\b|\btest_(?:eq|close|fail|ne)\('


class Reason:
    "Why a sentence may stand as it is"
    DEFINITION = 'says what a measure is, or what is true of it whatever the result'
    TASK = 'asks, or says what to look for'
    PUBLISHED = 'a figure of others, with its source'


# lesson, how the sentence begins: why it may stand
EXCEPTIONS = {
    (2, 'What happens to the accuracy, and does it stay'): Reason.TASK,
    (2, 'The number to beat is that of position alone'): Reason.TASK,
    (2, 'The published tutorial on the real images'): Reason.PUBLISHED,
    (4, 'a map that keeps its form'): Reason.DEFINITION,
    (4, 'Measured on real chest radiographs'): Reason.PUBLISHED,
    (5, 'These are the hand-made rules'): Reason.TASK,
    (5, 'intervals made this way hold'): Reason.DEFINITION,
    (5, '2023 report an AUC'): Reason.PUBLISHED,
    (5, 'With 79 % high grades'): Reason.PUBLISHED,
    (6, 'For a prediction of zeros and ones'): Reason.DEFINITION,
    (6, 'The tutorial cuts each class'): Reason.DEFINITION,
    (6, 'The best and the worst, by the core'): Reason.TASK,
    (7, 'On other scans, of 25 healthy people'): Reason.PUBLISHED}


def prose(markdown):
    "Sentences without code, folded answers, tables and what links lead to"
    text = re.sub(r'```.*?```|<details[^>]*>.*?</details>|\$\$.*?\$\$', '', markdown, flags=re.S)
    text = re.sub(r'^\|.*$|^#.*$', '', text, flags=re.M)
    text = re.sub(r'`[^`]*`', 'CODE', text)
    text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', text)
    for paragraph in re.split(r'\n\s*\n|\n[-\d>]', text):
        for sentence in re.split(r'(?<=[.!?:])\s+', ' '.join(paragraph.split())):
            if sentence: yield sentence


def claims_a_result(sentence):
    "Whether it gives a number for a measure, or a verdict"
    gives_number = re.search(rf'\b(?:{MEASURE})\b', sentence) and re.search(NUMBER, sentence)
    return bool(gives_number or re.search(rf'\b(?:{VERDICT})\b', sentence))


def unasserted_claims(cells):
    "Sentences that claim a result which no cell since the last prose asserts"
    asserted = False
    for cell in cells:
        if cell.cell_type == 'code':
            asserted = asserted or re.search(ASSERTED, cell.source)
            continue
        for sentence in prose(cell.source):
            if claims_a_result(sentence) and not asserted:
                yield sentence
        asserted = False


def is_excepted(lesson, sentence):
    return any(number == lesson.number and sentence.startswith(beginning)
               for number, beginning in EXCEPTIONS)


@each_lesson
def test_results_are_computed(lesson):
    claims = [sentence for sentence in unasserted_claims(read_nb(lesson.path).cells)
              if not is_excepted(lesson, sentence)]
    assert not claims, 'print it from the cell that has the result, assert it there, or say less'


def test_no_exception_is_left_over():
    "Each of them still stands in its lesson"
    found = {lesson.number: list(unasserted_claims(read_nb(lesson.path).cells))
             for lesson in lessons}
    for number, beginning in EXCEPTIONS:
        assert any(sentence.startswith(beginning) for sentence in found[number]), beginning


@pytest.mark.parametrize('sentence', [
    'The interval of the AUC begins at 0.91.', 'Grad-CAM points at it, and CAM is better.',
    'As a rule the small ones are missed first.', 'On healthy films the map is gone.',
    'Our Dice of 0.83 is that of the paper.'])
def test_known_kinds_are_found(sentence): assert claims_a_result(sentence)


@pytest.mark.parametrize('sentence', [
    'Lesson 3 chooses a threshold by its sensitivity.', 'The AUC has an interval of its own.',
    'Draw 12 patients.'])
def test_other_sentences_are_not(sentence): assert not claims_a_result(sentence)


# --- on whom it was measured

SCORE = re.compile(r'\b(?:AUC|Dice|accuracy|sensitivity|specificity|PPV|NPV|HD95|precision|recall'
                   r'|rank correlation|hottest|hits?|(?:higher|lower) than|undecided between)\b', re.I)
FIGURE = re.compile(r'\d\.\d|\d ?%|\b\d{2,}\b')
on_phantoms = [lesson for lesson in lessons if 2 <= lesson.number <= 6]


def on_whom(text): return re.search(r'phantom', text, re.I)

def gives_score(line): return SCORE.search(line) and FIGURE.search(line)

def indent(line): return len(line) - len(line.lstrip())

def heads(line, earlier):
    "Earlier lines that speak for a line: headings, what it is indented under, its own first half"
    yield from (other for other in earlier if not FIGURE.search(other))
    outer = [other for other in earlier if indent(other) < indent(line)]
    yield from outer[-1:]
    if earlier and earlier[-1].endswith(','): yield earlier[-1]

def unnamed_prints(text):
    "Printed lines that give a score, where neither they nor what heads them says on whom"
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if not gives_score(line) or on_whom(line): continue
        if not any(map(on_whom, heads(line, lines[:i]))): yield line

def unnamed_scores(text):
    "Lines of a table, a picture's text or Markdown that give a score, if nothing says on whom"
    if on_whom(text): return []
    return [line for line in text.splitlines() if gives_score(line)]

def unnamed(output):
    "All scores of an output that are not said to be those of phantoms"
    data = output.get('data', {})
    texts = [data.get('text/plain', ''), data.get('text/markdown', '')]
    displayed = '\n'.join(''.join(text) for text in texts)
    return [*unnamed_scores(displayed), *unnamed_prints(''.join(output.get('text', '')))]


@pytest.mark.parametrize('lesson', on_phantoms, ids=lambda lesson: lesson.path.stem)
def test_scores_say_on_whom(lesson):
    """A score on phantoms says nothing about patients: each printed line with one says 'phantoms',
    or what heads it does; of a table or a picture, its text"""
    for cell in read_nb(lesson.path).cells:
        for output in cell.get('outputs', []):
            assert not unnamed(output), f'{cell.id}: say (phantoms) beside it'


@pytest.mark.parametrize('text', ['AUC 0.93 (0.81-0.98)', 'Accuracy with 95 % intervals',
                                  'hits within 6 pixels: block 3 is higher: +0.21'])
def test_unnamed_scores_are_found(text):
    assert unnamed_scores(text)
    assert not unnamed_scores(f'{text} (phantoms)')


@pytest.mark.parametrize('printed', [
    'seed 0: AUC 0.92 (phantoms)\nmean of the three: AUC 0.94', # as lesson 5 once had it
    'AUC 0.90 (phantoms)\nundecided between rough mask and true mask: -0.02 (-0.10 to +0.05)'])
def test_one_line_does_not_speak_for_the_next(printed): assert list(unnamed_prints(printed))


@pytest.mark.parametrize('printed', [
    'Test films (phantoms)\none look   AUC 0.90\ntwo looks  AUC 0.91',
    '70 films (phantoms)\n  honest    AUC 0.96\n  shortcut  AUC 0.99',
    'a box (phantom): sensitivity 1.00,\nprecision 0.32, Dice 0.49'])
def test_a_heading_speaks_for_its_lines(printed): assert not list(unnamed_prints(printed))

# --- stored outputs of one run

def rows_of(html):
    "The rows of a table as lines"
    rows = re.findall(r'<tr.*?</tr>', html, flags=re.S)
    return '\n'.join(' '.join(re.sub(r'<[^>]+>', ' ', row).split()) for row in rows)

def printed(lesson, cell_id):
    "What a cell of a lesson printed, as stored; a table's rows as lines"
    cell, = [cell for cell in read_nb(lesson.path).cells if cell.get('id') == cell_id]
    lines = []
    for output in cell.outputs:
        html = output.get('data', {}).get('text/html')
        lines.append(rows_of(''.join(html)) if html else ''.join(output.get('text', '')))
    return '\n'.join(lines)

# number of a lesson, the slow cell whose first seed is the run of the others, one of those, and
# what both say
FIRST_SEEDS = [
    (4, 'cam116d', 'cam108', r'[+-]\d\.\d\d \([+-]\d\.\d\d to [+-]\d\.\d\d\)'),
    (5, 'grading27c1', 'grading102b', r'AUC \d\.\d\d \(\d\.\d\d.\d\.\d\d\)')]

@pytest.mark.parametrize('number, slow, usual, result', FIRST_SEEDS)
def test_slow_cells_are_of_the_run_that_is_stored(number, slow, usual, result):
    lesson, = [lesson for lesson in lessons if lesson.number == number]
    first_seed, = [line for line in printed(lesson, slow).splitlines()
                   if re.match(r'(seed )?0\b', line)]
    of_the_run = re.findall(result, printed(lesson, usual))[-1]
    assert of_the_run in re.findall(result, first_seed)
