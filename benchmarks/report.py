"""`segmentation_report` against the same scores by MONAI: `python benchmarks/report.py`

A volume of 240 x 240 x 155 voxels with a tumour of three classes and a prediction of it; six rows of scores, three classes and three
regions. MONAI gets masks of one channel for each row, boolean wherever it takes that; making them is timed with it, since the
report makes its own. Each contender runs in a process of its own, so that its peak memory is its own."""
import argparse, multiprocessing, resource, time
from pathlib import Path
from statistics import median

import numpy as np

from _rows import hand_over, options

CLASSES = {1: 'edema', 2: 'non-enhancing', 3: 'enhancing'}
ROWS = [[1], [2], [3], [1, 2, 3], [2, 3], [3]]
SPACING, TOLERANCE = (1., 1., 1.), 1.

def volumes(ml, step=1):
    "Label and prediction: lumpy nested balls, the larger of about `ml` millilitres; every `step`-th voxel"
    from scipy.ndimage import gaussian_filter, zoom
    rng, shape = np.random.default_rng(0), (240, 240, 155)
    def lumps(): return zoom(gaussian_filter(rng.normal(size=(60, 60, 39)), 2), 4, order=1)[:, :, :155]*60
    radius = (ml*1000*3/4/np.pi)**(1/3)
    r = np.linalg.norm(np.stack(np.mgrid[:240, :240, :155], -1, dtype=np.float32) - (100, 130, 80), axis=-1).reshape(shape) + lumps()
    made = [np.select([x < .35*radius, x < .6*radius, x < radius], [3, 2, 1]).astype(np.uint8) for x in (r, r + lumps())]
    return [m[::step, ::step, ::step] for m in reversed(made)]

def ours(pred, label):
    from medtut.metrics import TUMOUR_REGIONS, segmentation_report
    return segmentation_report(truth=label, prediction=pred, spacing=SPACING, classes=CLASSES, regions=TUMOUR_REGIONS, tolerance=TOLERANCE)[['dice', 'sensitivity', 'specificity', 'precision', 'hd95_mm', 'surface_dice']].to_numpy()

def monai(pred, label):
    import torch, warnings
    warnings.simplefilter('ignore')  # about its next version, and about classes that the small volume of the warm-up lacks
    from monai.metrics import compute_confusion_matrix_metric, compute_dice, compute_hausdorff_distance, compute_surface_dice, get_confusion_matrix
    p, t = (torch.from_numpy(np.stack([np.isin(range(4), row)[x] for row in ROWS])[None]) for x in (pred, label))
    counts = get_confusion_matrix(p.byte(), t.byte())  # it adds the two, which bool can't
    shares = [compute_confusion_matrix_metric(name, counts) for name in ('sensitivity', 'specificity', 'precision')]
    hd = compute_hausdorff_distance(p, t, include_background=True, percentile=95, spacing=list(SPACING))
    near = compute_surface_dice(p, t, [TOLERANCE]*len(ROWS), include_background=True, spacing=list(SPACING))
    return torch.stack([compute_dice(p, t)[0], *(s[0] for s in shares), hd[0], near[0]], 1).numpy()

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024  # bytes, on Linux

def contender(f, ml, rounds, step):
    pred, label = volumes(ml, step)
    f(pred[::8, ::8, ::8], label[::8, ::8, ::8])  # imports
    # the peak so far is that of making the volumes; memory is filled up to it, so that what goes beyond belongs to the contender
    before, seconds = peak(), []
    now = int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()
    ballast = np.ones(max(before - now, 0) if step == 1 else 0, np.uint8)
    for _ in range(rounds):
        start = time.perf_counter()
        found = f(pred, label)
        seconds.append(time.perf_counter() - start)
    above = (peak() - before)/1e6
    del ballast
    return found, seconds, above

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ml', type=float, nargs='*', default=[20, 100, 250], help='millilitres of the whole tumour')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--step', type=int, default=1, help='take every so many voxels along each axis')
    args = options(parser, ml=[100], rounds=1, step=4)
    spawn = multiprocessing.get_context('spawn')
    for ml in args.ml:
        outcome = {}
        for f in (ours, monai):
            if args.quick: outcome[f.__name__] = contender(f, ml, args.rounds, args.step)
            else:
                with spawn.Pool(1) as process: outcome[f.__name__] = process.apply(contender, (f, ml, args.rounds, args.step))
        (mine, my_seconds, my_mb), (theirs, their_seconds, their_mb) = outcome.values()
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)
        print(f'{ml:4g} ml: report {median(my_seconds):.2f} s and {my_mb:.0f} MB above what was there, MONAI {median(their_seconds):.2f} s and {their_mb:.0f} MB; scores equal')
        hand_over(args, f'Scores of six classes and regions in 240 x 240 x 155 voxels, tumour of {ml:g} ml', 'segmentation_report', 'MONAI metrics',
                  median(their_seconds)/median(my_seconds), their_mb/my_mb if min(their_mb, my_mb) > 1 else None, 1, packages=['monai'])
