"Every way to a real set against a server that misbehaves; samples: same bytes, made once, never half"
import errno
import gzip
import hashlib
import inspect
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fetch_siim
import nibabel as nib
import numpy as np
import openpyxl
import pandas as pd
import pydicom
import pytest
from faulty_server import FaultyServer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

import medtut.download
from medtut.archives import BOXES, DECATHLON, IMAGES, MAPPING, SETS, Remote, find_set
from medtut.datasets import data_root, datasets, get_data, read_note
from medtut.download import DataError, HTTPFile, tar_members, unpack
from medtut.hosts import PRE_DESCRIPTIONS, _is_whole, pre_series

MIB = 2**20
fetch = partial(medtut.download.fetch, progress=False)
get_real = partial(get_data, source='real', progress=False)
get_sample = partial(get_data, source='sample', progress=False)


def noise(n, seed=0):
    return np.random.default_rng(seed).bytes(n)
def md5(data):
    return 'md5:' + hashlib.md5(data).hexdigest()
def sha256(data): return hashlib.sha256(data).hexdigest()
def refused(message, kind=DataError):
    return pytest.raises(kind, match=message)
def half(folder): return list(folder.rglob('*.part'))
def finished(root):
    return sorted(path.name for path in (root/'real').glob('[!.]*'))
def folders(path):
    return [p.name for p in path.iterdir() if p.is_dir()]

def hashes(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()) for path in files}

def tar_of(members, mode='w'):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()

def environment(*folders):
    "Where another process finds medtut, the tests and what lies in `folders`"
    path = [*folders, Path(medtut.__file__).parents[1], *sys.path]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, path)))

@pytest.fixture
def quick(monkeypatch):
    "No waiting between attempts"
    monkeypatch.setattr(medtut.download.time, 'sleep', lambda seconds: None)


# ---------------------------------------------------------------- one file

def test_whole_file_and_redirect(tmp_path):
    body = noise(MIB)
    with FaultyServer({'/a': body}, redirects={'/old': '/a'}) as s:
        path = fetch(f'{s.url}/old', tmp_path/'a', checksum=md5(body))
    assert path.read_bytes() == body
    assert not half(tmp_path)

def test_server_error_then_success(tmp_path, quick):
    body = noise(1000)
    with FaultyServer({'/a': body}, faults=[500, 503, 429]) as s:
        path = fetch(f'{s.url}/a', tmp_path/'a')
    assert path.read_bytes() == body
    assert [status for *_, status in s.log] == [500, 503, 429, 200]

def test_truncated_body_goes_on_where_it_stopped(tmp_path, quick):
    body = noise(MIB)
    with FaultyServer({'/a': body}, faults=[('cut', 400_000)]) as s:
        path = fetch(f'{s.url}/a', tmp_path/'a', checksum=md5(body))
    assert path.read_bytes() == body
    first, second = s.sent
    start = int(second.removeprefix('bytes=').removesuffix('-'))
    assert first is None
    assert 300_000 < start <= 400_000

def test_server_that_ignores_range(tmp_path, quick):
    body = noise(MIB)
    with FaultyServer({'/a': body}, faults=[('cut', 400_000), 'norange']) as s:
        assert fetch(f'{s.url}/a', tmp_path/'a').read_bytes() == body
    with FaultyServer({'/a': body}, always='norange') as s:
        with refused('parts of a file'):
            fetch(f'{s.url}/a', tmp_path/'b', 10, 20)
        with refused('parts of a file'):
            HTTPFile(f'{s.url}/a')
    assert not (tmp_path/'b').exists()

@pytest.mark.parametrize('left', [1000, 2000], ids=['complete', 'too long'])
def test_part_that_was_complete_or_too_long(tmp_path, quick, left):
    body = noise(1000)
    (tmp_path/'a.part').write_bytes((body*2)[:left])
    with FaultyServer({'/a': body}) as s:
        assert fetch(f'{s.url}/a', tmp_path/'a').read_bytes() == body
    _, _, status = s.log[0]
    assert status == 416

@pytest.mark.parametrize('fault, message', [
    (404, 'answered 404'), (403, 'answered 403'), (500, 'no answer after 5 attempts')])
def test_what_does_not_pass(tmp_path, quick, fault, message):
    with FaultyServer({'/a': b'x'}, always=fault) as s:
        with refused(message):
            fetch(f'{s.url}/a', tmp_path/'a')
    assert not list(tmp_path.iterdir())

def test_nobody_there(tmp_path, quick):
    with refused('Check the network'):
        fetch('http://127.0.0.1:9/a', tmp_path/'a')

def test_wrong_checksum_and_wrong_size(tmp_path):
    body = b'some bytes'
    wrong = [dict(checksum='md5:0'), dict(checksum='md5-1MiB:0'), dict(checksum='sha256:0'),
        dict(size=11)]
    with FaultyServer({'/a': body}) as s:
        for expected in wrong:
            with pytest.raises(DataError):
                fetch(f'{s.url}/a', tmp_path/'a', **expected)
            assert not list(tmp_path.iterdir()), 'a bad file must not be resumed by the next call'
        head = md5(body).replace('md5', 'md5-1MiB')
        fetch(f'{s.url}/a', tmp_path/'a', size=10, checksum=head)

def test_truncated_reads_of_a_remote_file(quick):
    body = noise(MIB)
    with FaultyServer({'/a': body}, faults=[None, ('cut', 10), 500]) as s:
        f = HTTPFile(f'{s.url}/a')
        f.seek(1000)
        assert f.read(5000) == body[1000:6000]
        assert f.tell() == 6000
        f.seek(0, io.SEEK_END)
        assert f.read(10) == b''


# ---------------------------------------------------------------- archives

@pytest.mark.parametrize('name', ['../../escaped.txt', '/escaped.txt', 'a/../../escaped.txt'])
def test_tar_that_reaches_outside(tmp_path, name):
    (tmp_path/'t.tar').write_bytes(tar_of({'fine.txt': b'1', name: b'2'}))
    # an absolute path is made relative, as PEP 706 says
    try: unpack(tmp_path/'t.tar', tmp_path/'deep/folder')
    except DataError as e: assert 'not unpacked' in str(e)
    for outside in tmp_path, tmp_path/'deep', Path('/'):
        assert not list(outside.glob('escaped*'))

def test_damaged_archives(tmp_path):
    whole = tar_of({'a': noise(100_000)}, 'w:gz')
    cut = whole[:-5000]
    overwritten = whole[:5000] + b'!'*100 + whole[5100:]
    for bad in cut, b'<html>not found</html>', overwritten:
        (tmp_path/'t.tgz').write_bytes(bad)
        with refused('is damaged'):
            unpack(tmp_path/'t.tgz', tmp_path/'out')

def test_remote_listing_of_something_else(quick):
    with FaultyServer({'/a.tar': b'<html>' + bytes(2000)}) as s:
        with refused('not a readable tar'):
            tar_members(f'{s.url}/a.tar', progress=False)


# ---------------------------------------------------------------- siim_small

FILM = 'train/No Pneumothorax/000000.dcm'
SIIM = tar_of({
    'siim_small/labels.csv': f'file,label\n{FILM},No Pneumothorax\n'.encode(),
    'siim_small/._labels.csv': b'finder',
    f'siim_small/{FILM}': noise(3*MIB)}, 'w:gz')

def siim_at(url, body=SIIM, **changes):
    "The registry of a mirror that holds `body`"
    head = md5(body[:MIB]).replace('md5', 'md5-1MiB')
    files = {'siim_small.tgz': Remote(f'{url}/siim_small.tgz', len(body), head)}
    return {'siim_small': replace(SETS['siim_small'], files=files, **changes)}

def get_siim(root, url, body=SIIM, **kwargs):
    return get_real('siim_small', root=root, registry=siim_at(url, body), **kwargs)

def test_siim_small(tmp_path, capsys):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        first = get_siim(tmp_path, s.url)
        second = get_siim(tmp_path, s.url)
    assert first == second == tmp_path/'real/siim_small'
    assert len(s.log) == 1, 'fetched once'
    said = capsys.readouterr().out
    assert said.count('Licence:') == 1
    assert 'doi:10.1007/s10278-019-00299-9' in said
    assert {path.name for path in first.iterdir()} == {'labels.csv', 'train', '.medtut.json'}
    assert read_note(first)['fetched']['siim_small.tgz']['sha256'] == sha256(SIIM)
    assert datasets(tmp_path).loc['siim_small', 'real'].startswith('real')
    assert folders(tmp_path/'real') == ['siim_small'], 'nothing left over'

@pytest.mark.parametrize('fault, message', [(404, 'answered 404'), (500, 'no answer')])
def test_siim_small_that_can_not_be_had(tmp_path, quick, fault, message):
    with FaultyServer({'/siim_small.tgz': SIIM}, always=fault) as s:
        with refused(message):
            get_siim(tmp_path, s.url)
    assert finished(tmp_path) == [], 'no set'
    assert not (tmp_path/'sample').exists(), 'and never a sample instead'

def test_archive_that_lacks_a_file(tmp_path):
    labels = b'file,label\ntrain/x/000000.dcm,x\n'
    body = tar_of({'siim_small/labels.csv': labels}, 'w:gz')
    with FaultyServer({'/siim_small.tgz': body}) as s:
        with refused('lacks 1 of its files: train/x/000000.dcm'):
            get_siim(tmp_path, s.url, body)
    assert finished(tmp_path) == []

def test_evil_archive(tmp_path):
    members = {'siim_small/labels.csv': b'file,label\n', '../../../evil.txt': b'!'}
    body = tar_of(members, 'w:gz')
    with FaultyServer({'/siim_small.tgz': body}) as s:
        with refused('not unpacked'):
            get_siim(tmp_path, s.url, body)
    assert finished(tmp_path) == []
    assert not list(tmp_path.rglob('evil.txt'))

@pytest.fixture(scope='module')
def processes():
    "Starts processes that have imported what they need"
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['fetch_siim'])
    with pytest.MonkeyPatch.context() as m:
        m.setenv('PYTHONPATH', environment()['PYTHONPATH'])
        forkserver.ensure_running()
    return context

def test_ten_kills_in_a_row(tmp_path, processes):
    "SIGKILL at ten moments of a slow download: never a set, and the next one goes on from there"
    remote = siim_at('')['siim_small'].files['siim_small.tgz']
    part = tmp_path/'real/.siim_small.work/siim_small.tgz.part'
    sizes = []
    with FaultyServer({'/siim_small.tgz': SIIM}, always=('slow', 800_000)) as s:
        remote = remote._replace(url=f'{s.url}/siim_small.tgz')
        for i in range(10):
            answered = len(s.log)
            child = processes.Process(target=fetch_siim.fetch, args=(remote, tmp_path))
            child.start()
            while len(s.log) == answered and child.is_alive():
                time.sleep(.02)
            time.sleep(.05 + .02*i)
            child.kill()
            child.join()
            assert finished(tmp_path) == []
            assert read_note(tmp_path/'real/siim_small') == {}
            with pytest.raises(DataError):
                get_data('siim_small', 'local', root=tmp_path/'real')
            sizes.append(part.stat().st_size if part.exists() else 0)
        assert sizes == sorted(sizes) and sizes[-1] > sizes[0], 'what had arrived was kept'
        s.always = None
        child = processes.Process(target=fetch_siim.fetch, args=(remote, tmp_path))
        child.start()
        child.join()
        assert child.exitcode == 0
        _, asked, _ = s.log[-1]
        assert asked == f'bytes={sizes[-1]}-'
    assert finished(tmp_path) == ['siim_small']
    assert find_set(SETS['siim_small'], tmp_path/'real/siim_small')

def test_killed_while_unpacking(tmp_path):
    "A work folder with half an unpacked set is unpacked again, not taken for whole"
    nobody = 'http://127.0.0.1:9'
    work = tmp_path/'real/.siim_small.work'
    (work/'unpacked/siim_small').mkdir(parents=True)
    (work/'unpacked/siim_small/labels.csv').write_text('file,label\n')
    (work/'siim_small.tgz').write_bytes(SIIM)
    path = get_siim(tmp_path, nobody)
    assert len(pd.read_csv(path/'labels.csv')) == 1
    # and killed after the set was whole, before its work folder was gone
    (work/'unpacked').mkdir(parents=True)
    assert get_siim(tmp_path, nobody) == path
    assert not work.exists()

class FullDisk(io.FileIO):
    def write(self, data):
        if self.tell() + len(data) > MIB:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return super().write(data)

def open_on_full_disk(path, mode='r', *args, **kwargs):
    if str(path).endswith('.part'):
        return FullDisk(path, mode)
    return open(path, mode, *args, **kwargs)

def test_disk_that_is_full(tmp_path, monkeypatch):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        with monkeypatch.context() as m:
            m.setattr(medtut.download, 'open', open_on_full_disk, raising=False)
            with refused('is full. Free some space'):
                get_siim(tmp_path, s.url)
        assert finished(tmp_path) == []
        get_siim(tmp_path, s.url)
    assert s.sent[-1].startswith('bytes='), 'with room again, it goes on'
    assert finished(tmp_path) == ['siim_small']

def test_no_room_is_said_before_the_first_byte(tmp_path):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        greedy = siim_at(s.url, need=1e9)
        with refused('needs about'):
            get_real('siim_small', root=tmp_path, registry=greedy)
    assert s.log == []


# ---------------------------------------------------------------- msd_brain

def packed(n, seed):
    return gzip.compress(noise(n, seed), mtime=0)

def msd_tar(n=6, size=200_000, top='Task01_BrainTumour', name='BRATS'):
    "A tar as the Decathlon has it, and the image and label of its cases"
    cases = {f'{name}_{i:03d}': (packed(size, i), packed(900, 99 + i)) for i in range(1, n + 1)}
    pairs = [dict(image=f'./imagesTr/{case}.nii.gz', label=f'./labelsTr/{case}.nii.gz')
        for case in cases]
    about = dict(name=name, numTraining=n, numTest=1, test=[f'./imagesTs/{name}_485.nii.gz'],
        training=pairs)
    members = {}
    for case in reversed(cases):
        members[f'imagesTr/._{case}.nii.gz'] = b'finder'*30
        members[f'imagesTr/{case}.nii.gz'] = cases[case][0]
    members['._dataset.json'] = b'finder'
    members['dataset.json'] = json.dumps(about).encode()
    for case in reversed(cases):
        members[f'labelsTr/._{case}.nii.gz'] = b'finder'*30
        members[f'labelsTr/{case}.nii.gz'] = cases[case][1]
    members[f'imagesTs/{name}_485.nii.gz'] = packed(size, 485)
    return tar_of({f'{top}/{member}': data for member, data in members.items()}), cases

MSD, CASES = msd_tar()

def msd_at(url, body=MSD):
    files = {'Task01_BrainTumour.tar': Remote(f'{url}/t.tar', None, md5(body))}
    return {'msd_brain': replace(SETS['msd_brain'], need=.01, files=files)}

def get_msd(root, url, **kwargs):
    return get_real('msd_brain', root=root, registry=msd_at(url), **kwargs)

def test_msd_whole(tmp_path):
    with FaultyServer({'/t.tar': MSD}) as s:
        path = get_msd(tmp_path, s.url)
    assert path.name == 'msd_brain'
    assert not list(path.rglob('._*'))
    assert len(list(path.glob('imagesTr/*.nii.gz'))) == 6
    assert len(list(path.glob('imagesTs/*'))) == 1

def test_msd_whole_with_the_wrong_checksum(tmp_path):
    with FaultyServer({'/t.tar': MSD + bytes(1024)}) as s:
        with refused('md5 is'):
            get_msd(tmp_path, s.url)
    assert finished(tmp_path) == []

def length(asked):
    "Bytes that a Range header asks for"
    first, last = asked.removeprefix('bytes=').split('-')
    return int(last) - int(first) + 1

def test_msd_two_cases_cost_two_cases(tmp_path, quick):
    with FaultyServer({'/t.tar': MSD}, faults=[None]*5 + [500, ('cut', 100)]) as s:
        path = get_msd(tmp_path, s.url, cases=['BRATS_005', 'BRATS_002'])
        for case in 'BRATS_002', 'BRATS_005':
            image, label = CASES[case]
            assert (path/f'imagesTr/{case}.nii.gz').read_bytes() == image
            assert (path/f'labelsTr/{case}.nii.gz').read_bytes() == label
        about = json.loads((path/'dataset.json').read_text())
        images = [pair['image'] for pair in about['training']]
        assert images == ['./imagesTr/BRATS_002.nii.gz', './imagesTr/BRATS_005.nii.gz']
        assert about['numTraining'] == 2
        asked = sum(map(length, s.sent))
        most = 2*len(CASES['BRATS_002'][0]) + .25*len(MSD)
        assert asked < most, f'{asked:,} of {len(MSD):,} bytes'
        assert not list(path.rglob('._*'))
        assert not half(path)
        before = len(s.log)
        more = get_msd(tmp_path, s.url, cases=3)
        assert more != path
        linked = more/'imagesTr/BRATS_002.nii.gz'
        assert linked.stat().st_nlink == 2, 'linked from the first selection'
        # neither the list of files nor case 2 again
        assert len(s.log) - before == 5, 'dataset.json and two pairs'
    assert find_set(SETS['msd_brain'], more) == more

HIPPOCAMPI, SMALL_CASES = msd_tar(6, 20_000, 'Task04_Hippocampus', 'hippocampus')

def get_hippocampi(root, url, body=HIPPOCAMPI, **kwargs):
    files = {'Task04_Hippocampus.tar': Remote(f'{url}/t.tar', None, md5(body))}
    registry = {'msd_hippocampus': replace(SETS['msd_hippocampus'], files=files)}
    return get_real('msd_hippocampus', root=root, registry=registry, **kwargs)

def test_hippocampi_whole_through_a_poor_line(tmp_path, quick, capsys):
    "An error of the server, and an answer that is cut off: fetched on, checked and unpacked"
    with FaultyServer({'/t.tar': HIPPOCAMPI}, faults=[503, ('cut', 50_000)]) as s:
        path = get_hippocampi(tmp_path, s.url)
        assert path == get_hippocampi(tmp_path, s.url)
        assert len(s.log) == 3
    assert not list(path.rglob('._*'))
    assert not half(path)
    for case, (image, label) in SMALL_CASES.items():
        assert (path/f'imagesTr/{case}.nii.gz').read_bytes() == image
        assert (path/f'labelsTr/{case}.nii.gz').read_bytes() == label
    said = capsys.readouterr().out
    assert 'CC BY-SA 4.0' in said
    assert 'arXiv:1902.09063' in said

def test_hippocampi_with_the_wrong_checksum(tmp_path):
    with FaultyServer({'/t.tar': HIPPOCAMPI + bytes(1024)}) as s:
        with refused('md5 is'):
            get_hippocampi(tmp_path, s.url)
    assert finished(tmp_path) == []

def test_two_hippocampi(tmp_path):
    with FaultyServer({'/t.tar': HIPPOCAMPI}) as s:
        path = get_hippocampi(tmp_path, s.url, cases=['hippocampus_002', 'hippocampus_005'])
        with refused('of this set cases=... takes a part', ValueError):
            get_hippocampi(tmp_path, s.url, patients=2)
    names = sorted(file.name for file in path.glob('*Tr/*.nii.gz'))
    assert names == ['hippocampus_002.nii.gz']*2 + ['hippocampus_005.nii.gz']*2

def test_msd_case_that_is_damaged_at_its_source(tmp_path):
    at = MSD.index(CASES['BRATS_001'][0]) + 100_000
    bad = MSD[:at] + b'!'*50 + MSD[at + 50:]
    with FaultyServer({'/t.tar': bad}) as s:
        with refused('BRATS_001.nii.gz is damaged'):
            get_msd(tmp_path, s.url, cases=1)
        assert finished(tmp_path) == []
        s.files['/t.tar'] = MSD
        get_msd(tmp_path, s.url, cases=1)

def test_msd_unknown_case(tmp_path):
    with FaultyServer({'/t.tar': MSD}) as s:
        with refused('BRATS_001 to BRATS_006', ValueError):
            get_msd(tmp_path, s.url, cases=['BRATS_777'])
    assert finished(tmp_path) == []


# ---------------------------------------------------------------- duke_breast, brats2020: stand-ins for the two clients

def dicom(path, number, series):
    "Write the header of an MR image; its bytes"
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = f'{series}.{number}'
    ds.SeriesInstanceUID = series
    ds.InstanceNumber = number
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path.stat().st_size

class StandInIDC:
    "idc_index.IDCClient, as far as medtut uses it; `drop` loses that many files of each call"
    drop, calls, slices = 0, 0, 12

    def __init__(self):
        rows = []
        for i in 1, 2, 3:
            patient, study = f'Breast_MRI_{i:03d}', f'1.2.{i}'
            rows.append((patient, 'ax t1', study, f'{study}.0'))
            rows.append((patient, PRE_DESCRIPTIONS[i], study, f'{study}.1'))
        columns = ['PatientID', 'SeriesDescription', 'StudyInstanceUID', 'SeriesInstanceUID']
        self.index = pd.DataFrame(rows, columns=columns).assign(
            collection_id='duke_breast_cancer_mri', Modality='MR', instanceCount=self.slices)
        sizes = [self.write(Path(self.scratch)/'s', series)
            for series in self.index.SeriesInstanceUID]
        self.index['series_size_MB'] = np.round(np.array(sizes)/1e6, 2) # as IDC's index does

    def write(self, folder, series):
        "A series under the names that the archive gives; its bytes"
        names = {n: hashlib.md5(f'{series}{n}'.encode()).hexdigest()
            for n in range(1, self.slices + 1)}
        return sum(dicom(folder/f'{name}.dcm', n, series) for n, name in names.items())

    def download_from_selection(self, downloadDir, seriesInstanceUID=None,
            show_progress_bar=True, use_s5cmd_sync=False, dirTemplate=''):
        type(self).calls += 1
        wanted = self.index[self.index.SeriesInstanceUID.isin(seriesInstanceUID)]
        for series in wanted.itertuples():
            place = dirTemplate
            for key in 'PatientID', 'StudyInstanceUID', 'SeriesInstanceUID':
                place = place.replace('%' + key, getattr(series, key))
            folder = Path(downloadDir)/place
            self.write(folder, series.SeriesInstanceUID)
            for path in sorted(folder.glob('*'))[:self.drop]:
                path.unlink()

@pytest.fixture
def idc(monkeypatch, tmp_path_factory):
    scratch = tmp_path_factory.mktemp('idc')
    client = type('Client', (StandInIDC,), dict(scratch=scratch, drop=0, calls=0))
    monkeypatch.setitem(sys.modules, 'idc_index', SimpleNamespace(IDCClient=client))
    return client

def get_duke(root, url, **kwargs):
    files = {f'{name}.xlsx': Remote(f'{url}/{name}.xlsx?api=v2') for name in (BOXES, MAPPING)}
    registry = {'duke_breast': replace(SETS['duke_breast'], need=.01, files=files)}
    return get_real('duke_breast', root=root, registry=registry, **kwargs)

def workbook(seed):
    "A spreadsheet, as far as its container goes"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as z: z.writestr('xl/workbook.xml', noise(3000, seed))
    return packed.getvalue()

TABLES = {f'/{BOXES}.xlsx': workbook(0), f'/{MAPPING}.xlsx': workbook(1)}

def test_duke(tmp_path, idc):
    with FaultyServer(TABLES) as s:
        path = get_duke(tmp_path, s.url, patients=range(1, 3))
        assert idc.calls == 1
        more = get_duke(tmp_path, s.url, patients=3)
    names = {p.name for p in path.iterdir()}
    assert names == {f'{BOXES}.xlsx', f'{MAPPING}.xlsx', IMAGES, '.medtut.json'}
    study = path/IMAGES/'Breast_MRI_001/1.2.1'
    assert not (study/'1.2.1.0').exists(), 'only series before contrast'
    images = sorted(p.name for p in (study/'1.2.1.1').iterdir())
    assert images == [f'1-{i:03d}.dcm' for i in range(1, 13)]
    seventh = pydicom.dcmread(path/IMAGES/'Breast_MRI_002/1.2.2/1.2.2.1/1-007.dcm')
    assert seventh.InstanceNumber == 7
    assert len(list((more/IMAGES).glob('Breast_MRI_*'))) == 3
    linked = more/IMAGES/'Breast_MRI_001/1.2.1/1.2.1.1/1-001.dcm'
    assert linked.stat().st_nlink == 2

def test_duke_web_page_for_a_table(tmp_path, idc):
    "A host that moved answers with a page and status 200; before, the set counted as whole"
    page = b'<!DOCTYPE html><html>moved</html>'
    with FaultyServer({path: page for path in TABLES}) as s:
        with refused('no spreadsheet came'):
            get_duke(tmp_path, s.url, patients=1)
    assert finished(tmp_path) == []
    with FaultyServer(TABLES) as s:
        get_duke(tmp_path, s.url, patients=1)
    assert finished(tmp_path) == ['duke_breast-1patients']

def test_duke_series_that_arrives_in_part(tmp_path, idc):
    idc.drop = 2
    with FaultyServer(TABLES) as s:
        with refused('1 of 1 series did not arrive whole, Breast_MRI_001'):
            get_duke(tmp_path, s.url, patients=1)
        assert finished(tmp_path) == []
        idc.drop = 0
        get_duke(tmp_path, s.url, patients=1)
    assert finished(tmp_path) == ['duke_breast-1patients']

NEEDS_REAL = r"pip install 'medtut\[real\]'"

def test_duke_without_tables_or_client(tmp_path, idc, monkeypatch):
    with FaultyServer({}) as s:
        with refused('answered 404'):
            get_duke(tmp_path, s.url, patients=1)
    monkeypatch.setitem(sys.modules, 'idc_index', None)
    with refused(NEEDS_REAL):
        get_duke(tmp_path, s.url, patients=1)
    assert finished(tmp_path) == []

def test_patients_in_a_text_are_refused(tmp_path):
    "Digit by digit they would be patients 1 and 2"
    with pytest.raises(ValueError, match="patients='12': give a number"):
        get_data('duke_breast', 'real', root=tmp_path, patients='12')

@pytest.mark.parametrize('size', [1_004_900, 1_005_100, 1_009_000])
def test_whole_series_by_the_rounded_size_of_the_index(size, tmp_path):
    "idc-index-data: ROUND(SUM(instance_size)/1000000, 2) AS series_size_MB"
    series = SimpleNamespace(
        PatientID='p', StudyInstanceUID='1', SeriesInstanceUID='2', instanceCount=1,
        series_size_MB=round(size/1e6, 2))
    path = tmp_path/'p/1/2/a.dcm'
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    assert _is_whole(series, tmp_path)
    path.write_bytes(bytes(size - 20_000))
    assert not _is_whole(series, tmp_path)

def test_the_real_idc_client(monkeypatch):
    """What the stand-in takes, the installed client takes;
    and its index holds the series that the lesson counts on"""
    # a million rows of other collections are left on the disk
    ours = partial(pd.read_parquet, filters=[('collection_id', '==', 'duke_breast_cancer_mri')])
    monkeypatch.setattr(pd, 'read_parquet', ours)
    idc_index = pytest.importorskip('idc_index',
        reason='idc-index is an extra: pip install medtut[real]')
    theirs = inspect.signature(idc_index.IDCClient.download_from_selection).parameters
    standins = inspect.signature(StandInIDC.download_from_selection).parameters
    assert set(standins) <= set(theirs)
    series = pre_series(idc_index.IDCClient().index, range(1, 101))
    assert len(series) == 101
    assert round(series.series_size_MB.sum()/1e3, 2) == 8.07
    assert series.instanceCount.sum() == 17_290

def brats(folder, n=2):
    "Folders of `n` patients, the last of them with the mask that has another name"
    for i in range(1, n + 1):
        case = folder/f'BraTS20_Training_{i:03d}'
        case.mkdir(parents=True)
        for kind in 'flair', 't1', 't1ce', 't2', 'seg':
            (case/f'{case.name}_{kind}.nii').write_bytes(b'nii')
    (case/f'{case.name}_seg.nii').rename(case/'W39_1998.09.19_Segm.nii')
    for table in 'name_mapping.csv', 'survival_info.csv':
        (folder/table).write_text('Grade\nHGG\n')
    return folder

TINY_BRATS = {'brats2020': replace(SETS['brats2020'], need=.01)}
get_brats = partial(get_real, 'brats2020', registry=TINY_BRATS)

def test_brats2020(tmp_path, monkeypatch):
    cache = tmp_path/'kaggle'
    top = brats(cache/'BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData')
    validation = 'BraTS2020_ValidationData/MICCAI_BraTS2020_ValidationData'
    (cache/validation).mkdir(parents=True)
    asked = []
    def dataset_download(handle):
        asked.append(handle)
        return str(cache)
    client = SimpleNamespace(dataset_download=dataset_download)
    monkeypatch.setitem(sys.modules, 'kagglehub', client)
    first = get_brats(root=tmp_path)
    path = get_brats(root=tmp_path)
    assert asked == ['awsaf49/brats20-dataset-training-validation'], 'once'
    assert first == path == tmp_path/'real/brats2020'
    assert (path/'BraTS20_Training_002/W39_1998.09.19_Segm.nii').is_file()
    assert top.is_dir(), "Kaggle's own copy stays"

class UnauthenticatedError(Exception): pass

def test_brats2020_without_an_account_or_client(tmp_path, monkeypatch):
    def dataset_download(handle): raise UnauthenticatedError('User is not authenticated')
    client = SimpleNamespace(dataset_download=dataset_download)
    for module, message in (client, 'kagglehub.login'), (None, NEEDS_REAL):
        monkeypatch.setitem(sys.modules, 'kagglehub', module)
        with refused(message): get_brats(root=tmp_path)
    assert finished(tmp_path) == []

def test_the_real_kaggle_client():
    kagglehub = pytest.importorskip('kagglehub',
        reason='kagglehub is an extra: pip install medtut[real]')
    first, *_ = inspect.signature(kagglehub.dataset_download).parameters
    assert first == 'handle'


# ---------------------------------------------------------------- local copies

def test_local_names_what_is_missing(tmp_path):
    archive = tmp_path/'archive'
    top = brats(archive/'BraTS2020_TrainingData/MICCAI')
    assert get_data('brats2020', 'local', root=archive) == top
    lost = 'BraTS20_Training_001/BraTS20_Training_001_t1ce.nii'
    (top/lost).unlink()
    with refused(f'lacks 1 of its files: {lost}'):
        get_data('brats2020', 'local', root=top)
    with refused('Annotation_Boxes'):
        get_data('duke_breast', 'local', root=tmp_path)
    (tmp_path/'msd').mkdir()
    (tmp_path/'msd/dataset.json').write_text('{"training": [')
    with refused("tables can't be read"):
        get_data('msd_brain', 'local', root=tmp_path/'msd')
    brats(archive/'copy')
    with refused('holds 2 sets'):
        get_data('brats2020', 'local', root=archive)

def test_local_needs_a_folder():
    with refused('root=folder', ValueError):
        get_data('siim_small', 'local')


# ---------------------------------------------------------------- samples

WRITER = '''
VERSION = 1
import numpy as np, pandas as pd
from joblib import Parallel, delayed
from pathlib import Path
def member(folder, seed, i):
    name = f'train/No Pneumothorax/{i:06d}.dcm'
    (Path(folder)/name).write_bytes(np.random.default_rng([seed, i]).bytes(1000))
    return name
def write_fake(folder, seed=0, n=8, n_jobs=None, progress=True, tube_p=(.2, .2)):
    (Path(folder)/'train/No Pneumothorax').mkdir(parents=True)
    names = Parallel(n_jobs)(delayed(member)(folder, seed, i) for i in range(n))
    table = pd.DataFrame(dict(file=names, label='No Pneumothorax'))
    table.to_csv(Path(folder)/'labels.csv', index=False)
'''
FAKE = 'medtut_fake_phantom'
FAKE_WRITER = f'{FAKE}:write_fake'

@pytest.fixture
def fake(monkeypatch):
    module = ModuleType(FAKE)
    exec(WRITER, module.__dict__)
    monkeypatch.setitem(sys.modules, FAKE, module)
    ds = replace(SETS['siim_small'], writer=FAKE_WRITER)
    return SimpleNamespace(module=module, registry={'siim_small': ds})

def test_sample_is_made_once_and_again_for_a_new_version(tmp_path, fake):
    get = partial(get_sample, 'siim_small', root=tmp_path, registry=fake.registry, n_jobs=1)
    first = get()
    def stamp(): return (first/'labels.csv').stat().st_mtime_ns
    written = stamp()
    assert get() == get(n=8, seed=0, tube_p=(.2, .2)) == first
    assert stamp() == written
    others = {get(seed=1), get(n=3), get(tube_p=(0., 1.))}
    assert len(others | {first}) == 4
    fake.module.VERSION = 2
    assert get() == first
    assert stamp() != written
    assert read_note(first)['version'] == 2
    with refused('tube', ValueError):
        get(tube=1)

def test_members_by_any_name(tmp_path, fake):
    """n, cases and patients say the same of a sample, also to a writer that has patients
    where others have n"""
    numbers = []
    def write_fake(folder, seed=0, patients=40, n_jobs=None, progress=True):
        numbers.append(patients)
        for table in BOXES, MAPPING:
            (folder/f'{table}.csv').touch()
        dicom(folder/IMAGES/'Breast_MRI_001/1.2/1.2.3/1-001.dcm', 1, '1.2.3')
    fake.module.write_fake = write_fake
    registry = {'duke_breast': replace(SETS['duke_breast'], writer=FAKE_WRITER)}
    get = partial(get_sample, 'duke_breast', root=tmp_path, registry=registry)
    paths = {get(n=3), get(patients=3), get(patients=range(1, 4))}
    assert numbers == [3]
    assert paths == {tmp_path/'sample/duke_breast-patients3'}
    with refused('say how many', ValueError):
        get(patients=[5, 7])

def test_sample_that_fails_leaves_nothing(tmp_path, fake, monkeypatch):
    get = partial(get_sample, 'siim_small', root=tmp_path, registry=fake.registry, n_jobs=1)
    whole = fake.module.member
    def broken(folder, seed, i):
        if i == 5: raise RuntimeError('no')
        return whole(folder, seed, i)
    with monkeypatch.context() as m:
        m.setattr(fake.module, 'member', broken)
        with pytest.raises(RuntimeError): get()
    assert folders(tmp_path/'sample') == []
    get()

def test_options_of_a_sample_do_not_touch_a_real_set(tmp_path, fake, capsys):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        registry = siim_at(s.url, writer=FAKE_WRITER)
        path = get_real('siim_small', root=tmp_path, registry=registry, n=3)
    assert path.name == 'siim_small'
    assert 'n: shape samples only' in capsys.readouterr().out

SMALL = dict(
    siim_small=dict(n=6, size=64),
    duke_breast=dict(n=3, matrix=48, slices=24),
    brats2020=dict(n=2, spacing=6.),
    msd_brain=dict(n=2, n_test=1, spacing=6.),
    msd_hippocampus=dict(n=4))

@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    "The five sets, small, made in this process by one job"
    root = tmp_path_factory.mktemp('samples')
    return {name: get_sample(name, root=root, n_jobs=1, **small) for name, small in SMALL.items()}

MAKE = '''
import json, sys
from medtut.datasets import get_data
root, small = sys.argv[1], json.loads(sys.argv[2])
for name, arguments in small.items():
    print(get_data(name, 'sample', root=root, n_jobs=2, progress=False, **arguments))
'''

@pytest.fixture(scope='module')
def samples_elsewhere(tmp_path_factory):
    "The same, made in another process by two jobs"
    command = [sys.executable, '-c', MAKE, tmp_path_factory.mktemp('elsewhere'), json.dumps(SMALL)]
    env = environment() | dict(PYTHONHASHSEED='1') # here it is random, or another
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return dict(zip(SMALL, map(Path, done.stdout.splitlines())))

@pytest.mark.parametrize('name', SETS)
def test_same_bytes_in_two_processes(samples, samples_elsewhere, name):
    "Another process, another number of jobs: the same SHA-256 of every file"
    here, elsewhere = samples[name], samples_elsewhere[name]
    assert here != elsewhere
    assert len(hashes(here)) > 5
    assert hashes(here) == hashes(elsewhere)
    assert find_set(SETS[name], elsewhere) == elsewhere

# Quality Control Subject, PS3.3 C.7.1.1, and Quality Control Image, PS3.3 C.7.6.1
QUALITY_CONTROL = (0x0010, 0x0200), (0x0028, 0x0300)
DESCRIPTIONS = ('PatientID', 'PatientName', 'StudyDescription', 'SeriesDescription',
    'ImageComments')

def check_dicom(path):
    ds = pydicom.dcmread(path)
    for tag in QUALITY_CONTROL:
        assert ds[tag].value == 'YES'
    for keyword in DESCRIPTIONS:
        value = str(ds[keyword].value)
        assert value.startswith('PHANTOM'), (path, keyword)
        assert len(value) <= 64

def check_nifti(path):
    header = nib.load(path).header
    assert b'PHANTOM' in header['descrip'].item()
    assert header['intent_name'].item() == b'PHANTOM'

@pytest.mark.parametrize('name', SETS)
def test_nothing_in_a_sample_passes_for_a_patient(samples, name):
    "Every image says in its own header that it shows a phantom, every set beside its tables"
    folder = samples[name]
    dicom_files = list(folder.rglob('*.dcm'))
    nifti_files = [*folder.rglob('*.nii'), *folder.rglob('*.nii.gz')]
    for path in dicom_files: check_dicom(path)
    for path in nifti_files: check_nifti(path)
    assert len(dicom_files) + len(nifti_files) >= 5
    assert 'NO PATIENT' in (folder/'README.txt').read_text()
    assert 'phantom' in read_note(folder)['what']
    if name in DECATHLON:
        about = json.loads((folder/'dataset.json').read_text())
        assert 'phantom' in about['description']

def test_marked_files_join_with_the_tables_as_before(samples):
    """By path and by SOP instance UID, as in the real set;
    what identifies series and patient stands in the marked elements"""
    folder = samples['duke_breast']
    boxes = pd.read_csv(folder/f'{BOXES}.csv')
    mapping = pd.read_csv(folder/f'{MAPPING}.csv').set_index('sop_instance_uid')
    images = [pydicom.dcmread(path) for path in sorted(folder.rglob('*.dcm'))]
    for ds in images:
        original = mapping.original_path_and_filename[ds.SOPInstanceUID]
        patient = original.split('/')[1]
        assert ds.PatientID == f'PHANTOM-{patient}'
        assert patient in set(boxes['Patient ID'])
        assert f'/{patient}/' in Path(ds.filename).as_posix()
        assert ds.SeriesDescription.removeprefix('PHANTOM ') in PRE_DESCRIPTIONS
    assert len({ds.PatientID for ds in images}) == 3
    siim = samples['siim_small']
    films = [path.relative_to(siim).as_posix() for path in siim.rglob('*.dcm')]
    assert sorted(pd.read_csv(siim/'labels.csv').file) == sorted(films)

def test_workbooks_are_marked(samples):
    for path in samples['duke_breast'].glob('*.xlsx'):
        properties = openpyxl.load_workbook(path).properties
        assert properties.title == 'PHANTOM'
        assert 'no patient' in properties.description

MAKE_FAKE = f'''
import sys
from dataclasses import replace
from medtut.archives import SETS
from medtut.datasets import get_data
registry = dict(siim_small=replace(SETS['siim_small'], writer='{FAKE_WRITER}'))
print(get_data('siim_small', 'sample', root=sys.argv[1], registry=registry,
    n_jobs=1, progress=False))
'''

def test_two_processes_make_one_sample(tmp_path, fake):
    "Both want it at the same time: one waits for the other, both get the whole set"
    (tmp_path/f'{FAKE}.py').write_text(WRITER)
    command = [sys.executable, '-c', MAKE_FAKE, str(tmp_path)]
    start = partial(subprocess.Popen, command, env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE)
    children = [start(), start()]
    said = [child.communicate()[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert said[0] == said[1]
    assert folders(tmp_path/'sample') == ['siim_small']

def test_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv('MEDTUT_DATA', str(tmp_path/'env'))
    assert data_root() == tmp_path/'env'
    assert data_root(tmp_path/'arg') == tmp_path/'arg'
    monkeypatch.delenv('MEDTUT_DATA')
    clone = Path(medtut.__file__).parents[1]
    if (clone/'nbs').is_dir(): assert data_root() == clone/'data'
    else: assert 'medtut' in str(data_root())
