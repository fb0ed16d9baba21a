"Every notebook runs from its first cell to its last, in the way of `nbdev-test`"
import pytest
from lessons import config, nbs, notebooks
from nbdev.test import test_nb as run_notebook


@pytest.mark.parametrize('path', notebooks(), ids=lambda path: str(path.relative_to(nbs)))
def test_runs(path):
    passed, _ = run_notebook(
        path, skip_flags=config.tst_flags.split(), basepath=config.config_path,
        cell_timeout=config.cell_timeout)
    assert passed, 'the cell and its error stand in the captured output'
