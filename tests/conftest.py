import os
from pathlib import Path

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')  # no test opens a window
os.environ.setdefault('MEDTUT_SOURCE', 'sample')  # no test waits for the real set of lesson 7
# one core for each worker: more threads would wait for each other
if 'PYTEST_XDIST_WORKER' in os.environ:
    for variable in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        os.environ.setdefault(variable, '1')


@pytest.fixture(scope='session')
def root(): return Path(__file__).parent.parent


# Files that take minutes, as `--durations` told: trainings, kills, set-ups, pages in a browser
MINUTES = {'test_notebooks', 'test_benchmarks', 'test_cli', 'test_crash', 'test_datasets',
    'test_dicom_damaged', 'test_folders', 'test_fuzz', 'test_packaging', 'test_scale', 'test_site',
    'test_slices'}


def pytest_collection_modifyitems(items):
    "The long ones come first: one at the end would leave the other workers idle"
    items.sort(key=lambda item: (item.path.stem != 'test_notebooks', item.path.stem not in MINUTES))
    for item in items:
        if item.path.stem in MINUTES: item.add_marker('minutes')


def pytest_xdist_make_scheduler(config, log):
    "One worker runs the tests of a file, which share its fixtures; each notebook stands alone"
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition('::')[0]
            return nodeid if file.endswith('test_notebooks.py') else file

    return ByFile(config, log)
