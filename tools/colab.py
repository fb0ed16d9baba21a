"""Run what is offered in Colab as its users do: `python tools/colab.py`,
or some of it: `python tools/colab.py nbs/03_pneumothorax.ipynb`

A new environment gets what Colab brings. A copy of each lesson, and of each page that installs
medtut as they do, runs in an empty folder. Its own first cell installs medtut, from a wheel of this
clone in place of the repository on GitHub. Nothing that was there before may be replaced: Colab
would ask for a restart. Takes several GB of disk and some minutes before the first lesson; all of
it lies in a temporary folder, removed at the end."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from fastcore.nbio import read_nb
from lessons import config, notebooks
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

# Colab's IPython and widgets are of older series: 7.34 and 7.7 in its list of January 2026,
# github.com/googlecolab/backend-info
PREINSTALLED = ['torch', 'torchvision', 'fastai', 'numpy', 'pandas', 'scikit-image', 'matplotlib',
    'ipykernel<7', 'ipython<8', 'ipywidgets<8']
SOURCE = f'git+{config.git_url}'

# Run before a lesson's first cell: what tells it that this is Colab, imports that a restart would
# be needed for, and the wheel in place of GitHub
LIKE_COLAB = '''
import importlib.util, sys, types
import fastai, matplotlib.pyplot, numpy, pandas, skimage, torch, torchvision
sys.modules['google.colab'] = types.ModuleType('google.colab')
_pip = get_ipython().find_line_magic('pip')
def _from_wheel(line):
    assert {source!r} in line, f'the lesson installs from elsewhere: {{line}}'
    return _pip(line.replace({source!r}, {wheel!r}))
get_ipython().register_magic_function(_from_wheel, 'line', 'pip')
'''
NOT_FROM_THE_CLONE = '''
import medtut
assert medtut.__file__.startswith(sys.prefix), medtut.__file__
'''
# what must not reach a lesson from the environment of the person who runs this
PERSONAL = 'PYTHONPATH', 'MEDTUT_DATA', 'IN_TEST', 'VIRTUAL_ENV'
PACKAGING = 'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'

def say(text):
    print(text, file=sys.stderr, flush=True)

def build_wheel(folder):
    """A wheel of the package in `folder`, built from a copy: not from what earlier builds left in
    the clone"""
    root, source = config.config_path, folder/'source'
    without_caches = shutil.ignore_patterns('__pycache__')
    shutil.copytree(root/config.lib_name, source/config.lib_name, ignore=without_caches)
    for name in PACKAGING:
        shutil.copy(root/name, source)
    build = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', folder]
    subprocess.run([*build, source], check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob('*.whl'))

def installed(python):
    "Names and versions in the environment of `python`"
    command = [python, '-m', 'pip', 'list', '--format=json']
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {package['name']: package['version'] for package in json.loads(done.stdout)}

def replaced(before, after):
    "What is of another version now, or gone"
    return [f'{name} {version} -> {after.get(name, "removed")}'
            for name, version in before.items() if after.get(name) != version]

def offered():
    "The notebooks that install medtut in Colab: all lessons, and pages beside them"
    return [path for path in notebooks() if 'google.colab' in path.read_text(encoding='utf-8')]

def left_out(cell):
    "Whether tests leave this cell out"
    if cell.directives.get('eval') == 'false':
        return True
    return any(cell.has_directive(flag) for flag in config.tst_flags.split())

def lesson_notebook(path, wheel):
    "The lesson at `path` as it runs in Colab, without the cells that tests leave out too"
    nb = nbformat.read(path, 4)
    cells = zip(nb.cells, read_nb(path).cells) # fastcore's know their directives
    nb.cells = [cell for cell, same in cells if not left_out(same)]
    install = next(i for i, c in enumerate(nb.cells)
                   if c.cell_type == 'code' and 'google.colab' in c.source)
    before = LIKE_COLAB.format(source=SOURCE, wheel=wheel.as_uri())
    nb.cells.insert(install, new_code_cell(before))
    nb.cells.insert(install + 2, new_code_cell(NOT_FROM_THE_CLONE))
    return nb

class Colab:
    "An environment like Colab's in `folder`"
    def __init__(self, folder):
        self.folder, self.python = folder, folder/'venv/bin/python'
        self.env = self.clean_environment()
        (folder/'home').mkdir()
        subprocess.run([sys.executable, '-m', 'venv', folder/'venv'], check=True)
        say('Installing what Colab brings ...')
        install = [self.python, '-m', 'pip', 'install', *PREINSTALLED]
        subprocess.run(install, check=True, stdout=sys.stderr)
        self.register_kernel()

    def clean_environment(self):
        "Variables without sample sets and settings of the person who runs this"
        home, bin = self.folder/'home', self.folder/'venv/bin'
        env = {k: v for k, v in os.environ.items() if k not in PERSONAL}
        path = f'{bin}{os.pathsep}{os.environ["PATH"]}'
        return env | dict(HOME=str(home), XDG_CACHE_HOME=str(home/'cache'), PATH=path)

    def register_kernel(self):
        "A kernel of this environment, where this process looks for one"
        os.environ['JUPYTER_PATH'] = str(self.folder)
        folder = self.folder/'kernels/colab'
        folder.mkdir(parents=True)
        command = [str(self.python), '-m', 'ipykernel_launcher', '-f', '{connection_file}']
        kernel = dict(argv=command, display_name='colab')
        (folder/'kernel.json').write_text(json.dumps(kernel))

    def run(self, path, wheel):
        "Run the lesson at `path` in an empty folder; what went wrong, '' if nothing did"
        empty = self.folder/path.stem
        empty.mkdir()
        resources = dict(metadata=dict(path=str(empty)))
        nb = lesson_notebook(path, wheel)
        client = NotebookClient(nb, kernel_name='colab', timeout=None, resources=resources)
        try: client.execute(env=self.env)
        except CellExecutionError as e: return str(e)
        return ''

def run_all(paths, folder):
    "Run notebooks one after the other; names of what went wrong"
    wheel, colab = build_wheel(folder/'wheel'), Colab(folder)
    before = installed(colab.python)
    failed = []
    for path in paths:
        say(f'{path.stem} ...')
        start = time.perf_counter()
        error = colab.run(path, wheel)
        seconds = time.perf_counter() - start
        outcome = 'FAILED' if error else 'ran'
        print(f'{path.stem}: {outcome} after {seconds:.0f} s', flush=True)
        if error:
            print(error, flush=True)
            failed.append(path.stem)
    lost = replaced(before, installed(colab.python))
    if lost:
        print('Installing medtut replaced what Colab had, so Colab would ask for a restart:')
        print('\n'.join(lost))
        failed.append('packages replaced')
    return failed

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='notebook')
    args = parser.parse_args()
    chosen = [path for path in offered() if not args.paths or path in args.paths]
    if not chosen: sys.exit('none of the notebooks named installs medtut in Colab')
    with tempfile.TemporaryDirectory() as folder:
        failed = run_all(chosen, Path(folder))
    if failed:
        sys.exit(f'Failed: {", ".join(failed)}')
    print('None of the packages that Colab brings was replaced.')

if __name__ == '__main__': main()
