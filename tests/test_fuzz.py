"""Random input: functions against their definitions, readers against damaged files. `make fuzz` does the same for longer and with other seeds.

What a reader makes of a damaged file is a right result or the error that its documentation names: no other error, no crash, no GiB."""
import gzip, io, json, math, struct, tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from damage import FUZZ, cut, files, flipped, inside_zip, planted, read_all, retyped
from medtut.display import windowed
from medtut.masks import dice, hausdorff95, surface_dice, volume_ml
from medtut.metrics import accuracy, confusion, npv, ppv, roc_auc, sensitivity, specificity
from medtut.phantoms.breast import write_duke_breast
from medtut.rle import rle_decode, rle_encode
from medtut.splits import split_by_patient

examples = settings(max_examples=100*FUZZ, deadline=None, derandomize=FUZZ == 1)
few = settings(examples, max_examples=30*FUZZ)
pytestmark = pytest.mark.filterwarnings('ignore::medtut.metrics.UndefinedMetric')

# --- functions against their definitions

numbers = st.floats(-1e4, 1e4, width=32)

@examples
@given(arrays(np.float32, st.integers(1, 30), elements=numbers), st.floats(1e-2, 1e4), numbers)
def test_windowing_is_that_of_the_standard(x, width, level):
    "PS3.3 C.11.2.1.3.2, value by value"
    shown = windowed(x, width, level)
    assert shown.dtype == np.float32 and shown.min() >= 0 and shown.max() <= 1
    for v, found in zip(x.tolist(), shown.tolist()):
        expected = 0 if v <= level - width/2 else 1 if v > level + width/2 else (v - level)/width + .5
        assert abs(found - expected) <= 1e-6*(1 + (abs(v) + abs(level))/width), (v, width, level)

@given(st.floats(max_value=0))
def test_windows_without_width_are_refused(width):
    with pytest.raises(ValueError, match='width'): windowed(np.zeros(3), width, 0)

masks = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))

@examples
@given(masks)
def test_run_lengths_there_and_back(mask):
    code = rle_encode(mask)
    assert np.array_equal(rle_decode(code, mask.shape), mask)
    flat, at = [], 0  # by the definition: skip, fill, skip, fill, down the columns
    for skip, fill in zip(*[iter([] if code == '-1' else map(int, code.split()))]*2): flat += [False]*skip + [True]*fill
    flat += [False]*(mask.size - len(flat))
    assert np.array_equal(np.array(flat, bool).reshape(mask.shape[::-1]).T, mask)

@examples
@given(st.one_of(st.text(), st.lists(st.integers()).map(lambda l: ' '.join(map(str, l))), st.lists(st.integers(0, 9)).map(lambda l: ' '.join(map(str, l)))))
def test_any_text_is_a_mask_or_refused(code):
    try: mask = rle_decode(code, (5, 4))
    except ValueError: return
    lengths = [] if code.split() == ['-1'] else [int(n) for n in code.split()][1::2]
    assert mask.shape == (5, 4) and mask.sum() == sum(lengths)

names = st.one_of(st.integers(0, 12).map(str), st.text(min_size=1, max_size=3).map(lambda s: f'p{s}'))

@few
@given(st.lists(st.tuples(names, st.integers(0, 2)), min_size=3, max_size=60), st.tuples(*[st.integers(1, 9)]*3), st.integers(0, 9), st.randoms())
def test_splits_tear_no_patient(rows, parts, seed, shuffle):
    table = pd.DataFrame(rows, columns=['patient', 'label'])
    fractions = np.array(parts)/sum(parts)
    try: split = split_by_patient(table, fractions, seed=seed)
    except ValueError as e:
        assert table.patient.nunique() < 3 or 'spaces alone' in str(e)
        return
    sides = {}
    for patient, part in zip(table.patient, split): sides.setdefault(patient, set()).add(part)
    assert all(len(s) == 1 for s in sides.values()) and set().union(*sides.values()) == {'train', 'valid', 'test'}
    n = len(sides)
    if n*fractions.min() >= 1:
        for part, f in zip(('train', 'valid', 'test'), fractions): assert abs(sum(s == {part} for s in sides.values()) - f*n) <= 1
    order = list(range(len(table)))
    shuffle.shuffle(order)
    assert split_by_patient(table.iloc[order], fractions, seed=seed).sort_index().equals(split), 'the order of rows means nothing'

@few
@given(arrays(np.uint8, st.tuples(*[st.integers(1, 5)]*3), elements=st.integers(0, 2)), st.tuples(*[st.integers(1, 5)]*3), st.floats(0, 1), st.sampled_from(['any', None, (1,), (1, 2)]))
def test_patches_are_exactly_those_that_qualify(label, patch, share, classes):
    "By brute force, patches larger than the volume among them: padded evenly, as documented"
    patches = pytest.importorskip('medtut.patches')
    pad = [(max(p - n, 0)//2, max(p - n, 0) - max(p - n, 0)//2) for n, p in zip(label.shape, patch)]
    padded = np.pad(label, pad)
    corners = list(product(*[range(n - p + 1) for n, p in zip(padded.shape, patch)]))
    held = {c: [padded[tuple(slice(a, a + p) for a, p in zip(c, patch))]] for c in corners}
    want = {}
    kinds = np.unique(label[label > 0]).tolist() if classes is None else ['any'] if classes == 'any' else classes
    for kind in kinds:
        good = {tuple(a - b for a, (b, _) in zip(c, pad)) for c, (x,) in held.items() if ((x > 0) if kind == 'any' else (x == kind)).mean() >= share}
        if good: want[kind] = good
    if not want:
        with pytest.raises(ValueError): patches.PatchSampler(label, patch, share, classes)
        return
    sampler = patches.PatchSampler(label, patch, share, classes)
    drawn = {tuple(c) for c in sampler.draw(0, 40*len(corners) + 100).tolist()}
    everything = set().union(*want.values())
    assert drawn <= everything
    if classes == 'any': assert len(sampler) == len(everything)
    if len(corners) < 9: assert drawn == everything

pairs = st.integers(1, 40).flatmap(lambda n: st.tuples(arrays(bool, n), arrays(bool, n)))

@examples
@given(pairs)
def test_confusion_case_by_case(pair):
    y, pred = pair
    tn, fp, fn, tp = [sum((bool(a), bool(b)) == kind for a, b in zip(y, pred)) for kind in ((False, False), (False, True), (True, False), (True, True))]
    assert confusion(truth=y, prediction=pred) == (tn, fp, fn, tp)
    for score, part, whole in ((sensitivity, tp, tp + fn), (specificity, tn, tn + fp), (ppv, tp, tp + fp), (npv, tn, tn + fn), (accuracy, tp + tn, len(y))):
        found = score(truth=y, prediction=pred)
        assert found == part/whole if whole else math.isnan(found), score.__name__

@examples
@given(st.lists(st.tuples(st.booleans(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=25))
def test_auc_pair_by_pair(cases):
    won = [(p > q) + (p == q)/2 for y, p in cases if y for z, q in cases if not z]
    found = roc_auc(*zip(*cases))
    assert math.isclose(found, sum(won)/len(won)) if won else math.isnan(found)

volumes = st.tuples(*[st.integers(1, 4)]*3).flatmap(lambda s: st.tuples(arrays(bool, s), arrays(bool, s)))
steps = st.tuples(*[st.sampled_from([.5, 1., 3.])]*3)

def surface(mask):
    "Voxels with a face on the outside, one by one"
    inside = set(map(tuple, np.argwhere(mask).tolist()))
    beside = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    return [v for v in inside if any(tuple(a + b for a, b in zip(v, d)) not in inside for d in beside)]

@few
@given(volumes, steps, st.sampled_from([0, .5, 1, 2.5]))
def test_masks_voxel_by_voxel(pair, spacing, tolerance):
    pred, label = pair
    both, one, other = (pred & label).sum(), pred.sum(), label.sum()
    found = dice(label, pred)
    assert math.isclose(found, 2*both/(one + other)) if one + other else math.isnan(found)
    assert math.isclose(volume_ml(pred, spacing), one*math.prod(spacing)/1000)
    a, b = surface(pred), surface(label)
    def nearest(points, others): return [min(math.dist([x*s for x, s in zip(p, spacing)], [x*s for x, s in zip(q, spacing)]) for q in others) for p in points]
    near, far = surface_dice(label, pred, spacing, tolerance), hausdorff95(label, pred, spacing)
    if a and b:
        there, back = nearest(a, b), nearest(b, a)
        # distances such as 2.5 are compared with themselves: a rounding error on one side is no difference
        assert math.isclose(near, np.mean([d <= tolerance + 1e-9 for d in there + back]))
        assert math.isclose(far, max(np.percentile(there, 95), np.percentile(back, 95)), abs_tol=1e-9)
    else:
        assert math.isnan(far) and (near == 0 if a or b else math.isnan(near))

# --- readers against damaged files

@pytest.fixture(scope='session')
def duke(tmp_path_factory):
    folder = tmp_path_factory.mktemp('duke')/'set'
    write_duke_breast(folder, patients=2, matrix=32, slices=12, n_jobs=1, progress=False)
    return folder

def survives(reader, documented, folder, sources, ways, n):
    files(folder/'damaged', sources, ways, n*FUZZ)
    read, refused, odd = read_all(f'fuzz_readers:{reader}', documented, folder/'damaged')
    assert not odd, '\n\n'.join(f'{o["file"]}: {o["said"]}' for o in odd[:3])
    assert read + refused == len(sources)*n*FUZZ and refused, 'damage that nobody noticed is no test'

def test_damaged_nifti(tmp_path):
    from medtut.nifti import save_nifti
    rng = np.random.default_rng(0)
    sources = [save_nifti(rng.integers(0, 4, (8, 7, 6)).astype(np.uint8), np.diag([1, 2, 3, 1.]), tmp_path/'mask.nii'),
               save_nifti(rng.normal(size=(8, 7, 6, 2)).astype(np.float32), np.diag([1, 2, 3, 1.]), tmp_path/'four.nii')]
    def packed(change): return lambda raw, rng: gzip.compress(change(raw, rng), 1)
    head = lambda change: lambda raw, rng: change(raw, rng, 352)
    survives('nifti', ['medtut.planes:VolumeError'], tmp_path/'plain', sources, [cut, head(flipped), head(planted)], 60)
    for s in sources: (tmp_path/f'{s.stem}.nii.gz').write_bytes(s.read_bytes())  # packed after the damage, so that the header is reached
    survives('nifti', ['medtut.planes:VolumeError'], tmp_path/'packed', [tmp_path/f'{s.stem}.nii.gz' for s in sources],
             [*map(packed, (cut, head(flipped), head(planted))), lambda raw, rng: flipped(gzip.compress(raw, 1), rng)], 40)

@pytest.mark.parametrize('reader, stem', [('boxes', 'Annotation_Boxes'), ('mapping', 'Breast-Cancer-MRI-filepath_filename-mapping')])
def test_damaged_tables(duke, tmp_path, reader, stem):
    survives(reader, ['builtins:ValueError'], tmp_path/'csv', [duke/f'{stem}.csv'], [cut, flipped, retyped], 60)
    survives(reader, ['builtins:ValueError'], tmp_path/'xlsx', [duke/f'{stem}.xlsx'], [cut, flipped, inside_zip, inside_zip], 10)

def test_damaged_labels(tmp_path):
    "A table with patients of its own, and one whose files would have to be read"
    for name, rows in ('own', [f'train/{i:06d}.dcm,{"Pneumothorax" if i % 3 else "No Pneumothorax"},P{i}' for i in range(9)]), ('scanned', ['train/a.dcm,x', 'train/b.dcm,y']):
        (tmp_path/name).mkdir()
        (tmp_path/name/'labels.csv').write_text('\n'.join(['file,label' + ',patient'*(name == 'own'), *rows]))
        files(tmp_path/'damaged'/name, [tmp_path/name/'labels.csv'], [cut, flipped, retyped], 60*FUZZ)
    read, refused, odd = read_all('fuzz_readers:labels', ['builtins:ValueError'], tmp_path/'damaged')
    assert not odd, odd[:3]
    assert read and refused and read + refused == 120*FUZZ

def test_damaged_tables_of_a_set(tmp_path):
    (tmp_path/'labels.csv').write_text('file,label\ntrain/a.dcm,x\ntrain/b.dcm,y\n')
    (tmp_path/'dataset.json').write_text(json.dumps(dict(numTraining=2, training=[dict(image=f'./imagesTr/{i}.nii.gz', label=f'./labelsTr/{i}.nii.gz') for i in 'ab'], test=[])))
    survives('found_set', ['medtut.download:DataError'], tmp_path, [tmp_path/'labels.csv', tmp_path/'dataset.json'], [cut, flipped, retyped], 60)

def header_retyped(path):
    "Changes the table in front of a safetensors file, its stated length put right"
    length = 8 + struct.unpack('<Q', path.read_bytes()[:8])[0]
    def table(raw, rng):
        changed = retyped(raw[8:length], rng)
        return struct.pack('<Q', len(changed)) + changed + raw[length:]
    return table, length

def test_damaged_weights(tmp_path):
    from torch import nn
    from medtut.weights import save_weights
    path = save_weights(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), tmp_path/'w.safetensors', classes=['no', 'yes'], threshold=.5)
    table, length = header_retyped(path)
    survives('weights', ['builtins:ValueError'], tmp_path, [path], [cut, lambda raw, rng: flipped(raw, rng, length), lambda raw, rng: planted(raw, rng, 16), table, table], 120)

def test_damaged_network(tmp_path):
    from medtut.unet import UNet3D, save_unet
    path = save_unet(UNet3D(2, 2, filters=2, depth=2), tmp_path/'u.safetensors', data='none', seed=0, scores={})
    table, length = header_retyped(path)
    def described(raw, rng): # the network's description alone
        at = raw.index(b'unet3d')
        return struct.pack('<Q', len(changed := raw[8:at] + retyped(raw[at:at + 160], rng) + raw[at + 160:length])) + changed + raw[length:]
    survives('network', ['builtins:ValueError'], tmp_path, [path], [cut, table, described, described, described], 120)

def test_damaged_archives(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, data in {'s/labels.csv': b'file,label\n', 's/a/b.dcm': bytes(3000), f's/{"long"*40}/x.dcm': b'1'*700}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path/'set.tar').write_bytes(buffer.getvalue())
    def head(raw, rng):  # a member's header with bytes exchanged, and a checksum that fits
        raw, at = bytearray(raw), rng.choice([i for i in range(0, len(raw) - 512, 512) if raw[i + 257:i + 262] == b'ustar'])
        for _ in range(rng.randrange(1, 4)): raw[at + rng.randrange(512)] = rng.choice([0, 0x2e, 0x2f, 0x31, 0x37, 0x80, 0xff, rng.randrange(256)])
        raw[at + 148:at + 156] = b' '*8
        raw[at + 148:at + 156] = b'%06o\0 ' % sum(raw[at:at + 512])
        return bytes(raw)
    survives('archive', ['medtut.download:DataError'], tmp_path, [tmp_path/'set.tar'],
             [cut, head, head, head, lambda raw, rng: gzip.compress(head(raw, rng), 1), lambda raw, rng: flipped(gzip.compress(raw, 1), rng)], 120)

def test_damaged_dicom(duke, tmp_path):
    "Some of the files that `test_dicom_damaged.py` goes through in full, and MRI slices: read, scanned, exported"
    bundled = Path(pydicom.__file__).parent/'data'/'test_files'
    sources = [bundled/'CT_small.dcm', bundled/'MR_small_RLE.dcm', sorted(duke.rglob('*.dcm'))[0]]
    survives('dicom', ['medtut.errors:DicomError'], tmp_path, sources, [cut, flipped, planted, lambda raw, rng: flipped(raw, rng, 2000)], 12)
