"""medtut's commands beside other tools' own, on the same folders: `python benchmarks/shell.py`

Two folders. *pydicom* holds the test files of pydicom and pydicom-data: small, of many kinds, some
damaged on purpose; how many volumes are in them nobody knows, so results are counted. *generated*
holds 2,000 files of known truth: 8 CT series of 100 slices, 5 MR series of two echoes, 4 of five
points in time, 150 radiographs, 20 further copies of slices, 20 radiographs that are cut off and 10
files that are no DICOM. A patient's name stands in their headers, in a private element and in the
names of their folders.

A volume is right if its voxels and its corners (to 0.01 voxels) are those of the truth, however its
axes are turned; the same volume twice counts once. A copy is right if its pixels are those of a
whole original. A picture is right if it opens and its file is whole.

Each command is a process of its own, on files that were just written or read. CPU is that of all
processes it started; memory is the highest sum of their proportional set sizes, looked at 20 times
a second. dcmtk has no command for a tree and dicom-anonymizer none for folders below: `find` and
`xargs` call them. The generated series have no vendor's marks, by which dicom2nifti tells the
volumes of one series apart.
Linux only. A tool that is not installed is a row that says so (Debian: dcm2niix, dcmtk; pip:
dicom2nifti, dicom-anonymizer)."""
import argparse
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pydicom
from _rows import hand_over_command, options
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from medtut.dicom import find_dicoms
from medtut.volumes import check_same_grid

NAME = 'Zwetschgenbaum'  # stands in no file of its own

# --- the folders

class Truth(NamedTuple):
    volumes: list   # (image, affine) of each volume that can be made
    pixels: Counter # digest of the pixels of each whole image -> how many files hold them
    series: int     # how many series there are
    dicoms: int     # how many files are DICOM, the damaged ones included

def write_image(path, values, modality, series, number, **elements):
    "One DICOM file of 16 bits, with the patient's name in three places"
    ds = Dataset()
    ds.SOPClassUID = dict(CT=CTImageStorage, MR=MRImageStorage).get(
        modality, ComputedRadiographyImageStorage)
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=['study'])
    ds.SeriesInstanceUID, ds.InstanceNumber, ds.Modality = series, number, modality
    ds.PatientName, ds.PatientID = f'{NAME}^Anna', '1234'
    ds.StudyDate, ds.StudyTime, ds.SeriesDescription = '20200101', '120000', 'made up'
    ds.ImageComments = f'Frau {NAME}, nuechtern'
    ds.private_block(0x0011, 'MADE UP', create=True).add_new(1, 'LO', NAME)
    ds.Manufacturer, ds.PatientPosition = 'made up', 'HFS'
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = 500, 1000
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.add_new('PixelData', 'OW', values.astype('<i2').tobytes())
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path

def smooth(rng, shape):
    "Noise on a slope: every slice has values of its own"
    slope = np.add.outer(np.arange(shape[1]), np.arange(shape[2]))*3 % 700
    return (slope + rng.integers(0, 200, shape)).astype(np.int16)

PIXEL, STEP = .8, 2.5  # mm

def grid(slices):
    "Affine of a stack of axial slices, (column, row, slice) to RAS"
    affine = np.diag([-PIXEL, -PIXEL, STEP, 1])
    affine[:3, 3] = 100, 120, -40
    return affine

def place(z):
    "Where slice `z` of `grid` lies, LPS"
    return dict(ImagePositionPatient=[-100, -120, -40 + z*STEP], PixelSpacing=[PIXEL, PIXEL],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0], SliceThickness=STEP)

def write_series(folder, name, modality, stacks, elements):
    "A series of several volumes, (volume, slice, row, column); `elements(i)` tells volume `i`"
    uid = generate_uid(entropy_srcs=[name])
    n = stacks.shape[1]
    paths = [write_image(folder/name/f'IM{i*n + z:04}', stacks[i, z], modality, uid, i*n + z + 1,
                         SeriesNumber=1 + sum(map(ord, name)), **place(z), **elements(i))
             for i in range(len(stacks)) for z in range(n)]
    volumes = [(stack.transpose(2, 1, 0), grid(n)) for stack in stacks]
    return paths, volumes

def write_generated(folder, size=256, share=1):
    "2,000 files of known truth, or a `share` of their series and slices"
    rng, top = np.random.default_rng(0), folder/f'{NAME}_Anna'
    whole, volumes, series = [], [], []
    def add(count, name, modality, n_volumes, slices, elements):
        for i in range(max(round(count*share), 1)):
            shape = n_volumes, max(int(slices*share), 3), size, size
            stacks = np.stack([smooth(rng, shape[1:]) for _ in range(n_volumes)])
            paths, made = write_series(top, f'{name}{i}', modality, stacks, elements)
            whole.extend(paths)
            volumes.extend(made)
            series.append(f'{name}{i}')
    add(8, 'CT', 'CT', 1, 100, lambda i: dict(RescaleIntercept=0, RescaleSlope=1))
    add(5, 'echoes', 'MR', 2, 40,
        lambda i: dict(EchoTime=[5, 80][i], EchoNumbers=i + 1, AcquisitionNumber=1))
    add(4, 'dynamic', 'MR', 5, 30,
        lambda i: dict(EchoTime=5, TemporalPositionIdentifier=i + 1, NumberOfTemporalPositions=5,
                       AcquisitionNumber=i + 1, AcquisitionTime=f'1200{10*i:02}'))
    films = [write_image(top/'films'/f'film{i:03}.dcm', smooth(rng, (1, size, size))[0], 'CR',
                         generate_uid(entropy_srcs=['film', str(i)]), 1)
             for i in range(int(150*share))]
    copies = whole[:int(20*share)]
    (top/'again').mkdir()
    for path in copies:
        shutil.copy(path, top/'again')
    damaged = films[:int(20*share)]
    for path in damaged:
        content = path.read_bytes()
        path.with_name(f'cut-{path.name}').write_bytes(content[:len(content)//2])
    for i in range(int(10*share)):
        (top/f'note{i}.txt').write_text(f'About {NAME}\n'*50)
    pixels = Counter(map(digest_of_pixels, [*whole, *films, *copies]))
    dicoms = len(whole) + len(films) + len(copies) + len(damaged)
    return Truth(volumes, pixels, len(series) + len(films), dicoms)

def copy_bundled(folder):
    "The test files of pydicom and of pydicom-data, if that is installed"
    shutil.copytree(Path(pydicom.__file__).parent/'data'/'test_files', folder/'pydicom')
    try:
        import data_store
    except ImportError: return
    shutil.copytree(Path(data_store.__file__).parent/'data', folder/'pydicom-data')

# --- what came of it

def digest_of_pixels(path):
    "Of the pixels of a DICOM file as they are stored; `None` if it has none or can't be read"
    try: return hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest()
    except Exception: return None

def each_volume(path):
    "The volumes of a NIfTI file with their affine; those of one slice count for none"
    nifti = nib.load(path)
    array = np.asanyarray(nifti.dataobj)
    if array.ndim < 3 or array.shape[2] < 2 or array.dtype.names:
        return
    stacks = array.reshape(*array.shape[:3], -1)
    for i in range(stacks.shape[3]):
        yield stacks[..., i], nifti.affine

def upright(image, affine):
    "Digest of a volume whose axes run to R A S, its shape, and its affine"
    turned = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(image, np.float32), affine))
    whole_numbers = np.rint(np.asanyarray(turned.dataobj)).astype(np.int32)
    digest = hashlib.sha256(np.ascontiguousarray(whole_numbers).tobytes()).hexdigest()
    return digest, whole_numbers.shape, turned.affine

def is_same(a, b):
    "Equal voxels at equal places? Corners may be 0.01 voxels apart"
    (digest, shape, affine), (other_digest, other_shape, other_affine) = a, b
    if (digest, shape) != (other_digest, other_shape):
        return False
    try: check_same_grid(shape, affine, other_shape, other_affine, tolerance=.01)
    except ValueError: return False
    return True

class Found(NamedTuple):
    results: int       # that are right, or as many as there are where the truth is unknown
    possible: int|None # how many there can be; `None`: nobody knows
    lost: int|None     # files without a result that should have one; `None`: nobody knows

def find_volumes(out, truth):
    "How many different volumes were written; of known truth, how many of those are right"
    written = [upright(*v) for path in sorted(out.rglob('*.nii*')) for v in each_volume(path)]
    if truth is None:
        return Found(len({digest for digest, *_ in written}), None, None)
    right = [upright(*v) for v in truth.volumes]
    missing = [v for v in right if not any(is_same(v, w) for w in written)]
    slices = [shape[2] for _, shape, _ in missing]  # each is a file
    return Found(len(right) - len(missing), len(right), sum(slices))

def count_copies(out, truth):
    "How many copies open; of known truth, how many have the pixels of a whole original"
    paths = [p for p in out.rglob('*') if p.is_file() and not p.name.startswith('.')]
    if truth is not None:
        return sum((Counter(map(digest_of_pixels, paths)) & truth.pixels).values())
    return sum(opens(p) for p in paths)

def opens(path):
    try: return len(pydicom.dcmread(path)) > 0
    except Exception: return False

def count_names(out):
    "In how many files the patient's name is left: in their content, and in their paths"
    paths = [p for p in out.rglob('*') if p.is_file()]
    in_content = sum(NAME.encode() in p.read_bytes() for p in paths)
    return in_content, sum(NAME in str(p.relative_to(out)) for p in paths)

def without_suffix(path): return str(path).removesuffix('.dcm')

def count_pictures(out, folder, truth):
    "How many files have a picture; of known truth, how many whole files"
    stems = set()
    for path in out.rglob('*.png'):
        with Image.open(path) as image:
            image.load()
        stem = re.sub(r'([._]\d+)?\.png$', '', str(path.relative_to(out)))
        stems.add(without_suffix(stem))
    files = [p.relative_to(folder) for p in find_dicoms(folder)]
    whole = [f for f in files if not (truth and f.name.startswith('cut-'))]
    return len({without_suffix(f) for f in whole} & stems)

# --- the contenders

def installed(tool):
    "Path of a command, in this environment or on the PATH; `None` if there is none"
    beside = Path(sys.executable).with_name(tool)
    return str(beside) if beside.exists() else shutil.which(tool)

@cache
def tool_version(tool):
    "Such as `dcm2niix v1.0.20220720`"
    try: return f'{tool} {version(tool)}'
    except PackageNotFoundError: pass
    said = subprocess.run([installed(tool), '--version'], capture_output=True, text=True).stdout
    number = re.search(r'v?\d+\.\d+\.\d+', said)
    return f'{tool} {number[0]}' if number else tool

class Run(NamedTuple):
    seconds: float
    cpu: float     # seconds of all processes
    memory: float  # bytes at most, of all processes
    status: int    # exit status

def tree_of(process):
    "CPU seconds of each process of the tree, and the sum of their proportional set sizes"
    cpu, memory = {}, 0
    try: family = [process, *process.children(recursive=True)]
    except psutil.Error: return cpu, memory
    for member in family:
        try:
            times = member.cpu_times()
            memory += member.memory_full_info().pss
        except psutil.Error: continue
        cpu[member.pid] = times.user + times.system
    return cpu, memory

def measured(command, log):
    "Run a shell's command line, and look at its processes until it ends"
    import resource
    def waited_for():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    before, start, seen, most = waited_for(), time.perf_counter(), {}, 0
    with log.open('w') as f:
        process = psutil.Popen(['bash', '-c', command], stdout=f, stderr=subprocess.STDOUT)
        while process.poll() is None:
            cpu, memory = tree_of(process)
            seen.update(cpu)
            most = max(most, memory)
            time.sleep(.05)
    seconds = time.perf_counter() - start
    # worker processes that nobody waits for are in `seen` alone
    return Run(seconds, max(waited_for() - before, sum(seen.values())), most, process.returncode)

def medtut_command(*args):
    return shlex.join([sys.executable, '-c', 'from medtut.cli import main; main()', *args])

ERASED = ['PatientName', 'PatientID', 'PatientBirthDate', 'OtherPatientIDs', 'ImageComments',
          'ReferringPhysicianName', 'OperatorsName', 'InstitutionName', 'AccessionNumber']

class Way(NamedTuple):
    command: str # of medtut, which the tool stands beside
    label: str
    tool: str    # whose command must be there
    line: str    # for a shell, with {folder} and {out}
    jobs: int|None = None # processes, of medtut

def ways(jobs):
    "Every command line that is compared; {folder} and {out} are filled in"
    def ours(command, *args, j=1):
        given = [a for a in args if a]
        line = medtut_command(command, '{folder}', *given, '-q', '-j', str(j))
        shown = ' '.join(['medtut', command, *[a for a in given if a == '--no-pixels']])
        return Way(command, shown, 'medtut', line, j)
    table = '--csv', '{out}.csv'
    erase = ' '.join(f'-ea {keyword}' for keyword in ERASED)
    each_png = ('mkdir -p "$(dirname "$2/$1")"; c="dcmj2pnm -q --write-png --all-frames"; '
                'for w in "--use-window 1" "--min-max-window" ""; do '
                '$c $w "$0/$1" "$2/$1" && exit 0; done; exit 1')
    for j in dict.fromkeys([1, jobs]):
        yield ours('scan', '--no-pixels', *table, j=j)
        yield ours('series', *table, j=j)
        yield ours('convert', '{out}', *table, j=j)
        yield ours('png', '{out}', *table, j=j)
        yield ours('deidentify', '{out}', '--key-file', '{key}', *table, j=j)
    yield Way('scan', 'dcmdump, all as text', 'dcmdump',
              'dcmdump -q --scan-directories --recurse --print-filename {folder} > {out}.txt')
    yield Way('series', 'dcm2niix, its JSON files alone', 'dcm2niix',
              'mkdir {out} && dcm2niix -b o -ba n -d 9 -f %j -o {out} {folder}')
    yield Way('convert', 'dicom2nifti', 'dicom2nifti',
              f'mkdir {{out}} && {installed("dicom2nifti")} {{folder}} {{out}}')
    yield Way('convert', 'dcm2niix', 'dcm2niix',
              'mkdir {out} && dcm2niix -z i -b n -d 9 -f %j -o {out} {folder}')
    yield Way('png', 'dcmj2pnm, a process a file', 'dcmj2pnm',
              'cd {folder} && find . -type f -print0 | '
              f"xargs -0 -I FILE bash -c '{each_png}' {{folder}} FILE {{out}}")
    yield Way('deidentify', 'dicom-anonymizer, folder by folder', 'dicom-anonymizer',
              'cd {folder} && find . -type d -print0 | xargs -0 -I FOLDER bash -c '
              f"""'mkdir -p "$1/$0" && {installed("dicom-anonymizer")} "$0" "$1/$0"' """
              'FOLDER {out}')
    yield Way('deidentify', f'dcmodify, {len(ERASED)} elements and private ones erased', 'dcmodify',
              'cp -r {folder} {out} && find {out} -type f -print0 | '
              f'xargs -0 dcmodify -q --no-backup -ie -imt -ep {erase}')

def find_results(way, folder, out, truth):
    "What came of a command"
    if way.command == 'convert':
        return find_volumes(out, truth)
    if way.command == 'series':
        if way.tool == 'medtut': found = pd.read_csv(f'{out}.csv').uid.nunique()
        else: found = len({re.sub('_.*', '', p.stem) for p in out.glob('*.json')})
        return Found(found, truth and truth.series, None)
    files = find_dicoms(folder)
    images = [p for p in files if digest_of_pixels(p) is not None]
    possible = dict(scan=files, png=images, deidentify=files)[way.command]
    n_possible = len(possible)
    if truth is not None and way.command != 'scan':
        n_possible = truth.pixels.total()
    if way.command == 'deidentify': found = count_copies(out, truth)
    elif way.command == 'png': found = count_pictures(out, folder, truth)
    elif way.tool == 'medtut': found = int(pd.read_csv(f'{out}.csv').error.isna().sum())
    else:
        text = Path(f'{out}.txt').read_text(errors='replace')
        found = len(re.findall('^# Dicom-File-Format', text, re.M))
    return Found(found, n_possible, n_possible - found)

def compare(args, name, folder, work, truth):
    "Each way on one folder, each handed over as a row"
    key = work/'secret.key'
    key.write_text('known to everybody, for a benchmark')
    key.chmod(0o600)
    chosen = [w for w in ways(args.jobs) if re.search(args.only, w.label)]
    for i, way in enumerate(sorted(chosen, key=lambda w: w.command)):
        about = dict(folder=name, command=way.command, label=way.label, jobs=way.jobs)
        if way.tool != 'medtut' and not installed(way.tool):
            hand_over_command(args, **about, tool=way.tool)
            continue
        out = work/f'{name}{i}'
        run = measured(way.line.format(folder=folder, out=out, key=key), work/f'{name}{i}.log')
        found = find_results(way, folder, out, truth)
        left = count_names(out) if truth and way.command == 'deidentify' else None
        hand_over_command(
            args, **about, tool=tool_version(way.tool), seconds=run.seconds, cpu=run.cpu,
            memory=run.memory, status=run.status, names=left, **found._asdict())
        if args.keep: continue
        shutil.rmtree(out, ignore_errors=True)
        for path in work.glob(f'{name}{i}.*'):
            path.unlink()

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, default=256, help='rows and columns of generated files')
    parser.add_argument('--share', type=float, default=1, help='of the generated files')
    parser.add_argument('--jobs', type=int, default=2, help='processes, beside one alone')
    parser.add_argument('--bundled', type=int, default=1, help='0: generated files only')
    parser.add_argument('--only', default='', help='a regular expression: these commands alone')
    parser.add_argument('--keep', type=Path, help='work in this folder, and leave all there')
    args = options(parser, size=16, share=.05, jobs=1, bundled=0)
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        if args.bundled:
            copy_bundled(work/'pydicom')
            compare(args, 'pydicom', work/'pydicom', work, None)
        truth = write_generated(work/'generated', args.size, args.share)
        compare(args, 'generated', work/'generated', work, truth)
