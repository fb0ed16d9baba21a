"Every way to a real set against a server on this machine that misbehaves; samples: same bytes, made once, never half"
import errno, gzip, hashlib, inspect, io, json, os, signal, subprocess, sys, tarfile, time
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel as nib, numpy as np, pandas as pd, pydicom, pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

sys.path.insert(0, str(Path(__file__).parent))
from faulty_server import FaultyServer
import medtut.download
from medtut.archives import BOXES, IMAGES, MAPPING, SETS, Remote, find_set
from medtut.datasets import data_root, datasets, get_data, read_note
from medtut.download import DataError, HTTPFile, fetch, tar_members, unpack
from medtut.hosts import PRE, pre_series

MIB = 2**20


def noise(n, seed=0): return np.random.default_rng(seed).bytes(n)
def md5(data): return 'md5:' + hashlib.md5(data).hexdigest()
def hashes(folder): return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob('*')) if p.is_file()}
def finished(root): return sorted(p.name for p in (root/'real').glob('[!.]*'))
def half(folder): return [p for p in folder.rglob('*.part')]


def tar_of(members, mode='w'):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def quick(monkeypatch):
    "No waiting between attempts"
    monkeypatch.setattr(medtut.download.time, 'sleep', lambda s: None)


# ---------------------------------------------------------------- one file

def test_whole_file_and_redirect(tmp_path):
    body = noise(MIB)
    with FaultyServer({'/a': body}, redirects={'/old': '/a'}) as s:
        assert fetch(f'{s.url}/old', tmp_path/'a', checksum=md5(body), progress=False).read_bytes() == body
    assert not half(tmp_path)

def test_server_error_then_success(tmp_path, quick):
    body = noise(1000)
    with FaultyServer({'/a': body}, faults=[500, 503, 429]) as s:
        assert fetch(f'{s.url}/a', tmp_path/'a', progress=False).read_bytes() == body
        assert [status for *_, status in s.log] == [500, 503, 429, 200]

def test_truncated_body_goes_on_where_it_stopped(tmp_path, quick):
    body = noise(MIB)
    with FaultyServer({'/a': body}, faults=[('cut', 400_000)]) as s:
        assert fetch(f'{s.url}/a', tmp_path/'a', checksum=md5(body), progress=False).read_bytes() == body
    assert s.sent[0] is None and 300_000 < int(s.sent[1][6:-1]) <= 400_000

def test_server_that_ignores_range(tmp_path, quick):
    body = noise(MIB)
    with FaultyServer({'/a': body}, faults=[('cut', 400_000), 'norange']) as s:
        assert fetch(f'{s.url}/a', tmp_path/'a', progress=False).read_bytes() == body
    with FaultyServer({'/a': body}, always='norange') as s:
        with pytest.raises(DataError, match='parts of a file'): fetch(f'{s.url}/a', tmp_path/'b', 10, 20, progress=False)
        with pytest.raises(DataError, match='parts of a file'): HTTPFile(f'{s.url}/a')
    assert not (tmp_path/'b').exists()

@pytest.mark.parametrize('left,status', [(1000, 416), (2000, 416)])
def test_part_that_was_complete_or_too_long(tmp_path, quick, left, status):
    body = noise(1000)
    (tmp_path/'a.part').write_bytes((body*2)[:left])
    with FaultyServer({'/a': body}) as s:
        assert fetch(f'{s.url}/a', tmp_path/'a', progress=False).read_bytes() == body
        assert s.log[0][2] == status

@pytest.mark.parametrize('fault,message', [(404, 'answered 404'), (403, 'answered 403'), (500, 'no answer after 5 attempts')])
def test_what_does_not_pass(tmp_path, quick, fault, message):
    with FaultyServer({'/a': b'x'}, always=fault) as s:
        with pytest.raises(DataError, match=message): fetch(f'{s.url}/a', tmp_path/'a', progress=False)
    assert not list(tmp_path.iterdir())

def test_nobody_there(tmp_path, quick):
    with pytest.raises(DataError, match='Check the network'): fetch('http://127.0.0.1:9/a', tmp_path/'a', progress=False)

def test_wrong_checksum_and_wrong_size(tmp_path):
    with FaultyServer({'/a': b'some bytes'}) as s:
        for wrong in (dict(checksum='md5:0'), dict(checksum='md5-1MiB:0'), dict(checksum='sha256:0'), dict(size=11)):
            with pytest.raises(DataError): fetch(f'{s.url}/a', tmp_path/'a', progress=False, **wrong)
            assert not list(tmp_path.iterdir()), 'a bad file must not be resumed by the next call'
        fetch(f'{s.url}/a', tmp_path/'a', size=10, checksum=md5(b'some bytes').replace('md5', 'md5-1MiB'), progress=False)

def test_truncated_reads_of_a_remote_file(quick):
    body = noise(MIB)
    with FaultyServer({'/a': body}, faults=[None, ('cut', 10), 500]) as s:
        f = HTTPFile(f'{s.url}/a')
        f.seek(1000)
        assert f.read(5000) == body[1000:6000] and f.tell() == 6000
        f.seek(0, 2)
        assert f.read(10) == b''


# ---------------------------------------------------------------- archives

@pytest.mark.parametrize('name', ['../../escaped.txt', '/escaped.txt', 'a/../../escaped.txt'])
def test_tar_that_reaches_outside(tmp_path, name):
    (tmp_path/'t.tar').write_bytes(tar_of({'fine.txt': b'1', name: b'2'}))
    target = tmp_path/'deep/folder'
    try: unpack(tmp_path/'t.tar', target)  # an absolute path is made relative, as PEP 706 says
    except DataError as e: assert 'not unpacked' in str(e)
    assert not list(tmp_path.glob('escaped*')) and not list((tmp_path/'deep').glob('escaped*')) and not Path('/escaped.txt').exists()

def test_damaged_archives(tmp_path):
    whole = tar_of({'a': noise(100_000)}, 'w:gz')
    for bad in (whole[:-5000], b'<html>not found</html>', whole[:5000] + b'!'*100 + whole[5100:]):
        (tmp_path/'t.tgz').write_bytes(bad)
        with pytest.raises(DataError, match='is damaged'): unpack(tmp_path/'t.tgz', tmp_path/'out')

def test_remote_listing_of_something_else(quick):
    with FaultyServer({'/a.tar': b'<html>' + bytes(2000)}) as s:
        with pytest.raises(DataError, match='not a readable tar'): tar_members(f'{s.url}/a.tar', progress=False)


# ---------------------------------------------------------------- siim_small

SIIM = tar_of({'siim_small/labels.csv': b'file,label\ntrain/No Pneumothorax/000000.dcm,No Pneumothorax\n', 'siim_small/._labels.csv': b'finder',
               'siim_small/train/No Pneumothorax/000000.dcm': noise(3*MIB)}, 'w:gz')

def siim_at(url, body=SIIM):
    head = 'md5-1MiB:' + hashlib.md5(body[:MIB]).hexdigest()
    return {'siim_small': replace(SETS['siim_small'], files={'siim_small.tgz': Remote(f'{url}/siim_small.tgz', len(body), head)})}

def test_siim_small(tmp_path, capsys):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        paths = [get_data('siim_small', 'real', root=tmp_path, registry=siim_at(s.url), progress=False) for _ in range(2)]
    assert paths == [tmp_path/'real/siim_small']*2 and len(s.log) == 1, 'fetched once'
    said = capsys.readouterr().out
    assert said.count('Licence:') == 1 and 'doi:10.1007/s10278-019-00299-9' in said
    assert {p.name for p in paths[0].iterdir()} == {'labels.csv', 'train', '.medtut.json'}
    assert read_note(paths[0])['fetched']['siim_small.tgz']['sha256'] == hashlib.sha256(SIIM).hexdigest()
    assert datasets(tmp_path).loc['siim_small', 'real'].startswith('real')
    assert [p.name for p in (tmp_path/'real').iterdir() if p.is_dir()] == ['siim_small'], 'nothing left over'

@pytest.mark.parametrize('fault,message', [(404, 'answered 404'), (500, 'no answer')])
def test_siim_small_that_can_not_be_had(tmp_path, quick, fault, message):
    with FaultyServer({'/siim_small.tgz': SIIM}, always=fault) as s:
        with pytest.raises(DataError, match=message): get_data('siim_small', 'real', root=tmp_path, registry=siim_at(s.url), progress=False)
    assert finished(tmp_path) == [] and not (tmp_path/'sample').exists(), 'no set, and never a sample instead'

def test_archive_that_lacks_a_file(tmp_path):
    body = tar_of({'siim_small/labels.csv': b'file,label\ntrain/x/000000.dcm,x\n'}, 'w:gz')
    with FaultyServer({'/siim_small.tgz': body}) as s:
        with pytest.raises(DataError, match='lacks 1 of its files: train/x/000000.dcm'):
            get_data('siim_small', 'real', root=tmp_path, registry=siim_at(s.url, body), progress=False)
    assert finished(tmp_path) == []

def test_evil_archive(tmp_path):
    body = tar_of({'siim_small/labels.csv': b'file,label\n', '../../../evil.txt': b'!'}, 'w:gz')
    with FaultyServer({'/siim_small.tgz': body}) as s:
        with pytest.raises(DataError, match='not unpacked'): get_data('siim_small', 'real', root=tmp_path, registry=siim_at(s.url, body), progress=False)
    assert finished(tmp_path) == [] and not list(tmp_path.rglob('evil.txt'))

FETCH = '''
import sys
from dataclasses import replace
from medtut.archives import SETS, Remote
from medtut.datasets import get_data
url, root, size, head = sys.argv[1:]
ds = replace(SETS['siim_small'], files={'siim_small.tgz': Remote(url, int(size), head)})
print(get_data('siim_small', 'real', root=root, registry={'siim_small': ds}, progress=False))
'''

def test_ten_kills_in_a_row(tmp_path):
    "SIGKILL at ten moments of a slow download: never a set, and the next one goes on from there"
    remote = siim_at('')['siim_small'].files['siim_small.tgz']
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, [Path(medtut.__file__).parents[1], *sys.path])))
    part, sizes = tmp_path/'real/.siim_small.work/siim_small.tgz.part', []
    with FaultyServer({'/siim_small.tgz': SIIM}, always=('slow', 800_000)) as s:
        args = [sys.executable, '-c', FETCH, f'{s.url}/siim_small.tgz', str(tmp_path), str(remote.size), remote.checksum]
        for i in range(10):
            before, child = len(s.log), subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL)
            while len(s.log) == before and child.poll() is None: time.sleep(.02)
            time.sleep(.05 + .02*i)
            child.send_signal(signal.SIGKILL); child.wait()
            assert finished(tmp_path) == [] and read_note(tmp_path/'real/siim_small') == {}
            with pytest.raises(DataError): get_data('siim_small', 'local', root=tmp_path/'real')
            sizes.append(part.stat().st_size if part.exists() else 0)
        assert sizes == sorted(sizes) and sizes[-1] > sizes[0], 'what had arrived was kept'
        s.always = None
        subprocess.run(args, env=env, check=True, stdout=subprocess.DEVNULL)
        assert s.log[-1][1] == f'bytes={sizes[-1]}-'
    assert finished(tmp_path) == ['siim_small'] and find_set(SETS['siim_small'], tmp_path/'real/siim_small')

def test_killed_while_unpacking(tmp_path):
    "A work folder with half an unpacked set is unpacked again, not taken for whole"
    work = tmp_path/'real/.siim_small.work'
    (work/'unpacked/siim_small').mkdir(parents=True)
    (work/'unpacked/siim_small/labels.csv').write_text('file,label\n')
    (work/'siim_small.tgz').write_bytes(SIIM)
    path = get_data('siim_small', 'real', root=tmp_path, registry=siim_at('http://127.0.0.1:9'), progress=False)
    assert len(pd.read_csv(path/'labels.csv')) == 1
    # and killed after the set was whole, before its work folder was gone
    (work/'unpacked').mkdir(parents=True)
    assert get_data('siim_small', 'real', root=tmp_path, registry=siim_at('http://127.0.0.1:9'), progress=False) == path and not work.exists()

def test_disk_that_is_full(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > MIB: raise OSError(errno.ENOSPC, 'No space left on device')
            return super().write(data)
    real_open = open
    def full_open(path, mode='r', *args, **kwargs): return Full(path, mode) if str(path).endswith('.part') else real_open(path, mode, *args, **kwargs)
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        with monkeypatch.context() as m:
            m.setattr(medtut.download, 'open', full_open, raising=False)
            with pytest.raises(DataError, match='is full. Free some space'): get_data('siim_small', 'real', root=tmp_path, registry=siim_at(s.url), progress=False)
        assert finished(tmp_path) == []
        get_data('siim_small', 'real', root=tmp_path, registry=siim_at(s.url), progress=False)
        assert s.sent[-1].startswith('bytes=') and finished(tmp_path) == ['siim_small'], 'with room again, it goes on'

def test_no_room_is_said_before_the_first_byte(tmp_path):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        greedy = {'siim_small': replace(siim_at(s.url)['siim_small'], need=1e9)}
        with pytest.raises(DataError, match='needs about'): get_data('siim_small', 'real', root=tmp_path, registry=greedy, progress=False)
    assert s.log == []


# ---------------------------------------------------------------- msd_brain

def msd_tar(n=6, size=200_000):
    case = {f'BRATS_{i:03d}': (gzip.compress(noise(size, i), mtime=0), gzip.compress(noise(900, 99 + i), mtime=0)) for i in range(1, n + 1)}
    about = dict(name='BRATS', numTraining=n, numTest=1, test=['./imagesTs/BRATS_485.nii.gz'],
                 training=[dict(image=f'./imagesTr/{c}.nii.gz', label=f'./labelsTr/{c}.nii.gz') for c in case])
    members = {}
    for kind, k in (('imagesTr', 0), ('labelsTr', 1)):
        for c in reversed(case):
            members[f'Task01_BrainTumour/{kind}/._{c}.nii.gz'] = b'finder'*30
            members[f'Task01_BrainTumour/{kind}/{c}.nii.gz'] = case[c][k]
        if k == 0: members |= {'Task01_BrainTumour/._dataset.json': b'finder', 'Task01_BrainTumour/dataset.json': json.dumps(about).encode()}
    members['Task01_BrainTumour/imagesTs/BRATS_485.nii.gz'] = gzip.compress(noise(size, 485), mtime=0)
    return tar_of(members), case

MSD, CASES = msd_tar()

def msd_at(url, body=MSD):
    return {'msd_brain': replace(SETS['msd_brain'], need=.01, files={'Task01_BrainTumour.tar': Remote(f'{url}/t.tar', None, md5(body))})}

def test_msd_whole(tmp_path):
    with FaultyServer({'/t.tar': MSD}) as s: path = get_data('msd_brain', 'real', root=tmp_path, registry=msd_at(s.url), progress=False)
    assert path.name == 'msd_brain' and not list(path.rglob('._*'))
    assert len(list(path.glob('imagesTr/*.nii.gz'))) == 6 and len(list(path.glob('imagesTs/*'))) == 1

def test_msd_whole_with_the_wrong_checksum(tmp_path):
    with FaultyServer({'/t.tar': MSD + bytes(1024)}) as s:
        with pytest.raises(DataError, match='md5 is'): get_data('msd_brain', 'real', root=tmp_path, registry=msd_at(s.url), progress=False)
    assert finished(tmp_path) == []

def test_msd_two_cases_cost_two_cases(tmp_path, quick):
    with FaultyServer({'/t.tar': MSD}, faults=[None]*5 + [500, ('cut', 100)]) as s:
        path = get_data('msd_brain', 'real', root=tmp_path, cases=['BRATS_005', 'BRATS_002'], registry=msd_at(s.url), progress=False)
        for c in ('BRATS_002', 'BRATS_005'):
            assert (path/f'imagesTr/{c}.nii.gz').read_bytes() == CASES[c][0] and (path/f'labelsTr/{c}.nii.gz').read_bytes() == CASES[c][1]
        about = json.loads((path/'dataset.json').read_text())
        assert [p['image'] for p in about['training']] == ['./imagesTr/BRATS_002.nii.gz', './imagesTr/BRATS_005.nii.gz'] and about['numTraining'] == 2
        asked = sum(int(b) - int(a) + 1 for a, b in (r[6:].split('-') for r in s.sent))
        assert asked < 2*len(CASES['BRATS_002'][0]) + .25*len(MSD), f'{asked:,} of {len(MSD):,} bytes'
        assert not list(path.rglob('._*')) and not half(path)
        before = len(s.log)
        more = get_data('msd_brain', 'real', root=tmp_path, cases=3, registry=msd_at(s.url), progress=False)
        assert more != path and (more/'imagesTr/BRATS_002.nii.gz').stat().st_nlink == 2, 'linked from the first selection'
        assert len(s.log) - before == 5, 'dataset.json and two pairs: neither the list of files nor case 2 again'
    assert find_set(SETS['msd_brain'], more) == more

def test_msd_case_that_is_damaged_at_its_source(tmp_path):
    at = MSD.index(CASES['BRATS_001'][0]) + 100_000
    bad = MSD[:at] + b'!'*50 + MSD[at + 50:]
    with FaultyServer({'/t.tar': bad}) as s:
        with pytest.raises(DataError, match='BRATS_001.nii.gz is damaged'): get_data('msd_brain', 'real', root=tmp_path, cases=1, registry=msd_at(s.url), progress=False)
        assert finished(tmp_path) == []
        s.files['/t.tar'] = MSD
        get_data('msd_brain', 'real', root=tmp_path, cases=1, registry=msd_at(s.url), progress=False)

def test_msd_unknown_case(tmp_path):
    with FaultyServer({'/t.tar': MSD}) as s:
        with pytest.raises(ValueError, match='BRATS_001 to BRATS_006'): get_data('msd_brain', 'real', root=tmp_path, cases=['BRATS_777'], registry=msd_at(s.url), progress=False)
    assert finished(tmp_path) == []


# ---------------------------------------------------------------- duke_breast, brats2020: stand-ins for the two clients

def dicom(path, number, series):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = MRImageStorage, f'{series}.{number}', series, number
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path.stat().st_size

class StandInIDC:
    "idc_index.IDCClient, as far as medtut uses it; `drop` loses that many files of each call"
    drop, calls, slices = 0, 0, 12
    def __init__(self):
        rows = [(f'Breast_MRI_{i:03d}', d, f'1.2.{i}', f'1.2.{i}.{k}') for i in (1, 2, 3) for k, d in enumerate(['ax t1', PRE[i]])]
        self.index = pd.DataFrame(rows, columns='PatientID SeriesDescription StudyInstanceUID SeriesInstanceUID'.split()).assign(
            collection_id='duke_breast_cancer_mri', Modality='MR', instanceCount=self.slices, series_size_MB=0.)
        size = dicom(Path(self.scratch)/'x.dcm', 1, '1.2.1.1')
        self.index['series_size_MB'] = [sum(self.write(Path(self.scratch)/'s', r) for r in [u])/1e6 for u in self.index.SeriesInstanceUID]
    def write(self, folder, series): return sum(dicom(folder/f'{hashlib.md5(f"{series}{n}".encode()).hexdigest()}.dcm', n, series) for n in range(1, self.slices + 1))
    def download_from_selection(self, downloadDir, seriesInstanceUID=None, show_progress_bar=True, use_s5cmd_sync=False, dirTemplate=''):
        type(self).calls += 1
        for s in self.index[self.index.SeriesInstanceUID.isin(seriesInstanceUID)].itertuples():
            place = dirTemplate
            for k in ('PatientID', 'StudyInstanceUID', 'SeriesInstanceUID'): place = place.replace('%' + k, getattr(s, k))
            self.write(Path(downloadDir)/place, s.SeriesInstanceUID)
            for p in sorted((Path(downloadDir)/place).glob('*'))[:self.drop]: p.unlink()

@pytest.fixture
def idc(monkeypatch, tmp_path_factory):
    client = type('Client', (StandInIDC,), dict(scratch=tmp_path_factory.mktemp('idc'), drop=0, calls=0))
    monkeypatch.setitem(sys.modules, 'idc_index', SimpleNamespace(IDCClient=client))
    return client

def duke_at(url): return {'duke_breast': replace(SETS['duke_breast'], need=.01, files={f'{t}.xlsx': Remote(f'{url}/{t}.xlsx?api=v2') for t in (BOXES, MAPPING)})}
TABLES = {f'/{t}.xlsx': noise(3000, i) for i, t in enumerate((BOXES, MAPPING))}

def test_duke(tmp_path, idc):
    with FaultyServer(TABLES) as s:
        path = get_data('duke_breast', 'real', root=tmp_path, patients=range(1, 3), registry=duke_at(s.url), progress=False)
        assert idc.calls == 1
        more = get_data('duke_breast', 'real', root=tmp_path, patients=3, registry=duke_at(s.url), progress=False)
    assert {p.name for p in path.iterdir()} == {f'{BOXES}.xlsx', f'{MAPPING}.xlsx', IMAGES, '.medtut.json'}
    assert sorted(p.name for p in (path/IMAGES/'Breast_MRI_001/1.2.1/1.2.1.1').iterdir()) == [f'1-{i:03d}.dcm' for i in range(1, 13)]
    assert not (path/IMAGES/'Breast_MRI_001/1.2.1/1.2.1.0').exists(), 'only series before contrast'
    assert pydicom.dcmread(path/IMAGES/'Breast_MRI_002/1.2.2/1.2.2.1/1-007.dcm').InstanceNumber == 7
    assert len(list((more/IMAGES).glob('Breast_MRI_*'))) == 3 and (more/IMAGES/'Breast_MRI_001/1.2.1/1.2.1.1/1-001.dcm').stat().st_nlink == 2

def test_duke_series_that_arrives_in_part(tmp_path, idc):
    idc.drop = 2
    with FaultyServer(TABLES) as s:
        with pytest.raises(DataError, match='1 of 1 series did not arrive whole, Breast_MRI_001'):
            get_data('duke_breast', 'real', root=tmp_path, patients=1, registry=duke_at(s.url), progress=False)
        assert finished(tmp_path) == []
        idc.drop = 0
        get_data('duke_breast', 'real', root=tmp_path, patients=1, registry=duke_at(s.url), progress=False)
    assert finished(tmp_path) == ['duke_breast-1patients']

def test_duke_without_tables_or_client(tmp_path, idc, monkeypatch):
    with FaultyServer({}) as s:
        with pytest.raises(DataError, match='answered 404'): get_data('duke_breast', 'real', root=tmp_path, patients=1, registry=duke_at(s.url), progress=False)
    monkeypatch.setitem(sys.modules, 'idc_index', None)
    with pytest.raises(DataError, match=r"pip install 'medtut\[real\]'"): get_data('duke_breast', 'real', root=tmp_path, patients=1, registry=duke_at(s.url), progress=False)
    assert finished(tmp_path) == []

def test_the_real_idc_client():
    "What the stand-in takes, the installed client takes; and its index holds the series that the lesson counts on"
    idc_index = pytest.importorskip('idc_index', reason='idc-index is an extra: pip install medtut[real]')
    theirs = inspect.signature(idc_index.IDCClient.download_from_selection).parameters
    assert set(inspect.signature(StandInIDC.download_from_selection).parameters) <= set(theirs)
    series = pre_series(idc_index.IDCClient().index, range(1, 101))
    assert len(series) == 101 and round(series.series_size_MB.sum()/1e3, 2) == 8.07 and series.instanceCount.sum() == 17_290

def brats(folder, n=2, odd=True):
    for i in range(1, n + 1):
        case = folder/f'BraTS20_Training_{i:03d}'
        case.mkdir(parents=True)
        for k in ('flair', 't1', 't1ce', 't2', 'seg'): (case/f'{case.name}_{k}.nii').write_bytes(b'nii')
    if odd: (case/f'{case.name}_seg.nii').rename(case/'W39_1998.09.19_Segm.nii')
    for t in ('name_mapping.csv', 'survival_info.csv'): (folder/t).write_text('Grade\nHGG\n')
    return folder

def test_brats2020(tmp_path, monkeypatch):
    cache = tmp_path/'kaggle'
    top = brats(cache/'BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData')
    (cache/'BraTS2020_ValidationData/MICCAI_BraTS2020_ValidationData').mkdir(parents=True)
    asked = []
    def dataset_download(handle): asked.append(handle); return str(cache)
    monkeypatch.setitem(sys.modules, 'kagglehub', SimpleNamespace(dataset_download=dataset_download))
    tiny = {'brats2020': replace(SETS['brats2020'], need=.01)}
    for _ in range(2): path = get_data('brats2020', 'real', root=tmp_path, registry=tiny, progress=False)
    assert asked == ['awsaf49/brats20-dataset-training-validation'] and path == tmp_path/'real/brats2020'
    assert (path/'BraTS20_Training_002/W39_1998.09.19_Segm.nii').is_file() and top.is_dir(), "Kaggle's own copy stays"

def test_brats2020_without_an_account_or_client(tmp_path, monkeypatch):
    class UnauthenticatedError(Exception): pass
    def dataset_download(handle): raise UnauthenticatedError('User is not authenticated')
    tiny = {'brats2020': replace(SETS['brats2020'], need=.01)}
    for module, message in ((SimpleNamespace(dataset_download=dataset_download), 'kagglehub.login'), (None, r"pip install 'medtut\[real\]'")):
        monkeypatch.setitem(sys.modules, 'kagglehub', module)
        with pytest.raises(DataError, match=message): get_data('brats2020', 'real', root=tmp_path, registry=tiny, progress=False)
    assert finished(tmp_path) == []

def test_the_real_kaggle_client():
    kagglehub = pytest.importorskip('kagglehub', reason='kagglehub is an extra: pip install medtut[real]')
    assert list(inspect.signature(kagglehub.dataset_download).parameters)[0] == 'handle'


# ---------------------------------------------------------------- local copies

def test_local_names_what_is_missing(tmp_path):
    top = brats(tmp_path/'archive/BraTS2020_TrainingData/MICCAI')
    assert get_data('brats2020', 'local', root=tmp_path/'archive') == top
    (top/'BraTS20_Training_001/BraTS20_Training_001_t1ce.nii').unlink()
    with pytest.raises(DataError, match='lacks 1 of its files: BraTS20_Training_001/BraTS20_Training_001_t1ce.nii'): get_data('brats2020', 'local', root=top)
    with pytest.raises(DataError, match='Annotation_Boxes'): get_data('duke_breast', 'local', root=tmp_path)
    (tmp_path/'msd').mkdir(); (tmp_path/'msd/dataset.json').write_text('{"training": [')
    with pytest.raises(DataError, match="tables can't be read"): get_data('msd_brain', 'local', root=tmp_path/'msd')
    brats(tmp_path/'archive/copy')
    with pytest.raises(DataError, match='holds 2 sets'): get_data('brats2020', 'local', root=tmp_path/'archive')

def test_local_needs_a_folder():
    with pytest.raises(ValueError, match='root=folder'): get_data('siim_small', 'local')


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
    pd.DataFrame(dict(file=names, label='No Pneumothorax')).to_csv(Path(folder)/'labels.csv', index=False)
'''

@pytest.fixture
def fake(monkeypatch):
    module = ModuleType('medtut_fake_phantom')
    exec(WRITER, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(module=module, registry={'siim_small': replace(SETS['siim_small'], writer='medtut_fake_phantom:write_fake')})

def test_sample_is_made_once_and_again_for_a_new_version(tmp_path, fake):
    def get(**kw): return get_data('siim_small', 'sample', root=tmp_path, registry=fake.registry, n_jobs=1, progress=False, **kw)
    first = get()
    stamp = (first/'labels.csv').stat().st_mtime_ns
    assert get() == first == get(n=8, seed=0, tube_p=(.2, .2)) and (first/'labels.csv').stat().st_mtime_ns == stamp
    other = {get(seed=1), get(n=3), get(tube_p=(0., 1.))}
    assert len(other | {first}) == 4
    fake.module.VERSION = 2
    assert get() == first and (first/'labels.csv').stat().st_mtime_ns != stamp and read_note(first)['version'] == 2
    with pytest.raises(ValueError, match="tube"): get(tube=1)

def test_members_by_any_name(tmp_path, fake):
    "n, cases and patients say the same of a sample, also to a writer that has patients where others have n"
    made = []
    def write_fake(folder, seed=0, patients=40, n_jobs=None, progress=True):
        made.append(patients)
        for t in (BOXES, MAPPING): (folder/f'{t}.csv').touch()
        dicom(folder/IMAGES/'Breast_MRI_001/1.2/1.2.3/1-001.dcm', 1, '1.2.3')
    fake.module.write_fake = write_fake
    registry = {'duke_breast': replace(SETS['duke_breast'], writer='medtut_fake_phantom:write_fake')}
    paths = {get_data('duke_breast', 'sample', root=tmp_path, registry=registry, **k) for k in (dict(n=3), dict(patients=3), dict(patients=range(1, 4)))}
    assert made == [3] and paths == {tmp_path/'sample/duke_breast-patients3'}
    with pytest.raises(ValueError, match='say how many'): get_data('duke_breast', 'sample', root=tmp_path, registry=registry, patients=[5, 7])

def test_sample_that_fails_leaves_nothing(tmp_path, fake, monkeypatch):
    def broken(folder, seed, i):
        if i == 5: raise RuntimeError('no')
        return fake.module.__dict__['whole'](folder, seed, i)
    monkeypatch.setitem(fake.module.__dict__, 'whole', fake.module.member)
    with monkeypatch.context() as m:
        m.setitem(fake.module.__dict__, 'member', broken)
        with pytest.raises(RuntimeError): get_data('siim_small', 'sample', root=tmp_path, registry=fake.registry, n_jobs=1)
    assert [p for p in (tmp_path/'sample').iterdir() if p.is_dir()] == []
    get_data('siim_small', 'sample', root=tmp_path, registry=fake.registry, n_jobs=1)

def test_options_of_a_sample_do_not_touch_a_real_set(tmp_path, fake, capsys):
    with FaultyServer({'/siim_small.tgz': SIIM}) as s:
        registry = {'siim_small': replace(siim_at(s.url)['siim_small'], writer='medtut_fake_phantom:write_fake')}
        path = get_data('siim_small', 'real', root=tmp_path, registry=registry, progress=False, n=3)
    assert path.name == 'siim_small' and 'n: shape samples only' in capsys.readouterr().out

MAKE = '''
import sys
from pathlib import Path
from medtut.datasets import get_data
from medtut.archives import SETS
name, root, n_jobs, n = sys.argv[1:]
get_data(name, 'sample', root=root, n=int(n), n_jobs=int(n_jobs), progress=False)
'''

@pytest.mark.parametrize('name,n', [('siim_small', 4), ('duke_breast', 2), ('brats2020', 2), ('msd_brain', 2)])
def test_same_bytes_in_two_processes(tmp_path, name, n):
    "Another process, another number of jobs: the same SHA-256 of every file"
    pytest.importorskip(SETS[name].writer.partition(':')[0])
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, [Path(medtut.__file__).parents[1], *sys.path])))
    for n_jobs in (1, 2): subprocess.run([sys.executable, '-c', MAKE, name, str(tmp_path/f'{n_jobs}'), str(n_jobs), str(n)], env=env, check=True)
    (one,), (two,) = (list((tmp_path/j/'sample').glob('[!.]*')) for j in '12')
    assert hashes(one) == hashes(two) and find_set(SETS[name], one) == one

SMALL = dict(siim_small=dict(n=6, size=64), duke_breast=dict(n=3, matrix=48, slices=24), brats2020=dict(n=2, spacing=6.), msd_brain=dict(n=2, n_test=1, spacing=6.))

@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp('samples')
    return {name: get_data(name, 'sample', root=root, n_jobs=1, progress=False, **small) for name, small in SMALL.items()}

@pytest.mark.parametrize('name', SETS)
def test_nothing_in_a_sample_passes_for_a_patient(samples, name):
    """Every image says in its own header that it shows a phantom, every set beside its tables.
    DICOM: Quality Control Subject (0010,0200) PS3.3 C.7.1.1 and Quality Control Image (0028,0300) PS3.3 C.7.6.1, both 'YES'"""
    seen = 0
    for path in samples[name].rglob('*'):
        if path.suffix == '.dcm':
            ds = pydicom.dcmread(path)
            assert ds[0x0010, 0x0200].value == ds[0x0028, 0x0300].value == 'YES'
            for keyword in 'PatientID', 'PatientName', 'StudyDescription', 'SeriesDescription', 'ImageComments':
                assert str(ds[keyword].value).startswith('PHANTOM'), (path, keyword)
                assert len(str(ds[keyword].value)) <= 64
        elif path.name.endswith(('.nii', '.nii.gz')):
            header = nib.load(path).header
            assert b'PHANTOM' in header['descrip'].item() and header['intent_name'].item() == b'PHANTOM'
        else: continue
        seen += 1
    assert seen >= 5
    assert 'NO PATIENT' in (samples[name]/'README.txt').read_text()
    assert 'phantom' in read_note(samples[name])['what']
    if name == 'msd_brain': assert 'phantom' in json.loads((samples[name]/'dataset.json').read_text())['description']

def test_marked_files_join_with_the_tables_as_before(samples):
    "By path and by SOP instance UID, as in the real set; what identifies series and patient stands in the marked elements"
    folder = samples['duke_breast']
    boxes, mapping = pd.read_csv(folder/f'{BOXES}.csv'), pd.read_csv(folder/f'{MAPPING}.csv').set_index('sop_instance_uid')
    found = [pydicom.dcmread(f) for f in sorted(folder.rglob('*.dcm'))]
    for ds in found:
        patient = mapping.original_path_and_filename[ds.SOPInstanceUID].split('/')[1]
        assert ds.PatientID == f'PHANTOM-{patient}' and patient in set(boxes['Patient ID']) and f'/{patient}/' in Path(ds.filename).as_posix()
        assert ds.SeriesDescription.removeprefix('PHANTOM ') in PRE
    assert len({ds.PatientID for ds in found}) == 3
    siim = samples['siim_small']
    assert sorted(pd.read_csv(siim/'labels.csv').file) == sorted(f.relative_to(siim).as_posix() for f in siim.rglob('*.dcm'))

def test_workbooks_are_marked(samples):
    openpyxl = pytest.importorskip('openpyxl')
    for path in samples['duke_breast'].glob('*.xlsx'):
        properties = openpyxl.load_workbook(path).properties
        assert properties.title == 'PHANTOM' and 'no patient' in properties.description

def test_two_processes_make_one_sample(tmp_path, fake):
    "Both want it at the same time: one waits for the other, both get the whole set"
    (tmp_path/'medtut_fake_phantom.py').write_text(WRITER)
    code = ("from dataclasses import replace; from medtut.archives import SETS; from medtut.datasets import get_data; import sys;"
            "print(get_data('siim_small', 'sample', root=sys.argv[1], progress=False, registry={'siim_small': replace(SETS['siim_small'], writer='medtut_fake_phantom:write_fake')}))")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, [tmp_path, Path(medtut.__file__).parents[1], *sys.path])))
    children = [subprocess.Popen([sys.executable, '-c', code, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [c.communicate()[0].strip() for c in children]
    assert [c.returncode for c in children] == [0, 0] and said[0] == said[1]
    assert [p.name for p in (tmp_path/'sample').glob('*') if p.is_dir()] == ['siim_small']

def test_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv('MEDTUT_DATA', str(tmp_path/'env'))
    assert data_root() == tmp_path/'env' and data_root(tmp_path/'arg') == tmp_path/'arg'
    monkeypatch.delenv('MEDTUT_DATA')
    clone = Path(medtut.__file__).parents[1]
    assert data_root() == clone/'data' if (clone/'nbs').is_dir() else 'medtut' in str(data_root())
