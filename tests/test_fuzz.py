"""Random input: functions against their definitions, readers against damaged files.

`make fuzz` does the same for longer and with other seeds. What a reader makes of a damaged file is
a right result or the error that its documentation names: no other error, no crash, no GiB."""
import gzip
import io
import json
import math
import struct
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from damage import FUZZ, cut, files, flipped, inside_zip, planted, read_all, retyped
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

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
    assert shown.dtype == np.float32
    assert shown.min() >= 0
    assert shown.max() <= 1
    for value, grey in zip(x.tolist(), shown.tolist()):
        if value <= level - width/2: expected = 0
        elif value > level + width/2: expected = 1
        else: expected = (value - level)/width + .5
        rounding = 1e-6*(1 + (abs(value) + abs(level))/width)
        assert abs(grey - expected) <= rounding, (value, width, level)

@given(st.floats(max_value=0))
def test_windows_without_width_are_refused(width):
    with pytest.raises(ValueError, match='width'):
        windowed(np.zeros(3), width, 0)

masks = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))

@examples
@given(masks)
def test_run_lengths_there_and_back(mask):
    code = rle_encode(mask)
    assert np.array_equal(rle_decode(code, mask.shape), mask)
    # by the definition: skip, fill, skip, fill, down the columns
    lengths = [] if code == '-1' else [int(length) for length in code.split()]
    flat = []
    for skip, fill in zip(lengths[::2], lengths[1::2]):
        flat += [False]*skip + [True]*fill
    flat += [False]*(mask.size - len(flat))
    assert np.array_equal(np.array(flat, bool).reshape(mask.shape[::-1]).T, mask)

def in_a_row(numbers):
    return ' '.join(map(str, numbers))

any_numbers, small_numbers = st.lists(st.integers()), st.lists(st.integers(0, 9))

@examples
@given(st.one_of(st.text(), any_numbers.map(in_a_row), small_numbers.map(in_a_row)))
def test_any_text_is_a_mask_or_refused(code):
    try: mask = rle_decode(code, (5, 4))
    except ValueError: return
    lengths = [] if code.split() == ['-1'] else [int(n) for n in code.split()][1::2]
    assert mask.shape == (5, 4)
    assert mask.sum() == sum(lengths)

words = st.text(min_size=1, max_size=3)
names = st.one_of(st.integers(0, 12).map(str), words.map(lambda word: f'p{word}'))
tables = st.lists(st.tuples(names, st.integers(0, 2)), min_size=3, max_size=60)

@few
@given(tables, st.tuples(*[st.integers(1, 9)]*3), st.integers(0, 9), st.randoms())
def test_splits_tear_no_patient(rows, parts, seed, shuffle):
    table = pd.DataFrame(rows, columns=['patient', 'label'])
    fractions = np.array(parts)/sum(parts)
    try: split = split_by_patient(table, fractions, seed=seed)
    except ValueError as e:
        assert table.patient.nunique() < 3 or 'spaces alone' in str(e)
        return
    parts_of_patient = split.groupby(table.patient).agg(set)
    assert (parts_of_patient.map(len) == 1).all()
    assert set(split) == {'train', 'valid', 'test'}
    n = len(parts_of_patient)
    if n*fractions.min() >= 1:
        patients = split.groupby(table.patient).first().value_counts()
        for part, fraction in zip(('train', 'valid', 'test'), fractions):
            assert abs(patients[part] - fraction*n) <= 1
    order = list(range(len(table)))
    shuffle.shuffle(order)
    shuffled = split_by_patient(table.iloc[order], fractions, seed=seed)
    assert shuffled.sort_index().equals(split), 'the order of rows means nothing'

sizes = st.tuples(*[st.integers(1, 5)]*3)

def padded_to(label, patch):
    "`label` as large as a patch at least, and the zeros put in front of each axis"
    missing = np.maximum(np.subtract(patch, label.shape), 0)
    front = missing//2
    return np.pad(label, list(zip(front, missing - front))), front

def corners_that_qualify(label, patch, share, kind):
    "By brute force: corners of patches of which `kind` ('any': any class) fills a share"
    padded, front = padded_to(label, patch)
    corners = product(*[range(n - p + 1) for n, p in zip(padded.shape, patch)])
    good = set()
    for corner in corners:
        inside = padded[tuple(slice(a, a + p) for a, p in zip(corner, patch))]
        is_filled = inside > 0 if kind == 'any' else inside == kind
        if is_filled.mean() >= share:
            good.add(tuple(np.subtract(corner, front).tolist()))
    return good

@few
@given(arrays(np.uint8, sizes, elements=st.integers(0, 2)), sizes, st.floats(0, 1),
       st.sampled_from(['any', None, (1,), (1, 2)]))
def test_patches_are_exactly_those_that_qualify(label, patch, share, classes):
    "Patches larger than the volume among them: padded evenly, as documented"
    PatchSampler = pytest.importorskip('medtut.patches').PatchSampler
    kinds = classes
    if classes == 'any': kinds = ['any']
    elif classes is None: kinds = np.unique(label[label > 0]).tolist()
    by_kind = {kind: corners_that_qualify(label, patch, share, kind) for kind in kinds}
    want = {kind: corners for kind, corners in by_kind.items() if corners}
    count = math.prod(max(n - p, 0) + 1 for n, p in zip(label.shape, patch))
    if not want:
        with pytest.raises(ValueError):
            PatchSampler(label, patch, share, classes)
        return
    sampler = PatchSampler(label, patch, share, classes)
    drawn = {tuple(corner) for corner in sampler.draw(0, 40*count + 100).tolist()}
    everything = set().union(*want.values())
    assert drawn <= everything
    if classes == 'any':
        assert len(sampler) == len(everything)
    if count < 9: assert drawn == everything

pairs = st.integers(1, 40).flatmap(lambda n: st.tuples(arrays(bool, n), arrays(bool, n)))

@examples
@given(pairs)
def test_confusion_case_by_case(pair):
    y, pred = pair
    cases = list(zip(y.tolist(), pred.tolist()))
    tn, fp, fn, tp = [cases.count(kind) for kind in product((False, True), repeat=2)]
    assert confusion(truth=y, prediction=pred) == (tn, fp, fn, tp)
    definitions = {
        sensitivity: (tp, tp + fn),
        specificity: (tn, tn + fp),
        ppv: (tp, tp + fp),
        npv: (tn, tn + fn),
        accuracy: (tp + tn, len(y))}
    for score, (part, whole) in definitions.items():
        value = score(truth=y, prediction=pred)
        assert value == part/whole if whole else math.isnan(value), score.__name__

finite = st.floats(allow_nan=False, allow_infinity=False)

@examples
@given(st.lists(st.tuples(st.booleans(), finite), min_size=1, max_size=25))
def test_auc_pair_by_pair(cases):
    positive = [score for truth, score in cases if truth]
    negative = [score for truth, score in cases if not truth]
    won = [(p > q) + (p == q)/2 for p, q in product(positive, negative)]
    area = roc_auc(*zip(*cases))
    assert math.isclose(area, sum(won)/len(won)) if won else math.isnan(area)

shapes = st.tuples(*[st.integers(1, 4)]*3)
volumes = shapes.flatmap(lambda s: st.tuples(arrays(bool, s), arrays(bool, s)))
steps = st.tuples(*[st.sampled_from([.5, 1., 3.])]*3)

def surface(mask):
    "Voxels with a face on the outside, one by one"
    inside = set(map(tuple, np.argwhere(mask).tolist()))
    beside = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    def is_outside(voxel, step):
        return tuple(np.add(voxel, step).tolist()) not in inside
    return [voxel for voxel in inside if any(is_outside(voxel, step) for step in beside)]

def distances(points, others, spacing):
    "Of each point from the nearest of the others"
    points, others = np.multiply(points, spacing).tolist(), np.multiply(others, spacing).tolist()
    return [min(math.dist(point, other) for other in others) for point in points]

@few
@given(volumes, steps, st.sampled_from([0, .5, 1, 2.5]))
def test_masks_voxel_by_voxel(pair, spacing, tolerance):
    pred, label = pair
    both, one, other = (pred & label).sum(), pred.sum(), label.sum()
    overlap = dice(label, pred)
    assert math.isclose(overlap, 2*both/(one + other)) if one + other else math.isnan(overlap)
    assert math.isclose(volume_ml(pred, spacing), one*math.prod(spacing)/1000)
    a, b = surface(pred), surface(label)
    near = surface_dice(label, pred, spacing, tolerance)
    far = hausdorff95(label, pred, spacing)
    if a and b:
        from_a, from_b = distances(a, b, spacing), distances(b, a, spacing)
        # distances such as 2.5 are compared with themselves:
        # a rounding error on one side is no difference
        assert math.isclose(near, np.mean(np.array(from_a + from_b) <= tolerance + 1e-9))
        farther = max(np.percentile(from_a, 95), np.percentile(from_b, 95))
        assert math.isclose(far, farther, abs_tol=1e-9)
    else:
        assert math.isnan(far)
        assert near == 0 if a or b else math.isnan(near)

# --- readers against damaged files

@pytest.fixture(scope='session')
def duke(tmp_path_factory):
    folder = tmp_path_factory.mktemp('duke')/'set'
    write_duke_breast(folder, patients=2, matrix=32, slices=12, n_jobs=1, progress=False)
    return folder

def times(n):
    "How many damaged files, where `make fuzz` takes `n` so many times as it is asked for"
    return n//2 if FUZZ == 1 else n*FUZZ

def survives(reader, documented, folder, sources, ways, n):
    files(folder/'damaged', sources, ways, times(n))
    read, refused, odd = read_all(f'fuzz_readers:{reader}', documented, folder/'damaged')
    assert not odd, '\n\n'.join(f'{o["file"]}: {o["said"]}' for o in odd[:3])
    assert read + refused == len(sources)*times(n)
    assert refused, 'damage that nobody noticed is no test'

def packed(change):
    "Damage, then compression: what reads the header gets to see it"
    return lambda raw, rng: gzip.compress(change(raw, rng), 1)

def packed_then_flipped(raw, rng):
    return flipped(gzip.compress(raw, 1), rng)

def first(count, change):
    "Damage to the first bytes alone"
    return lambda raw, rng: change(raw, rng, count)

def test_damaged_nifti(tmp_path):
    from medtut.nifti import save_nifti
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (8, 7, 6)).astype(np.uint8)
    four = rng.normal(size=(8, 7, 6, 2)).astype(np.float32)
    affine = np.diag([1, 2, 3, 1.])
    sources = [save_nifti(mask, affine, tmp_path/'mask.nii'),
               save_nifti(four, affine, tmp_path/'four.nii')]
    ways = [cut, first(352, flipped), first(352, planted)]
    survives('nifti', ['medtut.planes:VolumeError'], tmp_path/'plain', sources, ways, 60)
    # packed after the damage, so that the header is reached
    named_gz = [tmp_path/f'{path.stem}.nii.gz' for path in sources]
    for path, name in zip(sources, named_gz):
        name.write_bytes(path.read_bytes())
    ways = [*map(packed, ways), packed_then_flipped]
    survives('nifti', ['medtut.planes:VolumeError'], tmp_path/'packed', named_gz, ways, 40)

@pytest.mark.parametrize('reader, stem', [
    ('boxes', 'Annotation_Boxes'), ('mapping', 'Breast-Cancer-MRI-filepath_filename-mapping')])
def test_damaged_tables(duke, tmp_path, reader, stem):
    def damaged(kind, ways, n):
        survives(reader, ['builtins:ValueError'], tmp_path/kind, [duke/f'{stem}.{kind}'], ways, n)
    damaged('csv', [cut, flipped, retyped], 60)
    damaged('xlsx', [cut, flipped, inside_zip, inside_zip], 10)

def finding(i): return 'Pneumothorax' if i % 3 else 'No Pneumothorax'

def test_damaged_labels(tmp_path):
    "A table with patients of its own, and one whose files would have to be read"
    own = ['file,label,patient', *(f'train/{i:06d}.dcm,{finding(i)},P{i}' for i in range(9))]
    scanned = ['file,label', 'train/a.dcm,x', 'train/b.dcm,y']
    for name, lines in dict(own=own, scanned=scanned).items():
        (tmp_path/name).mkdir()
        path = tmp_path/name/'labels.csv'
        path.write_text('\n'.join(lines))
        files(tmp_path/'damaged'/name, [path], [cut, flipped, retyped], times(60))
    read, refused, odd = read_all('fuzz_readers:labels', ['builtins:ValueError'],
                                  tmp_path/'damaged')
    assert not odd, odd[:3]
    assert read
    assert refused
    assert read + refused == 2*times(60)

def test_damaged_tables_of_a_set(tmp_path):
    (tmp_path/'labels.csv').write_text('file,label\ntrain/a.dcm,x\ntrain/b.dcm,y\n')
    cases = [dict(image=f'./imagesTr/{i}.nii.gz', label=f'./labelsTr/{i}.nii.gz') for i in 'ab']
    data_set = dict(numTraining=2, training=cases, test=[])
    (tmp_path/'dataset.json').write_text(json.dumps(data_set))
    sources = [tmp_path/'labels.csv', tmp_path/'dataset.json']
    survives('found_set', ['medtut.download:DataError'], tmp_path, sources,
             [cut, flipped, retyped], 60)

def with_table(table, rest):
    "A safetensors file: the length of its table, the table, the weights"
    return struct.pack('<Q', len(table)) + table + rest

def table_end(path):
    "Where the table in front of a safetensors file ends"
    return 8 + struct.unpack('<Q', path.read_bytes()[:8])[0]

def table_retyped(end):
    "Changes the table in front of a safetensors file, its stated length put right"
    return lambda raw, rng: with_table(retyped(raw[8:end], rng), raw[end:])

def test_damaged_weights(tmp_path):
    from torch import nn

    from medtut.weights import save_weights
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = save_weights(model, tmp_path/'w.safetensors', classes=['no', 'yes'], threshold=.5)
    end = table_end(path)
    table = table_retyped(end)
    ways = [cut, first(end, flipped), first(16, planted), table, table]
    survives('weights', ['builtins:ValueError'], tmp_path, [path], ways, 120)

def test_damaged_network(tmp_path):
    from medtut.unet import UNet3D, save_unet
    model = UNet3D(2, 2, filters=2, depth=2)
    path = save_unet(model, tmp_path/'u.safetensors', data='none', seed=0, scores={})
    end = table_end(path)
    def described(raw, rng):  # the network's description alone
        at = raw.index(b'unet3d')
        table = raw[8:at] + retyped(raw[at:at + 160], rng) + raw[at + 160:end]
        return with_table(table, raw[end:])
    ways = [cut, table_retyped(end), described, described, described]
    survives('network', ['builtins:ValueError'], tmp_path, [path], ways, 120)

# bytes that mean something in a tar header: end of text, '.', '/', kinds of members, signs
TAR_BYTES = [0, 0x2e, 0x2f, 0x31, 0x37, 0x80, 0xff]

def tar_header(raw, rng):
    "A member's header with bytes exchanged, and a checksum that fits"
    raw = bytearray(raw)
    headers = [i for i in range(0, len(raw) - 512, 512) if raw[i + 257:i + 262] == b'ustar']
    at = rng.choice(headers)
    for _ in range(rng.randrange(1, 4)):
        byte = rng.choice([*TAR_BYTES, rng.randrange(256)])
        raw[at + rng.randrange(512)] = byte
    raw[at + 148:at + 156] = b' '*8
    raw[at + 148:at + 156] = b'%06o\0 ' % sum(raw[at:at + 512])
    return bytes(raw)

def test_damaged_archives(tmp_path):
    path = tmp_path/'set.tar'
    members = {'s/labels.csv': b'file,label\n', 's/a/b.dcm': bytes(3000),
               f's/{"long"*40}/x.dcm': b'1'*700}
    with tarfile.open(path, mode='w') as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    ways = [cut, tar_header, tar_header, tar_header, packed(tar_header), packed_then_flipped]
    survives('archive', ['medtut.download:DataError'], tmp_path, [path], ways, 120)

def test_damaged_dicom(duke, tmp_path):
    """Some of the files that `test_dicom_damaged.py` goes through in full, and MRI slices.

    They are read, scanned, exported."""
    bundled = Path(pydicom.__file__).parent/'data'/'test_files'
    a_slice = sorted(duke.rglob('*.dcm'))[0]
    sources = [bundled/'CT_small.dcm', bundled/'MR_small_RLE.dcm', a_slice]
    ways = [cut, flipped, planted, first(2000, flipped)]
    survives('dicom', ['medtut.errors:DicomError'], tmp_path, sources, ways, 12)
