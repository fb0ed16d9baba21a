"""What the site runs in the reader's browser: the editions as they are made, and, in Chromium with
no other address to be had, what can be run of them

Pyodide's core comes from npm where its registry can be reached: it has no numpy, so that a header is
read and no more. With `MEDTUT_PYODIDE=folder`, a folder that holds a complete Pyodide of the
version the site names, whole lessons are run."""
import ast
import json
import os
import re
import shutil
import time
import zipfile
from pathlib import Path

import browser as edition_tool
import pytest
from browser import CHANGED, EDITIONS, NOT_HERE, PYODIDE, edition
from chromium import QuietHandler, chromium, serving
from lessons import nbs

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
    assert '\n'.join(prose).count('<details name=') == whole.count('<details name=')
    assert 'browser edition' in prose[1]

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
    for module in ('dicom', 'show', 'metrics', 'splits', 'rle', 'tables', 'exercises', 'files', 'volumes'):
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

def read_own_file(page, path):
    page.locator('input[type=file]').set_input_files(path)
    page.locator('.your-file-header td').first.wait_for(timeout=240_000)

def a_ct():
    import pydicom
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
        page.close()

def test_own_file_whole(browser, site, complete):
    "Picture, what identifies the patient, and a file that is none"
    with serving(site, pyodide_at(complete)) as address:
        page = browser.new_page(viewport=dict(width=820, height=1180)) # a tablet's
        page.goto(f'{address}your_file.html')
        read_own_file(page, a_ct())
        page.get_by_role('status').filter(has_text='Done').wait_for(timeout=240_000)
        assert page.locator('.your-file-picture img').evaluate('i => i.decode().then(() => i.naturalWidth)') == 128
        assert 'PatientName' in page.locator('.your-file-identifying').inner_text()
        page.locator('input[type=file]').set_input_files(nbs/'your_file.md')
        page.locator('.your-file-header', has_text='can not be read as DICOM').wait_for(timeout=60_000)
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
TYPE = '''([number, text]) => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells
    const cell = cells.find(c => c.getSource().includes(`check('${number}', answer)`))
    cell.setSource(cell.getSource().replace(/answer = .*/, 'answer = ' + text))
}'''
CELLS = 'window.jupyterapp?.shell.currentWidget?.content?.model?.sharedModel.cells'
RUN_ALL = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"

def open_edition(page, address, name):
    page.set_default_timeout(120_000)
    page.goto(f'{address}lite/notebooks/index.html?path={Path(name).name}')
    page.locator('.jp-Notebook .jp-CodeCell').first.wait_for()
    page.wait_for_function('window.jupyterapp?.shell.currentWidget?.content?.model')
    kernel = 'window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel'
    page.wait_for_function(f'["idle", "busy"].includes({kernel}?.status)', timeout=240_000)

def run_whole(page, seconds=900):
    "Run all cells; the notebook's state afterwards"
    page.evaluate(RUN_ALL)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        page.wait_for_timeout(3000)
        state = page.evaluate(STATE)
        if state['errors'] or not state['left']: return state
    return state

@each_edition
def test_runs_whole(browser, site, complete, name):
    with serving(site, pyodide_at(complete)) as address:
        page = browser.new_page()
        open_edition(page, address, name)
        state = run_whole(page)
        page.close()
    assert state['errors'] == []
    assert state['left'] == 0

def test_answers_are_kept(browser, site, complete):
    "A wrong answer and a right one are told apart; after a reload both still stand there"
    with serving(site, pyodide_at(complete)) as address:
        page = browser.new_page()
        open_edition(page, address, '01_dicom.ipynb')
        page.evaluate(TYPE, ['1.1', '2'])
        page.evaluate(TYPE, ['1.2', '(-2**13, 2**13 - 1)'])
        state = run_whole(page)
        assert '1.1: not yet: the low byte comes first' in state['text']
        assert '1.2: right' in state['text']
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        page.wait_for_function(f'{CELLS}?.some(c => c.getSource().includes("answer = 2"))')
        page.close()
