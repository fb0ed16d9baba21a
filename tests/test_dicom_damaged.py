"""Damaged, hostile and odd files.

Whoever reads one works or raises `DicomError`, and `scan` always has a row."""
import io
import os
import random
import re
import resource
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import bad_decoders
import damage
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from medtut import decoding
from medtut.dicom import find_dicoms, read_dicom, scan
from medtut.display import to_display
from medtut.errors import DicomError
from medtut.headers import elements
from medtut.identity import deidentify, identifying_elements
from medtut.orientation import orientation, pixel_aspect
from medtut.units import pixel_unit, pixels, suv

bundled = sorted((Path(pydicom.__file__).parent/'data'/'test_files').rglob('*.dcm'))
pytestmark = pytest.mark.filterwarnings('ignore')

def pixel_start(raw):
    "Offset of the first pixel byte, or `None`"
    at = max(raw.rfind(b'\xe0\x7f\x10\x00'), raw.rfind(b'\x7f\xe0\x00\x10'))
    return at + 12 if 0 <= at < len(raw) - 13 else None

def truncated(raw, rng): return damage.cut(raw, rng)

def flipped(raw, rng):
    return damage.flipped(raw, rng, count=50)

def flipped_pixels(raw, rng):
    start = pixel_start(raw)
    return None if start is None else damage.flipped(raw, rng, start=start, count=50)

def upright(ds): return to_display(ds, upright=True)

USES = (elements, pixels, to_display, upright, orientation, pixel_unit, pixel_aspect, suv,
        identifying_elements, deidentify)

def use(path):
    """All that a caller may do with one file; `DicomError` is the one way to fail.

    The seconds of the slowest call."""
    slowest = 0
    def timed(f, x):
        nonlocal slowest
        start = time.perf_counter()
        try: return f(x)
        except DicomError as e: assert str(e)
        finally: slowest = max(slowest, time.perf_counter() - start)
    ds = timed(read_dicom, path)
    if ds is not None:
        for f in USES: timed(f, ds)
    return slowest

class Memory(NamedTuple):
    "GiB"
    own: float    # the most that this process has held since its peak was last forgotten
    child: float  # the most that any child of it ever held

def held():
    "The `Memory` at its peak"
    status = Path('/proc/self/status')
    own = int(re.search(r'VmHWM:\s+(\d+)', status.read_text())[1]) if status.exists() else 0
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Memory(own/2**20, child/2**20)

def reset_peak():
    "Forget how much memory earlier tests took, where the platform can; what is held now"
    peak = Path('/proc/self/clear_refs')
    if peak.exists(): peak.write_text('5')
    return held()

def peak_gib(start):
    """The most memory that this process has taken beyond what it held at `start`.

    Or what a child has, if it held more than any before: a forked one begins with its parent's."""
    now = held()
    by_child = now.child - start.own if now.child > start.child else 0
    return max(now.own - start.own, by_child)

TIMES = 3 if damage.FUZZ == 1 else 8*damage.FUZZ

@pytest.mark.parametrize('way', [truncated, flipped, flipped_pixels])
def test_every_bundled_file_damaged_three_times(way, tmp_path):
    "Each time in another way; `make fuzz` does it 160 times"
    assert len(bundled) == 79
    for source in bundled:
        raw = source.read_bytes()
        for i in range(TIMES):
            bad = way(raw, random.Random(f'{source.name} {i}'))
            if bad is not None:
                (tmp_path/f'{source.stem}_{i:02}.dcm').write_bytes(bad)
    paths = find_dicoms(tmp_path)
    start = reset_peak()
    slowest = max((use(path), path.name) for path in paths)
    df = scan(tmp_path, progress=False)
    assert list(df.path) == list(map(str, paths))
    # every row has a picture's statistics or a reason why not
    failed = df.error != ''
    has_reason = failed | df.note.str.contains('unreadable') | df.px_window.isna()
    assert (df.px_min.notna() | has_reason).all()
    assert failed.any()
    assert not failed.all()
    assert slowest[0] < 10, slowest
    if sys.platform == 'linux':
        assert peak_gib(start) < 4

def test_79_bundled_files_are_79_rows():
    df = scan(bundled, progress=False)
    assert len(df) == 79
    assert df.px_mean.notna().sum() >= 58
    assert ((df.error != '') == df.px_mean.isna()).all()
    assert not df.error.str.contains('\n').any()
    # what people do with a table
    for method in 'drop_duplicates', 'nunique', 'describe', 'to_csv':
        getattr(df, method)()
    df.groupby('Modality', dropna=False).px_mean.mean()
    df.value_counts('Rows')

@pytest.fixture
def odd(tmp_path):
    "A folder of things that are called .dcm"
    page = '<!DOCTYPE html><html><body>Sign in to download</body></html>'
    (tmp_path/'page.dcm').write_text(page)
    (tmp_path/'empty.dcm').touch()
    (tmp_path/'noise.dcm').write_bytes(random.Random(0).randbytes(1000))
    (tmp_path/'link.dcm').symlink_to(tmp_path/'gone.dcm')
    (tmp_path/'folder.dcm').mkdir()
    (tmp_path/'good.dcm').write_bytes(bundled[1].read_bytes())
    (tmp_path/'locked.dcm').write_bytes(bundled[1].read_bytes())
    (tmp_path/'locked.dcm').chmod(0)
    return tmp_path

def test_odd_files_are_rows_with_a_reason(odd):
    df = scan(odd, progress=False)
    error = df.error.set_axis([Path(path).name for path in df.path])
    assert error['page.dcm'].count('a web page') == 1
    assert 'empty' in error['empty.dcm']
    assert 'link' in error['link.dcm']
    assert 'not a DICOM file' in error['noise.dcm']
    assert error['good.dcm'] == ''
    assert 'folder.dcm' not in error
    for path in odd.iterdir(): use(path)
    with pytest.raises(DicomError, match='not a file'):
        read_dicom(odd/'folder.dcm')
    with pytest.raises(DicomError, match='no such file'):
        read_dicom(odd/'gone.dcm')
    with pytest.raises(DicomError, match='not a folder'):
        find_dicoms(odd/'gone')

def look_as_nobody(odd):
    "0 if somebody without rights is told of a permission; in a process of its own, which ends"
    for folder in [odd, *odd.parents]:
        status = folder.stat()
        if status.st_uid == 0 and str(folder) != '/':
            folder.chmod(status.st_mode | 0o055)
    os.setuid(65534)
    try: read_dicom(odd/'locked.dcm')
    except DicomError as e:
        is_listed = (odd/'locked.dcm') in find_dicoms(odd)
        return 0 if 'permission' in str(e) and is_listed else 1
    return 2

def test_a_file_without_read_permission(odd):
    if os.access(odd/'locked.dcm', os.R_OK):
        if os.geteuid() != 0:
            pytest.skip('this file system keeps no permissions')
        # root reads everything: look as somebody who does not
        child = os.fork()
        if not child:
            os._exit(look_as_nobody(odd))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        with pytest.raises(DicomError, match='permission'):
            read_dicom(odd/'locked.dcm')

def by_name(name):
    return next(path for path in bundled if path.name == name)

def ct(): return read_dicom(bundled[1])

def test_more_pixels_than_the_file_can_hold_are_refused_before_allocation():
    ds = ct()
    ds.Rows = ds.Columns = 60000
    too_many = 'more than the .* bytes of pixel data can hold'
    with pytest.raises(DicomError, match=too_many):
        pixels(ds)
    ds = read_dicom(by_name('MR_small_RLE.dcm'))
    ds.NumberOfFrames = 10**6
    with pytest.raises(DicomError, match='can hold'):
        to_display(ds)

def test_a_black_colour_frame_may_be_very_small():
    """Subsampled colours and Huffman tables made for the frame: two bits a block of 64, of which
    six stand for 256 pixels of three samples (ITU-T T.81 A.2.3, F.1.2)"""
    buffer = io.BytesIO()
    black = Image.fromarray(np.zeros((2048, 2048, 3), np.uint8))
    black.save(buffer, 'JPEG', optimize=True, subsampling='4:2:0')
    ds = read_dicom(by_name('SC_rgb_jpeg_dcmtk.dcm'))
    ds.Rows = ds.Columns = 2048
    ds.NumberOfFrames = 1
    ds.PhotometricInterpretation = 'YBR_FULL_422'
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds['PixelData'].VR, ds['PixelData'].is_undefined_length = 'OB', True
    assert not to_display(ds).any()

def test_the_limit_can_be_set():
    with pytest.raises(DicomError, match='max_bytes=1,000'):
        pixels(ct(), max_bytes=1000)
    assert pixels(ct(), max_bytes=128*128*4).shape == (128, 128)
    ds = read_dicom(by_name('693_J2KI.dcm'))
    ds.Rows, ds.Columns = 60000, 30000
    with pytest.raises(DicomError, match='max_bytes'):
        pixels(ds)

def test_a_deflated_bomb_is_refused(tmp_path):
    ds = read_dicom(by_name('image_dfl.dcm').read_bytes())
    head = pydicom.filebase.DicomBytesIO()
    head.write(b'\0'*128 + b'DICM')
    pydicom.filewriter.write_file_meta_info(head, ds.file_meta)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = [packer.compress(bytes(2**24)) for _ in range(20)]
    path = tmp_path/'bomb.dcm'
    path.write_bytes(b''.join([head.getvalue(), *packed, packer.flush()]))
    with pytest.raises(DicomError, match='unpacks to more than'):
        read_dicom(path, max_bytes=2**28)
    assert scan([path], max_bytes=2**28, progress=False).error[0].count('unpacks')

@pytest.mark.parametrize('decoder, says', [
    (bad_decoders.crash, 'crashed'),
    (bad_decoders.hang, 'took more than 4 s of processor time and was stopped'),
    (bad_decoders.swell, 'MemoryError')])
def test_a_bad_decoder_takes_its_worker_not_the_caller(monkeypatch, decoder, says):
    "One that crashes, hangs or swells"
    path = by_name('MR_small_RLE.dcm')
    good = pixels(read_dicom(path))
    # one that hangs is waited for
    paths = [path] if decoder is bad_decoders.hang else [path, path]
    with monkeypatch.context() as m:
        m.setattr(decoding, '_decode_numbers', decoder)
        df = scan(paths, progress=False)
    assert df.error.str.contains(says).all()
    assert np.array_equal(pixels(read_dicom(path)), good)

def test_a_decoder_that_waits_for_ever_is_stopped(monkeypatch):
    path = by_name('MR_small_RLE.dcm')
    monkeypatch.setattr(decoding, '_PATIENCE', .5)
    with monkeypatch.context() as m:
        m.setattr(decoding, '_decode_numbers', bad_decoders.wait)
        with pytest.raises(DicomError, match='gave no answer in 2 s'): pixels(read_dicom(path))
    assert pixels(read_dicom(path)).size

def test_a_machine_with_too_much_to_do_stops_no_decoder(monkeypatch):
    "What counts is the decoder's processor time, not the clock"
    ds = read_dicom(by_name('MR_small_RLE.dcm'))
    good = pixels(ds)
    monkeypatch.setattr(decoding, '_decode_numbers', bad_decoders.decode_late)
    assert np.array_equal(pixels(ds), good)
