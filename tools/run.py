"""Run the lessons, each in a fresh process: `python tools/run.py`,
or some notebooks: `python tools/run.py nbs/04_cam.ipynb`

With `--save`, run all notebooks (or those named), store their outputs, and note in each lesson how
many minutes it took on two CPU cores. Each then begins with an empty data folder: what is stored
does not depend on what earlier runs made, and the minutes are those of somebody who opens this
lesson first.

Lesson 7 is on real patients. Run without `--save` it takes the sample (or what `MEDTUT_SOURCE`
says); with it, the real set, downloaded or a copy named by `MEDTUT_REAL_FILES`, and its weights
are stored beside it. A sample's outputs are never stored."""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastcore.nbio import read_nb, write_nb
from lessons import all_lessons, config, nbs, notebooks

REAL = {'07_hippocampus.ipynb'} # what is stored of them is of real patients

def environment(path, save, empty):
    "The variables that a notebook runs with; `empty` is a folder for data"
    env = dict(os.environ)
    if save: env['MEDTUT_DATA'] = empty
    if path.name not in REAL: return env
    if not save: return dict(MEDTUT_SOURCE='sample') | env
    if env.get('MEDTUT_SOURCE') == 'sample':
        sys.exit(f'{path.name}: outputs of the sample are not stored; unset MEDTUT_SOURCE')
    source = 'local' if 'MEDTUT_REAL_FILES' in env else 'real'
    return env | dict(MEDTUT_SOURCE=source, MEDTUT_WEIGHTS=str(path.parent))

def run(path, save=False):
    """Run the notebook at `path` as `nbdev-test` does; the seconds it took, and what went wrong if
    anything did"""
    start = time.perf_counter()
    command = [Path(sys.executable).with_name('nbdev-test'), path]
    if save: command.append('--save')
    with tempfile.TemporaryDirectory() as empty:
        env = environment(path, save, empty)
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

def time_left(paths):
    """How long these notebooks take, in words: the sum of the minutes that lessons say of
    themselves, '' where none says any"""
    of_lesson = {lesson.path: lesson.minutes or 0 for lesson in all_lessons()}
    minutes = sum(of_lesson.get(path, 0) for path in paths)
    return f' (all that is left: about {max(round(minutes), 1)} min)' if minutes else ''

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='notebook')
    parser.add_argument('--save', action='store_true',
                        help='store outputs and times; without names: of all notebooks')
    args = parser.parse_args()
    timed = args.save and on_two_cores()
    names = {l.path: f'Lesson {l.number}: {l.title}' for l in all_lessons()}
    chosen = args.paths or (notebooks() if args.save else names)
    failed = []
    for i, path in enumerate(chosen):
        name = names.get(path, str(path.relative_to(nbs)))
        print(f'{name}{time_left(chosen[i:])} ...', end=' ', flush=True)
        seconds, error = run(path, args.save)
        print(f'FAILED after {seconds:.0f} s\n{error}' if error else f'{seconds:.0f} s', flush=True)
        if error: failed.append(name)
        elif timed and path in names: note_minutes(path, seconds)
    if failed:
        sys.exit(f'Failed: {", ".join(failed)}')

if __name__ == '__main__': main()
