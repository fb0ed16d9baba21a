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

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='resnet18', help='of torchvision')
    parser.add_argument('--layer', default='layer4')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--size', type=int, default=224, help='rows and columns')
    parser.add_argument('--rounds', type=int, default=5)
    args = options(parser, batch=2, rounds=1)
    torch.manual_seed(0)
    model = torchvision.models.get_model(args.model).eval()
    x = torch.randn(args.batch, 3, args.size, args.size)
    theirs = GradCAM(model, [model.get_submodule(args.layer)])

    def forward():
        with torch.no_grad(): return model(x)
    def ours(target):
        maps = grad_cam(model, x, target, args.layer)
        return upsample(maps, x.shape[2:], 'tiles').numpy() # as the peer does
    def class_by_class():
        return [theirs(x, [ClassifierOutputTarget(t)]*len(x)) for t in range(4)]
    def scaled(maps):
        return maps/(1e-7 + maps.max((1, 2), keepdims=True))
    contenders = {
        'forward pass alone': forward,
        'grad_cam': lambda: ours(1),
        'pytorch-grad-cam': lambda: theirs(x, [ClassifierOutputTarget(1)]*len(x)),
        'grad_cam, 4 classes': lambda: grad_cam(model, x, [0, 1, 2, 3], args.layer),
        'pytorch-grad-cam, 4 classes': class_by_class}

    differ = np.abs(scaled(ours(1)) - contenders['pytorch-grad-cam']()).max()
    if differ > .02:
        raise SystemExit(f'the maps differ by {differ:.3f} of their maximum: not the same work')
    seconds = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, f in contenders.items():
            start = time.perf_counter()
            f()
            seconds[name].append(time.perf_counter() - start)
    print(f'{args.model}, {args.layer}, {args.batch} images of {args.size} x {args.size},',
          f'median of {args.rounds} rounds')
    for name, s in seconds.items():
        print(f'{name:28} {median(s):6.2f} s')
    def ratio(slow, fast):
        return median(a/b for a, b in zip(seconds[slow], seconds[fast]))
    what = f'Grad-CAM, {args.batch} images of {args.size} x {args.size}, {args.model}'
    hand_over(args, what, 'grad_cam', 'pytorch-grad-cam',
              ratio('pytorch-grad-cam', 'grad_cam'), least_speed=2.5, packages=['grad-cam'])
    hand_over(args, f'{what}, 4 classes',
              'grad_cam, 4 classes at once', 'pytorch-grad-cam, class by class',
              ratio('pytorch-grad-cam, 4 classes', 'grad_cam, 4 classes'), packages=['grad-cam'])
    hand_over(args, what, 'grad_cam', 'a forward pass alone: what no method can do without',
              ratio('forward pass alone', 'grad_cam'), packages=['torch'])
