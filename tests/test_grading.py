"Cases with something wrong, memory, and networks whose answers can be worked out"
import csv, gzip, json, pickle, subprocess, sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from medtut.grading import GradingDataset, LABELS, MODALITIES, adapt_resnet, find_cases, load_case
from medtut.volumes import VolumeError, save_nifti

lps = np.array([[-1., 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])

def brain(seed, shape=(12, 10, 8)):
    "Four channels and a mask: a block of brain that is not 0, in it a tumour whose widest slice is the fifth"
    rng, x = np.random.default_rng(seed), np.zeros((4, *shape), np.int16)
    x[:, 2:10, 2:8, 1:7] = rng.integers(100, 900, (4, 8, 6, 6))
    label = np.zeros(shape, np.uint8)
    label[4:6, 4:6, 3:6] = 2
    label[3:7, 3:7, 4] = 1
    label[4, 4, 4] = 4
    return x, label

def write_brats(root, n=4, ending='.nii', affine=lps, grades='LGG HGG'.split()):
    rows = []
    for i in range(1, n + 1):
        name = f'BraTS20_Training_{i:03d}'
        x, label = brain(i)
        for m, v in zip(MODALITIES, x): save_nifti(v, affine, root/name/f'{name}_{m}{ending}')
        save_nifti(label, affine, root/name/f'{name}_seg{ending}')
        rows.append([grades[i%len(grades)], name])
    with open(root/'name_mapping.csv', 'w', newline='') as f: csv.writer(f).writerows([['Grade', 'BraTS_2020_subject_ID'], *rows])
    return root

def write_msd(root, n=2, order=('FLAIR', 'T1w', 't1gd', 'T2w')):
    for i in range(1, n + 1):
        x, label = brain(i)
        save_nifti(np.moveaxis(x, 0, -1).astype(np.float32), lps, root/f'imagesTr/BRATS_{i:03d}.nii.gz')
        save_nifti(np.array([0, 2, 1, 0, 3], np.uint8)[label], lps, root/f'labelsTr/BRATS_{i:03d}.nii.gz')
    (root/'imagesTr/._BRATS_001.nii.gz').write_bytes(b'AppleDouble')
    save_nifti(np.ones((4, 4, 4, 4), np.float32), lps, root/'imagesTs/BRATS_900.nii.gz')
    (root/'dataset.json').write_text(json.dumps(dict(modality={str(i): m for i, m in enumerate(order)})))
    return root

@pytest.fixture
def brats(tmp_path): return write_brats(tmp_path)

# finding

@pytest.mark.parametrize('text', ['{"modality": {"0": "FL', '[]', '{}', '{"modality": {"1": "FLAIR"}}', '{"modality": ["FLAIR"]}', ''])
def test_a_damaged_description_is_named(tmp_path, text):
    write_msd(tmp_path)
    (tmp_path/'dataset.json').write_text(text)
    with pytest.raises(ValueError, match='dataset.json: '): find_cases(tmp_path)

@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_finds_brats(tmp_path, ending):
    cases = find_cases(write_brats(tmp_path, ending=ending))
    assert cases.patient.tolist() == [f'BraTS20_Training_{i:03d}' for i in range(1, 5)]
    assert cases.grade.tolist() == ['HGG', 'LGG']*2 and cases.label.tolist() == [1, 0, 1, 0]
    assert not cases.missing.any() and not cases.note.any()
    assert all(Path(row[k]).name.startswith(f'{row.patient}_{k}.') for _, row in cases.iterrows() for k in (*MODALITIES, 'seg'))

def test_the_odd_mask_and_what_is_missing(brats):
    name = 'BraTS20_Training_{0:03d}/BraTS20_Training_{0:03d}_{1}.nii'.format
    (brats/name(2, 'seg')).rename(brats/'BraTS20_Training_002/W39_1998.09.19_Segm.nii')
    for m in 't1ce', 'seg': (brats/name(3, m)).unlink()
    (brats/'BraTS20_Training_001/._BraTS20_Training_001_t1.nii').write_bytes(b'AppleDouble')
    (brats/'notes').mkdir()
    cases = find_cases(brats).set_index('patient', drop=False)
    assert cases.seg.iloc[1].name == 'W39_1998.09.19_Segm.nii' and 'W39_1998' in cases.note.iloc[1]
    assert cases.missing.tolist() == ['', '', 't1ce, seg', '']
    assert load_case(cases.iloc[1]).label.any()
    with pytest.raises(VolumeError, match='BraTS20_Training_003: has no t1ce'): load_case(cases.iloc[2])
    assert load_case(cases.iloc[2], ('flair', 't1')).label is None

def test_patients_without_files(brats):
    "An empty folder and a patient of whom only the table knows are rows, too"
    for p in (brats/'BraTS20_Training_002').iterdir(): p.unlink()
    for p in (brats/'BraTS20_Training_004').iterdir(): p.unlink()
    (brats/'BraTS20_Training_004').rmdir()
    cases = find_cases(brats)
    assert cases.missing.tolist() == ['', 'flair, t1, t1ce, t2, seg', '', 'flair, t1, t1ce, t2, seg'] and cases.note[3] == 'no folder'
    with pytest.raises(VolumeError, match='has no flair'): load_case(cases.iloc[3])

def test_grades_unknown(brats):
    rows = [['Grade', 'BraTS_2020_subject_ID'], ['HGG', 'BraTS20_Training_001'], ['IV', 'BraTS20_Training_002']]
    with open(brats/'name_mapping.csv', 'w', newline='') as f: csv.writer(f).writerows(rows)
    cases = find_cases(brats)
    assert cases.label.isna().tolist() == [False, True, True, True] and 'grade IV' in cases.note[1]
    with pytest.raises(VolumeError, match='3 cases have no grade, such as BraTS20_Training_002'): GradingDataset(cases, progress=False)
    (brats/'name_mapping.csv').unlink()
    assert find_cases(brats).grade.isna().all()

@pytest.mark.parametrize('header, row', [('Grade,BraTS_2020_subject_ID', 'HGG,BraTS20_Training_001 '), ('Grade, BraTS_2020_subject_ID', 'HGG, BraTS20_Training_001'), (' Grade ,BraTS_2020_subject_ID\t', ' HGG ,BraTS20_Training_001\u00a0')])
def test_blanks_in_the_table_mean_nothing(brats, header, row):
    (brats/'name_mapping.csv').write_text(f'{header}\n{row}\n', encoding='utf-8')
    cases = find_cases(brats).set_index('patient')
    assert len(cases) == 4 and cases.grade['BraTS20_Training_001'] == 'HGG' and cases.note['BraTS20_Training_001'] == ''

@pytest.mark.parametrize('rows, message', [
    (['HGG,brats20_training_001'], "BraTS20_Training_001', 'brats20_training_001"), (['HGG,BraTS20_Training_001', 'LGG,bRATS20_Training_001'], 'one way'),
    (['HGG,BraTS20_Training_001', 'LGG,BraTS20_Training_001 '], 'HGG and LGG')])
def test_one_patient_in_two_ways(brats, rows, message):
    "It would be a case without grade and one without files, or have the grade of the last row"
    (brats/'name_mapping.csv').write_text('\n'.join(['Grade,BraTS_2020_subject_ID', *rows]))
    with pytest.raises(VolumeError, match=f'name_mapping.csv: .*{message}'): find_cases(brats)

def test_a_row_that_comes_twice(brats):
    (brats/'name_mapping.csv').write_text('Grade,BraTS_2020_subject_ID\nHGG,BraTS20_Training_001\nHGG,BraTS20_Training_001\n')
    assert find_cases(brats).grade[0] == 'HGG'

def test_finds_msd(tmp_path):
    cases = find_cases(write_msd(tmp_path))
    assert cases.patient.tolist() == ['BRATS_001', 'BRATS_002', 'BRATS_900'] and cases.missing.tolist() == ['', '', 'seg']
    with pytest.raises(VolumeError, match='channels are'): find_cases(write_msd(tmp_path, order=('T1w', 'FLAIR', 't1gd', 'T2w')))

def test_nothing_to_find(tmp_path):
    with pytest.raises(VolumeError, match='no such folder'): find_cases(tmp_path/'no')
    with pytest.raises(VolumeError, match='no cases; expected BraTS20_Training_001'): find_cases(tmp_path)

# loading

def test_both_layouts_hold_the_same(tmp_path):
    one = load_case(find_cases(write_brats(tmp_path/'brats', 1)).iloc[0])
    two = load_case(find_cases(write_msd(tmp_path/'msd', 1)).iloc[0])
    x, label = brain(1)
    for case in one, two:
        assert case.image.dtype == np.float32 and np.array_equal(case.image, x) and np.array_equal(case.label, label)
        np.testing.assert_allclose(case.affine, lps)

@pytest.mark.parametrize('write', [write_brats, write_msd])
def test_modalities_in_the_order_asked_for(tmp_path, write):
    row = find_cases(write(tmp_path, 1)).iloc[0]
    x = brain(1)[0]
    assert np.array_equal(load_case(row, ('t2', 't1')).image, x[[3, 1]])
    assert np.array_equal(load_case(row, ('t1ce',)).image, x[[2]])

def test_standardised_within_the_brain(brats):
    image = load_case(find_cases(brats).iloc[0], standardise=True).image
    inside = brain(1)[0] != 0
    for x, b in zip(image, inside):
        assert abs(x[b].mean()) < 1e-5 and abs(x[b].std() - 1) < 1e-5 and not x[~b].any()

def replace(row, key, array, affine=lps):
    path = save_nifti(array, affine, row[key])
    return path

@pytest.mark.parametrize('change, match', [
    (lambda row: replace(row, 't2', brain(1)[0][3][:-1]), r'_t2.nii: gives \(11, 10, 8\) of float32; `out` is \(12, 10, 8\)'),
    (lambda row: replace(row, 't2', brain(1)[0][3], np.diag([-1, 1, 1, 1]) @ lps), 't2 have the same shape, but their corners'),
    (lambda row: replace(row, 'seg', brain(1)[1], np.diag([-1, 1, 1, 1]) @ lps), 'mask have the same shape, but their corners'),
    (lambda row: replace(row, 'seg', brain(1)[1][..., :-1]), 'mask'),
    (lambda row: replace(row, 'seg', brain(1)[1]*3), r'labels \[3, 6, 12\] in a brats mask'),
    (lambda row: replace(row, 'seg', np.where(brain(1)[1], 3, 0)), 'from BraTS 2023 on, 3 is the enhancing part'),
    (lambda row: replace(row, 'seg', brain(1)[1]*.5), 'holds whole numbers'),
    (lambda row: replace(row, 't1', np.where(brain(1)[0][1], np.nan, 0)), 'nan or infinite'),
    (lambda row: replace(row, 't1ce', np.zeros((12, 10, 8), np.int16)), 't1ce: nothing but one value'),
    (lambda row: row['flair'].write_bytes(row['flair'].read_bytes()[:700]), 'cut off'),
    (lambda row: row['t1'].write_text('<html>'), '_t1.nii: can not be read as NIfTI')],
    ids=['size of a sequence', 'place of a sequence', 'place of the mask', 'size of the mask', 'labels', '2023 labels', 'fractions', 'nan', 'empty', 'cut off', 'web page'])
def test_what_does_not_fit_is_refused(brats, change, match):
    row = find_cases(brats).iloc[0]
    load_case(row)
    change(row)
    with pytest.raises(VolumeError, match=match): load_case(row, standardise=True)

def test_masks_a_rounding_apart_are_taken(brats):
    row = find_cases(brats).iloc[0]
    replace(row, 'seg', brain(1)[1]*.99999997, lps + np.outer([1, 1, 1, 0], [1e-5]*4))
    assert np.array_equal(load_case(row).label, brain(1)[1])

code = '''
import sys, medtut.grading as g
kb = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])
small, big = [g.find_cases(p).iloc[0] for p in sys.argv[1:]]
g.load_case(small, standardise=True)
before = kb()
case = g.load_case(big, standardise=True)
print((kb() - before)*1024/case.image.nbytes)'''

@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs Linux')
@pytest.mark.parametrize('layout', ['brats', 'brats, compressed', 'msd'])
def test_memory(tmp_path, layout):
    "At most 1.3 times the result, even if there is no voxel outside the brain"
    if layout == 'msd': small, write = write_msd(tmp_path/'small', 1), write_msd
    else: small, write = write_brats(tmp_path/'small', 1), write_brats
    big = write(tmp_path/'big', 1)
    row, shape = find_cases(big).iloc[0], (160, 160, 100)
    x = np.random.default_rng(0).integers(1, 99, shape).astype(np.int16)
    if layout == 'msd': save_nifti(np.stack([x]*4, -1).astype(np.float32), lps, row.flair)
    else:
        for m in MODALITIES: save_nifti(x, lps, row[m])
    save_nifti(np.ones(shape, np.uint8), lps, row.seg)
    if 'compressed' in layout:
        for k in (*MODALITIES, 'seg'):
            Path(f'{row[k]}.gz').write_bytes(gzip.compress(row[k].read_bytes(), 1))
            row[k].unlink()
    done = subprocess.run([sys.executable, '-c', code, small, big], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert .9 < float(done.stdout) < 1.3

# slices

def test_slices_chosen(brats):
    cases = find_cases(brats)
    make = lambda *args, **kwargs: GradingDataset(cases, *args, progress=False, **kwargs)
    assert make('largest').table.z.tolist() == [4]*4
    assert make('tumour', min_area=1).table.groupby('patient').z.apply(list).tolist() == [[3, 4, 5]]*4
    assert make('tumour', min_area=10).table.z.tolist() == [4]*4
    assert make('tumour', min_area=999).table.z.tolist() == [4]*4
    assert make('all').table.groupby('patient').z.apply(list).tolist() == [[1, 2, 3, 4, 5, 6]]*4
    assert make('all', every=4).table.groupby('patient').z.apply(list).tolist() == [[1, 5]]*4
    assert set(make('largest').table.area) == {16.}

def test_a_slice_is_the_slice(brats):
    ds = GradingDataset(find_cases(brats), 'largest', modalities=('t2', 'flair'), progress=False)
    image = load_case(find_cases(brats).iloc[1], ('t2', 'flair'), standardise=True).image
    x, y = ds[1]
    assert x.shape == (2, 10, 12) and x.dtype == torch.float32 and y == 0 and len(ds) == 4
    assert np.array_equal(x, image[:, :, :, 4].transpose(0, 2, 1))

def test_crop_is_the_square_round_the_tumour(brats):
    cases = find_cases(brats)
    whole, part = (GradingDataset(cases, 'tumour', min_area=1, crop=c, progress=False) for c in (None, 6))
    assert part.x.shape == (12, 4, 6, 6) and part.table.equals(whole.table)
    assert torch.equal(part.x, whole.x[:, :, 2:8, 2:8]) and torch.equal(part.mask, whole.mask[:, 2:8, 2:8])  # the tumour's from 3 to 6 in both axes
    edge = GradingDataset(cases, crop=9, progress=False)  # would begin below 0 along one axis
    assert edge.x.shape[2:] == (9, 9) and torch.equal(edge.x, GradingDataset(cases, progress=False).x[:, :, 0:9, 0:9])
    assert GradingDataset(cases, crop=999, progress=False).x.shape[2:] == (10, 12)
    for bad in dict(crop=0), dict(crop=-1), dict(every=0):
        with pytest.raises(ValueError, match='must be 1 or more and crop positive'): GradingDataset(cases, progress=False, **bad)

def test_masks_go_with_their_slices(brats):
    ds = GradingDataset(find_cases(brats), 'all', progress=False)
    label = load_case(find_cases(brats).iloc[2]).label
    rows = ds.table.index[ds.table.patient == 'BraTS20_Training_003']
    assert all(np.array_equal(ds.mask[i], label[:, :, ds.table.z[i]].T) for i in rows)
    assert ((ds.mask > 0).sum((1, 2)).numpy() == ds.table.area).all()

def test_orientation_does_not_matter(tmp_path):
    "The same patients written with axes R A S: the same slices, the patient's left on the right side"
    a = GradingDataset(find_cases(write_brats(tmp_path/'lps', 2)), 'all', progress=False)
    for i in 1, 2:
        row = find_cases(tmp_path/'lps').iloc[i - 1]
        x, label = brain(i)
        ras = lps @ nib.affines.from_matvec(np.diag([-1, -1, 1]), (11, 9, 0))
        for m, v in zip((*MODALITIES, 'seg'), [*x, label]): save_nifti(v[::-1, ::-1], ras, row[m])
    b = GradingDataset(find_cases(tmp_path/'lps'), 'all', progress=False)
    assert torch.equal(a.x, b.x) and torch.equal(a.mask, b.mask) and a.table.equals(b.table)

def test_processes_change_nothing(brats):
    one, two = (GradingDataset(find_cases(brats), progress=False, n_jobs=n) for n in (1, 2))
    assert torch.equal(one.x, two.x) and one.table.equals(two.table)

def test_a_loader_with_workers(brats):
    ds = GradingDataset(find_cases(brats), progress=False)
    x, y = next(iter(torch.utils.data.DataLoader(pickle.loads(pickle.dumps(ds)), 4, num_workers=1)))
    assert torch.equal(x, ds.x[:4]) and torch.equal(y, ds.y[:4])

def test_slices_that_can_not_be_had(brats):
    cases = find_cases(brats)
    with pytest.raises(ValueError, match='slices must be'): GradingDataset(cases, 'middle', progress=False)
    with pytest.raises(ValueError, match='no cases'): GradingDataset(cases[:0], progress=False)
    cases.seg[0].unlink()
    with pytest.raises(VolumeError, match='BraTS20_Training_001: no slice'): GradingDataset(find_cases(brats), progress=False)
    without = GradingDataset(find_cases(brats), 'all', progress=False)
    assert len(without) == 24 and not without.mask[:6].any()
    with pytest.raises(VolumeError, match='without crop'): GradingDataset(find_cases(brats), 'all', crop=5, progress=False)
    for m in MODALITIES: save_nifti(np.ones((5, 5, 5), np.uint8) + np.eye(5, dtype=np.uint8), lps, cases[m][3])
    save_nifti(np.ones((5, 5, 5), np.uint8), lps, cases.seg[3])
    with pytest.raises(VolumeError, match='BraTS20_Training_004: slices of'): GradingDataset(find_cases(brats)[1:], progress=False)

# the network

@pytest.mark.parametrize('make', [resnet18, resnet50])
@pytest.mark.parametrize('channels', [1, 2, 4, 7])
def test_grey_gives_what_it_gave(make, channels):
    torch.manual_seed(channels)
    old = make().eval()
    new = adapt_resnet(old, channels, 5).eval()
    body = lambda m: nn.Sequential(*list(m.children())[:-1])
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        before, after = body(old)(grey.expand(-1, 3, -1, -1)), body(new)(grey.expand(-1, channels, -1, -1))
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
        assert new(torch.zeros(2, channels, 64, 64)).shape == (2, 5)

def test_the_original_is_left_alone():
    old = resnet18()
    before = {k: v.clone() for k, v in old.state_dict().items()}
    new = adapt_resnet(old)
    with torch.no_grad():
        for p in new.parameters(): p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in old.state_dict().items()) and old.conv1.in_channels == 3

def test_plain_replacement_is_random():
    old = resnet18()
    kept, plain = adapt_resnet(old), adapt_resnet(old, keep=False)
    assert (kept.conv1.weight.std(1) == 0).all() and (plain.conv1.weight.std(1) > 0).all()
    assert torch.equal(kept.layer1[0].conv1.weight, plain.layer1[0].conv1.weight)

def test_other_models_are_refused():
    with pytest.raises(ValueError, match='Sequential has no convolution'): adapt_resnet(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(ValueError, match='at least one channel'): adapt_resnet(resnet18(), 0)
