"""Where the minutes of lesson 7 go: `python benchmarks/minutes.py`

Each part of its training beside a floor, which is what no way of doing it can do without: reading
beside unpacking the same files, turned copies beside torch's own resampling, drawing patches beside
copying as many bytes, forward and backward beside their multiplications at the speed of a large
matrix product on the same cores. Then the same step in bfloat16 and compiled, in turns with the
plain one. The crops are phantoms of the real ones' sizes and pixel types. `--store` keeps the
figures for the lesson."""
import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import hippocampus as lesson
import numpy as np
from _rows import append, options

STORED = Path(__file__).resolve().parents[1]/'nbs/07_hippocampus_speed.jsonl'
CROPS = 140 # of the lesson's training
COPIES = 2  # of each

def seconds_of(call, rounds):
    "The median of some calls, s, after one that is not timed"
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)

# --- before the steps

def read_all(table):
    from medtut.cases import load_case
    loaded = (load_case(row) for _, row in table.iterrows())
    return [(lesson.prepared(case.image).astype(np.float32), case.label) for case in loaded]

def unpack_all(table):
    for mask in map(Path, table.seg):
        image = mask.parents[1]/'imagesTr'/mask.name
        for path in image, mask: gzip.decompress(path.read_bytes())

def resample_all(cases):
    "As many voxels as the copies have, by torch: images linear, labels nearest"
    import torch
    turn = torch.eye(3, 4)[None]
    for x, y in cases:
        for volume, mode in (x, 'bilinear'), (y[None].astype(np.float32), 'nearest'):
            batch = torch.from_numpy(volume)[None]
            grid = torch.nn.functional.affine_grid(turn, batch.shape, align_corners=False)
            torch.nn.functional.grid_sample(batch, grid, mode, 'border', align_corners=False)

# --- in each step

def loader_of(cases, steps):
    from torch.utils.data import DataLoader

    from medtut.patches import PatchDataset
    patches = PatchDataset(cases, lesson.PATCH, n=lesson.BATCH*steps, seed=0)
    return DataLoader(patches, lesson.BATCH, shuffle=True)

def network():
    import torch

    from medtut.unet import UNet3D
    torch.manual_seed(0)
    model = UNet3D(1, 1 + len(lesson.CLASSES), filters=lesson.FILTERS)
    return model.to(memory_format=torch.channels_last_3d)

def loss_of(model, x, y, bfloat16=False):
    import torch

    from medtut.segmentation import dice_ce_loss
    x = x.to(memory_format=torch.channels_last_3d)
    with torch.autocast('cpu', torch.bfloat16, enabled=bfloat16):
        out = model(x)
    return dice_ce_loss(out.float(), y)

def step_seconds(model, x, y, rounds):
    "Medians of forward with the loss, backward, and the optimiser, s"
    import torch
    optimizer = torch.optim.AdamW(model.parameters(), lesson.RATE)
    times = []
    for _ in range(rounds + 1):
        marks = [time.perf_counter()]
        loss = loss_of(model, x, y)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        marks.append(time.perf_counter())
        times.append(np.diff(marks))
    return np.median(times[1:], axis=0)

def operations(model, x, y):
    "Multiplications and additions of forward and backward, by torch's own count"
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as forward: loss = loss_of(model, x, y)
    with FlopCounterMode(display=False) as backward: loss.backward()
    model.zero_grad()
    return forward.get_total_flops(), backward.get_total_flops()

def operations_a_second(rounds, size=2048):
    "Of a product of two large matrices, float32"
    import torch
    a, b = torch.rand(2, size, size)
    return 2*size**3/seconds_of(lambda: a @ b, rounds)

# --- together

def parts(table, steps, rounds):
    "Seconds of each part of the whole training, and of its floor: `[(part, seconds, floor)]`"
    cases = read_all(table)
    per_set = CROPS/len(cases)
    reading = seconds_of(lambda: read_all(table), rounds)
    unpacking = seconds_of(lambda: unpack_all(table), rounds)
    with_copies = lesson.with_copies(cases, 0)
    copying = seconds_of(lambda: lesson.with_copies(cases, 0), rounds)
    resampling = COPIES*seconds_of(lambda: resample_all(cases), rounds)
    few = min(steps, 40)
    loader = loader_of(with_copies, few)
    drawing = seconds_of(lambda: list(loader), rounds)/few
    x, y = next(iter(loader))
    plain_copy = seconds_of(lambda: (x.clone(), y.clone()), 10*rounds)
    model = network()
    forward, backward, update = step_seconds(model, x, y, rounds)
    speed = operations_a_second(rounds)
    forward_floor, backward_floor = (n/speed for n in operations(model, x, y))
    return [('reading', per_set*reading, per_set*unpacking),
            ('turned copies', per_set*copying, per_set*resampling),
            ('drawing patches', steps*drawing, steps*plain_copy),
            ('forward and loss', steps*forward, steps*forward_floor),
            ('backward', steps*backward, steps*backward_floor),
            ('optimiser', steps*update, None)]

def stepper(bfloat16=False, compiled=False):
    "A function that trains a network of its own for a step"
    import torch
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lesson.RATE)
    called = torch.compile(model) if compiled else model
    def step(x, y):
        loss_of(called, x, y, bfloat16).backward()
        optimizer.step()
        optimizer.zero_grad()
    return step

def variants(x, y, rounds, compiled):
    "Seconds of a step of each variant, taken in turns: `{variant: [seconds of each round]}`"
    steppers = {'float32': stepper(), 'bfloat16': stepper(bfloat16=True)}
    if compiled: # takes a C++ compiler
        steppers['float32, compiled'] = stepper(compiled=True)
        steppers['bfloat16, compiled'] = stepper(bfloat16=True, compiled=True)
    for step in steppers.values(): step(x, y) # compiles
    times = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, step in steppers.items():
            start = time.perf_counter()
            step(x, y)
            times[name].append(time.perf_counter() - start)
    return times

def report(args, row):
    print(json.dumps(row), flush=True)
    append(row, args.rows)
    if args.store: append(row, STORED)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--steps', type=int, default=lesson.STEPS)
    parser.add_argument('--crops', type=int, help='make as many; without it: the whole sample')
    parser.add_argument('--batch', type=int, default=lesson.BATCH, help='patches of a variant\'s step')
    parser.add_argument('--no-compile', dest='compiled', action='store_false')
    parser.add_argument('--store', action='store_true', help='keep the figures for the lesson')
    args = options(parser, rounds=1, threads=1, steps=2, crops=2, batch=1, compiled=False)
    import torch

    from medtut.cases import find_cases
    from medtut.datasets import get_data
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        n = {} if args.crops is None else dict(n=args.crops)
        sample = get_data('msd_hippocampus', 'sample', root=temporary, **n)
        table = find_cases(sample)
        table = table[table.seg.notna()].reset_index(drop=True)
        measured = parts(table, args.steps, args.rounds)
        x, y = next(iter(loader_of(read_all(table), 1)))
    if args.store: STORED.unlink(missing_ok=True)
    settings = dict(steps=args.steps, threads=args.threads, torch=torch.__version__)
    for part, seconds, floor in measured:
        report(args, dict(part=part, seconds=seconds, floor=floor, **settings))
    x, y = x[:args.batch], y[:args.batch]
    for variant, seconds in variants(x, y, args.rounds, args.compiled).items():
        report(args, dict(variant=variant, seconds=seconds, **settings))

if __name__ == '__main__': main()
