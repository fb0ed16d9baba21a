"""`load_case` and `load_nifti` beside nibabel: `python benchmarks/volumes.py`

nibabel is called as `np.array(nib.load(f).get_fdata())`. A phantom patient of full size,
240 x 240 x 155 voxels of 1 mm and four sequences in 16 bits, as one file with four channels,
compressed and not. `load_case` reads the mask too; nibabel is not asked to. Times are medians of
alternating rounds; memory is the highest resident size of a new process for each, less that of one
which imports the same and reads a tiny file. Ratios of one run are what counts."""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
from _rows import hand_over, options

from medtut.cases import find_cases, load_case
from medtut.nifti import load_nifti, save_nifti
from medtut.phantoms.brain import SEQUENCES, patient
from medtut.phantoms.brain_files import MSD_LABEL


def write_set(root, ending, image, label, affine):
    "A set of one case in the layout of MSD; its image's path"
    save_nifti(label, affine, root/f'labelsTr/BRATS_001{ending}')
    modality = {'0': 'FLAIR', '1': 'T1w', '2': 't1gd', '3': 'T2w'}
    (root/'dataset.json').write_text(json.dumps(dict(modality=modality)))
    return save_nifti(image, affine, root/f'imagesTr/BRATS_001{ending}')

def peer(path):
    return np.array(nib.load(path).get_fdata())

def first_case(path):
    return find_cases(path.parents[1]).iloc[0]

ways = {
    'nibabel': peer,
    'load_nifti': lambda path: load_nifti(path),
    'load_case': lambda path: load_case(first_case(path)),
    'load_nifti, one channel': lambda path: load_nifti(path, channels=2),
    'load_case, one channel': lambda path: load_case(first_case(path), ('t1ce',))}

def highest():
    """Highest resident size of this process, bytes

    Linux counts in ru_maxrss what the process that started this one had"""
    status = Path('/proc/self/status')
    if status.exists():
        lines = status.read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith('VmHWM'))
        return int(kilobytes)*1024
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*unit

def peak(name, path):
    "Highest resident size of a new process that reads `path` by `name`, bytes"
    command = [sys.executable, __file__, '--peak', name, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)

def seconds_of(path, rounds):
    "Times of each way, in rounds that alternate"
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(path)
            seconds[name].append(time.perf_counter() - start)
    return seconds

def ratio(a, b):
    return median(x/y for x, y in zip(a, b))

def compare(args, folder, ending, image, label, affine):
    "Time and memory of one kind of file"
    path = write_set(folder/ending[1:], ending, image, label, affine)
    corner = (slice(8),)*3
    # not all of the corner may be 0
    tiny_image = image[corner] + np.eye(8, dtype=np.int16)[..., None, None]
    tiny = write_set(folder/f'tiny{ending}', ending, tiny_image, label[corner], affine)
    for way in ways.values(): way(tiny)
    seconds = seconds_of(path, args.rounds)
    # with --quick, a process for each would take longest, and say nothing of so small a file
    memory = {}
    if not args.quick:
        for name in ways:
            memory[name] = peak(name, path) - peak(name, tiny)
    on_disk, in_memory = path.stat().st_size/1e6, image.size*4/1e6
    voxels = 'x'.join(map(str, image.shape))
    print(f'{ending}, {on_disk:.0f} MB; {voxels} voxels are {in_memory:.0f} MB of float32')
    for name in ways:
        share = ratio(seconds[name], seconds['nibabel'])
        line = f'  {name:24} {median(seconds[name]):6.3f} s, {share:4.2f} of the time'
        if memory:
            share = memory[name]/memory['nibabel']
            line += f'; {memory[name]/1e6:4.0f} MB at most, {share:4.2f} of the memory'
        print(line)
    voxels = 'x'.join(map(str, image.shape[:3]))
    floors = {'load_case': 1/.7, 'load_case, one channel': 1/.35 if ending == '.nii' else None}
    for name, floor in floors.items():
        less_memory = memory['nibabel']/memory[name] if memory else None
        hand_over(
            args, f'Four MR volumes of {voxels} voxels, {ending}', name,
            'nibabel get_fdata, all channels', ratio(seconds['nibabel'], seconds[name]),
            less_memory,
            floor, 2, packages=['nibabel'])

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--peak', nargs=2, help=argparse.SUPPRESS)
    args = options(parser, rounds=1)
    if args.peak:
        name, path = args.peak
        ways[name](Path(path))
        print(highest())
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        case = patient(np.random.default_rng(3), 'HGG', 1.)
        image = np.stack([case.images[s] for s in SEQUENCES], -1)
        label = MSD_LABEL[case.label]
        if args.quick:
            image, label = image[:40, :40, :40], label[:40, :40, :40]
        for ending in '.nii.gz', '.nii':
            compare(args, Path(folder), ending, image, label, case.affine)
