"""The benchmark of the hippocampus set, and that outputs of phantoms are never stored in place of
those of real patients"""
import importlib.util
import json
import sys

import pytest
from lessons import nbs
from run import environment

from medtut.datasets import get_data

LESSON = nbs/'07_hippocampus.ipynb'

def test_outputs_of_the_sample_are_not_stored(monkeypatch):
    for name in ('MEDTUT_SOURCE', 'MEDTUT_REAL_FILES'): monkeypatch.delenv(name, raising=False)
    assert environment(LESSON, False, 'empty')['MEDTUT_SOURCE'] == 'sample'
    assert environment(LESSON, True, 'empty')['MEDTUT_SOURCE'] == 'real'
    monkeypatch.setenv('MEDTUT_REAL_FILES', 'here')
    assert environment(LESSON, True, 'empty')['MEDTUT_SOURCE'] == 'local'
    other = environment(nbs/'06_segmentation.ipynb', True, 'empty')
    assert 'MEDTUT_WEIGHTS' not in other and other['MEDTUT_DATA'] == 'empty'
    monkeypatch.setenv('MEDTUT_SOURCE', 'sample')
    with pytest.raises(SystemExit, match='not stored'): environment(LESSON, True, 'empty')

# --- the benchmark

def test_benchmark_trains_and_judges(root, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('bench7', root/'benchmarks/hippocampus.py')
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    path = get_data('msd_hippocampus', 'sample', root=tmp_path, n=10, n_jobs=1, progress=False)
    def call(*words):
        monkeypatch.setattr(sys, 'argv', ['hippocampus.py', *map(str, words)])
        bench.main()
    packed, out = tmp_path/'cases.npz', tmp_path/'runs.jsonl'
    call('pack', path, packed)
    call('train', packed, '--steps', 1, '--size', 3, '--threads', 1, '--out', out, '--judge', packed)
    run, = [json.loads(line) for line in out.read_text().splitlines()]
    assert run['size'] == 3 and run['cases'] == run['others']
