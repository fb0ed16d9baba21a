"What the site says of data sets, from their records: licences and calls, samples, gigabytes"
import inspect
import re
from importlib import import_module
from typing import NamedTuple

from signatures import comments
from work import span, table_row

from medtut.archives import SETS

# the calls for sets of which one may take a part
CALLS = dict(
    msd_hippocampus=["get_data('msd_hippocampus', 'real')"],
    msd_brain=["get_data('msd_brain', 'real')", "get_data('msd_brain', 'real', cases=80)"],
    duke_breast=["get_data('duke_breast', 'real')",
                 "get_data('duke_breast', 'real', patients=922)"])

def linked(citation):
    "A citation with links on its DOI and arXiv number"
    citation = re.sub(r'arXiv:([\d.]+\d)', r'[arXiv:\1](https://arxiv.org/abs/\1)', citation)
    return re.sub(r'doi:(10\.[^\s;]+)', r'[doi:\1](https://doi.org/\1)', citation)

def writer(record):
    "The function that writes the set's sample"
    module, name = record.writer.split(':')
    return getattr(import_module(module), name)

def fetched(record):
    "What is downloaded, in words"
    parts = [f'{name} ({remote.size:,} bytes)' if remote.size else name
             for name, remote in record.files.items()]
    if record.archive:
        parts.append(f'`{record.archive}` in an archive of its own client')
    return ', '.join(parts)

def data_sets():
    "What the records say of each real set"
    for record in SETS.values():
        calls = CALLS.get(record.name, [f"get_data('{record.name}', 'real')"])
        yield f"""### {record.name}

{record.what}.

| | |
|-|-|
| cases | {record.members} |
| size | {record.size} |
| disk needed while it is fetched | {record.need:g} GB for all of it |
| licence | {record.licence}; [terms]({record.page}) |
| cite | {linked(record.citation)} |
| get it | {' or '.join(f'`{call}`' for call in calls)} |
| your own copy | `get_data('{record.name}', 'local', root=folder)`, checked |
| fetched | {fetched(record)} |
| sample | `get_data('{record.name}', 'sample')` |
"""

NOT_OF_THE_SAMPLE = 'folder', 'n_jobs', 'progress' # parameters of every writer
SEED = 'of the random numbers; the same seed gives the same set'

def samples():
    "What shapes each sample: its writer's parameters"
    for record in SETS.values():
        write = writer(record)
        yield f'\n### A sample of {record.name}\n'
        yield f'Written by `{write.__module__}.{write.__name__}`.\n'
        yield '| parameter | default | what it is |\n|-|-|-|'
        said = comments(write)
        for name, p in inspect.signature(write).parameters.items():
            if name in NOT_OF_THE_SAMPLE: continue
            yield table_row(f'`{name}`', f'`{p.default}`', said[name] or SEED)

class RealRun(NamedTuple):
    lesson: int
    name: str
    call: str
    count: int|None = None # members that are fetched; None: all

REAL_RUNS = [
    RealRun(2, 'duke_breast', "get_data('duke_breast', 'real')", 100),
    RealRun(3, 'siim_small', "get_data('siim_small', 'real')"),
    RealRun(4, 'siim_small', "get_data('siim_small', 'real')"),
    RealRun(5, 'brats2020', "get_data('brats2020', 'real')"),
    RealRun(6, 'msd_brain', "get_data('msd_brain', 'real', cases=80)", 80),
    RealRun(7, 'msd_hippocampus', "get_data('msd_hippocampus', 'real')")]

MB_PER_SECOND = 12.5 # 100 Mbit/s

def gigabytes():
    "Disk that the real sets of the lessons need, and how long they take to come"
    yield f'| lesson | call | disk, GB | to fetch as much, at {MB_PER_SECOND} MB/s |\n|-|-|-|-|'
    for run in REAL_RUNS:
        record = SETS[run.name]
        gb, worked_out = record.need, ''
        if run.count:
            gb = record.need*run.count/record.members
            worked_out = f'{record.need:g} x {run.count}/{record.members} = '
        time = span(gb*1e3/MB_PER_SECOND/3600)
        yield table_row(f'{run.lesson}', f'`{run.call}`', f'{worked_out}{gb:.2g}', time)
