"""The modules keep to their layers: who may import whom, what an import may cost, and the map of
them"""
import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rooms import room_of, rooms

import medtut

package = Path(medtut.__file__).parent

def module_name(path):
    return '.'.join(path.relative_to(package).with_suffix('').parts)

files = {module_name(p): p for p in package.rglob('*.py') if not p.name.startswith('_')}
each_module = pytest.mark.parametrize('module', sorted(files))

# What one DICOM file says, shows and gives away: the cellar. In this order, each stands on those
# before it: errors, headers, layout, codestreams, fragments, stored_bits, decoding, uptake, units,
# orientation, display, profile, hidden_data, burned_in, identity, summary. `dicom`, which reads
# pixels and tables of files, is the ground floor.
one_file = {'burned_in', 'decoding', 'display', 'errors', 'headers', 'identity', 'orientation',
    'profile', 'summary', 'units', 'uptake'}
# What lessons share. They never import each other.
for_lessons = {'batch', 'brain_sets', 'cases', 'checks', 'comparing', 'datasets', 'few_patients',
    'files', 'intensities', 'intervals', 'masks', 'metrics', 'modes', 'nifti', 'patches', 'planes',
    'rle', 'splits', 'summaries', 'tables', 'tiles', 'unet', 'volumes', 'weights'}

may_import = dict(
    # one DICOM file
    errors=set(), headers={'errors'}, layout={'errors', 'headers'},
    stored_bits={'codestreams', 'errors', 'fragments', 'layout'},
    decoding={'errors', 'layout', 'stored_bits'},
    uptake={'errors', 'headers'}, units={'decoding', 'errors', 'headers', 'uptake'},
    orientation={'errors', 'headers'},
    display={'decoding', 'errors', 'headers', 'orientation', 'units'},
    profile={'layout'}, codestreams={'layout'},
    fragments={'codestreams', 'errors', 'headers'},
    hidden_data={'codestreams', 'decoding', 'errors', 'fragments', 'headers', 'layout',
        'stored_bits'},
    burned_in={'headers', 'layout'},
    identity={'burned_in', 'errors', 'headers', 'hidden_data', 'layout', 'profile'},
    summary={'decoding', 'display', 'headers', 'orientation', 'profile', 'units'},
    # lessons
    dicom=one_file | {'files'}, slices=for_lessons | one_file | {'dicom'},
    chest=for_lessons | one_file | {'dicom', 'films'},
    heatmaps={'checks'}, cam=for_lessons | {'heatmaps'},
    grading=for_lessons, segmentation=for_lessons,
    # slices in space, and volumes of them
    labels={'headers'}, planes={'dicom', 'headers', 'labels'},
    series={'dicom', 'labels', 'planes', 'units'}, stacks={'dicom', 'planes', 'series', 'units'},
    volumes={'checks', 'planes', 'series', 'stacks'}, nifti={'files', 'planes', 'volumes'},
    # own films
    films={'dicom', 'display', 'errors'}, film_files={'files', 'films'},
    film_tables={'film_files', 'splits', 'tables'},
    film_models={'chest', 'film_files', 'film_tables', 'films', 'files', 'modes', 'splits',
        'weights'},
    # scores
    splits={'datasets'}, metrics=set(), masks={'checks', 'metrics'},
    intervals={'metrics', 'splits'}, few_patients={'intervals', 'metrics'},
    comparing={'few_patients', 'intervals', 'metrics'},
    curves={'few_patients', 'metrics', 'show'},
    summaries={'comparing', 'few_patients', 'intervals', 'metrics'},
    # pictures
    window=set(), show={'checks', 'window'}, overlays={'show', 'window'}, moving={'show'},
    show_volumes={'checks', 'moving', 'overlays', 'show', 'window'},
    viewer={'moving', 'nifti', 'show', 'show_volumes', 'window'},
    # brain tumours
    doctor=set(), intensities=set(), brain_sets={'files', 'planes'}, patches=set(), unet={'weights'},
    brain_cases={'brain_sets', 'files', 'planes', 'splits'}, pairs={'files', 'planes'},
    outlines={'checks', 'nifti', 'planes', 'segments', 'volumes'},
    cases={'brain_cases', 'brain_sets', 'checks', 'intensities', 'masks', 'nifti', 'outlines',
        'pairs', 'planes', 'volumes'},
    preprocessing={'cases', 'checks', 'intensities', 'nifti', 'planes', 'volumes'},
    tiles={'modes', 'patches'}, nnunet={'cases', 'checks', 'files', 'nifti'},
    # sample data: only `datasets` reaches for phantoms, and only when asked to
    datasets={'archives', 'download', 'files', 'hosts'}, archives={'download', 'files'},
    hosts={'archives', 'download', 'files'}, download={'files'},
    phantoms={'rle'},
    # what several need
    reasons=set(), answers={'reasons'}, exercises={'answers', 'reasons'},
    batch={'files'}, extras=set(), weights={'files'}, checks=set(), files=set(), modes=set(),
    rle=set(), tables=set(), wording=set(),
    # many files: above the lessons; and the command line, above all else
    folders={'dicom', 'errors'}, pictures=one_file | {'batch', 'dicom', 'files', 'folders'},
    pngs=one_file | {'batch', 'dicom', 'files'},
    pseudonyms=one_file | {'batch', 'dicom', 'files', 'folders'},
    conversion={'batch', 'dicom', 'files', 'folders', 'nifti', 'planes', 'series', 'stacks', 'volumes'},
    predict={'batch', 'conversion', 'files', 'masks', 'nifti', 'planes', 'preprocessing', 'series',
        'tiles', 'unet', 'volumes', 'weights'},
    evaluate={'checks', 'files', 'masks', 'metrics', 'nifti', 'planes', 'summaries', 'volumes'},
    # results as DICOM
    coding=set(), sources={'dicom', 'files', 'planes', 'volumes'},
    results={'coding', 'overlays', 'planes', 'sources'},
    segments={'coding', 'decoding', 'dicom', 'errors', 'headers', 'planes', 'sources', 'volumes'},
    reports={'coding', 'dicom', 'errors', 'planes', 'segments', 'sources', 'volumes'},
    captures={'coding', 'display', 'orientation', 'overlays', 'sources', 'stacks'},
    # archives of hospitals
    pacs_access={'files'}, pacs_web={'pacs_access'}, pacs_dimse={'pacs_access'},
    pacs_stand_in={'files', 'pacs_dimse'}, pacs_start={'pacs_access'},
    pacs={'dicom', 'files', 'pacs_access', 'pacs_dimse', 'pacs_start', 'pacs_web'},
    # the command line, by what its commands work on
    cli_base={'files'},
    cli_folders={'cli_base', 'conversion', 'dicom', 'files', 'identity', 'pictures', 'pseudonyms'},
    cli_data={'archives', 'cli_base', 'datasets', 'pngs', 'slices', 'splits'},
    cli_results={'dicom', 'errors', 'files', 'nifti', 'pacs', 'pacs_access', 'results'},
    cli_outlines={'cli_base', 'cli_results', 'evaluate', 'files', 'planes', 'predict', 'tables'},
    cli={'cli_base', 'cli_data', 'cli_folders', 'cli_outlines', 'download'})
# what a table of DICOM files, a volume or a score must not make anyone wait for
light = one_file | {'', 'answers', 'exercises', 'batch', 'brain_cases', 'brain_sets', 'cases', 'intensities',
    'checks', 'outlines', 'pairs', 'preprocessing',
    'captures', 'codestreams', 'coding', 'reports', 'results', 'segments', 'sources',
    'cli', 'cli_base', 'cli_data', 'cli_folders', 'cli_outlines', 'cli_results', 'conversion', 'dicom',
    'evaluate',
    'files', 'film_files', 'film_tables', 'films', 'folders', 'fragments',
    'hidden_data', 'intervals', 'labels', 'layout', 'masks', 'metrics', 'nifti', 'pictures', 'planes',
    'pacs', 'pacs_access', 'pacs_dimse', 'pacs_start', 'pacs_web',
    'pseudonyms', 'reasons', 'series', 'splits', 'stacks', 'stored_bits', 'tables',
    'volumes', 'wording'}
with_fastai = {'chest', 'film_models'}
frameworks = {'torch', 'torchvision', 'fastai'}
notebook_tools = {'nbdev', 'IPython', 'ipywidgets', 'ipyniivue', 'jupyterlab', 'notebook', 'sphinx', 'myst_nb'}

def layer(module): return module.partition('.')[0]

def absolute(source, level, module):
    "The absolute name of what `module` imports from, `level` dots before it"
    if not level: return source
    folders = ['medtut', *module.split('.')][:-level]
    return '.'.join([*folders, source]).rstrip('.')

def imports(tree, module):
    """Absolute names of what `tree` imports: of `from a import b` both `a` and `a.b`, since `b`
    may be a module"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node.module or '', node.level, module)
            yield source
            yield from [f'{source}.{a.name}' for a in node.names]

def own(names):
    return {n.removeprefix('medtut.') for n in names if n.startswith('medtut.')}

def parsed(module):
    return ast.parse(files[module].read_text(encoding='utf-8'))

def test_every_module_has_a_layer():
    assert {layer(m) for m in files} <= set(may_import)

def test_no_layer_without_a_module():
    assert set(may_import) <= {layer(m) for m in files}

@each_module
def test_arrows_point_down(module):
    allowed = may_import[layer(module)] | {layer(module), 'extras', 'wording'}
    if module == 'datasets': allowed |= {'phantoms'}
    imported = {layer(m) for m in own(imports(parsed(module), module))}
    assert imported & set(may_import) <= allowed

@each_module
def test_phantoms_only_when_asked(module):
    "No import of phantoms runs with the import of a module: it stands inside a function"
    if layer(module) == 'phantoms': return
    tree = parsed(module)
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    functions = [n for n in ast.walk(tree) if isinstance(n, kinds)]
    inside = {id(n) for function in functions for n in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in inside or not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        assert 'phantoms' not in {layer(m) for m in own(imports(node, module))}

@each_module
def test_only_those_that_train_films_import_fastai(module):
    packages = {layer(name) for name in imports(parsed(module), module)}
    assert module in with_fastai or 'fastai' not in packages

@each_module
def test_no_star_imports(module):
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.names[0].name != '*'

# --- what an import costs

# Imports modules one after the other in a new Python, medtut itself anew for each, so that what
# they share with others is loaded once; prints what each has loaded, or its error
IMPORT_EACH = '''
import importlib, json, sys, traceback
names, without = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(without))
for name in names:
    for loaded in [m for m in sys.modules if m.partition('.')[0] == 'medtut']:
        del sys.modules[loaded]
    error = ''
    try: importlib.import_module(name)
    except Exception: error = traceback.format_exc()
    packages = {m.partition('.')[0] for m, module in sys.modules.items() if module}
    print(json.dumps([name, error, sorted(packages)]))
'''

def imported(modules, without=()):
    """`{module: (its error, packages that are loaded after its import)}`, from a process of its own
    in which those named in `without` are not to be had"""
    names = [f'medtut.{module}'.rstrip('.') for module in modules]
    command = [sys.executable, '-c', IMPORT_EACH, json.dumps([names, sorted(without)])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {own_name(name): (error, set(packages)) for name, error, packages in results}

def own_name(name):
    return name.removeprefix('medtut').removeprefix('.')

@pytest.fixture(scope='module')
def light_imports(): return imported(sorted(light))

@pytest.mark.parametrize('module', sorted(light))
def test_light_import(light_imports, module):
    error, loaded = light_imports[module]
    assert not error
    assert not loaded & (frameworks | notebook_tools)

without_fastai = sorted(set(files) - with_fastai)  # fastai itself needs IPython

@pytest.fixture(scope='module')
def imports_without_tools(): return imported(without_fastai, without=notebook_tools)

@pytest.mark.parametrize('module', without_fastai)
def test_imports_without_notebook_tools(imports_without_tools, module):
    error, loaded = imports_without_tools[module]
    assert not error
    assert not loaded & notebook_tools

def test_a_package_that_is_not_to_be_had_is_told():
    "The process that imports, on a package that every one of these needs"
    error, loaded = imported(['dicom'], without=['pydicom'])['dicom']
    assert 'pydicom' in error
    assert 'ModuleNotFoundError' in error
    assert 'pydicom' not in loaded

# --- the map

def test_the_map_shows_every_module():
    "`medtut.__doc__` has a line for each, and for none that is gone"
    shown = [name for modules in rooms().values() for name in modules]
    assert len(shown) == len(set(shown)), 'a module stands in two rooms'
    assert set(shown) == set(files), 'medtut/__init__.py: the map is of other modules'

def test_the_map_says_what_each_is_for():
    assert list(rooms()) == ['Lessons', 'Tools', 'Data', 'Plumbing']
    for modules in rooms().values():
        for name, purpose in modules.items():
            assert len(purpose.split()) > 1, name

@each_module
def test_plumbing_knows_no_tool(module):
    """What holds up the rest does not stand on it; `dicom`, the ground floor, is a lesson and
    more"""
    if room_of(module) != 'Plumbing': return
    imported = own(imports(parsed(module), module)) - {'dicom'}
    assert {room_of(m) for m in imported} <= {None, 'Plumbing'}
