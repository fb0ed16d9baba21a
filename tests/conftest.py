import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fastcore.nbio import read_nb
from site_build import build_site

os.environ.setdefault('MPLBACKEND', 'Agg')  # no test opens a window
os.environ.setdefault('MEDTUT_SOURCE', 'sample')  # no test waits for a real set
# one core for each worker: more threads, and processes one a core, would wait for each other
if 'PYTEST_XDIST_WORKER' in os.environ:
    for variable in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS',
                     'LOKY_MAX_CPU_COUNT'):
        os.environ.setdefault(variable, '1')


@pytest.fixture(scope='session')
def root(): return Path(__file__).parent.parent


@pytest.fixture(scope='session')
def npm_package(tmp_path_factory):
    "Fetches a package from npm: the folder of its files. Skips where that can't be had"
    def fetch(name):
        if not shutil.which('npm'): pytest.skip(f'no npm on the PATH, which fetches {name}')
        folder = tmp_path_factory.mktemp('npm')
        command = ['npm', 'pack', '--silent', '--fetch-retries=0', '--fetch-timeout=30000', name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode: pytest.skip(f'npm has no {name} for us: {done.stderr[-200:]}')
        archive, = folder.glob('*.tgz')
        shutil.unpack_archive(archive, folder)
        return folder/'package'
    return fetch


@pytest.fixture(scope='session')
def html(root, tmp_path_factory):
    "The folder of the site, built once for all who look at it"
    out = tmp_path_factory.mktemp('site')
    build_site(root/'nbs', out)
    return out


@pytest.fixture(scope='session')
def lite(request, tmp_path_factory):
    """The folder of what runs in the reader's browser: the site's own, where the site is tested,
    too; by itself it is built faster"""
    if any(item.path.stem == 'test_site' for item in request.session.items):
        return request.getfixturevalue('html')/'lite'
    from browser import build
    out = tmp_path_factory.mktemp('lite')/'lite'
    build(out)
    return out


# About how many seconds files take in which kills, set-ups and pages in a browser are: `make quick`
# leaves them out
SECONDS = dict(test_site=170, test_folders=55, test_benchmarks=45, test_scale=40, test_crash=35,
    test_cli=35, test_dicom_damaged=35, test_fuzz=25, test_datasets=20, test_cli_outlines=15,
    test_slices=15, test_lint=10, test_packaging=10, test_evaluate=10, test_edition=10)
# and others that no worker should begin last
LONG = dict(test_pacs=50, test_cam=25, test_grading=20, test_dicom=20, test_predict=20,
    test_identity=15, test_intervals=10, test_results=10, test_segmentation=10, test_layers=10)
# and pages that are no lessons; lessons say their minutes themselves
PAGE_SECONDS = dict(brain=40, breast=35, capstone=30, capstone_volumes=20, datasets=20, chest=15,
    predict=10, brain_files=10, at_work=10, more_machines=10, cli_folders=10, brain_tumour=10)


def seconds_of_notebook(path):
    "About how long it takes"
    minutes = read_nb(path).metadata.get('medtut', {}).get('minutes')
    if minutes: return minutes*60
    return PAGE_SECONDS.get(path.stem, 1)


def seconds_of(item):
    "About how long a test's file takes, or a notebook; a file that is not listed is short"
    if item.path.stem != 'test_notebooks':
        return (SECONDS | LONG).get(item.path.stem, 0)
    return seconds_of_notebook(item.callspec.params['path'])


def pytest_collection_modifyitems(items):
    "The longest come first: one of them at the end would leave the other workers idle"
    items.sort(key=seconds_of, reverse=True)
    for item in items:
        if item.path.stem in {'test_notebooks', *SECONDS}:
            item.add_marker('minutes')


def pytest_xdist_make_scheduler(config, log):
    """One worker runs the tests of a file, which share its fixtures; each notebook stands alone.

    In the order of `pytest_collection_modifyitems`: xdist's own, most tests first, has lessons
    that train at the end"""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition('::')[0]
            if file.endswith('test_notebooks.py'): return nodeid
            # one worker builds the site for both
            return file.replace('test_edition', 'test_site')

    config.option.loadscopereorder = False
    return ByFile(config, log)
