import os
from pathlib import Path

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')  # no test opens a window
# one core for each worker: more threads would wait for each other
if 'PYTEST_XDIST_WORKER' in os.environ:
    for variable in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        os.environ.setdefault(variable, '1')


@pytest.fixture(scope='session')
def root(): return Path(__file__).parent.parent


def work_group(item):
    "Tests that one worker runs together: those of a file; each notebook stands alone"
    if item.path.stem == 'test_notebooks': return item.name
    return item.path.stem


def pytest_collection_modifyitems(items):
    "The notebooks come first: a long one at the end would leave the other workers idle"
    items.sort(key=lambda item: item.path.stem != 'test_notebooks')
    for item in items: item.add_marker(pytest.mark.xdist_group(work_group(item)))
