"The site's API page: every module's public names, what each is, and where it is built"
import ast
import importlib
import inspect
import re
from functools import cache, lru_cache

from fastcore.nbio import read_nb
from glossary import sentences
from lessons import config, nbs, notebooks
from nbdev.config import nbpath2html


def exported_module(path):
    "The module that a notebook exports, None if it exports none"
    for cell in read_nb(nbs/path).cells:
        if cell.has_directive('default_exp'):
            return cell.directive('default_exp')

@lru_cache
def modules():
    "Notebooks that export a module: `{path: module}`, both as the site and Python name them"
    pages = [path.relative_to(nbs) for path in notebooks()]
    names = {path: exported_module(path) for path in pages}
    return {path: f'{config.lib_name}.{name}' for path, name in names.items() if name}

def module_of_page(page):
    "The module of a page as nbdev names it: it leaves the lesson's number out"
    return {nbpath2html(path).as_posix(): module for path, module in modules().items()}[page]

def public(module):
    "What a module exports: `{name: object}`"
    module = importlib.import_module(module)
    return {name: getattr(module, name) for name in module.__all__}

def is_record(o):
    return inspect.isclass(o) and hasattr(o, '_fields')

def documented(o):
    "Has a heading of its own: nbdev documents what `def` and `class` define, and no named tuple"
    return inspect.isfunction(o) or inspect.isclass(o) and not is_record(o)

def target(module, name):
    "A link's target; Sphinx sees no capitals, and a module may have both `Chest` and `chest`"
    return f'{module}.' + re.sub('[A-Z]', lambda m: f'{m[0].lower()}-', name)

def comment_of(line):
    "The comment at a line's end; a `#` inside of a string is none"
    behind = re.search(r'''^(?:[^'"#]|'[^']*'|"[^"]*")*#\s*(.+)$''', line)
    return behind[1] if behind else ''

def comments_above(lines, i):
    "The comment that ends above line `i`, counted from 0; nbdev's own mark of a cell is none"
    above = []
    while i > 0 and lines[i - 1].startswith('#') and not lines[i - 1].startswith('# %%'):
        i -= 1
        above.insert(0, lines[i].lstrip('# ').rstrip())
    return ' '.join(above)

def assigned_names(node):
    "The names that a statement of a module gives values to"
    if isinstance(node, ast.AnnAssign):
        return [node.target.id]
    if not isinstance(node, ast.Assign): return []
    return [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]

@cache
def constant_comments(module):
    "Name -> what the comment above a constant, or behind it, says of it"
    source = inspect.getsource(importlib.import_module(module))
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        said = comments_above(lines, node.lineno - 1) or comment_of(lines[node.lineno - 1])
        for name in assigned_names(node): found.setdefault(name, said)
    return found

def summary(module, name, o):
    "The first sentence of what is said of a name"
    if not (documented(o) or is_record(o)): said = constant_comments(module).get(name, '')
    else: said = (inspect.getdoc(o) or '').partition('\n\n')[0]
    said = ' '.join(said.split())
    return sentences(said)[0] if said else ''

def api_index():
    "The page's Markdown, module by module"
    for path, module in modules().items():
        yield f'\n## {module}\n\nFrom []({path}).\n\n| Name | What it is |\n|-|-|'
        for name, o in sorted(public(module).items(), key=lambda item: item[0].lower()):
            # a name handed on from another module leads to where that one builds it
            place = f'#{target(o.__module__, name)}' if documented(o) else path
            yield f'| [`{name}`]({place}) | {summary(module, name, o)} |'
