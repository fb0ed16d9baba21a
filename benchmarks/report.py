"""`segmentation_report` against the same scores by MONAI: `python benchmarks/report.py`

A volume of 240 x 240 x 155 voxels with a tumour of three classes and a prediction of it; six rows
of scores, three classes and three regions. MONAI gets masks of one channel for each row, boolean
wherever it takes that; making them is timed with it, since the report makes its own. Each contender
runs in a process of its own, so that its peak memory is its own."""
import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from _rows import hand_over, options

CLASSES = {1: 'edema', 2: 'non-enhancing', 3: 'enhancing'}
ROWS = [[1], [2], [3], [1, 2, 3], [2, 3], [3]] # the classes of each row of scores
SCORES = ['dice', 'sensitivity', 'specificity', 'precision', 'hd95_mm', 'surface_dice']
SPACING = 1., 1., 1. # mm
TOLERANCE = 1. # mm
SHAPE = 240, 240, 155

def lumps(rng):
    "Smooth hills and valleys, mm"
    from scipy.ndimage import gaussian_filter, zoom
    coarse = gaussian_filter(rng.normal(size=(60, 60, 39)), 2)
    return zoom(coarse, 4, order=1)[:, :, :155]*60

def nested_balls(r, radius):
    "Labels 3, 2 and 1 from the middle outwards"
    inside = [r < .35*radius, r < .6*radius, r < radius]
    return np.select(inside, [3, 2, 1]).astype(np.uint8)

def volumes(ml, step=1):
    """Prediction and label: lumpy nested balls, the larger of about `ml` millilitres;
    every `step`-th voxel"""
    rng = np.random.default_rng(0)
    radius = (ml*1000*3/4/np.pi)**(1/3) # mm, of a ball: 4/3 pi r^3 = 1000 ml
    at = np.stack(np.mgrid[:240, :240, :155], -1, dtype=np.float32)
    r = np.linalg.norm(at - (100, 130, 80), axis=-1).reshape(SHAPE) + lumps(rng)
    label, prediction = nested_balls(r, radius), nested_balls(r + lumps(rng), radius)
    return prediction[::step, ::step, ::step], label[::step, ::step, ::step]

def ours(prediction, label):
    from medtut.masks import TUMOUR_REGIONS, segmentation_report
    report = segmentation_report(truth=label, prediction=prediction, spacing=SPACING,
                                 classes=CLASSES, regions=TUMOUR_REGIONS, tolerance=TOLERANCE)
    return report[SCORES].to_numpy()

def channels(labels):
    "One boolean channel for each row of scores, as MONAI takes masks"
    import torch
    masks = [np.isin(range(4), row)[labels] for row in ROWS]
    return torch.from_numpy(np.stack(masks)[None])

def monai(prediction, label):
    import warnings

    import torch
    # about its next version, and about classes that the small volume of the warm-up lacks
    warnings.simplefilter('ignore')
    from monai import metrics
    p, t = channels(prediction), channels(label)
    counts = metrics.get_confusion_matrix(p.byte(), t.byte())  # it adds the two, which bool can't
    shares = [metrics.compute_confusion_matrix_metric(name, counts)[0]
              for name in ('sensitivity', 'specificity', 'precision')]
    given = dict(include_background=True, spacing=list(SPACING))
    distance = metrics.compute_hausdorff_distance(p, t, percentile=95, **given)
    near = metrics.compute_surface_dice(p, t, [TOLERANCE]*len(ROWS), **given)
    columns = [metrics.compute_dice(p, t)[0], *shares, distance[0], near[0]]
    return torch.stack(columns, 1).numpy()

class Outcome(NamedTuple):
    scores: np.ndarray
    seconds: float # median of the rounds
    mb: float      # peak above what was there before

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024  # bytes, on Linux

def held():
    "Bytes that this process holds now"
    pages = Path('/proc/self/statm').read_text().split()[1]
    return int(pages)*resource.getpagesize()

def contender(f, ml, rounds, step):
    prediction, label = volumes(ml, step)
    f(prediction[::8, ::8, ::8], label[::8, ::8, ::8])  # imports
    # the peak so far is that of making the volumes; memory is filled up to it, so that what goes
    # beyond belongs to the contender
    before = peak()
    ballast = np.ones(max(before - held(), 0) if step == 1 else 0, np.uint8)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        scores = f(prediction, label)
        seconds.append(time.perf_counter() - start)
    above = (peak() - before)/1e6
    del ballast
    return Outcome(scores, median(seconds), above)

def contend(f, ml, args):
    "A contender's outcome, in a process of its own unless that would take too long"
    given = f, ml, args.rounds, args.step
    if args.quick: return contender(*given)
    with multiprocessing.get_context('spawn').Pool(1) as process:
        return process.apply(contender, given)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ml', type=float, nargs='*', default=[20, 100, 250],
                        help='millilitres of the whole tumour')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--step', type=int, default=1,
                        help='take every so many voxels along each axis')
    args = options(parser, ml=[100], rounds=1, step=4)
    for ml in args.ml:
        mine, theirs = contend(ours, ml, args), contend(monai, ml, args)
        np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-4)
        print(f'{ml:4g} ml: report {mine.seconds:.2f} s and {mine.mb:.0f} MB above what was there, '
              f'MONAI {theirs.seconds:.2f} s and {theirs.mb:.0f} MB; scores equal')
        memory = theirs.mb/mine.mb if min(theirs.mb, mine.mb) > 1 else None
        hand_over(args, 'Scores of six classes and regions in 240 x 240 x 155 voxels, '
                  f'tumour of {ml:g} ml', 'segmentation_report', 'MONAI metrics',
                  speed=theirs.seconds/mine.seconds, memory=memory, least_speed=1,
                  packages=['monai'])

if __name__ == '__main__': main()
