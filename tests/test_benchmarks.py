"Every benchmark runs, on a small input, and the page shows what was found"
import json, runpy, sys

import pytest

import bench

each = pytest.mark.parametrize('path', bench.benchmarks(), ids=lambda p: p.stem)

@each
def test_runs(path, tmp_path, monkeypatch):
    rows = tmp_path/'rows'
    monkeypatch.setattr(sys, 'argv', [str(path), '--quick', '--rows', str(rows)])
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path), run_name='__main__')
    found = [json.loads(line) for line in rows.read_text(encoding='utf-8').splitlines()]
    assert found and all(r['speed'] > 0 for r in found)
    stored = {(r['medtut'], r['peer']) for r in json.loads(bench.result.read_text(encoding='utf-8'))['rows'] if r['benchmark'] == path.stem}
    # which format of its peer is the faster one depends on the machine
    assert {r['medtut'] for r in found} == {m for m,_ in stored}, 'run `make bench`: the stored table is of another version'

def row(**more): return dict(what='w', medtut='m', peer='p', speed=2., memory=None, least_speed=None, least_memory=None) | more

def page(*rows): return bench.table(dict(rows=rows, date='2000-01-01', machine='2 cores', versions=dict(numpy='2'), quick=False))

def test_a_figure_below_its_floor_is_shown():
    assert '| **2**, below the floor of 5 |' in page(row(least_speed=5)) and '1 of 1 rows' in page(row(least_speed=5))
    assert '| 2 (floor 2) |' in page(row(least_speed=2)) and 'No row' in page(row(least_speed=2))

def test_a_figure_that_is_missing_holds_no_floor(): assert bench.missed(row(least_memory=2)) == ['memory']

def test_a_benchmark_that_fails_writes_no_table(tmp_path):
    (tmp_path/'broken.py').write_text('raise SystemExit(3)')
    with pytest.raises(SystemExit, match='broken.py failed'): bench.run(tmp_path/'broken.py')
