"`tools/run.py`: which notebook starts when, with how many threads, and what is said of it"
import threading

import machine
import pytest
import run
from lessons import all_lessons

PATHS = [lesson.path for lesson in all_lessons()]


@pytest.fixture
def started(monkeypatch):
    "Paths and threads of the notebooks in the order of their start; none is really run"
    calls = []
    def pretend(path, save=False, threads=None):
        calls.append((path, threads))
        return 1., 'broken' if path == PATHS[1] else ''
    monkeypatch.setattr(run, 'run', pretend)
    return calls


def test_longest_starts_first(started, monkeypatch):
    monkeypatch.setattr(run, 'n_at_once', lambda n: 1)
    monkeypatch.setattr(run, 'n_cores', lambda: 1)
    done = list(run.run_all(PATHS, save=False))
    minutes = [run.said_minutes(path) for path, _ in started]
    assert minutes == sorted(minutes, reverse=True)
    assert {path for path, _, _ in done} == set(PATHS)
    assert [path for path, _, error in done if error] == [PATHS[1]]


def test_stored_ones_run_alone_in_their_order(started):
    assert [path for path, _, _ in run.run_all(PATHS, save=True)] == PATHS
    assert started == [(path, None) for path in PATHS]


def test_two_at_once_share_the_cores(monkeypatch):
    "Each waits for the other: if they ran one after the other, the barrier would break"
    both, threads_of = threading.Barrier(2, timeout=20), []
    def meet(path, save=False, threads=None):
        both.wait()
        threads_of.append(threads)
        return 1., ''
    monkeypatch.setattr(run, 'run', meet)
    monkeypatch.setattr(run, 'n_cores', lambda: 4)
    monkeypatch.setattr(run, 'n_at_once', lambda n: 2)
    assert len(list(run.run_all(PATHS[:2], save=False))) == 2
    assert threads_of == [2, 2]


@pytest.fixture
def machine_of(monkeypatch):
    "Makes the machine one of so much memory and so many cores"
    def change(gib, cores):
        sizes = {'SC_PHYS_PAGES': gib*2**18, 'SC_PAGE_SIZE': 4096}
        monkeypatch.setattr(machine.os, 'sysconf', sizes.get)
        monkeypatch.setattr(machine, 'n_cores', lambda: cores)
        monkeypatch.setattr(run, 'n_cores', lambda: cores)
    return change


@pytest.mark.parametrize('gib, cores, expected', [(5, 8, 1), (16, 8, 4), (64, 2, 2), (1, 1, 1)])
def test_memory_and_cores_limit_how_many(machine_of, gib, cores, expected):
    machine_of(gib, cores)
    assert run.n_at_once(len(PATHS)) == expected


@pytest.mark.parametrize('gib, cores, expected', [(23, 2, 2), (16, 8, 2), (64, 2, 2), (4, 8, 1)])
def test_workers_of_the_tests(machine_of, gib, cores, expected):
    machine_of(gib, cores)
    assert machine.n_test_workers() == expected


def test_threads_of_the_user_win(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    env = run.environment(PATHS[1], save=False, empty='', threads=1)
    assert env['OMP_NUM_THREADS'] == '7'
    assert env['LOKY_MAX_CPU_COUNT'] == '1'
