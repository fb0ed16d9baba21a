"Every benchmark runs, on a small input, and the page shows what was found"
import json
import runpy
import sys
from functools import cache

import bench
import pytest


@pytest.fixture(scope='module')
def run_benchmark(tmp_path_factory):
    "Runs a benchmark on its small input, once; the rows that it hands over"
    @cache
    def run(path):
        rows = tmp_path_factory.mktemp('rows')/path.stem
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [str(path), '--quick', '--rows', str(rows)])
            patch.syspath_prepend(path.parent)
            runpy.run_path(str(path), run_name='__main__')
        return [json.loads(line) for line in rows.read_text(encoding='utf-8').splitlines()]
    return run

def stored_rows(name):
    "What the page holds of a benchmark"
    page = json.loads(bench.result.read_text(encoding='utf-8'))
    rows = page['rows'] + page['commands']['rows']
    return [row for row in rows if row['benchmark'] == name]

def has_a_figure(row):
    "A tool that is not installed has a row without seconds; medtut is"
    figure = row['seconds'] if bench.is_command(row) else row['speed']
    if figure is None:
        return not row['label'].startswith('medtut ')
    return figure > 0

@pytest.mark.parametrize('path', bench.benchmarks(), ids=lambda p: p.stem)
def test_runs(path, run_benchmark):
    rows = run_benchmark(path)
    assert rows
    assert all(map(has_a_figure, rows))
    # which format of its peer is the faster one depends on the machine
    names, stored = [set(map(bench.name_of, r)) for r in (rows, stored_rows(path.stem))]
    assert names == stored, 'run `make bench`: the stored table is of another version'

@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_memory_runs(monkeypatch, capfd):
    path = bench.folder/'memory.py'
    assert path not in bench.benchmarks(), 'it compares with no other library'
    monkeypatch.setattr(sys, 'argv', [str(path), '--files', '20', '40'])
    monkeypatch.syspath_prepend(path.parent)
    memory = runpy.run_path(str(path))
    # its processes import what they run by name
    monkeypatch.setitem(memory['main'].__globals__, 'alone', lambda f, *args: f(*args))
    monkeypatch.setitem(memory['main'].__globals__, 'size_alone', lambda table: 0)
    memory['main']()
    said = capfd.readouterr().out
    for name in 'scan', 'export_slices':
        assert f'{name:13} grows by' in said

@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_pacs_runs(run_benchmark):
    "And the page shows what this version of it measures"
    path = bench.folder/'pacs.py'
    rows = run_benchmark(path)
    kept = bench.nbs/'toolbox/pacs_figures.jsonl'
    stored = [json.loads(line) for line in kept.read_text(encoding='utf-8').splitlines()]
    def ways(rows): return {row['way']: row['lines'] for row in rows if row['part'] == 'way'}
    assert ways(rows) == ways(stored), 'run `python benchmarks/pacs.py --store`'
    assert {row['way'] for row in rows if row['part'] == 'memory'} == {'medtut, DICOMweb'}

def test_every_result_of_the_small_folder_is_right(run_benchmark):
    """The commands of medtut on files of known truth: all volumes, pictures, copies, and no name
    left"""
    all_rows = run_benchmark(bench.folder/'shell.py')
    rows = [row for row in all_rows if row['label'].startswith('medtut ')]
    assert {r['command'] for r in rows} == {'scan', 'series', 'convert', 'png', 'deidentify'}
    assert all(r['results'] == r['possible'] for r in rows)
    assert [r['names'] for r in rows if r['command'] == 'deidentify'] == [[0, 0]]

# --- the page

def command(**more):
    plain = dict(folder='f', command='png', label='medtut png', tool='medtut 1', jobs=2, seconds=2.,
                 cpu=3., memory=4e6, status=0, results=5, possible=6, lost=1, names=None)
    return plain | more

def test_a_tool_that_is_not_there_or_crashed_is_said():
    rows = [command(), command(label='other', seconds=None, jobs=None), command(status=-11),
            command(names=[1, 2])]
    found = dict(rows=rows, date='2000-01-01', machine='2 cores', quick=False, busy=True)
    page = bench.command_tables(found)
    assert '| f | `medtut png`, 2 processes | 3.0 | 2.0 | 4 | 5 of 6 | 1 | 0 |' in page
    assert '| f | other | not installed |' in page
    assert '-11 (crashed)' in page
    assert 'name left in 1 files and 2 paths' in page
    assert 'Other work ran' in page

def row(**more):
    plain = dict(what='w', medtut='m', peer='p', speed=2., memory=None, least_speed=None,
                 least_memory=None)
    return plain | more

def page(*rows):
    versions = dict(numpy='2')
    return bench.table(dict(rows=rows, date='2000-01-01', machine='2 cores', versions=versions,
                            quick=False))

def test_a_figure_below_its_floor_is_shown():
    below, above = page(row(least_speed=5)), page(row(least_speed=2))
    assert '| **2**, below the floor of 5 |' in below
    assert '1 of 1 rows' in below
    assert '| 2 (floor 2) |' in above
    assert 'No row' in above

def test_a_figure_that_is_missing_holds_no_floor():
    assert bench.missed(row(least_memory=2)) == ['memory']

def test_a_benchmark_that_fails_writes_no_table(tmp_path):
    (tmp_path/'broken.py').write_text('raise SystemExit(3)')
    with pytest.raises(SystemExit, match='broken.py failed'):
        bench.run(tmp_path/'broken.py')
