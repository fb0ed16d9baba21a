"""Errors that the documentation of a public function names and no other test brings about: each with
an input that a user may well have, and the words that tell what to do"""
import io
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import typer
from pydicom.data import get_testdata_file

from medtut.planes import VolumeError


def refused(words, kind=ValueError):
    return pytest.raises(kind, match=words)

def ct(name='CT_small'):
    return get_testdata_file(f'{name}.dcm', download=False)

def nifti(path, shape=(4, 4, 4), kind=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(shape, kind), np.eye(4)), path)
    return path

# --- one DICOM file, and series

def test_the_options_of_de_identification():
    from medtut.profile import option_names
    assert option_names('device') == {'device'}
    with refused('no option age'): option_names(['device', 'age'])
    with refused('not both'): option_names(('dates', 'dates shifted'))

def test_a_key_that_is_none():
    from medtut.identity import deidentify
    with refused('must be bytes', TypeError): deidentify(pydicom.dcmread(ct()), 'secret')

def test_a_key_of_a_table_that_holds_names():
    from medtut.dicom import scan
    with refused('for identifying=False'): scan([ct()], key=b'secret', progress=False)

def test_one_series_of_several():
    from medtut.planes import read_images
    from medtut.series import check_kinds, one_series
    images = read_images([ct(), ct('MR_small')], progress=False)
    with refused('no DICOM image', VolumeError): one_series([], None, 'folder')
    with refused('2 series: choose one', VolumeError): one_series(images, None, 'folder')
    with refused('no series 1.2; there is', VolumeError): one_series(images, '1.2', 'folder')
    assert one_series(images, images[1].uid, 'folder') == images[1:]
    with refused('do not make one volume', VolumeError): check_kinds(images, 'folder')

def test_a_folder_that_is_no_nifti_file(tmp_path):
    from medtut.nifti import load_nifti
    with refused('use load_series', VolumeError): load_nifti(tmp_path)

# --- files and archives

def test_a_file_read_from_nowhere(monkeypatch):
    from medtut.download import HTTPFile
    monkeypatch.setattr(HTTPFile, 'ask', lambda *args: type('piece', (), dict(data=b'', total=9)))
    file = HTTPFile('http://127.0.0.1:9/x')
    assert (file.seek(-2, io.SEEK_END), file.seek(1, io.SEEK_CUR)) == (7, 8)
    with refused('whence must be 0, 1 or 2'): file.seek(0, 3)

def test_a_set_that_is_not_in_the_folder(tmp_path):
    from medtut.archives import SETS, find_set
    from medtut.download import DataError
    with refused('was looked for there', DataError): find_set(SETS['siim_small'], tmp_path)
    for name in 'ab':
        (tmp_path/name).mkdir()
        (tmp_path/name/'labels.csv').touch()
    with refused('holds 2 sets', DataError): find_set(SETS['siim_small'], tmp_path)

def test_a_name_of_a_file_that_is_a_folder(tmp_path):
    from medtut.batch import Item, make_files
    groups = [('', [Item('a'), Item('a/b')])]
    with refused('a file and a folder'):
        make_files(groups, None, tmp_path/'out', 'test', {}, progress=False)
    assert not (tmp_path/'out').exists()

def test_a_file_of_weights_of_something_else(tmp_path):
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from medtut.unet import load_unet
    from medtut.weights import read_card, save_weights
    path = save_weights(torch.nn.Linear(2, 1), tmp_path/'w.safetensors')
    with refused('holds no UNet3D'): load_unet(path)
    with safe_open(path, 'pt') as f: notes = f.metadata()
    # a list where the card was
    save_file({'x': torch.zeros(1)}, path, metadata=dict.fromkeys(notes, '[1]'))
    with refused('its card holds list'): read_card(path)

# --- tables

def test_a_table_of_films_without_rows(tmp_path):
    from medtut.film_tables import read_film_table
    empty = pd.DataFrame(columns=['file', 'patient', 'label'])
    with refused('no rows below the header'):
        read_film_table(tmp_path, empty, file='file', patient='patient', label='label')

def test_rows_of_slices_that_share_an_index(tmp_path):
    from medtut.pngs import export_slices
    table = pd.DataFrame(dict(patient='P', slice=[1, 2], path=['a', 'b'], label=1), index=[0, 0])
    with refused('share an index'): export_slices(table, tmp_path, tmp_path/'out', progress=False)

def test_two_reports_of_one_case():
    from medtut.summaries import summarise
    row = dict(case='A', region='tumour', dice=1., volume_ml=1., label_ml=1.)
    with refused('one report a case'): summarise(pd.DataFrame([row, row]))

def test_a_path_for_a_table_that_holds_something_else(tmp_path):
    from medtut.cli_base import for_a_table
    (tmp_path/'scan.dcm').write_bytes(b'\0,\0')
    with refused('no table; choose', typer.BadParameter): for_a_table(tmp_path/'scan.dcm')

# --- cases and masks

def test_a_case_for_training_and_for_test(tmp_path):
    from medtut.brain_cases import msd_cases
    from medtut.pairs import nnunet_cases
    about = dict(modality={'0': 'CT'}, labels={'0': 'background', '1': 'lesion'}, numTraining=1,
                 training=[dict(image='./imagesTr/A.nii.gz', label='./labelsTr/A.nii.gz')], test=[])
    for part in 'imagesTr', 'labelsTr', 'imagesTs': nifti(tmp_path/'msd'/part/'A.nii.gz')
    (tmp_path/'msd'/'dataset.json').write_text(json.dumps(about))
    with refused('for training and one for test', VolumeError):
        msd_cases(tmp_path/'msd', ())
    about = dict(channel_names={'0': 'CT'}, labels=dict(background=0, lesion=1), numTraining=1,
                 file_ending='.nii.gz')
    for name in 'imagesTr/A_0000', 'labelsTr/A', 'imagesTs/A_0000':
        nifti(tmp_path/'raw'/f'{name}.nii.gz')
    (tmp_path/'raw'/'dataset.json').write_text(json.dumps(about))
    with refused('for training and one for test', VolumeError): nnunet_cases(tmp_path/'raw')

@pytest.mark.parametrize('header, words', [
    ({'space units': ['cm']*3}, 'lengths in cm'),
    ({'space directions': [[1, 0, 0], [0, 1, 0], [np.nan]*3]}, '2 axes in space and 1 others')])
def test_outlines_along_odd_axes(tmp_path, header, words):
    nrrd = pytest.importorskip('nrrd')
    from medtut.outlines import read_drawing
    plain = {'space': 'left-posterior-superior', 'space directions': np.eye(3).tolist(),
             'space origin': [0, 0, 0]}
    path = tmp_path/'a.nrrd'
    nrrd.write(str(path), np.ones((2, 2, 2), np.uint8), plain | header)
    with refused(words, VolumeError): read_drawing(path)

def test_surfaces_within_less_than_nothing():
    from medtut.masks import surface_dice
    mask = np.ones((2, 2))
    with refused('0 mm or more'): surface_dice(mask, mask, (1, 1), -1)

def test_nothing_to_point_at():
    from medtut.heatmaps import pointing_game
    heat = np.arange(16.).reshape(1, 4, 4)
    with refused('nothing to point at'): pointing_game(heat, np.zeros((1, 4, 4)))

# --- models

def test_settings_that_prediction_does_not_know(tmp_path):
    import torch

    from medtut.predict import predict_cases, predict_file
    for predict in predict_file, predict_cases:
        with refused(f'not settings of {predict.__name__}'):
            predict(torch.nn.Identity(), [tmp_path/'a.nii'], tmp_path/'out', (8, 8, 8), colour='red')

def test_cards_that_say_too_little_or_twice():
    from medtut.preprocessing import Preprocessing, from_card
    record = Preprocessing(channels=['CT'])
    whole = record.on_card()
    assert from_card(dict(preprocessing=whole)) == record
    lacking = {name: value for name, value in whole.items() if name != 'clip'}
    with refused('preprocessing lacks clip'): from_card(dict(preprocessing=lacking))
    with refused('clip stands on the card and in its preprocessing'):
        from_card(dict(preprocessing=whole, clip=None))

def test_scores_that_are_no_numbers():
    pytest.importorskip('fastai')
    from medtut.chest import threshold_for_sensitivity
    with refused('nan in 1 of 2 scores'): threshold_for_sensitivity([0, 1], [np.nan, 1.])

def test_an_answer_of_too_few_numbers():
    from medtut.answers import Numbers, Unreadable
    with refused(r'asked for \(a, b\), and these are 1', Unreadable): Numbers('a', 'b').read([1])
