"What `python -m build` makes installs and imports where there is no checkout, no nbdev, no Jupyter and no Sphinx in sight"
import re, shutil, subprocess, sys, tarfile, venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

import medtut

@pytest.fixture(scope='module')
def built(root, tmp_path_factory):
    "Folder with the sdist and the wheel, both built from what git would hand out, not from leftovers of other builds"
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'): shutil.copy(root/name, source)
    shutil.copytree(root/'medtut', source/'medtut', ignore=shutil.ignore_patterns('__pycache__'))
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, source)
    return out

def run(*command, **kwargs):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

@pytest.mark.parametrize('kind', ['*.whl', '*.tar.gz'])
def test_installs_in_a_clean_venv(built, kind, tmp_path):
    archive, = built.glob(kind)
    venv.create(tmp_path/'venv')
    python = tmp_path/'venv'/'bin'/'python'
    # requirements are borrowed from this environment, without what a .pth file adds to it: medtut itself comes from the archive alone
    site = Path(run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip())
    (site/'borrowed.pth').write_text('\n'.join(p for p in sys.path if p.endswith('site-packages')))
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', '--no-index', '--no-build-isolation', archive)
    code = '''
import importlib, pkgutil, medtut
for m in pkgutil.walk_packages(medtut.__path__, 'medtut.'): print(importlib.import_module(m.name).__file__)
'''
    imported = run(python, '-I', '-c', code, cwd=tmp_path).splitlines()
    assert imported and all(path.startswith(str(site)) for path in imported)

def test_sdist_is_whole(built):
    archive, = built.glob('*.tar.gz')
    with tarfile.open(archive) as tar: names = {name.partition('/')[2] for name in tar.getnames()}
    assert {'settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'medtut/__init__.py'} <= names

def test_metadata():
    dist = distribution('medtut')
    assert dist.version == medtut.__version__
    always = {re.match(r'[\w.-]+', r)[0].lower() for r in dist.requires if 'extra ==' not in r}
    assert {'numpy', 'pydicom'} <= always
    assert not always & {'nbdev', 'jupyterlab', 'jupyter', 'notebook', 'ipython', 'ipykernel', 'ipywidgets', 'sphinx', 'myst-nb'}
    assert set(dist.metadata.get_all('Provides-Extra')) == {'lessons', 'real', 'dev'}
