"Every notebook runs from its first cell to its last, in the way of `nbdev-test`"
import json
import shutil
from pathlib import Path

import pytest
from lessons import config, nbs, notebooks
from nbdev.test import test_nb as run_notebook


@pytest.mark.parametrize('path', notebooks(), ids=lambda path: str(path.relative_to(nbs)))
def test_runs(path):
    passed, _ = run_notebook(
        path, skip_flags=config.tst_flags.split(), basepath=config.config_path,
        cell_timeout=config.cell_timeout)
    assert passed, 'the cell and its error stand in the captured output'

@pytest.mark.minutes
def test_lesson_8_runs_without_its_weights(tmp_path):
    "As in Colab, where a notebook comes alone: it says in a line what is missing, and what to do"
    path = Path(shutil.copy(nbs/'08_archive.ipynb', tmp_path))
    passed, _ = run_notebook(
        path, skip_flags=config.tst_flags.split(), basepath=config.config_path, save=True,
        cell_timeout=config.cell_timeout, profile=False)
    assert passed, 'the cell and its error stand in the captured output'
    outputs = [str(cell.get('outputs')) for cell in json.loads(path.read_text())['cells']]
    said, = [text for text in outputs if 'Outlines are drawn by' in text]
    assert 'a threshold. For the network put 07_hippocampus.safetensors beside' in said
