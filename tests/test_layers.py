"The modules keep to their layers: who may import whom, and what an import may cost"
import ast, subprocess, sys
from pathlib import Path

import pytest

import medtut

package = Path(medtut.__file__).parent
files = {'.'.join(p.relative_to(package).with_suffix('').parts): p for p in package.rglob('*.py') if not p.name.startswith('_')}
each_module = pytest.mark.parametrize('module', sorted(files))

# Lesson modules never import each other. Reading pixels is the one thing that all share, so `dicom` is
# the ground floor, and what deals with one file (`errors`, `headers`, `layout`, `decoding`, `units`,
# `orientation`, `display`, `summary`; for de-identification `profile`, `hidden_data`, `identity`) the
# cellar below it, in this order. `volumes` stands on
# `series`, which makes volumes of slices, and that on `planes`, which reads where a slice lies.
# Brain tumours: `brain_sets` knows how two sets name files and labels, `cases` finds and reads patients,
# `intensities` gives numbers one scale; `patches`, `unet` and `tiles` are the parts of a segmentation.
# `window`, `show`, `overlays`, `moving` and `show_volumes` draw for notebooks, and `phantoms` make sample
# data: `datasets` alone reaches for them, and only when asked to. `predict` stands above the lessons and uses what one of them built; `cli` is the
# command line, above all else. Under `datasets` lie `archives` (where each set comes from) and
# `download`; `rle` is a code that sets and lessons share; `files` and `weights` write and read what
# lessons and tools keep, `tables` reads what comes from outside, `modes` runs a model and leaves it as
# found, `checks` asks of arguments what many functions ask. `folders` goes through trees of files, and `batch` is how it, `predict` and `slices` go on after an
# interruption.
for_lessons = {'batch', 'checks', 'volumes', 'splits', 'metrics', 'datasets', 'rle', 'files', 'weights', 'tables', 'modes',
    'intensities', 'brain_sets', 'cases', 'patches', 'unet', 'tiles'}
# what one DICOM file says, shows and gives away
one_file = {'decoding', 'display', 'errors', 'headers', 'identity', 'orientation', 'profile', 'summary',
    'units'}
may_import = dict(
    checks=set(), errors=set(), headers={'errors'}, layout={'errors', 'headers'},
    decoding={'errors', 'layout'}, units={'decoding', 'errors', 'headers'},
    orientation={'errors', 'headers'}, display={'decoding', 'errors', 'headers', 'orientation', 'units'},
    profile=set(), hidden_data={'decoding', 'errors', 'headers', 'layout'},
    identity={'errors', 'headers', 'hidden_data', 'layout', 'profile'},
    summary={'decoding', 'display', 'headers', 'orientation', 'profile', 'units'},
    dicom=one_file, slices=for_lessons | one_file | {'dicom'}, chest=for_lessons | one_file | {'dicom'},
    cam=for_lessons, grading=for_lessons, segmentation=for_lessons,
    planes={'dicom', 'errors', 'headers'}, series={'planes', 'dicom', 'errors', 'units'},
    volumes={'series', 'planes', 'files', 'checks'},
    splits={'datasets'}, metrics={'checks', 'datasets', 'splits'},
    window=set(), show={'checks', 'window'}, overlays={'show', 'window'}, moving={'show'},
    show_volumes={'checks', 'moving', 'overlays', 'show', 'window'},
    datasets={'archives', 'download', 'files'}, archives={'download', 'files'}, download=set(),
    intensities=set(), brain_sets={'files', 'volumes'},
    cases={'brain_sets', 'files', 'intensities', 'splits', 'volumes'},
    patches=set(), unet={'weights'}, tiles={'modes', 'patches'},
    phantoms={'rle'}, rle=set(), files=set(), batch={'files'}, weights={'files'}, tables=set(), modes=set(),
    folders=one_file | {'batch', 'dicom', 'files', 'planes', 'series', 'volumes'},
    predict={'batch', 'checks', 'folders', 'intensities', 'planes', 'series', 'tiles', 'unet', 'volumes', 'metrics', 'files'},
    cli={'dicom', 'datasets', 'archives', 'download', 'slices', 'predict', 'files', 'splits',
        'folders', 'identity', 'volumes'})
# what a table of DICOM files, a volume or a score must not make anyone wait for
light = ['', *sorted(one_file), 'layout', 'hidden_data', 'dicom', 'planes', 'series', 'volumes', 'metrics', 'splits',
    'checks', 'files', 'batch', 'folders', 'tables', 'cli', 'intensities', 'brain_sets', 'cases']
frameworks = {'torch', 'torchvision', 'fastai'}
notebook_tools = {'nbdev', 'IPython', 'ipywidgets', 'jupyterlab', 'notebook', 'sphinx', 'myst_nb'}

def layer(module): return module.partition('.')[0]

def imports(tree, module):
    "Absolute names of what `tree` imports: of `from a import b` both `a` and `a.b`, since `b` may be a module"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ''
            if node.level: source = '.'.join(['medtut', *module.split('.')][:-node.level] + source.split('.')).rstrip('.')
            yield from (source, *(f'{source}.{a.name}' for a in node.names))

def own(names): return {name.removeprefix('medtut.') for name in names if name.startswith('medtut.')}

def parsed(module): return ast.parse(files[module].read_text(encoding='utf-8'))

def test_every_module_has_a_layer(): assert {layer(m) for m in files} <= set(may_import)

@each_module
def test_arrows_point_down(module):
    allowed = may_import[layer(module)] | {layer(module)}
    if module == 'datasets': allowed |= {'phantoms'}
    imported = {layer(m) for m in own(imports(parsed(module), module)) if layer(m) in may_import}
    assert imported <= allowed

@each_module
def test_phantoms_only_when_asked(module):
    "No import of phantoms runs with the import of a module: it stands inside a function"
    tree = parsed(module)
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    at_once = [n for n in ast.walk(tree) if id(n) not in inside]
    names = {m for n in at_once if isinstance(n, (ast.Import, ast.ImportFrom)) for m in own(imports(n, module))}
    assert layer(module) == 'phantoms' or 'phantoms' not in {layer(m) for m in names}

@each_module
def test_only_chest_imports_fastai(module):
    assert module == 'chest' or 'fastai' not in {name.partition('.')[0] for name in imports(parsed(module), module)}

@each_module
def test_no_star_imports(module):
    assert not [n for n in ast.walk(parsed(module)) if isinstance(n, ast.ImportFrom) and n.names[0].name == '*']

def loaded_by(module, without=()):
    "Top-level packages that a new Python has loaded after importing `module`, with those named in `without` not to be had"
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(without)})); import {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())

@pytest.mark.parametrize('module', [m for m in light if not m or m in files])
def test_light_import(module):
    assert not loaded_by(f'medtut.{module}'.rstrip('.')) & (frameworks | notebook_tools)

@pytest.mark.parametrize('module', sorted(set(files) - {'chest'}))  # fastai itself needs IPython
def test_imports_without_notebook_tools(module):
    loaded_by(f'medtut.{module}', without=notebook_tools)
