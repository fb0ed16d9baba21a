"kill -9 at random moments, then the same call again: the result is that of an undisturbed run. Five kills each; `make fuzz` does more"
import hashlib, multiprocessing, os, random, shutil, signal, sys, time
from pathlib import Path

import cloudpickle, pytest, torch

sys.path.insert(0, str(Path(__file__).parent))
from damage import FUZZ, SEED
from faulty_server import FaultyServer
from medtut.datasets import get_data, read_note
from medtut.files import atomic_write
from medtut.folders import deidentify_files, nifti_files, png_files
from medtut.planes import read_images
from medtut.predict import predict_cases, series_cases
from medtut.unet import UNet3D
from medtut.phantoms.breast import write_duke_breast
from medtut.slices import export_slices, label_slices, read_boxes, read_mapping
from test_folders import bundled, slices as write_series
from test_datasets import MSD, SIIM, msd_at, siim_at

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='forks, which only Linux does well')
KILLS = 5 if FUZZ == 1 else 20

def hashes(folder, hidden=False):
    "SHA-256 of each file below, without locks; without hidden files unless asked for"
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(folder).rglob('*')) if p.is_file()
            and not p.name.endswith('.lock') and (hidden or not any(part.startswith('.') for part in p.relative_to(folder).parts))}

# Not a fork of pytest itself: it has threads, and locks that a killed child would hold for ever
forks = multiprocessing.get_context('forkserver')
forks.set_forkserver_preload(['test_crash'])

def run(pickled):
    sys.stdout = open(os.devnull, 'w')  # licences
    cloudpickle.loads(pickled)()

def started(f):
    "`f` in a process of its own, which has all that is imported here and so begins at once"
    process = forks.Process(target=run, args=(cloudpickle.dumps(f),))
    process.start()
    return process

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
    rng = random.Random(f'{name} {SEED}')
    return [rng.uniform(0, whole) for _ in range(KILLS)]

@pytest.fixture(scope='session')
def breast(tmp_path_factory):
    root = tmp_path_factory.mktemp('duke')/'set'
    write_duke_breast(root, patients=3, matrix=64, slices=24, n_jobs=1, progress=False)
    return root, label_slices(read_mapping(next(root.glob('Breast*.csv'))), read_boxes(root/'Annotation_Boxes.csv'))

def test_export_killed(breast, tmp_path):
    root, table = breast
    def export(out): return export_slices(table, root, out, progress=False)
    whole = took(lambda: export(tmp_path/'whole'))
    wanted, at_work = hashes(tmp_path/'whole', hidden=True), 0
    for i, seconds in enumerate(moments('export', whole)):
        out = tmp_path/f'out{i}'
        at_work += killed(lambda: export(out), seconds)
        there = hashes(out) if out.exists() else {}
        assert there.items() <= wanted.items(), 'what has a name is whole'
        again = export(out)
        assert hashes(out, hidden=True) == wanted
        assert set(again.png[again.status == 'there already']) == set(there)
    assert at_work, 'no kill came in time'

def slow(server):
    "Answers a little slowly, so that there is time to be killed in"
    server.always = ('slow', 4_000_000)
    return server

@pytest.mark.parametrize('name', ['siim_small', 'msd_brain'])
def test_download_killed(tmp_path, name, capsys):
    "One archive that is unpacked, or two cases picked out of a tar: killed while fetching, checking, unpacking, renaming"
    body, path, at, selection = (SIIM, '/siim_small.tgz', siim_at, {}) if name == 'siim_small' else (MSD, '/t.tar', msd_at, dict(cases=2))
    with slow(FaultyServer({path: body})) as server:
        registry = at(server.url)
        def fetch(root): return get_data(name, 'real', root=root, registry=registry, progress=False, **selection)
        whole = took(lambda: fetch(tmp_path/'whole'))
        made = next(p for p in (tmp_path/'whole'/'real').iterdir() if p.is_dir())
        wanted, at_work = hashes(made, hidden=True), 0
        for i, seconds in enumerate(moments(name, whole)):
            root = tmp_path/f'root{i}'
            at_work += killed(lambda: fetch(root), seconds)
            done = root/'real'/made.name
            if read_note(done): assert hashes(done, hidden=True) == wanted, 'what counts as finished is whole'
            assert hashes(fetch(root), hidden=True) == wanted
            assert not [p for p in (root/'real').rglob('*.part')]
            shutil.rmtree(root)
    assert at_work, 'no kill came in time'

@pytest.mark.parametrize('name, arguments', [('siim_small', dict(n=2, size=128)), ('duke_breast', dict(n=2, matrix=32, slices=12)), ('msd_brain', dict(n=1, n_test=1, spacing=6.))])
def test_sample_making_killed(tmp_path, name, arguments):
    def make(root): return get_data(name, 'sample', root=root, n_jobs=1, progress=False, **arguments)
    make(tmp_path/'warm')  # what is loaded once would be a good part of the time
    whole = took(lambda: make(tmp_path/'whole'))
    made = next(p for p in (tmp_path/'whole'/'sample').iterdir() if p.is_dir())
    wanted, at_work = hashes(made, hidden=True), 0
    for i, seconds in enumerate(moments(name, whole)):
        root = tmp_path/f'root{i}'
        at_work += killed(lambda: make(root), seconds)
        done = root/'sample'/made.name
        if done.exists(): assert hashes(done, hidden=True) == wanted, 'a set has its name when it is whole'
        assert hashes(make(root), hidden=True) == wanted
        assert [p.name for p in (root/'sample').iterdir() if p.is_dir()] == [made.name], 'nothing is left beside it'
        shutil.rmtree(root)
    assert at_work, 'no kill came in time'

def test_file_killed_while_written(tmp_path):
    "A slow writer over an old file: the old content or the new, never a mixture"
    path, new = tmp_path/'table.csv', 'new\n'*50_000
    def write():
        with atomic_write(path, 'w') as f:
            for i in range(50):
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
    for i in range(3): write_series(folder/f'series{i}', 40, Rows=6)
    for name in ('MR_small.dcm', 'examples_ybr_color.dcm', 'reportsi.dcm', 'JPEG2000.dcm'): shutil.copy(bundled/name, folder)
    (folder/'damaged.dcm').write_bytes((folder/'MR_small.dcm').read_bytes()[:5000])
    return folder

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', ['png', 'deidentify', 'convert', 'predict'])
def test_work_on_a_folder_killed(mixed, tmp_path, name):
    "The same files as an undisturbed run, the list of what they were made from included; what has a name is whole at any time"
    if name == 'predict':
        torch.manual_seed(0)
        model = UNet3D(1, 3, filters=2, depth=2)
        uids = [i.uid for i in read_images([mixed/f'series{i}'/'0.dcm' for i in range(3)], progress=False)]
        scans = series_cases(mixed, uids, progress=False)
    def work(out):
        if name == 'predict': return predict_cases(model, scans, out, (16, 16, 16), progress=False)
        if name == 'png': return png_files(mixed, out, progress=False)
        if name == 'convert': return nifti_files(mixed, out, progress=False)
        return deidentify_files(mixed, out, b'known to everybody', progress=False)
    whole = took(lambda: work(tmp_path/'whole'))
    wanted, at_work = hashes(tmp_path/'whole', hidden=True), 0
    assert len(wanted) > 4, 'results, and the list of them'
    for i, seconds in enumerate(moments(name, whole)[:3 if FUZZ == 1 else None]):
        out = tmp_path/f'out{i}'
        at_work += killed(lambda: work(out), seconds)
        there = hashes(out) if out.exists() else {}
        assert there.items() <= wanted.items(), 'what has a name is whole'
        again = work(out)
        assert hashes(out, hidden=True) == wanted
        assert {Path(p).relative_to(out).as_posix() for p in again.out[again.status == 'there already']} == set(there)
    assert at_work, 'no kill came in time'
