"""What a learner does in each lesson: `python tools/course.py` counts it

exercises, and those of them that answer; the fewest mistakes that one of them knows; quiz questions;
lines of code in the longest stretch without an output or a task; lines of the median and of the
longest teaching cell"""
import ast
import re
import statistics
from typing import NamedTuple

from fastcore.nbio import read_nb
from lessons import all_lessons


class Exercise(NamedTuple):
    "What follows a heading 'Your turn'"
    heading: str
    text: str
    cells: list # of code, up to the next prose
    def folded(self, summary):
        "The cells that are folded under a summary"
        return [c for c in self.cells if c.directives.get('code-summary') == f'"{summary}"']
    @property
    def solution(self): return next(iter(self.folded('Solution')), None)
    @property
    def key(self): return next(iter(self.folded('Answer and usual mistakes')), None)
    @property
    def typed(self):
        "The cell to type in"
        return next((c for c in self.cells if re.search(r'^check\(', c.source, re.M)), None)
    @property
    def answers(self): return bool(self.solution and self.key and self.typed)

def code_behind(cells):
    "The code cells before the next prose"
    for cell in cells:
        if cell.cell_type == 'markdown': return
        yield cell

def exercises_among(cells):
    for i, cell in enumerate(cells):
        if cell.cell_type != 'markdown' or '### Your turn' not in cell.source: continue
        _, heading, text = cell.source.partition('### Your turn')
        behind = list(code_behind(cells[i + 1:]))
        yield Exercise(heading + text.partition('\n')[0], text, behind)

def declared(cell):
    "The call of `exercise(...)` in a solution: what checks an answer"
    for node in ast.walk(ast.parse(cell.source)):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'exercise': return node

def is_essay(call): return getattr(call.args[1].func, 'id', '') == 'Essay'

def mistakes(call):
    "How many mistakes have a reason of their own; for an essay, the points to look for"
    if is_essay(call): return len(call.args[1].args)
    dicts = [keyword.value for keyword in call.keywords if keyword.arg == 'mistakes']
    return len(dicts[0].keys) if dicts else 0

class Choice(NamedTuple):
    text: str
    feedback: str
    @property
    def right(self): return self.feedback.startswith('**Right.**')

class QuizQuestion(NamedTuple):
    number: int
    asked: str   # with the goal
    choices: list

QUIZ = re.compile(r'^\*\*(\d+)\. (.+\*\* .+)\n\n((?:<details name="quiz-\1">.+?\n</details>\n?)+)',
                  re.M | re.S)
CHOICE = re.compile(r'<details name="quiz-\d+"><summary>(.+?)</summary>\n\n(.+?)\n</details>', re.S)

def quiz_in(text):
    "The questions in `text` whose answers are to be chosen"
    return [QuizQuestion(int(number), asked, [Choice(*found) for found in CHOICE.findall(choices)])
            for number, asked, choices in QUIZ.findall(text)]

# --- how it reads

def is_read(cell):
    "Whether a learner reads this cell's code: neither folded nor hidden"
    hidden = {'hide', 'code-fold', 'echo'} & set(cell.directives)
    return cell.cell_type == 'code' and not hidden

def code_lines(cell):
    lines = [line.strip() for line in cell.source.splitlines()]
    return sum(1 for line in lines if line and not line.startswith('#'))

def longest_stretch(cells):
    "Most lines of code that are read before something is shown, or asked"
    longest = lines = 0
    for cell in cells:
        if is_read(cell): lines += code_lines(cell)
        longest = max(longest, lines)
        task = cell.cell_type == 'markdown' and '### Your turn' in cell.source
        if task or cell.get('outputs'): lines = 0
    return longest

def lengths(cells):
    "Lines of code in each cell that is read"
    lines = [code_lines(cell) for cell in cells if is_read(cell)]
    return [n for n in lines if n]

class Counts(NamedTuple):
    "What is counted in a lesson"
    exercises: int
    answering: int
    fewest_mistakes: int
    quiz: int
    stretch: int
    median: float
    longest: int

def counts(path):
    cells = read_nb(path).cells
    found = list(exercises_among(cells))
    answering = [e for e in found if e.answers]
    known = [mistakes(declared(e.solution)) for e in answering]
    prose = '\n\n'.join(c.source for c in cells if c.cell_type == 'markdown')
    return Counts(len(found), len(answering), min(known, default=0), len(quiz_in(prose)),
                  longest_stretch(cells), statistics.median(lengths(cells)), max(lengths(cells)))

def main():
    print(f'{"lesson":28}', *Counts._fields)
    for lesson in all_lessons():
        row = [f'{value:{len(name)}g}' for name, value in counts(lesson.path)._asdict().items()]
        print(f'{lesson.path.stem:28}', *row)

if __name__ == '__main__': main()
