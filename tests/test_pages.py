"The site's pages beside the notebooks: what they take from elsewhere, and that no picture goes without words"
import inspect
import re
import runpy
import subprocess
import sys
from importlib.metadata import version

import pytest
import work
from api import api_index, constant_comments, documented, is_record, modules, public
from fastcore.nbio import mk_cell, new_nb, write_nb
from glossary import glossary, markdown_cells, with_targets, within_the_site
from lessons import nbs, notebooks
from pages import PART, PARTS, written_page
from rooms import rooms
from signatures import comments, signature, with_signature

from medtut.archives import SETS
from medtut.phantoms.chest_files import write_siim_small

markdown = sorted(nbs.glob('*.md'))
each_page = pytest.mark.parametrize('path', markdown, ids=lambda p: p.name)

# --- contents

@pytest.fixture(scope='module')
def contents():
    "The site's contents: `{caption: names of pages}`"
    conf = runpy.run_path(str(nbs/'conf.py'))
    trees = [cell.source for cell in conf['contents']()]
    captions = [re.search(':caption: (.+)', tree)[1] for tree in trees]
    return {caption: tree.splitlines()[4:-1] for caption, tree in zip(captions, trees)}

def test_every_page_is_in_the_contents_once(contents):
    listed = [page for pages in contents.values() for page in pages]
    assert len(listed) == len(set(listed))
    own_pages = {p.stem for p in markdown}
    books = {str(p.relative_to(nbs)) for p in notebooks()} - {'index.ipynb'}
    assert set(listed) == own_pages | books

def test_contents_are_grouped_as_the_map(contents):
    "What a reader wants first comes first, what holds it up last"
    captions = list(contents)
    assert captions[0] == 'Lessons'
    assert captions[-1] == 'Reference'
    toolbox = [caption for caption in captions if caption in list(rooms())[1:]]
    assert toolbox == list(rooms())[1:]
    page_of = {module: str(path) for path, module in modules().items()}
    for room in toolbox:
        expected = [page_of[f'medtut.{name}'] for name in rooms()[room]]
        with_a_module = [page for page in contents[room] if page in page_of.values()]
        assert with_a_module == expected

# --- what pages take from elsewhere

def text_of(path): return path.read_text(encoding='utf-8')

def seen(page):
    return re.sub('<!--.*?-->', '', page, flags=re.S)

@each_page
def test_pages_hold_what_is_known_elsewhere(path):
    """In full, so that GitHub shows it too; without what only Sphinx reads. The API's list alone is
    made with the site"""
    page = text_of(path)
    assert written_page(page) == page, f'{path.name}: run `make export`'
    marks = set(re.findall('<!-- (.+?) -->', page))
    assert marks <= set(PARTS) | {f'/{name}' for name in PARTS}
    assert all(m['text'].strip() for m in PART.finditer(page))
    for_sphinx = r'^:::|^```+{|^\([\w-]+\)=$|^: |\]\(\#term|\{[a-z]\w*\}(?![`\w])'
    assert not re.search(for_sphinx, re.sub('`[^`]*`', '', seen(page)), re.M)

def test_every_part_stands_on_a_page():
    standing = [m['name'] for path in markdown for m in PART.finditer(text_of(path))]
    assert sorted(standing) == sorted(PARTS)

@pytest.mark.parametrize('record', SETS.values(), ids=lambda r: r.name)
def test_every_set_with_its_licence_and_call(record):
    page = text_of(nbs/'data.md')
    said = [record.what, record.size, record.licence, record.page]
    said += [f"get_data('{record.name}', '{source}')" for source in ('real', 'sample')]
    assert all(text in page for text in said)
    assert page.count(f'### {record.name}\n') == 1
    assert page.count(f'### A sample of {record.name}\n') == 1
    assert f'| {record.name} |' in page, 'how the sample differs'

def test_glossary_page():
    page = seen(text_of(nbs/'glossary.md'))
    entries = glossary()
    assert page.count('\n- **') == len(entries) > 100
    for e in entries:
        assert f']({e.path.as_posix()}#{e.target})' in page
        assert f'](#{e.target})' in within_the_site(page)

def test_a_target_on_each_term():
    "Links of the glossary end at the words themselves, in the text as the site has it"
    for e in glossary():
        text = with_targets(e.path, e.cell, markdown_cells(e.path)[e.cell])
        assert text.count(f'{{#{e.target}}}') == 1

# --- the API

def test_api_lists_every_name():
    page = '\n'.join(api_index())
    for module in modules().values():
        assert page.count(f'\n## {module}\n') == 1
        for name in public(module):
            assert f'| [`{name}`](' in page

def test_comments_of_constants_are_read(tmp_path, monkeypatch):
    (tmp_path/'with_constants.py').write_text(
        '# %% ../nbs/a.ipynb #a1\n# What A is,\n# in two lines\nA = 1\n'
        "B = '#' # what B is\nC, D = 1, 2 # what both are\n\nE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = {name: constant_comments('with_constants')[name] for name in 'ABCDE'}
    assert said == dict(A='What A is, in two lines', B='what B is', C='what both are',
                        D='what both are', E='')

# Constants that are still without a comment; this list may only become shorter
UNEXPLAINED = {
    'grading.MODALITIES', 'segmentation.USE', 'cli.app',
    'layout.PIXEL_ELEMENTS', 'phantoms.brain.SEQUENCES',
    'phantoms.brain.CENTRE', 'phantoms.brain_anatomy.atlas',
    'phantoms.brain_tumour.tumour_sites'}

def is_constant(o):
    return not (documented(o) or is_record(o))

@pytest.mark.parametrize('module', modules().values())
def test_every_constant_is_explained(module):
    "By a comment above it or behind it, which the API shows"
    constants = [name for name, o in public(module).items() if is_constant(o)]
    unexplained = [name for name in constants if not constant_comments(module).get(name)]
    room = module.removeprefix('medtut.')
    assert {f'{room}.{name}' for name in unexplained} <= UNEXPLAINED

# --- hours of work

def test_work_is_counted():
    """torchvision publishes the multiply-adds of ResNet18 for three channels: two operations each,
    and about as many twice more on the way back"""
    from torchvision.models import ResNet18_Weights
    published = ResNet18_Weights.DEFAULT.meta['_ops']
    counted = work.gflop('ResNet18, 224 x 224')
    assert abs(counted/(3*2*published) - 1) < .1

# lesson -> what its cells say of epochs, sizes and parts, as the table of hours takes them
SETTINGS = {
    2: ['epochs=8', 'epochs=12', '< .6,'],
    3: ['epochs=16', 'size=128', '(.65, .15, .2)'],
    4: ['epochs=18', '(.75, .05, .2)', 'widths=(16, 32, 64)'],
    5: ['fit_one_cycle(12', 'crop=120', '(.6, .1, .3)'],
    6: ['n=112', '(48, 48, 48)', 'filters=(8, 8, 16, 32, 64)']}

@pytest.mark.parametrize('lesson', SETTINGS)
def test_hours_are_those_of_the_lessons(lesson):
    code = work.code_of(lesson)
    for setting in SETTINGS[lesson]:
        assert setting in code, f'lesson {lesson} has changed: see RUNS in tools/work.py'

@pytest.mark.parametrize('name', ['fastai', 'monai'])
def test_features_name_the_installed_versions(name):
    page = (nbs/'features.md').read_text(encoding='utf-8')
    said = re.search(rf'{name} (\d[\d.]*\d)', page, re.I)[1]
    installed = version(name)
    same = said.split('.')[:2] == installed.split('.')[:2]
    assert same, f'{name} {installed} is installed: look at features.md again'

# --- pictures

PIXEL = ('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5Erk'
    'Jggg==')
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
PAGE = '''# Page

![a dot](dot.svg)

<p><img src="dot.svg" alt="a dot"></p>

![](dot.svg)

<p><img src="dot.svg"></p>

```{toctree}
notebook
```
'''

def test_no_picture_without_words(root, tmp_path):
    """Pictures without alt text make the build fail, wherever they come from; those that have it
    pass"""
    (tmp_path/'dot.svg').write_text(DOT)
    (tmp_path/'page.md').write_text(PAGE)
    shown = dict(output_type='display_data', data={'image/png': PIXEL}, metadata={})
    described = dict(mystnb=dict(image=dict(alt='a dot')))
    cells = [mk_cell('# Notebook', 'markdown'),
        mk_cell('draw()', 'code', outputs=[shown]),
        mk_cell('draw()', 'code', outputs=[shown], metadata=described)]
    write_nb(new_nb(cells), tmp_path/'notebook.ipynb')
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '--quiet',
        '-c', root/'nbs', '-D', 'root_doc=page', tmp_path, tmp_path/'html']
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    warnings = [line for line in lines if 'a picture without alt text' in line]
    assert done.returncode != 0, done.stderr
    assert len(warnings) == 3, done.stderr
    assert sum('notebook.ipynb' in line for line in warnings) == 1, done.stderr

# --- how functions and classes are shown

def test_a_signature_keeps_the_further_lines_of_its_comments():
    "`show_doc` alone ends each comment with its first line"
    said = '\n'.join(signature('medtut.summaries', 'summarise'))
    assert "'worst', the worst\n" in said and "value there is; 'leave out', nothing" in said
    assert said.endswith('measure, detected and rightly_absent, each an `Interval`')

@pytest.mark.parametrize('name, first, field', [
    ('film_models.FilmSettings', 'class FilmSettings(NamedTuple):', 'white: float|None = None # as'),
    ('preprocessing.Preprocessing', 'class Preprocessing:', 'its values are on scale. None: none'),
    ('unet.UNet3D', 'def UNet3D(', "'linear' interpolates")])
def test_a_class_shows_what_it_is_made_from(name, first, field):
    module, _, name = name.partition('.')
    lines = signature(f'medtut.{module}', name)
    assert lines[0] == first and any(field in line for line in lines)
    assert not any('self' in line or 'def __' in line for line in lines)

def test_the_first_paragraph_is_in_italics():
    said = '### f\n\n```python\ndef f(\n    *args\n):\n```\n\n*Splits by*\npatient, once.\n\nRaises none.\n'
    shown = with_signature(said, 'medtut.splits', 'split_by_patient')
    assert '*Splits by patient, once.*\n\nRaises none.' in shown
    assert 'table:pd.DataFrame, # a row for each image' in shown and '*args' not in shown

def test_parameters_of_samples_are_described_whole():
    said = comments(write_siim_small)
    assert said['tube_p'].endswith('; unequal values plant a shortcut')
    assert list(said) == list(inspect.signature(write_siim_small).parameters)
