"""kill -9 at random moments, then the same call again: the result is that of an undisturbed run

Two kills each, one in the first half of the run and one in the second. `make fuzz` does 20 of each,
and MEDTUT_KILLS=10 so many."""
import hashlib
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from damage import FUZZ, SEED
from faulty_server import FaultyServer
from forks import server
from test_datasets import MSD, SIIM, msd_at, siim_at
from test_folders import bundled, slices as write_series

from medtut.cli import main
from medtut.datasets import get_data, read_note
from medtut.files import atomic_write
from medtut.phantoms.breast import write_duke_breast
from medtut.planes import read_images
from medtut.pngs import export_slices
from medtut.slices import label_slices, read_boxes, read_mapping
from medtut.unet import UNet3D, save_unet
from medtut.volumes import save_nifti

pytestmark = pytest.mark.skipif(sys.platform != 'linux',
                                reason='forks, which only Linux does well')
KILLS = int(os.environ.get('MEDTUT_KILLS', 2 if FUZZ == 1 else 20))
COMMANDS = ('scan', 'series', 'convert', 'png', 'deidentify', 'slices', 'get', 'predict',
            'evaluate')

def hashes(folder, hidden=False):
    "SHA-256 of each file below, without locks; without hidden files unless asked for"
    found = {}
    for path in sorted(Path(folder).rglob('*')):
        if not path.is_file() or path.name.endswith('.lock'):
            continue
        below = path.relative_to(folder)
        is_hidden = any(part.startswith('.') for part in below.parts)
        if is_hidden and not hidden: continue
        found[below.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found

def run(pickled):
    sys.stdout = open(os.devnull, 'w')  # licences
    cloudpickle.loads(pickled)()

def started(f):
    "`f` in a process of its own, which has all that is imported here and so begins at once"
    process = server().Process(target=run, args=(cloudpickle.dumps(f),))
    process.start()
    return process

def is_loaded():
    "Exit with 0 where the server has imported for this process what nothing else imports"
    sys.exit('preloaded' not in sys.modules)

def test_a_process_begins_with_all_in_memory():
    "A server passes over what it can't import, and each process would import anew"
    process = started(is_loaded)
    process.join()
    assert process.exitcode == 0

def took(f):
    "Seconds of an undisturbed run"
    started(int).join()  # the first one waits for the imports
    start, process = time.perf_counter(), started(f)
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - start

def killed(f, seconds):
    "Kill `f` after so many seconds; whether it was still at work"
    process = started(f)
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL

def moments(name, whole):
    "One in each of as many equal parts of a run as there are kills"
    rng = random.Random(f'{name} {SEED}')
    return [rng.uniform(i, i + 1)/KILLS*whole for i in range(KILLS)]

@pytest.fixture(scope='session')
def breast(tmp_path_factory):
    root = tmp_path_factory.mktemp('duke')/'set'
    write_duke_breast(root, patients=3, matrix=64, slices=24, n_jobs=1, progress=False)
    mapping = read_mapping(next(root.glob('Breast*.csv')))
    return root, label_slices(mapping, read_boxes(root/'Annotation_Boxes.csv'))

def test_export_killed(breast, tmp_path):
    root, table = breast
    def export(out):
        return export_slices(table, root, out, progress=False)
    whole = took(lambda: export(tmp_path/'whole'))
    wanted, at_work = hashes(tmp_path/'whole', hidden=True), 0
    for i, seconds in enumerate(moments('export', whole)):
        out = tmp_path/f'out{i}'
        at_work += killed(partial(export, out), seconds)
        existing = hashes(out) if out.exists() else {}
        written_at = {name: (out/name).stat().st_mtime_ns for name in existing}
        assert existing.items() <= wanted.items(), 'what has a name is whole'
        again = export(out)
        assert hashes(out, hidden=True) == wanted
        for name, time_ns in written_at.items():
            assert (out/name).stat().st_mtime_ns == time_ns, 'a file was written twice'
        assert set(again.png[again.status == 'there already']) == set(existing)
    assert at_work, 'no kill came in time'

def slow(server):
    "Answers a little slowly, so that there is time to be killed in"
    server.always = ('slow', 4_000_000)
    return server

@pytest.mark.parametrize('name', ['siim_small', 'msd_brain'])
def test_download_killed(tmp_path, name, capsys):
    """Killed while fetching, checking, unpacking, renaming

    One is an archive that is unpacked, the other two cases picked out of a tar."""
    if name == 'siim_small': body, path, at, selection = SIIM, '/siim_small.tgz', siim_at, {}
    else: body, path, at, selection = MSD, '/t.tar', msd_at, dict(cases=2)
    with slow(FaultyServer({path: body})) as server:
        registry = at(server.url)
        def fetch(root):
            return get_data(name, 'real', root=root, registry=registry, progress=False, **selection)
        whole = took(lambda: fetch(tmp_path/'whole'))
        folder = next(p for p in (tmp_path/'whole'/'real').iterdir() if p.is_dir())
        wanted, at_work = hashes(folder, hidden=True), 0
        for i, seconds in enumerate(moments(name, whole)):
            root = tmp_path/f'root{i}'
            at_work += killed(partial(fetch, root), seconds)
            done = root/'real'/folder.name
            if read_note(done):
                assert hashes(done, hidden=True) == wanted, 'what counts as finished is whole'
            assert hashes(fetch(root), hidden=True) == wanted
            assert not [p for p in (root/'real').rglob('*.part')]
            shutil.rmtree(root)
    assert at_work, 'no kill came in time'

@pytest.mark.parametrize('name, arguments', [
    ('siim_small', dict(n=2, size=128)), ('duke_breast', dict(n=2, matrix=32, slices=12)),
    ('msd_brain', dict(n=1, n_test=1, spacing=6.))])
def test_sample_making_killed(tmp_path, name, arguments):
    def make(root):
        return get_data(name, 'sample', root=root, n_jobs=1, progress=False, **arguments)
    make(tmp_path/'warm')  # what is loaded once would be a good part of the time
    whole = took(lambda: make(tmp_path/'whole'))
    folder = next(p for p in (tmp_path/'whole'/'sample').iterdir() if p.is_dir())
    wanted, at_work = hashes(folder, hidden=True), 0
    for i, seconds in enumerate(moments(name, whole)):
        root = tmp_path/f'root{i}'
        at_work += killed(partial(make, root), seconds)
        done = root/'sample'/folder.name
        if done.exists():
            assert hashes(done, hidden=True) == wanted, 'a set has its name when it is whole'
        assert hashes(make(root), hidden=True) == wanted
        folders = [p.name for p in (root/'sample').iterdir() if p.is_dir()]
        assert folders == [folder.name], 'nothing is left beside it'
        shutil.rmtree(root)
    assert at_work, 'no kill came in time'

def test_file_killed_while_written(tmp_path):
    "A slow writer over an old file: the old content or the new, never a mixture"
    path, new = tmp_path/'table.csv', 'new\n'*50_000
    def write():
        with atomic_write(path, 'w') as f:
            for _ in range(50):
                f.write('new\n'*1000)
                time.sleep(.001)
    path.write_text('old')
    whole, at_work = took(write), 0
    for seconds in moments('file', whole):
        path.write_text('old')
        at_work += killed(write, seconds)
        assert path.read_text() in ('old', new)
        write()
        assert path.read_text() == new
    assert at_work, 'no kill came in time'

@pytest.fixture(scope='session')
def mixed(tmp_path_factory):
    "Series, single images, a loop, a report and a damaged file"
    folder = tmp_path_factory.mktemp('mixed')
    for i in range(3):
        write_series(folder/f'series{i}', 16, Rows=6)
    for name in 'MR_small.dcm', 'examples_ybr_color.dcm', 'reportsi.dcm', 'JPEG2000.dcm':
        shutil.copy(bundled/name, folder)
    (folder/'damaged.dcm').write_bytes((folder/'MR_small.dcm').read_bytes()[:5000])
    return folder

def masks(folder):
    "Two folders of masks, eight of each: predictions and truths"
    rng, folders = np.random.default_rng(0), [folder/'predicted', folder/'true']
    for i in range(8):
        true = rng.integers(0, 3, (24, 24, 24), np.uint8)
        for where, mask in zip(folders, (np.roll(true, 1, 0), true)):
            where.mkdir(parents=True, exist_ok=True)
            save_nifti(mask, np.eye(4), where/f'case{i}.nii.gz')
    return folders

def command_lines(mixed, breast, folder):
    "The arguments of each command, which writes into `out`"
    key, weights = folder/'secret.key', folder/'w.safetensors'
    key.write_bytes(b'known to everybody')
    key.chmod(0o600)
    torch.manual_seed(0)
    card = dict(patch=(16, 16, 16), spacing=None, per='volume', inside=None, channels=['CT'])
    save_unet(UNet3D(1, 3, filters=2, depth=2), weights, data='', seed=0, scores={},
              labels={'1': 'one', '2': 'two'}, **card)
    series = read_images([mixed/f'series{i}'/'0.dcm' for i in range(3)], progress=False)
    uids = [part for image in series for part in ('--uid', image.uid)]
    results, table = '{out}/results', ['--csv', '{out}/table.csv']
    return dict(
        scan=['scan', mixed, '--key-file', key, *table],
        series=['series', mixed, *table],
        convert=['convert', mixed, results, *table],
        png=['png', mixed, results, *table],
        deidentify=['deidentify', mixed, results, '--key-file', key, *table],
        slices=['slices', breast[0], results, *table],
        get=['get', 'msd_brain', '--cases', 1, '--root', results],
        evaluate=['evaluate', *masks(folder/'masks'), '--labels', '1=one,2=two', *table],
        predict=['predict', mixed, '-w', weights, '-o', results, '--device', 'cpu', *uids])

def medtut(args, out):
    "`medtut ...` in this process; one file is damaged, so exit status 1 is right"
    sys.argv = ['medtut', *[str(a).format(out=out) for a in args], '-q', '-j', '1']
    try: main()
    except SystemExit as e: assert e.code in (None, 0, 1)

def table_of(out):
    "What was told of each file, without what differs from run to run; `None` if nothing was"
    path = out/'table.csv'
    if not path.exists(): return None
    return path.read_text().replace(str(out), '').replace('there already', 'written')

def reported_as_present(out):
    "The results that the table calls 'there already'; `None` where a table has no such word"
    table = pd.read_csv(out/'table.csv') if (out/'table.csv').exists() else pd.DataFrame()
    if 'status' not in table: return None
    names = table.get('out', table.get('png'))[table.status == 'there already']
    # of a run that is resumed, `out` is named as it was called, and `png` below the folder
    return {Path(n).name for n in names}

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('command', COMMANDS)
def test_command_killed(mixed, breast, tmp_path, command):
    """The same files as an undisturbed run, the list of what they were made from included

    What has a name is whole at any time."""
    args = command_lines(mixed, breast, tmp_path)[command]
    def work(out): return partial(medtut, args, out)
    def prepared(name):
        (tmp_path/name).mkdir()
        return tmp_path/name
    whole = prepared('whole')
    seconds_of_a_run = took(work(whole))
    wanted, at_work = hashes(whole/'results', hidden=True), 0
    assert len(wanted) > 4 or table_of(whole), 'results, and the list of them'
    for i, seconds in enumerate(moments(command, seconds_of_a_run)):
        out = prepared(f'out{i}')
        at_work += killed(work(out), seconds)
        existing = hashes(out/'results')
        assert existing.items() <= wanted.items(), 'what has a name is whole'
        assert table_of(out) in (None, table_of(whole)), 'a table is written in one step'
        took(work(out))
        assert hashes(out/'results', hidden=True) == wanted
        assert table_of(out) == table_of(whole)
        present = reported_as_present(out)
        assert present is None or present == {Path(n).name for n in existing}
        shutil.rmtree(out)
    print(f'\n{command}: {at_work} of {KILLS} kills hit a run of {seconds_of_a_run:.1f} s')
    assert at_work, 'no kill came in time'
