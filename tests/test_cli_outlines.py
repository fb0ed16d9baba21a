"`medtut predict` as a shell sees it; `medtut evaluate` stands in test_evaluate.py"
import io
import sys

import numpy as np
import pandas as pd
import pytest
from command_line import medtut as forked
from test_cli import medtut

from medtut.nifti import load_nifti, save_nifti


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    "A network for two channels, never trained, and two scans"
    import torch

    from medtut.unet import UNet3D, save_unet
    torch.manual_seed(0)
    folder, rng = tmp_path_factory.mktemp('network'), np.random.default_rng(0)
    card = dict(patch=(16, 16, 16), spacing=None, per='volume', inside=None,
                channels=['T1', 'T2'], labels={'1': 'one', '2': 'two'})
    weights = save_unet(UNet3D(2, 3, filters=2, depth=2), folder/'w.safetensors',
                        data='', seed=0, scores={}, **card)
    image, affine = rng.normal(size=(2, 18, 16, 20, 2)).astype(np.float32), np.diag([2, 2, 3, 1])
    scans = [save_nifti(x, affine, folder/f'{name}.nii.gz') for name, x in zip('AB', image)]
    return weights, scans

def predict(network, images, out, *args, call=forked):
    return call('predict', *images, '--weights', network[0], '--out', out, '--device', 'cpu',
                '--quiet', *args)

def test_predict_one_file(network, tmp_path):
    scan = network[1][0]
    done = predict(network, [scan], tmp_path/'seg.nii.gz', call=medtut)
    assert done.returncode == 0 and 'Not for clinical use' in done.stderr, done.stderr
    label, _ = load_nifti(tmp_path/'seg.nii.gz', dtype=np.uint8)
    table = pd.read_csv(io.StringIO(done.stdout))
    assert table.columns.tolist() == ['case', 'label', 'ml']
    assert table.case.tolist() == ['A', 'A']
    assert table.label.tolist() == ['one', 'two']
    ml_per_voxel = .012  # 2 x 2 x 3 mm
    expected = [(label == k).sum()*ml_per_voxel for k in (1, 2)]
    assert np.allclose(table.ml, expected, atol=1e-3)
    assert table.ml.any()

def test_predict_channels_from_files_and_replace_only_when_asked(network, tmp_path):
    out = tmp_path/'seg.nii.gz'
    assert predict(network, network[1][:1], out).returncode == 0
    kept = out.read_bytes()
    # the channels of one scan, each in a file
    image, affine = load_nifti(network[1][1])
    channels = [save_nifti(image[..., c], affine, tmp_path/f'c{c}.nii') for c in range(2)]
    refused = predict(network, channels, out)
    assert refused.returncode == 1
    assert '--force' in refused.stderr
    assert not refused.stdout
    assert out.read_bytes() == kept
    assert predict(network, channels, out, '--force').returncode == 0
    assert out.read_bytes() != kept

def test_predict_a_folder(network, tmp_path):
    (tmp_path/'cut.nii.gz').write_bytes(network[1][0].read_bytes()[:2000])
    done = predict(network, [*network[1], tmp_path/'cut.nii.gz'], tmp_path/'out')
    assert done.returncode == 1
    assert '2 written, 1 failed' in done.stderr
    assert 'cut off' in done.stderr
    assert 'Traceback' not in done.stderr
    assert pd.read_csv(io.StringIO(done.stdout)).case.tolist() == ['A', 'A', 'B', 'B']
    assert sorted(p.name for p in (tmp_path/'out').glob('*.nii.gz')) == ['A.nii.gz', 'B.nii.gz']
    again = predict(network, network[1], tmp_path/'out')
    assert again.returncode == 0
    assert '2 there already' in again.stderr
    assert again.stdout == done.stdout

@pytest.mark.parametrize('out', ['seg.nii.gz', 'folder'])
def test_too_little_memory_on_the_gpu(network, tmp_path, monkeypatch, capsys, out):
    import torch

    from medtut import cli, predict as module
    def full(*args, **kwargs): raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried ...')
    for name in ('predict_file', 'predict_cases'):
        monkeypatch.setattr(module, name, full)
    weights, (scan, _) = network
    monkeypatch.setattr(sys, 'argv', ['medtut', 'predict', str(scan), '-w', str(weights),
                                      '-o', str(tmp_path/out), '--device', 'cpu'])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert '--batch 1' in capsys.readouterr().err

def test_predict_refuses(network, tmp_path):
    weights, (scan, _) = network
    kept = scan.read_bytes()
    itself = predict(network, [scan], scan, '--force')
    assert itself.returncode == 1
    assert 'is the scan itself' in itself.stderr
    assert scan.read_bytes() == kept
    pickled = forked('predict', scan, '--weights', scan, '--out', tmp_path/'x.nii')
    assert pickled.returncode == 1
    assert 'not a safetensors file' in pickled.stderr
    for wrong in ['--force'], ['--device', 'abacus'], ['--uid', '1.2.3']:
        assert predict(network, [scan], tmp_path/'out', *wrong).returncode == 2
    assert not any(tmp_path.iterdir())

def test_predict_judges_beside_a_truth(network, tmp_path):
    "The summary goes to standard error, and standard output is the table as before"
    for scan in network[1]:
        image, affine = load_nifti(scan)
        truth = (image[..., 0] > 0).astype(np.uint8)
        save_nifti(truth, affine, tmp_path/'truth'/scan.name)
    plain = predict(network, network[1], tmp_path/'out')
    judged = predict(network, network[1], tmp_path/'out', '--truth', tmp_path/'truth')
    assert judged.returncode == 0
    assert judged.stdout == plain.stdout
    assert 'Patients: 2' in judged.stderr
    assert 'longest diagonal' in judged.stderr
    one = predict(network, network[1][:1], tmp_path/'one.nii', '--truth', tmp_path/'truth/A.nii.gz')
    assert 'Patients: 1' in one.stderr, one.stderr

def test_predict_refuses_scans_without_a_truth_before_any_work(network, tmp_path):
    save_nifti(np.zeros((18, 16, 20), np.uint8), np.diag([2, 2, 3, 1]), tmp_path/'truth/A.nii.gz')
    done = predict(network, network[1], tmp_path/'out', '--truth', tmp_path/'truth')
    assert done.returncode == 1
    assert 'no truth named B' in done.stderr
    assert not (tmp_path/'out').exists()

def test_predict_gives_no_mean_without_the_scans_that_failed(network, tmp_path):
    for name in ('A', 'cut'):
        label = np.zeros((18, 16, 20), np.uint8)
        save_nifti(label, np.diag([2, 2, 3, 1]), tmp_path/'truth'/f'{name}.nii.gz')
    (tmp_path/'cut.nii.gz').write_bytes(network[1][0].read_bytes()[:2000])
    scans = [network[1][0], tmp_path/'cut.nii.gz']
    done = predict(network, scans, tmp_path/'out', '--truth', tmp_path/'truth')
    assert done.returncode == 1
    assert 'no summary: 1 of 2' in done.stderr
    assert 'Patients:' not in done.stderr

# --- from an archive, and back

@pytest.fixture(scope='module')
def one_channel(tmp_path_factory):
    "A network for one channel, never trained, and a series"
    import torch
    from test_results import write_series

    from medtut.unet import UNet3D, save_unet
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('one_channel')
    card = dict(patch=(8, 8, 8), spacing=None, per='volume', inside=None, channels=['CT'],
                labels={'1': 'liver', '2': 'lesion'})
    weights = save_unet(UNet3D(1, 3, filters=2, depth=2), folder/'w.safetensors',
                        data='', seed=0, scores={}, **card)
    return weights, write_series(folder/'series')

def test_predict_writes_dicom(one_channel, tmp_path):
    pytest.importorskip('highdicom')
    from medtut.results import read_seg, read_sr
    from medtut.volumes import load_series
    series = one_channel[1]
    url = 'http://127.0.0.1:9/dicom-web'  # where nothing listens, and nothing is sent
    call = [series], tmp_path/'out', '--seg', '--sr', '--to', url, '--dry-run'
    done = predict(one_channel, *call, call=medtut)
    assert done.returncode == 0, done.stderr
    assert f'would send 2 files to {url}, and sends nothing' in done.stderr
    (nifti,), (seg,), (report,) = [list((tmp_path/'out').glob(p)) for p in (
        '*.nii.gz', '*_seg.dcm', '*_sr.dcm')]
    voxels = load_series(series, progress=False)
    like, names = (voxels.array.shape, voxels.affine), {1: 'liver', 2: 'lesion'}
    label, _ = load_nifti(nifti, dtype=np.uint8)
    np.testing.assert_array_equal(read_seg(seg, like, names).array, label)
    volumes = read_sr(report).query('measurement == "Volume"')
    printed = pd.read_csv(io.StringIO(done.stdout))
    np.testing.assert_allclose(volumes.value, printed.ml, atol=1e-3)
    kept = seg.read_bytes(), report.read_bytes()
    assert predict(one_channel, *call).returncode == 0
    assert (seg.read_bytes(), report.read_bytes()) == kept

@pytest.mark.parametrize('args, words', [
    (['--to', 'http://127.0.0.1:9/dicom-web'], 'needs --seg or --sr'),
    (['--seg', '--dry-run'], 'name the archive'),
    (['--seg', '--to', 'archive'], 'no address of an archive'),
    (['--from', 'http://127.0.0.1:9/dicom-web'], 'needs --uid')])
def test_predict_refuses_before_any_work(one_channel, tmp_path, args, words):
    pytest.importorskip('pynetdicom')
    done = predict(one_channel, [one_channel[1]], tmp_path/'out', *args)
    assert done.returncode
    assert words in done.stderr.replace('\n', ' ')
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.glob('out/*.nii.gz'))

def test_a_name_in_capitals_is_that_of_a_file(network, tmp_path):
    "No folder by the name of a file"
    done = predict(network, network[1][:1], tmp_path/'SEG.NII.GZ', call=medtut)
    assert done.returncode
    assert 'must end in .nii or .nii.gz' in done.stderr
    assert not list(tmp_path.iterdir())

def test_table_of_patients(tmp_path):
    "A spreadsheet keeps numbers as 7.0; one case has one patient"
    from medtut.cli_outlines import _patients_of
    path = tmp_path/'patients.xlsx'
    pd.DataFrame(dict(case=[7, 8], patient=[1, 1])).to_excel(path, index=False)
    assert _patients_of(path) == {'7': '1', '8': '1'}
    path = tmp_path/'patients.csv'
    path.write_text('case,patient\na,P1\na,P1\nb,P2\n')
    assert _patients_of(path) == dict(a='P1', b='P2')
    path.write_text('case,patient\na,P1\na,P2\n')
    with pytest.raises(ValueError, match='patients.csv: case a is of patient P1 in one row and of P2'):
        _patients_of(path)

def test_predict_writes_no_dicom_of_nifti(network, tmp_path):
    done = predict(network, network[1][:1], tmp_path/'out', '--seg')
    assert done.returncode
    assert 'is NIfTI' in done.stderr

def results(folder):
    return {path.name: path.read_bytes() for path in folder.glob('*.nii.gz')}

def test_predict_several_series_by_their_uids(one_channel, tmp_path):
    """A UID is that of one series (PS3.3 C.7.3.1): of several folders each gives those that it
    holds, and from an archive each comes in a folder of its own"""
    pytest.importorskip('pynetdicom')
    import pydicom
    from test_results import write_series

    from medtut.pacs import archive, store
    folders = [one_channel[1], write_series(tmp_path/'second')]
    uids = [pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID for folder in folders]
    named = [part for uid in uids for part in ('--uid', uid)]
    done = predict(one_channel, folders, tmp_path/'named', *named)
    assert done.returncode == 0, done.stderr
    assert len(results(tmp_path/'named')) == 2
    with archive() as a:
        for folder in folders: store(a.web, folder, progress=False)
        done = predict(one_channel, [], tmp_path/'fetched', '--from', a.web, *named)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path/'fetched') == results(tmp_path/'named')
    lost = predict(one_channel, folders, tmp_path/'lost', *named, '--uid', '1.2.3')
    assert lost.returncode == 1
    assert 'no series 1.2.3' in lost.stderr
    idle = predict(one_channel, folders, tmp_path/'idle', '--uid', uids[0])
    assert idle.returncode == 0, idle.stderr
    assert f'{folders[1]}: holds none of the series' in idle.stderr
    assert len(results(tmp_path/'idle')) == 1

def test_predict_from_an_archive_and_back(one_channel, tmp_path):
    pytest.importorskip('pynetdicom')
    pytest.importorskip('highdicom')
    import pydicom

    from medtut.pacs import archive, find_series, store
    uid = pydicom.dcmread(next(one_channel[1].iterdir())).SeriesInstanceUID
    with archive() as a:
        store(a.web, one_channel[1], progress=False)
        for word in ('stored', 'there already'):
            done = predict(one_channel, [], tmp_path/'out', '--from', a.web, '--uid', uid, '--seg',
                           '--sr', '--to', a.web)
            assert done.returncode == 0, done.stderr
            assert f'2 results {word}' in done.stderr
        assert sorted(find_series(a.web).modality) == ['CT', 'SEG', 'SR']
