"""Frames and pixels of which no picture is made: a copy without names holds none of them.

A frame's compressed bits lie in one fragment or more, and the first item holds each frame's offset
(PS3.5 A.4); NumberOfFrames says how many belong to the image (PS3.3 C.7.6.6.1.1)."""
import io
import struct
from itertools import pairwise

import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_fragments
from pydicom.pixels import get_encoder
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medtut.codestreams import _begins_image
from medtut.dicom import read_dicom
from medtut.errors import DicomError
from medtut.fragments import encapsulated, stated_frames
from medtut.identity import deidentify, identifying_elements
from medtut.units import pixels

pytestmark = pytest.mark.filterwarnings('ignore')

SHAPE = 64, 64
PATTERNS = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)

def as_jpeg(x):
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, 'JPEG')
    return buffer.getvalue()

def as_jpeg_2000(x):
    "Its comment names OpenJPEG, and would be cleared: it is zero from the start"
    code = bytearray(encode_array(x))
    at = code.index(b'\xff\x64')
    length, = struct.unpack_from('>H', code, at + 2)
    code[at + 4:at + 2 + length] = bytes(length - 2)
    return bytes(code)

def by_pydicom(x, syntax):
    options = dict(rows=x.shape[0], columns=x.shape[1], samples_per_pixel=1, bits_stored=8,
                   bits_allocated=8, number_of_frames=1, pixel_representation=0,
                   photometric_interpretation='MONOCHROME2', planar_configuration=0)
    return get_encoder(syntax).encode(x, **options)

ENCODERS = {
    JPEGBaseline8Bit: as_jpeg,
    JPEG2000Lossless: as_jpeg_2000,
    JPEGLSLossless: lambda x: by_pydicom(x, JPEGLSLossless),
    RLELossless: lambda x: by_pydicom(x, RLELossless)}
each_syntax = pytest.mark.parametrize('syntax', ENCODERS, ids=lambda uid: uid.keyword)
# run lengths take one fragment a frame (PS3.5 A.4.2)
each_jpeg = pytest.mark.parametrize(
    'syntax', [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.keyword)

def even(code): return code + bytes(len(code) % 2)

def encoded(syntax):
    "Four frames, each of an even number of bytes"
    return [even(ENCODERS[syntax](x)) for x in PATTERNS]

def in_items(*contents):
    "Encapsulated pixel data, written out by hand (PS3.5 Table A.4-1)"
    return b''.join(b'\xfe\xff\0\xe0' + struct.pack('<L', len(x)) + x for x in contents)

def holding(data, stated, syntax):
    "An image with this pixel data; `stated`: NumberOfFrames, `None` for none"
    ds, ds.file_meta = Dataset(), FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.Modality = CTImageStorage, 'CT'
    ds.SOPInstanceUID = ds.StudyInstanceUID = ds.SeriesInstanceUID = generate_uid()
    ds.PatientID, ds.PatientName = 'p1', 'Test^A'
    ds.Rows, ds.Columns = SHAPE
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 7, 0, 1
    ds.PhotometricInterpretation = 'MONOCHROME2'
    if stated is not None: ds.NumberOfFrames = stated
    ds.add_new('PixelData', 'OB', data)
    ds['PixelData'].is_undefined_length = syntax != ExplicitVRLittleEndian
    return ds

def through_a_file(ds):
    buffer = io.BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return read_dicom(buffer.getvalue())

def actions(ds):
    who = identifying_elements(ds)
    said = who.action[who.keyword == 'PixelData'].tolist()
    return [action for action in said if action != 'check the picture']

def contents(ds):
    "The content of each item, offsets first"
    return list(generate_fragments(ds.PixelData))

def check(ds, kept, offsets):
    "The copy of `ds` has these fragments and offsets, and nothing is left to do"
    clean = deidentify(through_a_file(ds))
    table, *fragments = contents(clean)
    assert fragments == kept
    assert list(struct.unpack(f'<{len(table)//4}L', table)) == offsets
    assert clean.PixelData == in_items(table, *kept)
    again = through_a_file(clean)
    assert again.PixelData == clean.PixelData
    assert actions(again) == []
    assert deidentify(again).PixelData == clean.PixelData
    return again

@pytest.mark.parametrize('has_offsets', [True, False])
@pytest.mark.parametrize('stated', [None, 1, 2, 3])
@each_syntax
def test_frames_beyond_their_number_are_cut(syntax, stated, has_offsets):
    n, frames = stated or 1, encoded(syntax)
    ds = holding(encapsulate(frames, has_bot=has_offsets), stated, syntax)
    assert actions(ds) == ['cut behind the last frame']
    # an item's header has 8 bytes
    offsets = np.cumsum([0, *(8 + len(x) for x in frames[:n - 1])]).tolist()
    clean = check(ds, frames[:n], offsets if has_offsets else [])
    tolerance = 60 if syntax == JPEGBaseline8Bit else 0
    np.testing.assert_allclose(pixels(clean), PATTERNS[:n].squeeze(), atol=tolerance)

@pytest.mark.parametrize('has_offsets', [True, False])
@each_syntax
def test_frames_as_stated_stay_byte_for_byte(syntax, has_offsets):
    ds = holding(encapsulate(encoded(syntax), has_bot=has_offsets), 4, syntax)
    assert deidentify(through_a_file(ds)).PixelData == ds.PixelData
    assert actions(ds) == []

@pytest.mark.parametrize('has_offsets', [True, False])
@pytest.mark.parametrize('stated', [1, 2])
@each_jpeg
def test_a_frame_of_several_fragments_keeps_them(syntax, stated, has_offsets):
    "PS3.5 A.4: a frame may span several fragments"
    frames = encoded(syntax)
    data = encapsulate(frames, fragments_per_frame=3, has_bot=has_offsets)
    _, *fragments = generate_fragments(data)
    ds = holding(data, stated, syntax)
    second = sum(8 + len(x) for x in fragments[:3])
    # where a reader would have to guess which fragments are whose, there is a table in any case
    needs_offsets = has_offsets or stated > 1
    offsets = [0, second][:stated] if needs_offsets else []
    check(ds, fragments[:3*stated], offsets)

@pytest.mark.parametrize('table', [b'', bytes(4)])
def test_a_small_picture_in_a_header_is_no_frame(table):
    "PS3.5 A.4: fragments are cut anywhere, also in front of a picture in APP1 (T.81 B.2.4.6)"
    buffer = io.BytesIO()
    small = as_jpeg(PATTERNS[1][:8, :8])
    Image.fromarray(PATTERNS[0]).save(buffer, 'JPEG', exif=b'Exif\0\0' + small)
    code = even(buffer.getvalue())
    at = code.index(b'Exif') + 6
    clean = deidentify(holding(in_items(table, code[:at], code[at:]), 1, JPEGBaseline8Bit))
    np.testing.assert_array_equal(pixels(clean), np.asarray(Image.open(buffer)))
    assert small[20:] not in clean.PixelData

@each_syntax
def test_frames_within_the_last_by_the_table_are_cut(syntax):
    "Two offsets and four frames: a reader joins the last three, and decodes the first of these"
    frames = encoded(syntax)
    second = 8 + len(frames[0])
    ds = holding(in_items(struct.pack('<2L', 0, second), *frames), 2, syntax)
    check(ds, frames[:2], [0, second])

@each_jpeg
def test_a_second_picture_in_the_same_fragment_is_made_zero(syntax):
    "ITU-T T.81 B.1.1.3, T.800 A.4.4: an image ends with the first marker of an end"
    shown, hidden, *_ = encoded(syntax)
    clean = check(holding(in_items(b'', shown + hidden), 1, syntax),
                  [shown + bytes(len(hidden))], [])
    assert hidden[20:] not in clean.PixelData

@each_jpeg
def test_a_second_picture_in_the_same_fragment_of_each_frame(syntax):
    one, two, three, four = encoded(syntax)
    ds = holding(encapsulate([one + three, two + four]), 2, syntax)
    kept = [one + bytes(len(three)), two + bytes(len(four))]
    check(ds, kept, [0, 8 + len(kept[0])])
    assert actions(ds) == ['clear comments']

def segment(marker, content): return bytes(marker) + struct.pack('>H', 2 + len(content)) + content

@pytest.mark.parametrize('has_length', [True, False])
def test_what_looks_like_an_end_within_jpeg_2000_ends_nothing(has_length):
    "T.800 A.4.2: Psot is the length of a part, 0 for one up to the end; A.7.3: PLT may hold FF D9"
    code = ENCODERS[JPEG2000Lossless](PATTERNS[0])
    start = code.index(b'\xff\x90')
    data = code.index(b'\xff\x93', start)
    packets = segment(b'\xff\x58', b'\0\xff\xd9\x01')
    length = struct.unpack_from('>L', code, start + 6)[0] + len(packets) if has_length else 0
    header = code[start:start + 6] + struct.pack('>L', length) + code[start + 10:start + 12]
    code = even(code[:start] + header + code[start + 12:data] + packets + code[data:])
    shown, hidden = code, even(ENCODERS[JPEG2000Lossless](PATTERNS[1]))
    ds = holding(in_items(b'', shown), 1, JPEG2000Lossless)
    np.testing.assert_array_equal(pixels(ds), PATTERNS[0])
    assert deidentify(ds).PixelData == ds.PixelData
    check(holding(in_items(b'', shown + hidden), 1, JPEG2000Lossless),
          [shown + bytes(len(hidden))], [])

def test_scans_behind_the_first_belong_to_the_image():
    "A progressive JPEG has several scans, with tables between them (ITU-T T.81 B.2.1)"
    buffer = io.BytesIO()
    Image.fromarray(PATTERNS[0]).save(buffer, 'JPEG', progressive=True, restart_marker_rows=1)
    shown, hidden = even(buffer.getvalue()), even(as_jpeg(PATTERNS[1]))
    assert shown.count(b'\xff\xda') > 2 and shown.count(b'\xff\xd0') > 2
    ds = holding(in_items(b'', shown + hidden), 1, JPEGBaseline8Bit)
    check(ds, [shown + bytes(len(hidden))], [])

def test_a_picture_without_an_end_ends_where_another_begins():
    shown, hidden = encoded(JPEGBaseline8Bit)[:2]
    shown = even(shown[:shown.rindex(b'\xff\xd9')].rstrip(b'\xff'))
    ds = holding(in_items(b'', shown + hidden), 1, JPEGBaseline8Bit)
    assert contents(deidentify(ds))[1].rstrip(b'\0') == shown.rstrip(b'\0')

NAME = b'MEIER ANNA '

@pytest.mark.parametrize('behind', [
    b'\xfe\xff\xdd\xe0\0\0\0\0' + NAME + NAME,  # of a sequence's delimiter
    NAME + NAME])
@each_syntax
def test_what_follows_the_last_item_is_cut(syntax, behind):
    frames = encoded(syntax)
    plain = encapsulate(frames)
    ds = holding(plain + behind, 4, syntax)
    assert actions(ds) == ['cut behind the last frame']
    assert deidentify(ds).PixelData == plain

@each_syntax
def test_a_fragment_of_something_else_says_nothing(syntax):
    frames = encoded(syntax)[:2]
    ds = holding(in_items(b'', *frames, NAME + b' '), 2, syntax)
    assert deidentify(ds).PixelData == in_items(b'', *frames)

@pytest.mark.parametrize('table', [
    b'MEIER ANNA  ',                     # no offsets at all
    struct.pack('<2L', 0, 11),           # one that points into a frame
    struct.pack('<2L', 0, 2**31),        # one that points behind all of them
    struct.pack('<2L', 1, 0),
    struct.pack('<L', 0)])               # fewer than there are frames
@each_syntax
def test_offsets_that_fit_nothing_are_put_right(syntax, table):
    "PS3.5 A.4: the first byte of the item tag of each frame's first fragment"
    frames = encoded(syntax)[:2]
    ds = holding(in_items(table, *frames), 2, syntax)
    assert actions(ds) == ['put offsets right']
    check(ds, frames, [0, 8 + len(frames[0])])

@pytest.mark.parametrize('shorter', [0, 1])
@each_syntax
def test_the_extended_table_is_cut_with_the_frames(syntax, shorter):
    "PS3.3 C.7.6.3.1.8: offsets and lengths of 64 bits, a fragment a frame; Basic table empty"
    frames = encoded(syntax)
    data, offsets, lengths = encapsulate_extended(frames)
    ds = holding(data, 2, syntax)
    sizes = [n - shorter for n in struct.unpack('<4Q', lengths)]
    ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, struct.pack('<4Q', *sizes)
    clean = check(ds, frames[:2], [])
    assert clean.ExtendedOffsetTable == struct.pack('<2Q', 0, 8 + len(frames[0]))
    assert clean.ExtendedOffsetTableLengths == struct.pack('<2Q', *sizes[:2])
    who = identifying_elements(ds)
    said = who.action[who.keyword.str.startswith('ExtendedOffset')]
    assert said.tolist() == ['put offsets right']*2
    # a whole one stays
    ds.NumberOfFrames = 4
    assert deidentify(ds).ExtendedOffsetTable == offsets
    assert deidentify(ds).ExtendedOffsetTableLengths == ds.ExtendedOffsetTableLengths

def test_names_in_the_extended_table_go():
    frames = encoded(JPEGBaseline8Bit)[:1]
    ds = holding(in_items(b'', *frames), 1, JPEGBaseline8Bit)
    ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = b'MEIER AN', b'MEIER AN'*2
    clean = deidentify(ds)
    assert clean.ExtendedOffsetTable == bytes(8)
    assert clean.ExtendedOffsetTableLengths == struct.pack('<Q', len(frames[0]))

def test_the_extended_table_goes_where_it_can_not_be_right():
    "A frame of two fragments, and pixels that become native for a bit"
    code = encoded(JPEG2000Lossless)[0]
    half = len(code)//4*2
    split = holding(in_items(b'', code[:half], code[half:]), 1, JPEG2000Lossless)
    native = holding(in_items(b'', code), 1, JPEG2000Lossless)
    native.BitsStored, native.HighBit = 6, 5
    for ds, syntax in (split, JPEG2000Lossless), (native, ExplicitVRLittleEndian):
        ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = bytes(8), struct.pack('<Q', 9)
        clean = deidentify(ds)
        assert clean.file_meta.TransferSyntaxUID == syntax
        assert 'ExtendedOffsetTable' not in clean
        assert 'ExtendedOffsetTableLengths' not in clean

def test_the_total_length_goes_with_what_it_counts():
    "(7FE0,0003), PS3.6"
    frames = encoded(JPEGBaseline8Bit)
    for stated, stays in (4, True), (3, False):
        ds = holding(encapsulate(frames), stated, JPEGBaseline8Bit)
        ds.EncapsulatedPixelDataValueTotalLength = sum(map(len, frames))
        assert ('EncapsulatedPixelDataValueTotalLength' in deidentify(ds)) == stays

UNCOMPRESSED_IN_ITEMS = '1.2.840.10008.1.2.1.98' # Encapsulated Uncompressed Explicit VR
A_MAKERS_OWN = '1.3.46.670589.33.1.4.1'

@pytest.mark.parametrize('stated', [1, 2])
@pytest.mark.parametrize('syntax', [UNCOMPRESSED_IN_ITEMS, A_MAKERS_OWN])
def test_frames_that_nothing_tells_apart_are_refused(syntax, stated):
    frames = [x.tobytes() for x in PATTERNS[:3]]
    ds = holding(in_items(b'', *frames), stated, pydicom.uid.UID(syntax))
    ds.filename = 'three.dcm'
    with pytest.raises(DicomError) as e: deidentify(ds)
    for part in ('three.dcm', f'NumberOfFrames is {stated}', '3 fragments', 'Basic Offset Table'):
        assert part in str(e.value)
    assert actions(ds)[0].startswith(f'can not be cleared: NumberOfFrames is {stated}, ')
    # with a table they are told apart
    starts = [0, 8 + len(frames[0]), 16 + 2*len(frames[0])]
    ds.PixelData = in_items(struct.pack('<3L', *starts), *frames)
    check(ds, frames[:stated], starts[:stated])

@each_syntax
def test_fragments_that_begin_no_frame_are_refused(syntax):
    "Two frames in three fragments, of which one alone begins as a frame does"
    code = encoded(syntax)[0]
    ds = holding(in_items(b'', code, NAME + b' ', NAME + b' '), 2, syntax)
    if syntax == RLELossless:
        with pytest.raises(DicomError, match='NumberOfFrames is 2, .* 3 fragments'): deidentify(ds)
    else: # they may be the rest of that frame, and what is behind its end goes
        assert deidentify(ds).PixelData == in_items(b'', code)
    ds = holding(in_items(b'', NAME + b' ', code, code), 2, syntax)
    with pytest.raises(DicomError, match='NumberOfFrames is 2, .* 3 fragments'): deidentify(ds)

@each_jpeg
@pytest.mark.parametrize('stated', [1, 2])
def test_a_frame_that_begins_as_no_codestream_is_refused(syntax, stated):
    "Before, half of a comment stayed where a frame was taken for two"
    code = encoded(syntax)[0]
    parts = [b'MEIER' + code] if stated == 1 else [code[:50], code[50:]]
    ds = holding(in_items(b'', *parts), stated, syntax)
    with pytest.raises(DicomError, match=f'frame {stated - 1}, .* does not begin as .* delete'):
        deidentify(ds)

def test_compressed_pixels_without_items_are_refused():
    "Before, the copy was left without pixels"
    ds = holding(PATTERNS[0].tobytes(), 1, JPEG2000Lossless)
    with pytest.raises(DicomError, match='not in items .*TransferSyntaxUID'): deidentify(ds)

@pytest.mark.parametrize('stored', [8, 6])
def test_a_coding_that_pydicom_does_not_know_stays_byte_for_byte(stored):
    "Unused bits are those of pixels, not of a codestream"
    ds = holding(in_items(b'', PATTERNS[0].tobytes()), 1, pydicom.uid.UID(A_MAKERS_OWN))
    ds.BitsStored, ds.HighBit = stored, stored - 1
    assert deidentify(through_a_file(ds)).PixelData == ds.PixelData

def test_a_video_stays_as_it_is():
    "One stream in any number of fragments, whose frames are inside (PS3.5 A.4.5 on)"
    plain = in_items(b'', b'\0\0\1\xb3pixels', b'\xff\xd8more of them')
    ds = holding(plain + NAME, 40, MPEG4HP41)
    assert deidentify(ds).PixelData == plain

@pytest.mark.parametrize('keyword, dtype', [('FloatPixelData', '<f4'),
                                            ('DoubleFloatPixelData', '<f8')])
def test_floats_beyond_the_number_of_frames_are_cut(keyword, dtype):
    "PS3.3 C.7.6.24 and C.7.6.25"
    values = PATTERNS.astype(dtype)
    ds = holding(b'', 2, ExplicitVRLittleEndian)
    del ds.PixelData
    setattr(ds, keyword, values.tobytes())
    assert deidentify(ds)[keyword].value == values[:2].tobytes()

@each_syntax
def test_other_pixels_beside_those_that_are_shown_go(syntax):
    "PS3.3 C.7.6.24: one of the three elements"
    frames = encoded(syntax)[:1]
    ds = holding(in_items(b'', *frames), 1, syntax)
    ds.FloatPixelData = PATTERNS[0].astype('<f4').tobytes()
    ds.DoubleFloatPixelData = PATTERNS[0].astype('<f8').tobytes()
    clean = deidentify(ds)
    assert 'FloatPixelData' not in clean and 'DoubleFloatPixelData' not in clean
    assert clean.PixelData == ds.PixelData

@each_syntax
def test_pixels_in_items_of_sequences_go(syntax):
    "An icon, PS3.3 C.7.6.1.1.6, is removed whole (PS3.15 Table E.1-1); others have no place there"
    frames = encoded(syntax)
    ds = holding(in_items(b'', frames[0]), 1, syntax)
    for keyword in 'IconImageSequence', 'ReferencedImageSequence', 'SharedFunctionalGroupsSequence':
        item = holding(encapsulate(frames[1:]), 3, syntax)
        del item.file_meta
        setattr(ds, keyword, [item])
    ds.add_new(0xfffcfffc, 'OB', NAME + b' ')
    clean = deidentify(through_a_file(ds))
    assert clean.PixelData == ds.PixelData
    assert 'IconImageSequence' not in clean and 0xfffcfffc not in clean
    assert [e.keyword for e in clean.iterall()].count('PixelData') == 1
    assert 'PixelData' in ds.SharedFunctionalGroupsSequence[0]

def test_native_frames_that_share_colours_are_cut():
    "PS3.3 C.7.6.3.1.2: in YBR_FULL_422 two pixels have 4 samples"
    samples = np.random.default_rng(0).integers(1, 255, (2, *SHAPE, 2), dtype=np.uint8)
    ds = holding(samples.tobytes(), 1, ExplicitVRLittleEndian)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, 'YBR_FULL_422'
    ds.PlanarConfiguration = 0
    # 2 frames of 2 samples a pixel are longer than one of 3: which is it?
    with pytest.raises(DicomError, match='NumberOfFrames or PhotometricInterpretation'):
        deidentify(ds)
    for data in samples[0].tobytes(), bytes(range(1, 97))*128: # of 4 samples for two, and of 6
        ds.PixelData = data
        assert deidentify(ds).PixelData == data
        ds.PixelData = data + bytes(2)
        assert deidentify(ds).PixelData[:len(data)] == data
    ds.PixelData = samples[0].tobytes() + NAME + b' '
    assert deidentify(ds).PixelData == samples[0].tobytes()

def test_run_lengths_encoded_again_have_their_table():
    "Unused bits are cleared in the frames that are stated, though the file has more and no table"
    frames = encoded(RLELossless)
    data, offsets, lengths = encapsulate_extended(frames)
    ds = holding(data, 3, RLELossless)
    ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, lengths
    ds.BitsStored, ds.HighBit = 6, 5
    clean = deidentify(ds)
    _, *fragments = contents(clean)
    assert len(fragments) == 3
    starts = np.cumsum([0, *(8 + len(x) for x in fragments)])
    assert [b - a - 8 for a, b in pairwise(starts)] == list(
        struct.unpack('<3Q', clean.ExtendedOffsetTableLengths))
    assert list(struct.unpack('<3Q', clean.ExtendedOffsetTable)) == starts[:3].tolist()
    np.testing.assert_array_equal(pixels(clean), PATTERNS[:3] & 63)

def test_a_place_far_behind_the_frame_costs_nothing():
    "PS3.5 G.5: offsets of 32 bits, here that of a segment which is not there"
    frame = encoded(RLELossless)[0]
    damaged = struct.pack('<3L', 2, 64, 2**32 - 1) + frame[12:]
    clean = deidentify(holding(in_items(b'', damaged), 1, RLELossless))
    assert contents(clean)[1] == damaged

# files that are damaged, or that stopped short

@each_jpeg
@pytest.mark.parametrize('stated', [2, 4, 40])
def test_fewer_frames_than_stated_are_kept(syntax, stated):
    "A run that was aborted: one frame in three fragments, or three in nine"
    held = 1 if stated == 2 else 3
    data = encapsulate(encoded(syntax)[:held], fragments_per_frame=3, has_bot=False)
    ds = holding(data, stated, syntax)
    clean = deidentify(ds)
    assert contents(clean)[1:] == contents(ds)[1:]
    assert clean.NumberOfFrames == stated

@each_syntax
@pytest.mark.parametrize('stated', [1, 2])
def test_a_first_frame_without_a_table_before_it_is_kept(syntax, stated):
    "PS3.5 A.4 wants a table, empty or not, as the first item"
    frames = encoded(syntax)[:2]
    ds = holding(in_items(*frames[:stated]), stated, syntax)
    check(ds, frames[:stated], [])

def test_one_item_that_is_no_table_is_refused():
    for data, syntax in [(NAME + b' ', JPEG2000Lossless),
                         (PATTERNS[0].tobytes(), pydicom.uid.UID(A_MAKERS_OWN))]:
        ds = holding(in_items(data), 1, syntax)
        ds.filename = 'one.dcm'
        with pytest.raises(DicomError, match='one.dcm: the first item .* no table of offsets .* '
                                             f'{len(data):,} bytes .* another copy'): deidentify(ds)
    ds = holding(in_items(*[x.tobytes() for x in PATTERNS[:2]]), 2, pydicom.uid.UID(A_MAKERS_OWN))
    with pytest.raises(DicomError, match='the first item .* no table of offsets'): deidentify(ds)

@pytest.mark.parametrize('has_offsets', [True, False])
@each_syntax
def test_frames_behind_a_damaged_item_do_not_go_unsaid(syntax, has_offsets):
    frames = encoded(syntax)
    data = bytearray(encapsulate(frames, has_bot=has_offsets))
    at = data.index(frames[2]) - 8
    data[at] ^= 1
    ds = holding(bytes(data), 4, syntax)
    ds.filename = 'damaged.dcm'
    said = (f'damaged.dcm: NumberOfFrames is 4, .* hold 2 frames, and from byte {at} on .* '
            'in no item .* another copy')
    with pytest.raises(DicomError, match=said): deidentify(ds)
    # what is lost is not stated
    ds.NumberOfFrames = 2
    assert actions(ds) == ['cut behind the last frame']

def test_padding_behind_the_last_item_is_not_cut():
    plain = encapsulate(encoded(JPEGBaseline8Bit))
    for behind in b'\0', b'\0\0', b'\xfe\xff\xdd\xe0\0\0\0\0':
        assert not stated(plain + behind, 4).is_cut
        # nor do fewer frames make it more
        assert not stated(plain + behind, 40).is_cut
    assert stated(plain + NAME, 4).is_cut

def stated(data, n, begins=_begins_image):
    "`stated_frames` of a JPEG"
    return stated_frames(holding(data, n, JPEGBaseline8Bit), begins)

@pytest.mark.parametrize('empty', [b'', b'\0\0'])
def test_a_blank_fragment_begins_any_frame(empty):
    "An empty tile of a slide, and an empty fragment in front of a frame's bits"
    one, two, three, _ = encoded(JPEGBaseline8Bit)
    for frames in [[one], [empty], [two]], [[empty], [one], [two]], [[empty, one], [empty, two]]:
        fragments = [fragment for frame in frames for fragment in frame]
        starts = [0, *np.cumsum([sum(8 + len(x) for x in frame) for frame in frames])][:-1]
        with_table = in_items(struct.pack(f'<{len(frames)}L', *starts), *fragments)
        assert stated(with_table, len(frames)).frames == frames
        # what is more goes, also within the last frame of a table
        assert stated(with_table + in_items(three), len(frames)) == (frames, True, True)
    assert stated(in_items(b'', empty, one, two), 2).frames == [[empty, one], [two]]

def test_an_empty_tile_hides_nothing():
    "Before, one empty tile refused the whole slide: what hides in it can not be told, of no bytes"
    one, two, *_ = encoded(JPEGBaseline8Bit)
    offsets = [0, 8 + len(one), 16 + len(one)]
    data = in_items(struct.pack('<3L', *offsets), one, b'', two)
    check(holding(data, 3, JPEGBaseline8Bit), [one, b'', two], offsets)

def test_an_empty_fragment_before_each_frame_stays():
    one, two, *_ = encoded(JPEGBaseline8Bit)
    second = 16 + len(one)
    data = in_items(struct.pack('<2L', 0, second), b'', one, b'', two)
    check(holding(data, 2, JPEGBaseline8Bit), [b'', one, b'', two], [0, second])

@pytest.mark.parametrize('has_offsets', [True, False])
@pytest.mark.parametrize('n_frames', [1, 10, 20_000])
def test_many_fragments_are_looked_at_once_or_twice(n_frames, has_offsets):
    count = 20_000
    gathered = []
    def begins(fragment, frame):
        gathered.append(len(frame))
        return _begins_image(fragment, frame)
    code = b'\xff\xd8\xff\xda' + bytes(4)  # a header that ends
    each = [code, *[b'more']*(count//n_frames - 1)]
    parts = [each]*n_frames
    data = encapsulated(parts, has_offsets) if has_offsets else in_items(b'', *each*n_frames)
    assert stated(data, n_frames, begins).frames == parts
    assert len(gathered) <= 4*count
    assert sum(gathered) <= count

def test_frames_of_several_fragments_get_a_table_for_the_extended_one():
    "PS3.3 C.7.6.3.1.8: the extended table is for a fragment a frame, and has to go"
    frames = encoded(JPEGBaseline8Bit)[:2]
    data = encapsulate(frames, fragments_per_frame=2, has_bot=False)
    fragments = list(generate_fragments(data))[1:]
    second = 16 + sum(map(len, fragments[:2]))
    ds = holding(data, 2, JPEGBaseline8Bit)
    ds.ExtendedOffsetTable = struct.pack('<2Q', 0, second)
    ds.ExtendedOffsetTableLengths = struct.pack('<2Q', *map(len, frames))
    clean = check(ds, fragments, [0, second])
    assert 'ExtendedOffsetTable' not in clean

def test_a_number_of_frames_that_is_missing_is_called_so():
    frames = [x.tobytes() for x in PATTERNS[:3]]
    for n, said in (None, 'NumberOfFrames is missing, so 1, its'), (0, 'is 0, taken as 1, its'):
        ds = holding(in_items(b'', *frames), n, pydicom.uid.UID(A_MAKERS_OWN))
        with pytest.raises(DicomError, match=said): deidentify(ds)
