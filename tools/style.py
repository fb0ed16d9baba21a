"""How dense the code is: width of lines, syntax nodes a body line, length of functions

    python tools/style.py            a row for each file of the project, and for all of it
    python tools/style.py PATH...    the same for other files, notebooks and folders
    python tools/style.py --check    nothing, or what is over its ceiling
"""
import ast
import re
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fastcore.nbio import read_nb

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ['medtut', 'nbs', 'tests', 'tools', 'benchmarks']
GENERATED = {'_modidx.py', 'README.md'}
WIDTH, CELL_WIDTH, WIDEST = 100, 88, 120
LONGEST_BODY = 40
# What `--check` allows for all files together. These only fall.
CEILINGS = dict(wide_share=.01, widest=0, median=8, p90=16, long_bodies=0)


@dataclass
class Style:
    "What was measured in one file, or in several together"
    lines: int = 0                # lines with code on them
    wide: int = 0                 # wider than WIDTH, in a cell than CELL_WIDTH
    widest: int = 0               # wider than WIDEST
    nodes: list[int] = field(default_factory=list)  # syntax nodes of each line in a function's body
    long_bodies: list[str] = field(default_factory=list)

    def __add__(self, other):
        return Style(self.lines + other.lines, self.wide + other.wide, self.widest + other.widest,
                     self.nodes + other.nodes, self.long_bodies + other.long_bodies)

    @property
    def wide_share(self): return self.wide / max(self.lines, 1)

    @property
    def median(self): return statistics.median(self.nodes) if self.nodes else 0

    @property
    def p90(self):
        if len(self.nodes) < 2: return self.median
        return statistics.quantiles(self.nodes, n=10, method='inclusive')[-1]


def functions(tree):
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def has_docstring(function): return ast.get_docstring(function, clean=False) is not None


def body_lines(function):
    "Numbers of the lines that hold the function's statements, its docstring left out"
    statements = function.body[1:] if has_docstring(function) else function.body
    return {number for statement in statements
            for number in range(statement.lineno, statement.end_lineno + 1)}


def nodes_by_line(tree):
    "How many syntax nodes begin on each line"
    return Counter(node.lineno for node in ast.walk(tree) if hasattr(node, 'lineno'))


def reason_beside(function, lines):
    "Whether a comment above the function or on its first line says why it is long"
    return any('# long:' in lines[i] for i in (function.lineno - 1, function.lineno - 2) if i >= 0)


def measure(source, width=WIDTH, name=''):
    "`Style` of a piece of Python"
    lines = source.splitlines()
    tree = ast.parse(source)
    nodes = nodes_by_line(tree)
    in_bodies = set()
    long_bodies = []
    for function in functions(tree):
        numbers = body_lines(function)
        in_bodies |= numbers
        code = [i for i in numbers if lines[i - 1].strip() and not lines[i - 1].strip().startswith('#')]
        if len(code) > LONGEST_BODY and not reason_beside(function, lines):
            long_bodies.append(f'{name}:{function.name} ({len(code)})')
    code_lines = [line for line in lines if line.strip()]
    return Style(
        lines=len(code_lines),
        wide=sum(len(line) > width for line in code_lines),
        widest=sum(len(line) > WIDEST for line in code_lines),
        nodes=[nodes[i] for i in in_bodies if nodes[i]],
        long_bodies=long_bodies)


def is_exported(cell): return re.match(r'\s*#\|\s*export', cell.source) is not None


def python_of(cell):
    "A cell's source without IPython's magics, or nothing where a cell magic owns it"
    if cell.source.lstrip().startswith('%%'): return ''
    return '\n'.join(line for line in cell.source.splitlines() if not line.lstrip().startswith(('%', '!')))


def measure_file(path):
    "`Style` of a module, or of a notebook's cells that are not exported (those count in the module)"
    if path.suffix == '.py': return measure(path.read_text(encoding='utf-8'), name=path.name)
    total = Style()
    for cell in read_nb(path).cells:
        if cell.cell_type == 'code' and not is_exported(cell):
            total += measure(python_of(cell), CELL_WIDTH, f'{path.name} {cell.id}')
    return total


def sources(path):
    "Modules and notebooks at or below `path`, generated ones left out"
    if path.is_file(): return [path]
    candidates = sorted([*path.rglob('*.py'), *path.rglob('*.ipynb')])
    hidden = ('.', '_docs')
    return [p for p in candidates if p.name not in GENERATED
            and not any(part.startswith(hidden) for part in p.relative_to(path).parts)]


def project_sources(): return [p for folder in FOLDERS for p in sources(ROOT / folder)]


def row(name, style):
    return (f'{name:40} {style.lines:6} {style.wide_share:7.1%} {style.widest:6}'
            f' {style.median:5.0f} {style.p90:5.0f} {len(style.long_bodies):5}')


def excess(style):
    "What is over its ceiling, a line each"
    measured = {name: getattr(style, name) for name in CEILINGS}
    measured['long_bodies'] = len(style.long_bodies)
    return [f'{name}: {value:.3g}, and {CEILINGS[name]:g} is the most'
            for name, value in measured.items() if value > CEILINGS[name]]


def check():
    "Exit with what is over its ceiling, if anything is"
    total = sum(map(measure_file, project_sources()), Style())
    if found := excess(total):
        raise SystemExit('\n'.join([*found, *total.long_bodies, 'see python tools/style.py']))


def main(args):
    if args == ['--check']: return check()
    paths = [p for arg in args for p in sources(Path(arg))] or project_sources()
    print(f'{"":40} {"lines":>6} {"wide":>7} {">120":>6} {"p50":>5} {"p90":>5} {">40":>5}')
    total = Style()
    for path in paths:
        style = measure_file(path)
        total += style
        shown = path.resolve()
        print(row(str(shown.relative_to(ROOT) if shown.is_relative_to(ROOT) else path), style))
    print(row('all', total))
    for body in total.long_bodies: print('over', LONGEST_BODY, 'lines:', body)


if __name__ == '__main__': main(sys.argv[1:])
