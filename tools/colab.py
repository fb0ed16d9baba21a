"""Run lessons as a Colab user does: `python tools/colab.py`, or some of them: `python tools/colab.py nbs/03_pneumothorax.ipynb`

A new environment gets what Colab brings. A copy of each lesson runs in an empty folder, and its own first cell installs medtut, from a wheel of
this clone in place of the repository on GitHub. Nothing that was there before may be replaced: Colab would ask for a restart. Takes several GB of
disk and some minutes before the first lesson; all of it lies in a temporary folder, removed at the end."""
import argparse, json, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path

import nbformat
from fastcore.nbio import read_nb
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from lessons import all_lessons, config

# Colab's widgets are of the older series
PREINSTALLED = ['torch', 'torchvision', 'fastai', 'numpy', 'pandas', 'scikit-image', 'matplotlib', 'ipykernel', 'ipywidgets<8']
SOURCE = f'git+{config.git_url}'

# Run before a lesson's first cell: what tells it that this is Colab, imports that a restart would be needed for, and the wheel in place of GitHub
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

def say(text): print(text, file=sys.stderr, flush=True)

def build_wheel(folder):
    "A wheel of the package in `folder`, built from a copy: not from what earlier builds left in the clone"
    source = folder/'source'
    shutil.copytree(config.config_path/config.lib_name, source/config.lib_name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'): shutil.copy(config.config_path/name, source)
    subprocess.run([sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', folder, source], check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob('*.whl'))

def installed(python):
    "Names and versions in the environment of `python`"
    found = subprocess.run([python, '-m', 'pip', 'list', '--format=json'], check=True, capture_output=True, text=True)
    return {p['name']: p['version'] for p in json.loads(found.stdout)}

def replaced(before, after): return [f'{name} {v} -> {after.get(name, "removed")}' for name,v in before.items() if after.get(name) != v]

def left_out(cell): return cell.directives.get('eval') == 'false' or any(cell.has_directive(flag) for flag in config.tst_flags.split())

def lesson_notebook(path, wheel):
    "The lesson at `path` as it runs in Colab, without the cells that tests leave out too"
    nb = nbformat.read(path, 4)
    nb.cells = [c for c,same in zip(nb.cells, read_nb(path).cells) if not left_out(same)]
    install = next(i for i,c in enumerate(nb.cells) if c.cell_type == 'code' and 'google.colab' in c.source)
    nb.cells.insert(install, new_code_cell(LIKE_COLAB.format(source=SOURCE, wheel=wheel.as_uri())))
    nb.cells.insert(install + 2, new_code_cell(NOT_FROM_THE_CLONE))
    return nb

class Colab:
    "An environment like Colab's in `folder`"
    def __init__(self, folder):
        self.folder, self.python = folder, folder/'venv/bin/python'
        self.env = {k: v for k,v in os.environ.items() if k not in ('PYTHONPATH', 'MEDTUT_DATA', 'IN_TEST', 'VIRTUAL_ENV')}
        # sample sets and settings of the person who runs this are out of sight
        self.env |= dict(HOME=str(folder/'home'), XDG_CACHE_HOME=str(folder/'home/cache'), PATH=f'{folder/"venv/bin"}{os.pathsep}{os.environ["PATH"]}')
        (folder/'home').mkdir()
        subprocess.run([sys.executable, '-m', 'venv', folder/'venv'], check=True)
        say('Installing what Colab brings ...')
        subprocess.run([self.python, '-m', 'pip', 'install', *PREINSTALLED], check=True, stdout=sys.stderr)
        os.environ['JUPYTER_PATH'] = str(folder) # where this process looks for the kernel
        spec = folder/'kernels/colab'
        spec.mkdir(parents=True)
        (spec/'kernel.json').write_text(json.dumps(dict(argv=[str(self.python), '-m', 'ipykernel_launcher', '-f', '{connection_file}'], display_name='colab')))

    def run(self, path, wheel):
        "Run the lesson at `path` in an empty folder; what went wrong, '' if nothing did"
        empty = self.folder/path.stem
        empty.mkdir()
        client = NotebookClient(lesson_notebook(path, wheel), kernel_name='colab', timeout=None, resources=dict(metadata=dict(path=str(empty))))
        try: client.execute(env=self.env)
        except CellExecutionError as e: return str(e)
        return ''

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='notebook')
    args = parser.parse_args()
    lessons = [l for l in all_lessons() if not args.paths or l.path in args.paths]
    if not lessons: sys.exit('no lesson among the notebooks named')
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        wheel, colab = build_wheel(Path(folder)/'wheel'), Colab(Path(folder))
        before = installed(colab.python)
        for l in lessons:
            say(f'Lesson {l.number}: {l.title} ...')
            start = time.perf_counter()
            error = colab.run(l.path, wheel)
            print(f'Lesson {l.number}: {"FAILED" if error else "ran"} after {time.perf_counter() - start:.0f} s' + f'\n{error}'*bool(error), flush=True)
            wrong += [f'lesson {l.number}']*bool(error)
        if lost := replaced(before, installed(colab.python)):
            print('Installing medtut replaced what Colab had, so Colab would ask for a restart:\n' + '\n'.join(lost))
            wrong.append('packages replaced')
    if wrong: sys.exit(f'Failed: {", ".join(wrong)}')
    print('None of the packages that Colab brings was replaced.')
