"""What `medtut.dicom` makes of tiny files whose right picture is known.

Bits, signs, padding, scales, windows, tables, sides, units."""
import io
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    MPEG2MPML,
    MPEG4HP41,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from medtut.dicom import read_dicom, scan
from medtut.display import to_display
from medtut.errors import DicomError
from medtut.headers import element_value, elements
from medtut.orientation import orientation, pixel_aspect
from medtut.overlays import labelled_image
from medtut.pictures import check_window
from medtut.units import pixel_unit, pixels, suv
from medtut.window import real_array


def image(values, dtype=None, **elements):
    "A data set with the pixels `values` and whatever else is named"
    x = np.asarray(values, dtype)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = '1.2.3'
    ds.Modality = 'CT'
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.Rows, ds.Columns = x.shape[-2:]
    if x.ndim == 3:
        ds.NumberOfFrames = len(x)
    ds.BitsAllocated = ds.BitsStored = x.dtype.itemsize*8
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(x.dtype.kind == 'i')
    vr = 'OW' if x.dtype.itemsize > 1 else 'OB'
    ds.add_new('PixelData', vr, x.tobytes() + bytes(x.nbytes % 2))
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds

def stored(ds, syntax=ExplicitVRLittleEndian):
    "`ds` after a stay in a file"
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        pydicom.dcmwrite(buffer, ds, implicit_vr=implicit, little_endian=little,
                         enforce_file_format=True)
    return read_dicom(buffer.getvalue())

def greys(ds):
    return to_display(stored(ds)).tolist()

def values_in(ds):
    return pixels(stored(ds)).tolist()

def item(**elements):
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds

def said(f, *args, **kwargs):
    "What `f` returns, and the warnings it gave"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        result = f(*args, **kwargs)
    return result, [str(w.message) for w in caught]

# --- bits (PS3.5 8.1.1: the number lies in BitsStored bits up to HighBit,
# two's complement if PixelRepresentation is 1)

TWELVE = np.tile(np.array([0x0fff, 1, 0x0800, 5], np.uint16), (16, 4))
SIGNED, UNSIGNED = [-1, 1, -2048, 5], [4095, 1, 2048, 5]

def coded(x, codec):
    "A data set whose codestream holds all 16 bits of `x`"
    ds = image(x)
    if codec == 'J2K':
        buffer = io.BytesIO()
        Image.fromarray(x).save(buffer, 'JPEG2000', irreversible=False)
        whole = buffer.getvalue()
        codestream = whole[whole.find(b'\xff\x4f\xff\x51'):]
        ds.add_new('PixelData', 'OB', encapsulate([codestream]))
        ds['PixelData'].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    elif codec == 'big endian':
        ds.PixelData = x.astype('>u2').tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    elif codec: ds.compress(codec, generate_instance_uid=False)
    return ds

CODECS = [None, 'big endian', RLELossless, JPEGLSLossless, 'J2K']

@pytest.mark.parametrize('litter', [0, 0x1000, 0xf000], ids=hex)
@pytest.mark.parametrize('codec', CODECS, ids=str)
@pytest.mark.parametrize('signed', [0, 1])
def test_bits_beyond_the_number_are_dropped_whatever_the_decoder(codec, signed, litter):
    ds = coded(TWELVE | np.uint16(litter), codec)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, signed
    x = pixels(stored(ds, ds.file_meta.TransferSyntaxUID))
    assert x[0, :4].tolist() == (SIGNED if signed else UNSIGNED)

@pytest.mark.parametrize('codec', CODECS, ids=str)
@pytest.mark.parametrize('signed', [0, 1])
def test_a_number_in_the_upper_bits(codec, signed):
    "HighBit 15 with 12 bits stored, as ACR-NEMA files have it"
    ds = coded((TWELVE << 4 | 0xa).astype(np.uint16), codec)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 15, signed
    x = pixels(stored(ds, ds.file_meta.TransferSyntaxUID))
    assert x[0, :4].tolist() == (SIGNED if signed else UNSIGNED)

def test_a_codestream_as_wide_as_the_number_has_no_lower_bits_to_lose():
    "HighBit 15 is no use where the codec kept 12 bits: the precision in the codestream decides"
    ds = image(TWELVE)
    ds.BitsStored, ds.HighBit = 12, 11
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    ds.HighBit = 15
    assert pixels(stored(ds, JPEGLSLossless))[0, :4].tolist() == UNSIGNED

def test_eight_bits_signed():
    x = np.array([[0x0f, 0x08], [0x17, 0x01]], np.uint8)
    ds = image(x, BitsStored=4, HighBit=3, PixelRepresentation=1)
    assert values_in(ds) == [[-1, -8], [7, 1]]

@pytest.mark.parametrize('element, value', [
    ('BitsStored', 17), ('BitsStored', 0), ('HighBit', 40), ('HighBit', 3),
    ('PixelRepresentation', 7)])
def test_senseless_bits_are_named_and_the_image_shown(element, value):
    ds = image([[1, 2], [3, 4]], np.uint16)
    setattr(ds, element, value)
    shown, warned = said(pixels, stored(ds))
    assert shown.tolist() == [[1, 2], [3, 4]]
    assert any(element in w for w in warned)

def frames_of_bits(bits):
    "A file of `bits`, (frames, rows, columns) of 0 and 1, packed without a gap (PS3.5 8.1.1)"
    packed = np.packbits(bits.ravel(), bitorder='little').tobytes()
    ds = image(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = packed + bytes(len(packed) % 2)
    return stored(ds)

def test_a_frame_of_bits_may_begin_within_a_byte():
    "PS3.5 8.1.1: the frames of 15 bits follow each other without padding"
    bits = np.random.default_rng(0).integers(0, 2, (3, 3, 5)).astype(np.uint8)
    ds = frames_of_bits(bits)
    assert pixels(ds).tolist() == bits.tolist()
    for i in range(3):
        assert pixels(ds, frame=i).tolist() == bits[i].tolist()

def test_what_native_pixels_lack_names_the_file(tmp_path):
    "BitsAllocated is 1 or a multiple of 8 (PS3.5 8.1.1)"
    ds = image(np.zeros((2, 2), np.uint16), BitsAllocated=12, BitsStored=12, HighBit=11)
    stored(ds).save_as(tmp_path/'a.dcm')
    ds = read_dicom(tmp_path/'a.dcm')
    with pytest.raises(DicomError) as e: pixels(ds)
    assert str(e.value).startswith(f'{tmp_path/"a.dcm"}: ')

# --- colours of JPEG: red on the left, blue on the right

RED_AND_BLUE = np.zeros((16, 16, 3), np.uint8)
RED_AND_BLUE[:, :8, 0] = RED_AND_BLUE[:, 8:, 2] = 220
ADOBE = b'\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01'  # APP14: the colours are YCbCr

def colour_jpeg():
    "A codestream; JFIF's segment (APP0) takes its bytes 2 to 20"
    buffer = io.BytesIO()
    Image.fromarray(RED_AND_BLUE).save(buffer, 'JPEG', quality=95, subsampling=0)
    codestream = buffer.getvalue()
    assert codestream[2:6] == b'\xff\xe0\x00\x10'
    return codestream

def of_jpeg(codestream, meaning, planar_configuration=0):
    ds = image(np.zeros((16, 16), np.uint8), SamplesPerPixel=3, PhotometricInterpretation=meaning,
               PlanarConfiguration=planar_configuration)
    ds.add_new('PixelData', 'OB', encapsulate([codestream]))
    ds['PixelData'].is_undefined_length = True
    return stored(ds, JPEGBaseline8Bit)

def is_red_and_blue(ds):
    difference = to_display(ds).astype(int) - RED_AND_BLUE
    return np.abs(difference).mean() < 3

@pytest.mark.parametrize('planar_configuration', [0, 1])
def test_a_codestream_knows_where_its_colours_lie(planar_configuration):
    "PS3.3 C.7.6.3.1.3: PlanarConfiguration means nothing where a codestream orders the samples"
    assert is_red_and_blue(of_jpeg(colour_jpeg(), 'YBR_FULL_422', planar_configuration))

def native_colours(x, planar_configuration):
    ds = image(np.zeros((16, 16), np.uint8), SamplesPerPixel=3, PhotometricInterpretation='RGB',
               PlanarConfiguration=planar_configuration)
    ds.PixelData = x.tobytes()
    return ds

def test_colours_of_native_pixels_lie_as_they_are_said_to():
    "PS3.3 C.7.6.3.1.3: 0 is pixel by pixel, 1 plane by plane"
    assert is_red_and_blue(stored(native_colours(RED_AND_BLUE, 0)))
    assert is_red_and_blue(stored(native_colours(RED_AND_BLUE.transpose(2, 0, 1), 1)))

@pytest.mark.parametrize('planar_configuration', [0, 1])
def test_run_lengths_are_plane_by_plane_whatever_the_header_says(planar_configuration):
    "PS3.5 G.2: each plane is a segment of its own"
    ds = native_colours(RED_AND_BLUE, 0)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PlanarConfiguration = planar_configuration
    assert is_red_and_blue(stored(ds, RLELossless))

@pytest.mark.parametrize('with_jfif', [True, False])
@pytest.mark.parametrize('meaning', ['YBR_FULL', 'YBR_FULL_422', 'RGB'])
def test_colours_with_a_segment_of_adobe_are_converted_once(meaning, with_jfif):
    """The codestream is YCbCr by its own markers (ITU-T T.872 6.5.3), which the header should agree
    with (PS3.5 8.2.1); red came out green"""
    codestream = colour_jpeg()
    rest = codestream[2:] if with_jfif else codestream[20:]
    assert is_red_and_blue(of_jpeg(codestream[:2] + ADOBE + rest, meaning))

@pytest.mark.parametrize('meaning', ['YBR_PARTIAL_422', 'HSV', 'CMYK'])
def test_colours_that_nothing_turns_into_rgb_are_refused(meaning):
    "Retired values of PhotometricInterpretation (PS3.3 C.7.6.3.1.2)"
    native = image(np.zeros((2, 2), np.uint8), SamplesPerPixel=3, PhotometricInterpretation=meaning,
                   PlanarConfiguration=0)
    native.PixelData = bytes(8)  # two pixels share their colour
    for ds in of_jpeg(colour_jpeg(), meaning), stored(native):
        with pytest.raises(DicomError, match=f'PhotometricInterpretation is {meaning}, .*RGB'):
            to_display(ds)

# --- elements that are US or SS follow PixelRepresentation (PS3.3 C.7.5.1.1.2),
# padding comes before rescaling

@pytest.mark.parametrize('vr, value, dtype', [
    ('US', 63536, np.int16), ('SS', -2000, np.int16),
    ('SS', -2000, np.uint16), ('US', 63536, np.uint16)])
@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_padding_is_signed_as_the_pixels_are(vr, value, dtype, syntax):
    x = np.array([63536, 1, 2, 3], np.uint16).view(dtype).reshape(2, 2)
    ds = image(x, RescaleSlope=1, RescaleIntercept=-1000)
    ds.add_new('PixelPaddingValue', vr, value)
    # implicit VR keeps no VR: a reader takes that of the pixels
    vr_of_pixels = 'SS' if dtype is np.int16 else 'US'
    if syntax == ImplicitVRLittleEndian and vr != vr_of_pixels: return
    values = pixels(stored(ds, syntax))
    assert np.isnan(values[0, 0])
    assert values[0, 1:].tolist() == [-999]
    assert values[1].tolist() == [-998, -997]

def test_a_padding_range_may_end_at_zero():
    ds = image([[-5, -1, 0, 7]], np.int16, PixelPaddingValue=-5, PixelPaddingRangeLimit=0)
    assert np.isnan(pixels(stored(ds))).tolist() == [[True, True, True, False]]

def test_float_padding():
    "FloatPixelPaddingValue is the padding of float pixel data (PS3.3 C.7.6.24)"
    ds = image(np.zeros((1, 2), np.uint16))
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated = 32
    ds.FloatPixelData = np.array([-1e6, .5], '<f4').tobytes()
    ds.FloatPixelPaddingValue = -1e6
    values = pixels(stored(ds))
    assert np.isnan(values[0, 0])
    assert values[0, 1] == .5

def test_smallest_and_largest_in_a_table_are_signed_as_the_pixels_are(tmp_path):
    ds = image([[-3, 4]], np.int16)
    ds.add_new('SmallestImagePixelValue', 'US', 65533)
    stored(ds).save_as(tmp_path/'a.dcm')
    assert scan(tmp_path, progress=False).SmallestImagePixelValue[0] == -3

# --- rescaling: absent or empty is slope 1, intercept 0 (as SimpleITK, see below)

@pytest.mark.parametrize('elements, want', [
    (dict(RescaleIntercept=-1024), [[-1024, 0]]),
    (dict(RescaleSlope=2), [[0, 2048]]),
    (dict(RescaleSlope=None, RescaleIntercept=None), [[0, 1024]]),
    (dict(RescaleSlope=1, RescaleIntercept=None), [[0, 1024]]),
    (dict(RescaleSlope=None, RescaleIntercept=-1024), [[-1024, 0]])])
def test_partial_and_empty_rescaling(elements, want, tmp_path):
    sitk = pytest.importorskip('SimpleITK')
    ds = image([[0, 1024]], np.int16, **elements)
    assert values_in(ds) == want
    stored(ds).save_as(tmp_path/'a.dcm')
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path/'a.dcm')))[0].tolist() == want
    assert scan(tmp_path, progress=False).error[0] == ''

@pytest.mark.parametrize('text', ['abc', 'nan', '1e999', '0'])
def test_a_senseless_slope_is_named(text):
    ds = image([[0, 1024]], np.int16, RescaleIntercept=-1024)
    ds.add_new('RescaleSlope', 'LO', text)  # as text: a writer that checks would not write it
    values, warned = said(pixels, ds)
    assert values.tolist() == [[-1024, 0]]
    assert 'RescaleSlope' in ' '.join(warned)

def test_a_broken_modality_lut_is_named():
    table = Dataset()
    table.add_new('LUTDescriptor', 'US', [9, 0, 16])
    table.add_new('LUTData', 'US', [1, 2])
    ds = image([[0, 1]], np.uint16, ModalityLUTSequence=[table])
    values, warned = said(pixels, stored(ds))
    assert values.tolist() == [[0, 1]]
    assert '2 words of 16 bits, too few for the 9 values' in ' '.join(warned)

def test_a_table_that_lacks_a_value_is_no_table_of_bytes():
    """PS3.3 C.11.1.1.1 and C.7.6.3.1.5: entries of 8 bits stand two in a word only where the table
    has half as many words as entries; DCMTK too takes others as they are"""
    lut = Dataset()
    lut.add_new('LUTDescriptor', 'US', [4, 0, 16])
    lut.add_new('LUTData', 'US', [1000, 2000, 3000])
    ds = image([[0, 1], [2, 3]], np.uint16, ModalityLUTSequence=[lut])
    values, warned = said(pixels, stored(ds))
    assert values.tolist() == [[1000, 2000], [3000, 3000]]
    assert 'LUTData has 3 values, and its descriptor says 4' in ' '.join(warned)

# --- functional groups (PS3.3 C.7.6.16)

def enhanced(n, **macros):
    "A file of `n` frames whose groups hold macro -> one item a frame"
    ds = image(np.arange(n*4, dtype=np.uint16).reshape(n, 2, 2)*100)
    def group(i):
        return item(**{macro: [items[i]] for macro, items in macros.items()})
    ds.PerFrameFunctionalGroupsSequence = [group(i) for i in range(n)]
    return ds

def linear(x, width, level):
    "PS3.3 C.11.2.1.2.1, as a formula"
    share = (x - (level - .5))/(width - 1) + .5
    return np.floor(np.clip(share, 0, 1)*255 + .5).astype(int)

def test_each_frame_has_its_window():
    windows = [item(WindowCenter=c, WindowWidth=101) for c in (100, 600)]
    ds = stored(enhanced(2, FrameVOILUTSequence=windows))
    x = pixels(ds)
    for i, level in enumerate((100, 600)):
        assert to_display(ds, frame=i).tolist() == linear(x[i], 101, level).tolist()
    assert (to_display(ds) == [to_display(ds, frame=0), to_display(ds, frame=1)]).all()

def test_each_frame_has_its_rescaling_and_its_window_follows_it():
    scales = [item(RescaleSlope=s, RescaleIntercept=-10, RescaleType='US') for s in (1, 2)]
    windows = [item(WindowCenter=200, WindowWidth=301)]*2
    ds = stored(enhanced(2, PixelValueTransformationSequence=scales, FrameVOILUTSequence=windows))
    x = np.arange(8).reshape(2, 2, 2)*100.
    assert (pixels(ds) == [x[0] - 10, x[1]*2 - 10]).all()
    assert to_display(ds)[1].tolist() == linear(x[1]*2 - 10, 301, 200).tolist()

def test_one_frame_is_an_image():
    scale = item(RescaleSlope=2, RescaleIntercept=0, RescaleType='US')
    ds = enhanced(1, PixelValueTransformationSequence=[scale])
    for f in pixels, to_display:
        assert f(stored(ds)).shape == (2, 2)
    assert values_in(ds) == [[0, 200], [400, 600]]

def test_an_element_is_found_wherever_it_stands():
    ds = enhanced(2, PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z]) for z in (1, 2)])
    measures = item(PixelSpacing=[.5, .25], SliceThickness=3)
    ds.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[measures])]
    ds.WindowWidth = 400
    ds = stored(ds)
    assert element_value(ds, 'ImagePositionPatient', 1) == [0, 0, 2]
    assert element_value(ds, 'PixelSpacing', 1) == element_value(ds, 'PixelSpacing') == [.5, .25]
    assert element_value(ds, 'WindowWidth', 0) == 400
    assert element_value(ds, 'ImagePositionPatient') is None
    assert element_value(ds, 'RescaleSlope', default=1) == 1
    assert pixel_aspect(ds) == 2

# --- windows and tables

@pytest.mark.parametrize('width, level, function', [
    (0, 40, None), (-400, 40, None), (.5, 40, None), (.5, 40, 'LINEAR_EXACT'), ('nan', 40, None),
    ('wide', 40, None), (400, 'mid', None), (None, 40, None), (400, None, None),
    (400, 40, 'CUBIC'), (0, 40, 'SIGMOID')])
def test_a_senseless_window_never_hides_the_image(width, level, function):
    ds = image([[-100, 40, 200]], np.int16)
    elements = dict(WindowWidth=width, WindowCenter=level, VOILUTFunction=function)
    for keyword, value in elements.items():
        if value is not None:
            ds.add_new(keyword, 'LO', str(value))
    shown, warned = said(to_display, ds)
    assert shown[0, 0] < shown[0, 2]
    if function != 'LINEAR_EXACT':
        assert any('Window' in w or 'VOILUTFunction' in w for w in warned)

@pytest.mark.parametrize('level', [.5, 1, 100.5])
def test_a_window_of_width_1_is_a_step(level):
    """x <= c - 0.5 - (w - 1)/2 is black, and x beyond white: with w = 1 there is no grey
    (PS3.3 C.11.2.1.2.1)"""
    x = np.array([[0, 1], [100, 101]], np.uint8)
    ds = image(x, WindowCenter=level, WindowWidth=1)
    assert greys(ds) == apply_windowing(x, ds).tolist()
    assert greys(ds) == np.where(x > level - .5, 255, 0).tolist()

def test_padding_is_black_through_a_window_of_width_1_too():
    "Of MONOCHROME1 what is below the window is white, and padding has no value to be inverted"
    ds = image([[0, 1], [100, 101]], np.uint16, WindowCenter=100.5, WindowWidth=1,
               PixelPaddingValue=0, PhotometricInterpretation='MONOCHROME1')
    assert greys(ds) == [[0, 255], [255, 0]]

@pytest.mark.parametrize('function, inside', [(None, 80), ('LINEAR', 80), ('LINEAR_EXACT', 81)])
def test_as_many_whole_numbers_are_inside_a_window_as_it_is_wide(function, inside, tmp_path):
    """80 at 40: LINEAR leads from 0, black, to 79, white, since x > c - 0.5 + (w - 1)/2 is clipped;
    LINEAR_EXACT to c + w/2 = 80 (PS3.3 C.11.2.1.2.1, C.11.2.1.3.2)"""
    ds = image(np.arange(-50, 150, dtype=np.int16)[None], WindowWidth=80, WindowCenter=40)
    if function: ds.VOILUTFunction = function
    stored(ds).save_as(tmp_path/'a.dcm')
    assert scan(tmp_path, progress=False).px_window[0] == 100*inside/200

def test_the_first_usable_window_is_taken():
    ds = image([[-100, 40, 200]], np.int16, WindowWidth=[0, 101], WindowCenter=[40, 40])
    assert greys(ds) == linear(np.array([[-100, 40, 200]]), 101, 40).tolist()

def table(data, descriptor, vr='US', data_vr='US'):
    ds = Dataset()
    ds.add_new('LUTDescriptor', vr, descriptor)
    ds.add_new('LUTData', data_vr, data)
    return ds

@pytest.mark.parametrize('bits', [12, 16])
def test_a_voi_lut_whose_descriptor_claims_too_many_bits(bits):
    "Its largest value is white: DCMTK too takes the bits that the values need"
    voi = table([0, 1000, 2000, 4095], [4, 0, bits])
    ds = image([[0, 1], [2, 3]], np.uint16, VOILUTSequence=[voi])
    assert greys(ds) == [[0, 62], [125, 255]]

def test_a_voi_lut_begins_at_a_signed_value():
    x = np.array([[-2, -1], [0, 1]], np.int16)
    ds = image(x, VOILUTSequence=[table([0, 1000, 2000, 4095], [4, 65534, 12])])
    assert greys(ds) == [[0, 62], [125, 255]]
    # unsigned pixels, signed after rescaling
    ds = image((x + 1024).astype(np.uint16), RescaleSlope=1, RescaleIntercept=-1024,
               VOILUTSequence=ds.VOILUTSequence)
    assert greys(ds) == [[0, 62], [125, 255]]

@pytest.mark.parametrize('dtype, rescaled', [
    (np.int16, {}), (np.uint16, dict(RescaleSlope=1, RescaleIntercept=-1024)),
    (np.uint16, dict(RescaleSlope=-1, RescaleIntercept=1024, Modality='OT'))])
def test_a_voi_lut_is_signed_where_values_could_be_negative_and_none_is(dtype, rescaled):
    "PS3.3 C.11.2.1.1: the sign goes with what may come out of the rescaling, not with this image"
    lut = table(np.arange(0, 4096, dtype=np.uint16).tolist(), [4096, 65536 - 1024, 12])
    slope, intercept = rescaled.get('RescaleSlope', 1), rescaled.get('RescaleIntercept', 0)
    values = np.array([[0, 500], [1000, 1024]])
    ds = image((values - intercept)//slope, dtype, VOILUTSequence=[lut], **rescaled)
    assert greys(ds) == np.rint((values + 1024)/4095*255).astype(int).tolist()

def test_a_voi_lut_of_values_that_can_not_be_negative_is_unsigned():
    lut = table([0, 1365, 2730, 4095], [4, 40000, 12])
    ds = image([[40000, 40001], [40002, 40003]], np.uint16, Modality='DX', VOILUTSequence=[lut],
               SOPClassUID='1.2.840.10008.5.1.4.1.1.1.1')
    assert greys(ds) == [[0, 85], [170, 255]]

def test_padding_is_black_through_a_voi_lut_too():
    lut = table([0, 1365, 2730, 4095], [4, 0, 12])
    ds = image([[0, 1], [2, 9]], np.uint16, PixelPaddingValue=9, VOILUTSequence=[lut])
    assert greys(ds) == [[0, 85], [170, 0]]
    ds.PhotometricInterpretation = 'MONOCHROME1'
    assert greys(ds) == [[255, 170], [85, 0]]

def test_single_bits_are_black_and_white():
    "Without a window a value is as bright as it is among those that can be stored (PS3.5 8.1.1)"
    bits = np.zeros((2, 2, 4), np.uint8)
    bits[1] = 1
    ds = frames_of_bits(bits)
    assert to_display(ds).tolist() == (bits*255).tolist()
    for i in 0, 1:
        assert to_display(ds, i).tolist() == (bits[i]*255).tolist()
    bits[:, 0] = 1 - bits[:, 0]
    assert to_display(frames_of_bits(bits), 1).tolist() == (bits[1]*255).tolist()

@pytest.mark.parametrize('bits, want', [(8, [[0, 64, 127]]), (7, [[0, 129, 255]])])
def test_white_is_the_greatest_byte_that_there_can_be(bits, want):
    "The number has BitsStored bits (PS3.5 8.1.1)"
    ds = image([[0, 64, 127]], np.uint8, BitsStored=bits, HighBit=bits - 1)
    assert greys(ds) == want

@pytest.mark.parametrize('slope', [10, 1/255])
def test_bytes_that_are_rescaled_are_no_greys_yet(slope):
    "Without a window all values are shown, from the lowest to the highest"
    ds = image([[0, 51], [102, 255]], np.uint8, RescaleSlope=slope, RescaleIntercept=0)
    assert greys(ds) == [[0, 51], [102, 255]]

def test_a_modality_lut_begins_at_a_signed_value():
    lut = table([10, 20, 30, 40], [4, 65534, 16])
    ds = image([[-2, -1], [0, 1]], np.int16, ModalityLUTSequence=[lut])
    assert values_in(ds) == [[10, 20], [30, 40]]

@pytest.mark.parametrize('dtype', ['u1', '<u2'], ids=['bytes', 'words'])
def test_entries_of_8_bits_in_a_modality_lut(dtype):
    packed = np.array([10, 20, 30, 40], dtype).tobytes()
    lut = table(packed, [4, 0, 8], data_vr='OW')
    ds = image([[0, 1], [2, 3]], np.uint16, ModalityLUTSequence=[lut])
    assert values_in(ds) == [[10, 20], [30, 40]]

@pytest.mark.parametrize('bits, dtype, scale', [
    (8, np.uint8, 1), (8, np.uint16, 1), (16, np.uint16, 1), (16, np.uint16, 257),
    (8, np.uint16, 257)])
def test_palettes_by_their_length_and_values(bits, dtype, scale):
    """PS3.3 C.7.6.3.1.5 and C.7.9: 8-bit entries may stand in 16-bit words,
    and a descriptor may say 16 of values to 255."""
    ds = image([[0, 1], [2, 3]], np.uint8, PhotometricInterpretation='PALETTE COLOR')
    values = (np.array([0, 85, 170, 255])*scale).astype(dtype)
    for colour in ('Red', 'Green', 'Blue'):
        setattr(ds, f'{colour}PaletteColorLookupTableDescriptor', [4, 0, bits])
        setattr(ds, f'{colour}PaletteColorLookupTableData', values.tobytes())
    assert to_display(stored(ds))[..., 0].tolist() == [[0, 85], [170, 255]]

def test_a_dark_palette_stays_dark():
    ds = image([[0, 1], [2, 3]], np.uint8, PhotometricInterpretation='PALETTE COLOR')
    for colour in ('Red', 'Green', 'Blue'):
        values = np.array([0, 10, 20, 30], np.uint8)
        setattr(ds, f'{colour}PaletteColorLookupTableDescriptor', [4, 0, 8])
        setattr(ds, f'{colour}PaletteColorLookupTableData', values.tobytes())
    assert to_display(stored(ds))[..., 2].tolist() == [[0, 10], [20, 30]]

# --- messages

def encoded(frames, syntax, n):
    ds = image(np.zeros((n, 16, 16), np.uint8))
    ds.add_new('PixelData', 'OB', encapsulate(frames))
    ds['PixelData'].is_undefined_length = True
    return stored(ds, syntax)

def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), 50, np.uint8)).save(buffer, 'JPEG')
    return buffer.getvalue()

def test_missing_frames_are_counted():
    ds = encoded([jpeg()]*2, JPEGBaseline8Bit, 3)
    with pytest.raises(DicomError, match='claims 3 frames, the pixel data holds 2'):
        pixels(ds)
    assert pixels(ds, frame=1).shape == (16, 16)
    with pytest.raises(DicomError):
        pixels(ds, frame=2)

@pytest.mark.parametrize('syntax, says', [
    (MPEG4HP41, 'video'), (MPEG2MPML, 'video'), ('1.2.840.113619.5.2', 'private'),
    ('1.2.840.10008.1.2.4.52', 'no decoder'), ('1.2.840.10008.1.1', 'which is none')])
def test_what_can_not_be_decoded_says_why(syntax, says):
    ds = image(np.zeros((16, 16), np.uint8))
    ds.file_meta.TransferSyntaxUID = syntax
    for f in pixels, to_display, pixel_unit:
        try: f(ds)
        except DicomError as e: assert says in str(e) and 'damage' not in str(e)

# --- quantities

def test_dose():
    "PS3.3 C.8.8.3.4"
    ds = image([[100000, 200000]], np.uint32, Modality='RTDOSE',
               DoseGridScaling='1e-5', DoseUnits='GY')
    np.testing.assert_allclose(pixels(stored(ds)), [[1, 2]])
    assert pixel_unit(stored(ds)) == 'Gy'
    assert greys(ds) == [[0, 255]]

def test_a_rescaling_that_changes_nothing_hides_no_dose():
    "PS3.3 C.8.8.3.4: DoseGridScaling makes the dose, whatever else is there"
    ds = image([[100000, 200000]], np.uint32, Modality='RTDOSE', DoseGridScaling='1e-5',
               DoseUnits='GY', RescaleSlope=1, RescaleIntercept=0)
    np.testing.assert_allclose(pixels(stored(ds)), [[1, 2]])
    assert pixel_unit(stored(ds)) == 'Gy'

def mapping(**elements):
    unit = item(CodeValue='mm2/s', CodingSchemeDesignator='UCUM', CodeMeaning='mm2/s')
    return item(MeasurementUnitsCodeSequence=[unit], **elements)

def test_real_world_values():
    "PS3.3 C.7.6.16.2.11: slope and intercept on stored values, within the values mapped"
    values = mapping(RealWorldValueSlope=.5, RealWorldValueIntercept=1.,
                     RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=100)
    ds = image([[0, 100, 101]], np.uint16, RealWorldValueMappingSequence=[values])
    x = pixels(stored(ds))
    assert x[0, :2].tolist() == [1, 51]
    assert np.isnan(x[0, 2])
    assert pixel_unit(stored(ds)) == 'mm2/s'
    # with a rescaling, which windows refer to, they are had on request
    ds.RescaleSlope, ds.RescaleIntercept = 3, 0
    assert values_in(ds) == [[0, 300, 303]]
    assert pixel_unit(stored(ds)) == 'HU'
    assert pixels(stored(ds), real_world=True)[0, :2].tolist() == [1, 51]
    unmapped = stored(image(np.zeros((2, 2), np.uint16)))
    with pytest.raises(DicomError, match='no usable RealWorldValueMappingSequence'):
        pixels(unmapped, real_world=True)

@pytest.mark.parametrize('first, last, dtype, want', [
    (0, 65535, np.int16, [[0, 200]]),    # 65535 is -1 among signed pixels
    (100, 0, np.uint16, [[0, 200]]),     # crossed however they are read
    (65436, 200, np.int16, [[0, 200]]),  # -100 to 200
    (0, 50, np.int16, [[0, np.nan]])])
def test_the_ends_of_what_is_mapped_do_not_cross(first, last, dtype, want):
    "PS3.3 C.7.6.16.2.11: the first and the last value mapped, US or SS as the pixels are"
    values = item(RealWorldValueSlope=2., RealWorldValueIntercept=0.)
    values.add_new('RealWorldValueFirstValueMapped', 'US', first)
    values.add_new('RealWorldValueLastValueMapped', 'US', last)
    ds = image([[0, 100]], dtype, Modality='NM', RealWorldValueMappingSequence=[values])
    x, warned = said(pixels, stored(ds))
    np.testing.assert_array_equal(x, want)
    is_crossed = (first, last) in [(0, 65535), (100, 0)]
    assert ('RealWorldValueLastValueMapped' in ' '.join(warned)) == is_crossed

@pytest.mark.parametrize('elements', [
    dict(RealWorldValueMappingSequence=[mapping(
        RealWorldValueSlope=1e-6, RealWorldValueIntercept=0., RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=4095)]),
    dict(Modality='RTDOSE', DoseGridScaling='1e-6', DoseUnits='GY'),
    dict(RescaleSlope=1, RescaleIntercept=0)], ids=['real world', 'dose', 'rescaling'])
def test_a_table_counts_inside_the_window_in_stored_values(elements, tmp_path):
    "PS3.3 C.11.2.1.2: the file's window is for what its modality LUT or rescaling gives"
    usual = dict(Modality='MR', WindowCenter=1000, WindowWidth=1000)
    ds = image([[0, 1000], [2000, 3000]], np.uint16, **usual | elements)
    stored(ds).save_as(tmp_path/'a.dcm')
    table = scan(tmp_path, progress=False)
    assert table.px_window[0] == 25
    highest = pixels(stored(ds)).max()
    assert table.px_max[0] == highest
    # a window that is asked for is in the unit of the pixels
    asked = scan(tmp_path, progress=False, window=(float(highest), float(highest)))
    assert asked.px_window[0] == 50

def test_real_world_values_by_table():
    values = mapping(RealWorldValueLUTData=[.5, .25, .125],
                     RealWorldValueFirstValueMapped=10, RealWorldValueLastValueMapped=12)
    ds = image([[10, 11, 12]], np.uint16, RealWorldValueMappingSequence=[values])
    assert values_in(ds) == [[.5, .25, .125]]

@pytest.mark.parametrize('modality, elements, unit', [
    ('CT', {}, 'stored values'),
    ('CT', dict(RescaleSlope=1, RescaleIntercept=-1024), 'HU'),
    ('MR', dict(RescaleSlope=2, RescaleIntercept=0), 'rescaled values'),
    ('PT', dict(RescaleSlope=2, RescaleIntercept=0, Units='BQML'), 'Bq/ml'),
    ('PT', dict(RescaleSlope=2, RescaleIntercept=0, Units='PCNT'), 'percent'),
    ('CR', dict(RescaleSlope=1, RescaleIntercept=0, RescaleType='OD'), 'optical density/1000')])
def test_units(modality, elements, unit):
    ds = image(np.zeros((2, 2), np.int16), Modality=modality, **elements)
    assert pixel_unit(stored(ds)) == unit

def pet(**elements):
    "70 kg, 370 MBq of fluorine-18 (half-life 6586.2 s) an hour before the scan"
    source = item(RadiopharmaceuticalStartTime='100000', RadionuclideTotalDose=370e6,
                  RadionuclideHalfLife=6586.2)
    usual = dict(
        Modality='PT', Units='BQML', DecayCorrection='START', CorrectedImage=['ATTN', 'DECY'],
        PatientWeight=70, SeriesDate='20200101', SeriesTime='110000', AcquisitionTime='110000',
        RescaleSlope=2, RescaleIntercept=0, RadiopharmaceuticalInformationSequence=[source])
    return stored(image([[0, 1000]], np.uint16, **usual | elements))

@pytest.mark.parametrize('day', ['20191231', '20150101'])
def test_an_injection_that_nothing_is_left_of(day):
    "De-identification shifted the date of the series and left that of the injection"
    source = injected(f'{day}100000')
    with pytest.raises(DicomError, match='half-lives.*compare it with another copy'):
        suv(pet(RadiopharmaceuticalInformationSequence=[source]))
    source.RadiopharmaceuticalStartTime = '100000'
    with pytest.raises(DicomError, match='delete RadiopharmaceuticalStartDateTime'):
        suv(pet(RadiopharmaceuticalInformationSequence=[source]))
    del source.RadiopharmaceuticalStartDateTime
    np.testing.assert_allclose(suv(pet(RadiopharmaceuticalInformationSequence=[source])), suv(pet()))

def test_uptake():
    "By hand, after QIBA: activity in Bq/ml x weight in g / (dose x 2^(-3600 s/half-life))"
    want = 2000*70000/(370e6*2**(-3600/6586.2))
    np.testing.assert_allclose(suv(pet()), [[0, want]], rtol=1e-6)
    at_injection = 2000*70000/370e6
    np.testing.assert_allclose(suv(pet(DecayCorrection='ADMIN')), [[0, at_injection]], rtol=1e-6)
    np.testing.assert_allclose(suv(pet(Units='GML')), [[0, 2000]])

def test_an_uptake_over_midnight():
    """RadiopharmaceuticalStartTime (0018,1072) and a lone AcquisitionTime are times within a day
    (PS3.5 6.2, TM): an injection at 23:30 before a scan at 0:30 was the day before"""
    source = item(RadiopharmaceuticalStartTime='233000', RadionuclideTotalDose=370e6,
                  RadionuclideHalfLife=6586.2)
    injected_late = dict(RadiopharmaceuticalInformationSequence=[source])
    times = dict(SeriesTime='003000', AcquisitionTime='003000')
    np.testing.assert_allclose(suv(pet(**times, **injected_late)), suv(pet()), rtol=1e-6)
    source.RadiopharmaceuticalStartTime = '225930'
    times = dict(SeriesTime='235930', AcquisitionTime='000030') # the last bed position
    np.testing.assert_allclose(suv(pet(**times, **injected_late)), suv(pet()), rtol=1e-6)
    # a date that is stated is taken as it is
    source.RadiopharmaceuticalStartDateTime = '20200102233000'
    with pytest.raises(DicomError, match='lies after the scan'): suv(pet(**times, **injected_late))

def injected(stamp):
    "The item of an injection at `stamp`, a date and time (DT)"
    return item(RadiopharmaceuticalStartDateTime=stamp, RadionuclideTotalDose=370e6,
                RadionuclideHalfLife=6586.2)

@pytest.mark.parametrize('stamp', [
    '20200101100000', '20200101100000+0100', '20200101090000+0000', '20200101090000.000000+0000',
    '20200101040000-0500', '20200101143000+0530', '202001010900+0000', '20191231210000-1200'])
def test_an_injection_is_written_in_any_time_zone(stamp):
    """An hour before the scan. A DT may say how far its clock is ahead of UTC, &ZZXX (PS3.5 6.2);
    that of the other dates and times is Timezone Offset From UTC (0008,0201), and that of a DT that
    says nothing, too (PS3.3 C.12.1.1)"""
    ds = pet(TimezoneOffsetFromUTC='+0100',
             RadiopharmaceuticalInformationSequence=[injected(stamp)])
    shown, warned = said(suv, ds)
    np.testing.assert_allclose(shown, suv(pet()), rtol=1e-6)
    assert not warned

@pytest.mark.parametrize('zone', [None, '+01:00', 'CET'])
def test_a_time_zone_that_nothing_compares_with_is_named(zone):
    "Which zone the times of the scan are in is not known: as before, the clocks count as one"
    ds = pet(TimezoneOffsetFromUTC=zone,
             RadiopharmaceuticalInformationSequence=[injected('20200101100000+0000')])
    shown, warned = said(suv, ds)
    np.testing.assert_allclose(shown, suv(pet()), rtol=1e-6)
    assert any('StartDateTime has the zone +0000, and TimezoneOffsetFromUTC' in w for w in warned)

@pytest.mark.parametrize('elements, says', [
    (dict(PatientWeight=None), 'no PatientWeight'),
    (dict(PatientWeight=0), 'must be positive'),
    (dict(Units='CNTS'), 'CNTS'),
    (dict(CorrectedImage=['ATTN']), 'DECY'),
    (dict(DecayCorrection='NONE'), 'NONE'),
    (dict(SeriesTime='130000'), 'after AcquisitionTime'),
    (dict(SeriesTime='090000'), 'lies after the scan'),
    (dict(Modality='CT'), 'not PT'),
    (dict(RadiopharmaceuticalInformationSequence=None), 'no Radiopharm')])
def test_an_uptake_that_can_not_be_had_says_why(elements, says):
    with pytest.raises(DicomError, match=says):
        suv(pet(**elements))

@pytest.mark.parametrize('kind', ['LBM', 'LBMJANMA', 'LBMJAMES128', 'IBW', 'BSA'])
def test_an_uptake_by_another_size_than_weight_is_none_by_weight(kind):
    "PS3.3 C.8.9.1: SUVType (0054,1006) says by what GML was divided; without it, by body weight"
    for body_weight in None, 'BW':
        np.testing.assert_allclose(suv(pet(Units='GML', SUVType=body_weight)), [[0, 2000]])
    with pytest.raises(DicomError, match=f'SUVType is {kind}, .* not by body weight.*BQML'):
        suv(pet(Units='GML', SUVType=kind))
    # what is computed from an activity is by body weight
    np.testing.assert_allclose(suv(pet(SUVType=kind)), suv(pet()))
    assert pixel_unit(pet(Units='GML', SUVType=kind)) == 'g/ml'

def philips(ds, suv_scale=None, activity_scale=None, creator='Philips PET Private Group', vr='DS'):
    "`ds` with the factors that a Philips scanner writes beside its counts"
    block = ds.private_block(0x7053, creator, create=True)
    for element, value in (0x00, suv_scale), (0x09, activity_scale):
        if value is None: continue
        block.add_new(element, vr, str(value).encode() if vr == 'UN' else value)
    return ds

@pytest.mark.parametrize('vr', ['DS', 'UN'])
@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_uptake_of_philips_counts(vr, syntax):
    """QIBA, "SUV vendor neutral" pseudo-code of 2018-06-26: for CNTS the factor is (7053,1000) of
    'Philips PET Private Group'. Numbers: PixelMed's TestSUVTransform (PhilipsSUVScaleFactor) of the
    UIHC digital reference object, in which 7972 is an uptake of 1"""
    ds = image([[0, 7972]], np.uint16, Modality='PT', Units='CNTS', DecayCorrection='START',
               CorrectedImage=['ATTN', 'DECY'], RescaleSlope=.453901487278775, RescaleIntercept=0)
    shown = suv(stored(philips(ds, 2.7634e-4, vr=vr), syntax))
    np.testing.assert_allclose(shown, [[0, 1]], atol=1e-4)

def test_the_uptake_of_philips_counts_by_activity():
    """QIBA, as above: without (7053,1000), (7053,1009) makes Bq/ml of rescaled counts, and they go
    on as BQML. Philips writes 0 for a factor that it does not have (so Weasis reads it)"""
    for suv_scale in None, 0:
        counts = philips(pet(Units='CNTS'), suv_scale, activity_scale=3)
        np.testing.assert_allclose(suv(counts), 3*suv(pet()), rtol=1e-6)
    # the first of the two is enough, and says it without dose and weight
    both = philips(pet(Units='CNTS', PatientWeight=None), .004, activity_scale=3)
    np.testing.assert_allclose(suv(both), [[0, 8]], rtol=1e-6)

@pytest.mark.parametrize('elements, factors, says', [
    ({}, {}, r'CNTS.*\(7053,1000\).*\(7053,1009\).*as the scanner wrote'),
    ({}, dict(suv_scale=0, activity_scale=0), 'as the scanner wrote'),
    ({}, dict(suv_scale=-1), 'as the scanner wrote'),
    ({}, dict(suv_scale=.004, creator='SOMEBODY ELSE'), 'as the scanner wrote'),
    (dict(SUVType='LBM'), dict(suv_scale=.004), 'SUVType is LBM'),
    (dict(CorrectedImage=['DECY']), dict(suv_scale=.004), 'ATTN'),
    (dict(DecayCorrection='NONE'), dict(suv_scale=.004), 'DecayCorrection is NONE'),
    (dict(PatientWeight=None), dict(activity_scale=3), 'no PatientWeight'),
    (dict(Units='PROPCNTS'), dict(suv_scale=.004), 'Units is PROPCNTS.*take the series')])
def test_counts_without_an_uptake_say_why(elements, factors, says):
    with pytest.raises(DicomError, match=says):
        suv(philips(pet(**dict(Units='CNTS') | elements), **factors))

# --- sides (PS3.3 C.7.6.1.1.1, C.7.6.2.1.1; shown as seen from the front or from the feet)

@pytest.mark.parametrize('cosines, want, upright', [
    ([1, 0, 0, 0, 1, 0], ('L', 'P', 'axial'), ('L', 'P', 'axial')),
    ([-1, 0, 0, 0, -1, 0], ('R', 'A', 'axial'), ('L', 'P', 'axial')),      # prone
    ([0, 1, 0, 1, 0, 0], ('P', 'L', 'axial'), ('L', 'P', 'axial')),        # turned by 90 degrees
    ([-1, 0, 0, 0, 0, 1], ('R', 'H', 'coronal'), ('L', 'F', 'coronal')),
    ([0, -1, 0, 0, 0, -1], ('A', 'F', 'sagittal'), ('P', 'F', 'sagittal')),
    # 5.7 degrees: no second letter
    ([.995, .0998, 0, -.0998, .995, 0], ('L', 'P', 'axial'), ('L', 'P', 'axial')),
    ([.8660, .5, 0, -.5, .8660, 0], ('LP', 'PR', 'axial'), ('LP', 'PR', 'axial')),
    ([.7071, .7071, 0, 0, 0, -1], ('LP', 'F', 'oblique'), ('LP', 'F', 'oblique'))])
def test_letters_from_cosines(cosines, want, upright):
    lies = orientation(stored(image(np.zeros((2, 2), np.int16), ImageOrientationPatient=cosines)))
    assert lies == want
    assert lies.upright == upright

@pytest.mark.parametrize('column', [[.6000, .53, -.5993], [.5993, .53, -.6000]])
def test_rows_and_columns_lie_along_two_axes(column):
    """PS3.3 C.7.6.1.1.1: of two planes that differ by a thousandth, rows and columns of the first
    both run farthest to the left. Turning it changed rows for columns"""
    x = np.array([[1, 2], [3, 4]], np.uint8)
    ds = stored(image(x, Modality='MR', ImageOrientationPatient=[.7248, -.6773, .1267, *column]))
    assert orientation(ds) == ('LAH', 'FLP', 'oblique')
    assert to_display(ds, upright=True).tolist() == x.tolist()

def test_a_tomogram_lies_as_its_detector_says():
    "PS3.3 C.8.4.11: nuclear medicine keeps ImageOrientationPatient in the detector's item"
    detector = item(ImageOrientationPatient=[1, 0, 0, 0, 0, 1], ImagePositionPatient=[0, 0, 0])
    ds = image([[[1, 2], [3, 4]]]*2, np.uint8, Modality='NM',
               ImageType=['ORIGINAL', 'PRIMARY', 'RECON TOMO'],
               DetectorInformationSequence=[detector])
    assert orientation(stored(ds)) == ('L', 'H', 'coronal')
    assert to_display(stored(ds), 0, upright=True).tolist() == [[3, 4], [1, 2]]
    # of projections it says how the detector stood at the first one
    ds.ImageType = ['ORIGINAL', 'PRIMARY', 'TOMO']
    assert orientation(stored(ds)) == (None, None, None)

@pytest.mark.parametrize('letters, upright, turned', [
    (['L', 'F'], ('L', 'F'), [[1, 2], [3, 4]]),
    (['R', 'F'], ('L', 'F'), [[2, 1], [4, 3]]),
    (['L', 'H'], ('L', 'F'), [[3, 4], [1, 2]]),
    (['F', 'L'], ('L', 'F'), [[1, 3], [2, 4]]),
    (['H', 'R'], ('L', 'F'), [[4, 2], [3, 1]]),
    # a side view stays as it was taken, and upside down, it is turned
    (['A', 'F'], ('A', 'F'), [[1, 2], [3, 4]]),
    (['P', 'F'], ('P', 'F'), [[1, 2], [3, 4]]),
    (['A', 'H'], ('P', 'F'), [[4, 3], [2, 1]]),
    # from above: no head to turn up
    (['A', 'R'], ('A', 'R'), [[1, 2], [3, 4]])])
def test_a_projection_is_hung_as_radiologists_do(letters, upright, turned):
    x = np.array([[1, 2], [3, 4]], np.uint8)
    ds = stored(image(x, Modality='DX', PatientOrientation=letters))
    lies = orientation(ds)
    assert lies == (*letters, 'projection')
    assert lies.upright == (*upright, 'projection')
    assert lies.turn(x).tolist() == turned
    assert to_display(ds, upright=True).tolist() == turned

@pytest.mark.parametrize('elements', [
    {},
    dict(PatientOrientation=['', '']),
    dict(PatientOrientation='L'),
    dict(PatientOrientation=['L', 'R']),
    dict(PatientOrientation=['X', 'F']),
    dict(ImageOrientationPatient=[0]*6),
    dict(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])])
def test_a_file_that_does_not_say_is_left_as_it_is(elements):
    x = np.array([[0, 1], [2, 255]], np.uint8)
    ds = image(x, Modality='DX', **elements)
    lies, warned = said(orientation, ds)
    assert lies == (None, None, 'projection') == lies.upright
    assert said(to_display, ds, upright=True)[0].tolist() == x.tolist()
    says_something = elements and ds.get('PatientOrientation') != ['', '']
    if says_something:
        assert any('Orientation' in w for w in warned)

def test_colour_and_frames_are_turned_too():
    x = np.arange(2*2*3*3, dtype=np.uint8).reshape(2, 2, 3, 3)
    ds = image(np.zeros((2, 2, 3), np.uint8), Modality='XA', SamplesPerPixel=3,
               PhotometricInterpretation='RGB', PlanarConfiguration=0,
               PatientOrientation=['F', 'L'])
    ds.PixelData = x.tobytes()
    assert (to_display(stored(ds), upright=True) == x.swapaxes(1, 2)).all()

def test_an_enhanced_file_says_it_in_its_groups():
    axial = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    sagittal = item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    planes = [axial, sagittal]
    ds = stored(enhanced(2, PlaneOrientationSequence=planes))
    assert [orientation(ds, i).plane for i in (0, 1)] == ['axial', 'sagittal']
    assert orientation(ds).plane == 'axial'

@pytest.mark.parametrize('elements, want', [
    (dict(PixelSpacing=[2, 1]), 2),
    (dict(PixelSpacing=[0, 0], PixelAspectRatio=[3, 2]), 1.5),
    (dict(ImagerPixelSpacing=[.1, .2]), .5),
    ({}, 1),
    (dict(PixelAspectRatio=[0, 1]), 1)])
def test_aspect(elements, want):
    assert pixel_aspect(stored(image(np.zeros((2, 2), np.int16), **elements))) == want

def test_scan_says_how_images_lie_and_in_what_unit(tmp_path):
    radiograph = image([[1, 2]], np.uint8, Modality='DX', PatientOrientation=['R', 'F'],
                       ImageLaterality='R', ViewPosition='AP')
    stored(radiograph).save_as(tmp_path/'a.dcm')
    axial = image([[1, 2]], np.int16, ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                  RescaleIntercept=-1024, RescaleSlope=1)
    stored(axial).save_as(tmp_path/'b.dcm')
    t = scan(tmp_path, progress=False)
    assert t.plane.tolist() == ['projection', 'axial']
    assert t.laterality[0] == 'R'
    assert t.view[0] == 'AP'
    assert t.px_unit.tolist() == ['stored values', 'HU']
    assert t.px_min.tolist() == [1, -1023]

@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize('with_pixels', [True, False])
def test_a_table_holds_no_bytes(syntax, with_pixels, tmp_path):
    ds = image(np.zeros((64, 64), np.int16))
    ds.add_new(0x60003000, 'OW', b'\x55'*512)
    ds.add_new('ICCProfile', 'OB', b'\x01'*300)
    stored(ds, syntax).save_as(tmp_path/'a.dcm')
    columns = set(scan(tmp_path, pixels=with_pixels, progress=False))
    assert not {'PixelData', 'ICCProfile', 'OverlayData'} & columns

def test_windows_by_name():
    ds = image([[0, 40, 80]], np.int16)
    want = [[0, 128, 255]]
    assert to_display(ds, window='brain').tolist() == want
    assert to_display(ds, window=(80, 40)).tolist() == want
    assert to_display(ds, width=80, level=40).tolist() == want
    for wrong in (dict(window='brian'), dict(window='brain', width=3), dict(width=3),
                  dict(width=0, level=3), dict(window=(0, 3))):
        with pytest.raises(ValueError):
            to_display(ds, **wrong)

# --- what is refused

@pytest.mark.parametrize('read, says', [
    (orientation, 'finding its orientation failed'),
    (pixel_aspect, 'finding the shape of its pixels failed'),
    (pixel_unit, 'finding the unit failed'),
    (elements, 'listing its elements failed')])
def test_what_is_no_data_set_is_refused(read, says):
    with pytest.raises(DicomError, match=f'{says}.*another copy'):
        read(None)

@pytest.mark.parametrize('x, says', [
    ('text', 'picture: need real numbers, found <U4'),
    ([1j], r'picture: need real numbers, found complex128; .* give np.abs')])
def test_what_is_no_real_number_is_refused(x, says):
    with pytest.raises(ValueError, match=says):
        real_array(x, 'picture')

@pytest.mark.parametrize('window, says', [
    ('lungs', "no window 'lungs'; there are brain"),
    ((400,), r'a window has two numbers, width and level, not \(400,\)'),
    ((400, np.nan), 'a window has two numbers'),
    ((0, 40), 'width must be positive, not 0')])
def test_a_window_that_is_none_is_refused(window, says):
    with pytest.raises(ValueError, match=says):
        check_window(window)

@pytest.mark.parametrize('values, greys', [
    (np.array([[-32768, -1000, 40, 3000]], np.int16), [0, 226, 234, 255]),
    (np.array([[-128, 0, 127]], np.int8), [0, 128, 255])])
def test_a_range_that_its_own_type_does_not_hold(values, greys):
    "Before, the picture was black: 3000 - (-32768) wrapped in 16 bits"
    found = labelled_image(values, np.zeros_like(values), {1: 'a'})[0, :, 0]
    assert np.abs(found.astype(int) - greys).max() <= 1

def test_masked_pixels_of_a_labelled_image_have_no_value():
    "As `show_image` draws them"
    masked = np.ma.masked_equal(np.array([[0., 50, 100, -2000]]), -2000)
    none = np.array([[0., 50, 100, np.nan]])
    labels = np.zeros((1, 4), int)
    np.testing.assert_array_equal(labelled_image(masked, labels, {1: 'a'}),
                                  labelled_image(none, labels, {1: 'a'}))
