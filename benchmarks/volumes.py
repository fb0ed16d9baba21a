"""`load_case` and `load_nifti` against nibabel's `np.array(nib.load(f).get_fdata())`: `python benchmarks/volumes.py`

A phantom patient of full size, 240 x 240 x 155 voxels of 1 mm and four sequences in 16 bits, as one file with four channels, compressed and
not. `load_case` reads the mask too; nibabel is not asked to. Times are medians of alternating rounds; memory is the highest resident
size of a new process for each, less that of one which imports the same and reads a tiny file. Ratios of one run are what counts."""
import argparse, json, resource, subprocess, sys, tempfile, time
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from _rows import hand_over, options
from medtut.cases import find_cases, load_case
from medtut.phantoms.brain import MSD_LABEL, SEQUENCES, patient
from medtut.nifti import load_nifti, save_nifti

def write_set(root, ending, image, label, affine):
    "A set of one case in the layout of MSD; its image's path"
    save_nifti(label, affine, root/f'labelsTr/BRATS_001{ending}')
    (root/'dataset.json').write_text(json.dumps(dict(modality={'0': 'FLAIR', '1': 'T1w', '2': 't1gd', '3': 'T2w'})))
    return save_nifti(image, affine, root/f'imagesTr/BRATS_001{ending}')

def peer(path):
    return np.array(nib.load(path).get_fdata())

ways = {
    'nibabel': peer,
    'load_nifti': lambda path: load_nifti(path),
    'load_case': lambda path: load_case(find_cases(path.parents[1]).iloc[0]),
    'load_nifti, one channel': lambda path: load_nifti(path, channels=2),
    'load_case, one channel': lambda path: load_case(find_cases(path.parents[1]).iloc[0],
                                                     ('t1ce',))}

def highest():
    "Highest resident size of this process, bytes; Linux counts in ru_maxrss what the process that started this one had"
    status = Path('/proc/self/status')
    if status.exists():
        return int(next(l for l in status.read_text().splitlines()
                        if l.startswith('VmHWM')).split()[1])*1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)

def peak(name, path):
    "Highest resident size of a new process that reads `path` by `name`, bytes"
    return int(subprocess.run([sys.executable, __file__, '--peak', name, path], capture_output=True,
                              text=True, check=True).stdout)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--peak', nargs=2, help=argparse.SUPPRESS)
    args = options(parser, rounds=1)
    if args.peak:
        ways[args.peak[0]](Path(args.peak[1]))
        print(highest())
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        case = patient(np.random.default_rng(3), 'HGG', 1.)
        image, label = np.stack([case.images[s] for s in SEQUENCES], -1), MSD_LABEL[case.label]
        if args.quick: image, label = image[:40, :40, :40], label[:40, :40, :40]
        result = image.size*4
        for ending in '.nii.gz', '.nii':
            path = write_set(folder/ending[1:], ending, image, label, case.affine)
            tiny = write_set(folder/f'tiny{ending}', ending, image[:8, :8, :8] + np.eye(8, dtype=np.int16)[..., None, None], label[:8, :8, :8], case.affine)
            seconds = {name: [] for name in ways}
            for way in ways.values(): way(tiny)
            for _ in range(args.rounds):
                for name, way in ways.items():
                    start = time.perf_counter()
                    way(path)
                    seconds[name].append(time.perf_counter() - start)
            # with --quick, a process for each would take longer than all else, and say nothing of so small a file
            memory = {} if args.quick else {name: peak(name, path) - peak(name, tiny)
                                            for name in ways}
            print(f'{ending}, {path.stat().st_size/1e6:.0f} MB; {"x".join(map(str, image.shape))} voxels are {result/1e6:.0f} MB of float32')
            for name in ways:
                ratio = median(a/b for a, b in zip(seconds[name], seconds['nibabel']))
                print(f'  {name:24} {median(seconds[name]):6.3f} s, {ratio:4.2f} of the time' +
                      (f'; {memory[name]/1e6:4.0f} MB at most, {memory[name]/memory["nibabel"]:4.2f} of the memory' if memory else ''))
            for name, least in (('load_case', 1/.7),
                                ('load_case, one channel', 1/.35 if ending == '.nii' else None)):
                hand_over(args, f'Four MR volumes of {"x".join(map(str, image.shape[:3]))} voxels, {ending}', name, 'nibabel get_fdata, all channels',
                          median(b/a for a, b in zip(seconds[name], seconds['nibabel'])), memory['nibabel']/memory[name] if memory else None, least, 2, packages=['nibabel'])
