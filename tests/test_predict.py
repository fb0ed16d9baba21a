"Predicting files: the same as by hand, on the file's own grid, whatever happens on the way"
import copy
import inspect
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from dask.distributed import Client, LocalCluster

import medtut.predict
from medtut.batch import _mark
from medtut.cases import find_cases
from medtut.cli import app
from medtut.files import half_path
from medtut.intensities import standardize
from medtut.masks import volume_ml
from medtut.nifti import load_nifti, save_nifti
from medtut.planes import VolumeError
from medtut.predict import label_volumes, load_predictor, predict_cases, predict_file
from medtut.preprocessing import (
    Preprocessing,
    from_card,
    prepare,
    prepare_array,
    prepare_case,
)
from medtut.tiles import predict_volume
from medtut.unet import UNet3D, save_unet
from medtut.volumes import check_same_grid, reorient, resample, spacing as voxel_size
from medtut.weights import model_digest

PATCH = (16, 16, 16)
SHIPPED = Path(__file__).resolve().parent.parent/'nbs/07_hippocampus.safetensors'
CARD = dict(patch=PATCH, spacing=2, per='volume', inside='head', channels=['T1', 'T2'],
            labels={'1': 'one', '2': 'two'})

@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    "Three scans of different sizes, voxels of 2 mm, axes to R A S, and a network for them"
    folder, rng = tmp_path_factory.mktemp('scans'), np.random.default_rng(0)
    for i, shape in enumerate([(20, 18, 16), (24, 20, 22), (12, 30, 17)]):
        image = rng.normal(size=(*shape, 2)).astype(np.float32)
        image[:3] = 0 # outside the head
        save_nifti(image, np.diag([2., 2, 2, 1]), folder/f'case{i}.nii.gz')
    torch.manual_seed(0)
    return sorted(folder.glob('*.gz')), UNet3D(2, 3, filters=2, depth=2)

def contents(folder):
    return {p.name: p.read_bytes() for p in folder.glob('*.nii.gz')}

def by_hand(model, image, mask=None):
    prepared = standardize(np.moveaxis(image, -1, 0), 'volume', mask)
    return predict_volume(model, prepared, PATCH, progress=False)

def read(path): return load_nifti(path, dtype=np.uint8)

@pytest.mark.parametrize('inside', [None, 'head'])
def test_as_one_does_it_by_hand(scans, tmp_path, inside):
    paths, model = scans
    table = predict_cases(model, paths, tmp_path, PATCH, inside=inside, progress=False)
    assert table.status.tolist() == ['written']*3
    assert not table.reason.any()
    assert table.case.tolist() == ['case0', 'case1', 'case2']
    for path, out in zip(paths, table.out):
        (image, affine), (label, label_affine) = load_nifti(path), read(out)
        check_same_grid(image.shape, affine, label.shape, label_affine)
        mask = (image != 0).any(-1) if inside else None
        expected = by_hand(model, image, mask).argmax(0)
        assert (label == expected).all()
        assert len(np.unique(label)) > 1

def test_other_voxels_come_back_to_the_files_own_grid(scans, tmp_path):
    "Voxels of 2 mm, a network for 4 mm: a place in the file gets what the network said of it"
    (path, *_), model = scans
    image, affine = load_nifti(path)
    out = predict_file(model, path, tmp_path/'seg.nii', PATCH, spacing=4, progress=False)
    label, label_affine = read(out)
    coarse, coarse_affine = resample(image, affine, 4)
    probabilities = by_hand(model, coarse, 'head')
    grid = image.shape, affine
    back = np.stack([resample(p, coarse_affine, like=grid)[0] for p in probabilities])
    assert label.shape == image.shape[:3]
    assert np.allclose(label_affine, affine)
    assert (label == back.argmax(0)).all()
    assert label.any()

@pytest.mark.parametrize('n, mm', [(42, 1.25), (12, 1), (21, 2.5), (1, 1)])
def test_what_reaches_the_edge_of_a_scan_is_kept(tmp_path, n, mm):
    """A network that says 1 everywhere labels every slice, though voxels of 5 mm do not fit.

    They make 50 of 52.5 mm, 10 of 12, 50 of 52.5 with the edge on the middle of a slice, and
    5 of 1; nothing lies beyond a scan that could be background."""
    def everywhere(x): return torch.stack([torch.zeros_like(x[:, 0]), torch.ones_like(x[:, 0])], 1)
    path = save_nifti(np.ones((8, 8, n), np.float32), np.diag([5, 5, mm, 1]), tmp_path/'a.nii.gz')
    out = predict_file(everywhere, path, tmp_path/'o.nii.gz', (8, 8, 8), spacing=5, inside=None,
                       progress=False)
    label, _ = read(out)
    assert label.shape == (8, 8, n)
    assert (label == 1).all()

@pytest.mark.parametrize('spacing', [None, 4])
def test_a_scan_stored_another_way_gets_the_same_labels(scans, tmp_path, spacing):
    (path, *_), model = scans
    image, affine = load_nifti(path)
    turned = save_nifti(*reorient(image, affine, 'SLP'), tmp_path/'turned.nii')
    def predicted(scan, name, orientation=None):
        return read(predict_file(model, scan, tmp_path/name, PATCH, spacing=spacing,
                                 orientation=orientation, progress=False))
    label, _ = predicted(path, 'a.nii', 'RAS')
    other, _ = reorient(*predicted(turned, 'b.nii', 'RAS'), 'RAS')
    assert (other == label).all()
    without, _ = reorient(*predicted(turned, 'c.nii'), 'RAS')
    assert (without != label).any()

def test_channels_from_files_of_their_own(scans, tmp_path):
    (path, *_), model = scans
    image, affine = load_nifti(path)
    files = [save_nifti(image[..., c], affine, tmp_path/f'{c}.nii') for c in range(2)]
    predict_cases(model, dict(case0=files), tmp_path/'split', PATCH, progress=False)
    predict_cases(model, [path], tmp_path/'whole', PATCH, progress=False)
    assert contents(tmp_path/'split') == contents(tmp_path/'whole')
    with pytest.raises(VolumeError, match='2 channels in one of 2 files'):
        predict_file(model, [files[0], path], tmp_path/'x.nii', PATCH)
    save_nifti(image[:-1, ..., 1], affine, files[1])
    with pytest.raises(VolumeError, match='voxels'):
        predict_file(model, files, tmp_path/'x.nii', PATCH)

def test_goes_on_where_it_was(scans, tmp_path):
    paths, model = scans
    whole = predict_cases(model, paths, tmp_path, PATCH, progress=False)
    before = contents(tmp_path)
    (tmp_path/'case1.nii.gz').unlink()
    half_path(tmp_path/_mark('case1.nii.gz', 'predict')).mkdir()
    again = predict_cases(model, paths, tmp_path, PATCH, batch=1, progress=False)
    assert again.status.tolist() == ['there already', 'written', 'there already']
    assert contents(tmp_path) == before
    assert again.out.equals(whole.out)
    assert not list(tmp_path.glob('.*.part'))

def test_a_bad_case_costs_itself_alone(scans, tmp_path):
    paths, model = scans
    (tmp_path/'in').mkdir()
    names = 'good', 'cut', 'bare', 'nan', 'lost'
    good, cut, bare, nan, lost = (tmp_path/'in'/f'{name}.nii.gz' for name in names)
    shutil.copy(paths[0], good)
    cut.write_bytes(good.read_bytes()[:2000])
    image, affine = load_nifti(good)
    save_nifti(image[..., 0], affine, bare)
    save_nifti(np.where(image > 2, np.nan, image), affine, nan)
    paths = [good, cut, bare, nan, lost]
    table = predict_cases(model, paths, tmp_path/'out', PATCH, progress=False).set_index('case')
    assert table.status['good'] == 'written'
    reasons = dict(cut='cut off', bare='1 channel, the model takes 2', nan='nan or infinite',
                   lost='no such file')
    for case, why in reasons.items():
        assert table.status[case] == 'failed'
        assert table.out[case] == ''
        assert why in table.reason[case]
        assert f'{case}.nii.gz' in table.reason[case]
    assert contents(tmp_path/'out').keys() == {'good.nii.gz'}

def test_same_bytes_from_one_process_two_and_dask(scans, tmp_path):
    paths, model = scans
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=':0',
                           local_directory=tmp_path)
    with cluster, Client(cluster), joblib.parallel_config(backend='dask'):
        predict_cases(model, paths, tmp_path/'dask', PATCH, progress=False)
    for n in (1, 2):
        predict_cases(model, paths, tmp_path/str(n), PATCH, n_jobs=n, progress=False)
    alone = contents(tmp_path/'1')
    assert len(alone) == 3
    assert alone == contents(tmp_path/'2') == contents(tmp_path/'dask')

def test_refuses_before_it_writes(scans, tmp_path):
    (path, *_), model = scans
    out = tmp_path/'out'
    def refused(message, paths=(path,), patch=PATCH, **settings):
        with pytest.raises(ValueError, match=message):
            predict_cases(model, paths, out, patch, **settings)
    refused('2 cases would be written', [path, tmp_path/'CASE0.nii'])
    for name in ('../case', '', '..', '.hidden', 'a\\b'):
        refused('not fit', {name: path})
    refused('list of files', path)
    refused('activation', activation='sigmoid')
    refused('spacing', spacing=0)
    refused('per', per='head')
    refused('inside', inside='brain')
    refused('orientation', orientation='LLS')
    refused('patch', patch=(16, 16))
    assert not out.exists()

def test_a_scan_is_never_taken_for_its_prediction(scans, tmp_path):
    "Neither replaced nor called 'there already', where `out` is the folder of the scans"
    (path, *_), model = scans
    shutil.copy(path, tmp_path)
    with pytest.raises(ValueError, match='written over'):
        predict_cases(model, [tmp_path/path.name], tmp_path, PATCH)
    with pytest.raises(ValueError, match='not from here'):
        predict_cases(model, [path], tmp_path, PATCH)
    assert contents(tmp_path) == {path.name: path.read_bytes()}

def test_predictions_of_two_kinds_do_not_mix(scans, tmp_path):
    (path, *_), model = scans
    predict_cases(model, [path], tmp_path, PATCH, progress=False)
    kept = contents(tmp_path)
    # of the same weights, but another way up
    repeat, linear = (UNet3D(2, 3, filters=2, depth=2, up=up) for up in ('repeat', 'linear'))
    linear.load_state_dict(repeat.state_dict())
    def refused(message, model, out, patch=PATCH, **settings):
        with pytest.raises(ValueError, match=message):
            predict_cases(model, [path], out, patch, **settings)
    refused('another model', repeat, tmp_path)
    refused('another overlap, patch', model, tmp_path, (8, 8, 8), overlap=.25)
    predict_cases(repeat, [path], tmp_path/'repeat', PATCH, progress=False)
    refused('another model', linear, tmp_path/'repeat')
    (tmp_path/'repeat/.predict.json').write_text('{"version"')
    refused('predict.json: damaged', repeat, tmp_path/'repeat')
    assert contents(tmp_path) == kept

def test_what_hits_every_case_stops_the_run(scans, tmp_path, monkeypatch):
    "A full disk, a model without memory and a tile that doesn't fit are no fault of a case"
    paths, model = scans
    def full(*args): raise OSError(28, 'No space left on device')
    def broken(x): raise RuntimeError('no memory left')
    def one_class(x): return x[:, :1]
    def stopped(error, message, model, out, patch=PATCH):
        with pytest.raises(error, match=message):
            predict_cases(model, paths, tmp_path/out, patch, progress=False)
    with monkeypatch.context() as patched:
        patched.setattr(medtut.predict, 'save_nifti', full)
        stopped(OSError, 'No space left', model, 'a')
    stopped(RuntimeError, 'no memory', broken, 'b')
    stopped(ValueError, 'multiple of 2', model, 'c', (15, 16, 16))
    stopped(ValueError, 'one channel', one_class, 'd')

class Odd(torch.nn.Module):
    "Puts out nan for a scan whose channels start with this value, as a network does that overflows"
    def __init__(self, model, value):
        super().__init__()
        self.model, self.value = model, value
    def forward(self, x):
        return torch.where(((x - self.value).abs() < 1e-6).any(), torch.nan, 1)*self.model(x)

@pytest.mark.parametrize('setting', ['per', 'inside'])
def test_what_prediction_takes_for_granted_is_what_training_does(setting):
    def default_of(function): return inspect.signature(function).parameters[setting].default
    assert default_of(predict_file) == default_of(standardize)

def test_a_scan_of_which_the_model_makes_nan_is_not_called_background(scans, tmp_path):
    "The largest of four nan is, for numpy, the first: every voxel would be background"
    paths, model = scans
    value = standardize(np.moveaxis(load_nifti(paths[1])[0], -1, 0))[0, 5, 5, 5]
    odd = Odd(model, float(value))
    table = predict_cases(odd, paths, tmp_path, PATCH, progress=False)
    assert table.status.tolist() == ['written', 'failed', 'written']
    assert 'case1.nii.gz' in table.reason[1]
    assert 'nan' in table.reason[1]
    with pytest.raises(VolumeError, match='case1.nii.gz.*nan'):
        predict_file(odd, paths[1], tmp_path/'one.nii.gz', PATCH, progress=False)
    assert sorted(contents(tmp_path)) == ['case0.nii.gz', 'case2.nii.gz']

def test_models_in_half_precision_and_with_several_outputs(scans, tmp_path):
    paths, model = scans
    written = predict_file(copy.deepcopy(model).bfloat16(), paths[0], tmp_path/'half.nii.gz', PATCH,
                           progress=False)
    same = read(written)[0] == by_hand(model, load_nifti(paths[0])[0]).argmax(0)
    assert same.mean() > .9
    with pytest.raises(ValueError, match='a list of 2'):
        predict_cases(lambda x: [x, x], paths, tmp_path/'many', PATCH, progress=False)
    assert not contents(tmp_path/'many')

def test_a_model_in_training_stays_in_it(scans, tmp_path):
    paths, model = scans
    model = copy.deepcopy(model).train()
    model.down[0].eval()
    before = [m.training for m in model.modules()]
    predict_file(model, paths[0], tmp_path/'x.nii.gz', PATCH, progress=False)
    assert [m.training for m in model.modules()] == before
    assert True in before
    assert False in before

def test_a_card_says_how(scans, tmp_path):
    (path, *_), model = scans
    weights = save_unet(model, tmp_path/'w.safetensors', data='', seed=0, scores={}, **CARD)
    loaded, settings, card = load_predictor(weights)
    assert settings == dict(patch=[16, 16, 16], spacing=2, per='volume', inside='head',
                            orientation=None, clip=None, scale='standardize', padding=None)
    assert card['labels'] == CARD['labels']
    one = predict_file(loaded, path, tmp_path/'one.nii.gz', **settings, progress=False)
    two = predict_file(model, path, tmp_path/'two.nii.gz', PATCH, inside='head', progress=False)
    assert one.read_bytes() == two.read_bytes()

@pytest.mark.parametrize('key', CARD)
def test_a_card_that_lacks_a_key_is_refused(scans, tmp_path, key):
    card = {k: v for k, v in CARD.items() if k != key}
    path = save_unet(scans[1], tmp_path/'w.safetensors', data='', seed=0, scores={}, **card)
    with pytest.raises(ValueError, match=f'w.safetensors: its card lacks {key};'):
        load_predictor(path)

@pytest.mark.parametrize('wrong', [
    dict(patch='all'), dict(patch=[16, 16, 0]), dict(spacing=-1), dict(spacing=float('nan')),
    dict(spacing=[1, 2]), dict(per='head'), dict(inside='brain'), dict(channels=['T1']),
    dict(channels='T1'), dict(labels={'1': 'one'}), dict(labels=['one', 'two']),
    dict(orientation=3)], ids=str)
def test_a_card_that_makes_no_sense_is_refused(scans, tmp_path, wrong):
    path = save_unet(scans[1], tmp_path/'w.safetensors', data='', seed=0, scores={}, **CARD | wrong)
    key = next(iter(wrong))
    message = f'w.safetensors: its card is wrong: {key} must be'
    with pytest.raises(ValueError, match=message):
        load_predictor(path)

RECORDS = [
    Preprocessing(), Preprocessing(inside=None, per='slice'),
    Preprocessing(orientation='SAL', clip=(-.5, 1.5)),
    Preprocessing(spacing=(1.7, 2, 3), clip=(-1, 1), scale='window', padding=(24, 24, 24)),
    Preprocessing(orientation='LPI', spacing=3, inside=None, padding=(20, 9, 20))]
each_record = pytest.mark.parametrize('record', RECORDS, ids=str)

@pytest.fixture
def shuffled(tmp_path):
    """Pairs on shuffled axes, a file for each channel, and a mask of two labels: none of the three
    axes is like another, or symmetric"""
    rng = np.random.default_rng(1)
    names = {}
    (tmp_path/'imagesTr').mkdir()
    for i, axes in enumerate(('RAS', 'PIL')):
        image = rng.normal(size=(18, 22, 13, 2)).astype(np.float32)
        label = np.zeros(image.shape[:3], np.uint8)
        label[3:9, 4:17, 2:5] = 1
        label[3:5, 4:8, 5:9] = 2
        affine = np.diag([2., 1.5, 3, 1])
        affine[:3, 3] = -11, 5, 40
        turned, turned_affine = reorient(image, affine, axes)
        save_nifti(turned, turned_affine, tmp_path/f'imagesTr/p{i}.nii.gz')
        save_nifti(*reorient(label, affine, axes), tmp_path/f'labelsTr/p{i}.nii.gz')
        names[f'p{i}'] = tmp_path/f'imagesTr/p{i}.nii.gz'
    about = dict(modality={'0': 'T1', '1': 'T2'}, labels={'0': 'background', '1': 'one', '2': 'two'},
                 training=[])
    (tmp_path/'dataset.json').write_text(json.dumps(about))
    return find_cases(tmp_path), names

class Recording:
    "Stands where tiles are predicted, and keeps what the network would see"
    def __init__(self): self.seen = []
    def __call__(self, model, image, patch, *args, **kwargs):
        self.seen.append(image.copy())
        return np.zeros((3, *image.shape[1:]), np.float32)

@each_record
def test_training_and_prediction_see_the_same_to_the_last_bit(shuffled, scans, tmp_path,
                                                              monkeypatch, record):
    "From a case's row, by a card: `prepare`, `predict_file`, `predict_cases` and the command line"
    cases, files = shuffled
    record = replace(record, channels=('T1', 'T2'))
    trained = [prepare_case(row, record).image for _, row in cases.iterrows()]
    card = dict(patch=PATCH, labels=CARD['labels'], preprocessing=record.on_card())
    weights = save_unet(scans[1], tmp_path/'w.safetensors', data='', seed=0, scores={}, **card)
    model, settings, card = load_predictor(weights)
    assert from_card(card) == record
    paths = list(files.values())
    alone = [prepare(path, record).image for path in paths]
    recording = Recording()
    monkeypatch.setattr(medtut.predict, 'predict_volume', recording)
    for i, path in enumerate(paths):
        predict_file(model, path, tmp_path/f'{i}.nii', **settings, progress=False)
    predict_cases(model, files, tmp_path/'all', **settings, progress=False)
    command = 'predict', *paths, '-w', weights, '-o', tmp_path/'cli', '--device', 'cpu', '-q'
    app([*map(str, command)], standalone_mode=False)
    assert len(recording.seen) == 6
    for image, *others in zip(trained, alone, recording.seen[:2], recording.seen[2:4],
                              recording.seen[4:]):
        for other in others:
            assert other.dtype == image.dtype == np.float32
            assert other.shape == image.shape
            assert other.tobytes() == image.tobytes()

@each_record
def test_a_mask_keeps_its_places_in_mm(shuffled, record):
    "Millilitres and centre of each label, whichever way the file lies and the network looks"
    for _, row in shuffled[0].iterrows():
        truth, affine = load_nifti(row.seg, dtype=np.uint8)
        _, label, new_affine, _ = prepare_case(row, record)
        for k in (1, 2):
            centre = affine @ [*np.argwhere(truth == k).mean(0), 1]
            moved = new_affine @ [*np.argwhere(label == k).mean(0), 1]
            assert np.linalg.norm(moved - centre) < 1
            ml, new_ml = (volume_ml(mask == k, voxel_size(a))
                          for mask, a in ((truth, affine), (label, new_affine)))
            assert new_ml == pytest.approx(ml, rel=.3)

@each_record
def test_labels_come_back_from_any_record(shuffled, scans, tmp_path, monkeypatch, record):
    "A network that says what the mask says, on whatever it sees, gives the mask in the file"
    for case, row in shuffled[0].iterrows():
        truth, affine = load_nifti(row.seg, dtype=np.uint8)
        _, label, *_ = prepare_case(row, record)
        def perfect(model, image, *args, label=label, **kwargs):
            return np.stack([label == k for k in range(3)]).astype(np.float32)
        monkeypatch.setattr(medtut.predict, 'predict_volume', perfect)
        settings = {k: v for k, v in record.on_card().items() if k != 'channels'}
        out = predict_file(scans[1], row.T1, tmp_path/f'{case}.nii', PATCH, **settings,
                           progress=False)
        drawn, out_affine = read(out)
        check_same_grid(truth.shape, affine, drawn.shape, out_affine)
        agreement = (drawn == truth).mean()
        assert agreement > .97 if record.spacing else agreement == 1

def test_a_card_from_before_there_were_records():
    "Nothing cut off, standardised, nothing padded, as such cards always meant"
    old = dict(patch=[8, 8, 8], spacing=None, per='volume', inside=None, channels=['MRI'],
               labels={'1': 'a'}, use='')
    assert from_card(old) == Preprocessing(channels=['MRI'], inside=None)
    assert from_card(old).on_card() == dict(
        channels=['MRI'], orientation=None, spacing=None, clip=None, scale='standardize',
        per='volume', inside=None, padding=None)

def test_the_shipped_weights_mean_what_they_meant(tmp_path):
    "Lesson 7's card has no record; the network sees each crop standardised by all its voxels"
    model, settings, card = load_predictor(SHIPPED)
    assert 'preprocessing' not in card
    path = save_nifti(np.random.default_rng(0).normal(9, 4, (33, 50, 31)).astype(np.float32),
                      np.eye(4), tmp_path/'crop.nii.gz')
    label, _ = read(predict_file(model, path, tmp_path/'out.nii', **settings, progress=False))
    image, _ = load_nifti(path)
    by_itself = predict_volume(model, standardize(image[None], 'volume', None), settings['patch'],
                               progress=False)
    assert (label == by_itself.argmax(0)).all()
    assert len(np.unique(label)) == 3

def test_label_volumes(tmp_path):
    "Twelve voxels of 2 x 2.5 x 4 mm are 0.24 ml"
    label = np.zeros((5, 5, 5), np.uint8)
    label[:3, :2, :2] = 2
    path = save_nifti(label, np.diag([2, -2.5, 4, 1]), tmp_path/'x.nii.gz')
    rows = label_volumes(dict(a=path), CARD['labels']).values.tolist()
    assert rows == [['a', 'one', 0], ['a', 'two', pytest.approx(.24)]]

@pytest.mark.parametrize('content, says', [(None, 'no such file'), (b'abc', 'can not be read as')])
def test_volumes_of_labels_name_a_file_that_is_none(tmp_path, content, says):
    path = tmp_path/'label.nii'
    if content: path.write_bytes(content)
    with pytest.raises(VolumeError, match=f'label.nii: {says}'):
        label_volumes(dict(A=path), {'1': 'one'})

@pytest.mark.filterwarnings('ignore:.*not at right angles:UserWarning')
def test_volumes_on_a_sheared_grid(tmp_path):
    "A voxel's volume is the determinant, not the product of its edges: 1 x 1 x 5 mm, tilted"
    affine = np.eye(4)
    affine[:3, 2] = 0, 5*np.tan(np.radians(20)), 5
    path = save_nifti(np.ones((10, 10, 10), np.uint8), affine, tmp_path/'x.nii.gz')
    assert label_volumes({'x': path}, {1: 'lesion'}).ml.tolist() == [pytest.approx(5)]

def constant(k):
    "A network that finds class `k` everywhere"
    model = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.eye(2)[k])
    return model

@pytest.mark.parametrize('wrap', [
    lambda model: lambda x: model(x),
    lambda model: partial(torch.nn.Module.__call__, model),
    lambda model: model.forward], ids=['closure', 'partial', 'method'])
def test_a_function_round_another_network_is_another_model(tmp_path, wrap):
    "Before, functions went by their names, and the first one's labels stayed"
    scan = save_nifti(np.random.default_rng(0).random((8, 8, 8), np.float32), np.eye(4),
                      tmp_path/'a.nii.gz')
    def predicted(model):
        return predict_cases(wrap(model), [scan], tmp_path/'out', (8, 8, 8), progress=False)
    first = constant(0)
    assert predicted(first).status.tolist() == ['written']
    assert predicted(first).status.tolist() == ['there already']
    with pytest.raises(ValueError, match='another model'):
        predicted(constant(1))

def in_a_generator(space): exec('def model(x): return sum(net(v) for v in (x,))', space)
def in_a_namespace(space): exec('def model(x): return settings.inner(x)', space)
def in_a_set(space): exec('def model(x): return net(x)*(7 in numbers)', space)

@pytest.fixture
def predicted(tmp_path):
    "Runs `predict_cases` for a model, always for one scan and folder"
    image = np.random.default_rng(0).random((8, 8, 8), np.float32)
    scan = save_nifti(image, np.eye(4), tmp_path/'a.nii.gz')
    def status(model):
        table = predict_cases(model, [scan], tmp_path/'out', (8, 8, 8), progress=False)
        return table.status.tolist()
    return status

@pytest.mark.parametrize('define, first, second', [
    (in_a_generator, dict(net=0), dict(net=1)), (in_a_namespace, dict(net=0), dict(net=1)),
    (in_a_set, dict(net=0, numbers={7}), dict(net=0, numbers={8}))])
def test_what_a_function_names_indirectly_counts(predicted, define, first, second):
    def model(net, **others):
        net = constant(net)
        space = dict(__name__=__name__, net=net, settings=SimpleNamespace(inner=net), **others)
        define(space)
        return space['model']
    assert predicted(model(**first)) == ['written']
    assert predicted(model(**first)) == ['there already']
    with pytest.raises(ValueError, match='another model'): predicted(model(**second))

class Shifted(torch.nn.Module):
    "Adds a number, which is no weight, to what a network says of class 1"
    def __init__(self, net, shift):
        super().__init__()
        self.net, self._shift = net, shift
    def forward(self, x):
        return self.net(x) + torch.tensor([0., self._shift]).reshape(1, 2, 1, 1, 1)

def test_what_a_module_has_besides_weights_counts(predicted):
    net = constant(0)
    assert predicted(Shifted(net, 0.)) == ['written']
    assert predicted(Shifted(net, 0.).eval()) == ['there already']
    with pytest.raises(ValueError, match='another model'): predicted(Shifted(net, 5.))

def test_the_digest_does_not_depend_on_the_process():
    "Python 3.13 looks names up in the order of a set, which the seed of its hashes decides"
    program = ('from medtut.weights import model_digest\n'
               'def f(x): return x\n'
               'def g(x): return -x\n'
               'one, two, three = 1, {f, g, frozenset("abc")}, 3\n'
               'def model(x): return x*one + two + three\n'
               'print(model_digest(model))')
    digests = {subprocess.run([sys.executable, '-c', program], env=os.environ | dict(PYTHONHASHSEED=s),
                              capture_output=True, text=True, check=True).stdout for s in '12'}
    assert len(digests) == 1

def calls_itself(x): return {f(x) for f in named}

named = {calls_itself, constant}

def test_a_function_in_a_set_that_it_names():
    assert model_digest(calls_itself) == model_digest(calls_itself)

def test_a_function_that_closes_over_nothing_yet():
    def model(x): return later(x)
    assert model_digest(model)
    later = constant(0)
    assert model_digest(model)

def test_beside_a_tilted_ct_lies_air(scans):
    "Straightening leaves corners beyond the scan; in a CT, 0 would be water"
    tilted = np.eye(4)
    tilted[:3, 2] = .6, 0, 2
    air = np.full((1, 20, 20, 20), -1000, np.float32)
    record = Preprocessing(spacing=1, clip=(-1000, 1000), scale='window', inside=None)
    assert np.unique(prepare_array(air, tilted, record).image).tolist() == [0]
