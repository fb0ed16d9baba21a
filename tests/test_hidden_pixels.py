"""What a copy without names keeps of pixels, where the header says little, or something wrong"""
import struct

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
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
from medtut.errors import DicomError
from medtut.identity import deidentify
from medtut.units import pixels

pytestmark = pytest.mark.filterwarnings('ignore')

NAME = b'MEIER ANNA  '

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
