"""`export_slices` against the way of the published tutorial: `python benchmarks/slices.py`

The same slices, 512 x 512 pixels with 12 in 16 bits, go through each in turn. The tutorial's way,
written anew from its description: row by row down the table, pydicom, divided by the slice's
own maximum, scikit-image's `imsave`. Labels must be identical, and pixels within one grey under
the same scaling. The start of the worker processes, some seconds once, is not counted. Speeds of
this machine today mean little elsewhere; ratios of the same run do. `--workbook` also compares
the engines for large workbooks."""
import argparse
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import joblib
import numpy as np
import pandas as pd
import pydicom
from _rows import hand_over, options
from PIL import Image
from skimage.io import imsave

from medtut.phantoms.breast import MappedFile, SliceUids, breast_phantom, patient_rows, phantom_uid, slice_dataset
from medtut.phantoms.breast_anatomy import draw_breast_patient
from medtut.pngs import export_slices
from medtut.slices import label_slices, read_boxes, read_mapping

BOX_COLUMNS = ['Patient ID', 'Start Row', 'End Row', 'Start Column', 'End Column',
    'Start Slice', 'End Slice']
PEER = 'one by one, pydicom and imsave'
WAYS = { # what is measured, and how `export_slices` is called
    f'export_slices, window={window!r}, {n} process{"es" if n > 1 else ""}':
        dict(window=window, n_jobs=n) for window in ('slice', 'volume') for n in (1, 2)}
FLOOR = {1: None, 2: 4} # times as fast as the peer, by processes; set before measuring

def enlarged(image, rng):
    "Four times as large, with noise of its own at full size: it compresses as scans do"
    highest = image.max()
    large = np.kron(image, np.ones((4, 4)))
    noisy = large + rng.normal(0, .01*highest, large.shape)
    return noisy.clip(0, highest).astype(image.dtype)

def write_series(folder, number, slices):
    "One phantom, drawn small and enlarged; returns its box and its rows of the mapping table"
    rng = np.random.default_rng(number)
    pid = f'Breast_MRI_{number:03d}'
    b = breast_phantom(draw_breast_patient(rng), 128, slices)
    small = b.image
    between, *pixel = b.spacing
    b.spacing = (between, *[mm/4 for mm in pixel])
    rows = patient_rows(len(small), number, 0, 'ax dyn pre')
    frame = phantom_uid(0, pid, 'frame')
    for k, row in enumerate(rows[len(small):], 1):
        b.image = enlarged(small[k - 1], rng)[None]
        _, _, study, series, _ = row.classic_path.split('/')
        uids = SliceUids(study, series, frame, row.sop_instance_uid)
        path = folder/row.classic_path
        path.parent.mkdir(parents=True, exist_ok=True)
        slice_dataset(b, 1, pid, uids, 'ax dyn pre').save_as(path, enforce_file_format=True)
    return (pid, *b.box), rows

def write_set(folder, patients, slices):
    "Series of phantoms with their tables"
    boxes, mapping = [], []
    for number in range(1, patients + 1):
        box, rows = write_series(folder, number, slices)
        boxes.append(box)
        mapping += rows
    pd.DataFrame(mapping, columns=MappedFile._fields).to_csv(folder/'mapping.csv', index=False)
    pd.DataFrame(boxes, columns=BOX_COLUMNS).to_csv(folder/'boxes.csv', index=False)

def tutorial_label(number, box):
    "1, 0, or None for a slice that is left out"
    start, end = box['Start Slice'], box['End Slice']
    if start <= number < end: return 1
    if number + 5 <= start or number - 5 > end:
        return 0
    return None

def tutorial_image(path):
    ds = pydicom.dcmread(path)
    x = ds.pixel_array.astype(float)
    image = (x*255/x.max()).astype(np.uint8)
    return np.invert(image) if ds.PhotometricInterpretation == 'MONOCHROME1' else image

def one_by_one(root, rows, boxes, out):
    "The tutorial's way: `rows` of its mapping table, one after the other; returns the labels"
    labels = {}
    for name in 'pos', 'neg':
        (out/name).mkdir(parents=True)
    for row in rows.itertuples():
        number = int(row.original_path_and_filename[-7:-4])
        patient = row.original_path_and_filename.split('/')[1]
        label = tutorial_label(number, boxes.loc[patient])
        if label is None: continue
        labels[row.classic_path] = label
        folder = out/('pos' if label else 'neg')
        image = tutorial_image(root/row.classic_path)
        imsave(folder/f'{patient}_{number:03d}.png', image, check_contrast=False)
    return labels

def start_up():
    "What a worker process imports before its first series"
    import medtut.pngs  # noqa: F401
    time.sleep(3) # lest one worker takes both calls

def timed(f, *args, **kwargs):
    start = time.perf_counter()
    result = f(*args, **kwargs)
    return time.perf_counter() - start, result

def greys_apart(ours, theirs, table):
    "Largest difference of any pixel between two exports"
    largest = 0
    for png in table.png:
        a, b = [np.array(Image.open(path)).astype(int)
                for path in (ours/png, theirs/png.replace('_pre', ''))]
        largest = max(largest, abs(a - b).max())
    return largest

def compare(top, root, chosen, rounds):
    "Seconds of each way in each round, and the largest difference of greys"
    boxes = pd.read_csv(root/'boxes.csv').set_index('Patient ID')
    mapping = pd.read_csv(root/'mapping.csv')
    theirs = mapping[mapping.classic_path.isin(chosen.path)]
    seconds, apart = {name: [] for name in (PEER, *WAYS)}, 0
    for i in range(rounds):
        reference = top/f'{i} {PEER}'
        spent, labels = timed(one_by_one, root, theirs, boxes, reference)
        seconds[PEER].append(spent)
        for name, way in WAYS.items():
            out = top/f'{i} {name}'
            spent, table = timed(export_slices, chosen, root, out, progress=False, **way)
            seconds[name].append(spent)
            assert (table.status == 'written').all()
            assert dict(zip(table.path, table.label)) == labels, 'labels differ'
            if way['window'] == 'slice':
                apart = max(apart, greys_apart(out, reference, table))
            shutil.rmtree(out)
        shutil.rmtree(reference)
    assert apart <= 1, f'{apart} greys apart'
    return seconds, apart

def speed_up(ours, theirs):
    return median(b/a for a, b in zip(ours, theirs))

def report(seconds, apart, args):
    print(f'{args.slices} slices, median of {args.rounds} rounds; labels identical, '
          f'pixels {apart} grey apart at most under the same scaling')
    for name, spent in seconds.items():
        print(f'{name:46} {args.slices/median(spent):7.1f} slices/s '
              f'{speed_up(spent, seconds[PEER]):6.2f} times one by one')
    for name, way in WAYS.items():
        hand_over(args, f'{args.slices} slices of 512 x 512 to PNG', name, PEER,
            speed_up(seconds[name], seconds[PEER]), least_speed=FLOOR[way['n_jobs']],
            packages=['pydicom', 'scikit-image'])

def workbook_row(i, numbers):
    "A row as long as real ones"
    patient, k = f'Breast_MRI_{i//840 + 1:03d}', i % 840 + 1
    a, b, c = numbers
    uid = f'1.3.6.1.4.1.14519.5.2.1.{a}.{b}.{c % 10**4}'
    root = f'Duke-Breast-Cancer-MRI/{patient}'
    study = f'01-01-1990-NA-MRI BREAST BILATERAL WWO-{k:05d}'
    return [f'DICOM_Images/{patient}/pre/{patient}_pre_{k:03d}.dcm',
            f'{root}/{uid[:-1]}/{uid[:-2]}/1-{k:03d}.dcm',
            f'{root}/{study}/5.000000-ax dyn pre-{k:05d}/1-{k:03d}.dcm', uid]

def big_workbook(path, megabytes=49.6):
    "A mapping table of the real one's size; returns its number of rows"
    import xlsxwriter
    rows = int(megabytes*15_600) # as many as the real one has at its size
    numbers = np.random.default_rng(0).integers(10**17, size=(rows, 3)).tolist()
    with xlsxwriter.Workbook(path, dict(constant_memory=True)) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, MappedFile._fields)
        for i in range(rows):
            sheet.write_row(i + 1, 0, workbook_row(i, numbers[i]))
    return rows

def compare_workbook(path, args):
    rows = big_workbook(path)
    ours, mapping = timed(read_mapping, path)
    assert len(mapping) == rows
    theirs, _ = timed(pd.read_excel, path, engine='openpyxl')
    print(f'{path.stat().st_size/1e6:.1f} MB workbook of {rows:,} rows: '
          f'read_mapping {ours:.0f} s, pandas with openpyxl {theirs:.0f} s, '
          f'{theirs/ours:.1f} times as long')
    hand_over(args, f'A workbook of {rows:,} rows', 'read_mapping', 'pandas with openpyxl',
        theirs/ours, packages=['pandas', 'openpyxl'])

def main(args, top):
    root = top/'set'
    # of each patient some slices lie in the margin
    write_set(root, patients=-(-args.slices//(args.each - 40)), slices=args.each)
    slices = label_slices(read_mapping(root/'mapping.csv'), read_boxes(root/'boxes.csv'))
    chosen = slices[slices.label.notna()].head(args.slices)
    assert len(chosen) == args.slices
    # seconds that are the same for a hundred slices and for a million
    joblib.Parallel(n_jobs=2)(joblib.delayed(start_up)() for _ in range(2))
    report(*compare(top, root, chosen, args.rounds), args)
    if args.workbook:
        compare_workbook(top/'mapping.xlsx', args)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, default=500, help='how many are exported')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--workbook', action='store_true',
        help='also read a workbook of 49.6 MB: takes some minutes')
    parser.add_argument('--each', type=int, default=120, help='slices of a patient')
    args = options(parser, slices=24, rounds=1, each=60)
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as top:
        main(args, Path(top))
