"""Lesson 6 against its peers, each pair in one run: `python benchmarks/segmentation.py`

Patches of a small tumour by `PatchSampler` and by rejection; `standardize` and a double loop; `predict_volume` and MONAI's
`sliding_window_inference`; a training step of `UNet3D` and of MONAI's `BasicUNet`. Every contender is a process of its own, so that its
peak memory is its own; the contenders of a comparison take turns. Speeds of this machine mean little elsewhere; ratios do."""
import argparse, multiprocessing, resource, time
from statistics import median

import numpy as np

PATCH = (160, 160, 16)

def tumour(ml=5):
    "A label of 240 x 240 x 155 voxels of 1 mm with a ball of `ml` millilitres"
    x,y,z = np.ogrid[:240, :240, :155]
    return (((x - 90)**2 + (y - 140)**2 + (z - 70)**2) < (ml*1000*3/4/np.pi)**(2/3)).astype(np.uint8)

# Each returns what is timed: a function without arguments, and how many things it does

def sampler_table():
    from medtut.segmentation import PatchSampler
    sampler,rng = PatchSampler(tumour(), PATCH, .005), np.random.default_rng(0)
    return lambda: [sampler.draw(rng) for _ in range(2000)], 2000

def sampler_set_up():
    from medtut.segmentation import PatchSampler
    label = tumour()
    return lambda: PatchSampler(label, PATCH, .005), 1

def sampler_rejection(n=40):
    label,rng = tumour(), np.random.default_rng(0)
    def one():
        for _ in range(100_000):
            corner = [rng.integers(s - p + 1) for s,p in zip(label.shape, PATCH)]
            if (label[tuple(slice(c, c + p) for c,p in zip(corner, PATCH))] > 0).mean() >= .005: return corner
    return lambda: [one() for _ in range(n)], n

def scan(): # x fastest in memory, as NIfTI files have it
    return np.asfortranarray(np.random.default_rng(0).random((240, 240, 155, 4), np.float32)).transpose(3, 0, 1, 2)

def standardize_ours():
    from medtut.segmentation import standardize
    image = scan()
    return lambda: standardize(image), 1

def standardize_loop():
    image = scan()
    def loop():
        out = np.zeros(image.shape)
        for c in range(image.shape[0]):
            for z in range(image.shape[3]):
                plane = image[c, :, :, z]
                centred = plane - np.mean(plane)
                out[c, :, :, z] = centred/np.std(centred) if np.std(centred) else centred
        return out
    return loop, 1

def lesson_network():
    import torch
    from medtut.segmentation import UNet3D
    torch.manual_seed(0)
    return UNet3D(filters=(8, 8, 16, 32, 64)).to(memory_format=torch.channels_last_3d).eval()

def one_convolution():
    import torch
    torch.manual_seed(0)
    return torch.nn.Conv3d(4, 4, 1).eval()

def predict_ours(model, shape, patch):
    from medtut.segmentation import predict_volume
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

def train(name, last):
    import torch
    from medtut.segmentation import dice_ce_loss
    torch.manual_seed(0)
    model,x,y = network(name).train(), torch.randn(2, 4, 48, 48, 48), torch.randint(0, 4, (2, 48, 48, 48))
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
    do()  # caches
    while pipe.recv():
        start = time.perf_counter()
        result = do()
        pipe.send(((time.perf_counter() - start)/n, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)/1024 + 0*len(ballast),
                   result if isinstance(result, np.ndarray) else None))

def compare(title, contenders, rounds, check=None):
    "Time `contenders` in turns; the first is ours"
    spawn = multiprocessing.get_context('spawn')
    pipes,processes = {}, []
    for name,(make,*args) in contenders.items():
        pipes[name],end = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(end, make, args)))
        processes[-1].start()
    seconds,peak,last = {n: [] for n in pipes}, {}, {}
    for _ in range(rounds):
        for name,pipe in pipes.items():
            pipe.send(True)
            s,peak[name],last[name] = pipe.recv()
            seconds[name].append(s)
    for pipe in pipes.values(): pipe.send(False)
    for p in processes: p.join()
    if check: check(*last.values())
    first = next(iter(seconds.values()))
    print(title, flush=True)
    for name,s in seconds.items():
        ratio = median(b/a for a,b in zip(first, s))
        print(f'  {name:44} {median(s)*1e3:10.3f} ms   {ratio:7.2f} times as long as the first   {peak[name]:5.0f} MB above what was there', flush=True)

def equal(a, b): np.testing.assert_allclose(a, b, atol=1e-4)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    rounds = parser.parse_args().rounds
    compare('A patch of 160 x 160 x 16 voxels with 0.5 % of a tumour of 5 ml',
            {'PatchSampler, after set-up': (sampler_table,), 'rejection': (sampler_rejection,), '(set-up of PatchSampler, once)': (sampler_set_up,)}, rounds)
    compare('Standardise 4 x 240 x 240 x 155 voxels by slice', {'standardize': (standardize_ours,), 'double loop': (standardize_loop,)}, rounds, equal)
    for what,model,shape,patch in (('one convolution', one_convolution, (160, 160, 128), 48), ('the lesson\'s network', lesson_network, (80, 80, 52), 48)):
        compare(f'Predict {shape} voxels with {what}, half overlapping', {'predict_volume': (predict_ours, model, shape, patch),
                'sliding_window_inference': (predict_monai, model, shape, patch)}, rounds, equal)
    steps = {'UNet3D, channels last': ('UNet3D', True), 'BasicUNet, channels last': ('BasicUNet', True), 'BasicUNet, channels first': ('BasicUNet', False)}
    sizes = {name: sum(p.numel() for p in network(args[0]).parameters()) for name,args in steps.items()}
    compare('A training step, two patches of 48 x 48 x 48', {f'{n} ({sizes[n]:,})': (train, *args) for n,args in steps.items()}, rounds)
