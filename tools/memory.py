"""Peak memory of `scan` and `export_slices` over more and more files: `python tools/memory.py`

A few slices of a breast phantom stand under many names, as hard links, so that 20,000 files cost the disk next to nothing. Every measurement is
a process of its own. What counts is the growth from the fewest files to the most, not what imports take. Both functions return a table, which
has to grow: as a floor, the table alone is sent to a fresh process. Linux only."""
import argparse, multiprocessing, os, resource, tempfile, time
from pathlib import Path

import pandas as pd

SOURCES, SERIES = 16, 100  # different files, of which the others are further names; slices a series

def make_files(folder, n):
    "`n` slices in series, and the table that `export_slices` takes"
    from medtut.phantoms.breast import write_duke_breast
    write_duke_breast(folder/'phantom', patients=1, matrix=64, slices=SOURCES, n_jobs=1, progress=False)
    sources, rows = sorted((folder/'phantom').rglob('*.dcm')), []
    for i in range(n):
        patient, k = f'P{i//SERIES:04}', i % SERIES
        path = folder/'many'/patient/f'1-{k:03}.dcm'
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[i % len(sources)], path)
        rows.append((patient, k, f'{patient}/{path.name}', i % 2))
    return folder/'many', pd.DataFrame(rows, columns=['patient', 'slice', 'path', 'label'])

def scanned(many, table, folder, n_jobs):
    from medtut.dicom import scan
    return scan(many, n_jobs=n_jobs, progress=False)

def exported(many, table, folder, n_jobs):
    from medtut.pngs import export_slices
    done = export_slices(table, many, folder/'png', n_jobs=n_jobs, progress=False)
    if (done.status != 'written').any(): raise RuntimeError(f'not all slices were written: {done.status.value_counts().to_dict()}')
    return done

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024  # bytes

def measured(f, *args):
    "Bytes at most, seconds and the table"
    start = time.perf_counter()
    table = f(*args)
    return peak(), time.perf_counter() - start, table

COPIES = 4

def receive(sent):
    "Bytes that a table from `sent` takes, once pandas has loaded what it needs for such tables"
    def now(): return int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()
    sent.recv()
    before = now()
    tables = [sent.recv() for _ in range(COPIES)]
    sent.send((now() - before)/len(tables))

def table_alone(table):
    context = multiprocessing.get_context('spawn')
    here, there = context.Pipe()
    process = context.Process(target=receive, args=(there,))
    process.start()
    for _ in range(1 + COPIES): here.send(table)
    size = here.recv()
    process.join()
    return size

def alone(f, *args):
    with multiprocessing.get_context('spawn').Pool(1) as process: return process.apply(f, args)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, nargs='*', default=[2_000, 10_000, 20_000])
    parser.add_argument('--jobs', type=int, default=1, help='processes; the memory is that of the one that collects')
    args = parser.parse_args()
    found = {}
    for n in args.files:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            many, table = alone(make_files, folder, n)
            for name, f in dict(scan=scanned, export_slices=exported).items():
                most, seconds, made = alone(measured, f, many, table, folder, args.jobs)
                size = table_alone(made)
                found.setdefault(name, []).append((n, most, size))
                print(f'{name:13} {n:6} files: {most/1e6:4.0f} MB at most, of it {size/1e6:5.1f} MB the table; {seconds:.1f} s', flush=True)
    for name, rows in found.items():
        (few, low, small), (many, high, large) = rows[0], rows[-1]
        if many > few:
            print(f'{name:13} grows by {(high - low)/(many - few)/1e3:.2f} kB a file, the table alone by {(large - small)/(many - few)/1e3:.2f} kB')
