"""The command line as a shell sees it: exit status, standard output, standard error

Each command once in a new Python; where it is called again, in a fork of one that has imported."""
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from command_line import medtut as forked
from typer.main import get_command
from typer.testing import CliRunner

from medtut.cli import app
from medtut.datasets import get_data


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
    assert len(failed) <= 1
    assert failed.reason.str.contains('no such file').all()
    return table[table.status == 'written']

def test_slices_of_a_set(breast, tmp_path):
    done = medtut('slices', breast, tmp_path/'out', '-n', 6, '--csv', tmp_path/'t.csv', '--quiet')
    table = written(done, tmp_path/'t.csv')
    assert not done.stdout
    assert f'{len(table)} written' in done.stderr
    assert len(table) >= 11
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
    assert done.returncode == 1
    assert f'{len(table) - 1} written' in done.stderr
    assert reasons.str.contains(damaged.name).sum() == 1

def test_a_patient_written_in_two_ways_is_told(breast, tmp_path):
    "and not left out as one who has no images"
    copy = shutil.copytree(breast, tmp_path/'set')
    for table in copy.glob('Annotation_Boxes.xlsx'):
        table.unlink()
    boxes = copy/'Annotation_Boxes.csv'
    boxes.write_text(boxes.read_text().replace('Breast_MRI_001', 'breast_mri_001'))
    done = forked('slices', copy, tmp_path/'out', '--quiet')
    message = ' '.join(done.stderr.split())
    assert done.returncode == 1
    assert 'breast_mri_001' in message
    assert 'one way' in message

def test_a_phase_that_no_image_has_is_told(breast, tmp_path):
    done = forked('slices', breast, tmp_path/'out', '--phase', 'post_9', '--quiet')
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert "no image of phase 'post_9'; there are post_1, pre" in done.stderr
    assert not (tmp_path/'out').exists()

def test_a_table_never_replaces_one_of_the_set(breast, tmp_path):
    boxes = breast/'Annotation_Boxes.csv'
    kept = boxes.read_bytes()
    done = forked('slices', breast, tmp_path/'out', '--csv', boxes, '--quiet')
    assert done.returncode == 2
    assert boxes.read_bytes() == kept

def test_not_a_set(tmp_path):
    done = forked('slices', tmp_path, tmp_path/'out')
    assert done.returncode == 1
    assert 'Annotation_Boxes' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path/'out').exists()

def test_scan_of_nothing(tmp_path):
    done = medtut('scan', tmp_path, '--csv', tmp_path/'t.csv')
    assert done.returncode == 1
    assert 'no DICOM files' in done.stderr
    assert not (tmp_path/'t.csv').exists()

def test_scan_keeps_an_old_table_when_it_fails(breast, tmp_path):
    (tmp_path/'t.csv').write_text('kept')
    assert medtut('scan', tmp_path/'nowhere', '--csv', tmp_path/'t.csv').returncode == 2
    assert (tmp_path/'t.csv').read_text() == 'kept'

def test_a_table_without_a_folder_is_refused_before_the_scan(tmp_path):
    done = medtut('scan', tmp_path, '--csv', tmp_path/'nowhere/t.csv')
    assert done.returncode == 2
    assert 'nowhere' in done.stderr
    assert 'no DICOM files' not in done.stderr

@pytest.mark.parametrize('wrong, message', [
    (['--csv', 'folder'], 'is a folder'), (['-j', '0'], '-1 means one a core')], ids=str)
@pytest.mark.parametrize('command', [['scan'], ['series'], ['png', 'out'], ['convert', 'out']])
def test_what_can_not_be_is_refused_before_any_work(command, wrong, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'folder').mkdir()
    done = CliRunner().invoke(app, [command[0], '.', *command[1:], *wrong])
    assert done.exit_code == 2 and message in ' '.join(done.output.split()), done.output
    assert 'no DICOM files' not in done.output
    assert len(list(tmp_path.iterdir())) == 1

def test_a_folder_that_one_may_not_write_to_is_refused_before_any_work(tmp_path, monkeypatch):
    "`os.access` is what a reader of a shared disk has; root may write to any folder"
    monkeypatch.chdir(tmp_path)
    (tmp_path/'shared').mkdir()
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path).name != 'shared')
    done = CliRunner().invoke(app, ['scan', '.', '--csv', 'shared/t.csv'])
    message = ' '.join(done.output.split())
    assert done.exit_code == 2 and 'shared/t.csv: its folder is not one' in message, done.output
    assert 'no DICOM files' not in message

@pytest.mark.parametrize('option', ['--key-file', '--new-key'])
def test_a_key_that_would_be_passed_on_is_refused(option, tmp_path):
    (tmp_path/'in').mkdir()
    done = medtut('deidentify', 'in', 'out', option, 'out/secret.key', cwd=tmp_path)
    assert done.returncode == 2
    assert option in done.stderr
    assert 'passed on' in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['in']

def test_a_full_disk_is_told_in_a_line(breast, tmp_path):
    resource = pytest.importorskip('resource')
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    done = medtut('scan', breast, '--no-pixels', '--quiet', '--jobs', 1, '--csv', tmp_path/'t.csv',
                  preexec_fn=limit)
    assert done.returncode == 1
    assert 'too large' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not any(tmp_path.iterdir())

def test_a_closed_pipe_is_no_error(breast):
    "`medtut scan folder | head -1`"
    command = f'{sys.executable} -c "from medtut.cli import main; main()"'
    done = subprocess.run(f'{command} scan {breast} --no-pixels -q | head -1',
                          shell=True, capture_output=True, text=True)
    assert done.stdout.startswith('path,')
    assert 'Traceback' not in done.stderr

def test_installed_command():
    command = [Path(sys.executable).with_name('medtut'), '--help']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert 'clinical' in done.stdout

def help_of(command):
    done = medtut(*command, '--help', env=dict(os.environ, COLUMNS='80', TERM='dumb'))
    assert done.returncode == 0
    assert not done.stderr
    return done.stdout

def test_help_in_a_terminal_of_80_columns():
    "Each command in one line, not cut short; `medtut` alone tells the same"
    assert '...' not in help_of([]).partition('Commands:')[2]
    alone = medtut(env=dict(os.environ, COLUMNS='80', TERM='dumb'))
    assert alone.returncode == 2
    assert 'Commands:' in alone.stdout + alone.stderr

@pytest.mark.parametrize('command', get_command(app).commands)
def test_every_option_is_explained(command):
    for parameter in get_command(app).commands[command].params:
        text = parameter.help or ''
        assert text.strip().endswith('.'), parameter.name
    lines = help_of([command]).splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80

@pytest.mark.parametrize('args', [
    ['scan'], ['scan', '.', '--no-such-option'], ['no-such-command'], ['slices', '.'],
    ['get', 'siim_small', '--jobs', 'many']])
def test_wrong_usage(args, tmp_path):
    done = medtut(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert not done.stdout
    assert 'Usage: medtut' in done.stderr
    assert 'Traceback' not in done.stderr

def stopped(args, out, more):
    "Exit status and messages of a command that Ctrl-C reaches when `out` holds more than `more` files"
    # tests in the background of a shell inherit that Ctrl-C is ignored
    code = ('import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
            'from medtut.cli import main; main()')
    command = [sys.executable, '-c', code, *map(str, args)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           start_new_session=True)
    while run.poll() is None and len([*out.glob('[!.]*')]) <= more: time.sleep(.005)
    # as a terminal does, to all processes of the command
    os.killpg(run.pid, signal.SIGINT)
    _, messages = run.communicate()
    return run.returncode, messages.strip()

@pytest.mark.skipif(os.name != 'posix', reason='sends a signal to a group of processes')
@pytest.mark.parametrize('jobs', [1, 2])
def test_stopped_by_hand(tmp_path, jobs):
    "One line says what is done and how to go on, and going on does the rest"
    (tmp_path/'in').mkdir()
    source = Path(pydicom.data.get_testdata_file('CT_small.dcm', download=False))
    shutil.copy(source, tmp_path/'in'/'0.dcm')
    for i in range(1, 200): os.link(tmp_path/'in'/'0.dcm', tmp_path/'in'/f'{i}.dcm')
    out = tmp_path/'out'
    call = ['png', tmp_path/'in', out, '--jobs', jobs, '--quiet', '--csv', tmp_path/'t.csv']
    status, messages = stopped(call, out, 10)
    assert status == 130
    told = re.fullmatch(r'medtut: stopped: (\d+) of 200 files are in (.*)', messages)
    assert told and told[2] == f'{out}; the same command goes on from there'
    assert 10 <= int(told[1]) < 200
    done = medtut(*call)
    assert done.returncode == 0
    table = pd.read_csv(tmp_path/'t.csv')
    assert len(table) == 200 and table.status.isin(['written', 'there already']).all()

@pytest.mark.skipif(os.name != 'posix', reason='sends a signal to a group of processes')
def test_stopped_after_a_key_was_drawn(tmp_path):
    "A key is never replaced, so that the same command would be refused: another one goes on"
    (tmp_path/'in').mkdir()
    source = Path(pydicom.data.get_testdata_file('CT_small.dcm', download=False))
    shutil.copy(source, tmp_path/'in'/'0.dcm')
    for i in range(1, 80): os.link(tmp_path/'in'/'0.dcm', tmp_path/'in'/f'{i}.dcm')
    out, key = tmp_path/'out', tmp_path/'key'
    call = ['deidentify', tmp_path/'in', out, '--jobs', 1, '--quiet']
    status, messages = stopped([*call, '--new-key', key], out, 5)
    assert status == 130
    pattern = r'medtut: stopped: (\d+) of 80 files are in (.*); go on with (.*)'
    told = re.fullmatch(pattern, messages)
    assert told, messages
    assert told[2] == str(out)
    assert told[3] == f'--key-file {key}, not --new-key'
    assert 5 < int(told[1]) < 80
    assert medtut(*call, '--key-file', key).returncode == 0
    table = pd.read_csv(tmp_path/'out.csv')
    assert len(table) == 80 and table.status.isin(['written', 'there already']).all()

@pytest.mark.parametrize('work, call', [
    ('dicom.scan', ['scan', '.']), ('evaluate.pair_files', ['evaluate', '.', '.', '-l', '1=a'])])
def test_stopped_before_anything_was_done(tmp_path, work, call):
    module, _, function = work.partition('.')
    code = f"""
from medtut import {module}
def stop(*args, **kwargs): raise KeyboardInterrupt
{module}.{function} = stop
from medtut.cli import main
main()"""
    done = subprocess.run([sys.executable, '-c', code, *call], text=True, capture_output=True,
                          cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr.strip() == 'medtut: stopped; nothing was written: call it again'

def test_an_unknown_set_is_told(tmp_path):
    done = medtut('get', 'no_such_set', '--root', tmp_path)
    assert done.returncode == 1
    assert not done.stdout
    assert 'no_such_set' in done.stderr
    assert 'siim_small' in done.stderr

def test_results_and_progress_go_apart(tmp_path):
    "What a script reads is the folder alone, even while someone watches the bar"
    done = medtut('get', 'msd_brain', '--cases', 1, '--root', tmp_path, '-j', 1)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.rstrip('\n')).is_dir()
    assert done.stdout.count('\n') == 1
    assert '%|' in done.stderr

def test_table_on_standard_output_is_a_table(breast):
    done = medtut('scan', breast, '--no-pixels')
    table = pd.read_csv(io.StringIO(done.stdout))
    assert done.returncode == 0
    assert len(table)
    assert f'{len(table)} files' in done.stderr

def test_a_table_on_standard_output_is_utf8_in_any_locale(tmp_path):
    "A description in a script that Latin-1 has no letter of (PS3.3 C.12.1.1.2: UTF-8)"
    ds = pydicom.dcmread(pydicom.data.get_testdata_file('CT_small.dcm', download=False))
    ds.SpecificCharacterSet, ds.SeriesDescription = 'ISO_IR 192', '胸部'
    (tmp_path/'in').mkdir()
    ds.save_as(tmp_path/'in'/'a.dcm')
    command = [sys.executable, '-c', 'from medtut.cli import main; main()', 'series', 'in', '-q']
    latin = os.environ | dict(PYTHONIOENCODING='latin-1')
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=latin)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(io.BytesIO(done.stdout)).description.tolist() == ['胸部']
