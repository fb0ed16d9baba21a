"""Seconds and megabytes of each sample set at its default size: `python benchmarks/samples.py`

The goal is 60 s or less a set on two cores. As a peer that does no drawing, the same bytes are
written to the same disk."""
import argparse
import os
import tempfile
import time
from pathlib import Path

from _rows import hand_over, options

from medtut.datasets import SETS, get_data

GOAL = 60 # seconds, for the default size
SMALL = dict(
    siim_small=dict(n=12, size=64), duke_breast=dict(n=3, matrix=64, slices=24),
    brats2020=dict(n=4, spacing=6.), msd_brain=dict(n=4, spacing=6.), msd_hippocampus=dict(n=6))

def files(folder):
    return [p for p in folder.rglob('*') if p.is_file()]

def write_again(folder, target):
    "The same files with bytes of no meaning: the floor that the disk sets"
    for p in files(folder):
        copy = target/p.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(os.urandom(p.stat().st_size))

def seconds(f, *args, **kwargs):
    start = time.perf_counter()
    result = f(*args, **kwargs)
    return time.perf_counter() - start, result

def measure(name, size, args):
    "Make one set, find it again, and write as many bytes"
    with tempfile.TemporaryDirectory() as root:
        made, folder = seconds(
            get_data, name, 'sample', root=root, n_jobs=2, progress=False, **size)
        again, _ = seconds(get_data, name, 'sample', root=root, progress=False, **size)
        floor, _ = seconds(write_again, folder, Path(root)/'again')
        sizes = [p.stat().st_size for p in files(folder)]
    mb = sum(sizes)/1e6
    print(f'{name:12} {made:6.1f} s made, {again:6.3f} s found again, '
          f'{mb:7.1f} MB in {len(sizes)} files, '
          f'{made/floor:6.0f} times as long as writing as many bytes')
    hand_over(args, f'Making the sample set {name}, {mb:.0f} MB', 'get_data, two processes',
        f'the goal of {GOAL} s', GOAL/made, least_speed=1)

if __name__ == '__main__':
    args = options(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    for name in SETS:
        measure(name, SMALL[name] if args.quick else {}, args)
