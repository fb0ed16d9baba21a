"""What `damage.read_all` does with one damaged file.

It is read in every way there is, and what came out is checked."""

import numpy as np


def nifti(path):
    from medtut.nifti import load_nifti
    from medtut.planes import VolumeError
    refused = 0
    ways = [dict(), dict(dtype=np.uint8), dict(nan='refuse'), dict(slices=[0]),
            dict(channels=0, max_bytes=2**20)]
    for kwargs in ways:
        try: x, affine = load_nifti(path, **kwargs)
        except VolumeError as e:
            assert str(path) in str(e)
            refused += 1
            continue
        assert x.ndim in (3, 4) and x.size and x.dtype == kwargs.get('dtype', np.float32)
        assert affine.shape == (4, 4) and np.isfinite(affine).all()
        assert np.linalg.det(affine[:3, :3])
        if kwargs.get('nan') == 'refuse':
            assert np.isfinite(x).all()
    if refused == len(ways): return 'refused'

def boxes(path):
    from medtut.slices import read_boxes
    table = read_boxes(path)
    assert (table.start_slice >= 1).all() and (table.start_slice < table.end_slice).all()
    assert table.patient.is_unique and (table.patient != '').all()

def mapping(path):
    from medtut.slices import read_mapping
    table = read_mapping(path)
    assert {'patient', 'phase', 'slice', 'path'} <= set(table) and table.patient.notna().any()

def labels(path):
    from medtut.chest import read_labels
    table = read_labels(path.parent)
    assert {'file', 'label', 'patient'} <= set(table) and len(table)

def found_set(path):
    "The tables of a set as `find_set` looks at them"
    from medtut.archives import SETS, find_set
    name = 'msd_brain' if path.name == 'dataset.json' else 'siim_small'
    find_set(SETS[name], path.parent)

def weights(path):
    import torch
    from torch import nn

    from medtut.weights import load_weights, read_weights
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        read_weights(path)
        assert isinstance(load_weights(model, path), dict)
    except ValueError as e:
        assert str(path) in str(e)
        after = model.state_dict()
        is_unchanged = all(torch.equal(after[k], v) for k, v in before.items())
        assert is_unchanged, 'a file that does not fit changes nothing'
        raise

def network(path):
    from medtut.unet import load_unet
    try: load_unet(path)
    except ValueError as e:
        assert str(path) in str(e)
        raise

def archive(path):
    from medtut.download import unpack
    folder = path.parent/'deep'/'out'
    here = set(path.parent.iterdir())
    try: unpack(path, folder)
    finally:
        assert set(path.parent.iterdir()) - {folder.parent} <= here, 'unpacked outside'
        assert not folder.parent.exists() or list(folder.parent.iterdir()) in ([], [folder])

def dicom(path):
    from test_dicom_damaged import use

    from medtut.dicom import read_dicom, scan
    from medtut.errors import DicomError
    from medtut.pngs import save_slice
    use(path)
    assert len(scan([path], progress=False)) == 1
    try: save_slice(read_dicom(path), path.with_suffix('.png'))
    except DicomError: return 'refused'
