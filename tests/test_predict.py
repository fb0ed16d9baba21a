"Predicting files: the same as by hand, on the file's own grid, whatever happens on the way"
import copy, shutil

import joblib, numpy as np, pytest, torch
from dask.distributed import Client, LocalCluster

import medtut.predict
from medtut.predict import label_volumes, load_predictor, predict_cases, predict_file
from medtut.intensities import standardize
from medtut.tiles import predict_volume
from medtut.unet import UNet3D, save_unet
from medtut.volumes import VolumeError, check_same_grid, load_nifti, reorient, resample, save_nifti

PATCH = (16, 16, 16)
CARD = dict(patch=PATCH, spacing=2, per='volume', inside='head', channels=['T1', 'T2'], labels={'1': 'one', '2': 'two'})

@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    "Three scans of different sizes, voxels of 2 mm, axes to R A S, and the network to predict them with"
    folder, rng = tmp_path_factory.mktemp('scans'), np.random.default_rng(0)
    for i, shape in enumerate([(20, 18, 16), (24, 20, 22), (12, 30, 17)]):
        image = rng.normal(size=(*shape, 2)).astype(np.float32)
        image[:3] = 0 # outside the head
        save_nifti(image, np.diag([2., 2, 2, 1]), folder/f'case{i}.nii.gz')
    torch.manual_seed(0)
    return sorted(folder.glob('*.gz')), UNet3D(2, 3, filters=2, depth=2)

def contents(folder): return {p.name: p.read_bytes() for p in folder.glob('*.nii.gz')}

def by_hand(model, image, mask=None): return predict_volume(model, standardize(np.moveaxis(image, -1, 0), 'volume', mask), PATCH, progress=False)

def read(path): return load_nifti(path, dtype=np.uint8)

@pytest.mark.parametrize('inside', [None, 'head'])
def test_as_one_does_it_by_hand(scans, tmp_path, inside):
    paths, model = scans
    table = predict_cases(model, paths, tmp_path, PATCH, inside=inside, progress=False)
    assert table.status.tolist() == ['written']*3 and table.case.tolist() == ['case0', 'case1', 'case2'] and not table.reason.any()
    for path, out in zip(paths, table.out):
        (image, affine), (label, label_affine) = load_nifti(path), read(out)
        check_same_grid(image.shape, affine, label.shape, label_affine)
        expected = by_hand(model, image, (image != 0).any(-1) if inside else None).argmax(0)
        assert (label == expected).all() and len(np.unique(label)) > 1

def test_other_voxels_come_back_to_the_files_own_grid(scans, tmp_path):
    "Voxels of 2 mm, a network for 4 mm: what is said of a place in the file is what the network said of that place"
    (path, *_), model = scans
    image, affine = load_nifti(path)
    label, label_affine = read(predict_file(model, path, tmp_path/'seg.nii', PATCH, spacing=4, progress=False))
    coarse, coarse_affine = resample(image, affine, 4)
    back = np.stack([resample(p, coarse_affine, like=(image.shape, affine))[0] for p in by_hand(model, coarse)])
    assert label.shape == image.shape[:3] and np.allclose(label_affine, affine) and (label == back.argmax(0)).all() and label.any()

@pytest.mark.parametrize('spacing', [None, 4])
def test_a_scan_stored_another_way_gets_the_same_labels(scans, tmp_path, spacing):
    (path, *_), model = scans
    image, affine = load_nifti(path)
    turned = save_nifti(*reorient(image, affine, 'SLP'), tmp_path/'turned.nii')
    how = dict(patch=PATCH, spacing=spacing, progress=False)
    label, _ = read(predict_file(model, path, tmp_path/'a.nii', orientation='RAS', **how))
    other, other_affine = read(predict_file(model, turned, tmp_path/'b.nii', orientation='RAS', **how))
    assert (reorient(other, other_affine, 'RAS')[0] == label).all()
    without = reorient(*read(predict_file(model, turned, tmp_path/'c.nii', **how)), 'RAS')[0]
    assert (without != label).any()

def test_channels_from_files_of_their_own(scans, tmp_path):
    (path, *_), model = scans
    image, affine = load_nifti(path)
    files = [save_nifti(image[..., c], affine, tmp_path/f'{c}.nii') for c in range(2)]
    predict_cases(model, dict(case0=files), tmp_path/'split', PATCH, progress=False)
    predict_cases(model, [path], tmp_path/'whole', PATCH, progress=False)
    assert contents(tmp_path/'split') == contents(tmp_path/'whole')
    with pytest.raises(VolumeError, match='2 channels in one of 2 files'): predict_file(model, [files[0], path], tmp_path/'x.nii', PATCH)
    save_nifti(image[:-1, ..., 1], affine, files[1])
    with pytest.raises(VolumeError, match='voxels'): predict_file(model, files, tmp_path/'x.nii', PATCH)

def test_goes_on_where_it_was(scans, tmp_path):
    paths, model = scans
    whole, before = predict_cases(model, paths, tmp_path, PATCH, progress=False), contents(tmp_path)
    (tmp_path/'case1.nii.gz').unlink()
    (tmp_path/'.case1.nii.gz.abc.part').write_bytes(b'half of it')
    again = predict_cases(model, paths, tmp_path, PATCH, batch=1, progress=False)
    assert again.status.tolist() == ['there already', 'written', 'there already'] and contents(tmp_path) == before
    assert again.out.equals(whole.out) and not list(tmp_path.glob('.*.part'))

def test_a_bad_case_costs_itself_alone(scans, tmp_path):
    paths, model = scans
    (tmp_path/'in').mkdir()
    good, cut, bare, nan, lost = (tmp_path/'in'/f'{n}.nii.gz' for n in ('good', 'cut', 'bare', 'nan', 'lost'))
    shutil.copy(paths[0], good)
    cut.write_bytes(good.read_bytes()[:2000])
    image, affine = load_nifti(good)
    save_nifti(image[..., 0], affine, bare)
    save_nifti(np.where(image > 2, np.nan, image), affine, nan)
    table = predict_cases(model, [good, cut, bare, nan, lost], tmp_path/'out', PATCH, progress=False).set_index('case')
    assert table.status.to_dict() == dict(good='written', cut='failed', bare='failed', nan='failed', lost='failed')
    for case, why in dict(cut='cut off', bare='1 channels, the model takes 2', nan='nan or infinite', lost='no such file').items():
        assert why in table.reason[case] and f'{case}.nii.gz' in table.reason[case] and table.out[case] == ''
    assert contents(tmp_path/'out').keys() == {'good.nii.gz'}

def test_same_bytes_from_one_process_two_and_dask(scans, tmp_path):
    paths, model = scans
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=':0', local_directory=tmp_path) as cluster, Client(cluster), joblib.parallel_config(backend='dask'):
        predict_cases(model, paths, tmp_path/'dask', PATCH, progress=False)
    for n in (1, 2): predict_cases(model, paths, tmp_path/str(n), PATCH, n_jobs=n, progress=False)
    assert len(contents(tmp_path/'1')) == 3 and contents(tmp_path/'1') == contents(tmp_path/'2') == contents(tmp_path/'dask')

def test_refuses_before_it_writes(scans, tmp_path):
    (path, *_), model = scans
    out = tmp_path/'out'
    with pytest.raises(ValueError, match='2 cases would be written'): predict_cases(model, [path, tmp_path/'CASE0.nii'], out, PATCH)
    for name in ('../case', '', '..', '.hidden', 'a\\b'):
        with pytest.raises(ValueError, match='not fit'): predict_cases(model, {name: path}, out, PATCH)
    with pytest.raises(ValueError, match='list of files'): predict_cases(model, path, out, PATCH)
    with pytest.raises(ValueError, match='activation'): predict_cases(model, [path], out, PATCH, activation='sigmoid')
    for wrong in dict(spacing=0), dict(per='head'), dict(inside='brain'), dict(orientation='LLS'), dict(patch=(16, 16)):
        with pytest.raises(ValueError, match=next(iter(wrong))): predict_cases(model, [path], out, **dict(patch=PATCH) | wrong)
    assert not out.exists()

def test_a_scan_is_never_taken_for_its_prediction(scans, tmp_path):
    "Neither replaced nor called 'there already', where `out` is the folder of the scans"
    (path, *_), model = scans
    shutil.copy(path, tmp_path)
    with pytest.raises(ValueError, match='written over'): predict_cases(model, [tmp_path/path.name], tmp_path, PATCH)
    with pytest.raises(ValueError, match='not from here'): predict_cases(model, [path], tmp_path, PATCH)
    assert contents(tmp_path) == {path.name: path.read_bytes()}

def test_predictions_of_two_kinds_do_not_mix(scans, tmp_path):
    (path, *_), model = scans
    predict_cases(model, [path], tmp_path, PATCH, progress=False)
    kept = contents(tmp_path)
    # of the same weights, but another way up
    repeat, linear = (UNet3D(2, 3, filters=2, depth=2, up=up) for up in ('repeat', 'linear'))
    linear.load_state_dict(repeat.state_dict())
    with pytest.raises(ValueError, match='another model'): predict_cases(repeat, [path], tmp_path, PATCH)
    with pytest.raises(ValueError, match='another overlap, patch'): predict_cases(model, [path], tmp_path, (8, 8, 8), overlap=.25)
    predict_cases(repeat, [path], tmp_path/'repeat', PATCH, progress=False)
    with pytest.raises(ValueError, match='another model'): predict_cases(linear, [path], tmp_path/'repeat', PATCH)
    (tmp_path/'repeat/.predict.json').write_text('{"version"')
    with pytest.raises(ValueError, match='predict.json: damaged'): predict_cases(repeat, [path], tmp_path/'repeat', PATCH)
    assert contents(tmp_path) == kept

def test_what_hits_every_case_stops_the_run(scans, tmp_path, monkeypatch):
    "A full disk, a model without memory and a tile that doesn't fit are no fault of a case"
    paths, model = scans
    def full(*args): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as patched:
        patched.setattr(medtut.predict, 'save_nifti', full)
        with pytest.raises(OSError, match='No space left'): predict_cases(model, paths, tmp_path/'a', PATCH, progress=False)
    def broken(x): raise RuntimeError('no memory left')
    with pytest.raises(RuntimeError, match='no memory'): predict_cases(broken, paths, tmp_path/'b', PATCH, progress=False)
    with pytest.raises(ValueError, match='multiple of 2'): predict_cases(model, paths, tmp_path/'c', (15, 16, 16), progress=False)
    with pytest.raises(ValueError, match='1 outputs'): predict_cases(lambda x: x[:, :1], paths, tmp_path/'d', PATCH, progress=False)

class Odd(torch.nn.Module):
    "Puts out nan for a scan whose channels start with this value, as a network does that overflows"
    def __init__(self, model, value):
        super().__init__()
        self.model, self.value = model, value
    def forward(self, x):
        return torch.where(((x - self.value).abs() < 1e-6).any(), torch.nan, 1)*self.model(x)

def test_a_scan_of_which_the_model_makes_nan_is_not_called_background(scans, tmp_path):
    "The largest of four nan is, for numpy, the first: every voxel would be background"
    paths, model = scans
    value = standardize(np.moveaxis(load_nifti(paths[1])[0], -1, 0), 'volume')[0, 5, 5, 5]
    odd = Odd(model, float(value))
    table = predict_cases(odd, paths, tmp_path, PATCH, progress=False)
    assert table.status.tolist() == ['written', 'failed', 'written']
    assert 'case1.nii.gz' in table.reason[1] and 'nan' in table.reason[1]
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
    assert [m.training for m in model.modules()] == before and True in before and False in before

def test_a_card_says_how(scans, tmp_path):
    (path, *_), model = scans
    loaded, how, card = load_predictor(save_unet(model, tmp_path/'w.safetensors', data='', seed=0, scores={}, **CARD))
    assert how == dict(patch=[16, 16, 16], spacing=2, per='volume', inside='head', orientation=None) and card['labels'] == CARD['labels']
    one = predict_file(loaded, path, tmp_path/'one.nii.gz', **how, progress=False)
    two = predict_file(model, path, tmp_path/'two.nii.gz', PATCH, inside='head', progress=False)
    assert one.read_bytes() == two.read_bytes()

@pytest.mark.parametrize('key', CARD)
def test_a_card_that_lacks_a_key_is_refused(scans, tmp_path, key):
    path = save_unet(scans[1], tmp_path/'w.safetensors', data='', seed=0, scores={}, **{k: v for k, v in CARD.items() if k != key})
    with pytest.raises(ValueError, match=f'w.safetensors: its card lacks {key};'): load_predictor(path)

@pytest.mark.parametrize('wrong', [dict(patch='all'), dict(patch=[16, 16, 0]), dict(spacing=-1), dict(spacing=float('nan')), dict(spacing=[1, 2]), dict(per='head'), dict(inside='brain'),
    dict(channels=['T1']), dict(channels='T1'), dict(labels={'1': 'one'}), dict(labels=['one', 'two']), dict(orientation=3)], ids=str)
def test_a_card_that_makes_no_sense_is_refused(scans, tmp_path, wrong):
    path = save_unet(scans[1], tmp_path/'w.safetensors', data='', seed=0, scores={}, **CARD | wrong)
    with pytest.raises(ValueError, match=f'w.safetensors: its card is wrong: {next(iter(wrong))} must be'): load_predictor(path)

def test_label_volumes(tmp_path):
    "Twelve voxels of 2 x 2.5 x 4 mm are 0.24 ml"
    label = np.zeros((5, 5, 5), np.uint8)
    label[:3, :2, :2] = 2
    path = save_nifti(label, np.diag([2, -2.5, 4, 1]), tmp_path/'x.nii.gz')
    assert label_volumes(dict(a=path), CARD['labels']).values.tolist() == [['a', 'one', 0], ['a', 'two', pytest.approx(.24)]]
