"""`scan` against fastai's `DataFrame.from_dicoms`, and against decoding alone

    python benchmarks/scan.py

The same folder of DICOM files, 1024 x 1024 pixels, half of them JPEG baseline with 8 bits and half
uncompressed with 12 in 16, goes through each in turn, all with pixel statistics. fastai reads in
one process: with worker processes it was seen to hang. Speeds of this machine today mean little
elsewhere; ratios of the same run do."""
import argparse
import io
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pydicom
from _rows import hand_over, options
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid
from scipy.ndimage import gaussian_filter

from medtut.dicom import scan


def smooth_noise(size, seed):
    "Values from 0 to 255 that compress about as well as a radiograph"
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.normal(size=(size, size)), 8)
    x = (x - x.min())/np.ptp(x)*200
    return (x + rng.normal(0, 4, x.shape) + 20).clip(0, 255)

def as_jpeg(x):
    "The bytes of a JPEG image"
    buffer = io.BytesIO()
    Image.fromarray(x.astype(np.uint8)).save(buffer, 'jpeg', quality=90)
    return buffer.getvalue()

def write_file(path, i, size=1024):
    "A file of smooth noise, JPEG or, where `i` is even, uncompressed"
    x = smooth_noise(size, seed=i)
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(i)])
    ds.PatientID, ds.Modality, ds.PixelSpacing = f'PHANTOM{i:04}', 'CR', [.2, .2]
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.PhotometricInterpretation = 'MONOCHROME2'
    is_jpeg = i % 2 == 1
    if is_jpeg:
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.BitsAllocated, ds.BitsStored = 8, 8
        ds.add_new('PixelData', 'OB', encapsulate([as_jpeg(x)]))
    else:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.BitsAllocated, ds.BitsStored = 16, 12
        ds.add_new('PixelData', 'OW', (x*16).astype('<u2').tobytes())
    ds.HighBit = ds.BitsStored - 1
    ds.save_as(path, enforce_file_format=True)

def decode(paths):
    for path in paths:
        _ = pydicom.dcmread(path).pixel_array

def scan_in_one(paths): return scan(paths, progress=False)

def scan_in_two(paths):
    return scan(paths, n_jobs=2, progress=False)

def fastai_table(paths):
    from fastai.medical.imaging import dicom_windows  # noqa: F401, adds `from_dicoms` to pandas
    return pd.DataFrame.from_dicoms(paths, px_summ=True, n_workers=0)

CONTENDERS = {
    'decoding alone (pydicom)': decode,
    'scan, one process': scan_in_one,
    'scan, two processes': scan_in_two,
    'fastai from_dicoms': fastai_table}

# ours, theirs, how many times as fast ours has to be, whose theirs is
FLOORS = [
    ('scan, one process', 'fastai from_dicoms', 5, 'fastai'),
    ('scan, two processes', 'fastai from_dicoms', 3, 'fastai'),
    ('scan, one process', 'decoding alone (pydicom)', 1/1.5, 'pydicom')]

def seconds_each(files, rounds, size):
    "Seconds that each contender takes for a folder of `files`, round by round"
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder)/f'{i:04}.dcm' for i in range(files)]
        for i, path in enumerate(paths):
            write_file(path, i, size)
        for read in CONTENDERS.values():
            read(paths[:4])  # imports and worker processes
        seconds = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, read in CONTENDERS.items():
                start = time.perf_counter()
                read(paths)
                seconds[name].append(time.perf_counter() - start)
    return seconds

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=200)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--size', type=int, default=1024, help='rows and columns')
    args = options(parser, files=8, rounds=1, size=64)
    warnings.simplefilter('ignore')
    seconds = seconds_each(args.files, args.rounds, args.size)
    def faster(ours, theirs):
        return median(b/a for a, b in zip(seconds[ours], seconds[theirs]))
    print(f'{args.files} files, median of {args.rounds} rounds')
    for name, taken in seconds.items():
        print(f'{name:26} {args.files/median(taken):7.1f} files/s   '
              f'{faster(name, "scan, one process"):5.2f} times the speed of scan in one process')
    size = f'{args.size} x {args.size}'
    what = f'A table of {args.files} DICOM files, {size}, with pixel statistics'
    for ours, theirs, least, package in FLOORS:
        hand_over(args, what, ours, theirs, faster(ours, theirs), least_speed=least,
                  packages=[package])

if __name__ == '__main__': main()
