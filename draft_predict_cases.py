"""Draft of `predict_cases`, to be exported from nbs/06_segmentation.ipynb.

That module has `json`, `os`, `Path`, `np` and `tqdm` already; new there are the imports of `hashlib`, `joblib`, `pandas` and `filelock` below, and those
from `.volumes`, which tests/test_layers.py allows. All of them are requirements of the package."""
import hashlib, json, os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from filelock import FileLock
from torch import nn
from tqdm.auto import tqdm

from medtut.segmentation import predict_volume, standardize
from medtut.volumes import VolumeError, check_same_grid, load_nifti, resample, save_nifti

def _read_channels(files):
    "Image (x, y, z, channel) and affine, of one file that holds all channels or of one file each"
    image,affine = load_nifti(files[0], nan='refuse')
    if len(files) == 1: return image if image.ndim == 4 else image[..., None], affine
    images = [image]
    for path in files[1:]:
        other,other_affine = load_nifti(path, nan='refuse')
        check_same_grid(image.shape, affine, other.shape, other_affine, (files[0], path))
        images.append(other)
    if odd := [f for f,x in zip(files, images) if x.ndim != 3]: raise VolumeError(f'{odd[0]}: several channels in one of {len(files)} files; give one file, or a file a channel')
    return np.stack(images, -1), affine

def _predict_case(files, target, model, patch, prepare, spacing, settings):
    "Predict one case and save its labels: (status, reason)"
    if target.exists(): return 'there already', ''
    try:
        image,affine = _read_channels(files)
        grid,wanted = (image.shape[:3], affine), getattr(model, 'config', {}).get('in_channels')
        if wanted not in (None, image.shape[3]): raise VolumeError(f'{files[0]}: {image.shape[3]} channels, the model takes {wanted}')
        if spacing is not None: image,affine = resample(image, affine, spacing)
        p = predict_volume(model, prepare(np.moveaxis(image, -1, 0)), patch, progress=False, **settings)
        # back on the case's own grid while these are still probabilities: labels would get steps
        if spacing is not None: p = np.moveaxis(resample(np.moveaxis(p, 0, -1), affine, like=grid)[0], -1, 0)
        save_nifti(p.argmax(0).astype(np.uint8), grid[1], target)
    except ValueError as e: return 'failed', str(e)
    return 'written', ''

def _standardized(image): return standardize(image, 'volume')

def _weights_digest(model):
    "Tells models apart; a function has no weights to tell it by"
    if not isinstance(model, nn.Module): return getattr(model, '__qualname__', type(model).__name__)
    digest = hashlib.sha256()
    for name,w in model.state_dict().items(): digest.update(name.encode() + w.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

def predict_cases(
    model,               # as for `predict_volume`, with one output a class, the background first
    paths,               # NIfTI files, each (x, y, z) or (x, y, z, channel); or a dict, case -> file, or -> list of files, one a channel
    out:str|Path,        # folder that gets `<case>.nii.gz`; what an earlier run wrote there is kept
    patch:tuple,         # (3,) size of a tile, voxels
    prepare=None,        # function, image (channel, x, y, z) -> the same shape, as in training; None: `standardize(image, 'volume')`
    spacing=None,        # mm, of the voxels that the model was trained on; None: those of each file. Labels come out on the file's own grid
    n_jobs:int|None=None,# processes, as joblib counts them; `None`: one, or what `joblib.parallel_config` says. On one GPU: one
    progress:bool=True,  # show a progress bar
    **settings,          # of `predict_volume`: overlap, weight, batch, device
)->pd.DataFrame:         # one row a case: `case`, `path` (of the first file), `out` ('' if there is none), `status`, `reason`
    """Predict many scans, and save each one's labels as uint8 NIfTI on the grid of its own file.

    `status` is 'written', 'there already' or 'failed', and `reason` says why. A run that was cut off goes on where it was: a file that has its
    name is complete. Raises `ValueError`, before anything is written, for cases that share a name, and for a folder `out` that holds
    predictions of another model or other settings. Memory: one scan and its probabilities in each process."""
    if unknown := set(settings) - {'overlap', 'weight', 'batch', 'device'}: raise ValueError(f'{sorted(unknown)}: not settings of predict_cases')
    if isinstance(paths, (str, Path)): raise ValueError(f'{paths}: give a list of files, or a dict of them')
    listed = isinstance(paths, dict)
    cases = [(case if listed else Path(case).name, paths[case] if listed else case) for case in paths]
    cases = [(str(case).removesuffix('.gz').removesuffix('.nii'), [f] if isinstance(f, (str, Path)) else list(f)) for case,f in cases]
    names = [case.lower() for case,_ in cases]
    for (case,files),name in zip(cases, names):
        # a name that some system would read as a path, or as nothing, or that two cases share where capitals don't count
        if not case.strip('. ') or set(case) & set('/\\:\0') or case.startswith('.'): raise ValueError(f'{case!r}: not fit for the name of a file')
        if names.count(name) > 1: raise ValueError(f'{names.count(name)} cases would be written to {case}.nii.gz: give a dict, case -> file')
        if not files: raise ValueError(f'{case}: no file')
    out,prepare = Path(out),prepare or _standardized
    wanted = dict(version=1, weights=_weights_digest(model), patch=[int(p) for p in patch], prepare=getattr(prepare, '__qualname__', repr(type(prepare))),
        spacing=None if spacing is None else np.broadcast_to(np.asarray(spacing, float), 3).tolist(), overlap=settings.get('overlap', .5), weight=settings.get('weight', 'gaussian'))
    out.mkdir(parents=True, exist_ok=True)
    note = out/'.predict.json'
    with FileLock(out/'.predict.lock'): # two runs for one folder take turns; a killed one lets go
        if note.exists():
            if other := {k for k,v in json.loads(note.read_text()).items() if wanted.get(k) != v}:
                raise ValueError(f'{out} holds predictions made with other {", ".join(sorted(other))}: choose another folder')
        else:
            part = note.with_suffix('.part')
            part.write_text(json.dumps(wanted))
            os.replace(part, note)
        for left in out.glob('.*.nii.gz.*'): left.unlink() # of a run that was killed
        # absolute, for a worker may stand in another folder
        done = joblib.Parallel(n_jobs=n_jobs, return_as='generator')(
            joblib.delayed(_predict_case)([Path(f).absolute() for f in files], out.absolute()/f'{case}.nii.gz', model, patch, prepare, spacing, settings)
            for case,files in cases)
        done = list(tqdm(done, total=len(cases), desc='predict', unit='case', disable=not progress))
    rows = [(case, str(files[0]), '' if status == 'failed' else str(out/f'{case}.nii.gz'), status, reason)
            for (case,files),(status,reason) in zip(cases, done)]
    return pd.DataFrame(rows, columns=['case', 'path', 'out', 'status', 'reason'])
