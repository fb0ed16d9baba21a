"Archives: found, fetched and stored, over both protocols, also where something goes wrong"
import errno
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from lessons import config, nbs
from nbdev.test import test_nb as run_notebook
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.sop_class import Verification

from medtut import cli_results, pacs_access, pacs_dimse, pacs_start, pacs_web
from medtut.files import half_path
from medtut.pacs import Access, ArchiveError, _missing, archive, fetch_series, find_series, store
from medtut.volumes import load_series

KINDS = ['stand-in', pytest.param('Orthanc', marks=pytest.mark.skipif(
    pacs_start._orthanc() is None,
    reason='Orthanc is not installed: apt-get install orthanc orthanc-dicomweb'))]
BOTH = ['web', 'dicom']

def write_series(folder, n, rows=16, patient='PHANTOM-7', orientation=(1, 0, 0, 0, 1, 0)):
    "A series of `n` slices of random numbers; its UID"
    folder.mkdir()
    ds = pydicom.dcmread(get_testdata_file('MR_small.dcm'))
    del ds[0xFFFCFFFC] # trailing padding, which means nothing and which Orthanc's C-GET leaves out
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientID, ds.PatientName, ds.SeriesDescription = patient, 'Phantom^Seven', 'PHANTOM t1'
    ds.ImageOrientationPatient, ds.Rows, ds.Columns = list(orientation), rows, rows
    normal = np.cross(*np.split(np.array(orientation, float), 2))
    rng = np.random.default_rng(n)
    for i in range(n):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.ImagePositionPatient, ds.InstanceNumber = [round(p, 4) for p in 3*i*normal], i + 1
        ds.PixelData = rng.integers(0, 1000, (rows, rows), np.int16).tobytes()
        ds.save_as(folder/f'{i:04d}.dcm')
    return ds.SeriesInstanceUID

def same_series(a, b):
    "Whether two folders hold data sets that are equal"
    def by_uid(folder):
        return {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.glob('*.dcm'))}
    return by_uid(a) == by_uid(b)

def quiet_store(address, paths, **options):
    return store(address, paths, progress=False, **options)

def quiet_fetch(address, uid, folder, **options):
    return fetch_series(address, uid, folder, progress=False, **options)

@pytest.fixture(scope='module', params=KINDS)
def here(request, tmp_path_factory):
    "An archive with one series"
    top = tmp_path_factory.mktemp('archive')
    port = pacs_start._free_ports(1)[0]
    with archive(request.param, peers=dict(MEDTUT=port)) as a:
        a.sent, a.port = top/'sent', port
        a.uid = write_series(a.sent, 5)
        assert set(quiet_store(a.web, a.sent).status) == {'stored'}
        yield a

# --- the way there and back

ORIENTATIONS = dict(axial=(1, 0, 0, 0, 1, 0), sagittal=(0, 1, 0, 0, 0, -1),
    oblique=(.9397, 0, -.342, .0594, .9848, .1632))

@pytest.mark.parametrize('protocol', BOTH)
@pytest.mark.parametrize('plane', ORIENTATIONS)
def test_there_and_back(here, tmp_path, plane, protocol):
    address = getattr(here, protocol)
    uid = write_series(tmp_path/'sent', 4, orientation=ORIENTATIONS[plane], patient=f'P-{plane}')
    assert quiet_store(address, tmp_path/'sent').status.tolist() == ['stored']*4
    for i, access in enumerate((None, Access(port=here.port) if protocol == 'dicom' else None)):
        back = quiet_fetch(address, uid, tmp_path/f'back{i}', access=access)
        assert same_series(tmp_path/'sent', back)
        volume, affine = load_series(back, progress=False)
        wanted, wanted_affine = load_series(tmp_path/'sent', progress=False)
        np.testing.assert_array_equal(volume, wanted)
        np.testing.assert_array_equal(affine, wanted_affine)

@pytest.mark.parametrize('protocol', BOTH)
def test_find(here, protocol):
    found = find_series(getattr(here, protocol), PatientID='PHANTOM-7')
    assert found.uid.tolist() == [here.uid]
    row = found.iloc[0]
    assert (row.images, row.modality, row.description) == (5, 'MR', 'PHANTOM t1')
    assert 'Phantom^Seven' not in found.to_string() and 'name' not in found
    named = find_series(getattr(here, protocol), names=True, PatientName='Phantom*')
    assert set(named.name) == {'Phantom^Seven'}
    assert find_series(getattr(here, protocol), PatientID='nobody').empty

def test_names_in_other_letters(here, tmp_path):
    "Are found over DIMSE as well (over the web Orthanc 1.10.1 does not decode them)"
    write_series(tmp_path/'greek', 1)
    path, = (tmp_path/'greek').iterdir()
    ds = pydicom.dcmread(path)
    ds.SpecificCharacterSet, ds.PatientName, ds.PatientID = 'ISO_IR 192', 'Ωμέγα^Άλφα', 'GREEK'
    ds.save_as(path)
    quiet_store(here.web, path)
    found = find_series(here.dicom, names=True, PatientName='Ωμέγα*')
    assert found.name.tolist() == ['Ωμέγα^Άλφα']

@pytest.mark.skipif(not hasattr(socket, 'TCP_QUICKACK'), reason="a switch of Linux's")
def test_answers_are_acknowledged_at_once(here):
    """Else an archive that sends an answer in two parts, as Orthanc does, sends the second a
    twentieth of a second later"""
    there = pacs_dimse.DimseArchive(pacs_access.read_address(here.dicom), Access())
    with there.associate([build_context(Verification)]) as association:
        for _ in range(30): assert association.send_c_echo().Status == 0
        connection = association.dul.socket.socket
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)

def test_an_answer_that_the_other_thread_took_comes_back(here):
    "pynetdicom's own thread takes it where the process is busy; the call then waited in vain"
    there = pacs_dimse.DimseArchive(pacs_access.read_address(here.dicom), Access())
    answer = C_ECHO()
    answer.MessageIDBeingRespondedTo, answer.Status = 1, 0
    with there.associate([build_context(Verification)]) as association:
        association._reactor_checkpoint.clear()
        while not association._is_paused: time.sleep(.001)
        association._serve_request(answer, 1)
        assert association.dimse.get_msg(block=False) == (1, answer)
        association._reactor_checkpoint.set()

def test_a_key_that_is_none(here):
    with pytest.raises(ValueError, match='no keyword'): find_series(here.web, Patient='x')

@pytest.mark.parametrize('protocol', BOTH)
def test_a_second_time_nothing_is_sent(here, protocol):
    again = quiet_store(getattr(here, protocol), here.sent)
    assert set(again.status) == {'there already'}
    found = find_series(here.web, SeriesInstanceUID=here.uid)
    assert found.images.tolist() == [5]

@pytest.mark.parametrize('protocol', BOTH)
def test_a_row_and_a_reason_for_each_file(here, tmp_path, protocol):
    write_series(tmp_path/'new', 2)
    good = sorted((tmp_path/'new').glob('*.dcm'))
    shutil.copy(good[0], tmp_path/'copy.dcm')
    (tmp_path/'text.dcm').write_text('no image')
    paths = [*good, tmp_path/'copy.dcm', tmp_path/'text.dcm', tmp_path/'absent.dcm']
    with pytest.warns(UserWarning, match='2 of 5 files not stored'):
        table = quiet_store(getattr(here, protocol), paths)
    assert table.status.tolist() == ['stored', 'stored', 'left out', 'failed', 'failed']
    assert all(table.reason[2:])
    assert 'FileNotFoundError' in table.reason[4]

@pytest.mark.parametrize('protocol', BOTH)
@pytest.mark.parametrize('keyword, value', [
    ('MediaStorageSOPInstanceUID', None), ('MediaStorageSOPInstanceUID', '1.2.3'),
    ('MediaStorageSOPClassUID', None)], ids=['no image', 'another image', 'no class'])
def test_meta_information_that_does_not_name_the_image(here, tmp_path, protocol, keyword, value):
    "Both UIDs must be there, as in the data set (PS3.10 7.1): a request for C-STORE names them"
    write_series(tmp_path/'sent', 3, patient='P-META')
    second = tmp_path/'sent'/'0001.dcm'
    ds = pydicom.dcmread(second)
    if value is None: delattr(ds.file_meta, keyword)
    else: setattr(ds.file_meta, keyword, value)
    ds.save_as(second)
    with pytest.warns(UserWarning, match='1 of 3 files not stored'):
        table = quiet_store(getattr(here, protocol), tmp_path/'sent')
    assert table.status.tolist() == ['stored', 'failed', 'stored']
    assert 'file meta information' in table.reason[1]

def test_a_file_that_loses_its_meta_information_stops_no_other(tmp_path):
    "Between the look at it and the sending: pynetdicom says so by an AttributeError"
    write_series(tmp_path/'sent', 1)
    path, = (tmp_path/'sent').iterdir()
    ds = pydicom.dcmread(path)
    del ds.file_meta.MediaStorageSOPInstanceUID
    ds.save_as(path)
    with archive('stand-in') as a:
        there = pacs_dimse.DimseArchive(pacs_access.read_address(a.dicom), Access())
        images = [(p, '1.2', ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
                  for p in (path, tmp_path/'absent.dcm')]
        answers = list(there.send(images))
    assert [status for _, status, _ in answers] == ['failed', 'failed']
    assert 'MediaStorageSOPInstanceUID' in answers[0][2]

def test_a_file_that_is_gone_stops_no_other_over_the_web(tmp_path):
    write_series(tmp_path/'sent', 1)
    path, = (tmp_path/'sent').iterdir()
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    with archive('stand-in') as a, \
            pacs_web.WebArchive(pacs_access.read_address(a.web), Access()) as there:
        images = [(tmp_path/'absent.dcm', '1.2', '', ''), (path, uid, '', '')]
        answers = list(there.send(images))
    assert [status for _, status, _ in answers] == ['failed', 'stored']
    assert 'absent.dcm' in answers[0][2]

def test_a_secret_of_one_archive_is_not_told_to_another(monkeypatch):
    "RFC 6750 5.3: a token is for one host"
    one, other = 'https://one.invalid/dicom-web', 'https://other.invalid/dicom-web'
    cli_results.check_archives(one, other)
    for name in 'TOKEN', 'PASSWORD':
        monkeypatch.setenv(f'MEDTUT_ARCHIVE_{name}', 'abc')
        for to in other, 'dicom://OTHER@one.invalid:104':
            with pytest.raises(typer.BadParameter, match=f'whose {name.lower()} is not for it') as caught:
                cli_results.check_archives(one, to)
            assert 'abc' not in str(caught.value)
        cli_results.check_archives(one, f'{one}/second')
        cli_results.check_archives(None, other)
        cli_results.check_archives(one, None)
        monkeypatch.delenv(f'MEDTUT_ARCHIVE_{name}')

def test_dicomweb_client_finds_the_same(here):
    "The field's own library as a witness"
    client = pytest.importorskip('dicomweb_client').DICOMwebClient(here.web)
    rows = client.search_for_series(search_filters=dict(PatientID='PHANTOM-7'))
    assert {row['0020000E']['Value'][0] for row in rows} >= {here.uid}
    study = rows[0]['0020000D']['Value'][0]
    images = client.retrieve_series(study, rows[0]['0020000E']['Value'][0])
    assert len(images) == len(client.search_for_instances(study))

# --- cut off, and called again

@pytest.mark.parametrize('protocol', BOTH)
def test_a_missing_file_comes_again(here, tmp_path, protocol):
    folder = quiet_fetch(here.web, here.uid, tmp_path/'series')
    first, *others = sorted(folder.glob('*.dcm'))
    times = [path.stat().st_mtime_ns for path in others]
    first.unlink()
    half_path(first).write_bytes(b'left by a kill')
    stranger = half_path(folder/'notes.dcm')
    stranger.write_bytes(b'written at this moment')
    quiet_fetch(getattr(here, protocol), here.uid, folder)
    assert same_series(here.sent, folder)
    assert [path.stat().st_mtime_ns for path in others] == times
    assert list(folder.glob('.*.part')) == [stranger]

@pytest.mark.parametrize('length', [20, 46, 47, 64])
def test_half_an_image_goes_however_long_its_uid(tmp_path, length):
    "64 characters at most (PS3.5 9.1); a half-written file's name holds the first 50"
    uid = '1.2.' + '3'*(length - 4)
    half_path(tmp_path/f'{uid}.dcm').touch()
    assert _missing(tmp_path, {uid: '1.2.3'}, '1.2') == {uid: '1.2.3'}
    assert not list(tmp_path.iterdir())

def test_a_file_that_is_not_what_its_name_says_comes_again(here, tmp_path):
    "Empty after a power cut, cut off, or another image"
    folder = quiet_fetch(here.web, here.uid, tmp_path/'series')
    first, second, third, *_ = sorted(folder.glob('*.dcm'))
    first.write_bytes(b'')
    second.write_bytes(second.read_bytes()[:200])
    shutil.copy(sorted(folder.glob('*.dcm'))[-1], third)
    quiet_fetch(here.web, here.uid, folder)
    assert same_series(here.sent, folder)
    assert len(list(folder.glob('*.dcm'))) == 5

def test_a_folder_with_something_else(here, tmp_path):
    (tmp_path/'other.dcm').write_text('')
    with pytest.raises(ValueError, match='other.dcm'): quiet_fetch(here.web, here.uid, tmp_path)

def killed_after(a, n, folder):
    "Kill an archive as soon as `folder` holds `n` files"
    def watch():
        deadline = time.monotonic() + 60
        while len(list(folder.rglob('*'))) < n and time.monotonic() < deadline: time.sleep(.002)
        a.process.kill()
    thread = threading.Thread(target=watch)
    thread.start()
    return thread

@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('protocol', BOTH)
def test_killed_in_the_middle(kind, protocol, tmp_path):
    "Of a store, and of a fetch; each is run again: whole, and nothing doubled"
    n, held, back = 60, tmp_path/'held', tmp_path/'back'
    uid = write_series(tmp_path/'sent', n, rows=64)
    back.mkdir()
    hasty = Access(timeout=5)
    with archive(kind, folder=held) as a:
        n_files = len(list(held.rglob('*')))
        killer = killed_after(a, n_files + 10, held)
        with pytest.warns(UserWarning, match='not stored'):
            table = quiet_store(getattr(a, protocol), tmp_path/'sent', access=hasty)
        killer.join()
    counts = Counter(table.status)
    assert counts['stored'] and counts['failed'] and len(table) == n
    assert table.reason[table.status == 'failed'].str.len().min() > 0
    with archive(kind, folder=held) as a:
        table = quiet_store(getattr(a, protocol), tmp_path/'sent')
        assert set(table.status) == {'stored', 'there already'}
        assert find_series(a.web).images.tolist() == [n]
        killer = killed_after(a, 12, back)
        with pytest.raises(ArchiveError, match='Call again|not reached'):
            quiet_fetch(getattr(a, protocol), uid, back, access=hasty)
        killer.join()
    n_arrived = len(list(back.glob('*.dcm')))
    assert 0 < n_arrived < n
    with archive(kind, folder=held) as a: quiet_fetch(getattr(a, protocol), uid, back)
    assert same_series(tmp_path/'sent', back)
    assert len(list(back.glob('*.dcm'))) == n

@pytest.mark.parametrize('protocol', BOTH)
def test_a_full_disk(here, tmp_path, protocol, monkeypatch):
    "An error that names the folder; what had arrived stays, and nothing half"
    real, written = pacs_access.atomic_write, []
    @contextmanager
    def on_a_small_disk(path, **options):
        if len(written) == 2: raise OSError(errno.ENOSPC, 'No space left on device')
        with real(path, **options) as f: yield f
        written.append(path)
    monkeypatch.setattr(pacs_access, 'atomic_write', on_a_small_disk)
    with pytest.raises(OSError, match='the disk is full; 2 images') as e:
        quiet_fetch(getattr(here, protocol), here.uid, tmp_path/'series')
    assert e.value.errno == errno.ENOSPC
    assert len(list((tmp_path/'series').glob('*.dcm'))) == 2
    assert not list((tmp_path/'series').glob('.*.part'))
    monkeypatch.undo()
    quiet_fetch(getattr(here, protocol), here.uid, tmp_path/'series')
    assert same_series(here.sent, tmp_path/'series')

# --- who may do what

@pytest.mark.parametrize('kind', KINDS)
def test_who_does_not_say_who_it_is(kind, tmp_path, capfd, caplog):
    uid = write_series(tmp_path/'sent', 1)
    caplog.set_level(0)
    with archive(kind, users=dict(reader='open-sesame')) as a:
        for access in (None, Access('reader', 'wrong-one'), Access(token='a-token')):
            with pytest.raises(ArchiveError, match='401') as e: find_series(a.web, access)
            assert 'wrong-one' not in str(e.value) and 'a-token' not in str(e.value)
        me = Access('reader', 'open-sesame')
        quiet_store(a.web, tmp_path/'sent', access=me)
        quiet_fetch(a.web, uid, tmp_path/'back', access=me)
        config = a.folder.parent/'config.json'
        assert config.parent.stat().st_mode & 0o077 == 0
    assert same_series(tmp_path/'sent', tmp_path/'back')
    said = ''.join(capfd.readouterr()) + caplog.text
    for secret in ('open-sesame', 'wrong-one', 'a-token', 'Phantom^Seven'): assert secret not in said
    files = [path.read_bytes() for path in (tmp_path/'back').iterdir()]
    assert not any(b'open-sesame' in data for data in files)

def test_strangers_are_refused(here, tmp_path):
    stranger = Access(title='STRANGER', timeout=10)
    with pytest.raises(ArchiveError): find_series(here.dicom, stranger)
    with pytest.raises(ArchiveError): quiet_fetch(here.dicom, here.uid, tmp_path/'x', access=stranger)
    assert not list(tmp_path.rglob('*.dcm'))
    write_series(tmp_path/'new', 1)
    with pytest.warns(UserWarning, match='not stored'):
        table = quiet_store(here.dicom, tmp_path/'new', access=stranger, ask=False)
    assert table.status.tolist() == ['failed']
    wrong = here.dicom.replace('ARCHIVE', 'ANOTHER')
    with pytest.raises(ArchiveError, match='refuses MEDTUT'): find_series(wrong)

class Papers:
    "Authorities and their certificates, made with openssl, good for two days"
    def __init__(self, folder): self.folder = folder

    def make(self, name, by=None):
        "PEM files of a certificate and its key, of its own authority or of another's, `by`"
        paths = [str(self.folder/f'{name}{part}.pem') for part in ('', '_key')]
        command = ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
            'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', f'/CN={name}',
            '-out', paths[0], '-keyout', paths[1]]
        if by:
            command += ['-addext', 'subjectAltName=IP:127.0.0.1', '-addext',
                'basicConstraints=critical,CA:FALSE', '-CA', by[0], '-CAkey', by[1]]
        subprocess.run(command, check=True, capture_output=True)
        return tuple(paths)

@pytest.fixture(scope='module')
def papers(tmp_path_factory):
    said = subprocess.run(['openssl', 'version'], capture_output=True, text=True).stdout \
        if shutil.which('openssl') else 'no openssl here'
    if not said.startswith('OpenSSL 3'): pytest.skip(f'OpenSSL 3 makes the certificates: {said}')
    papers = Papers(tmp_path_factory.mktemp('papers'))
    papers.ca, papers.other_ca = papers.make('authority'), papers.make('other_authority')
    papers.archive = papers.make('archive', papers.ca)
    papers.own, papers.strange = papers.make('own', papers.ca), papers.make('strange', papers.other_ca)
    return papers

def orthanc_over_tls(papers):
    "Its settings with TLS for DIMSE (over the web Debian's 1.10.1 ends at the first question)"
    plain = pacs_start._orthanc_settings
    def with_tls(settings, plugin):
        own = plain(settings, plugin)
        for peer in own['DicomModalities'].values(): peer['UseDicomTls'] = True
        return own | dict(
            DicomTlsEnabled=True, DicomTlsCertificate=papers.archive[0],
            DicomTlsPrivateKey=papers.archive[1], DicomTlsTrustedCertificates=papers.ca[0])
    return with_tls

ENCRYPTED = [('stand-in', 'web'), ('stand-in', 'dicom'),
    pytest.param(('Orthanc', 'dicom'), marks=KINDS[1].marks)]

@pytest.fixture(scope='module', params=ENCRYPTED, ids=['stand-in web', 'stand-in dicom', 'Orthanc dicom'])
def encrypted(request, papers, tmp_path_factory):
    "An archive that talks over TLS alone, and only to who has a certificate of its authority"
    kind, protocol = request.param
    top, port = tmp_path_factory.mktemp('encrypted'), pacs_start._free_ports(1)[0]
    tls = (*papers.archive, papers.ca[0]) if kind == 'stand-in' else None
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch: # no longer than this one takes to start
            if kind == 'Orthanc':
                patch.setattr(pacs_start, '_orthanc_settings', orthanc_over_tls(papers))
            a = stack.enter_context(archive(kind, tls=tls, peers=dict(MEDTUT=port)))
        a.sent, a.port = top/'sent', port
        a.uid = write_series(a.sent, 3)
        a.address = getattr(a, protocol).replace('dicom://', 'dicoms://')
        yield a

def test_over_tls_with_certificates_of_both_sides(encrypted, papers, tmp_path):
    assert encrypted.address.startswith(('https://', 'dicoms://'))
    me = Access(ca=papers.ca[0], certificate=papers.own, timeout=10)
    table = quiet_store(encrypted.address, encrypted.sent, access=me)
    assert set(table.status) <= {'stored', 'there already'}
    assert find_series(encrypted.address, me).images.tolist() == [3]
    quiet_fetch(encrypted.address, encrypted.uid, tmp_path/'back', access=me)
    assert same_series(encrypted.sent, tmp_path/'back')
    if encrypted.address.startswith('https'): return
    # the line that the archive opens is encrypted as well
    by_move = Access(ca=papers.ca[0], certificate=papers.own, timeout=10, port=encrypted.port)
    quiet_fetch(encrypted.address, encrypted.uid, tmp_path/'moved', access=by_move)
    assert same_series(encrypted.sent, tmp_path/'moved')
    with pytest.raises(ValueError, match='opens a line to this machine.*certificate='):
        find_series(encrypted.address, Access(ca=papers.ca[0], port=encrypted.port))

def test_a_command_takes_papers_from_the_environment(encrypted, papers, monkeypatch, capfd):
    "As `medtut predict --to` does; half of a pair of files is refused before anything is asked"
    paths = sorted(encrypted.sent.glob('*.dcm'))
    def send(): cli_results.send(paths, encrypted.address, dry_run=False, quiet=True)
    monkeypatch.setenv('MEDTUT_ARCHIVE_CA', papers.ca[0])
    monkeypatch.setenv('MEDTUT_ARCHIVE_CERTIFICATE', papers.own[0])
    with pytest.raises(typer.BadParameter, match='go together'): send()
    monkeypatch.setenv('MEDTUT_ARCHIVE_KEY', papers.own[1])
    send()
    assert re.search('3 results (stored|there already)', capfd.readouterr().err)
    monkeypatch.setenv('MEDTUT_ARCHIVE_CA', papers.other_ca[0])
    with pytest.raises(OSError, match='no trusted connection'): send()

def test_a_command_takes_its_title_from_the_environment(here, monkeypatch, capfd):
    paths = sorted(here.sent.glob('*.dcm'))
    def send(): cli_results.send(paths, here.dicom, dry_run=False, quiet=True)
    send()
    assert 'there already' in capfd.readouterr().err
    monkeypatch.setenv('MEDTUT_ARCHIVE_TITLE', 'STRANGER')
    with pytest.raises(OSError, match='STRANGER'): send()

def test_a_certificate_that_nobody_vouches_for(encrypted, papers):
    "The archive's by an authority that is not trusted here: nothing is asked"
    for ca in (None, papers.other_ca[0]):
        access = Access(ca=ca, certificate=papers.own, timeout=10)
        with pytest.raises(ArchiveError, match=r'no trusted connection.*Access\(ca=') as e:
            find_series(encrypted.address, access)
        assert 'verify failed' in str(e.value)

def test_the_archive_wants_to_see_a_certificate(encrypted, papers):
    for certificate in (None, papers.strange):
        access = Access(ca=papers.ca[0], certificate=certificate, timeout=10)
        with pytest.raises(ArchiveError, match=r'Access\(certificate='):
            find_series(encrypted.address, access)

def test_a_certificate_for_another_host(encrypted, papers):
    address = encrypted.address.replace('127.0.0.1', 'localhost')
    access = Access(ca=papers.ca[0], certificate=papers.own, timeout=10)
    with pytest.raises(ArchiveError, match='no trusted connection.*localhost'):
        find_series(address, access)

def test_a_silent_line_stops_nobody_else(encrypted, papers):
    if not encrypted.address.startswith('https'): return
    me = Access(ca=papers.ca[0], certificate=papers.own, timeout=5)
    with socket.create_connection(('127.0.0.1', encrypted.settings['http'])):
        find_series(encrypted.address, me)

def test_files_of_certificates_that_are_none(papers, tmp_path):
    text = tmp_path/'text.pem'
    text.write_text('no certificate')
    with_phrase = tmp_path/'with_phrase.pem'
    subprocess.run(['openssl', 'pkcs8', '-topk8', '-passout', 'pass:abc', '-in', papers.own[1],
                    '-out', with_phrase], check=True)
    wrong = [Access(ca=text), Access(ca=tmp_path/'absent.pem'),
        Access(certificate=(papers.own[0], papers.strange[1])), Access(certificate=(text, text)),
        Access(certificate=(papers.own[0], with_phrase))]
    for access in wrong:
        for address in ('https://127.0.0.1:9', 'dicoms://ARCHIVE@127.0.0.1:9'):
            with pytest.raises(ValueError, match="can't be used.*PEM") as e: find_series(address, access)
            assert str(access.ca or access.certificate[1]) in str(e.value)

def test_no_secret_in_plain_text():
    with pytest.raises(ValueError, match='https'):
        find_series('http://pacs.example/dicom-web', Access('me', 'open-sesame'))
    with pytest.raises(ValueError) as e: find_series('https://me:open-sesame@pacs.example')
    assert 'sesame' not in str(e.value)
    for hidden in ('https://pacs.example/dicom-web?token=sesame', 'https://me:sesame/x@pacs.example',
                   'ftp://me:sesame@pacs.example', 'dicom://ME:sesame@pacs.example'):
        with pytest.raises(ValueError, match='give ') as e: find_series(hidden)
        assert 'sesame' not in str(e.value)
    assert 'sesame' not in repr(Access('me', 'open-sesame', token='sesame'))

def test_nothing_from_the_environment(here, monkeypatch, tmp_path):
    "No proxy, no password of a .netrc"
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    (tmp_path/'netrc').write_text('machine 127.0.0.1 login me password open-sesame')
    monkeypatch.setenv('NETRC', str(tmp_path/'netrc'))
    assert len(find_series(here.web, PatientID='PHANTOM-7'))
    with answering(200, b'[]') as (url, asked): find_series(url)
    assert all('Authorization' not in headers for _, headers in asked)

def test_a_token(tmp_path):
    with answering(200, b'[]') as (url, asked): find_series(url, Access(token='abc'))
    assert asked[0][1]['Authorization'] == 'Bearer abc'

def test_a_token_with_the_end_of_its_line():
    """As a file holds it. In a token there is no space (RFC 6750 2.1); one that has some is refused
    here, since http.client would quote it"""
    with answering(200, b'[]') as (url, asked): find_series(url, Access(token=' abc\n'))
    assert asked[0][1]['Authorization'] == 'Bearer abc'
    for wrong in ('open sesame', 'open\nsesame', 'open\u2011sesame', ''):
        with pytest.raises(ValueError, match='RFC 6750') as e:
            find_series('http://127.0.0.1:9/dicom-web', Access(token=wrong))
        assert 'sesame' not in ''.join(traceback.format_exception(e.value))

def test_a_name_and_a_password_in_other_letters():
    "Go as UTF-8 (RFC 7617 2.1)"
    with answering(200, b'[]') as (url, asked): find_series(url, Access('Ωμέγα', 'пароль'))
    assert asked[0][1]['Authorization'] == f'Basic {b64encode("Ωμέγα:пароль".encode()).decode()}'

# --- archives that misbehave

@contextmanager
def serving(handler):
    "A web server that answers as `handler` does; its address"
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}/dicom-web'
    finally:
        server.shutdown()
        server.server_close()

@contextmanager
def answering(status, body, kind='application/dicom+json', length=None, pause=0, headers=()):
    "An archive that answers everything alike; gives its address and what it was asked"
    asked = []
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.send_header('Content-Type', kind)
            for name, value in headers: self.send_header(name, value)
            if length != 'none': self.send_header('Content-Length', str(length or len(body)))
            self.end_headers()
            with suppress(OSError):
                for i in range(len(body)) if pause else ():
                    time.sleep(pause)
                    self.wfile.write(body[i:i + 1])
                if not pause: self.wfile.write(body)
        def do_POST(self):
            self.rfile.read(int(self.headers['Content-Length']))
            self.do_GET()
    with serving(Handler) as url: yield url, asked

@pytest.mark.parametrize('status, said', {401: 'who asks', 403: 'may not', 404: 'not there',
    500: 'fault of the archive', 503: 'fault of the archive', 302: 'not followed'}.items())
def test_refusals(status, said):
    with answering(status, b'no', headers=[('Location', 'http://127.0.0.1:9')]) as (url, asked):
        with pytest.raises(ArchiveError, match=f'{status}.*{said}'):
            find_series(url, PatientName='Secret*')
    assert len(asked) == 1

@pytest.mark.parametrize('body', [b'<html>log in</html>', b'[1, 2]', b'{"a": ', b'[{}]',
    b'[{"0020000E": {"vr": "UI", "Value": ["../../x"]}}]', b'\xff\xfe'])
def test_nonsense(body):
    with answering(200, body) as (url, _):
        with pytest.raises(ArchiveError) as e: find_series(url, PatientName='Secret*')
    assert 'Secret' not in str(e.value)

def test_half_an_answer():
    with answering(200, b'[{"0020', length=5000) as (url, _):
        with pytest.raises(ArchiveError, match='broke off') as e:
            find_series(url, PatientName='Secret*')
    assert 'Secret' not in str(e.value)

def test_late_answers():
    start = time.monotonic()
    with answering(200, b'[]', pause=3) as (url, _):
        with pytest.raises(ArchiveError, match='nothing came for 0.5 s'):
            find_series(url, Access(timeout=.5))
    with answering(200, b' '*1000, pause=.1) as (url, _):
        with pytest.raises(ArchiveError, match='took more than 1 s'):
            find_series(url, Access(limit=1))
    assert time.monotonic() - start < 15

def test_nobody_there():
    port = pacs_start._free_ports(1)[0]
    with pytest.raises(ArchiveError, match='not reached'): find_series(f'http://127.0.0.1:{port}')
    with pytest.raises(ArchiveError, match='no association'):
        find_series(f'dicom://ARCHIVE@127.0.0.1:{port}', Access(timeout=2))

def test_a_silent_listener_over_dimse():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        start = time.monotonic()
        with pytest.raises(ArchiveError, match='no association'):
            find_series(f'dicom://ARCHIVE@127.0.0.1:{s.getsockname()[1]}', Access(timeout=1))
    assert time.monotonic() - start < 10

# patient, modality, study and series
TWO_PATIENTS = [('P1', 'MR', '1.2', '1.2.3'), ('P1', 'CT', '1.2', '1.2.4'),
                ('OTHER', 'CT', '1.5', '1.5.3')]
DOUBLE = [('P1', 'MR', '1.2', '1.2.3'), ('P2', 'MR', '1.5', '1.2.3')]
KEYWORDS = 'PatientID', 'Modality', 'StudyInstanceUID', 'SeriesInstanceUID'

def row_of(values, keywords=KEYWORDS):
    "A row of an answer: of the values those that are named"
    ds = pydicom.Dataset()
    for keyword, value in zip(KEYWORDS, values):
        if keyword in keywords: setattr(ds, keyword, value)
    return ds

@contextmanager
def finding_over_web(series):
    "An archive that knows no key: each fits all (PS3.4 C.2.2.1.3)"
    body = json.dumps([row_of(values).to_json_dict() for values in series]).encode()
    with answering(200, body) as (url, _): yield url, []

@contextmanager
def finding_over_dimse(series):
    """An archive with nothing but what it must have: it answers for one study at a time, knows
    PatientID for studies alone (PS3.4 C.4.1.2, C.6.2.1), and of series no key"""
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
    asked = []
    def on_find(event):
        question = event.identifier
        asked.append(question)
        study, patient = [question.get(k) or '' for k in ('StudyInstanceUID', 'PatientID')]
        is_of_studies = question.QueryRetrieveLevel == 'STUDY'
        if not is_of_studies and not study:
            yield 0xA900, None
            return
        named = ['PatientID'] if is_of_studies else ['Modality', 'SeriesInstanceUID']
        for values in series:
            is_wanted = study in ('', values[2])
            if is_of_studies: is_wanted = is_wanted and patient in ('', values[0])
            if is_wanted: yield 0xFF00, row_of(values, [*named, 'StudyInstanceUID'])
        yield 0, None
    ae = AE('ARCHIVE')
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(('127.0.0.1', 0), block=False,
                             evt_handlers=[(evt.EVT_C_FIND, on_find)])
    try: yield f'dicom://ARCHIVE@127.0.0.1:{server.server_address[1]}', asked
    finally: server.shutdown()

each_protocol = pytest.mark.parametrize('finding', [finding_over_web, finding_over_dimse], ids=BOTH)

@each_protocol
def test_series_that_do_not_fit_are_left_out(finding):
    "A key that an archive does not know fits all: another patient's series must not pass for P1's"
    with finding(TWO_PATIENTS) as (address, _):
        with pytest.warns(UserWarning, match='not what was asked for .PatientID, Modality'):
            found = find_series(address, PatientID='P1', Modality='MR')
        assert found[['patient_id', 'uid']].values.tolist() == [['P1', '1.2.3']]
        # matching that is not by equality is left to the archive (PS3.4 C.2.2.2.2, C.2.2.2.4)
        assert len(find_series(address, Modality='?R', StudyDate='20200101-')) == 3

def test_series_are_found_study_by_study():
    "Each level is asked for its own keys (PS3.4 C.4.1.3.1): no archive need take another question"
    with finding_over_dimse(TWO_PATIENTS) as (address, asked):
        found = find_series(address, PatientID='P1')
        assert found[['patient_id', 'modality', 'uid', 'study_uid']].values.tolist() == [
            ['P1', 'MR', '1.2.3', '1.2'], ['P1', 'CT', '1.2.4', '1.2']]
        levels = [question.QueryRetrieveLevel for question in asked]
        assert levels == ['STUDY', 'SERIES']
        assert 'Modality' not in asked[0]
        assert 'PatientID' not in asked[1]
        everything = find_series(address)
        assert everything.patient_id.tolist() == ['OTHER', 'P1', 'P1']

@each_protocol
def test_a_series_in_two_studies(finding, tmp_path):
    "Both are shown, and neither is fetched: nobody can say which is meant"
    with finding(DOUBLE) as (address, _):
        found = find_series(address, SeriesInstanceUID='1.2.3')
        assert found.study_uid.tolist() == ['1.2', '1.5']
        with pytest.raises(ArchiveError, match='has 2 series with the UID 1.2.3'):
            quiet_fetch(address, '1.2.3', tmp_path/'series')
    assert not (tmp_path/'series').exists()

def part(data, end=b'--'): return b'--x\r\nContent-Type: application/dicom\r\n\r\n' + data + b'\r\n--x' + end

@contextmanager
def one_series(answer, kind='multipart/related; type="application/dicom"; boundary=x',
               listed=('1.2.3.1',), count=1, length=None):
    "An archive that lists a series and answers the question for an image as told"
    row = {'0020000D': dict(vr='UI', Value=['1.2']), '0020000E': dict(vr='UI', Value=['1.2.3'])}
    if count is not None: row['00201209'] = dict(vr='IS', Value=[count])
    images = [{'00080018': dict(vr='UI', Value=[uid])} for uid in listed]
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_GET(self):
            path = self.path.partition('?')[0]
            own_kind, body, size = 'application/dicom+json', json.dumps([row]).encode(), None
            if path.endswith('/instances'): body = json.dumps(images).encode()
            elif '/instances/' in path: own_kind, body, size = kind, answer, length
            self.send_response(200)
            self.send_header('Content-Type', own_kind)
            if size != 'none': self.send_header('Content-Length', str(size or len(body)))
            self.end_headers()
            self.wfile.write(body)
    with serving(Handler) as url: yield url

IMAGE = Path(get_testdata_file('MR_small.dcm')).read_bytes()

@pytest.mark.parametrize('said, options', [
    ('no DICOM file', dict(answer=part(b'some text'))),
    ('was asked for', dict(answer=part(IMAGE))),
    ('broke off', dict(answer=part(IMAGE)[:-9000], length=len(part(IMAGE)))),
    ('broke off', dict(answer=part(IMAGE)[:-9000], length='none')),
    ('broke off', dict(answer=part(IMAGE, b'\r\n\r\n') + part(IMAGE))),
    ('came', dict(answer=b'<html>', kind='text/html')),
    ('counts 7 images', dict(answer=b'', count=7)),
    ('series 1.2.3 and lists no image of it', dict(answer=b'', listed=(), count=0)),
    ('series 1.2.3 and lists no image of it', dict(answer=b'', listed=(), count=None))])
def test_images_that_are_none(tmp_path, said, options):
    with one_series(**options) as url:
        with pytest.raises(ArchiveError, match=said): quiet_fetch(url, '1.2.3', tmp_path/'series')
    assert not list(tmp_path.rglob('*.dcm')) and not list(tmp_path.rglob('*.part'))

@pytest.mark.parametrize('status, body, said', [
    (500, b'', '500'), (200, b'<html>', 'without saying'), (200, b'{}', 'without saying'),
    (409, b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [42752]}}]}}',
     'A700h')])
def test_answers_to_a_store(tmp_path, status, body, said):
    write_series(tmp_path/'sent', 1)
    with answering(status, body) as (url, _), pytest.warns(UserWarning, match='not stored'):
        table = quiet_store(url, tmp_path/'sent', ask=False)
    assert table.status.tolist() == ['failed']
    assert said in table.reason[0]

@contextmanager
def refusing(uid, status):
    "An archive that stores all images but one"
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            image = str(pydicom.dcmread(BytesIO(body.partition(b'\r\n\r\n')[2])).SOPInstanceUID)
            answer = {'00081199': dict(vr='SQ', Value=[{'00081155': dict(vr='UI', Value=[image])}])}
            said = b'' if image == uid else json.dumps(answer).encode()
            self.send_response(status if image == uid else 200)
            self.send_header('Content-Length', str(len(said)))
            self.end_headers()
            self.wfile.write(said)
    with serving(Handler) as url: yield url

@pytest.mark.parametrize('status', [400, 413, 415])
def test_one_file_that_is_refused_stops_no_other(tmp_path, status):
    "Else each further call would stop at the same file, and the rest never be stored"
    write_series(tmp_path/'sent', 3)
    second = pydicom.dcmread(tmp_path/'sent/0001.dcm').SOPInstanceUID
    with refusing(second, status) as url, pytest.warns(UserWarning, match='1 of 3 files not stored'):
        table = quiet_store(url, tmp_path/'sent', ask=False)
    assert table.status.tolist() == ['stored', 'failed', 'stored']
    assert str(status) in table.reason[1]

def test_an_archive_that_ends_the_association(tmp_path):
    "Between two files: a reason for each, and no error of pynetdicom's own"
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import MRImageStorage
    ae = AE('ARCHIVE')
    ae.add_supported_context(MRImageStorage)
    server = ae.start_server(('127.0.0.1', 0), block=False,
                             evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)])
    write_series(tmp_path/'sent', 3)
    address = f'dicom://ARCHIVE@127.0.0.1:{server.server_address[1]}'
    real = pacs_dimse.DimseArchive.send_file
    def then_ended(self, association, path):
        answer = real(self, association, path)
        for peer in server.active_associations: peer.abort()
        deadline = time.monotonic() + 20
        while association.is_established and time.monotonic() < deadline: time.sleep(.01)
        return answer
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match='not stored'):
            patch.setattr(pacs_dimse.DimseArchive, 'send_file', then_ended)
            table = quiet_store(address, tmp_path/'sent', ask=False, access=Access(timeout=5))
    finally: server.shutdown()
    assert table.status.tolist() == ['stored', 'failed', 'failed']
    assert table.reason[1:].str.contains('Call again').all()

# --- the archives that are started here

@pytest.mark.parametrize('kind', KINDS)
def test_it_stops_and_leaves_nothing(kind):
    with pytest.raises(RuntimeError, match='stop'):
        with archive(kind) as a:
            top = a.folder.parent
            raise RuntimeError('stop')
    assert a.process.poll() is not None
    assert not top.exists()

def test_a_port_that_is_taken_meanwhile(monkeypatch):
    "By another archive, which is not taken for the one that was started"
    kind = 'Orthanc' if pacs_start._orthanc() else 'stand-in'
    real = pacs_start._free_ports
    with archive(kind) as first:
        taken = [first.settings['http'], first.settings['dicom']]
        for own_kind in {kind, 'stand-in'}:
            with pytest.raises(ArchiveError, match='already in use'):
                with archive(own_kind, ports=tuple(taken)): pass
        asked = []
        monkeypatch.setattr(pacs_start, '_free_ports',
            lambda n: asked.append(n) or (taken if len(asked) == 1 else real(n)))
        with archive(kind) as second:
            assert second.settings['http'] != first.settings['http']
            assert len(asked) == 2

def test_what_was_seen_while_it_did_not_start(monkeypatch):
    monkeypatch.setattr(pacs_start, '_version', lambda *a: json.loads('no JSON'))
    with pytest.raises(ArchiveError, match=r'not ready after .* \(wait=0.2\). \d+ looks?, at the last: '
                                           'JSONDecodeError'):
        with archive('stand-in', wait=.2): pass

def test_no_such_archive(monkeypatch):
    with pytest.raises(ValueError, match='kind'): archive('PACS').__enter__()
    monkeypatch.setattr(pacs_start, '_orthanc', lambda: None)
    with pytest.raises(ArchiveError, match='apt-get install orthanc'): archive('Orthanc').__enter__()
    with archive() as a: assert a.kind == 'stand-in'

@pytest.mark.skipif(sys.platform != 'linux', reason='ports are listed in /proc on Linux alone')
def test_the_stand_in_listens_here_alone():
    with archive('stand-in') as a:
        lines = Path('/proc/net/tcp').read_text().splitlines()[1:]
        listening = [line.split()[1].split(':') for line in lines if line.split()[3] == '0A']
        ports = a.settings['http'], a.settings['dicom']
        hosts = {host for host, port in listening if int(port, 16) in ports}
    assert hosts == {'0100007F'} # 127.0.0.1

@pytest.mark.minutes
@pytest.mark.skipif(sys.platform != 'linux', reason='the peak of a process is in /proc on Linux alone')
@pytest.mark.parametrize('protocol', BOTH)
def test_memory_does_not_grow_with_the_series(tmp_path, protocol):
    # not getrusage: a process inherits its peak from the one that starts it, here pytest
    code = ('import re, sys; from pathlib import Path\n'
            'from medtut.pacs import fetch_series, store\n'
            'store(sys.argv[1], sys.argv[3], progress=False)\n'
            'fetch_series(sys.argv[1], sys.argv[2], sys.argv[4], progress=False)\n'
            'print(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])')
    peaks = []
    with archive('stand-in') as a:
        for n in (10, 110): # slices of half a megabyte: 5 and 55 MB
            uid = write_series(tmp_path/f'sent{n}', n, rows=512)
            arguments = [getattr(a, protocol), uid, tmp_path/f'sent{n}', tmp_path/f'back{n}']
            command = [sys.executable, '-c', code, *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout)*1024)
    assert peaks[1] - peaks[0] < 25e6

# --- the lesson

@pytest.mark.minutes
def test_lesson_8_runs_without_its_weights(tmp_path):
    "As in Colab, where a notebook comes alone: it says in a line what is missing, and what to do"
    path = Path(shutil.copy(nbs/'08_archive.ipynb', tmp_path))
    passed, _ = run_notebook(
        path, skip_flags=config.tst_flags.split(), basepath=config.config_path, save=True,
        cell_timeout=config.cell_timeout, profile=False)
    assert passed, 'the cell and its error stand in the captured output'
    outputs = [str(cell.get('outputs')) for cell in json.loads(path.read_text())['cells']]
    said, = [text for text in outputs if 'Outlines are drawn by' in text]
    assert 'a threshold. For the network put 07_hippocampus.safetensors beside' in said
