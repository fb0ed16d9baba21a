"""What `python -m build` makes installs and imports where there is no checkout, no nbdev, no Jupyter
and no Sphinx in sight"""
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

import medtut

PACKAGING = 'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'
NOTEBOOK_TOOLS = {'nbdev', 'jupyterlab', 'jupyter', 'notebook', 'ipython', 'ipykernel',
    'ipywidgets', 'ipyniivue', 'sphinx', 'myst-nb'}
IMPORT_ALL = '''
import importlib, pkgutil, medtut
for m in pkgutil.walk_packages(medtut.__path__, 'medtut.'):
    print(importlib.import_module(m.name).__file__)
'''

def run(*command, **kwargs):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

@pytest.fixture(scope='module')
def built(root, tmp_path_factory):
    """Folder with the sdist and the wheel, both built from what git would hand out, not from
    leftovers of other builds"""
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    for name in PACKAGING:
        shutil.copy(root/name, source)
    without_caches = shutil.ignore_patterns('__pycache__')
    shutil.copytree(root/'medtut', source/'medtut', ignore=without_caches)
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, source)
    return out

def site_packages(python):
    code = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    return Path(run(python, '-c', code).strip())

def borrow_requirements(site):
    """Requirements come from this environment, without what a .pth file adds to it: medtut itself
    comes from the archive alone"""
    folders = [p for p in sys.path if p.endswith('site-packages')]
    (site/'borrowed.pth').write_text('\n'.join(folders))

def install(python, archive):
    "Install an archive in place of what is there of it"
    options = '--force-reinstall', '--no-deps', '--no-index', '--no-build-isolation'
    run(sys.executable, '-m', 'pip', '--python', python, 'install', *options, archive)

def contents(folder):
    "`{path: bytes}` of the files below, without what Python compiled of them"
    files = [p for p in folder.rglob('*') if p.is_file() and p.parent.name != '__pycache__']
    return {p.relative_to(folder): p.read_bytes() for p in files}

def test_installs_in_a_clean_venv(built, tmp_path):
    "The wheel, all of which is imported; the sdist puts the same files there"
    wheel, sdist = *built.glob('*.whl'), *built.glob('*.tar.gz')
    venv.create(tmp_path/'venv')
    python = tmp_path/'venv'/'bin'/'python'
    site = site_packages(python)
    borrow_requirements(site)
    install(python, wheel)
    imported = run(python, '-I', '-c', IMPORT_ALL, cwd=tmp_path).splitlines()
    assert imported
    assert all(path.startswith(str(site)) for path in imported)
    from_wheel = contents(site/'medtut')
    install(python, sdist)
    assert contents(site/'medtut') == from_wheel

def test_sdist_is_whole(built):
    archive, = built.glob('*.tar.gz')
    with tarfile.open(archive) as tar:
        members = tar.getnames()
    names = {name.partition('/')[2] for name in members}
    wanted = {'settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE'}
    assert wanted | {'medtut/__init__.py'} <= names

def test_metadata():
    dist = distribution('medtut')
    assert dist.version == medtut.__version__
    always = [requirement for requirement in dist.requires if 'extra ==' not in requirement]
    names = {re.match(r'[\w.-]+', requirement)[0].lower() for requirement in always}
    assert {'numpy', 'pydicom'} <= names
    assert not names & NOTEBOOK_TOOLS
    assert set(dist.metadata.get_all('Provides-Extra')) == {'train', 'archive', 'lessons', 'real', 'dev'}
