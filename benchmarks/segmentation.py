"""Lessons 6 and 7 against their peers, each pair in one run: `python benchmarks/segmentation.py`

Patches of a small tumour by `PatchSampler` and by rejection; `standardize` and a double loop;
`predict_volume` and MONAI's `sliding_window_inference`; a training step of `UNet3D` and of MONAI's
`BasicUNet` or `DynUNet`, whichever has as many levels. Every contender is a process of its own, so
that its peak memory is its own; the contenders of a comparison take turns. Speeds of this machine
mean little elsewhere; ratios do."""
import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from _rows import hand_over, options

PATCH = (160, 160, 16)
SHARE = .005 # of a patch's voxels, which the tumour has at least

class Sizes(NamedTuple):
    "What a lesson trains, and on what"
    channels: int
    classes: int   # with the background
    filters: tuple # of each level of the U
    patch: tuple
    batch: int
    scan: tuple    # a volume to predict

LESSONS = {6: Sizes(4, 4, (8, 8, 16, 32, 64), (48, 48, 48), 2, (80, 80, 52)),
           7: Sizes(1, 3, (16, 32, 64, 64), (32, 48, 32), 4, (36, 50, 35))}

def tumour(ml=5):
    "A label of 240 x 240 x 155 voxels of 1 mm with a ball of `ml` millilitres"
    x, y, z = np.ogrid[:240, :240, :155]
    squared_distance = (x - 90)**2 + (y - 140)**2 + (z - 70)**2
    # a ball of radius r has a volume of 4/3 pi r^3
    squared_radius = (ml*1000*3/4/np.pi)**(2/3)
    return (squared_distance < squared_radius).astype(np.uint8)

# --- the contenders

# Each maker returns a function without arguments, which is timed, and how many things it does.
# A maker imports what it needs: the process of one contender does not load another's libraries.

def draws_of_sampler(count=2000):
    from medtut.patches import PatchSampler
    sampler = PatchSampler(tumour(), PATCH, SHARE)
    rng = np.random.default_rng(0)
    def draws():
        return [sampler.draw(rng) for _ in range(count)]
    return draws, count

def set_up_of_sampler():
    from medtut.patches import PatchSampler
    label = tumour()
    def set_up(): return PatchSampler(label, PATCH, SHARE)
    return set_up, 1

def draws_by_rejection(count):
    label = tumour()
    rng = np.random.default_rng(0)
    def draw():
        for _ in range(100_000):
            corner = [rng.integers(n - p + 1) for n, p in zip(label.shape, PATCH)]
            window = tuple(slice(c, c + p) for c, p in zip(corner, PATCH))
            if np.count_nonzero(label[window]) >= SHARE*np.prod(PATCH):
                return corner
    def draws(): return [draw() for _ in range(count)]
    return draws, count

def scan(shape):
    "Four channels of random voxels; x is fastest in memory, as NIfTI files have it"
    channels_last = np.random.default_rng(0).random((*shape, 4), np.float32)
    return np.asfortranarray(channels_last).transpose(3, 0, 1, 2)

def standardize_ours(shape):
    from medtut.intensities import standardize
    image = scan(shape)
    def by_slice(): return standardize(image, 'slice', inside=None)
    return by_slice, 1

def standardize_by_loop(shape):
    image = scan(shape)
    channels, slices = image.shape[0], image.shape[3]
    def loop():
        out = np.zeros_like(image)
        for c in range(channels):
            for z in range(slices):
                plane = image[c, :, :, z]
                centred = plane - np.mean(plane)
                sd = np.std(centred)
                out[c, :, :, z] = centred/sd if sd else centred
        return out
    return loop, 1

def lesson_network(sizes):
    import torch

    from medtut.unet import UNet3D
    torch.manual_seed(0)
    model = UNet3D(sizes.channels, sizes.classes, filters=sizes.filters)
    return model.to(memory_format=torch.channels_last_3d).eval()

def identity(sizes):
    import torch
    return torch.nn.Identity()

def noise(*size):
    return np.random.default_rng(0).normal(size=size).astype(np.float32)

def predict_ours(make_model, sizes):
    from medtut.tiles import predict_volume
    image = noise(sizes.channels, *sizes.scan)
    model = make_model(sizes)
    def predict():
        return predict_volume(model, image, sizes.patch, progress=False)
    return predict, 1

def predict_monai(make_model, sizes):
    import torch
    from monai.inferers import sliding_window_inference
    image = torch.from_numpy(noise(1, sizes.channels, *sizes.scan))
    model = make_model(sizes)
    def probabilities(tiles): return model(tiles).softmax(1)
    def predict():
        with torch.inference_mode():
            batch = sliding_window_inference(
                image, sizes.patch, sw_batch_size=4, predictor=probabilities,
                overlap=.5, mode='gaussian')
            return batch[0].numpy()
    return predict, 1

def monai_network(sizes):
    from monai.networks.nets import BasicUNet, DynUNet
    ends = dict(in_channels=sizes.channels, out_channels=sizes.classes)
    levels = len(sizes.filters)
    if levels == 5: # as all BasicUNets have
        return BasicUNet(features=(*sizes.filters, sizes.filters[0]), **ends)
    halvings = [2]*(levels - 1)
    return DynUNet(3, kernel_size=[3]*levels, strides=[1, *halvings],
                   upsample_kernel_size=halvings, filters=sizes.filters, **ends)

def network(maker, sizes):
    if maker == 'UNet3D': return lesson_network(sizes)
    return monai_network(sizes)

def training_step(maker, channels_last, sizes):
    import torch

    from medtut.segmentation import dice_ce_loss
    torch.manual_seed(0)
    model = network(maker, sizes).train()
    x = torch.randn(sizes.batch, sizes.channels, *sizes.patch)
    y = torch.randint(0, sizes.classes, (sizes.batch, *sizes.patch))
    if channels_last:
        model = model.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    def step():
        dice_ce_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return step, 1

# --- how they are measured

def highest_memory():
    "The highest resident size of this process so far, kB"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def memory_now():
    "The resident size of this process, kB"
    resident_pages = int(Path('/proc/self/statm').read_text().split()[1])
    return resident_pages*resource.getpagesize()//1024

def timed(call, count):
    "What `call` returns, and its seconds for each of `count` things"
    start = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - start)/count

def serve(pipe, maker, arguments):
    "A contender's process: a measurement each time it is asked for one, and at last its result"
    call, count = maker(*arguments)
    before = highest_memory()
    # the peak so far is that of making the data: fill memory up to it, so that what is above it
    # belongs to the contender
    ballast = np.ones(max(before - memory_now(), 0)*1024, np.uint8)
    while pipe.recv() == 'time':
        # not timed: caches, and memory, which during the others' turns goes back to the system,
        # and on a virtual machine to its host
        call()
        result, seconds = timed(call, count)
        megabytes = (highest_memory() - before)/1024
        pipe.send((seconds, megabytes))
        del result
    result = call()
    pipe.send(result if isinstance(result, np.ndarray) else None)
    del ballast # needed up to here

def start_process(maker, arguments):
    "The process of a contender, and the pipe to it"
    pipe, far_end = multiprocessing.Pipe()
    context = multiprocessing.get_context('spawn')
    process = context.Process(target=serve, args=(far_end, maker, arguments))
    process.start()
    far_end.close() # else nobody would hear of a process that died
    return process, pipe

def measure_in_turns(contenders, rounds):
    "Of each contender, in a process of its own: its times, its peak in MB, and its result"
    processes, pipes = [], {}
    for name, (maker, *arguments) in contenders.items():
        process, pipes[name] = start_process(maker, arguments)
        processes.append(process)
    seconds = {name: [] for name in contenders}
    peaks, results = {}, {}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send('time')
            elapsed, peaks[name] = pipe.recv()
            seconds[name].append(elapsed)
    for name, pipe in pipes.items():
        pipe.send('result')
        results[name] = pipe.recv()
    for process in processes: process.join()
    return seconds, peaks, results

def measure_here(contenders):
    """The same once, in this process: a new one would take longer to import than to measure

    Peaks are 0: they would not be the contender's own"""
    seconds, results = {}, {}
    for name, (maker, *arguments) in contenders.items():
        call, count = maker(*arguments)
        results[name], elapsed = timed(call, count)
        seconds[name] = [elapsed]
    return seconds, dict.fromkeys(contenders, 0), results

def time_ratio(theirs, ours):
    return median(b/a for a, b in zip(ours, theirs))

def memory_ratio(theirs, ours):
    "The ratio of two peaks in MB, None where one is too small to tell"
    return theirs/ours if min(theirs, ours) >= 1 else None

def compare(title, contenders, args, check=None):
    """Time `contenders`, `{name: (maker, its arguments)}`, in turns; the first is ours

    Of each other one: the median ratio of its time to ours, and the ratio of peaks, None where a
    peak is too small to tell, or the contenders share a process"""
    if args.quick: seconds, peaks, results = measure_here(contenders)
    else: seconds, peaks, results = measure_in_turns(contenders, args.rounds)
    if check: check(*results.values())
    print(title, flush=True)
    for name, times in seconds.items():
        milliseconds = median(times)*1e3
        print(f'  {name:44} {milliseconds:10.3f} ms  ',
              f'{peaks[name]:5.0f} MB above what was there', flush=True)
    ours, *others = contenders
    ratios = {}
    for name in others:
        slower = time_ratio(seconds[name], seconds[ours])
        ratios[name] = slower, memory_ratio(peaks[name], peaks[ours])
    return ratios

def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)

# --- the comparisons

def by(shape):
    return 'x'.join(map(str, shape))

def compare_patches(args):
    title = f'A patch of {by(PATCH)} voxels with 0.5 % of a tumour of 5 ml'
    contenders = {
        'PatchSampler': (draws_of_sampler,),
        'rejection': (draws_by_rejection, 2 if args.quick else 40),
        '(set-up of PatchSampler, once)': (set_up_of_sampler,)}
    speed, _ = compare(title, contenders, args)['rejection']
    hand_over(args, title, 'PatchSampler.draw, after set-up', 'rejection in numpy',
              speed, least_speed=50, packages=['numpy'])

def compare_standardize(args):
    shape = (40, 40, 20) if args.quick else (240, 240, 155)
    title = f'Standardise 4 x {by(shape)} voxels by slice'
    contenders = {
        'standardize': (standardize_ours, shape),
        'double loop': (standardize_by_loop, shape)}
    speed, memory = compare(title, contenders, args, assert_close)['double loop']
    hand_over(args, title, 'standardize', 'a loop over channels and slices in numpy',
              speed, memory, least_speed=2, packages=['numpy'])

def compare_predictions(args, model_words, make_model, sizes):
    title = (f'Predict {by(sizes.scan)} voxels with {model_words}, '
             f'tiles of {by(sizes.patch)} half overlapping')
    contenders = {
        'predict_volume': (predict_ours, make_model, sizes),
        'MONAI': (predict_monai, make_model, sizes)}
    speed, memory = compare(title, contenders, args, assert_close)['MONAI']
    hand_over(args, title, 'predict_volume', 'MONAI sliding_window_inference',
              speed, memory, least_speed=1, packages=['monai'])

def words_for(maker, sizes, order):
    model = network(maker, sizes)
    weights = sum(p.numel() for p in model.parameters())
    return f'{type(model).__name__} of {weights:,} weights, channels {order}'

def compare_training(args, number, sizes):
    title = f'A training step of lesson {number}, {sizes.batch} patches of {by(sizes.patch)}'
    contenders = {}
    for maker, order in ('UNet3D', 'last'), ('MONAI', 'last'), ('MONAI', 'first'):
        words = words_for(maker, sizes, order)
        contenders[words] = (training_step, maker, order == 'last', sizes)
    ours = next(iter(contenders))
    ratios = compare(title, contenders, args)
    fastest = min(ratios, key=lambda name: ratios[name][0])
    speed, memory = ratios[fastest]
    hand_over(args, title, ours, f'MONAI {fastest}, its faster format',
              speed, memory, least_speed=1, packages=['monai'])

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=15)
    args = options(parser, rounds=1)
    compare_patches(args)
    compare_standardize(args)
    large = LESSONS[6]._replace(scan=(160, 160, 128))
    small = dict(patch=(32, 32, 32), scan=(40, 32, 32)) if args.quick else {}
    compare_predictions(args, 'a model that returns its input', identity, large._replace(**small))
    for number, sizes in LESSONS.items():
        quick = sizes._replace(**small)
        compare_predictions(args, f"lesson {number}'s network", lesson_network, quick)
        compare_training(args, number, quick)
