"""What the site runs in the reader's browser: the editions as they are made, and, in Chromium with
no other address to be had, what can be run of them

Pyodide's core comes from npm where its registry can be reached: it has no numpy, so that a header is
read and no more. With `MEDTUT_PYODIDE=folder`, a folder that holds a complete Pyodide of the
version the site names, whole lessons are run."""
import ast
import importlib
import json
import os
import re
import shutil
import sys
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path

import browser as edition_tool
import pydicom
import pytest
from browser import CHANGED, EDITIONS, NOT_HERE, PYODIDE, edition
from chromium import QuietHandler, chromium, reader_with, serving
from lessons import nbs
from playwright.sync_api import expect
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medtut.dicom import read_dicom
from medtut.errors import DicomError

expect.set_options(timeout=60_000) # of a machine with other work

each_edition = pytest.mark.parametrize('name', EDITIONS)
number_of_pyodide = re.search(r'/v([\d.]+)/', PYODIDE)[1]

def cells_of(name, kind):
    cells = json.loads(edition(name))['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == kind]

# --- as they are made

@each_edition
def test_edition_is_of_the_notebook(name):
    "Its exercises and its quiz are there, what the project alone needs is not"
    whole = (nbs/name).read_text(encoding='utf-8')
    code, prose = cells_of(name, 'code'), cells_of(name, 'markdown')
    for source in code:
        assert not re.search(r'^#\|', source, re.M)
        assert 'google.colab' not in source
        assert 'nbdev_export' not in source
    checks = re.findall(r"check\('([\d.]+)', answer\)", whole)
    assert re.findall(r"check\('([\d.]+)', answer\)", '\n'.join(code)) == checks
    assert '\n'.join(prose).count('<details class="quiz-') == whole.count('<details name=')
    assert 'browser edition' in prose[1]
    assert not re.search(r'\[!|In Colab', '\n'.join(prose))

def test_solutions_are_folded():
    cells = json.loads(edition('01_dicom.ipynb'))['cells']
    solutions = [cell for cell in cells if cell['source'][0].startswith('#@title Solution')]
    assert len(solutions) == 7
    for cell in solutions: assert cell['metadata']['jupyter']['source_hidden']

@each_edition
def test_edition_is_python(name):
    for source in cells_of(name, 'code'):
        ast.parse(re.sub(r'^%.*$', '', source, flags=re.M))

@each_edition
def test_links_leave_the_edition(name):
    "Other pages are on the site"
    links = re.findall(r'\]\(([^)]+)\)', '\n'.join(cells_of(name, 'markdown')))
    assert [link for link in links if not link.startswith(('https:', 'http:', '#'))] == []

def test_what_is_left_out_is_there():
    text = ''.join((nbs/name).read_text(encoding='utf-8') for name in EDITIONS)
    for cell in [*NOT_HERE, *CHANGED]: assert f'"id": "{cell}"' in text, cell

def test_what_is_left_out_says_why():
    said = '\n'.join(source for name in EDITIONS for source in cells_of(name, 'markdown'))
    assert said.count('*Left out here: ') == len(NOT_HERE)
    for reason in NOT_HERE.values(): assert reason in said
    code = '\n'.join(source for name in EDITIONS for source in cells_of(name, 'code'))
    assert code.count('# Changed here: ') == len(CHANGED)
    assert 'jpeg2k' not in code

@pytest.fixture(scope='module')
def site(lite, tmp_path_factory):
    "A site of JupyterLite and the page on one's own file"
    folder = tmp_path_factory.mktemp('edition')
    shutil.copytree(lite, folder/'lite', copy_function=os.link)
    shutil.copytree(nbs/'_static', folder/'_static')
    raw, = re.findall(r'```\{raw\} html\n(.+?)```', (nbs/'your_file.md').read_text(), re.S)
    page = f'<!doctype html><html lang="en"><title>Your file</title><body>{raw}</body></html>'
    (folder/'your_file.html').write_text(page)
    return folder

def test_wheels(site):
    "medtut without what needs PyTorch, and nothing compiled; small enough for a first visit"
    wheels = {path.name.partition('-')[0]: path for path in (site/'lite/pypi').glob('*.whl')}
    assert {'medtut', 'pydicom', 'nibabel', 'tqdm', 'pydicom_data'} <= set(wheels)
    for path in wheels.values():
        with zipfile.ZipFile(path) as z:
            assert not z.testzip()
            assert not [name for name in z.namelist() if name.endswith(('.so', '.pyd'))]
    with zipfile.ZipFile(wheels['medtut']) as z: names = set(z.namelist())
    for module in ('dicom', 'show', 'metrics', 'splits', 'rle', 'tables', 'exercises', 'files',
                   'volumes'):
        assert f'medtut/{module}.py' in names
    assert 'medtut/unet.py' not in names
    assert sum(path.stat().st_size for path in wheels.values()) < 20e6

def test_built_once(site):
    "A second build of the same takes no time"
    page = site/'lite/notebooks/index.html'
    before = page.stat().st_mtime_ns
    edition_tool.build(site/'lite')
    assert page.stat().st_mtime_ns == before

# --- in a browser

@pytest.fixture(scope='module')
def browser():
    with chromium() as browser: yield browser

def pyodide_at(folder):
    "A handler that serves Pyodide out of a folder, where the site would fetch it from its network"
    class Handler(QuietHandler):
        extensions_map = QuietHandler.extensions_map | {'.wasm': 'application/wasm'}
        sent = 0
        def translate_path(self, path):
            own = path.partition('?')[0]
            if own.startswith('/pyodide/'): return str(folder/own.removeprefix('/pyodide/'))
            return super().translate_path(path)
        def do_GET(self):
            path = Path(self.translate_path(self.path))
            if path.suffix != '.json' or not path.is_file(): return super().do_GET()
            here = f'http://127.0.0.1:{self.server.server_port}/pyodide/'
            content = path.read_bytes().replace(PYODIDE.encode(), here.encode())
            self.send_response(200)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        def end_headers(self):
            "May be kept as long as Pyodide's network and the site's host say"
            lasts = '31536000, immutable' if '/pyodide/' in self.path else '600'
            self.send_header('Cache-Control', f'max-age={lasts}')
            super().end_headers()
        def copyfile(self, source, out):
            content = source.read()
            Handler.sent += len(content)
            out.write(content)
    return Handler

@pytest.fixture(scope='module')
def core(npm_package):
    "A folder with Pyodide's core"
    return npm_package(f'pyodide@{number_of_pyodide}')

@pytest.fixture(scope='module')
def complete():
    "A folder with a complete Pyodide"
    if 'MEDTUT_PYODIDE' not in os.environ:
        pytest.skip('MEDTUT_PYODIDE names no folder with a complete Pyodide: '
                    f'that of version {number_of_pyodide}, unpacked')
    folder = Path(os.environ['MEDTUT_PYODIDE'])
    info = json.loads((folder/'pyodide-lock.json').read_text())['info']
    assert info['version'] == number_of_pyodide
    return folder

def test_opens_without_a_network(browser, site):
    "The notebook can be read where Python can't be fetched"
    with serving(site) as address:
        page = browser.new_page()
        page.goto(f'{address}lite/notebooks/index.html?path=01_dicom.ipynb')
        page.get_by_role('heading', name='Lesson 1: DICOM anatomy').wait_for(timeout=120_000)
        page.close()

TYPE = '''([number, text]) => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells
    const cell = cells.find(c => c.getSource().includes(`check('${number}', answer)`))
    cell.setSource(cell.getSource().replace(/answer = .*/, 'answer = ' + text))
}'''
CELLS = 'window.jupyterapp?.shell.currentWidget?.content?.model?.sharedModel.cells'

def edition_page(context, address, name):
    "An edition that can be read in a new page of a browser's context; Python need not be there"
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f'{address}lite/notebooks/index.html?path={Path(name).name}')
    page.wait_for_function(f'{CELLS}?.length > 1')
    page.locator('.jp-Notebook .jp-CodeCell').first.wait_for()
    return page

def test_quiz_counts(browser, site):
    "As on the site: a first choice counts, a second does not, and one choice is open at a time"
    with serving(site) as address, browser.new_context() as context:
        page = edition_page(context, address, '01_dicom.ipynb')
        page.locator('.jp-Notebook').press('End')
        wrong = page.locator('details[name="quiz-1"]', has_text='No.').first
        right = page.locator('details[name="quiz-1"]', has_text='Right.')
        score = page.locator('.quiz-score').filter(has_text='first try')
        for _ in range(20): # on a busy machine a click was lost before the page had settled
            if score.count(): break
            if wrong.get_attribute('open') is None: wrong.locator('summary').click()
            page.wait_for_timeout(500)
        expect(score).to_have_text(re.compile('0 right at the first try'))
        right.locator('summary').click()
        # a choice opens first and is counted after that
        expect(right).to_have_class('quiz-1 right')
        expect(wrong).to_have_class('quiz-1 wrong')
        expect(wrong.locator('p')).not_to_be_visible()
        expect(score).to_have_text(re.compile('0 right at the first try'))
        page.locator('details[name="quiz-2"]', has_text='Right.').locator('summary').click()
        expect(score).to_have_text(re.compile('1 right at the first try'))

def test_answers_stay_between_visits(browser, site):
    "What was typed is there in a page that is opened later, without a menu or a key to save it"
    with serving(site) as address, browser.new_context() as context:
        page = edition_page(context, address, '01_dicom.ipynb')
        page.evaluate(TYPE, ['1.1', '2'])
        saved = 'window.jupyterapp.shell.currentWidget.content.model.dirty === false'
        page.wait_for_function(saved, timeout=30_000) # every 5 s
        page.close()
        later = edition_page(context, address, '01_dicom.ipynb')
        later.wait_for_function(f'{CELLS}?.some(c => c.getSource().includes("answer = 2"))')

# --- the reader's own file

def drop(page, *paths, below=0, text=()):
    "Drop what lies at `paths`, as a file manager does: on the page's field, or so far below it"
    devtools = page.context.new_cdp_session(page)
    box = page.locator('.your-file-drop').bounding_box()
    items = [dict(mimeType='text/plain', data=words) for words in text]
    data = dict(items=items, files=[str(path) for path in paths], dragOperationsMask=1)
    for kind in 'dragEnter', 'dragOver', 'drop':
        event = dict(type=kind, x=box['x'] + 5, y=box['y'] + 5 + below, data=data)
        devtools.send('Input.dispatchDragEvent', event)

def choose(page, path): page.locator('input[type=file]').set_input_files(path)

def read_own_file(page, path, how=choose):
    how(page, path)
    page.locator('.your-file-header td').first.wait_for(timeout=240_000)

@pytest.fixture(scope='module')
def own_file():
    "What the page on one's own file has Python say of it"
    sys.path.insert(0, str(nbs/'_static'))
    yield importlib.import_module('your_file')
    sys.path.remove(str(nbs/'_static'))

def test_headers_of_what_medtut_reads(own_file, monkeypatch):
    "pydicom's files and what lies beside them, with and without preamble"
    folder = Path(pydicom.__file__).parent/'data'
    monkeypatch.chdir(folder)
    paths = [path.relative_to(folder) for path in folder.rglob('*') if path.is_file()]
    assert len(paths) > 150
    warnings.simplefilter('ignore')
    for path in paths:
        said = json.loads(own_file.header(path))
        try: read_dicom(path, pixels=False)
        except DicomError: assert f'{path} can not be read as DICOM' in said['error']
        else: assert len(said['rows']) > 1, path

@pytest.mark.parametrize('start, said', [
    (b'', 'is empty: copy or download it again'),
    (b'PK\3\4', 'a ZIP archive: unpack it'), (b'%PDF-1.7', 'it looks like a PDF.'),
    (b'\n<!doctype html>', 'a web page or XML'), (b'hello', 'it holds something else.')])
def test_says_what_a_wrong_file_is(own_file, tmp_path, start, said):
    (tmp_path/'scan.dcm').write_bytes(start)
    assert said in json.loads(own_file.header(tmp_path/'scan.dcm'))['error']

def test_a_damaged_element_costs_no_other(own_file, tmp_path):
    "Three bytes that are to be numbers of two bytes each"
    ds = pydicom.dcmread(a_ct())
    damaged = RawDataElement(Tag('SliceThickness'), 'US', 3, b'abc', 0, False, True)
    ds[damaged.tag] = damaged
    by_tag = {row[0]: row for row in own_file._elements(ds)}
    assert 'can not be read' in by_tag['(0018,0050)'][3]
    assert by_tag['(0010,0010)'][3] == 'CompressedSamples^CT1'

@pytest.mark.parametrize('frames', [b'abc ', b'1\\2 '])
def test_a_number_of_frames_that_is_none_costs_no_picture(own_file, tmp_path, frames):
    "It is to be a whole number (PS3.3 C.7.6.6.1.1)"
    ds, tag = pydicom.dcmread(a_ct()), Tag('NumberOfFrames')
    ds[tag] = RawDataElement(tag, 'IS', len(frames), frames, 0, False, True)
    ds.save_as(tmp_path/'a.dcm')
    said = json.loads(own_file.picture(str(tmp_path/'a.dcm')))
    assert said.get('png'), said
    assert 'rows' in json.loads(own_file.identifying(str(tmp_path/'a.dcm')))

def test_a_fault_that_nobody_foresaw_is_told_as_one_of_the_file(own_file, monkeypatch):
    "and not as one of the network, which is what the page says when nothing could be loaded"
    def fail(*args, **kwargs): raise RuntimeError('odd')
    monkeypatch.setattr('medtut.display.to_display', fail)
    monkeypatch.setattr('medtut.identity.identifying_elements', fail)
    for what in own_file.picture, own_file.identifying:
        assert 'failed (RuntimeError: odd)' in json.loads(what(a_ct()))['error']

@pytest.fixture(scope='module')
def one_of_each(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dropped')
    (folder/'scans').mkdir()
    shutil.copy(a_ct(), folder/'scans/CT_small.dcm')
    shutil.copy(a_ct(), folder/'other.dcm')
    return folder

@pytest.mark.parametrize('names, text, said', [
    (['scans'], (), 'scans is a folder, and this page reads one file'),
    (['other.dcm', 'scans/CT_small.dcm'], (), '2 files were dropped, and none was read'),
    (['other.dcm', 'scans'], (), '2 files were dropped, and none was read'),
    ([], ['a word'], 'That was no file')])
def test_drops_that_are_no_file(browser, site, one_of_each, names, text, said):
    "A sentence says what to do, and Python is not loaded for it"
    with serving(site) as address:
        page = browser.new_page()
        page.goto(f'{address}your_file.html')
        drop(page, *(one_of_each/name for name in names), text=text)
        page.get_by_role('status').filter(has_text=said).wait_for()
        assert page.url.endswith('/your_file.html')
        page.close()

def a_ct():
    return Path(pydicom.__file__).parent/'data/test_files/CT_small.dcm'

def test_reads_a_header(browser, site, core):
    "Pyodide's core is enough for it; of the picture the page says that it could not be loaded"
    with serving(site, pyodide_at(core)) as address:
        page = browser.new_page()
        page.goto(f'{address}your_file.html')
        read_own_file(page, a_ct())
        header = page.locator('.your-file-header').inner_text()
        assert 'CompressedSamples^CT1' in header
        page.get_by_role('status').filter(has_text='could not be loaded').wait_for(timeout=60_000)
        # what is dropped is read as what is chosen, also where it misses the field
        for below in 0, 300:
            read_own_file(page, a_ct(), partial(drop, below=below))
            assert page.locator('.your-file-header').inner_text() == header
        drop(page, nbs/'your_file.md')
        wrong = 'your_file.md can not be read as DICOM: it holds something else.'
        page.locator('.your-file-header', has_text=wrong).wait_for()
        page.get_by_role('status').filter(has_text='Nothing to show').wait_for()
        # the last of two counts, not the first
        drop(page, a_ct())
        drop(page, nbs/'your_file.md')
        page.locator('.your-file-header', has_text=wrong).wait_for()
        page.wait_for_timeout(500)
        assert page.locator('.your-file-header td').count() == 0
        page.close()

def test_own_file_whole(browser, site, complete):
    "Picture, what identifies the patient, and a file that is none"
    with serving(site, pyodide_at(complete)) as address:
        page = browser.new_page(viewport=dict(width=820, height=1180)) # a tablet's
        page.goto(f'{address}your_file.html')
        read_own_file(page, a_ct())
        page.get_by_role('status').filter(has_text='Done').wait_for(timeout=240_000)
        width = 'i => i.decode().then(() => i.naturalWidth)'
        assert page.locator('.your-file-picture img').evaluate(width) == 128
        assert 'PatientName' in page.locator('.your-file-identifying').inner_text()
        names = 'picture', 'identifying', 'header'
        parts = [page.locator(f'.your-file-{name}') for name in names]
        chosen = [part.inner_html() for part in parts]
        drop(page, a_ct())
        page.get_by_role('status').filter(has_text='Done').wait_for(timeout=60_000)
        assert [part.inner_html() for part in parts] == chosen
        drop(page, nbs/'your_file.md')
        page.locator('.your-file-header', has_text='can not be read as DICOM').wait_for()
        page.get_by_role('button', name='phantom').click()
        page.locator('.your-file-header', has_text='PHANTOM').wait_for(timeout=60_000)
        page.close()

# the notebook as it stands in the page: how many code cells ran, and what went wrong
STATE = '''() => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells
    const code = cells.filter(c => c.cell_type === 'code' && c.source.length)
    const outputs = code.flatMap(c => c.outputs)
    return {left: code.filter(c => !c.execution_count).length,
        errors: outputs.filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue),
        text: outputs.filter(o => o.output_type === 'stream').map(o => [o.text].flat().join('')).join('')}
}'''
RUN_ALL = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"

def open_edition(browser, address, name):
    "An edition whose kernel runs"
    page = edition_page(browser, address, name)
    kernel = 'window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel'
    page.wait_for_function(f'["idle", "busy"].includes({kernel}?.status)', timeout=240_000)
    return page

def run_whole(page, seconds=900):
    "Run all cells; the notebook's state afterwards"
    page.evaluate(RUN_ALL)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        page.wait_for_timeout(3000)
        state = page.evaluate(STATE)
        if state['errors'] or not state['left']: return state
    return state

def run_first_cell(page):
    "Run the cell that loads medtut; returns when it is done"
    page.evaluate('''() => {
        const notebook = window.jupyterapp.shell.currentWidget.content
        notebook.activeCellIndex = notebook.widgets.findIndex(w => w.model.type === 'code')
        window.jupyterapp.commands.execute('notebook:run-cell')
    }''')
    page.locator('.jp-OutputArea', has_text='Ready: go on').first.wait_for(timeout=240_000)

def test_a_later_visit_fetches_little(browser, site, complete, tmp_path):
    "The browser has kept what the first one fetched: 70 MB at most, and afterwards next to nothing"
    handler = pyodide_at(complete)
    sent = []
    with serving(site, handler) as address:
        for _ in range(2):
            before = handler.sent
            with reader_with(browser, tmp_path) as context:
                run_first_cell(open_edition(context, address, '01_dicom.ipynb'))
            sent.append(handler.sent - before)
    first, later = sent
    assert first < 70e6
    assert later < .1e6

@each_edition
def test_runs_whole(browser, site, complete, name):
    with serving(site, pyodide_at(complete)) as address:
        page = open_edition(browser, address, name)
        state = run_whole(page)
        page.close()
    assert state['errors'] == []
    assert state['left'] == 0

def test_answers_are_kept(browser, site, complete):
    "A wrong answer and a right one are told apart; after a reload both still stand there"
    with serving(site, pyodide_at(complete)) as address:
        page = open_edition(browser, address, '01_dicom.ipynb')
        page.evaluate(TYPE, ['1.1', '2'])
        page.evaluate(TYPE, ['1.2', '(-2**13, 2**13 - 1)'])
        state = run_whole(page)
        assert '1.1: not yet: the low byte comes first' in state['text']
        assert '1.2: right' in state['text']
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        page.wait_for_function(f'{CELLS}?.some(c => c.getSource().includes("answer = 2"))')
        page.close()
