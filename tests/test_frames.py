"""More frames than `NumberOfFrames` states: the first are read, and a warning says so.

The header is what all else goes by (PS3.3 C.7.6.6.1.1): the places of slices, `frame=`, shapes."""
import io
import tracemalloc
import warnings

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from medtut import stored_bits
from medtut.decoding import stored_values
from medtut.dicom import read_dicom, scan
from medtut.errors import DicomError
from medtut.fragments import items
from medtut.layout import ImageLayout, more_frames

frames = np.stack([np.full((64, 64), 10*(i + 1), np.uint8) for i in range(4)])

def as_jpeg(x):
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, 'JPEG')
    return buffer.getvalue()

def by_run_lengths(x):
    options = dict(rows=64, columns=64, samples_per_pixel=1, bits_allocated=8, bits_stored=8,
                   number_of_frames=1, pixel_representation=0,
                   photometric_interpretation='MONOCHROME2', planar_configuration=0)
    return get_encoder(RLELossless).encode(x, **options)

def encoder(syntax):
    return {JPEGBaseline8Bit: as_jpeg, JPEG2000Lossless: encode_array,
            RLELossless: by_run_lengths}[syntax]

def data_set(path, stated, syntax=ExplicitVRLittleEndian, has_offsets=True, fragments=1, held=4):
    "A file that holds several frames and states fewer; `None`: none"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, '1.2.3'
    ds.Rows = ds.Columns = 64
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 7, 0, 1
    ds.PhotometricInterpretation = 'MONOCHROME2'
    if stated is not None: ds.NumberOfFrames = stated
    if syntax.is_encapsulated:
        encoded = [encoder(syntax)(x) for x in frames[:held]]
        ds.PixelData = encapsulate(encoded, fragments_per_frame=fragments, has_bot=has_offsets)
    else: ds.PixelData = frames[:held].tobytes()
    ds['PixelData'].VR = 'OB'
    ds['PixelData'].is_undefined_length = syntax.is_encapsulated
    ds.save_as(path, enforce_file_format=True)
    return read_dicom(path)

def read(ds, **kwargs):
    "The values, and what was said"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        values = stored_values(ds, **kwargs).values
    return values, [str(w.message) for w in caught]

def is_said(stated):
    "What a message says of the number: one that is absent is not called a 1 that was found"
    return 'counts as 1' if stated in (None, 1) else f'is {stated}'

each_syntax = pytest.mark.parametrize(
    'syntax', [ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless, RLELossless],
    ids=['native', 'JPEG', 'JPEG 2000', 'RLE'])

@pytest.mark.parametrize('has_offsets', [True, False])
@pytest.mark.parametrize('stated', [None, 1, 3])
@each_syntax
def test_more_frames_than_stated(tmp_path, syntax, stated, has_offsets):
    path = tmp_path/'more.dcm'
    ds = data_set(path, stated, syntax, has_offsets)
    both = (f'NumberOfFrames {is_said(stated)}, and the pixel data holds 4 frames; '
            'set it to 4 if all of them belong to the image')
    if syntax == RLELossless and stated == 3 and not has_offsets:
        # pydicom (3.0.2) does not part them
        with pytest.raises(DicomError, match=f'{path}: .*{both}'): stored_values(ds)
        return
    values, said = read(ds)
    right = frames[:stated] if stated == 3 else frames[0]
    np.testing.assert_allclose(values, right, atol=1 if syntax == JPEGBaseline8Bit else 0)
    # four times as long as stated, native data may have longer numbers
    if syntax == ExplicitVRLittleEndian and stated != 3:
        both += (', or, if its numbers are longer, BitsAllocated to 32, '
                 'and BitsStored and HighBit with it')
    are_read = 'only the first 3 are read' if stated == 3 else 'only the first is read'
    assert said == [f'{path}: {both}; {are_read}']

@each_syntax
def test_set_as_the_warning_says(tmp_path, syntax):
    ds = data_set(tmp_path/'more.dcm', 3, syntax)
    ds.NumberOfFrames = 4
    values, said = read(ds)
    assert len(values) == 4
    assert not said

@pytest.mark.parametrize('syntax', [JPEGBaseline8Bit, JPEG2000Lossless])
@pytest.mark.parametrize('has_offsets', [True, False])
def test_fragments_of_one_frame_are_no_frames(tmp_path, syntax, has_offsets):
    values, said = read(data_set(tmp_path/'one.dcm', 1, syntax, has_offsets, fragments=3, held=1))
    np.testing.assert_allclose(values, frames[0], atol=1)
    assert not said

def test_one_frame_of_more(tmp_path):
    "It is the one asked for; native ones are counted all the same"
    path = tmp_path/'more.dcm'
    values, said = read(data_set(path, 3), frame=2)
    np.testing.assert_array_equal(values, frames[2])
    assert said == [f'{path}: NumberOfFrames is 3, and the pixel data holds 4 frames; '
                    'set it to 4 if all of them belong to the image; '
                    'frame 2, counted from 0, is read']

@pytest.mark.parametrize('syntax', [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless])
def test_one_compressed_frame_is_read_without_a_look_at_the_others(tmp_path, syntax):
    values, said = read(data_set(tmp_path/'more.dcm', 3, syntax), frame=2)
    np.testing.assert_allclose(values, frames[2], atol=1)
    assert not said

@pytest.mark.parametrize('syntax', [JPEGBaseline8Bit, JPEG2000Lossless])
def test_a_frame_of_a_truncated_file_is_read(tmp_path, syntax):
    "Nine fragments of three frames, no table of offsets, and ten frames in the header"
    ds = data_set(tmp_path/'short.dcm', 10, syntax, has_offsets=False, fragments=3, held=3)
    for i in range(3):
        np.testing.assert_allclose(read(ds, frame=i)[0], frames[i], atol=1)

@pytest.mark.parametrize('syntax', [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize('at, byte', [(0, 0), (7, 0x7f), (8, 0), (9, 0)])
def test_a_damaged_first_frame_spoils_no_other(tmp_path, syntax, at, byte):
    "Its item's tag, its length, or the beginning of its bits"
    ds = data_set(tmp_path/'damaged.dcm', 4, syntax)
    data = bytearray(ds.PixelData)
    # behind the item of the table: a header of 8 bytes, and 4 offsets
    data[8 + 4*4 + at] = byte
    ds.PixelData = bytes(data)
    np.testing.assert_allclose(read(ds, frame=2)[0], frames[2], atol=1)

def layout_of(*contents, syntax=JPEGBaseline8Bit):
    "A layout whose pixel data has these items"
    data = b''.join(b'\xfe\xff\0\xe0' + len(x).to_bytes(4, 'little') + x for x in contents)
    return ImageLayout('made', syntax, dict(number_of_frames=len(contents) - 1), 7, data, False)

def test_what_a_codestream_says_is_read_from_as_little_as_needed(monkeypatch):
    code, seen = as_jpeg(frames[0]), []
    def counted(*args):
        for item in items(*args):
            seen.append(len(item))
            yield item
    monkeypatch.setattr(stored_bits, 'items', counted)
    def first(*contents, syntax=JPEGBaseline8Bit):
        seen.clear()
        return stored_bits._first_codestream(layout_of(*contents, syntax=syntax)).precision
    assert first(b'', *[code]*1000) == 8
    assert len(seen) == 2
    assert first(b'', *[by_run_lengths(frames[0])]*1000, syntax=RLELossless) is None
    assert not seen
    # a header may be cut anywhere, and stand behind an empty fragment
    assert first(b'', b'', code[:40], code[40:90], code[90:]) == 8
    # what never begins costs no more than to look at it
    assert first(b'', *[code[:10], *[b'more']*1000]) is None
    assert len(seen) == 1002

def native(path, pixels, stated, bits):
    "A file whose pixels are other than its header says"
    ds = data_set(path, stated)
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelData = pixels.tobytes()
    return ds

@pytest.mark.parametrize('stated', [1, 2])
def test_longer_numbers_look_like_more_frames(tmp_path, stated):
    "What the message says to do works"
    x = np.arange(stated*64*64, dtype='<u2').reshape(stated, 64, 64) + 1000
    path = tmp_path/'long.dcm'
    ds = native(path, x, stated, 8)
    are_read = 'only the first is read' if stated == 1 else f'only the first {stated} are read'
    assert read(ds)[1] == [
        f'{path}: NumberOfFrames {is_said(stated)}, and the pixel data holds {2*stated} frames; '
        f'set it to {2*stated} if all of them belong to the image, or, if its numbers are longer, '
        f'BitsAllocated to 16, and BitsStored and HighBit with it; {are_read}']
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    values, said = read(ds)
    np.testing.assert_array_equal(values, x.squeeze())
    assert not said

def test_colours_look_like_more_frames(tmp_path):
    "What the message says to do works"
    x = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    path = tmp_path/'colour.dcm'
    ds = native(path, x, 1, 8)
    assert read(ds)[1] == [
        f'{path}: NumberOfFrames counts as 1, and the pixel data holds 3 frames; '
        'set it to 3 if all of them belong to the image, or, if it is in colour, '
        'SamplesPerPixel to 3, and PhotometricInterpretation with it; only the first is read']
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, 'RGB'
    values, said = read(ds)
    np.testing.assert_array_equal(values, x)
    assert not said

def test_counting_holds_one_fragment_at_a_time():
    "Not a copy of all pixel data"
    frame = b'\xff\x4f\xff\x51' + bytes(2**20)
    data = encapsulate([frame]*32, has_bot=False)
    options = dict(number_of_frames=1)
    layout = ImageLayout('many', JPEG2000Lossless, options, 7, data, False)
    tracemalloc.start()
    assert 'holds 32 frames' in more_frames(layout)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4*len(frame)

@pytest.mark.parametrize('rows, columns, bits', [(1, 1, 8), (3, 1, 1), (3, 3, 1)])
def test_what_makes_a_length_even_is_no_frame(rows, columns, bits):
    "A byte behind the pixels has room for several frames of a bit (PS3.5 8.1.1)"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
    ds.BitsAllocated = ds.BitsStored = bits
    ds.PhotometricInterpretation = 'MONOCHROME2'
    ds.add_new('PixelData', 'OB', b'\1\0')
    values, said = read(ds)
    assert values.shape == (rows, columns)
    assert not said

def test_scan_has_a_note(tmp_path):
    for syntax in ExplicitVRLittleEndian, JPEG2000Lossless:
        data_set(tmp_path/f'{syntax}.dcm', 3, syntax)
    table = scan(tmp_path, progress=False)
    note = ('NumberOfFrames is 3, and the pixel data holds 4 frames; '
            'set it to 4 if all of them belong to the image; only the first 3 are read')
    for path, said in zip(table.path, table.note):
        assert said.removeprefix(f'{path}: ') == note
    assert (table.px_max == 30).all()
