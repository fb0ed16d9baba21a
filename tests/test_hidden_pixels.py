"""What a copy without names keeps of pixels, where the header says little, or something wrong"""
import struct
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from test_more_frames import (
    PATTERNS,
    as_jpeg,
    contents,
    encoded,
    holding,
    in_items,
    segment,
    through_a_file,
)

from medtut.codestreams import ends_in_header, precision, without_comments
from medtut.dicom import read_dicom
from medtut.errors import DicomError
from medtut.identity import deidentify, identifying_elements
from medtut.pseudonyms import deidentify_files
from medtut.units import pixels

pytestmark = pytest.mark.filterwarnings('ignore')

NAME = b'MEIER ANNA  '
CODED = [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless, RLELossless]
each_coding = pytest.mark.parametrize('syntax', CODED, ids=lambda uid: uid.keyword)
# NumberOfFrames, and what is said of it; `...`: there is none
each_number = pytest.mark.parametrize('number, said', [
    (..., 'absent'), (None, 'empty or no number'), ('', 'empty or no number'), (0, '0'), (1, '1')])

def numbered(ds, number):
    "An image with this NumberOfFrames"
    if number is not ...: ds.add_new('NumberOfFrames', 'IS', number)
    return ds

def said_of(ds):
    "The copy, and what is said while it is made"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        clean = deidentify(ds)
    return clean, [str(w.message) for w in caught]

@each_number
def test_native_frames_beyond_a_number_that_is_none_are_cut(number, said):
    "PS3.3 C.7.6.6: a decoder takes one frame, and so does a copy"
    ds = numbered(holding(PATTERNS.tobytes(), None, ExplicitVRLittleEndian), number)
    clean, messages = said_of(ds)
    assert clean.PixelData == PATTERNS[0].tobytes()
    assert messages == [f'data set: 1 of 4 frames kept: NumberOfFrames is {said}; '
                        'set it to 4 if all of them belong to the image']

@pytest.mark.parametrize('number', [None, 0])
def test_native_pixels_with_no_samples_a_pixel_are_cut(number):
    ds = holding(PATTERNS[0].tobytes() + NAME, 1, ExplicitVRLittleEndian)
    ds.SamplesPerPixel = number
    clean, messages = said_of(ds)
    assert clean.PixelData == PATTERNS[0].tobytes()
    assert messages == []

@each_number
@each_coding
def test_compressed_frames_that_go_are_counted(syntax, number, said):
    for has_offsets in True, False:
        ds = numbered(holding(encapsulate(encoded(syntax), has_bot=has_offsets), None, syntax),
                      number)
        clean, messages = said_of(ds)
        assert len(contents(clean)) == 2
        assert messages == [f'data set: 1 of 4 frames kept: NumberOfFrames is {said}; '
                            'set it to 4 if all of them belong to the image']

def test_frames_of_several_fragments_are_counted():
    data = encapsulate(encoded(JPEG2000Lossless), fragments_per_frame=3)
    _, messages = said_of(holding(data, 3, JPEG2000Lossless))
    assert messages[0].startswith('data set: 3 of 4 frames kept: NumberOfFrames is 3')

def test_frames_of_colours_that_are_shared_are_counted():
    samples = np.random.default_rng(0).integers(1, 255, (3, 64, 64, 2), dtype=np.uint8)
    ds = holding(samples.tobytes(), 2, ExplicitVRLittleEndian)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, 'YBR_FULL_422'
    ds.PixelData = samples[:2].tobytes() + NAME
    assert said_of(ds)[1] == []

@each_coding
def test_nothing_is_said_of_frames_as_stated(syntax):
    assert said_of(holding(encapsulate(encoded(syntax)), 4, syntax))[1] == []

def test_the_table_says_how_many_frames_were_kept(tmp_path):
    "In later runs, too; and nothing among the copies leads back to the name"
    (tmp_path/'in').mkdir()
    path = tmp_path/'in'/'meier.dcm'
    ds = holding(encapsulate(encoded(JPEGBaseline8Bit)), None, JPEGBaseline8Bit)
    ds.save_as(path, enforce_file_format=True)
    for status in 'written', 'there already':
        table = deidentify_files(tmp_path/'in', tmp_path/'out', b'k'*16, n_jobs=1, progress=False)
        row = table.iloc[0]
        assert row.status == status
        assert row.note.startswith('1 of 4 frames kept: NumberOfFrames is absent; set it to 4')
    kept = b''.join(p.read_bytes() for p in (tmp_path/'out').rglob('*') if p.is_file())
    assert b'meier' not in kept

def in_native(data, syntax, stored, has_length):
    "Compressed pixels under a native syntax, with a length or, as they are written, without one"
    ds = holding(data, 1, ExplicitVRLittleEndian)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 if stored == 8 else 16, stored, stored - 1
    ds['PixelData'].is_undefined_length = not has_length
    if syntax is None: del ds.file_meta
    else: ds.file_meta.TransferSyntaxUID = syntax
    ds.filename = 'coded.dcm'
    return ds

@pytest.mark.parametrize('has_length', [False, True])
@pytest.mark.parametrize('stored', [8, 12])
@pytest.mark.parametrize('syntax', [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, None])
def test_compressed_pixels_under_a_native_syntax_are_refused(syntax, stored, has_length):
    "Before, with 12 of 16 bits, half of each second byte was made zero; with 8 a comment stayed"
    code = without_comments(as_jpeg(PATTERNS[0]))
    code = code[:2] + segment(b'\xff\xfe', NAME) + code[2:]
    for data in encapsulate([code]), encapsulate([code]) + b'\xfe\xff\xdd\xe0\0\0\0\0':
        ds = in_native(data, syntax, stored, has_length)
        with pytest.raises(DicomError) as e: deidentify(ds)
        for part in ('coded.dcm', 'PixelData lies in items', 'set file_meta.TransferSyntaxUID'):
            assert part in str(e.value)
        who = identifying_elements(ds)
        said = who.action[who.keyword == 'PixelData'].iloc[0]
        assert said.startswith('can not be cleared: its PixelData lies in items')
        if syntax is None: ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        assert NAME not in deidentify(ds).PixelData

def test_compressed_pixels_in_a_file_without_meta_information_are_refused():
    ds = holding(encapsulate(encoded(JPEGBaseline8Bit)[:1]), 1, JPEGBaseline8Bit)
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    pydicom.filewriter.write_dataset(buffer, ds)
    with pytest.raises(DicomError, match='set file_meta.TransferSyntaxUID'):
        deidentify(read_dicom(buffer.getvalue()))

def test_native_pixels_in_an_element_that_held_compressed_ones_are_native():
    "pydicom keeps what it noted of the length where a value is replaced"
    ds = holding(encapsulate(encoded(RLELossless)[:1]), 1, RLELossless)
    ds.PixelData, ds.file_meta.TransferSyntaxUID = PATTERNS[0].tobytes(), ExplicitVRLittleEndian
    assert ds['PixelData'].is_undefined_length
    assert deidentify(ds).PixelData == PATTERNS[0].tobytes()

def test_native_pixels_that_begin_as_an_item_are_native():
    x = PATTERNS[0].copy()
    x.ravel()[:8] = list(b'\xfe\xff\0\xe0\x10\0\0\0')
    ds = holding(x.tobytes(), 1, ExplicitVRLittleEndian)
    assert deidentify(ds).PixelData == x.tobytes()

@pytest.mark.parametrize('data', [b'\0\0\1\xb3 a stream', in_items(b'') + b'\0\0\1\xb3 a stream'])
def test_a_video_without_items_is_refused(data):
    "Before, the copy had no pixels"
    with pytest.raises(DicomError, match='no item .* set file_meta.TransferSyntaxUID'):
        deidentify(holding(data, 4, MPEG4HP41))

@each_coding
def test_offsets_without_frames_are_refused(syntax):
    with pytest.raises(DicomError, match='hold 0 frames, .* in no item|no item .* set file_meta'):
        deidentify(holding(in_items(b'') + encoded(syntax)[0], 1, syntax))

def without_end(code, has_length=True):
    "A JPEG 2000 codestream without its end; `has_length`: does its part state one?"
    code = code[:code.rindex(b'\xff\xd9')]
    if has_length: return code
    at = code.index(b'\xff\x90') + 6
    return code[:at] + bytes(4) + code[at + 4:]

@pytest.mark.parametrize('has_length', [True, False])
@pytest.mark.parametrize('between', [b'', b'\0', b'\0\0', b'\xff\x64', NAME])
def test_a_picture_behind_a_jpeg_2000_without_end_goes(between, has_length):
    "T.800 A.4.2: a part is as long as it says; where it does not say, another image begins later"
    shown, hidden = encoded(JPEG2000Lossless)[:2]
    shown = without_end(shown, has_length)
    clean = without_comments(shown + between + hidden)
    assert clean[:len(shown)] == shown
    behind = clean[len(shown):]
    if has_length: assert not behind.strip(b'\0')
    # up to the next image they are the part's own
    else: assert behind == between + bytes(len(hidden))

def test_parts_of_a_jpeg_2000_follow_each_other():
    "A second part of the tile, of 14 bytes, without packets"
    code = encoded(JPEG2000Lossless)[0]
    end = code.rindex(b'\xff\xd9')
    part = segment(b'\xff\x90', b'\0\0' + struct.pack('>L', 14) + b'\1\2') + b'\xff\x93'
    code = code[:end] + part + code[end:]
    assert without_comments(code + bytes(2)) == code + bytes(2)
    assert without_comments(code + NAME) == code + bytes(len(NAME))

def box(kind, content, has_long_length=False):
    "T.800 I.4"
    if has_long_length: return struct.pack('>L4sQ', 1, kind, 16 + len(content)) + content
    return struct.pack('>L4s', 8 + len(content), kind) + content

SIGNATURE = box(b'jP  ', b'\r\n\x87\n') + box(b'ftyp', b'jp2 \0\0\0\0jp2 ')

def jp2(code, *behind, name=bytes(12), has_long_length=False, is_open=False):
    "A file of JPEG 2000 around a codestream, with a name in boxes that no decoder reads"
    ihdr = box(b'ihdr', struct.pack('>2LH4B', 64, 64, 1, 7, 7, 0, 0))
    colours = box(b'colr', b'\1\0\0' + struct.pack('>L', 17))
    header = box(b'jp2h', ihdr + colours + box(b'uinf', name))
    inside = struct.pack('>L4s', 0, b'jp2c') + code if is_open else \
        box(b'jp2c', code, has_long_length)
    return b''.join([SIGNATURE, box(b'xml ', name), header, box(b'uuid', name*2), inside, *behind])

def with_comment(code, text):
    at = code.index(b'\xff\x52')
    return code[:at] + segment(b'\xff\x64', text) + code[at:]

@pytest.mark.parametrize('form', ['short', 'long', 'open'])
def test_what_stands_in_boxes_of_jpeg_2000_is_made_zero(form):
    code, hidden = encoded(JPEG2000Lossless)[:2]
    options = dict(has_long_length=form == 'long', is_open=form == 'open')
    named = jp2(with_comment(code, NAME) + hidden, name=NAME, **options)
    plain = jp2(with_comment(code, bytes(12)) + bytes(len(hidden)), **options)
    assert without_comments(named) == plain
    ds = holding(in_items(b'', named + bytes(len(named) % 2)), 1, JPEG2000Lossless)
    clean = through_a_file(deidentify(ds))
    assert NAME not in clean.PixelData
    np.testing.assert_array_equal(pixels(clean), PATTERNS[0])

@pytest.mark.parametrize('behind', ['a box', 'another codestream', 'no box', 'padding'])
def test_what_follows_a_codestream_in_its_box_is_made_zero(behind):
    code, hidden = encoded(JPEG2000Lossless)[:2]
    bytes_behind = {'a box': box(b'xml ', NAME), 'another codestream': box(b'jp2c', hidden),
                    'no box': hidden, 'padding': bytes(2)}[behind]
    clean = without_comments(jp2(code, bytes_behind))
    assert clean.startswith(jp2(code)) and len(clean) == len(jp2(code)) + len(bytes_behind)
    assert not clean[len(jp2(code)) + 8:].strip(b'\0')
    ds = holding(in_items(b'', clean + bytes(len(clean) % 2)), 1, JPEG2000Lossless)
    np.testing.assert_array_equal(pixels(ds), PATTERNS[0])

@pytest.mark.parametrize('code', [
    SIGNATURE, SIGNATURE + box(b'xml ', NAME), SIGNATURE + b'\0\0\0\4jp2c' + NAME,
    SIGNATURE + box(b'jp2c', NAME), SIGNATURE + box(b'jp2c', as_jpeg(PATTERNS[0]))])
def test_boxes_without_a_codestream_are_refused(code):
    assert without_comments(code) is None
    with pytest.raises(DicomError, match='frame 0, .* does not begin as'):
        deidentify(holding(in_items(b'', code), 1, JPEG2000Lossless))

def test_boxes_hide_no_precision_and_no_beginning():
    code = encoded(JPEG2000Lossless)[0]
    assert precision(jp2(code)) == precision(code) == 8
    whole = jp2(code)
    before = whole[:whole.index(code)]
    assert ends_in_header(before) and ends_in_header(SIGNATURE)
    assert not ends_in_header(whole)
    # a file in two fragments, cut where its codestream begins
    ds = holding(in_items(b'', before, code), 1, JPEG2000Lossless)
    assert contents(deidentify(ds))[1:] == [before, code]
    # 6 bits of 8 that the codestream has
    ds.BitsStored, ds.HighBit = 6, 5
    clean = deidentify(ds)
    assert clean.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert clean.PixelData == (PATTERNS[0] & 0x3f).tobytes()

@pytest.mark.parametrize('marker, needed', [
    (0xe0, b'JFIF\0\1\1\0\0\1\0\1\0\0'), (0xe8, b'mrfx\1'), (0xee, b'Adobe\0\x64\0\0\0\0\1'),
    (0xe0, b''), (0xe8, b''), (0xee, b''), (0xe1, b'')])
def test_application_data_keeps_what_a_decoder_reads(marker, needed):
    "ITU-T T.871, T.872 6.5.3: Adobe's segment has 12 bytes"
    code = as_jpeg(PATTERNS[0])
    def with_data(content): return code[:2] + segment(bytes([0xff, marker]), content) + code[2:]
    assert without_comments(with_data(needed + NAME)) == with_data(needed + bytes(len(NAME)))
    assert without_comments(with_data(needed)) == with_data(needed)

@pytest.mark.parametrize('syntax', [
    '1.2.840.10008.1.2.1.98', '1.2.840.10008.1.2.8.1', '1.2.840.10008.1.2.4.110', MPEG4HP41,
    '1.3.46.670589.33.1.4.1'])
def test_a_coding_that_is_not_looked_into_is_named(syntax):
    ds = holding(in_items(b'', NAME), 1, UID(syntax))
    clean, messages = said_of(ds)
    assert clean.PixelData == ds.PixelData
    assert messages == [f'data set: pixels in {UID(syntax).name} stay as they are: '
                        'comments in them are not looked for']

def test_a_syntax_that_is_none_is_not_quoted():
    ds = holding(in_items(b'', NAME), 1, UID('MEIER', validation_mode=0))
    assert [m for m in said_of(ds)[1] if 'MEIER' in m] == []
