"""Peak memory of `scan` and `export_slices` for more and more files: `python benchmarks/memory.py`

A few slices of a breast phantom stand under many names, as hard links, so that 20,000 files cost the disk next to nothing. Each measurement
runs in a process of its own. `scan` returns a table, and has to hold that: beside the peak stands what the table alone takes, read back in
a fresh process. What counts is the growth from the smallest number of files to the largest, not the megabytes that imports take."""
import argparse, multiprocessing, os, resource, tempfile
from pathlib import Path

import pandas as pd

SOURCES = 16  # different files; the others are further names of them

def rss(): return int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()/1e6  # MB now, on Linux
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e3                            # MB at most so far

def make_files(folder, n, per_series=100):
    "`n` slices in series of `per_series`, and the table that `export_slices` needs"
    from medtut.phantoms.breast import write_duke_breast
    write_duke_breast(folder/'phantom', patients=1, matrix=64, slices=SOURCES, n_jobs=1, progress=False)
    sources, rows = sorted((folder/'phantom').rglob('*.dcm')), []
    for i in range(n):
        path = f'P{i//per_series:04}/1-{i % per_series:03}.dcm'
        (folder/'many'/path).parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[i % len(sources)], folder/'many'/path)
        rows.append((f'P{i//per_series:04}', i % per_series, path, i % 2))
    return folder/'many', pd.DataFrame(rows, columns=['patient', 'slice', 'path', 'label'])

def scanned(folder, table, n_jobs, kept):
    from medtut.dicom import scan
    scan(folder, n_jobs=n_jobs, progress=False).to_pickle(kept)

def exported(folder, table, n_jobs, kept):
    from medtut.slices import export_slices
    done = export_slices(table, folder, kept.parent/'png', n_jobs=n_jobs, progress=False)
    if (done.status != 'written').any(): raise RuntimeError(f'slices were not written: {done.status.value_counts().to_dict()}')
    done.to_pickle(kept)

def measured(f, *args):
    before = peak()
    f(*args)
    return before, peak()

def table_alone(kept):
    "MB that the resulting table takes, and nothing else"
    pd.DataFrame(dict(a=['x'])) # what pandas loads on first use
    before = rss()
    table = pd.read_pickle(kept)
    return rss() - before, len(table)

def in_fresh_process(f, *args):
    with multiprocessing.get_context('spawn').Pool(1) as pool: return pool.apply(f, args)

def measure(f, n, n_jobs=1):
    "MB: peak of `f` over `n` files, above what its imports and the input take, and what its table alone takes"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        many, table = in_fresh_process(make_files, folder, n)
        _, least = in_fresh_process(measured, f, many/'P0000', table.head(2).assign(path=['1-000.dcm', '1-001.dcm']), n_jobs, folder/'few'/'t.pkl')
        return least
