"""Run the lessons and capstones, each in a fresh process: `python tools/run.py`,
or some notebooks: `python tools/run.py nbs/04_cam.ipynb`

Some run at once, as many as cores and memory allow: two lessons side by side with a core each take
less time than one after the other with both.

With `--save`, run all notebooks (or those named) one by one, store their outputs, and note in each
lesson how many minutes it took on two CPU cores. Each then begins with an empty data folder: what
is stored does not depend on what earlier runs made, and the minutes are those of somebody who opens
this lesson first.

Lesson 7 is on real patients. Run without `--save` it takes the sample (or what `MEDTUT_SOURCE`
says); with it, the real set, downloaded or a copy named by `MEDTUT_REAL_FILES`, and its weights
are stored beside it. A sample's outputs are never stored."""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path

from fastcore.nbio import read_nb, write_nb
from lessons import all_lessons, config, nbs, notebooks
from machine import as_memory_allows, n_cores

REAL = {'07_hippocampus.ipynb'} # what is stored of them is of real patients

THREADS = 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'LOKY_MAX_CPU_COUNT'
GIB_OF_A_LESSON = 4 # the most that one which trains takes

def environment(path, save, empty, threads=None):
    "The variables that a notebook runs with; `empty` is a folder for data"
    env = dict(os.environ)
    if save: env['MEDTUT_DATA'] = empty
    # more threads than cores would wait for each other
    if threads: env = dict.fromkeys(THREADS, str(threads)) | env
    if path.name not in REAL: return env
    if not save: return dict(MEDTUT_SOURCE='sample') | env
    if env.get('MEDTUT_SOURCE') == 'sample':
        sys.exit(f'{path.name}: outputs of the sample are not stored; unset MEDTUT_SOURCE')
    source = 'local' if 'MEDTUT_REAL_FILES' in env else 'real'
    return env | dict(MEDTUT_SOURCE=source, MEDTUT_WEIGHTS=str(path.parent))

def run(path, save=False, threads=None):
    """Run the notebook at `path` as `nbdev-test` does; the seconds it took, and what went wrong if
    anything did"""
    start = time.perf_counter()
    command = [Path(sys.executable).with_name('nbdev-test'), path]
    if save: command.append('--save')
    with tempfile.TemporaryDirectory() as empty:
        env = environment(path, save, empty, threads)
        done = subprocess.run(command, cwd=config.config_path, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        seconds = time.perf_counter() - start
    return seconds, done.stdout if done.returncode else ''

def note_minutes(path, seconds):
    "Store the running time in the notebook's metadata"
    nb = read_nb(path)
    nb.metadata['medtut'] = dict(minutes=round(seconds/60, 1))
    write_nb(nb, path)

def on_two_cores():
    """Keep to two cores, as far as the system can; whether it did. Times are comparable only on
    the same number of cores"""
    if not hasattr(os, 'sched_setaffinity'): return False
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    return len(cores) == 2

def n_at_once(n_notebooks):
    "How many notebooks may run side by side, each with a core and with memory"
    return as_memory_allows(min(n_cores(), n_notebooks), GIB_OF_A_LESSON)

@cache
def minutes_of_lessons():
    "What lessons say of themselves, read once: they are large files"
    return {lesson.path: lesson.minutes or 0 for lesson in all_lessons()}

def said_minutes(path):
    "The minutes that a lesson says of itself; 0 for other pages"
    return minutes_of_lessons().get(path, 0)

def run_all(paths, save):
    """Run notebooks, one by one to store them, else side by side; yields path, seconds, error.

    The longest is started first: at the end it would run alone"""
    if save:
        for path in paths: yield path, *run(path, save)
        return
    at_once = n_at_once(len(paths))
    threads = max(n_cores()//at_once, 1)
    with ThreadPoolExecutor(at_once) as pool:
        in_order = sorted(paths, key=said_minutes, reverse=True)
        running = {pool.submit(run, path, threads=threads): path for path in in_order}
        for done in as_completed(running): yield running[done], *done.result()

def time_left(paths):
    """How long these notebooks take, in words: the sum of the minutes that lessons say of
    themselves, '' where none says any"""
    minutes = sum(map(said_minutes, paths))
    return f' (all that is left: about {max(round(minutes), 1)} min)' if minutes else ''

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='notebook')
    parser.add_argument('--save', action='store_true',
                        help='store outputs and times; without names: of all notebooks')
    args = parser.parse_args()
    timed = args.save and on_two_cores()
    names = {l.path: f'Lesson {l.number}: {l.title}' for l in all_lessons()}
    course = [*names, *sorted(nbs.glob('capstone*.ipynb'))]
    chosen = args.paths or (notebooks() if args.save else course)
    left, failed = list(chosen), []
    print(f'{len(left)} to run{time_left(left)}', flush=True)
    for path, seconds, error in run_all(chosen, args.save):
        name = names.get(path, str(path.relative_to(nbs)))
        left.remove(path)
        took = f'FAILED after {seconds:.0f} s\n{error}' if error else f'{seconds:.0f} s'
        print(f'{name}: {took}{time_left(left)}', flush=True)
        if error: failed.append(name)
        elif timed and path in names: note_minutes(path, seconds)
    if failed:
        sys.exit(f'Failed: {", ".join(failed)}')

if __name__ == '__main__': main()
