"""The downloads that test_datasets.py runs against a stand-in, against the real hosts:
for whoever has a network (and, for brats2020, a Kaggle account).

    export MEDTUT_REAL=siim_small,msd_brain,msd_hippocampus,duke_breast     about 280 MB
    export MEDTUT_REAL=brats2020                            tens of GB
    python -m pytest tests/test_real_hosts.py -v
"""
import hashlib
import os

import pandas as pd
import pydicom
import pytest

from medtut.archives import SETS
from medtut.datasets import get_data, read_note

wanted = os.environ.get('MEDTUT_REAL', '').split(',')

def real(name):
    return pytest.mark.skipif(name not in wanted,
        reason=f'downloads from the real host: set MEDTUT_REAL={name}')

# recorded when the case was fetched before
MSD_SHA256 = {
    'imagesTr': 'ed83bc811d99b9550adc3352b7fdba8d403262e566edb7791ec22617199fab14',
    'labelsTr': '384ea5d4b374e8570f1843d2fe8899e03634de7515153d8181d78ce04f2f1475'}


@real('siim_small')
def test_siim_small(tmp_path):
    path = get_data('siim_small', 'real', root=tmp_path)
    labels = pd.read_csv(path/'labels.csv')
    assert len(labels) == 250
    assert set(labels.label) == {'No Pneumothorax', 'Pneumothorax'}
    film = pydicom.dcmread(path/labels.file[0])
    assert film.pixel_array.shape == (1024, 1024)
    print(read_note(path))

@real('msd_brain')
def test_one_msd_case(tmp_path):
    "One case out of 7.6 GB"
    path = get_data('msd_brain', 'real', root=tmp_path, cases=['BRATS_449'])
    for folder, expected in MSD_SHA256.items():
        data = (path/folder/'BRATS_449.nii.gz').read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected
    print(read_note(path))

@real('msd_hippocampus')
def test_all_hippocampi(tmp_path):
    "27 MB, whose checksum is known"
    path = get_data('msd_hippocampus', 'real', root=tmp_path)
    images = sorted(path.glob('imagesTr/*.nii.gz'))
    assert len(images) == SETS['msd_hippocampus'].members == 260
    print(read_note(path))

@real('duke_breast')
def test_one_duke_patient(tmp_path):
    path = get_data('duke_breast', 'real', root=tmp_path, patients=1)
    files = sorted(path.glob('Duke-Breast-Cancer-MRI/Breast_MRI_001/*/*/1-*.dcm'))
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    numbers = [int(header.InstanceNumber) for header in headers]
    assert numbers == list(range(1, len(files) + 1))
    boxes = pd.read_excel(path/'Annotation_Boxes.xlsx', engine='calamine')
    assert len(boxes) == 922
    assert boxes['Patient ID'][0] == 'Breast_MRI_001'

@real('brats2020')
def test_brats2020(tmp_path):
    path = get_data('brats2020', 'real', root=tmp_path)
    patients = list(path.glob('BraTS20_Training_*'))
    table = pd.read_csv(path/'name_mapping.csv')
    assert len(patients) == len(table) == SETS['brats2020'].members == 369
