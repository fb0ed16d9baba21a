"""The command line as a shell sees it: exit status, standard output, standard error

Each command once in a new Python; where it is called again, in a fork of one that has imported."""
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import medtut as forked
from typer.main import get_command
from typer.testing import CliRunner

from medtut.cli import app
from medtut.datasets import get_data
from medtut.nifti import load_nifti, save_nifti


def medtut(*args, **kwargs):
    command = [sys.executable, '-c', 'from medtut.cli import main; main()', *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, **kwargs)

@pytest.fixture(scope='module')
def breast(tmp_path_factory):
    return get_data('duke_breast', 'sample', root=tmp_path_factory.mktemp('duke'), n=3, matrix=64,
                    slices=24, progress=False)

def written(done, table):
    "The table of a run that went well: in a sample set one file is missing on purpose"
    table = pd.read_csv(table)
    failed = table[table.status == 'failed']
    assert done.returncode == min(len(failed), 1), done.stderr
    assert len(failed) <= 1 and failed.reason.str.contains('no such file').all()
    return table[table.status == 'written']

def test_slices_of_a_set(breast, tmp_path):
    done = medtut('slices', breast, tmp_path/'out', '-n', 6, '--csv', tmp_path/'t.csv', '--quiet')
    table = written(done, tmp_path/'t.csv')
    assert not done.stdout and f'{len(table)} written' in done.stderr and len(table) >= 11
    pictures = [p.relative_to(tmp_path/'out').as_posix() for p in (tmp_path/'out').glob('*/*.png')]
    assert sorted(pictures) == sorted(table.png)
    again = forked('slices', breast, tmp_path/'out', '-n', 6, '-j', 1, '--quiet')
    assert f'{len(table)} there already' in again.stderr

def test_a_slice_that_fails_is_told(breast, tmp_path):
    def export(out):
        options = '--csv', tmp_path/'t.csv', '-j', 1, '--quiet'
        return forked('slices', breast, tmp_path/out, *options)
    whole = export('whole')
    table = written(whole, tmp_path/'t.csv')
    damaged = next(breast/p for p in table.path if (breast/p).is_file())
    kept = damaged.read_bytes()
    damaged.write_bytes(kept[:200])
    try: done = export('out')
    finally: damaged.write_bytes(kept)
    reasons = pd.read_csv(tmp_path/'t.csv').query('status == "failed"').reason
    assert done.returncode == 1 and f'{len(table) - 1} written' in done.stderr
    assert reasons.str.contains(damaged.name).sum() == 1

def test_a_patient_written_in_two_ways_is_told(breast, tmp_path):
    "and not left out as one who has no images"
    copy = shutil.copytree(breast, tmp_path/'set')
    for table in copy.glob('Annotation_Boxes.xlsx'): table.unlink()
    boxes = copy/'Annotation_Boxes.csv'
    boxes.write_text(boxes.read_text().replace('Breast_MRI_001', 'breast_mri_001'))
    done = forked('slices', copy, tmp_path/'out', '--quiet')
    message = ' '.join(done.stderr.split())
    assert done.returncode == 1 and 'breast_mri_001' in message and 'one way' in message

def test_not_a_set(tmp_path):
    done = forked('slices', tmp_path, tmp_path/'out')
    assert done.returncode == 1 and 'Annotation_Boxes' in done.stderr
    assert 'Traceback' not in done.stderr and not (tmp_path/'out').exists()

def test_scan_of_nothing(tmp_path):
    done = medtut('scan', tmp_path, '--csv', tmp_path/'t.csv')
    assert done.returncode == 1 and 'no DICOM files' in done.stderr
    assert not (tmp_path/'t.csv').exists()

def test_scan_keeps_an_old_table_when_it_fails(breast, tmp_path):
    (tmp_path/'t.csv').write_text('kept')
    assert medtut('scan', tmp_path/'nowhere', '--csv', tmp_path/'t.csv').returncode == 2
    assert (tmp_path/'t.csv').read_text() == 'kept'

def test_a_table_without_a_folder_is_refused_before_the_scan(tmp_path):
    done = medtut('scan', tmp_path, '--csv', tmp_path/'nowhere/t.csv')
    assert done.returncode == 2 and 'nowhere' in done.stderr
    assert 'no DICOM files' not in done.stderr

@pytest.mark.parametrize('wrong, message', [
    (['--csv', 'folder'], 'is a folder'), (['-j', '0'], '-1 means one a core')], ids=str)
@pytest.mark.parametrize('command', [['scan'], ['series'], ['png', 'out'], ['convert', 'out']])
def test_what_can_not_be_is_refused_before_any_work(command, wrong, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'folder').mkdir()
    done = CliRunner().invoke(app, [command[0], '.', *command[1:], *wrong])
    assert done.exit_code == 2 and message in ' '.join(done.output.split()), done.output
    assert 'no DICOM files' not in done.output and len(list(tmp_path.iterdir())) == 1

@pytest.mark.parametrize('option', ['--key-file', '--new-key'])
def test_a_key_that_would_be_passed_on_is_refused(option, tmp_path):
    (tmp_path/'in').mkdir()
    done = medtut('deidentify', 'in', 'out', option, 'out/secret.key', cwd=tmp_path)
    assert done.returncode == 2 and option in done.stderr and 'passed on' in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['in']

def test_a_full_disk_is_told_in_a_line(breast, tmp_path):
    resource = pytest.importorskip('resource')
    def limit(): resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    done = medtut('scan', breast, '--no-pixels', '--quiet', '--jobs', 1, '--csv', tmp_path/'t.csv',
                  preexec_fn=limit)
    assert done.returncode == 1 and 'too large' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not any(tmp_path.iterdir())

def test_a_closed_pipe_is_no_error(breast):
    "`medtut scan folder | head -1`"
    command = f'{sys.executable} -c "from medtut.cli import main; main()"'
    done = subprocess.run(f'{command} scan {breast} --no-pixels -q | head -1',
                          shell=True, capture_output=True, text=True)
    assert done.stdout.startswith('path,') and 'Traceback' not in done.stderr

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
    assert table.case.tolist() == ['A', 'A'] and table.label.tolist() == ['one', 'two']
    ml_per_voxel = .012  # 2 x 2 x 3 mm
    expected = [(label == k).sum()*ml_per_voxel for k in (1, 2)]
    assert np.allclose(table.ml, expected, atol=1e-3) and table.ml.any()

def test_predict_channels_from_files_and_replace_only_when_asked(network, tmp_path):
    out = tmp_path/'seg.nii.gz'
    assert predict(network, network[1][:1], out).returncode == 0
    kept = out.read_bytes()
    # the channels of one scan, each in a file
    image, affine = load_nifti(network[1][1])
    channels = [save_nifti(image[..., c], affine, tmp_path/f'c{c}.nii') for c in range(2)]
    refused = predict(network, channels, out)
    assert refused.returncode == 1 and '--force' in refused.stderr and not refused.stdout
    assert out.read_bytes() == kept
    assert predict(network, channels, out, '--force').returncode == 0
    assert out.read_bytes() != kept

def test_predict_a_folder(network, tmp_path):
    (tmp_path/'cut.nii.gz').write_bytes(network[1][0].read_bytes()[:2000])
    done = predict(network, [*network[1], tmp_path/'cut.nii.gz'], tmp_path/'out')
    assert done.returncode == 1 and '2 written, 1 failed' in done.stderr
    assert 'cut off' in done.stderr and 'Traceback' not in done.stderr
    assert pd.read_csv(io.StringIO(done.stdout)).case.tolist() == ['A', 'A', 'B', 'B']
    assert sorted(p.name for p in (tmp_path/'out').glob('*.nii.gz')) == ['A.nii.gz', 'B.nii.gz']
    again = predict(network, network[1], tmp_path/'out')
    assert again.returncode == 0 and '2 there already' in again.stderr
    assert again.stdout == done.stdout

@pytest.mark.parametrize('out', ['seg.nii.gz', 'folder'])
def test_too_little_memory_on_the_gpu(network, tmp_path, monkeypatch, capsys, out):
    import torch

    from medtut import cli, predict as module
    def full(*args, **kwargs): raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried ...')
    for name in ('predict_file', 'predict_cases'): monkeypatch.setattr(module, name, full)
    weights, (scan, _) = network
    monkeypatch.setattr(sys, 'argv', ['medtut', 'predict', str(scan), '-w', str(weights),
                                      '-o', str(tmp_path/out), '--device', 'cpu'])
    with pytest.raises(SystemExit) as stop: cli.main()
    assert stop.value.code == 1 and '--batch 1' in capsys.readouterr().err

def test_predict_refuses(network, tmp_path):
    weights, (scan, _) = network
    kept = scan.read_bytes()
    itself = predict(network, [scan], scan, '--force')
    assert itself.returncode == 1 and 'is the scan itself' in itself.stderr
    assert scan.read_bytes() == kept
    pickled = forked('predict', scan, '--weights', scan, '--out', tmp_path/'x.nii')
    assert pickled.returncode == 1 and 'not a safetensors file' in pickled.stderr
    for wrong in ['--force'], ['--device', 'abacus'], ['--uid', '1.2.3']:
        assert predict(network, [scan], tmp_path/'out', *wrong).returncode == 2
    assert not any(tmp_path.iterdir())

def test_installed_command():
    command = [Path(sys.executable).with_name('medtut'), '--help']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and 'clinical' in done.stdout

def help_of(command):
    done = medtut(*command, '--help', env=dict(os.environ, COLUMNS='80', TERM='dumb'))
    assert done.returncode == 0 and not done.stderr
    return done.stdout

def test_help_in_a_terminal_of_80_columns():
    "Each command in one line, not cut short; `medtut` alone tells the same"
    assert '...' not in help_of([]).partition('Commands:')[2]
    alone = medtut(env=dict(os.environ, COLUMNS='80', TERM='dumb'))
    assert alone.returncode == 2 and 'Commands:' in alone.stdout + alone.stderr

@pytest.mark.parametrize('command', get_command(app).commands)
def test_every_option_is_explained(command):
    for parameter in get_command(app).commands[command].params:
        text = parameter.help or ''
        assert text.strip().endswith('.'), parameter.name
    lines = help_of([command]).splitlines()
    assert len(lines) > 5 and max(map(len, lines)) <= 80

@pytest.mark.parametrize('args', [
    ['scan'], ['scan', '.', '--no-such-option'], ['no-such-command'], ['slices', '.'],
    ['get', 'siim_small', '--jobs', 'many']])
def test_wrong_usage(args, tmp_path):
    done = medtut(*args, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert 'Usage: medtut' in done.stderr and 'Traceback' not in done.stderr

def test_an_unknown_set_is_told(tmp_path):
    done = medtut('get', 'no_such_set', '--root', tmp_path)
    assert done.returncode == 1 and not done.stdout
    assert 'no_such_set' in done.stderr and 'siim_small' in done.stderr

def test_results_and_progress_go_apart(tmp_path):
    "What a script reads is the folder alone, even while someone watches the bar"
    done = medtut('get', 'msd_brain', '--cases', 2, '--root', tmp_path, '-j', 1)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.rstrip('\n')).is_dir() and done.stdout.count('\n') == 1
    assert '%|' in done.stderr

def test_table_on_standard_output_is_a_table(breast):
    done = medtut('scan', breast, '--no-pixels')
    table = pd.read_csv(io.StringIO(done.stdout))
    assert done.returncode == 0 and len(table) and f'{len(table)} files' in done.stderr
