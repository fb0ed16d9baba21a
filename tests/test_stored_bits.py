"""Lossy codestreams that are wider than their numbers.

White beside black swings above the one and below the other (Gibbs). A codestream of `BitsStored`
bits cuts that off when it is decoded (ITU-T T.81 A.3.1, T.800 G.1.2), a wider one does not: the
right values are the decoded ones, clipped to the range that `BitsStored` gives (PS3.5 8.1.1)."""
import io
import struct

import numpy as np
import pytest
from jpeg_ls import encode_array as as_jpeg_ls
from openjpeg.utils import decode_pixel_data, encode_array
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)
from scipy.fft import idctn

from medtut.burned_in import burned_in_risk
from medtut.decoding import stored_values
from medtut.errors import DicomError
from medtut.identity import deidentify

STORED = 12
WHITE = 2**STORED - 1

def board(high=WHITE):
    "Black and white in bands, whose edges no block of a coding shares"
    return np.uint16(high)*(np.indices((64, 64)).sum(axis=0)//11 % 2).astype(np.uint16)

def data_set(frame, syntax, stored=STORED, allocated=16, signed=0, shape=(64, 64), **elements):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.Rows, ds.Columns = shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, stored, stored - 1
    ds.PixelRepresentation, ds.SamplesPerPixel = signed, 1
    ds.PhotometricInterpretation = 'MONOCHROME2'
    ds.PixelData = encapsulate([frame])
    ds['PixelData'].VR, ds['PixelData'].is_undefined_length = 'OB', True
    for keyword, value in elements.items(): setattr(ds, keyword, value)
    return ds

def stored(*args, **kwargs):
    return stored_values(data_set(*args, **kwargs)).values.astype(int)

def as_jpeg_2000(x, **how):
    "A codestream of 16 bits that keeps a quarter of the bytes"
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, 'JPEG2000', quality_mode='rates', quality_layers=[4],
                            no_jp2=True, **how)
    return buffer.getvalue()

def by_openjpeg(frame, dtype):
    "What the codestream says, all 16 bits of it"
    return np.frombuffer(decode_pixel_data(frame, version=2), dtype).reshape(64, 64).astype(int)

def overshoots(x, low, high):
    assert x.min() < low or x.max() > high, 'the test needs a codestream that overshoots'
    return x

@pytest.mark.parametrize('reversible', [False, True])
def test_jpeg_2000(reversible):
    "9-7, and 5-3 that was cut short, which the header alone says"
    # of black and white 5-3 keeps all in less than a quarter: noise is harder
    x = np.random.default_rng(0).integers(2, size=(64, 64)).astype(np.uint16)*np.uint16(WHITE)
    frame = as_jpeg_2000(x, irreversible=not reversible)
    right = overshoots(by_openjpeg(frame, '<u2'), 0, WHITE).clip(0, WHITE)
    np.testing.assert_array_equal(stored(frame, JPEG2000, LossyImageCompression='01'), right)
    if not reversible: np.testing.assert_array_equal(stored(frame, JPEG2000), right)

@pytest.mark.parametrize('signed', [0, 1])
def test_below_0_with_a_sign_in_the_codestream(signed):
    "Of a header with a sign it is a number, of one without it lies below the lowest"
    x = board().astype(np.int16) - (2048 if signed else 0)
    frame = encode_array(x.astype(np.int16), bits_stored=16, compression_ratios=[8])
    low, high = (-2048, 2047) if signed else (0, WHITE)
    right = overshoots(by_openjpeg(frame, '<i2'), low, high).clip(low, high)
    assert (by_openjpeg(frame, '<i2') < low).any()
    np.testing.assert_array_equal(stored(frame, JPEG2000, signed=signed), right)

def test_jpeg_ls_within_a_tolerance():
    x = board()
    # a codestream takes as many bits as its highest value
    x[0, 0] = 2**16 - 1
    frame = bytes(as_jpeg_ls(x, lossy_error=50))
    right = x.clip(0, WHITE).astype(int)
    apart = np.abs(stored(frame, JPEGLSNearLossless) - right)
    assert apart[1:].max() <= 50

def test_jpeg_of_8_bits_with_7():
    x = board(127).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, 'JPEG', quality=60)
    right = overshoots(np.array(Image.open(buffer)).astype(int), 0, 127).clip(0, 127)
    found = stored(buffer.getvalue(), JPEGBaseline8Bit, stored=7, allocated=8)
    np.testing.assert_array_equal(found, right)

def jpeg_of_12_bits(mean, wave, step=16):
    "One block of 8 x 8 in extended JPEG: its mean and one wave along its rows (T.81 B.2, F.1.2)"
    def segment(marker, content):
        return struct.pack('>BBH', 0xff, marker, len(content) + 2) + content
    def size(value): return abs(value).bit_length()
    def bits_of(value):
        # one below 0 is written less 1, its highest bit 0
        positive = value if value > 0 else value + 2**size(value) - 1
        return f'{positive:b}'.zfill(size(value))
    def table(kind, *symbols):
        # codes 0, 10, 110 ...: one of each length
        lengths = bytes(int(i < len(symbols)) for i in range(16))
        return segment(0xc4, bytes([kind]) + lengths + bytes(symbols))
    # one code for the mean; for the wave its size, and the end of the block
    coded = '0' + bits_of(mean) + '0' + bits_of(wave) + '10'
    coded += '1'*(-len(coded) % 8)
    scan = int(coded, 2).to_bytes(len(coded)//8, 'big').replace(b'\xff', b'\xff\0')
    return (b'\xff\xd8' + segment(0xdb, b'\0' + bytes([step]*64))
            + segment(0xc1, struct.pack('>BHHB', 12, 8, 8, 1) + b'\1\x11\0')
            + table(0, size(mean)) + table(0x10, size(wave), 0)
            + segment(0xda, b'\1\1\0\0\x3f\0') + scan + b'\xff\xd9')

@pytest.mark.parametrize('middle', [900, 100])
def test_extended_jpeg_of_12_bits_with_10(middle):
    step, wave = 16, 106
    mean = 8*(middle - 2**11)//step  # samples are shifted by half their range (T.81 A.3.1)
    waves = np.zeros((8, 8))
    waves[0, :2] = mean*step, wave*step
    exact = idctn(waves, norm='ortho') + 2**11
    right = overshoots(exact, 0, 1023).clip(0, 1023)
    found = stored(jpeg_of_12_bits(mean, wave), JPEGExtended12Bit, stored=10, shape=(8, 8))
    np.testing.assert_allclose(found, right, atol=1)

def test_deidentifying_wraps_nothing():
    "A copy in which bits above the number are cleared is not compressed any more"
    frame = as_jpeg_2000(board(), irreversible=True)
    right = overshoots(by_openjpeg(frame, '<u2'), 0, WHITE).clip(0, WHITE)
    clean = deidentify(data_set(frame, JPEG2000))
    assert not clean.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(stored_values(clean).values, right)

# what must stay as it was

def test_what_a_lossless_codestream_holds_above_the_number_is_dropped():
    "An overlay in bit 15, in either transfer syntax"
    x = board()
    overlay = x | np.uint16(0x8000)
    frame = encode_array(overlay, bits_stored=16)
    for syntax in JPEG2000, JPEG2000Lossless:
        np.testing.assert_array_equal(stored(frame, syntax), x)

def test_a_sign_that_the_codestream_does_not_know_is_a_bit():
    "12 bits of two's complement in 16 without a sign, as near as the tolerance of JPEG-LS"
    x = np.repeat(np.array([5, 100, 0xfff - 5, 0xfff - 100], np.uint16), 1024).reshape(64, 64)
    x[0, 0] = 2**15
    frame = bytes(as_jpeg_ls(x, lossy_error=1))
    right = np.where(x > 2047, x.astype(int) - 4096, x)
    right[0, 0] = 0
    assert np.abs(stored(frame, JPEGLSNearLossless, signed=1) - right)[1:].max() <= 1

# overlays in bits above the number (PS3.5 8.1.2, PS3.3 C.9.2): no part of it, and never clipped

TEXT = np.zeros((64, 64), bool)
TEXT[20:30, 10:50] = True

def with_overlay(x, bit):
    return np.where(TEXT, x | np.uint16(1 << bit), x).astype(np.uint16)

def state_overlay(ds, bit, group=0x6000):
    "What the header says of an overlay in a bit of the pixels"
    for element, vr, value in [(0x10, 'US', 64), (0x11, 'US', 64), (0x40, 'CS', 'G'),
                               (0x50, 'SS', [1, 1]), (0x100, 'US', 16), (0x102, 'US', bit)]:
        ds.add_new((group, element), vr, value)
    return ds

def values_and_those_of_a_clean_copy(ds):
    clean = deidentify(ds)
    assert not any(e.tag.group == 0x6000 for e in clean)
    return [stored_values(each).values.astype(int) for each in (ds, clean)]

each_bit = pytest.mark.parametrize('bit', [12, 13, 14, 15])

@pytest.mark.parametrize('is_stated', [True, False])
@each_bit
def test_an_overlay_in_a_lossless_codestream_of_a_lossy_history(bit, is_stated):
    "Pixels were lossy once, the stream that adds the overlay to them is not"
    x = (500 + np.arange(64*64).reshape(64, 64) % 7).astype(np.uint16)
    frame = encode_array(with_overlay(x, bit), bits_stored=16)
    ds = data_set(frame, JPEG2000, LossyImageCompression='01')
    if is_stated: state_overlay(ds, bit, 0x6002)
    clean = deidentify(ds)
    for each in ds, clean: np.testing.assert_array_equal(stored_values(each).values, x)

LETTERS = Image.new('1', (64, 64))
ImageDraw.Draw(LETTERS).text((4, 2), 'MEIER\nANNA', fill=1)
# beside letters a bar, which is lit from end to end
MARKED = np.array(LETTERS) | (np.indices((64, 64))[0] > 50)
GREYS = np.random.default_rng(1)
BACKGROUNDS = dict(
    black=np.zeros((64, 64)),
    soft=GREYS.normal(1000, 80, (64, 64)),
    bright=GREYS.normal(3600, 200, (64, 64)),
    white=np.full((64, 64), WHITE),
    ramp=np.indices((64, 64))[1]*64,
    noise=GREYS.integers(0, WHITE + 1, (64, 64)),
    blobs=np.where(np.indices((64, 64)).sum(axis=0)//16 % 2, 3500, 300))

@pytest.mark.parametrize('signed', [0, 1])
@pytest.mark.parametrize('background', BACKGROUNDS)
@each_bit
def test_letters_in_a_bit_that_no_header_states_are_not_burned_in(bit, background, signed):
    "On dark and bright, smooth and rough pictures, with a lossy history"
    x = BACKGROUNDS[background].clip(0, WHITE).astype(np.uint16)
    marked = np.where(MARKED, x | np.uint16(1 << bit), x).astype(np.uint16)
    if signed: marked = (marked.astype(int) - 2048).clip(-2**15, 2**15 - 1).astype(np.int16)
    if signed and bit == 15: return # the sign itself
    ds = data_set(encode_array(marked, bits_stored=16), JPEG2000, signed=signed,
                  LossyImageCompression='01')
    right = x.astype(int) - (2048 if signed else 0)
    for values in values_and_those_of_a_clean_copy(ds): np.testing.assert_array_equal(values, right)

def test_letters_in_one_frame_beside_overshoot_in_another():
    "Each frame goes by its own numbers"
    lossy = encode_array(board(), bits_stored=16, compression_ratios=[8])
    right = overshoots(by_openjpeg(lossy, '<u2'), 0, WHITE).clip(0, WHITE)
    x = np.full((64, 64), 500, np.uint16)
    marked = encode_array(np.where(MARKED, x | np.uint16(1 << 12), x), bits_stored=16)
    ds = data_set(lossy, JPEG2000, LossyImageCompression='01', NumberOfFrames=2)
    ds.PixelData = encapsulate([lossy, marked])
    for values in values_and_those_of_a_clean_copy(ds):
        np.testing.assert_array_equal(values, [right, x])
    np.testing.assert_array_equal(stored_values(ds, frame=1).values, x)

@pytest.mark.parametrize('kept', [4, 8, 16])
def test_bands_and_labels_are_clipped(kept):
    "Black and white with every edge: a few in a thousand swing too far to tell"
    white = np.random.default_rng(0).random((16, 16)) > .6
    labels = np.where(white.repeat(4, 0).repeat(4, 1), WHITE, 500).astype(np.uint16)
    for x in board(), labels:
        frame = encode_array(x, bits_stored=16, compression_ratios=[kept])
        decoded = by_openjpeg(frame, '<u2')
        right = decoded.clip(0, WHITE)
        found = stored(frame, JPEG2000, LossyImageCompression='01')
        assert (found != right).sum() <= .03*(decoded > WHITE).sum()

def test_colours_are_clipped_alike():
    "Three samples a pixel, rows and columns in front of them"
    colours = np.stack([board(), board()[::-1], board()[:, ::-1]], axis=-1)
    frame = encode_array(colours, bits_stored=16, photometric_interpretation=1,
                         compression_ratios=[8])
    ds = data_set(frame, JPEG2000, LossyImageCompression='01', SamplesPerPixel=3,
                  PhotometricInterpretation='RGB', PlanarConfiguration=0)
    found = stored_values(ds).values.astype(int)
    assert found.shape == (64, 64, 3)
    assert np.abs(found - colours).max() < 2048

@pytest.mark.parametrize('bit', [12, 13])
def test_an_unstated_overlay_in_jpeg_ls_within_a_tolerance(bit):
    "Further off than the tolerance is no overshoot (ITU-T T.87 A.4.4)"
    x = np.full((64, 64), 500, np.uint16)
    ds = data_set(bytes(as_jpeg_ls(with_overlay(x, bit), lossy_error=2)), JPEGLSNearLossless)
    for values in values_and_those_of_a_clean_copy(ds): assert np.abs(values - 500).max() <= 2

@pytest.mark.parametrize('is_stated', [True, False])
@pytest.mark.parametrize('grey', [0, 500, WHITE])
def test_an_overlay_in_jpeg_ls_within_a_tolerance(grey, is_stated):
    "Black and white under the overlay too, where a step of 1 leads out of the range"
    x = np.full((64, 64), grey, np.uint16)
    frame = bytes(as_jpeg_ls(with_overlay(x, 15), lossy_error=1))
    ds = data_set(frame, JPEGLSNearLossless)
    if is_stated: state_overlay(ds, 15)
    for values in values_and_those_of_a_clean_copy(ds):
        assert np.abs(values - grey).max() <= 1

def test_overshoot_beside_an_overlay():
    "What overshoots is clipped, what the overlay adds is taken away"
    frame = encode_array(with_overlay(board(), 15).astype(np.uint16), bits_stored=16,
                         compression_ratios=[3])
    decoded = by_openjpeg(frame, '<u2')
    overlay = 2**15*(decoded > 2**14)
    right = overshoots(decoded - overlay, 0, WHITE).clip(0, WHITE)
    ds = state_overlay(data_set(frame, JPEG2000, LossyImageCompression='01'), 15)
    for values in values_and_those_of_a_clean_copy(ds): np.testing.assert_array_equal(values, right)

def test_an_overlay_with_data_of_its_own_is_in_no_bit():
    "What its OverlayBitPosition says then is left over (PS3.3 C.9.2)"
    frame = as_jpeg_2000(board(), irreversible=True)
    ds = state_overlay(data_set(frame, JPEG2000), 12)
    ds.add_new(0x60003000, 'OW', bytes(64*64//8))
    right = by_openjpeg(frame, '<u2').clip(0, WHITE)
    np.testing.assert_array_equal(stored_values(ds).values, right)

def test_a_damaged_overlay_position_is_no_bit():
    frame = as_jpeg_2000(board(), irreversible=True)
    right = by_openjpeg(frame, '<u2').clip(0, WHITE)
    for position in 99, 5, None:
        ds = state_overlay(data_set(frame, JPEG2000), position)
        np.testing.assert_array_equal(stored_values(ds).values, right)

def test_traces_of_an_overlay_are_a_reason_to_look():
    "Lossy coding mixes an overlay with the picture: NEAR 1 leaves a step of 1 at its edge"
    x = np.full((64, 64), 500, np.uint16)
    overlay = with_overlay(x, 15)
    lossy = data_set(bytes(as_jpeg_ls(overlay, lossy_error=1)), JPEGLSNearLossless)
    lossless = data_set(encode_array(overlay, bits_stored=16), JPEG2000Lossless)
    def mentions(ds): return [r for r in burned_in_risk(ds) if 'overlay' in r]
    assert mentions(state_overlay(lossy, 15)) == [
        'an overlay in unused bits of pixels that may be lossy: traces of it may be in the picture']
    assert not mentions(state_overlay(lossless, 15))

# codestreams that are wider than the containers of the header

@pytest.mark.parametrize('lossy', [False, True])
@pytest.mark.parametrize('bits', [12, 16])
@pytest.mark.parametrize('stored_bits', [7, 8])
def test_a_codestream_wider_than_its_container(bits, stored_bits, lossy):
    "Its upper bits would be lost (PS3.5 8.2.4); what the message says to do works"
    x = (np.arange(64*64).reshape(64, 64) << bits - 12).astype(np.uint16)
    frame = encode_array(x, bits_stored=bits, **dict(compression_ratios=[8]) if lossy else {})
    ds = data_set(frame, JPEG2000, stored=stored_bits, allocated=8, LossyImageCompression='01')
    said = (f'BitsAllocated is 8, and the codestream has samples of {bits} bits, more than fit; '
            f'set BitsAllocated to 16, BitsStored to {bits} and HighBit to {bits - 1}')
    with pytest.raises(DicomError) as e: stored_values(ds)
    assert str(e.value) == f'data set: {JPEG2000.name} could not be decoded: {said}'
    if stored_bits == 7:
        with pytest.raises(DicomError) as e: deidentify(ds)
        assert str(e.value) == f'data set: {said}'
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    np.testing.assert_array_equal(stored_values(ds).values, by_openjpeg(frame, '<u2'))
