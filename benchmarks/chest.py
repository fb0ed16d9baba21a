"""An epoch's films through `chest_dataloaders` and `ImageBlock`: `python benchmarks/chest.py`

The first keeps what it opened, fastai's opens each film anew. The same films, no augmentation, in
one run. Speeds of this machine today mean little elsewhere; ratios of the same run do."""
import argparse
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

warnings.simplefilter('ignore')  # torch.jit, which fastai uses
from _rows import hand_over, options
from fastai.vision.all import CategoryBlock, ColReader, DataBlock, ImageBlock, Resize, ResizeMethod

from medtut.chest import PILRadiograph, chest_dataloaders, read_labels
from medtut.phantoms.chest_files import write_siim_small


def rows_of_parts(table):
    return [table.index[table.split == part].tolist() for part in ('train', 'valid')]

def opening_anew(folder, table):
    "fastai's own way with the same films"
    block = DataBlock(
        (ImageBlock(PILRadiograph), CategoryBlock),
        get_x=ColReader('file', pref=Path(folder)), get_y=ColReader('label'),
        splitter=rows_of_parts, item_tfms=Resize(128, ResizeMethod.Squish))
    return block.dataloaders(table, bs=32, num_workers=0)

def epoch(dls):
    start = time.perf_counter()
    for _ in dls.train: pass
    return time.perf_counter() - start

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--films', type=int, default=64)
    parser.add_argument('--size', type=int, default=512,
                        help='rows and columns of the files; the real ones have 1024')
    parser.add_argument('--rounds', type=int, default=3)
    args = options(parser, size=64, rounds=1)
    with tempfile.TemporaryDirectory() as folder:
        write_siim_small(folder, n=args.films, size=args.size, n_jobs=-1, progress=False)
        split = ['train']*(args.films - 8) + ['valid']*4 + ['test']*4
        table = read_labels(folder).assign(split=split)
        kept = chest_dataloaders(folder, table=table, augment=False)
        anew = opening_anew(folder, table)
        first = epoch(kept)
        pairs = [(epoch(kept), epoch(anew)) for _ in range(args.rounds)]
    print(f'{args.films} films of {args.size} pixels, median of {args.rounds} rounds')
    longer = first/median(k for k, _ in pairs)
    print(f'first epoch, opening each film once: {longer:.1f} times as long as the following ones')
    what = f'An epoch of {args.films - 8} films of {args.size} x {args.size}, but for the first'
    hand_over(args, what, 'chest_dataloaders, which keeps what it opened',
              'fastai ImageBlock, which opens each film anew',
              median(a/k for k, a in pairs), packages=['fastai'])
