"""Lesson 6 against its peers, each pair in one run: `python benchmarks/segmentation.py`

Patches of a small tumour by `PatchSampler` and by rejection; `standardize` and a double loop; `predict_volume` and MONAI's
`sliding_window_inference`; a training step of `UNet3D` and of MONAI's `BasicUNet`. Every contender is a process of its own, so that its
peak memory is its own; the contenders of a comparison take turns. Speeds of this machine mean little elsewhere; ratios do."""
import argparse
import multiprocessing
import resource
import time
from statistics import median

import numpy as np
from _rows import hand_over, options

PATCH = (160, 160, 16)

def tumour(ml=5):
    "A label of 240 x 240 x 155 voxels of 1 mm with a ball of `ml` millilitres"
    x,y,z = np.ogrid[:240, :240, :155]
    return (((x - 90)**2 + (y - 140)**2 + (z - 70)**2) < (ml*1000*3/4/np.pi)**(2/3)).astype(np.uint8)

# Each returns what is timed: a function without arguments, and how many things it does

def sampler_table():
    from medtut.patches import PatchSampler
    sampler,rng = PatchSampler(tumour(), PATCH, .005), np.random.default_rng(0)
    return lambda: [sampler.draw(rng) for _ in range(2000)], 2000

def sampler_set_up():
    from medtut.patches import PatchSampler
    label = tumour()
    return lambda: PatchSampler(label, PATCH, .005), 1

def sampler_rejection(n=40):
    label,rng = tumour(), np.random.default_rng(0)
    def one():
        for _ in range(100_000):
            corner = [rng.integers(s - p + 1) for s,p in zip(label.shape, PATCH)]
            if np.count_nonzero(label[tuple(slice(c, c + p) for c,p in zip(corner, PATCH))]) >= .005*np.prod(PATCH): return corner
    return lambda: [one() for _ in range(n)], n

def scan(shape): # x fastest in memory, as NIfTI files have it
    return np.asfortranarray(np.random.default_rng(0).random((*shape, 4), np.float32)).transpose(3, 0, 1, 2)

def standardize_ours(shape):
    from medtut.intensities import standardize
    image = scan(shape)
    return lambda: standardize(image, 'slice', inside=None), 1

def standardize_loop(shape):
    image = scan(shape)
    def loop():
        out = np.zeros_like(image)
        for c in range(image.shape[0]):
            for z in range(image.shape[3]):
                plane = image[c, :, :, z]
                centred = plane - np.mean(plane)
                sd = np.std(centred)
                out[c, :, :, z] = centred/sd if sd else centred
        return out
    return loop, 1

def lesson_network():
    import torch

    from medtut.unet import UNet3D
    torch.manual_seed(0)
    return UNet3D(filters=(8, 8, 16, 32, 64)).to(memory_format=torch.channels_last_3d).eval()

def nothing():
    import torch
    return torch.nn.Identity()

def predict_ours(model, shape, patch):
    from medtut.tiles import predict_volume
    image = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    model = model()
    return lambda: predict_volume(model, image, (patch,)*3, progress=False), 1

def predict_monai(model, shape, patch):
    import torch
    from monai.inferers import sliding_window_inference
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, *shape)).astype(np.float32))
    model = model()
    def run():
        with torch.inference_mode(): return sliding_window_inference(image, (patch,)*3, 4, lambda x: model(x).softmax(1), .5, 'gaussian')[0].numpy()
    return run, 1

def network(name):
    if name == 'UNet3D': return lesson_network()
    from monai.networks.nets import BasicUNet
    return BasicUNet(in_channels=4, out_channels=4, features=(8, 8, 16, 32, 64, 8))

def train(name, last, size):
    import torch

    from medtut.segmentation import dice_ce_loss
    torch.manual_seed(0)
    model,x,y = network(name).train(), torch.randn(2, 4, size, size, size), torch.randint(0, 4, (2, size, size, size))
    if last: model = model.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    def step():
        dice_ce_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return step, 1

def work(pipe, make, args):
    do,n = make(*args)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # the peak so far is that of making the data: fill memory up to it, so that what is above it belongs to the contender
    now = int(open('/proc/self/statm').read().split()[1])*resource.getpagesize()//1024
    ballast = np.ones(max(before - now, 0)*1024, np.uint8)
    while pipe.recv() == 'time':
        do() # not timed: caches, and memory, which during the others' turns goes back to the system, and on a virtual machine to its host
        start = time.perf_counter()
        result = do()
        pipe.send(((time.perf_counter() - start)/n, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)/1024 + 0*len(ballast)))
        del result
    result = do()
    pipe.send(result if isinstance(result, np.ndarray) else None)

def compare(title, contenders, args, check=None):
    """Time `contenders`, `{name: (maker, its arguments)}`, in turns; the first is ours. Of each other one: the median ratio of its time to ours, and the ratio
    of peaks, None where a peak is too small to tell, or the contenders share a process"""
    pipes,workers,seconds,peak,last = {}, [], {n: [] for n in contenders}, dict.fromkeys(contenders, 0), {}
    for name,(make,*more) in contenders.items():
        if args.quick: # in this process: a new one would take longer to import than to measure
            do,n = make(*more)
            start = time.perf_counter()
            last[name] = do()
            seconds[name].append((time.perf_counter() - start)/n)
            continue
        pipes[name],end = multiprocessing.Pipe()
        workers.append(multiprocessing.get_context('spawn').Process(target=work, args=(end, make, more)))
        workers[-1].start()
        end.close() # else nobody would hear of a process that died
    for _ in range(args.rounds):
        for name,pipe in pipes.items():
            pipe.send('time')
            s,peak[name] = pipe.recv()
            seconds[name].append(s)
    for name,pipe in pipes.items():
        pipe.send('result')
        last[name] = pipe.recv()
    for w in workers: w.join()
    if check: check(*last.values())
    ours,*others = seconds
    print(title, flush=True)
    for name,s in seconds.items(): print(f'  {name:44} {median(s)*1e3:10.3f} ms   {peak[name]:5.0f} MB above what was there', flush=True)
    return {n: (median(b/a for a,b in zip(seconds[ours], seconds[n])), peak[n]/peak[ours] if min(peak[n], peak[ours]) >= 1 and not args.quick else None) for n in others}

def equal(a, b): np.testing.assert_allclose(a, b, atol=1e-4)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=15)
    args = options(parser, rounds=1)
    def small(full, quick): return quick if args.quick else full

    title = f'A patch of {"x".join(map(str, PATCH))} voxels with 0.5 % of a tumour of 5 ml'
    found = compare(title, {'PatchSampler': (sampler_table,), 'rejection': (sampler_rejection, small(40, 2)), '(set-up of PatchSampler, once)': (sampler_set_up,)}, args)
    hand_over(args, title, 'PatchSampler.draw, after set-up', 'rejection in numpy', found['rejection'][0], least_speed=50, packages=['numpy'])

    shape = small((240, 240, 155), (40, 40, 20))
    title = f'Standardise 4 x {"x".join(map(str, shape))} voxels by slice'
    found = compare(title, {'standardize': (standardize_ours, shape), 'double loop': (standardize_loop, shape)}, args, equal)
    hand_over(args, title, 'standardize', 'a loop over channels and slices in numpy', *found['double loop'], 2, packages=['numpy'])

    for what,model,shape in (('a model that returns its input', nothing, (160, 160, 128)), ("the lesson's network", lesson_network, (80, 80, 52))):
        shape,patch = small(shape, (40, 32, 32)), small(48, 32)
        title = f'Predict {"x".join(map(str, shape))} voxels with {what}, tiles of {patch} half overlapping'
        found = compare(title, {'predict_volume': (predict_ours, model, shape, patch), 'MONAI': (predict_monai, model, shape, patch)}, args, equal)
        hand_over(args, title, 'predict_volume', 'MONAI sliding_window_inference', *found['MONAI'], 1, packages=['monai'])

    size = small(48, 32)
    title = f'A training step, two patches of {size} x {size} x {size}'
    sizes = {n: sum(p.numel() for p in network(n).parameters()) for n in ('UNet3D', 'BasicUNet')}
    steps = {f'{n} of {sizes[n]:,} weights, channels {order}': (train, n, order == 'last', size)
             for n,order in (('UNet3D', 'last'), ('BasicUNet', 'last'), ('BasicUNet', 'first'))}
    found = compare(title, steps, args)
    best = min(found, key=lambda n: found[n][0])
    hand_over(args, title, next(iter(steps)), f'MONAI {best}, its faster format', *found[best], 1, packages=['monai'])
