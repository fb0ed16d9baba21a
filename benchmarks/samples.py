"""Seconds and megabytes of each sample set at its default size: `python benchmarks/samples.py`

The goal is 60 s or less a set on two cores. As a peer that does no drawing, the same bytes are written to the same disk."""
import os, tempfile, time
from pathlib import Path

from medtut.datasets import SETS, get_data

def files(folder): return [p for p in folder.rglob('*') if p.is_file()]

def write_again(folder, target):
    "The same files with bytes of no meaning: the floor that the disk sets"
    for p in files(folder):
        copy = target/p.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(os.urandom(p.stat().st_size))

if __name__ == '__main__':
    print(f'{os.cpu_count()} cores')
    for name in SETS:
        with tempfile.TemporaryDirectory() as root:
            start = time.perf_counter()
            folder = get_data(name, 'sample', root=root, n_jobs=2, progress=False)
            made = time.perf_counter()
            get_data(name, 'sample', root=root, progress=False)
            found = time.perf_counter()
            write_again(folder, Path(root)/'again')
            floor = time.perf_counter() - found
            size = sum(p.stat().st_size for p in files(folder))/1e6
            print(f'{name:12} {made - start:6.1f} s made, {found - made:6.3f} s found again, {size:7.1f} MB in {len(files(folder))} files, '
                  f'{(made - start)/floor:6.0f} times as long as writing as many bytes')
