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
    for row in found:
        # a tool that is not installed has a row without seconds
        figure = row['seconds'] if bench.is_command(row) else row['speed']
        assert figure is None and row['label'].partition(' ')[0] != 'medtut' or figure > 0
    page = json.loads(bench.result.read_text(encoding='utf-8'))
    stored = [r for r in page['rows'] + page['commands']['rows'] if r['benchmark'] == path.stem]
    # which format of its peer is the faster one depends on the machine
    assert {bench.name_of(r) for r in found} == {bench.name_of(r) for r in stored}, \
        'run `make bench`: the stored table is of another version'

def test_every_result_of_the_small_folder_is_right(tmp_path, monkeypatch):
    "The commands of medtut on files of known truth: all volumes, pictures, copies, and no name left"
    rows = tmp_path/'rows'
    path = bench.folder/'shell.py'
    monkeypatch.setattr(sys, 'argv', [str(path), '--quick', '--rows', str(rows), '--only', '^medtut'])
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path), run_name='__main__')
    found = [json.loads(line) for line in rows.read_text(encoding='utf-8').splitlines()]
    assert {r['command'] for r in found} == {'scan', 'series', 'convert', 'png', 'deidentify'}
    assert all(r['results'] == r['possible'] for r in found)
    assert [r['names'] for r in found if r['command'] == 'deidentify'] == [[0, 0]]

def command(**more):
    plain = dict(folder='f', command='png', label='medtut png', tool='medtut 1', jobs=2, seconds=2.,
                 cpu=3., memory=4e6, status=0, results=5, possible=6, lost=1, names=None)
    return plain | more

def test_a_tool_that_is_not_there_or_crashed_is_said():
    rows = [command(), command(label='other', seconds=None, jobs=None), command(status=-11),
            command(names=[1, 2])]
    found = dict(rows=rows, date='2000-01-01', machine='2 cores', quick=False, busy=True)
    page = bench.command_tables(found)
    assert '| f | medtut png, 2 processes | 3.0 | 2.0 | 4 | 5 of 6 | 1 | 0 |' in page
    assert '| f | other | not installed |' in page and '-11 (crashed)' in page
    assert 'name left in 1 files and 2 paths' in page and 'Other work ran' in page

def row(**more): return dict(what='w', medtut='m', peer='p', speed=2., memory=None, least_speed=None, least_memory=None) | more

def page(*rows): return bench.table(dict(rows=rows, date='2000-01-01', machine='2 cores', versions=dict(numpy='2'), quick=False))

def test_a_figure_below_its_floor_is_shown():
    assert '| **2**, below the floor of 5 |' in page(row(least_speed=5)) and '1 of 1 rows' in page(row(least_speed=5))
    assert '| 2 (floor 2) |' in page(row(least_speed=2)) and 'No row' in page(row(least_speed=2))

def test_a_figure_that_is_missing_holds_no_floor(): assert bench.missed(row(least_memory=2)) == ['memory']

def test_a_benchmark_that_fails_writes_no_table(tmp_path):
    (tmp_path/'broken.py').write_text('raise SystemExit(3)')
    with pytest.raises(SystemExit, match='broken.py failed'): bench.run(tmp_path/'broken.py')
