"""`grad_cam` against pytorch-grad-cam, and a forward pass alone: `python benchmarks/cam.py`

The same batch goes through the same model in each, in turn. GradCAM also enlarges its maps to
the size of the image, so `grad_cam` is given that work too. Speeds of this machine today mean
little elsewhere; ratios of the same run do."""
import argparse
import time
from statistics import median

import numpy as np
import torch
import torchvision
from _rows import hand_over, options
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from medtut.cam import grad_cam
from medtut.heatmaps import upsample

CLASSES = [0, 1, 2, 3]
TOLERANCE = .02 # of a map's maximum, by which the two may differ

def settings():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='resnet18', help='of torchvision')
    parser.add_argument('--layer', default='layer4')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--size', type=int, default=224, help='rows and columns')
    parser.add_argument('--rounds', type=int, default=5)
    return options(parser, batch=2, rounds=1)

def contenders(args):
    "What is timed: functions without arguments, by name"
    torch.manual_seed(0)
    model = torchvision.models.get_model(args.model).eval()
    x = torch.randn(args.batch, 3, args.size, args.size)
    peer = GradCAM(model, [model.get_submodule(args.layer)])

    def forward():
        with torch.no_grad():
            return model(x)
    def ours(target=1):
        maps = grad_cam(model, x, target, args.layer)
        return upsample(maps, x.shape[2:]).numpy()
    def theirs(target=1):
        targets = [ClassifierOutputTarget(target)]*len(x)
        return peer(x, targets)

    return {
        'forward pass alone': forward,
        'grad_cam': ours,
        'pytorch-grad-cam': theirs,
        'grad_cam, 4 classes': lambda: grad_cam(model, x, CLASSES, args.layer),
        'pytorch-grad-cam, 4 classes': lambda: [theirs(target) for target in CLASSES]}

def scaled(maps):
    highest = maps.max((1, 2), keepdims=True)
    return maps/(1e-7 + highest)

def check_same_work(ways):
    "Exit unless both make the same maps"
    ours, theirs = ways['grad_cam'](), ways['pytorch-grad-cam']()
    difference = np.abs(scaled(ours) - theirs).max()
    if difference > TOLERANCE:
        raise SystemExit(
            f'the maps differ by {difference:.3f} of their maximum: not the same work')

def seconds_each(ways, rounds):
    "Seconds that each takes, round by round"
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds

def report(seconds, args):
    print(f'{args.model}, {args.layer}, {args.batch} images of {args.size} x {args.size},',
          f'median of {args.rounds} rounds')
    for name, spent in seconds.items():
        print(f'{name:28} {median(spent):6.2f} s')
    def ratio(slow, fast):
        pairs = zip(seconds[slow], seconds[fast])
        return median(a/b for a, b in pairs)
    what = f'Grad-CAM, {args.batch} images of {args.size} x {args.size}, {args.model}'
    hand_over(args, what, 'grad_cam', 'pytorch-grad-cam',
              ratio('pytorch-grad-cam', 'grad_cam'), least_speed=2.5, packages=['grad-cam'])
    hand_over(args, f'{what}, 4 classes',
              'grad_cam, 4 classes at once', 'pytorch-grad-cam, class by class',
              ratio('pytorch-grad-cam, 4 classes', 'grad_cam, 4 classes'), packages=['grad-cam'])
    hand_over(args, what, 'grad_cam', 'a forward pass alone: what no method can do without',
              ratio('forward pass alone', 'grad_cam'), packages=['torch'])

def main():
    args = settings()
    ways = contenders(args)
    check_same_work(ways)
    report(seconds_each(ways, args.rounds), args)

if __name__ == '__main__': main()
