"""What the site runs in the reader's browser: `python tools/browser.py FOLDER` builds it there

JupyterLite with editions of some notebooks, made from the notebooks themselves; medtut and what it
needs as wheels, made from what is installed; DICOM files to try. Pyodide, Python for browsers, is
no part of it: the reader's browser takes it from its network."""
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distribution, version
from pathlib import Path

from fastcore.nbio import dict2nb, mk_cell, nb2str
from lessons import filled, nbs

import medtut

PYODIDE = 'https://cdn.jsdelivr.net/pyodide/v0.27.7/full/'
# The editions, by notebook: what its first cell installs beside medtut
EDITIONS = {
    '01_dicom.ipynb': ['pydicom-data', 'fastcore'],
    'toolbox/metrics.ipynb': ['fastcore', 'scikit-learn'],
    'toolbox/splits.ipynb': ['fastcore', 'scikit-learn']}
# Cells that can't run in a browser, by id, and why. Their output stands on the site's page
NO_DECODER = 'the decoder of {} is a compiled library that no browser has'
NOT_HERE = {
    'dicom056': NO_DECODER.format('JPEG-LS'),
    'dicom112b': 'some of these files need a decoder that no browser has',
    'metrics091': 'it calls medtut on the command line, and a browser has none',
    'metrics093': 'it reads the files of the cell above',
    'metrics095': 'it calls medtut on the command line, and a browser has none'}
# and those that can once something is replaced: what, by what, and why
CHANGED = {
    'splits006': (r'rng.integers\(20, 60, 40\)', 'rng.integers(20, 60, 40).astype(np.intp)',
                  "Python in a browser counts in 32 bits, and NumPy's random numbers have 64"),
    'dicom061': (r'(?s)\nboth = .*', '', NO_DECODER.format('JPEG 2000')),
    'dicom085': (r'Slider\(draw.*', 'for level in -40, 40, 400: display(draw(level))',
                 'a slider needs widgets, which are left out to keep the first visit short'),
    'dicom098': (", 'jpeg2k'", '', NO_DECODER.format('JPEG 2000'))}
# The package in its own wheel needs less than medtut elsewhere: no decoders, no readers of .xlsx
REQUIREMENTS = ['numpy', 'pandas', 'matplotlib', 'pillow', 'joblib', 'pydicom', 'nibabel',
    'dicom-anonymizer', 'tqdm', 'filelock', 'platformdirs']
# Written in Python alone, so that what is installed here runs there; all else is in Pyodide
BUNDLED = ['pydicom', 'nibabel', 'dicom-anonymizer', 'tqdm', 'filelock', 'platformdirs',
    'typing-extensions', 'fastcore', 'pydicom-data', 'comm']
INFO = 'METADATA', 'WHEEL', 'LICENSE', 'entry_points.txt'
# and what the page on the reader's own file takes of it
FOR_A_FILE = ['pydicom', 'dicom-anonymizer', 'tqdm', 'medtut']
# A browser fetches them at each first visit, so larger files come along only where a lesson opens
# them
LARGEST_FILE = 2**19

# --- wheels

def write_wheel(folder, name, number, files):
    "Write `{path: bytes}` as a wheel of pure Python; its file"
    stem = f'{name.replace("-", "_")}-{number}'
    def line(path, content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')
        return f'{path},sha256={digest},{len(content)}'
    record = f'{stem}.dist-info/RECORD'
    lines = [line(path, content) for path, content in files.items()] + [f'{record},,', '']
    wheel = folder/f'{stem}-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w', zipfile.ZIP_DEFLATED) as z:
        for path, content in sorted((files | {record: '\n'.join(lines).encode()}).items()):
            # the same bytes whenever it is written: a browser that has them fetches none
            z.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content,
                       zipfile.ZIP_DEFLATED)
    return wheel

def is_wanted(path, named):
    "Whether a file of an installed package belongs in its wheel; `named` ones may be large"
    parts = path.parts
    if '..' in parts or '__pycache__' in parts or 'tests' in parts: return False
    if parts[0].endswith('.dist-info'): return path.name in INFO
    if path.suffix == '.so': raise ValueError(f'{path} is compiled: no browser runs it')
    return path.name in named or path.locate().stat().st_size <= LARGEST_FILE or path.suffix == '.py'

def installed_wheel(folder, name, named=()):
    "Write what is installed of a package as a wheel, as it was before pip unpacked it"
    wanted = [path for path in distribution(name).files if is_wanted(path, named)]
    files = {path.as_posix(): path.locate().read_bytes() for path in wanted}
    info = next(path for path in files if '.dist-info/' in path).partition('/')[0]
    # JupyterLite looks for a package under this form of its name alone
    about = files[f'{info}/METADATA'].decode()
    files[f'{info}/METADATA'] = re.sub('^Name: .*$', f'Name: {name}', about, count=1,
                                       flags=re.M).encode()
    wheel_name, _, number = info.removesuffix('.dist-info').rpartition('-')
    return write_wheel(folder, wheel_name, number, files)

def is_light(source):
    "Whether a module does without PyTorch and what comes with it: others say so by `needs`"
    return not re.search(r'^needs\(', source, re.M)

def light_modules():
    "Modules of medtut for a browser: `{path in the wheel: bytes}`"
    package = Path(medtut.__file__).parent
    files = {}
    for path in sorted(package.rglob('*.py')):
        source = path.read_text(encoding='utf-8')
        is_command_line = path.stem.startswith('cli') or path.stem == '_modidx'
        if is_light(source) and not is_command_line:
            files[f'medtut/{path.relative_to(package).as_posix()}'] = source.encode()
    return files

def light_wheel(folder):
    number = medtut.__version__
    info = f'medtut-{number}.dist-info'
    needed = ''.join(f'Requires-Dist: {name}\n' for name in REQUIREMENTS)
    about = f'Metadata-Version: 2.1\nName: medtut\nVersion: {number}\n{needed}'
    wheel = 'Wheel-Version: 1.0\nGenerator: medtut\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    files = light_modules()
    files |= {f'{info}/METADATA': about.encode(), f'{info}/WHEEL': wheel.encode()}
    return write_wheel(folder, 'medtut', number, files)

def write_wheels(folder):
    lesson = (nbs/'01_dicom.ipynb').read_text(encoding='utf-8')
    named = {f'{stem}.dcm' for stem in re.findall(r'\b[A-Z0-9]{3}_\w+\b', lesson)}
    return [light_wheel(folder), *(installed_wheel(folder, name, named) for name in BUNDLED)]

# --- editions

WELCOME = '''> **You are in the browser edition.** Python runs in this window, on your own machine.
> Nothing you type or open leaves it. Start at the top: click a cell, then Shift+Enter or the
> triangle in the line of buttons, cell by cell. The first cell loads Python's packages, once for
> each visit, and takes up to a minute: some 50 MB at the first visit, which the browser keeps for
> later ones. What you type is kept in this browser, some seconds later, for your next visit; to
> begin again, choose Clear Browser Data in the menu Help. The page as a whole, with all outputs:
> {page}'''
INSTALL = '''print('Loading medtut and what it needs ...')
%pip install -q medtut {others}
import tqdm, warnings
warnings.filterwarnings('ignore', message='IProgress not found')
tqdm.tqdm.monitor_interval = 0 # it would need a thread
print('Ready: go on with the next cell.')'''

def page_address(name):
    return f'{filled("{homepage}").rstrip("/")}/{name.replace(".ipynb", ".html")}'

def edition_links(md, name):
    "Links to other pages as addresses on the site: they are not in the edition"
    folder = Path(name).parent.as_posix()
    base = page_address('' if folder == '.' else f'{folder}/').rstrip('/')
    md = re.sub(r'\]\((?!https?:|#)([^)#\s]+?)\.(?:ipynb|md)(#[^)\s]*)?\)', rf']({base}/\1.html\2)', md)
    md = re.sub(r'\]\(/([\w/]+\.html[^)]*)\)', rf']({page_address("")}\1)', md)
    return filled(md)

FOR_COLAB = 'In Colab, the next cell installs what is missing. Elsewhere it does nothing.'

def edition_words(md):
    "Without what GitHub and Colab alone understand"
    def warning(m): return f'> **{m[1].capitalize()}.** '
    return re.sub(r'^> \[!(\w+)\]\n> ', warning, md, flags=re.M).replace(FOR_COLAB, '')

def edition_quiz(md):
    "A quiz's choices by class: JupyterLab removes the name (quiz.js gives it back)"
    return re.sub(r'<details name="(quiz-\d+)">', r'<details class="\1">', md)

def is_for_the_site_alone(cell):
    "Cells of the project: tests behind the scenes, exports, Colab's install"
    directives = cell.directives
    if 'default_exp' in directives: return True
    if "'google.colab' in sys.modules" in cell.source: return True
    opens_with_import = re.match(r'(from|import)\b', re.sub(r'(#.*\n|\s)+', '', cell.source, count=1))
    return 'hide' in directives and not opens_with_import

def edition_cell(cell, name):
    "A notebook's cell as it stands in the edition; `None` for one that does not"
    if cell.cell_type == 'markdown':
        words = edition_words(edition_links(cell.source, name))
        return mk_cell(edition_quiz(words), 'markdown')
    if is_for_the_site_alone(cell): return None
    if cell.id in NOT_HERE:
        said = f'*Left out here: {NOT_HERE[cell.id]}. What comes out stands on ' \
               f'[the page]({page_address(name)}).*'
        return mk_cell(said, 'markdown')
    folded = 'code-fold' in cell.directives
    hidden = folded or cell.directives.get('echo') == 'false'
    cell.remove_directives()
    source = cell.source.strip()
    if cell.id in CHANGED:
        old, new, reason = CHANGED[cell.id]
        source = f'# Changed here: {reason}\n' + re.sub(old, new, source)
    made = mk_cell(source, 'code')
    if hidden: made.metadata = dict(jupyter=dict(source_hidden=True))
    return made

def edition(name):
    "The notebook `name` as it runs in a browser, without outputs"
    nb = dict2nb(json.loads((nbs/name).read_text(encoding='utf-8')))
    cells = [made for cell in nb.cells if (made := edition_cell(cell, name))]
    welcome = WELCOME.format(page=page_address(name))
    install = INSTALL.format(others=' '.join(EDITIONS[name]))
    nb.cells = [cells[0], mk_cell(welcome, 'markdown'), mk_cell(install, 'code'), *cells[1:]]
    for i, cell in enumerate(nb.cells): cell['id'] = f'browser{i:03}'
    kernel = dict(name='python', display_name='Python (Pyodide)', language='python')
    nb['metadata'] = dict(kernelspec=kernel)
    return nb2str(nb)

# --- files to try

def phantom_film():
    "A DICOM file of a chest phantom, whose picture needs no decoder: bytes"
    from io import BytesIO

    import pydicom

    from medtut.phantoms.chest import chest
    from medtut.phantoms.chest_files import to_dicom
    film = chest(0, size=256, bits=12)
    file = BytesIO()
    pydicom.dcmwrite(file, to_dicom(film, uid='browser'), enforce_file_format=True)
    return file.getvalue()

# --- the whole

# What an edition's page takes of the site's: it counts the quiz
FROM_THE_SITE = ['quiz.js', 'quiz.css']

def in_the_page(out):
    "Put what comes from the site into the page that shows an edition, and say its language"
    for name in FROM_THE_SITE: shutil.copy(nbs/'_static'/name, out/name)
    page = out/'notebooks/index.html'
    html = page.read_text(encoding='utf-8')
    tags = '<script src="../quiz.js"></script>\n    <link rel="stylesheet" href="../quiz.css">\n  '
    changed = html.replace('<html>', '<html lang="en">').replace('</head>', f'{tags}</head>')
    if changed.count('lang="en"') != 1 or changed.count(tags) != 1:
        raise RuntimeError(f'{page} is not as expected: has JupyterLite changed it?')
    page.write_text(changed, encoding='utf-8')

def recipe():
    "What a build depends on, as a digest: the same again needs no new one"
    parts = [Path(__file__).read_text(), *map(edition, EDITIONS)]
    parts += [(nbs/'_static'/name).read_text(encoding='utf-8') for name in FROM_THE_SITE]
    parts += [content.decode() for content in light_modules().values()]
    packages = [*BUNDLED, 'jupyterlite-core', 'jupyterlite-pyodide-kernel']
    parts += [f'{name} {version(name)}' for name in packages]
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()

def for_a_file(wheels):
    "What the page on the reader's own file loads, as JSON"
    file_of = {wheel.name.partition('-')[0].replace('_', '-'): f'pypi/{wheel.name}'
               for wheel in wheels}
    return json.dumps(dict(pyodide=PYODIDE, wheels={name: file_of[name] for name in FOR_A_FILE}))

def build(out):
    "Build JupyterLite with all that into the folder `out`, unless it is there"
    stamp, built_from = Path(out)/'built-from', recipe()
    if stamp.exists() and stamp.read_text() == built_from: return
    out = Path(out).absolute()
    kernel = Path(sys.prefix)/'share/jupyter/labextensions/@jupyterlite/pyodide-kernel-extension'
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work/'content').mkdir()
        (work/'wheels').mkdir()
        for name in EDITIONS: (work/'content'/Path(name).name).write_text(edition(name))
        (work/'content/phantom_chest.dcm').write_bytes(phantom_film())
        wheels = write_wheels(work/'wheels')
        settings = dict(
            LiteBuildConfig=dict(contents=['content'], output_dir=str(work/'out'),
                no_sourcemaps=True, apps=['notebooks', 'tree'], cache_dir=str(work/'cache'),
                federated_extensions=[str(kernel)], ignore_sys_prefix=['federated_extensions']),
            PipliteAddon=dict(piplite_urls=[str(wheel) for wheel in wheels]))
        (work/'jupyter_lite_config.json').write_text(json.dumps(settings))
        plugin = {'@jupyterlite/pyodide-kernel-extension:kernel': dict(pyodideUrl=f'{PYODIDE}pyodide.js')}
        site = {'jupyter-lite-schema-version': 0,
                'jupyter-config-data': dict(
                    litePluginSettings=plugin, appName='medtut', exposeAppInBrowser=True)}
        (work/'jupyter-lite.json').write_text(json.dumps(site))
        autosave = {'@jupyterlab/docmanager-extension:plugin': dict(autosaveInterval=5)}
        (work/'overrides.json').write_text(json.dumps(autosave))
        done = subprocess.run([sys.executable, '-m', 'jupyterlite_core', 'build'], cwd=work,
                              capture_output=True, text=True)
        if done.returncode: raise RuntimeError(done.stdout + done.stderr)
        in_the_page(work/'out')
        (work/'out/browser.json').write_text(for_a_file(wheels))
        (work/'out/built-from').write_text(built_from)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(work/'out', out)

if __name__ == '__main__': build(sys.argv[1])
