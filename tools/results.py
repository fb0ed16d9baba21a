"""The moving picture that README.md and the home page open with: `python tools/results.py`

A radiograph with its Grad-CAM and a head with its tumour outlined slice by slice: phantoms of test
patients, seen by networks that train here as in lessons 4 and 6, in fewer epochs: some ten minutes
in all."""
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from lessons import nbs
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, zoom

SIDE = 240    # of a panel, pixels
STRIP = 34    # of text, above a panel and below
MS = 260      # time a frame stands, milliseconds
LAST_MS = 1500
ROUNDS = 6    # then it stands still, so that one can read on
CYAN, YELLOW = (86, 180, 233), (240, 228, 66)

class Film(NamedTuple):
    "A radiograph and what a classifier says of it"
    pixels: np.ndarray # (rows, columns), from 0 to 1
    heat: np.ndarray   # Grad-CAM of the same size, from 0 to 1
    p: float           # probability of a pneumothorax

class Head(NamedTuple):
    "A sequence of a head, (x, y, z), x to the left, y to the back, and two outlines"
    flair: np.ndarray     # from 0 to 1
    predicted: np.ndarray # bool
    truth: np.ndarray     # bool

# --- networks

def film_of_test_patient(folder):
    "Train lesson 4's honest model; the sick test film with the median probability"
    import fastai.callback.schedule  # noqa: F401, gives Learner its schedules
    import torch
    from fastai.learner import Learner
    from fastai.losses import LabelSmoothingCrossEntropyFlat
    from fastai.optimizer import ranger
    from fastai.torch_core import no_random

    from medtut.cam import grad_cam, receptive_field
    from medtut.chest import chest_dataloaders, read_labels, small_xresnet
    from medtut.datasets import get_data
    from medtut.heatmaps import upsample
    from medtut.splits import split_by_patient

    path = get_data('siim_small', source='sample', root=folder, progress=False,
        n=700, size=128, prevalence=.5, tube_p=(.5, .5), area=(.01, .06))
    table = read_labels(path)
    table['split'] = split_by_patient(table, (.75, .05, .2), seed=0)
    with no_random(0):
        loaders = chest_dataloaders(path, table=table, bs=12)
        learn = Learner(loaders, small_xresnet(widths=(16, 32, 64)), opt_func=ranger,
            loss_func=LabelSmoothingCrossEntropyFlat())
        with learn.no_bar(): learn.fit_flat_cos(12, .015)
    model = learn.model.cpu().eval()
    x = torch.cat([batch for batch, _ in loaders[2]]).as_subclass(torch.Tensor).cpu()
    sick = list(loaders.vocab).index('Pneumothorax')
    with torch.no_grad(): p = model(x).softmax(1)[:, sick].numpy()
    ill = np.flatnonzero(loaders[2].items.label == 'Pneumothorax')
    chosen = ill[np.argsort(p[ill])[len(ill)//2]]
    image = x[chosen:chosen + 1]
    coarse = grad_cam(model, image, sick, model[3])
    heat = upsample(coarse, image.shape[2:], receptive_field(model, image, model[3]))
    return Film(from_0_to_1(image[0, 0].numpy()), from_0_to_1(heat[0].numpy()), p[chosen])

def head_of_test_patient(folder):
    "Train lesson 6's network; the test patient with the median tumour"
    import torch
    from fastai.callback import schedule  # noqa: F401, adds fit_one_cycle
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.torch_core import set_seed
    from torch.utils.data import DataLoader

    from medtut.brain_sets import MSD_LABELS
    from medtut.cases import find_cases, load_case
    from medtut.datasets import get_data
    from medtut.intensities import standardize
    from medtut.patches import PatchDataset
    from medtut.segmentation import dice_ce_loss
    from medtut.splits import split_by_patient
    from medtut.tiles import predict_volume
    from medtut.unet import UNet3D

    path = get_data('msd_brain', source='sample', root=folder, cases=80, progress=False, p_high=.75)
    table = find_cases(path)
    table = table[table.seg.notna()].reset_index(drop=True)
    table['split'] = split_by_patient(table, (.7, .1, .2), stratify=None, seed=0)
    files = [load_case(row, labels=MSD_LABELS) for _, row in table.iterrows()]
    cases = [(standardize(case.image), case.label) for case in files]
    def cases_of(part): return [cases[i] for i in np.flatnonzero(table.split == part)]

    class NewPatches(Callback):
        def before_epoch(self): train.set_epoch(self.epoch)

    patch = 48, 48, 48
    train = PatchDataset(cases_of('train'), patch, 112, flips=(0, 1, 2), seed=0)
    valid = PatchDataset(cases_of('valid'), patch, n=8, seed=1)
    set_seed(0, reproducible=True)
    model = UNet3D(n_classes=4, filters=(8, 8, 16, 32, 64))
    model = model.to(memory_format=torch.channels_last_3d)
    loaders = DataLoaders(DataLoader(train, 2, shuffle=True), DataLoader(valid, 2))
    learn = Learner(loaders, model, loss_func=dice_ce_loss, cbs=NewPatches(), path=folder)
    with learn.no_bar(): learn.fit_one_cycle(12, 5e-3)
    held_out = np.flatnonzero(table.split == 'test')
    sizes = [(files[i].label > 0).sum() for i in held_out]
    chosen = held_out[np.argsort(sizes)[len(sizes)//2]]
    p = predict_volume(model.cpu(), cases[chosen][0], patch, progress=False)
    return upright_head(files[chosen], p.argmax(0) > 0)

def upright_head(case, predicted):
    "A case and its outline turned for display: columns to the patient's left, rows to the back"
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        io_orientation,
        ornt_transform,
    )
    turn = ornt_transform(io_orientation(case.affine), axcodes2ornt('LPS'))
    flair, label, predicted = (apply_orientation(volume, turn)
                               for volume in (case.image[0], case.label, predicted))
    return Head(from_0_to_1(flair, 99.7), predicted, label > 0)

def from_0_to_1(x, percentile=100):
    return np.clip((x - x.min())/(np.percentile(x, percentile) - x.min()), 0, 1)

# --- drawing

def enlarged(x, side=SIDE):
    "A square or oblong image in a square of `side` pixels, its longer axis filling it"
    x = zoom(x.astype(float), side/max(x.shape), order=1)
    before = [(side - n)//2 for n in x.shape]
    return np.pad(x, [(b, side - n - b) for b, n in zip(before, x.shape)])

def coloured(grey): return np.repeat(255*grey[..., None], 3, axis=-1)

def film_frame(film, strength):
    "The film with its heat, at a strength from 0 to 1"
    grey, heat = enlarged(film.pixels), enlarged(film.heat)
    paint = 255*colormaps['inferno'](heat)[..., :3]
    opacity = .65*strength*np.clip(heat*1.6, 0, 1)[..., None]
    return coloured(grey)*(1 - opacity) + paint*opacity

def outline(mask, side):
    "A line around a mask (x, y), in an enlarged picture"
    inside = enlarged(mask.T, side) > .5
    return binary_dilation(inside, iterations=2) & ~inside

def head_frame(head, z):
    "Slice `z` with both outlines; the model's lies above the true one"
    picture = coloured(enlarged(head.flair[..., z].T))
    picture[outline(head.truth[..., z], SIDE)] = YELLOW
    picture[outline(head.predicted[..., z], SIDE)] = CYAN
    return picture

def write(pen, x, y, text, color='white', size=13):
    pen.text((x, y), text, color, font=ImageFont.load_default(size), anchor='mm')

def frame(film, head, strength, z):
    "One picture of the two panels, with their text, on black: it suits light and dark pages"
    width, height = 2*SIDE + 12, SIDE + 2*STRIP
    picture = Image.new('RGB', (width, height), 'black')
    panels = film_frame(film, strength), head_frame(head, z)
    left, right = SIDE//2, SIDE + 12 + SIDE//2
    for panel, middle in zip(panels, (left, right)):
        panel = Image.fromarray(panel.round().astype(np.uint8))
        picture.paste(panel, (middle - SIDE//2, STRIP))
    pen = ImageDraw.Draw(picture)
    write(pen, left, STRIP//2, 'where a classifier looks (phantom)')
    write(pen, right, STRIP//2, 'what a 3D U-Net outlines (phantom)')
    below = STRIP + SIDE + STRIP//2
    write(pen, left, below, f'pneumothorax: probability {film.p:.2f}')
    write(pen, right - 62, below, 'U-Net', CYAN)
    write(pen, right, below, 'truth', YELLOW)
    write(pen, right + 62, below, f'slice {z}')
    return picture

def shared_palette(film, greys=32, colours=30):
    "One palette for all frames: greys, those of the heat map, and those of the outlines"
    ramp = np.linspace(0, 255, greys).round().astype(np.uint8).repeat(3)
    pixels = film_frame(film, 1).round().astype(np.uint8).reshape(-1, 3)
    vivid = pixels[np.ptp(pixels, axis=1) > 20][None]
    heat = Image.fromarray(vivid).quantize(colours).getpalette()[:3*colours]
    palette = Image.new('P', (1, 1))
    palette.putpalette([*ramp.tolist(), *heat, *CYAN, *YELLOW])
    return palette

def moving_picture(film, head, path):
    "The slices from below the tumour to above it and back to its widest, as a GIF"
    area = head.truth.sum((0, 1))
    with_tumour = np.flatnonzero(area)
    up = range(with_tumour[0] - 1, with_tumour[-1] + 2)
    down = range(with_tumour[-1], area.argmax() - 1, -1)
    slices = [*up, *down]
    strengths = np.linspace(0, 1, len(up)).tolist() + [1]*len(down)
    palette = shared_palette(film)
    frames = [frame(film, head, strength, z).quantize(palette=palette, dither=Image.Dither.NONE)
              for strength, z in zip(strengths, slices)]
    times = [MS]*(len(frames) - 1) + [LAST_MS]
    frames[0].save(path, 'GIF', save_all=True, append_images=frames[1:], duration=times,
        loop=ROUNDS - 1, optimize=True)
    print(f'{path.name}: {len(frames)} frames, {path.stat().st_size/1000:.0f} kB')

def main():
    warnings.filterwarnings('ignore', message='.*torch.jit.script')
    with TemporaryDirectory() as folder:
        film = film_of_test_patient(Path(folder)/'chest')
        head = head_of_test_patient(Path(folder)/'brain')
    moving_picture(film, head, nbs/'images'/'results.gif')

if __name__ == '__main__': main()
