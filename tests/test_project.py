"The notebooks and all that is made from them agree"
import ast
import builtins
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import requires
from pathlib import Path

import pytest
from colab import offered
from fastcore.nbio import read_nb
from lessons import all_lessons, config, nbs, notebooks
from readme import readme

import medtut


def name(path): return str(path.relative_to(nbs))
each_notebook = pytest.mark.parametrize('path', notebooks(), ids=name)

@pytest.fixture(scope='module')
def fresh(root, tmp_path_factory):
    "A copy of the project in which every module is exported anew and every notebook cleaned"
    copy = tmp_path_factory.mktemp('fresh')
    shutil.copytree(nbs, copy/'nbs', ignore=shutil.ignore_patterns('.*'))
    (copy/config.lib_name).mkdir()
    for file in ('pyproject.toml', f'{config.lib_name}/__init__.py'):
        shutil.copy(root/file, copy/file)
    for command in ('nbdev-export', 'nbdev-clean'):
        program = Path(sys.executable).with_name(command)
        subprocess.run([program], cwd=copy, check=True, capture_output=True)
    return copy

def modules(root):
    paths = sorted((root/config.lib_name).rglob('*.py'))
    return {str(p.relative_to(root)): p.read_text(encoding='utf-8') for p in paths}

def test_modules_are_what_the_notebooks_export(root, fresh):
    here, anew = modules(root), modules(fresh)
    assert set(here) <= set(anew), 'no notebook owns these modules'
    assert here == anew, 'run `make export`'

LONGEST_MODULE = 350 # lines

def test_no_module_is_too_long(root):
    "A longer one has more than one task: one of them moves to a module and a page of its own"
    lengths = {path: len(source.splitlines()) for path, source in modules(root).items()
               if not path.endswith('_modidx.py')}
    too_long = {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE}
    assert not too_long, f'at most {LONGEST_MODULE} lines a module'

def test_one_notebook_a_module():
    owner = {}
    for path in notebooks():
        for cell in read_nb(path).cells:
            for directive in ('default_exp', 'export', 'exports', 'exporti'):
                module = cell.directives.get(directive)
                if not module: continue
                first = owner.setdefault(module, path)
                assert first == path, f'{module} is written by {name(first)} and {name(path)}'

@each_notebook
def test_clean(path, fresh):
    assert path.read_bytes() == (fresh/'nbs'/name(path)).read_bytes(), 'run `make export`'

@each_notebook
def test_no_error_stored(path):
    errors = [(cell.id, output.ename) for cell in read_nb(path).cells
              for output in cell.get('outputs', []) if output.output_type == 'error']
    assert not errors, 'cells whose stored output is an error'

@each_notebook
def test_at_most_2_MB(path): assert path.stat().st_size <= 2_000_000

def bound_names(tree):
    "Names that code gives a meaning to, at any depth"
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store): names.add(node.id)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)): names.add(node.name)
        if isinstance(node, ast.arg): names.add(node.arg)
        if isinstance(node, ast.alias): names.add((node.asname or node.name).partition('.')[0])
    return names

def used_names(tree):
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in nodes if isinstance(node.ctx, ast.Load)}

@each_notebook
def test_pages_run_what_imports(path):
    """nbdev runs each cell with an import when it builds the page of a module, and no others but
    the exported ones: such a cell may not use what other cells made"""
    cells = [cell for cell in read_nb(path).cells if cell.cell_type == 'code']
    exported = [cell for cell in cells if {'export', 'exporti', 'exports'} & set(cell.directives)]
    if not exported: pytest.skip('no module, so nothing is run')
    known = set(dir(builtins)) | {'get_ipython', '__file__', '__name__'}
    for cell in cells:
        try: tree = ast.parse(cell.source)
        except SyntaxError: continue # a command of the notebook, which is not run
        imports = any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))
        if not imports and cell not in exported: continue
        known |= bound_names(tree)
        missing = used_names(tree) - known
        if cell not in exported: assert not missing, f'{cell.id} uses {sorted(missing)}'

def test_outputs_are_stored():
    "The site and GitHub show what is stored: a lesson without an output was not run before"
    for lesson in all_lessons():
        has_outputs = any(cell.get('outputs') for cell in read_nb(lesson.path).cells)
        assert has_outputs, f'{name(lesson.path)}: run `make outputs`'

def install_cell(path):
    "The cell that installs the package in Colab"
    return next(cell for cell in read_nb(path).cells if 'google.colab' in cell.source)

def test_lessons_install_alike():
    """In Colab, a lesson opened from GitHub needs the package as it is there: with no release yet,
    and when a release is older than the lesson. Pages that install it do so alike"""
    assert {lesson.path for lesson in all_lessons()} <= set(offered())
    first = {path.name: install_cell(path) for path in offered()}
    command = f'install -q "{config.lib_name}[lessons] @ git+{config.git_url}"'
    without = [lesson for lesson, cell in first.items() if command not in cell.source]
    assert not without, f'not {command}: {without}'
    assert len({c.source for c in first.values()}) == 1

@pytest.mark.parametrize('path', offered(), ids=name)
def test_colab_fetches_what_lies_beside(path):
    "A notebook that Colab opens comes alone: what it reads beside itself it fetches there"
    code = [cell.source for cell in read_nb(path).cells if cell.cell_type == 'code']
    beside = {file.name for file in nbs.iterdir() if file.suffix in ('.jsonl', '.safetensors')}
    read = set(re.findall(r"Path\('([\w.]+)'\)", '\n'.join(code))) & beside
    fetching = [source for source in code if 'wget' in source]
    fetched = {file for file in beside if file in '\n'.join(fetching)}
    assert fetched == read
    for source in fetching:
        assert "if 'google.colab' in sys.modules:" in source
        assert f'{config.git_url}/raw/{config.branch}/nbs' in source

def test_readme_is_what_the_index_says():
    for path, content in readme().items():
        assert path.read_bytes() == content, f'{path.name}: run `make export`'
        assert path.suffix == '.md' or len(content) < 150_000

def test_changelog_knows_the_version(root):
    assert f'## {medtut.__version__}' in (root/'CHANGELOG.md').read_text(encoding='utf-8')

def test_constraints_hold_versions_only(root):
    "No addresses, so that they serve on every platform and from every package index"
    for line in (root/'constraints.txt').read_text().splitlines():
        assert re.fullmatch(r'(#.*|[\w.-]+==[\w.+!]+( ; .+)?)', line)
        assert not re.search(r'://|\s@\s|--', line.lstrip('#'))

def test_constraints_know_every_requirement(root):
    names = lambda lines: {re.split(r'[^\w.-]', line.strip())[0].lower() for line in lines}
    pinned = names((root/'constraints.txt').read_text().splitlines())
    needed = names(requires(config.lib_name))
    assert needed <= pinned, 'run `make constraints`'

# what pandas imports only when asked for by name, and the package that brings it
ENGINES = {'calamine': 'python-calamine', 'xlsxwriter': 'xlsxwriter', 'openpyxl': 'openpyxl'}

def test_engines_of_lessons_are_required(root):
    "An engine is named in a string, so that no missing import shows before the cell runs"
    settings = ConfigParser()
    settings.read(root/'settings.ini')
    wanted = settings['DEFAULT']
    kinds = ('requirements', 'train_requirements', 'lessons_requirements')
    given = {re.split(r'[^\w.-]', line)[0].lower() for kind in kinds for line in wanted[kind].split()}
    for path in notebooks():
        used = set(re.findall(r"engine=\\?'(\w+)", path.read_text(encoding='utf-8')))
        assert {ENGINES[engine] for engine in used & set(ENGINES)} <= given, path

# how a path of somebody's machine begins, or holds
MACHINE = r'(?:/home/|/root/|/Users/|/tmp/|[A-Z]:\\\\Users\\\\|site-packages)[^\s"]*'

def test_notebooks_name_no_machine():
    "A path of the machine on which a notebook was run belongs in no stored output"
    for path in notebooks():
        found = re.findall(MACHINE, path.read_text(encoding='utf-8'))
        assert not found, name(path)

@pytest.mark.skipif(not shutil.which('make'), reason='make is not installed')
def test_make_lets_python_keep_what_it_compiled(root, tmp_path):
    "Else each process that starts compiles all that it imports"
    more = tmp_path/'more.mk'
    more.write_text('environment: ; @env\n')
    command = ['make', '-f', 'Makefile', '-f', more, 'environment']
    said = subprocess.run(command, cwd=root, env=os.environ | dict(PYTHONDONTWRITEBYTECODE='1'),
                          capture_output=True, text=True, check=True).stdout
    assert 'PATH=' in said
    assert 'PYTHONDONTWRITEBYTECODE' not in said
