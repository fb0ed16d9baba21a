"""Peak memory of `scan` and `export_slices` over more and more files: `python benchmarks/memory.py`

A few slices of a breast phantom stand under many names, as hard links, so that 20,000 files cost
the disk next to nothing. Every measurement is a process of its own. What counts is the growth from
the fewest files to the most, not what imports take. Both functions return a table, which has to
grow: as a floor, the table alone is sent to a fresh process. Linux only."""
import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

SOURCES = 16  # different files, of which the others are further names
SERIES = 100  # slices a series

def make_files(folder, n):
    "`n` slices in series, and the table that `export_slices` takes"
    from medtut.phantoms.breast import write_duke_breast
    phantom, many = folder/'phantom', folder/'many'
    write_duke_breast(phantom, patients=1, matrix=64, slices=SOURCES, n_jobs=1, progress=False)
    sources = sorted(phantom.rglob('*.dcm'))
    rows = []
    for i in range(n):
        series, k = divmod(i, SERIES)
        patient = f'P{series:04}'
        path = many/patient/f'1-{k:03}.dcm'
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[i % len(sources)], path)
        rows.append((patient, k, f'{patient}/{path.name}', i % 2))
    return many, pd.DataFrame(rows, columns=['patient', 'slice', 'path', 'label'])

def scanned(many, table, folder, n_jobs):
    from medtut.dicom import scan
    return scan(many, n_jobs=n_jobs, progress=False)

def exported(many, table, folder, n_jobs):
    from medtut.pngs import export_slices
    done = export_slices(table, many, folder/'png', n_jobs=n_jobs, progress=False)
    if (done.status != 'written').any():
        counts = done.status.value_counts().to_dict()
        raise RuntimeError(f'not all slices were written: {counts}')
    return done

class Peak(NamedTuple):
    most: int        # bytes
    seconds: float
    table: pd.DataFrame

def measured(f, *args):
    start = time.perf_counter()
    table = f(*args)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024
    return Peak(most, time.perf_counter() - start, table)

def held():
    "Bytes that this process holds now"
    pages = Path('/proc/self/statm').read_text().split()[1]
    return int(pages)*resource.getpagesize()

COPIES = 4 # of a table, whose mean size is taken

def receive(pipe):
    """Send back the bytes that a table from `pipe` takes, once pandas has loaded what it needs for
    such tables"""
    pipe.recv()
    before = held()
    tables = [pipe.recv() for _ in range(COPIES)]
    pipe.send((held() - before)/len(tables))

def size_alone(table):
    "Bytes that a table takes in a process of its own"
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=receive, args=(theirs,))
    process.start()
    for _ in range(1 + COPIES):
        ours.send(table)
    size = ours.recv()
    process.join()
    return size

def alone(f, *args):
    "`f` in a process of its own"
    with multiprocessing.get_context('spawn').Pool(1) as process:
        return process.apply(f, args)

class Measured(NamedTuple):
    files: int
    most: int    # bytes at the peak
    table: float # bytes of the table alone

def measure(name, f, n, n_jobs):
    "One function over `n` files"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        many, table = alone(make_files, folder, n)
        peak = alone(measured, f, many, table, folder, n_jobs)
    size = size_alone(peak.table)
    print(f'{name:13} {n:6} files: {peak.most/1e6:4.0f} MB at most, of it {size/1e6:5.1f} MB '
          f'the table; {peak.seconds:.1f} s', flush=True)
    return Measured(n, peak.most, size)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, nargs='*', default=[2_000, 10_000, 20_000])
    parser.add_argument('--jobs', type=int, default=1,
                        help='processes; the memory is that of the one that collects')
    args = parser.parse_args()
    for name, f in dict(scan=scanned, export_slices=exported).items():
        rows = [measure(name, f, n, args.jobs) for n in args.files]
        first, last = rows[0], rows[-1]
        more = last.files - first.files
        if more <= 0: continue
        growth, of_table = last.most - first.most, last.table - first.table
        print(f'{name:13} grows by {growth/more/1e3:.2f} kB a file, '
              f'the table alone by {of_table/more/1e3:.2f} kB')

if __name__ == '__main__': main()
