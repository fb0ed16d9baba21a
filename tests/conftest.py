import os
from pathlib import Path

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')  # no test opens a window

@pytest.fixture(scope='session')
def root(): return Path(__file__).parent.parent
