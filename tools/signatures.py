"""How the site shows a function or a class: as its module writes it, with whole comments.

`show_doc` keeps the first line of a comment alone, knows no fields of named tuples, and sets the
first line of a docstring in italics where its first paragraph is meant"""
import ast
import inspect
import re
import textwrap
from functools import cache
from importlib import import_module

from api import comment_of


def parsed(o):
    "Lines of an object's source, and its node"
    lines = textwrap.dedent(inspect.getsource(o)).splitlines()
    node, = ast.parse('\n'.join(lines)).body
    return lines, node

def head(lines, node):
    "A function from `def` to the end of its signature, with the comments behind it"
    first = node.body[0]
    if first.lineno == node.lineno: # all on one line
        return [lines[node.lineno - 1][:first.col_offset].rstrip()]
    return lines[node.lineno - 1:first.lineno - 1]

def fields(lines, node):
    "A class with fields: its first line, and them with their comments"
    members = [child for child in node.body if isinstance(child, ast.AnnAssign)]
    if not members: return []
    after = [child.lineno for child in node.body if child.lineno > members[-1].end_lineno]
    # a comment's further lines are no nodes: they end where the next thing or a blank line begins
    stop = min(after, default=len(lines) + 1) - 1
    inside = lines[members[0].lineno - 1:stop]
    kept = [line for line in inside if line.strip() and not line.strip().startswith('@')]
    return [lines[node.lineno - 1], *kept]

def initialiser(node):
    return next((child for child in node.body
                 if isinstance(child, ast.FunctionDef) and child.name == '__init__'), None)

def of_class(lines, node):
    "What a class is made from: the arguments of `__init__`, or its fields"
    init = initialiser(node)
    if not init: return fields(lines, node)
    first, *others = textwrap.dedent('\n'.join(head(lines, init))).splitlines()
    for start in 'def __init__(self, ', 'def __init__(self,', 'def __init__(self':
        first = first.replace(start, f'def {node.name}(')
    return [first, *others]

def signature(module, name):
    "Lines of the signature as the source has it; none where the source says nothing of it"
    o = getattr(import_module(module), name)
    try: lines, node = parsed(o)
    except (OSError, TypeError): return []
    if isinstance(node, ast.ClassDef): return of_class(lines, node)
    return head(lines, node) if isinstance(node, ast.FunctionDef) else []

def comments(function):
    "What stands behind each parameter, one a line, with a comment's further lines: `{name: words}`"
    lines, node = parsed(function)
    said, name = {}, None
    for line in head(lines, node)[1:]:
        is_further = line.lstrip().startswith('#')
        if is_further and name: said[name] += f' {comment_of(line)}'
        elif m := re.match(r'\s+(\w+)\s*[:=,]', line):
            name = m[1]
            said[name] = comment_of(line)
        else: name = None # the end, and what is returned
    return said

@cache
def line_numbers(module):
    "Where a module defines its functions and classes: `{name: line}`"
    # `inspect` would parse the module anew for each class
    defined = ast.parse(inspect.getsource(import_module(module))).body
    kinds = ast.FunctionDef, ast.ClassDef
    return {node.name: node.lineno for node in defined if isinstance(node, kinds)}

def whole_paragraph(m):
    "The first paragraph of a docstring, all of it in italics"
    rest = ' '.join(m[2].split())
    if '*' in rest: return m[0]
    return f'*{m[1]} {rest}*\n'

def with_signature(md, module, name):
    "What `show_doc` says, with the signature that stands in the source"
    lines = signature(module, name)
    if lines:
        block = '\n'.join(['```python', *lines, '```'])
        md = re.sub(r'^```python\n.*?^```', lambda m: block, md, count=1, flags=re.M | re.S)
    return re.sub(r'^\*([^*\n]+)\*\n((?:[^\n`#].*\n?|`.*\n?)+)', whole_paragraph, md, count=1, flags=re.M)
