"""`scan` against fastai's `DataFrame.from_dicoms`, and against decoding alone: `python benchmarks/scan.py`

The same folder of DICOM files, 1024 x 1024 pixels, half of them JPEG baseline with 8 bits and half uncompressed with 12 in 16, goes
through each in turn, all with pixel statistics. fastai reads in one process: with worker processes it was seen to hang. Speeds of this machine today mean little elsewhere; ratios of the same run do."""
import argparse, io, tempfile, time, warnings
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid
from scipy.ndimage import gaussian_filter

from _rows import hand_over, options
from medtut.dicom import scan

def write_file(path, i, size=1024):
    "A file of smooth noise: compresses about as well as a radiograph"
    rng = np.random.default_rng(i)
    x = gaussian_filter(rng.normal(size=(size, size)), 8)
    x = ((x - x.min())/np.ptp(x)*200 + rng.normal(0, 4, x.shape) + 20).clip(0, 255)
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.SOPClassUID,ds.SOPInstanceUID = SecondaryCaptureImageStorage,generate_uid(entropy_srcs=[str(i)])
    ds.PatientID,ds.Modality,ds.PixelSpacing = f'PHANTOM{i:04}','CR',[.2, .2]
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel,ds.PhotometricInterpretation,ds.PixelRepresentation = 1,'MONOCHROME2',0
    if i % 2:
        ds.BitsAllocated = ds.BitsStored = 8
        Image.fromarray(x.astype(np.uint8)).save(jpeg := io.BytesIO(), 'jpeg', quality=90)
        data,ds.file_meta.TransferSyntaxUID = encapsulate([jpeg.getvalue()]),JPEGBaseline8Bit
    else:
        ds.BitsAllocated,ds.BitsStored = 16,12
        data,ds.file_meta.TransferSyntaxUID = (x*16).astype('<u2').tobytes(),ExplicitVRLittleEndian
    ds.HighBit = ds.BitsStored - 1
    ds.add_new('PixelData', 'OB' if i % 2 else 'OW', data)
    ds.save_as(path, enforce_file_format=True)

def decode(paths):
    for p in paths: pydicom.dcmread(p).pixel_array

def fastai_table(paths):
    from fastai.medical.imaging import dicom_windows  # noqa: F401, adds `from_dicoms` to pandas
    return pd.DataFrame.from_dicoms(paths, px_summ=True, n_workers=0)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=200)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--size', type=int, default=1024, help='rows and columns')
    args = options(parser, files=8, rounds=1, size=64)
    warnings.simplefilter('ignore')
    contenders = {
        'decoding alone (pydicom)': decode,
        'scan, one process': lambda paths: scan(paths, progress=False),
        'scan, two processes': lambda paths: scan(paths, n_jobs=2, progress=False),
        'fastai from_dicoms': fastai_table}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder)/f'{i:04}.dcm' for i in range(args.files)]
        for i,p in enumerate(paths): write_file(p, i, args.size)
        seconds = {name: [] for name in contenders}
        for f in contenders.values(): f(paths[:4]) # imports and worker processes
        for _ in range(args.rounds):
            for name,f in contenders.items():
                start = time.perf_counter()
                f(paths)
                seconds[name].append(time.perf_counter() - start)
    base = seconds['scan, one process']
    print(f'{args.files} files, median of {args.rounds} rounds')
    for name,s in seconds.items():
        ratio = median(b/a for a,b in zip(s, base))
        print(f'{name:26} {args.files/median(s):7.1f} files/s   {ratio:5.2f} times the speed of scan in one process')
    def faster(ours, theirs): return median(b/a for a,b in zip(seconds[ours], seconds[theirs]))
    what = f'A table of {args.files} DICOM files, {args.size} x {args.size}, with pixel statistics'
    for ours,theirs,least,package in (('scan, one process', 'fastai from_dicoms', 5, 'fastai'), ('scan, two processes', 'fastai from_dicoms', 3, 'fastai'),
                                      ('scan, one process', 'decoding alone (pydicom)', 1/1.5, 'pydicom')):
        hand_over(args, what, ours, theirs, faster(ours, theirs), least_speed=least, packages=[package])
