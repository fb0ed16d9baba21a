"Draft tests of `predict_cases`: for tests/test_scale.py, where `cluster` is a fixture already, with the import from medtut.segmentation"
import json, shutil

import joblib, numpy as np, pandas as pd, pytest, torch

from draft_predict_cases import predict_cases
from medtut.segmentation import UNet3D, predict_volume, standardize
from medtut.volumes import VolumeError, check_same_grid, load_nifti, resample, save_nifti
from tests.test_scale import cluster  # noqa: F401

PATCH = (16, 16, 16)

@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    "Three scans of different sizes, voxels of 2 mm, and the network to predict them with"
    folder, rng = tmp_path_factory.mktemp('scans'), np.random.default_rng(0)
    for i, shape in enumerate([(20, 18, 16), (24, 20, 22), (12, 30, 17)]):
        save_nifti(rng.normal(size=(*shape, 2)).astype(np.float32), np.diag([2., 2, 2, 1]), folder/f'case{i}.nii.gz')
    torch.manual_seed(0)
    return sorted(folder.glob('*.gz')), UNet3D(2, 3, filters=2, depth=2)

def contents(folder): return {p.name: p.read_bytes() for p in folder.glob('*.nii.gz')}

def test_predicts_as_one_does_by_hand(scans, tmp_path):
    paths, model = scans
    table = predict_cases(model, paths, tmp_path, PATCH, progress=False)
    assert table.status.tolist() == ['written']*3 and table.case.tolist() == ['case0', 'case1', 'case2'] and not table.reason.any()
    for path, out in zip(paths, table.out):
        image, affine = load_nifti(path)
        label, label_affine = load_nifti(out, dtype=np.uint8)
        check_same_grid(image.shape, affine, label.shape, label_affine)
        expected = predict_volume(model, standardize(np.moveaxis(image, -1, 0), 'volume'), PATCH, progress=False).argmax(0)
        assert (label == expected).all() and len(np.unique(label)) > 1

def test_same_files_in_two_processes_and_on_dask(scans, tmp_path, cluster):
    paths, model = scans
    predict_cases(model, paths, tmp_path/'one', PATCH, progress=False)
    predict_cases(model, paths, tmp_path/'two', PATCH, n_jobs=2, progress=False)
    with joblib.parallel_config(backend='dask'): predict_cases(model, paths, tmp_path/'dask', PATCH, progress=False)
    assert len(contents(tmp_path/'one')) == 3 and contents(tmp_path/'one') == contents(tmp_path/'two') == contents(tmp_path/'dask')

def test_goes_on_where_it_was(scans, tmp_path):
    paths, model = scans
    whole = predict_cases(model, paths, tmp_path, PATCH, progress=False)
    before = contents(tmp_path)
    (tmp_path/'case1.nii.gz').unlink()
    (tmp_path/'.case1.nii.gz.abc').write_bytes(b'half of it')
    again = predict_cases(model, paths, tmp_path, PATCH, progress=False)
    assert again.status.tolist() == ['there already', 'written', 'there already'] and contents(tmp_path) == before
    assert again.out.equals(whole.out) and not (tmp_path/'.case1.nii.gz.abc').exists()

def test_a_bad_case_costs_itself_alone(scans, tmp_path):
    paths, model = scans
    (tmp_path/'in').mkdir()
    good, cut, bare, nan = (tmp_path/'in'/f'{n}.nii.gz' for n in ('good', 'cut', 'bare', 'nan'))
    shutil.copy(paths[0], good)
    cut.write_bytes(good.read_bytes()[:2000])
    image, affine = load_nifti(good)
    save_nifti(image[..., 0], affine, bare)
    save_nifti(np.where(image > 2, np.nan, image), affine, nan)
    table = predict_cases(model, [good, cut, bare, nan, tmp_path/'in'/'lost.nii.gz'], tmp_path/'out', PATCH, progress=False).set_index('case')
    assert table.status.to_dict() == dict(good='written', cut='failed', bare='failed', nan='failed', lost='failed')
    for case, why in dict(cut='cut off', bare='1 channels, the model takes 2', nan='nan or infinite', lost='no such file').items():
        assert why in table.reason[case] and f'{case}.nii.gz' in table.reason[case] and table.out[case] == ''
    assert contents(tmp_path/'out').keys() == {'good.nii.gz'}

def test_channels_from_files_of_their_own(scans, tmp_path):
    (path, *_), model = scans
    image, affine = load_nifti(path)
    files = [save_nifti(image[..., c], affine, tmp_path/f'{c}.nii') for c in range(2)]
    predict_cases(model, dict(case0=files), tmp_path/'split', PATCH, progress=False)
    predict_cases(model, [path], tmp_path/'whole', PATCH, progress=False)
    assert contents(tmp_path/'split') == contents(tmp_path/'whole')
    save_nifti(image[:-1, ..., 1], affine, files[1])
    table = predict_cases(model, dict(other=files), tmp_path/'split', PATCH, progress=False)
    assert table.status.item() == 'failed' and 'voxels' in table.reason.item()

def test_another_spacing_comes_back_to_the_files_own_grid(scans, tmp_path):
    "Voxels of 2 mm, a model for 4 mm: what is at a place in the file is what the model said of that place"
    (path, *_), model = scans
    image, affine = load_nifti(path)
    out = predict_cases(model, [path], tmp_path, PATCH, spacing=4, progress=False).out.item()
    label, label_affine = load_nifti(out, dtype=np.uint8)
    coarse, coarse_affine = resample(image, affine, 4)
    p = predict_volume(model, standardize(np.moveaxis(coarse, -1, 0), 'volume'), PATCH, progress=False)
    back = np.stack([resample(x, coarse_affine, like=(image.shape, affine))[0] for x in p])
    assert label.shape == image.shape[:3] and np.allclose(label_affine, affine) and (label == back.argmax(0)).all() and label.any()

def test_refuses_before_it_writes(scans, tmp_path):
    (path, *_), model = scans
    with pytest.raises(ValueError, match='2 cases would be written'): predict_cases(model, [path, tmp_path/'CASE0.nii'], tmp_path/'out', PATCH)
    for name in ('../case', '', '..', '.hidden', 'a\\b'):
        with pytest.raises(ValueError, match='not fit'): predict_cases(model, {name: path}, tmp_path/'out', PATCH)
    with pytest.raises(ValueError, match='list of files'): predict_cases(model, path, tmp_path/'out', PATCH)
    with pytest.raises(ValueError, match='activation'): predict_cases(model, [path], tmp_path/'out', PATCH, activation='sigmoid')
    assert not (tmp_path/'out').exists()
    predict_cases(model, [path], tmp_path/'out', PATCH, progress=False)
    other = UNet3D(2, 3, filters=2, depth=2)
    with pytest.raises(ValueError, match='other weights'): predict_cases(other, [path], tmp_path/'out', PATCH, progress=False)
    with pytest.raises(ValueError, match='other overlap, patch'): predict_cases(model, [path], tmp_path/'out', (8, 8, 8), overlap=.25, progress=False)

def test_a_full_disk_and_a_broken_model_stop_the_run(scans, tmp_path, monkeypatch):
    "They are no fault of a case: nothing is gained by trying the next"
    import draft_predict_cases as module
    paths, model = scans
    def full(*args): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as patched:
        patched.setattr(module, 'save_nifti', full)
        with pytest.raises(OSError, match='No space left'): predict_cases(model, paths, tmp_path, PATCH, progress=False)
    def broken(x): raise RuntimeError('no memory left on the device')
    with pytest.raises(RuntimeError, match='no memory'): predict_cases(broken, paths, tmp_path/'other', PATCH, progress=False)
