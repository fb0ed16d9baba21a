"""`export_slices` against the way of the published tutorial, and the engines for large workbooks: `python benchmarks/slices.py`

The same slices, 512 x 512 pixels with 12 in 16 bits, go through each in turn. The tutorial's way, written anew from its description: row by row
down the table, pydicom, divided by the slice's own maximum, scikit-image's `imsave`. Labels must be identical, and pixels within one grey under the
same scaling. The start of the worker processes, some seconds once, is not counted. Speeds of this machine today mean little elsewhere; ratios of the same run do."""
import argparse, shutil, tempfile, time, warnings
from pathlib import Path
from statistics import median

import joblib
import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from skimage.io import imsave

from _rows import hand_over, options
from medtut.phantoms.breast import breast_phantom, draw_patient, patient_rows, slice_dataset
from medtut.slices import export_slices, label_slices, read_boxes, read_mapping

def write_set(folder, patients, slices, size=512):
    "Series of phantoms, drawn small and enlarged, with noise of their own at full size: they compress as scans do"
    rows, boxes = [], []
    for i in range(1, patients + 1):
        rng = np.random.default_rng(i)
        b = breast_phantom(draw_patient(rng), 128, slices)
        small, b.spacing = b.image, tuple(s/4 if axis else s for axis, s in enumerate(b.spacing))
        (mapped, frame), pid = patient_rows(b, i, 0, 'ax dyn pre'), f'Breast_MRI_{i:03d}'
        rows += mapped
        boxes.append((pid, *b.box))
        for k, (_, classic, _, sop) in enumerate(mapped[len(small):], 1):
            large = np.kron(small[k - 1], np.ones((4, 4)))
            b.image = (large + rng.normal(0, .01*small.max(), large.shape)).clip(0, small.max())[None].astype(small.dtype)
            _, _, study, series, _ = classic.split('/')
            (folder/classic).parent.mkdir(parents=True, exist_ok=True)
            ds = slice_dataset(b, 1, pid, (study, series, frame, sop), 'ax dyn pre')
            ds.save_as(folder/classic, enforce_file_format=True)
    mapping = pd.DataFrame(rows, columns=['original_path_and_filename', 'classic_path', 'descriptive_path', 'sop_instance_uid'])
    mapping.to_csv(folder/'mapping.csv', index=False)
    columns = ['Patient ID', 'Start Row', 'End Row', 'Start Column', 'End Column', 'Start Slice', 'End Slice']
    pd.DataFrame(boxes, columns=columns).to_csv(folder/'boxes.csv', index=False)

def one_by_one(root, rows, boxes, out):
    "The tutorial's way: `rows` of its mapping table, one after the other; returns the labels"
    labels = {}
    for name in 'pos', 'neg': (out/name).mkdir(parents=True)
    for row in rows.itertuples():
        number, patient = int(row.original_path_and_filename[-7:-4]), row.original_path_and_filename.split('/')[1]
        box = boxes.loc[patient]
        start, end = box['Start Slice'], box['End Slice']
        if start <= number < end: label = 1
        elif number + 5 <= start or number - 5 > end: label = 0
        else: continue
        ds = pydicom.dcmread(root/row.classic_path)
        image = (ds.pixel_array.astype(float)*255/ds.pixel_array.max()).astype(np.uint8)
        if ds.PhotometricInterpretation == 'MONOCHROME1': image = np.invert(image)
        labels[row.classic_path] = label
        imsave(out/('pos' if label else 'neg')/f'{patient}_{number:03d}.png', image, check_contrast=False)
    return labels

def start_up():
    "What a worker process imports before its first series"
    import medtut.slices
    time.sleep(3) # lest one worker takes both calls

def timed(f, *args, **kwargs):
    start = time.perf_counter()
    found = f(*args, **kwargs)
    return time.perf_counter() - start, found

def greys_apart(ours, theirs, table):
    "Largest difference of any pixel between two exports"
    def image(path): return np.array(Image.open(path)).astype(int)
    return max(abs(image(ours/r.png) - image(theirs/r.png.replace('_pre', ''))).max() for r in table.itertuples())

def big_workbook(path, megabytes=49.6):
    "A mapping table of the real one's size; its rows are as long as real ones"
    import xlsxwriter
    rows = int(megabytes*15_600) # as many as the real one has at its size
    numbers = np.random.default_rng(0).integers(10**17, size=(rows, 3)).tolist()
    with xlsxwriter.Workbook(path, dict(constant_memory=True)) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ['original_path_and_filename', 'classic_path', 'descriptive_path', 'sop_instance_UID'])
        for i in range(rows):
            patient, k = f'Breast_MRI_{i//840 + 1:03d}', i % 840 + 1
            a, b, c = numbers[i]
            uid = f'1.3.6.1.4.1.14519.5.2.1.{a}.{b}.{c % 10**4}'
            sheet.write_row(i + 1, 0, [f'DICOM_Images/{patient}/pre/{patient}_pre_{k:03d}.dcm', f'Duke-Breast-Cancer-MRI/{patient}/{uid[:-1]}/{uid[:-2]}/1-{k:03d}.dcm',
                f'Duke-Breast-Cancer-MRI/{patient}/01-01-1990-NA-MRI BREAST BILATERAL WWO-{k:05d}/5.000000-ax dyn pre-{k:05d}/1-{k:03d}.dcm', uid])
    return rows

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, default=500, help='how many are exported')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--workbook', action='store_true', help='also read a workbook of 49.6 MB: takes some minutes')
    parser.add_argument('--each', type=int, default=120, help='slices of a patient')
    args = options(parser, slices=24, rounds=1, each=60)
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as top:
        root, each = Path(top)/'set', args.each
        write_set(root, -(-args.slices//(each - 40)), each)
        boxes = pd.read_csv(root/'boxes.csv').set_index('Patient ID')
        slices = label_slices(read_mapping(root/'mapping.csv'), read_boxes(root/'boxes.csv'))
        chosen = slices[slices.label.notna()].head(args.slices)
        assert len(chosen) == args.slices
        mapping = pd.read_csv(root/'mapping.csv')
        theirs = mapping[mapping.classic_path.isin(chosen.path)]
        ours = {f'export_slices, window={w!r}, {n} process{"es"*(n > 1)}': dict(window=w, n_jobs=n) for w in ('slice', 'volume') for n in (1, 2)}
        seconds = {name: [] for name in ['one by one, pydicom and imsave', *ours]}
        joblib.Parallel(n_jobs=2)(joblib.delayed(start_up)() for _ in range(2)) # seconds that are the same for a hundred slices and for a million
        for i in range(args.rounds):
            for name in seconds:
                out = Path(top)/f'{i} {name}'
                if name in ours: s, table = timed(export_slices, chosen, root, out, progress=False, **ours[name])
                else:
                    s, labels = timed(one_by_one, root, theirs, boxes, out)
                    reference = out
                seconds[name].append(s)
                if name in ours:
                    assert (table.status == 'written').all() and dict(zip(table.path, table.label)) == labels, 'labels differ'
                    if ours[name]['window'] == 'slice':
                        apart = greys_apart(out, reference, table)
                        assert apart <= 1, f'{apart} greys apart'
                    shutil.rmtree(out)
            shutil.rmtree(reference)
        base = seconds[peer := 'one by one, pydicom and imsave']
        print(f'{args.slices} slices, median of {args.rounds} rounds; labels identical, pixels {apart} grey apart at most under the same scaling')
        for name, s in seconds.items():
            print(f'{name:46} {args.slices/median(s):7.1f} slices/s  {median(b/a for a, b in zip(s, base)):5.2f} times one by one')
        for name, kind in ours.items():
            hand_over(args, f'{args.slices} slices of 512 x 512 to PNG', name, peer, median(b/a for a, b in zip(seconds[name], base)),
                      least_speed=4 if kind['n_jobs'] == 2 else None, packages=['pydicom', 'scikit-image'])
        if args.workbook:
            rows = big_workbook(book := Path(top)/'mapping.xlsx')
            ours, found = timed(read_mapping, book)
            assert len(found) == rows
            theirs, _ = timed(pd.read_excel, book, engine='openpyxl')
            print(f'{book.stat().st_size/1e6:.1f} MB workbook of {rows:,} rows: read_mapping {ours:.0f} s, pandas with openpyxl {theirs:.0f} s, {theirs/ours:.1f} times as long')
            hand_over(args, f'A workbook of {rows:,} rows', 'read_mapping', 'pandas with openpyxl', theirs/ours, packages=['pandas', 'openpyxl'])
