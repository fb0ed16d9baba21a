"""From sample to real: work is counted, hours are worked out from it.

`python tools/work.py` measures the rate of this machine's processor"""
import re
import time
from functools import lru_cache
from typing import Callable, NamedTuple

from fastcore.nbio import read_nb
from lessons import all_lessons


class Gpu(NamedTuple):
    name: str
    peak: float  # TFLOP/s, single precision as PyTorch uses it: plain on a T4, TF32 on an A100
    share: float # of the peak that is assumed to be reached
    @property
    def rate(self): return self.peak*self.share # TFLOP/s

GPUS = Gpu('T4', 8.1, .25), Gpu('A100', 156, .1)

class Network(NamedTuple):
    make: Callable
    shape: tuple # of one input, channels first

def _networks():
    "The networks of the real runs, by name"
    from fastai.layers import Mish
    from fastai.vision.models.xresnet import xresnet50
    from torchvision.models import resnet18

    from medtut.chest import small_xresnet
    from medtut.grading import adapt_resnet
    from medtut.unet import UNet3D
    def resnet_of_slices(): return adapt_resnet(resnet18(), 1, keep=False)
    def resnet_of_sequences(): return adapt_resnet(resnet18(), keep=False)
    def xresnet_of_films():
        return xresnet50(n_out=2, act_cls=Mish, sa=True, c_in=1)
    def small_unet():
        return UNet3D(filters=(8, 8, 16, 32, 64))
    def large_unet(): return UNet3D(filters=32, depth=5)
    def unet_of_crops(): return UNet3D(1, 3, filters=(16, 32, 64, 64))
    return {
        'ResNet18, 224 x 224': Network(resnet_of_slices, (1, 224, 224)),
        'small_xresnet, 128 x 128': Network(small_xresnet, (1, 128, 128)),
        'xresnet50, 256 x 256': Network(xresnet_of_films, (1, 256, 256)),
        'ResNet18, four channels, 120 x 120': Network(resnet_of_sequences, (4, 120, 120)),
        'UNet3D of the lesson, 48 x 48 x 48': Network(small_unet, (4, 48, 48, 48)),
        'UNet3D(filters=32, depth=5), 128 x 128 x 128': Network(large_unet, (4, 128, 128, 128)),
        'UNet3D of lesson 7, 32 x 48 x 32': Network(unet_of_crops, (1, 32, 48, 32))}

class Run(NamedTuple):
    lesson: int
    what: str
    network: str
    inputs: str # that pass forward and backward: the text is shown and worked out

RUNS = [
    Run(2, 'one split by slice, one by patient: slices, training part, epochs, splits',
        'ResNet18, 224 x 224', '5200*.6*8*2'),
    Run(2, 'cross-validation: slices, training part of four folds, epochs, folds, '
        'kinds of boxes and splits', 'ResNet18, 224 x 224', '5200*.8*5/6*12*5*4'),
    Run(3, 'the 250 films: films, training part, epochs',
        'small_xresnet, 128 x 128', '250*.65*16'),
    Run(3, 'the full challenge instead (fetched by hand): films, training part, epochs',
        'xresnet50, 256 x 256', '12047*.65*16'),
    Run(4, 'the two models, on phantoms as in the lesson: models, films, epochs',
        'small_xresnet, 128 x 128', '2*262*18'),
    Run(5, '`every=3`, `crop=120`: patients, training part, slices of each (assumed), epochs',
        'ResNet18, four channels, 120 x 120', '369*.6*20*12'),
    Run(6, 'at 3 mm, as in the lesson: patches of an epoch, epochs',
        'UNet3D of the lesson, 48 x 48 x 48', '112*{epochs}'),
    Run(6, 'at 1 mm: steps, patches of a step',
        'UNet3D(filters=32, depth=5), 128 x 128 x 128', '5000*2'),
    Run(7, 'as in the lesson: steps, patches of a step', 'UNet3D of lesson 7, 32 x 48 x 32',
        '428*4')]

def code_of(lesson):
    "All code of the lesson with this number"
    path = next(l.path for l in all_lessons() if l.number == lesson)
    return '\n'.join(c.source for c in read_nb(path).cells if c.cell_type == 'code')

def epochs(lesson):
    "How many epochs the lesson trains, read from its cells"
    return re.search(r'(?:^epochs = |fit_one_cycle\()(\d+)', code_of(lesson), re.M)[1]

@lru_cache
def gflop(network):
    """Billions of multiplications and additions for one input forward and backward,
    counted on tensors that hold no numbers"""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    make, shape = _networks()[network]
    model = make().to('meta')
    x = torch.empty(1, *shape, device='meta')
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return counter.get_total_flops()/1e9

def span(hours):
    "A time in words"
    if hours < 1/60: return 'under a minute'
    if hours < 1:
        return f'{60*hours:.0f} min'
    return f'{hours:.1f} h'

def table_row(*cells):
    return f'| {" | ".join(cells)} |'

def hours():
    "The table of work and of hours"
    headings = 'lesson', 'inputs trained on', 'GFLOP each', 'PFLOP in all'
    yield table_row(*headings, *[gpu.name for gpu in GPUS])
    yield '|' + '-|'*(len(headings) + len(GPUS))
    for run in RUNS:
        inputs = run.inputs
        if '{epochs}' in inputs:
            inputs = inputs.format(epochs=epochs(run.lesson))
        n = eval(inputs) # arithmetic from the table above
        each = gflop(run.network)
        pflop = n*each/1e6
        shown = inputs.replace('*', ' x ')
        times = [span(pflop*1e3/gpu.rate/3600) for gpu in GPUS]
        yield table_row(f'{run.lesson}', f'{run.what}: {shown} = {n:,.0f} ({run.network})',
                        f'{each:,.1f}', f'{pflop:.2g}', *times)

# GFLOP/s, by `python tools/work.py` on two cores that other programs shared, November 2026
MEASURED = {'ResNet18, 224 x 224': 76, 'UNet3D of the lesson, 48 x 48 x 48': 16}

def measured():
    rates = [f'{network} at {rate} GFLOP/s' for network, rate in MEASURED.items()]
    return ' and '.join(rates) + ' on two CPU cores that other programs shared'

def assumed():
    parts = [f'{gpu.name}: {gpu.share:.0%} of {gpu.peak:g} TFLOP/s = {gpu.rate:.3g} TFLOP/s'
             for gpu in GPUS]
    return '; '.join(parts)

def on_the_sample():
    "Minutes that the lessons took on the sample"
    timed = [lesson for lesson in all_lessons() if lesson.time]
    return ', '.join(f'[lesson {l.number}]({l.path.name}) {l.time}' for l in timed)

def rate(network, batch=4, seconds=5):
    "GFLOP/s that one training step after another reaches on this machine's processor"
    import torch
    make, shape = _networks()[network]
    model, x = make().train(), torch.randn(batch, *shape)
    steps = [] # seconds
    while sum(steps) < seconds or len(steps) < 3:
        start = time.perf_counter()
        model(x).square().mean().backward()
        steps.append(time.perf_counter() - start)
    return batch*gflop(network)/min(steps)

if __name__ == '__main__':
    for network in MEASURED:
        print(f'{network}: {rate(network):.0f} GFLOP/s')
