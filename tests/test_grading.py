"Cases with something wrong, memory, and networks whose answers can be worked out"
import gzip
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from medtut.brain_sets import BRATS_LABELS, MODALITIES, MSD_LABELS
from medtut.cases import find_cases, load_case
from medtut.grading import GradingDataset, adapt_resnet
from medtut.nifti import save_nifti
from medtut.planes import VolumeError

lps = np.array([[-1., 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])

def brain(seed, shape=(12, 10, 8)):
    """Four channels and a mask: a block of brain that is not 0, in it a tumour whose widest slice
    is the fifth"""
    rng = np.random.default_rng(seed)
    x = np.zeros((4, *shape), np.int16)
    x[:, 2:10, 2:8, 1:7] = rng.integers(100, 900, (4, 8, 6, 6))
    label = np.zeros(shape, np.uint8)
    label[4:6, 4:6, 3:6] = 2
    label[3:7, 3:7, 4] = 1
    label[4, 4, 4] = 4
    return x, label

def table_of(*rows):
    return '\n'.join(['Grade,BraTS_2020_subject_ID', *rows])

def write_brats(root, n=4, ending='.nii', affine=lps):
    rows = []
    for i in range(1, n + 1):
        name = f'BraTS20_Training_{i:03d}'
        x, label = brain(i)
        for m, v in zip((*MODALITIES, 'seg'), (*x, label)):
            save_nifti(v, affine, root/name/f'{name}_{m}{ending}')
        grade = ('LGG', 'HGG')[i % 2]
        rows.append(f'{grade},{name}')
    (root/'name_mapping.csv').write_text(table_of(*rows))
    return root

MSD_NUMBERS = np.array([0, 2, 1, 0, 3], np.uint8) # of BraTS' 0 to 4

def write_msd(root, n=2, order=('FLAIR', 'T1w', 't1gd', 'T2w')):
    for i in range(1, n + 1):
        x, label = brain(i)
        name = f'BRATS_{i:03d}.nii.gz'
        save_nifti(np.moveaxis(x, 0, -1).astype(np.float32), lps, root/'imagesTr'/name)
        save_nifti(MSD_NUMBERS[label], lps, root/'labelsTr'/name)
    (root/'imagesTr/._BRATS_001.nii.gz').write_bytes(b'AppleDouble')
    save_nifti(np.ones((4, 4, 4, 4), np.float32), lps, root/'imagesTs/BRATS_900.nii.gz')
    modality = {str(i): m for i, m in enumerate(order)}
    (root/'dataset.json').write_text(json.dumps(dict(modality=modality)))
    return root

@pytest.fixture
def brats(tmp_path): return write_brats(tmp_path)

# finding

@pytest.mark.parametrize('text', [
    '{"modality": {"0": "FL', '[]', '{}', '{"modality": {"1": "FLAIR"}}',
    '{"modality": ["FLAIR"]}', ''])
def test_a_damaged_description_is_named(tmp_path, text):
    write_msd(tmp_path)
    (tmp_path/'dataset.json').write_text(text)
    with pytest.raises(ValueError, match='dataset.json: '):
        find_cases(tmp_path)

@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_finds_brats(tmp_path, ending):
    cases = find_cases(write_brats(tmp_path, ending=ending))
    assert cases.patient.tolist() == [f'BraTS20_Training_{i:03d}' for i in range(1, 5)]
    assert cases.grade.tolist() == ['HGG', 'LGG']*2
    assert cases.label.tolist() == [1, 0, 1, 0]
    assert not cases.missing.any()
    assert not cases.note.any()
    for _, row in cases.iterrows():
        for k in (*MODALITIES, 'seg'):
            assert row[k].name.startswith(f'{row.patient}_{k}.')

def test_the_odd_mask_and_what_is_missing(brats):
    name = 'BraTS20_Training_{0:03d}/BraTS20_Training_{0:03d}_{1}.nii'.format
    (brats/name(2, 'seg')).rename(brats/'BraTS20_Training_002/W39_1998.09.19_Segm.nii')
    for m in 't1ce', 'seg':
        (brats/name(3, m)).unlink()
    (brats/'BraTS20_Training_001/._BraTS20_Training_001_t1.nii').write_bytes(b'AppleDouble')
    (brats/'notes').mkdir()
    cases = find_cases(brats).set_index('patient', drop=False)
    assert cases.seg.iloc[1].name == 'W39_1998.09.19_Segm.nii'
    assert 'W39_1998' in cases.note.iloc[1]
    assert cases.missing.tolist() == ['', '', 't1ce, seg', '']
    assert load_case(cases.iloc[1]).label.any()
    with pytest.raises(VolumeError, match='BraTS20_Training_003: has no t1ce'):
        load_case(cases.iloc[2])
    assert load_case(cases.iloc[2], ('flair', 't1')).label is None

def test_patients_without_files(brats):
    "An empty folder and a patient of whom only the table knows are rows, too"
    for p in (brats/'BraTS20_Training_002').iterdir():
        p.unlink()
    for p in (brats/'BraTS20_Training_004').iterdir():
        p.unlink()
    (brats/'BraTS20_Training_004').rmdir()
    cases = find_cases(brats)
    assert cases.missing.tolist() == ['', 'flair, t1, t1ce, t2, seg']*2
    assert cases.note[3] == 'no folder'
    with pytest.raises(VolumeError, match='has no flair'):
        load_case(cases.iloc[3])

def test_grades_unknown(brats):
    table = table_of('HGG,BraTS20_Training_001', 'IV,BraTS20_Training_002')
    (brats/'name_mapping.csv').write_text(table)
    cases = find_cases(brats)
    assert cases.label.isna().tolist() == [False, True, True, True]
    assert 'grade IV' in cases.note[1]
    with pytest.raises(VolumeError, match='no grade for 3 of . cases, such as BraTS20_Training_002'):
        GradingDataset(cases, progress=False)
    (brats/'name_mapping.csv').unlink()
    assert find_cases(brats).grade.isna().all()

@pytest.mark.parametrize('header, row', [
    ('Grade,BraTS_2020_subject_ID', 'HGG,BraTS20_Training_001 '),
    ('Grade, BraTS_2020_subject_ID', 'HGG, BraTS20_Training_001'),
    (' Grade ,BraTS_2020_subject_ID\t', ' HGG ,BraTS20_Training_001\u00a0')])
def test_blanks_in_the_table_mean_nothing(brats, header, row):
    (brats/'name_mapping.csv').write_text(f'{header}\n{row}\n', encoding='utf-8')
    cases = find_cases(brats).set_index('patient')
    first = cases.loc['BraTS20_Training_001']
    assert len(cases) == 4
    assert first.grade == 'HGG'
    assert first.note == ''

@pytest.mark.parametrize('rows, message', [
    (['HGG,brats20_training_001'], "BraTS20_Training_001', 'brats20_training_001"),
    (['HGG,BraTS20_Training_001', 'LGG,bRATS20_Training_001'], 'one way'),
    (['HGG,BraTS20_Training_001', 'LGG,BraTS20_Training_001 '], 'HGG and LGG')])
def test_one_patient_in_two_ways(brats, rows, message):
    "It would be a case without grade and one without files, or have the grade of the last row"
    (brats/'name_mapping.csv').write_text(table_of(*rows))
    with pytest.raises(VolumeError, match=f'name_mapping.csv: .*{message}'):
        find_cases(brats)

def test_a_row_that_comes_twice(brats):
    (brats/'name_mapping.csv').write_text(table_of(*['HGG,BraTS20_Training_001']*2))
    assert find_cases(brats).grade[0] == 'HGG'

def test_finds_msd(tmp_path):
    cases = find_cases(write_msd(tmp_path))
    assert cases.patient.tolist() == ['BRATS_001', 'BRATS_002', 'BRATS_900']
    assert cases.missing.tolist() == ['', '', 'seg']
    swapped = write_msd(tmp_path, order=('T1w', 'FLAIR', 't1gd', 'T2w'))
    with pytest.raises(VolumeError, match='channels are'):
        find_cases(swapped)

def test_nothing_to_find(tmp_path):
    with pytest.raises(VolumeError, match='no such folder'):
        find_cases(tmp_path/'no')
    with pytest.raises(VolumeError, match='no cases; expected BraTS20_Training_001'):
        find_cases(tmp_path)

# names in use: BraTS 2017 to 2023 and later, the Decathlon's other tasks

NAMES = {'brats': dict(zip(MODALITIES, MODALITIES), seg='seg'),
         # synapse.org, syn51156910 (BraTS 2023): t2f is FLAIR, t1n without and t1c with contrast
         'brats2023': dict(flair='t2f', t1='t1n', t1ce='t1c', t2='t2w', seg='seg')}
FIRST_2023, FIRST_2020 = 'BraTS-GLI-00000-000', 'BraTS20_Training_001'

def write_case(folder, layout='brats', seed=1, ending='.nii.gz'):
    "A case as its set names it; from BraTS 2023 on the enhancing part is 3"
    x, label = brain(seed)
    if layout == 'brats2023':
        label = np.where(label == 4, 3, label).astype(np.uint8)
    separator = '-' if layout == 'brats2023' else '_'
    for key, volume in zip((*MODALITIES, 'seg'), [*x, label]):
        path = folder/f'{folder.name}{separator}{NAMES[layout][key]}{ending}'
        save_nifti(volume, lps, path)
    return folder

def write_task(root, modality, labels, n=2, channels=1):
    rng = np.random.default_rng(0)
    names = [f'organ_{i:03d}.nii.gz' for i in range(1, n + 1)]
    shape = (6, 5, 4) if channels == 1 else (6, 5, 4, channels)
    for name in names:
        save_nifti(rng.integers(1, 99, shape).astype(np.int16), lps, root/'imagesTr'/name)
        save_nifti(rng.integers(0, 3, (6, 5, 4)).astype(np.uint8), lps, root/'labelsTr'/name)
    training = [dict(image=f'./imagesTr/{name}', label=f'./labelsTr/{name}') for name in names]
    about = dict(modality=modality, labels=labels, training=training)
    (root/'dataset.json').write_text(json.dumps(about))
    return root

@pytest.mark.parametrize('name, layout, patient', [
    ('Brats17_CBICA_AAB_1', 'brats', None), ('BraTS2021_00000', 'brats', None),
    ('FeTS2022_00000', 'brats', None), ('BraTS-GLI-00000-000', 'brats2023', 'BraTS-GLI-00000'),
    ('BraTS-MEN-00004-000', 'brats2023', 'BraTS-MEN-00004'),
    ('BraTS-MET-00002-001', 'brats2023', 'BraTS-MET-00002'),
    ('BraTS-SSA-00002-000', 'brats2023', 'BraTS-SSA-00002'),
    ('BraTS-GLI-02073-100', 'brats2023', 'BraTS-GLI-02073'),
    ('BraTS-GoAT-00000', 'brats2023', 'BraTS-GoAT-00000')])
def test_names_of_each_year(tmp_path, name, layout, patient):
    "The four sequences come out as those of BraTS 2020, whatever their names sort like"
    write_case(tmp_path/name, layout)
    cases = find_cases(tmp_path)
    row = cases.iloc[0]
    assert len(cases) == 1
    assert row.case == name
    assert row.patient == (patient or name)
    assert row.layout == layout
    assert row.missing == ''
    assert row.grade is None
    assert row.sequences == MODALITIES
    for key, word in NAMES[layout].items():
        assert row[key].name.endswith(f'{word}.nii.gz')
    x, label = brain(1)
    case = load_case(row)
    assert np.array_equal(case.image, x)
    assert np.array_equal(case.label, label)
    assert np.array_equal(load_case(row, ('t2', 't1ce')).image, x[[3, 2]])

def test_a_set_without_a_table_gets_no_note_of_one(tmp_path):
    """BraTS 2021 and later were published without grades; those of 2020 have them in
    name_mapping.csv"""
    for name in 'BraTS2021_00000', 'BraTS2021_00002':
        write_case(tmp_path/'2021'/name)
    write_case(tmp_path/'2023'/FIRST_2023, 'brats2023')
    assert not find_cases(tmp_path/'2021').note.any()
    assert not find_cases(tmp_path/'2023').note.any()
    write_case(tmp_path/'2020'/FIRST_2020)
    assert find_cases(tmp_path/'2020').note[0] == 'no name_mapping.csv, which gives the grade'

def test_the_table_of_another_year_adds_no_patients(tmp_path):
    "BraTS 2020's table also lists the names of 2017 to 2019, NA for patients who were not there"
    write_case(tmp_path/'BraTS19_CBICA_AAB_1')
    write_case(tmp_path/'BraTS19_CBICA_AAG_1', seed=2)
    rows = ['Grade,BraTS_2018_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID',
            'HGG,Brats18_CBICA_AAB_1,BraTS19_CBICA_AAB_1,BraTS20_Training_001',
            'LGG,NA,BraTS19_CBICA_AAG_1,BraTS20_Training_002',
            'HGG,NA,NA,BraTS20_Training_003', 'LGG,NA,NA,BraTS20_Training_004']
    (tmp_path/'name_mapping.csv').write_text('\n'.join(rows))
    cases = find_cases(tmp_path)
    assert cases.case.tolist() == ['BraTS19_CBICA_AAB_1', 'BraTS19_CBICA_AAG_1']
    assert cases.grade.tolist() == ['HGG', 'LGG']
    assert not cases.note.any()

def test_folders_of_grades(tmp_path):
    "BraTS 2018 and 2019: HGG/ and LGG/ hold the patients"
    write_case(tmp_path/'HGG'/'Brats18_2013_2_1')
    write_case(tmp_path/'LGG'/'Brats18_2013_0_1', seed=2)
    cases = find_cases(tmp_path)
    assert cases.patient.tolist() == ['Brats18_2013_2_1', 'Brats18_2013_0_1']
    assert cases.grade.tolist() == ['HGG', 'LGG']
    assert cases.label.tolist() == [1, 0]
    assert not cases.note.any()
    assert not cases.missing.any()
    assert len(GradingDataset(cases, 'largest', progress=False)) == 2
    assert find_cases(tmp_path/'LGG').grade.tolist() == ['LGG']

def test_folder_and_table_disagree(tmp_path):
    write_case(tmp_path/'HGG'/'Brats18_2013_2_1')
    (tmp_path/'name_mapping.csv').write_text('Grade,BraTS_2018_subject_ID\nLGG,Brats18_2013_2_1\n')
    row = find_cases(tmp_path).iloc[0]
    assert row.grade is None
    assert row.note == 'in folder HGG, but name_mapping.csv gives grade LGG'

def test_a_patient_in_both_folders(tmp_path):
    for grade in 'HGG', 'LGG':
        write_case(tmp_path/grade/'Brats18_2013_2_1')
    with pytest.raises(VolumeError, match=r'HGG.Brats18_2013_2_1 and .*LGG.Brats18_2013_2_1'):
        find_cases(tmp_path)

def test_time_points_are_one_patient(tmp_path):
    names = ['BraTS-GLI-00005-000', 'BraTS-GLI-00005-001', 'BraTS-GLI-00006-000']
    for i, name in enumerate(names):
        write_case(tmp_path/name, 'brats2023', seed=i)
    cases = find_cases(tmp_path)
    assert cases.patient.tolist() == ['BraTS-GLI-00005', 'BraTS-GLI-00005', 'BraTS-GLI-00006']
    assert cases.case.tolist() == names
    ds = GradingDataset(cases.assign(label=[1, 1, 0]), 'largest', progress=False)
    assert ds.table.patient.tolist() == cases.patient.tolist()

def test_challenges_side_by_side(tmp_path):
    names = [f'BraTS-{challenge}-00001-000' for challenge in ('GLI', 'MEN', 'MET', 'PED', 'SSA')]
    for name in names:
        write_case(tmp_path/name, 'brats2023')
    cases = find_cases(tmp_path)
    assert cases.case.tolist() == names
    assert not cases.missing.any()
    assert not cases.note.any()

def test_masks_of_children_are_read_as_in_2023(tmp_path):
    "arXiv 2404.15009: four parts from 2024 on, in files of the same names"
    write_case(tmp_path/'BraTS-PED-00002-000', 'brats2023')
    row = find_cases(tmp_path).iloc[0]
    with pytest.warns(UserWarning, match='BraTS-PED.*2024'):
        case = load_case(row)
    assert np.array_equal(case.label, brain(1)[1])

def test_labels_of_other_years_are_refused(tmp_path):
    row = find_cases(write_case(tmp_path/FIRST_2023, 'brats2023').parent).iloc[0]
    replace(row, 'seg', brain(1)[1])
    message = r'-seg.nii.gz: labels \[4\] in a brats2023 mask, .* cavity'
    with pytest.raises(VolumeError, match=message):
        load_case(row)

@pytest.mark.parametrize('layout, name', [('brats', FIRST_2020), ('brats2023', FIRST_2023)])
@pytest.mark.parametrize('key', ['t1', 't1ce', 'seg'])
@pytest.mark.parametrize('twin', ['.nii', 'upper'])
def test_two_files_of_one_sequence(tmp_path, layout, name, key, twin):
    folder = write_case(tmp_path/name, layout)
    path = next(p for p in folder.iterdir() if p.name.endswith(f'{NAMES[layout][key]}.nii.gz'))
    names = {'.nii': path.name.removesuffix('.gz'), 'upper': path.name.upper()}
    other = path.with_name(names[twin])
    if other.exists(): pytest.skip('this file system takes both names for one')
    other.write_bytes(path.read_bytes())
    with pytest.raises(VolumeError, match=key) as e:
        find_cases(tmp_path)
    assert path.name in str(e.value)
    assert other.name in str(e.value)

def test_files_that_are_no_sequence_may_come_twice(tmp_path):
    folder = write_case(tmp_path/FIRST_2023, 'brats2023')
    for ending in '.nii', '.nii.gz':
        (folder/f'{FIRST_2023}-pred{ending}').write_bytes(b'')
    assert find_cases(tmp_path).note.tolist() == ['']

def test_what_is_missing_is_named(tmp_path):
    folder = write_case(tmp_path/FIRST_2023, 'brats2023')
    write_case(tmp_path/'BraTS-GLI-00001-000', 'brats2023')
    (folder/f'{FIRST_2023}-t1c.nii.gz').rename(folder/'BraTS-GLI-00009-000-t1c.nii.gz')
    (folder/f'{FIRST_2023}-seg.nii.gz').unlink()
    (tmp_path/'BraTS-GLI-00002-000').mkdir()
    cases = find_cases(tmp_path)
    assert cases.missing.tolist() == ['t1ce, seg', '', 'flair, t1, t1ce, t2, seg']
    assert f'no {FIRST_2023}-t1c, {FIRST_2023}-seg' in cases.note[0]
    assert 'BraTS-GLI-00009-000-t1c.nii.gz' in cases.note[0]
    with pytest.raises(VolumeError, match=f'{FIRST_2023}: has no t1ce.*00009'):
        load_case(cases.iloc[0])

def test_two_odd_masks(brats):
    folder = brats/FIRST_2020
    (folder/f'{FIRST_2020}_seg.nii').rename(folder/'A_Segm.nii')
    (folder/'B_Segm.nii').write_bytes(b'')
    row = find_cases(brats).iloc[0]
    assert row.seg is None
    assert 'A_Segm.nii' in row.note
    assert 'B_Segm.nii' in row.note

def test_layouts_are_not_mixed(tmp_path):
    "One set under two names would be read twice: BraTS 2023 holds the patients of 2021 and before"
    write_case(tmp_path/FIRST_2023, 'brats2023')
    write_case(tmp_path/'BraTS2021_00000')
    with pytest.raises(VolumeError, match='two layouts') as e:
        find_cases(tmp_path)
    assert 'BraTS2021_00000_' in str(e.value)
    assert f'{FIRST_2023}-' in str(e.value)

def test_a_set_beside_a_decathlon_task(tmp_path):
    write_msd(tmp_path)
    write_case(tmp_path/FIRST_2023, 'brats2023')
    with pytest.raises(VolumeError, match=f'two layouts.*{FIRST_2023}'):
        find_cases(tmp_path)

def test_unknown_names(tmp_path):
    "Alone they are no cases; beside others they are a row that names a file"
    odd = tmp_path/'BraTS-GLI-00007-000'/'BraTS-GLI-00007-000_flair.nii.gz'
    odd.parent.mkdir()
    odd.write_bytes(b'')
    with pytest.raises(VolumeError, match='no cases; .*BraTS-GLI-00007-000_flair.nii.gz'):
        find_cases(tmp_path)
    write_case(tmp_path/FIRST_2023, 'brats2023')
    cases = find_cases(tmp_path)
    assert cases.missing.tolist() == ['', 'flair, t1, t1ce, t2, seg']
    assert odd.name in cases.note[1]
    assert cases.patient[1] == 'BraTS-GLI-00007'

def test_patients_in_two_spellings(tmp_path):
    for name in 'BraTS-GLI-00005-000', 'brats-gli-00005-001':
        write_case(tmp_path/name, 'brats2023')
    with pytest.raises(VolumeError, match='brats-gli-00005'):
        find_cases(tmp_path)

@pytest.mark.parametrize('modality, channels', [({'0': 'MRI'}, 1), ({'0': 'T2', '1': 'ADC'}, 2)])
def test_other_decathlon_tasks(tmp_path, modality, channels):
    """Names and labels are those of dataset.json (medicaldecathlon.com); Task05_Prostate has two
    channels"""
    labels = {'0': 'background', '1': 'PZ', '2': 'TZ'}
    cases = find_cases(write_task(tmp_path, modality, labels, channels=channels))
    names = tuple(modality.values())
    assert cases.patient.tolist() == ['organ_001', 'organ_002']
    assert not cases.missing.any()
    row = cases.iloc[1]
    assert row.sequences == names
    assert row.labels == {1: 'PZ', 2: 'TZ'}
    assert row.layout == 'msd'
    assert all(row[name] == tmp_path/'imagesTr'/'organ_002.nii.gz' for name in names)
    case = load_case(row)
    stored = np.asarray(nib.load(tmp_path/'imagesTr'/'organ_002.nii.gz').dataobj)
    stored = stored.reshape(6, 5, 4, channels)
    assert np.array_equal(case.image, np.moveaxis(stored, -1, 0))
    assert np.array_equal(case.label, nib.load(row.seg).dataobj)
    assert np.array_equal(load_case(row, names[::-1]).image, case.image[::-1])
    with pytest.raises(ValueError, match='no modalities'):
        load_case(row, ('flair',))

def test_a_label_that_the_description_lacks(tmp_path):
    cases = find_cases(write_task(tmp_path, {'0': 'CT'}, {'0': 'background', '1': 'liver'}))
    message = r'organ_001.nii.gz: labels \[2\] in a msd mask.*dataset.json'
    with pytest.raises(VolumeError, match=message):
        load_case(cases.iloc[0])

@pytest.mark.parametrize('channels', [1, 3])
def test_a_file_with_other_channels_than_described(tmp_path, channels):
    modality, labels = {'0': 'T2', '1': 'ADC'}, {'1': 'PZ', '2': 'TZ'}
    row = find_cases(write_task(tmp_path, modality, labels, channels=channels)).iloc[0]
    with pytest.raises(VolumeError, match='organ_001.nii.gz: .*channel'):
        load_case(row)

@pytest.mark.parametrize('modality, labels', [
    ({'0': 'MRI', '1': 'mri'}, {'1': 'a'}), ({'0': 'seg'}, {'1': 'a'}), ({'0': ''}, {'1': 'a'}),
    ({}, {'1': 'a'}), ({'0': 7}, {'1': 'a'}), ({'0': 'MRI'}, None), ({'0': 'MRI'}, {'one': 'a'}),
    ({'0': 'MRI'}, {'background': 0, 'a': 1}), ({'0': 'MRI'}, {'300': 'a'}),
    ({'0': 'MRI'}, {'1': ['a']})])
def test_descriptions_that_can_not_be_used(tmp_path, modality, labels):
    write_task(tmp_path, modality, labels)
    with pytest.raises(VolumeError, match='dataset.json: '):
        find_cases(tmp_path)

def test_task01_with_other_labels_is_refused(tmp_path):
    "A widely copied tutorial takes 2 for enhancing: Task01's dataset.json says 3"
    write_msd(tmp_path)
    about = json.loads((tmp_path/'dataset.json').read_text())
    about['labels'] = {'0': 'background', '1': 'edema', '2': 'non-enhancing tumor',
                       '3': 'enhancing tumour'}
    (tmp_path/'dataset.json').write_text(json.dumps(about))
    assert np.array_equal(load_case(find_cases(tmp_path).iloc[0]).label, brain(1)[1])
    about['labels'] |= {'2': 'enhancing tumour', '3': 'non-enhancing tumor'}
    (tmp_path/'dataset.json').write_text(json.dumps(about))
    with pytest.raises(VolumeError, match='dataset.json: labels'):
        find_cases(tmp_path)

def test_gaps_in_a_decathlon_task(tmp_path):
    "Cases that are only listed, that have a mask alone or no mask are rows that say so"
    write_task(tmp_path, {'0': 'MRI'}, {'1': 'a', '2': 'b'}, n=4)
    for gone in ('imagesTr/organ_001', 'labelsTr/organ_001', 'imagesTr/organ_002',
                 'labelsTr/organ_003'):
        (tmp_path/f'{gone}.nii.gz').unlink()
    cases = find_cases(tmp_path)
    assert cases.missing.tolist() == ['MRI, seg', 'MRI', 'seg', '']
    assert cases.note.tolist() == ['no imagesTr/organ_001, labelsTr/organ_001',
                                   'no imagesTr/organ_002', 'no labelsTr/organ_003', '']
    with pytest.raises(VolumeError, match='organ_002: has no MRI'):
        load_case(cases.iloc[1])

@pytest.mark.parametrize('folder', ['imagesTr', 'labelsTr'])
def test_two_files_of_one_decathlon_case(tmp_path, folder):
    write_task(tmp_path, {'0': 'MRI'}, {'1': 'a', '2': 'b'})
    (tmp_path/folder/'organ_001.nii').write_bytes(b'')
    with pytest.raises(VolumeError, match=r'organ_001.nii and .*organ_001.nii.gz'):
        find_cases(tmp_path)

def test_a_case_for_training_and_for_test(tmp_path):
    write_msd(tmp_path)
    (tmp_path/'imagesTs'/'BRATS_001.nii.gz').write_bytes(b'')
    with pytest.raises(VolumeError, match='BRATS_001'):
        find_cases(tmp_path)

def test_a_real_decathlon_task():
    folder = os.environ.get('MEDTUT_REAL_FILES')
    root = Path(folder or '')/'msd_hippocampus'
    if not folder or not root.is_dir():
        pytest.skip('MEDTUT_REAL_FILES does not name a folder with msd_hippocampus/')
    cases = find_cases(root)
    assert len(cases) == json.loads((root/'dataset.json').read_text())['numTraining']
    assert not cases.missing.any()
    assert not cases.note.any()
    assert cases.grade.isna().all()
    assert cases.labels[0] == {1: 'Anterior', 2: 'Posterior'}
    for i in range(0, len(cases), 20):
        case = load_case(cases.iloc[i])
        assert case.image.shape == (1, *case.label.shape)
        assert set(np.unique(case.label)) == {0, 1, 2}

# loading

def test_both_layouts_hold_the_same(tmp_path):
    roots = write_brats(tmp_path/'brats', 1), write_msd(tmp_path/'msd', 1)
    x, label = brain(1)
    for root in roots:
        case = load_case(find_cases(root).iloc[0])
        assert case.image.dtype == np.float32
        assert np.array_equal(case.image, x)
        assert np.array_equal(case.label, label)
        np.testing.assert_allclose(case.affine, lps)

@pytest.mark.parametrize('layout', ['brats', 'brats2023', 'msd'])
def test_masks_are_numbered_as_asked_for(tmp_path, layout):
    "Whatever the numbers in the file, a part gets the number that `labels` gives it"
    if layout == 'msd': write_msd(tmp_path, 1)
    else: write_case(tmp_path/(FIRST_2020 if layout == 'brats' else FIRST_2023), layout)
    row, label = find_cases(tmp_path).iloc[0], brain(1)[1]
    assert np.array_equal(load_case(row, labels=MSD_LABELS).label, MSD_NUMBERS[label])
    for default in None, BRATS_LABELS:
        assert np.array_equal(load_case(row, labels=default).label, label)
    other = {7: 'enhancing', 200: 'edema', 1: 'non-enhancing', 9: 'a part that is not there'}
    renumbered = load_case(row, labels=other).label
    for number, part in ((7, 4), (200, 2), (1, 1), (0, 0)):
        assert ((renumbered == number) == (label == part)).all()
    with pytest.raises(ValueError, match='give no number'):
        load_case(row, labels={1: 'edema'})

@pytest.mark.parametrize('write', [write_brats, write_msd])
def test_modalities_in_the_order_asked_for(tmp_path, write):
    row = find_cases(write(tmp_path, 1)).iloc[0]
    x = brain(1)[0]
    assert np.array_equal(load_case(row, ('t2', 't1')).image, x[[3, 1]])
    assert np.array_equal(load_case(row, ('t1ce',)).image, x[[2]])

def test_standardised_within_the_brain(brats):
    image = load_case(find_cases(brats).iloc[0], standardized=True).image
    inside = brain(1)[0] != 0
    for x, b in zip(image, inside):
        assert abs(x[b].mean()) < 1e-5
        assert abs(x[b].std() - 1) < 1e-5
        assert not x[~b].any()

def test_a_voxel_dark_in_one_sequence_is_inside_the_head(brats):
    "0 in T1 alone: a value like any other, that counts and is standardised, as in lesson 6"
    row, x = find_cases(brats).iloc[0], brain(1)[0]
    x[1, 3:6, 3:6, 3] = 0
    replace(row, 't1', x[1])
    inside = (x != 0).any(0)
    t1 = load_case(row, standardized=True).image[1]
    wanted = (x[1][inside] - x[1][inside].mean())/x[1][inside].std()
    np.testing.assert_allclose(t1[inside], wanted, atol=1e-5)
    assert (t1[3:6, 3:6, 3] < -1).all()
    assert not t1[~inside].any()

def replace(row, key, array, affine=lps):
    return save_nifti(array, affine, row[key])

def volume(key):
    "A volume of the first patient"
    x, label = brain(1)
    return label if key == 'seg' else x[MODALITIES.index(key)]

mirrored = np.diag([-1, 1, 1, 1]) @ lps

@pytest.mark.parametrize('change, match', [
    (lambda row: replace(row, 't2', volume('t2')[:-1]),
     r'_t2.nii: gives \(11, 10, 8\) of float32; `out` is \(12, 10, 8\)'),
    (lambda row: replace(row, 't2', volume('t2'), mirrored),
     't2 have the same shape, but their corners'),
    (lambda row: replace(row, 'seg', volume('seg'), mirrored),
     'mask have the same shape, but their corners'),
    (lambda row: replace(row, 'seg', volume('seg')[..., :-1]), 'mask'),
    (lambda row: replace(row, 'seg', volume('seg')*3), r'labels \[3, 6, 12\] in a brats mask'),
    (lambda row: replace(row, 'seg', np.where(volume('seg'), 3, 0)),
     'from BraTS 2023 on, 3 is the enhancing part'),
    (lambda row: replace(row, 'seg', volume('seg')*.5), 'holds whole numbers'),
    (lambda row: replace(row, 't1', np.where(volume('t1'), np.nan, 0)), 'nan or infinite'),
    (lambda row: replace(row, 't1ce', 0*volume('t1ce')), 't1ce: nothing but one value'),
    (lambda row: row['flair'].write_bytes(row['flair'].read_bytes()[:700]), 'cut off'),
    (lambda row: row['t1'].write_text('<html>'), '_t1.nii: can not be read as NIfTI')],
    ids=['size of a sequence', 'place of a sequence', 'place of the mask', 'size of the mask',
         'labels', '2023 labels', 'fractions', 'nan', 'empty', 'cut off', 'web page'])
def test_what_does_not_fit_is_refused(brats, change, match):
    row = find_cases(brats).iloc[0]
    load_case(row)
    change(row)
    with pytest.raises(VolumeError, match=match):
        load_case(row, standardized=True)

def test_masks_a_rounding_apart_are_taken(brats):
    row = find_cases(brats).iloc[0]
    replace(row, 'seg', brain(1)[1]*.99999997, lps + np.outer([1, 1, 1, 0], [1e-5]*4))
    assert np.array_equal(load_case(row).label, brain(1)[1])

code = '''
import sys
from medtut.cases import find_cases, load_case

def peak(): # bytes
    for line in open('/proc/self/status'):
        if line.startswith('VmHWM'): return int(line.split()[1])*1024

small, big = [find_cases(p).iloc[0] for p in sys.argv[1:]]
load_case(small, standardized=True)
before = peak()
case = load_case(big, standardized=True)
print((peak() - before)/case.image.nbytes)'''

@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs Linux')
@pytest.mark.parametrize('layout', ['brats', 'brats, compressed', 'msd'])
def test_memory(tmp_path, layout):
    "At most 1.3 times the result, even if there is no voxel outside the brain"
    write = write_msd if layout == 'msd' else write_brats
    small, big = write(tmp_path/'small', 1), write(tmp_path/'big', 1)
    row, shape = find_cases(big).iloc[0], (160, 160, 100)
    x = np.random.default_rng(0).integers(1, 99, shape).astype(np.int16)
    if layout == 'msd':
        save_nifti(np.stack([x]*4, -1).astype(np.float32), lps, row.flair)
    else:
        for m in MODALITIES:
            save_nifti(x, lps, row[m])
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
    def table(*args, **settings):
        return GradingDataset(cases, *args, progress=False, **settings).table
    def z_of_patients(*args, **settings):
        return table(*args, **settings).groupby('patient').z.apply(list).tolist()
    assert z_of_patients('largest') == [[4]]*4
    assert z_of_patients('tumour', min_area=1) == [[3, 4, 5]]*4
    assert z_of_patients('tumour', min_area=10) == [[4]]*4
    assert z_of_patients('tumour', min_area=999) == [[4]]*4
    assert z_of_patients('all') == [[1, 2, 3, 4, 5, 6]]*4
    assert z_of_patients('all', every=4) == [[1, 5]]*4
    assert set(table('largest').area) == {16.}

def test_a_slice_is_the_slice(brats):
    cases, two = find_cases(brats), ('t2', 'flair')
    ds = GradingDataset(cases, 'largest', modalities=two, progress=False)
    image = load_case(cases.iloc[1], two, standardized=True).image
    x, y = ds[1]
    assert x.shape == (2, 10, 12)
    assert x.dtype == torch.float32
    assert y == 0
    assert len(ds) == 4
    assert np.array_equal(x, image[:, :, :, 4].transpose(0, 2, 1))

def test_crop_is_the_square_round_the_tumour(brats):
    def make(**settings):
        return GradingDataset(find_cases(brats), progress=False, **settings)
    whole, part = make(min_area=1), make(min_area=1, crop=6)
    assert part.x.shape == (12, 4, 6, 6)
    assert part.table.equals(whole.table)
    # the tumour's from 3 to 6 in both axes
    assert torch.equal(part.x, whole.x[:, :, 2:8, 2:8])
    assert torch.equal(part.mask, whole.mask[:, 2:8, 2:8])
    edge = make(crop=9)  # would begin below 0 along one axis
    assert edge.x.shape[2:] == (9, 9)
    assert torch.equal(edge.x, make().x[:, :, 0:9, 0:9])
    assert make(crop=999).x.shape[2:] == (10, 12)
    for bad in dict(crop=0), dict(crop=-1), dict(every=0):
        with pytest.raises(ValueError, match='must be 1 or more and crop positive'):
            make(**bad)

def test_masks_go_with_their_slices(brats):
    ds = GradingDataset(find_cases(brats), 'all', progress=False)
    label = load_case(find_cases(brats).iloc[2]).label
    rows = ds.table.index[ds.table.patient == 'BraTS20_Training_003']
    assert all(np.array_equal(ds.mask[i], label[:, :, ds.table.z[i]].T) for i in rows)
    assert ((ds.mask > 0).sum((1, 2)).numpy() == ds.table.area).all()

def test_orientation_does_not_matter(tmp_path):
    """The same patients written with axes R A S: the same slices, the patient's left on the right
    side"""
    cases = find_cases(write_brats(tmp_path, 2))
    a = GradingDataset(cases, 'all', progress=False)
    ras = lps @ nib.affines.from_matvec(np.diag([-1, -1, 1]), (11, 9, 0))
    for i in 1, 2:
        x, label = brain(i)
        for m, v in zip((*MODALITIES, 'seg'), [*x, label]):
            save_nifti(v[::-1, ::-1], ras, cases[m][i - 1])
    b = GradingDataset(cases, 'all', progress=False)
    # the voxels are summed in another order, and some processors round otherwise then
    torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-6)
    assert torch.equal(a.mask, b.mask)
    assert a.table.equals(b.table)

def test_processes_change_nothing(brats):
    one, two = (GradingDataset(find_cases(brats), progress=False, n_jobs=n) for n in (1, 2))
    assert torch.equal(one.x, two.x)
    assert one.table.equals(two.table)

def test_a_loader_with_workers(brats):
    ds = GradingDataset(find_cases(brats), progress=False)
    copy = pickle.loads(pickle.dumps(ds))
    x, y = next(iter(torch.utils.data.DataLoader(copy, 4, num_workers=1)))
    assert torch.equal(x, ds.x[:4])
    assert torch.equal(y, ds.y[:4])

def test_slices_that_can_not_be_had(brats):
    def make(cases, slices='tumour', crop=None):
        return GradingDataset(cases, slices, crop=crop, progress=False)
    cases = find_cases(brats)
    with pytest.raises(ValueError, match='slices must be'):
        make(cases, 'middle')
    with pytest.raises(ValueError, match='no cases'):
        make(cases[:0])
    cases.seg[0].unlink()
    cases = find_cases(brats)
    with pytest.raises(VolumeError, match='BraTS20_Training_001: no slice'):
        make(cases)
    without = make(cases, 'all')
    assert len(without) == 24
    assert not without.mask[:6].any()
    with pytest.raises(VolumeError, match='without crop'):
        make(cases, 'all', crop=5)
    small = np.ones((5, 5, 5), np.uint8)
    for m in MODALITIES:
        save_nifti(small + np.eye(5, dtype=np.uint8), lps, cases[m][3])
    save_nifti(small, lps, cases.seg[3])
    with pytest.raises(VolumeError, match='BraTS20_Training_004: slices of'):
        make(cases[1:])

# the network

@pytest.mark.parametrize('make', [resnet18, resnet50])
@pytest.mark.parametrize('channels', [1, 2, 4, 7])
def test_grey_gives_what_it_gave(make, channels):
    torch.manual_seed(channels)
    old = make().eval()
    new = adapt_resnet(old, channels, 5).eval()
    def features(model, x):
        return nn.Sequential(*list(model.children())[:-1])(x)
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        before = features(old, grey.expand(-1, 3, -1, -1))
        after = features(new, grey.expand(-1, channels, -1, -1))
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
        assert new(torch.zeros(2, channels, 64, 64)).shape == (2, 5)

def test_the_original_is_left_alone():
    old = resnet18()
    before = {k: v.clone() for k, v in old.state_dict().items()}
    new = adapt_resnet(old)
    with torch.no_grad():
        for p in new.parameters(): p.zero_()
    for k, v in old.state_dict().items():
        assert torch.equal(v, before[k])
    assert old.conv1.in_channels == 3

def test_plain_replacement_is_random():
    old = resnet18()
    kept, plain = adapt_resnet(old), adapt_resnet(old, keep=False)
    assert (kept.conv1.weight.std(1) == 0).all()
    assert (plain.conv1.weight.std(1) > 0).all()
    assert torch.equal(kept.layer1[0].conv1.weight, plain.layer1[0].conv1.weight)

def test_other_models_are_refused():
    without_fc = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match='Sequential has no convolution'):
        adapt_resnet(without_fc)
    with pytest.raises(ValueError, match='at least one channel'):
        adapt_resnet(resnet18(), 0)
