"""Run the lessons, each in a fresh process: `python tools/run.py`, or some notebooks: `python tools/run.py nbs/04_cam.ipynb`

With `--save`, run all notebooks (or those named), store their outputs, and note in each lesson how many minutes it took on two CPU cores. Each then begins
with an empty data folder: what is stored does not depend on what earlier runs made, and the minutes are those of somebody who opens this lesson first."""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path

from fastcore.nbio import read_nb, write_nb

from lessons import all_lessons, config, nbs, notebooks

def run(path, save=False):
    "Run the notebook at `path` as `nbdev-test` does; the seconds it took, and what went wrong if anything did"
    start = time.perf_counter()
    cmd = [Path(sys.executable).with_name('nbdev-test'), path, *(['--save'] if save else [])]
    with tempfile.TemporaryDirectory() as empty:
        env = os.environ | dict(MEDTUT_DATA=empty) if save else None
        res = subprocess.run(cmd, cwd=config.config_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds = time.perf_counter()-start
    return seconds, res.stdout if res.returncode else ''

def note_minutes(path, seconds):
    "Store the running time in the notebook's metadata"
    nb = read_nb(path)
    nb.metadata['medtut'] = dict(minutes=round(seconds/60, 1))
    write_nb(nb, path)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='notebook')
    parser.add_argument('--save', action='store_true', help='store outputs and times; without names: of all notebooks')
    args = parser.parse_args()
    save = args.save
    # times are comparable only on the same number of cores, and not every system can be held to two
    cores = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, 'sched_getaffinity') else []
    timed = save and len(cores) == 2
    if timed: os.sched_setaffinity(0, cores)

    names = {l.path: f'Lesson {l.number}: {l.title}' for l in all_lessons()}
    failed = []
    for path in args.paths or (notebooks() if save else names):
        name = names.get(path, str(path.relative_to(nbs)))
        print(f'{name} ...', end=' ', flush=True)
        seconds, error = run(path, save)
        print(f'FAILED after {seconds:.0f} s\n{error}' if error else f'{seconds:.0f} s', flush=True)
        if error: failed.append(name)
        elif timed and path in names: note_minutes(path, seconds)
    if failed: sys.exit(f'Failed: {", ".join(failed)}')
