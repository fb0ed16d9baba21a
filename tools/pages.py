"What the site's pages take from elsewhere: definitions from the lessons, the data sets' records, the work that training takes. `python tools/pages.py` measures a rate"
import re, time
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from fastcore.docments import docments
from fastcore.nbio import read_nb

from lessons import all_lessons, nbs
from medtut.archives import SETS

# Glossary: `glossary.md` lists terms, each with the cell that explains it. The explanation stands there alone.

@dataclass
class Entry:
    term: str      # as the glossary lists it
    path: Path     # the notebook that explains it, relative to the notebooks' folder
    cell: str      # id of the cell
    written: str   # the term as it stands there
    sentences: int # how many make up the explanation
    before: int    # how many of them stand before the one that holds the term

    @property
    def target(self): return 'term-' + re.sub(r'\W+', '-', self.term.lower()).strip('-')

ENTRY = re.compile(r'^- \[(?P<term>[^\]]+)\]\((?P<path>[\w/]+\.ipynb)#(?P<cell>[\w-]+)(?: "(?P<written>[^"]+)")?\)(?:, (?P<n>\d) sentences(?: from (?P<before>\d) before)?)?$', re.M)

def glossary():
    "The entries that `glossary.md` lists"
    text = (nbs/'glossary.md').read_text(encoding='utf-8')
    return [Entry(m['term'], Path(m['path']), m['cell'], m['written'] or m['term'], int(m['n'] or 1), int(m['before'] or 0)) for m in ENTRY.finditer(text)]

@lru_cache
def markdown_cells(path): return {c.id: c.source for c in read_nb(nbs/path).cells if c.cell_type == 'markdown'}

def place(entry, text):
    "Where `text` explains the term: in bold or italics, or in front of a table's row. `(start, end)`"
    word = re.escape(entry.written)
    found = re.search(rf'(?<![*\w])(\*\*?){word}[.,]?\1(?![*\w])|(?<=^\| ){word}(?= \|)', text, re.M | re.I)
    if not found: raise ValueError(f'glossary: {entry.term}: cell {entry.cell} of {entry.path} has no "{entry.written}" in bold, in italics or in front of a table\'s row')
    return found.span()

def sentences(text):
    "`text` cut behind full stops; not behind those of `et al.` and of initials"
    return re.split(r'(?:(?<=[.!?])|(?<=[.!?][)*])|(?<=[.!?][*][*]))(?<!al\.)(?<![A-Z]\.)\s+(?=[A-Z*`"(\[])', text)

def explanation(entry):
    "Markdown of the sentences, or of the table's row, that explain the term"
    cells = markdown_cells(entry.path)
    if entry.cell not in cells: raise ValueError(f'glossary: {entry.term}: {entry.path} has no markdown cell {entry.cell}')
    text = cells[entry.cell]
    start, end = place(entry, text)
    line = text.rfind('\n', 0, start) + 1
    if text[line:start] == '| ':
        header = re.findall(r'^\|(.+)\|\n\|[-| :]+\|$', text[:start], re.M)[-1].split('|')
        row = text[start:].partition('\n')[0].rstrip(' |').split('|')
        said = '; '.join(f'{h.strip()}: {c.strip()}' for h, c in zip(header[1:], row[1:]) if c.strip())
    else:
        first = max(text.rfind(mark, 0, start) + len(mark) if mark in text[:start] else 0 for mark in ('\n\n', '\n- '))
        last = min(i for mark in ('\n\n', '\n- ', '\n|') if (i := text.find(mark, end)) >= 0 or mark == '\n\n' and (i := len(text)))
        begin = len(sentences(text[first:end])) - 1 - entry.before
        said = ' '.join(sentences(text[first:last])[begin:begin + entry.sentences])
    # links are relative to the notebook
    said = re.sub(r'\[([^\]]+)\]\((?!https?:)[^)]*\)', r'\1', ' '.join(said.split())).rstrip(':')
    return said if said[-1] in '.?!)' else f'{said}.'

def with_targets(path, cell_id, text):
    "A cell's markdown with a link's target on each term that the glossary takes from it"
    for e in glossary():
        if (e.path, e.cell) != (path, cell_id): continue
        start, end = place(e, text)
        text = f'{text[:start]}[{text[start:end]}]{{#{e.target}}}{text[end:]}'
    return text

def short_title(path): return re.match(r'# (Lesson \d+|.+)', next(iter(markdown_cells(path).values())))[1]

def glossary_list():
    "The glossary's entries in alphabetical order, each with its explanation and a link to where it stands"
    for e in sorted(glossary(), key=lambda e: e.term.lower()):
        yield f'{e.term}\n: {explanation(e)} [{short_title(e.path)}](#{e.target})\n'

# Data sets: from their records

CALLS = dict(msd_brain=["get_data('msd_brain', 'real')", "get_data('msd_brain', 'real', cases=80)"], duke_breast=["get_data('duke_breast', 'real')", "get_data('duke_breast', 'real', patients=922)"])

def dois(text): return re.sub(r'doi:(10\.[^\s;]+)', r'[doi:\1](https://doi.org/\1)', re.sub(r'arXiv:([\d.]+\d)', r'[arXiv:\1](https://arxiv.org/abs/\1)', text))

def writer(ds):
    module, name = ds.writer.split(':')
    return getattr(import_module(module), name)

def data_sets():
    "What the records say of each real set"
    for s in SETS.values():
        fetched = [f'{name} ({r.size:,} bytes)' if r.size else name for name, r in s.files.items()] + [f'`{s.archive}` in an archive of its own client']*bool(s.archive)
        calls = ' or '.join(f'`{c}`' for c in CALLS.get(s.name, [f"get_data('{s.name}', 'real')"]))
        yield f"""### {s.name}

{s.what}.

| | |
|-|-|
| cases | {s.members} |
| size | {s.size} |
| disk needed while it is fetched | {s.need:g} GB for all of it |
| licence | {s.licence}; [terms]({s.page}) |
| cite | {dois(s.citation)} |
| get it | {calls} |
| your own copy | `get_data('{s.name}', 'local', root=folder)`, checked |
| fetched | {', '.join(fetched)} |
| sample | `get_data('{s.name}', 'sample')` |
"""

def samples():
    "What shapes each sample: its writer's parameters"
    for s in SETS.values():
        write = writer(s)
        yield f'\n### A sample of {s.name}\n\nWritten by `{write.__module__}.{write.__name__}`.\n\n| parameter | default | what it is |\n|-|-|-|'
        for name, d in docments(write, full=True, returns=False).items():
            if name not in ('folder', 'n_jobs', 'progress'): yield f'| `{name}` | `{d.default}` | {d.docment or "of the random numbers; the same seed gives the same set"} |'

# From sample to real: work is counted, hours are worked out from it

@dataclass
class Gpu:
    name: str
    peak: float  # TFLOP/s, single precision as PyTorch uses it: plain on a T4, TF32 on an A100
    share: float # of the peak that is assumed to be reached

GPUS = Gpu('T4', 8.1, .25), Gpu('A100', 156, .1)

def _networks():
    "The networks of the real runs, with the shape of one input"
    from fastai.layers import Mish
    from fastai.vision.models.xresnet import xresnet50
    from torchvision.models import resnet18
    from medtut.chest import small_xresnet
    from medtut.grading import adapt_resnet
    from medtut.unet import UNet3D
    return {
        'ResNet18, 224 x 224': (lambda: adapt_resnet(resnet18(), 1, keep=False), (1, 224, 224)),
        'small_xresnet, 128 x 128': (small_xresnet, (1, 128, 128)),
        'xresnet50, 256 x 256': (lambda: xresnet50(n_out=2, act_cls=Mish, sa=True, c_in=1), (1, 256, 256)),
        'ResNet18, four channels, 120 x 120': (lambda: adapt_resnet(resnet18(), keep=False), (4, 120, 120)),
        'UNet3D of the lesson, 48 x 48 x 48': (lambda: UNet3D(filters=(8, 8, 16, 32, 64)), (4, 48, 48, 48)),
        'UNet3D(filters=32, depth=5), 128 x 128 x 128': (lambda: UNet3D(filters=32, depth=5), (4, 128, 128, 128))}

# lesson, what is trained, its network, inputs that pass forward and backward: the text is shown and worked out
RUNS = [
    (2, 'one split by slice, one by patient: slices, training part, epochs, splits', 'ResNet18, 224 x 224', '5200*.6*8*2'),
    (2, 'cross-validation: slices, training part of four folds, epochs, folds, kinds of boxes and splits', 'ResNet18, 224 x 224', '5200*.8*5/6*12*5*4'),
    (3, 'the 250 films: films, training part, epochs', 'small_xresnet, 128 x 128', '250*.65*18'),
    (3, 'the full challenge instead (fetched by hand): films, training part, epochs', 'xresnet50, 256 x 256', '12047*.65*18'),
    (4, 'the two models, on phantoms as in the lesson: films times epochs of each', 'small_xresnet, 128 x 128', '450*12 + 230*16'),
    (5, '`every=3`, `crop=120`: patients, training part, slices of each (assumed), epochs', 'ResNet18, four channels, 120 x 120', '369*.6*20*12'),
    (6, 'at 3 mm, as in the lesson: patches of an epoch, epochs', 'UNet3D of the lesson, 48 x 48 x 48', '112*{epochs}'),
    (6, 'at 1 mm: steps, patches of a step', 'UNet3D(filters=32, depth=5), 128 x 128 x 128', '5000*2')]

def epochs(lesson):
    "How many epochs the lesson trains, read from its cells"
    path = next(l.path for l in all_lessons() if l.number == lesson)
    code = '\n'.join(c.source for c in read_nb(path).cells if c.cell_type == 'code')
    return re.search(r'(?:^epochs = |fit_one_cycle\()(\d+)', code, re.M)[1]

@lru_cache
def gflop(network):
    "Billions of multiplications and additions for one input forward and backward, counted on tensors that hold no numbers"
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    make, shape = _networks()[network]
    model, x = make().to('meta'), torch.empty(1, *shape, device='meta')
    with FlopCounterMode(display=False) as counter: model(x).sum().backward()
    return counter.get_total_flops()/1e9

def span(hours): return 'under a minute' if hours < 1/60 else f'{60*hours:.0f} min' if hours < 1 else f'{hours:.1f} h'

def hours():
    "The table of work and of hours"
    yield '| lesson | inputs trained on | GFLOP each | PFLOP in all | ' + ' | '.join(g.name for g in GPUS) + ' |\n|' + '-|'*(4 + len(GPUS))
    for lesson, what, network, inputs in RUNS:
        inputs = inputs.replace('{epochs}', epochs(lesson) if '{epochs}' in inputs else '')
        n = eval(inputs)
        total = n*gflop(network)/1e6
        shown = inputs.replace('*', ' x ')
        yield f'| {lesson} | {what}: {shown} = {n:,.0f} ({network}) | {gflop(network):,.1f} | {total:.2g} | ' + ' | '.join(span(total*1e3/(g.peak*g.share)/3600) for g in GPUS) + ' |'

# GFLOP/s, by `python tools/pages.py` on two cores that other programs shared, November 2026
MEASURED = {'ResNet18, 224 x 224': 76, 'UNet3D of the lesson, 48 x 48 x 48': 16}

def measured(): return ' and '.join(f'{network} at {rate} GFLOP/s' for network, rate in MEASURED.items()) + ' on two CPU cores that other programs shared'

def assumed(): return '; '.join(f'{g.name}: {g.share:.0%} of {g.peak:g} TFLOP/s = {g.peak*g.share:.3g} TFLOP/s' for g in GPUS)

def gigabytes():
    "Disk that the real sets of the lessons need, and how long they take to come at 100 Mbit/s"
    wanted = [(2, 'duke_breast', 100, "get_data('duke_breast', 'real')"), (3, 'siim_small', None, "get_data('siim_small', 'real')"),
        (4, 'siim_small', None, "get_data('siim_small', 'real')"), (5, 'brats2020', None, "get_data('brats2020', 'real')"), (6, 'msd_brain', 80, "get_data('msd_brain', 'real', cases=80)")]
    yield '| lesson | call | disk, GB | to fetch, at 12.5 MB/s |\n|-|-|-|-|'
    for lesson, name, count, call in wanted:
        s = SETS[name]
        gb = s.need*(count or s.members)/s.members
        part = f'{s.need:g} x {count}/{s.members} = ' if count else ''
        yield f'| {lesson} | `{call}` | {part}{gb:.2g} | {span(gb*1e3/12.5/3600)} |'

def on_the_sample():
    "Minutes that the lessons took on the sample"
    return ', '.join(f'[lesson {l.number}]({l.path.name}) {l.time}' for l in all_lessons() if l.time)

# Pages: `<!-- name -->` in a page's Markdown stands for what a function here makes

PARTS = {'data sets': data_sets, 'samples': samples, 'hours': hours, 'assumed': assumed, 'measured': measured, 'gigabytes': gigabytes, 'minutes on the sample': on_the_sample}

def filled_page(text):
    "A page's Markdown with its placeholders filled in"
    if ENTRY.search(text): text = ENTRY.sub('', text).rstrip() + '\n\n' + '\n'.join(glossary_list())
    def made(m):
        part = PARTS[m[1]]()
        return part if isinstance(part, str) else '\n'.join(part)
    return re.sub(r'<!-- ([\w ]+) -->', made, text)

def rate(network, batch=4, seconds=5):
    "GFLOP/s that one training step after another reaches on this machine's processor"
    import torch
    make, shape = _networks()[network]
    model, x, taken = make().train(), torch.randn(batch, *shape), []
    while sum(taken) < seconds or len(taken) < 3:
        start = time.perf_counter()
        model(x).square().mean().backward()
        taken.append(time.perf_counter() - start)
    return batch*gflop(network)/min(taken)

if __name__ == '__main__':
    for network in 'ResNet18, 224 x 224', 'UNet3D of the lesson, 48 x 48 x 48': print(f'{network}: {rate(network):.0f} GFLOP/s')
