"DICOM series against SimpleITK, dcm2niix, nibabel and made-up series whose truth is known"
import gzip
import itertools
import shutil
import struct
import subprocess
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

import medtut.planes
from medtut.conversion import nifti_files, series_table
from medtut.errors import DicomError
from medtut.nifti import load_nifti, save_nifti
from medtut.planes import Plane, VolumeError, read_images
from medtut.series import split_volumes
from medtut.volumes import check_same_grid, load_series, reorient, resample, spacing

# axes of a slice: right and down, LPS+
AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
LPS_TO_RAS = np.diag([-1, -1, 1, 1])
turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
OBLIQUE = tuple(np.round(turned[:2], 10).ravel())
ROWS, COLUMNS, SLICES, PIXEL, STEP = 5, 7, 6, (.7, .5), 2.5

def item(**elements):
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds

def image(values, **elements):
    "A data set of whole numbers, (rows, columns) or (frames, rows, columns)"
    values = np.asarray(values, np.int16)
    ds = item(SOPClassUID=CTImageStorage, SOPInstanceUID=generate_uid(), SeriesInstanceUID='1.2.3',
              Modality='CT', PatientID='p1')
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.Rows, ds.Columns = values.shape[-2:]
    if values.ndim == 3:
        ds.NumberOfFrames = len(values)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.add_new('PixelData', 'OW', values.tobytes())
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds

def position(z, iop=AXIAL, origin=(-30, 12, 5), sideways=0):
    "Where slice `z` lies (PS3.3 C.7.6.2.1.1); a DS holds 16 characters"
    right, down = np.array(iop, float).reshape(2, 3)
    place = np.array(origin) + z*STEP*np.cross(right, down) + z*sideways*down
    return [f'{v:.8f}'[:16] for v in place]

def picture(z, volume=0):
    return np.arange(ROWS*COLUMNS).reshape(ROWS, COLUMNS) + 100*z + 1000*volume

def slice_(z, iop=AXIAL, volume=0, sideways=0, **elements):
    place = dict(ImagePositionPatient=position(z, iop, sideways=sideways), PixelSpacing=list(PIXEL),
                 ImageOrientationPatient=[f'{v:.10f}' for v in iop], SliceThickness=STEP,
                 InstanceNumber=z + 1)
    return image(picture(z, volume), **place | elements)

def write(folder, datasets, shuffled=True):
    order = np.arange(len(datasets))
    if shuffled:
        np.random.default_rng(0).shuffle(order)
    folder.mkdir(exist_ok=True)
    for i, at in enumerate(order):
        datasets[at].save_as(folder/f'{i:03}.dcm', enforce_file_format=True)
    return folder

def truth(volume=0):
    return np.stack([picture(z, volume).T for z in range(SLICES)], -1)

def load(folder, **kwargs):
    return load_series(folder, progress=False, **kwargs)

def refused(folder, match, **kwargs):
    with pytest.raises(VolumeError, match=match):
        load(folder, **kwargs)

def all_slices(iop=AXIAL, **elements):
    return [slice_(z, iop, **elements) for z in range(SLICES)]

def by_simpleitk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return from_itk(reader.Execute())

def from_itk(read):
    directions = np.array(read.GetDirection()).reshape(3, 3)
    lps = nib.affines.from_matvec(directions*read.GetSpacing(), read.GetOrigin())
    return sitk.GetArrayFromImage(read).T, LPS_TO_RAS @ lps

def by_dcm2niix(folder, out):
    out.mkdir()
    command = ['dcm2niix', '-o', out, '-f', 'x', '-b', 'n', folder]
    subprocess.run(command, check=True, capture_output=True)
    read = nib.load(next(out.glob('*.nii')))
    return np.asanyarray(read.dataobj), read.affine

needs_dcm2niix = pytest.mark.skipif(
    not shutil.which('dcm2niix'), reason='dcm2niix is not installed')

def same(mine, other, mm=1e-3):
    "Equal voxels at equal places, whichever way the axes run: corners within `mm`"
    (x, affine), (y, other_affine) = reorient(*mine), reorient(*other)
    assert x.shape == y.shape
    corners = itertools.product(*[(0, n - 1) for n in x.shape])
    corners = np.array([[*corner, 1] for corner in corners]).T
    assert np.abs(affine @ corners - other_affine @ corners).max() <= mm
    assert_allclose(x, y, atol=1e-3)

# geometry of single-frame series

@pytest.mark.parametrize('falling', [False, True])
@pytest.mark.parametrize('iop', [AXIAL, SAGITTAL, CORONAL, OBLIQUE],
                         ids=['axial', 'sagittal', 'coronal', 'oblique'])
def test_every_direction_as_simpleitk(tmp_path, iop, falling):
    number = lambda z: SLICES - z if falling else z + 1
    datasets = [slice_(z, iop, InstanceNumber=number(z)) for z in range(SLICES)]
    x, affine = load(write(tmp_path, datasets))
    assert np.array_equal(x, truth())
    same((x, affine), by_simpleitk(tmp_path))
    right, down = np.array(iop).reshape(2, 3)
    lps = np.column_stack([right*PIXEL[1], down*PIXEL[0], np.cross(right, down)*STEP, (-30, 12, 5)])
    assert_allclose(affine[:3], np.diag([-1, -1, 1]) @ lps, atol=1e-6)

@needs_dcm2niix
@pytest.mark.parametrize('iop', [AXIAL, SAGITTAL, OBLIQUE], ids=['axial', 'sagittal', 'oblique'])
def test_every_direction_as_dcm2niix(tmp_path, iop):
    write(tmp_path/'in', all_slices(iop, Modality='MR'))
    same(load(tmp_path/'in'), by_dcm2niix(tmp_path/'in', tmp_path/'out'))

@pytest.mark.parametrize('differences', [(0, 1e-6), (0, 5e-5)])
@pytest.mark.parametrize('keyword', ['PixelSpacing', 'ImageOrientationPatient'])
def test_rounding_makes_no_second_geometry(tmp_path, keyword, differences):
    "Written with five decimals by one program, with more by another: no pixel at the far corner"
    base = dict(PixelSpacing=(.97655, .97655), ImageOrientationPatient=AXIAL)[keyword]
    value = lambda z: (np.array(base) + differences[z % 2]).tolist()
    x, _ = load(write(tmp_path, [slice_(z, **{keyword: value(z)}) for z in range(SLICES)]))
    assert np.array_equal(x, truth())

def test_another_pixel_size_is_another_geometry(tmp_path):
    "A thousandth of 0.5 mm moves the last of 7 columns by .003 mm, a tenth by half a pixel"
    for factor, fits in ((1.001, True), (1.1, False)):
        spacings = [[.7, .5*(factor if z > 2 else 1)] for z in range(SLICES)]
        write(tmp_path, [slice_(z, PixelSpacing=spacings[z]) for z in range(SLICES)])
        if fits: load(tmp_path)
        else:
            refused(tmp_path, match='do not make one volume: 3 of 5 x 7 pixels')

@pytest.mark.parametrize('step', [.004, .05, .08, .3, 40])
def test_steps_of_any_size(tmp_path, step):
    datasets = [slice_(z, ImagePositionPatient=[0, 0, round(z*step, 6)], SliceThickness=1)
                for z in range(SLICES)]
    x, affine = load(write(tmp_path, datasets))
    assert np.array_equal(x, truth())
    assert_allclose(spacing(affine), [.5, .7, step], rtol=1e-6)

@pytest.mark.parametrize('step', [.05, 1, 30])
def test_tolerance_is_a_fraction_of_the_step(tmp_path, step):
    "One slice 0.3 of a step too high"
    heights = np.arange(SLICES)*float(step)
    heights[2] += .3*step
    write(tmp_path, [slice_(z, ImagePositionPatient=[0, 0, round(h, 6)])
                     for z, h in enumerate(heights)])
    refused(tmp_path, match=r'off an even row, more than tolerance=0\.1 of a step')
    assert load(tmp_path, tolerance=.35)[0].shape == (7, 5, 6)

def test_unequal_steps_are_counted(tmp_path):
    "As in head CT: thin slices below, thick ones above. None is missing, and nothing must say so"
    heights = [*(4*i for i in range(16)), *(60 + 7*i for i in range(1, 13))]
    datasets = [slice_(z, ImagePositionPatient=[0, 0, h]) for z, h in enumerate(heights)]
    write(tmp_path, datasets, shuffled=False)
    with pytest.raises(VolumeError) as e:
        load(tmp_path)
    assert '15 steps of 4 mm, 12 of 7 mm' in str(e.value)
    assert 'missing' not in str(e.value)
    assert '015.dcm (InstanceNumber 16) and 016.dcm (InstanceNumber 17)' in str(e.value)

@pytest.mark.parametrize('elements, step', [
    (dict(SpacingBetweenSlices=-1, SliceThickness=2), 2),
    (dict(SpacingBetweenSlices=-3, SliceThickness=2, Modality='NM'), 3),
    (dict(SpacingBetweenSlices=-3, SliceThickness=None), 3),
    (dict(SpacingBetweenSlices=4, SliceThickness=2), 4),
    (dict(SpacingBetweenSlices=0, SliceThickness=2), 2), (dict(SliceThickness=2), 2)])
def test_step_of_one_slice(tmp_path, elements, step):
    "Only NM may have a negative spacing: it says where the next slice lies (PS3.3 C.8.4.15)"
    _, affine = load(write(tmp_path, [slice_(0, **elements)]))
    assert_allclose(spacing(affine), [.5, .7, step])

def test_tilted_gantry(tmp_path):
    """An affine with a shear, a warning, no file for ITK, and straight after `resample`.

    Each slice has one value, its number, so that along the patient's axis values are a ramp."""
    sideways = STEP*np.tan(np.radians(20))
    datasets = all_slices(sideways=sideways)
    for z, ds in enumerate(datasets):
        ds.PixelData = np.full((ROWS, COLUMNS), z, '<i2').tobytes()
    folder = write(tmp_path/'in', datasets)
    with pytest.warns(UserWarning, match=r'20\.00 degrees off the normal'):
        x, affine = load(folder)
    last = np.array(position(SLICES - 1, sideways=sideways), float)*(-1, -1, 1)
    assert_allclose((affine @ [0, 0, SLICES - 1, 1])[:3], last, atol=1e-6)
    with pytest.warns(UserWarning, match='not at right angles .* ITK will not open'):
        path = save_nifti(x, affine, tmp_path/'x.nii')
    with pytest.raises(RuntimeError):
        sitk.ReadImage(str(path))
    assert_allclose(load_nifti(path)[1], affine, atol=1e-5)
    straight, straight_affine = resample(x, affine, (.5, .7, 1), fill=-1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        path = save_nifti(straight, straight_affine, tmp_path/'y.nii')
    assert_allclose(from_itk(sitk.ReadImage(str(path)))[1], straight_affine, atol=1e-4)
    inside = np.argwhere(straight >= 0)
    slices = (nib.affines.apply_affine(straight_affine, inside)[:, 2] - affine[2, 3])/STEP
    within = (slices >= 0) & (slices <= SLICES - 1)
    assert within.mean() > .7
    assert .2 < (straight == -1).mean() < .8
    assert_allclose(straight[tuple(inside[within].T)], slices[within], atol=1e-4)

# mosaics

nicom = Path(nib.__file__).parent/'nicom/tests/data'

def unpacked(name, folder):
    folder.mkdir(exist_ok=True)
    (folder/'x.dcm').write_bytes(gzip.decompress((nicom/f'{name}.gz').read_bytes()))
    return folder

@needs_dcm2niix
@pytest.mark.parametrize('name', [
    'siemens_dwi_0.dcm', 'siemens_dwi_1000.dcm', 'philips_mprage.dcm'])
def test_real_mosaics_and_enhanced_as_dcm2niix(tmp_path, name):
    "Files of a Siemens and a Philips scanner, from nibabel's tests"
    folder = unpacked(name, tmp_path/'in')
    x, affine = load(folder)
    y, other = by_dcm2niix(folder, tmp_path/'out')
    same((x, affine), (y, other))

def test_real_mosaic_lies_where_nibabel_puts_it():
    "The header of a Siemens mosaic whose pixels were taken out"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # nibabel says that its reader is experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_file
    wrapped = wrapper_from_file(nicom/'csa_slice_norm.dcm')
    planes = read_images(nicom/'csa_slice_norm.dcm', progress=False)[0].planes
    assert len(planes) == wrapped.image_shape[2] == 32
    for k in 0, 31:
        lps = wrapped.affine @ [0, 0, k, 1]
        assert_allclose(planes[k].position, lps[:3], atol=1e-3)

def csa_header(**tags):
    "Bytes of a CSA header, as nibabel.nicom.csareader reads them"
    packed = b'SV10\4\3\2\1' + struct.pack('<2I', len(tags), 77)
    for name, values in tags.items():
        packed += struct.pack('<64si4s3i', name.encode(), len(values), b'FD', 4, len(values), 77)
        for value in values:
            text = f'{value:.10f}'.encode()
            packed += struct.pack('<4i', len(text), len(text), 77, len(text)) + text
            packed += bytes(-len(text) % 4)
    return packed + bytes(len(packed) % 2)

def mosaic(count=5, iop=OBLIQUE, volume=0, **elements):
    "`count` slices in tiles; the position is that of so large a picture about the slice's middle"
    across = int(np.ceil(np.sqrt(count)))
    tiles = np.zeros((across*ROWS, across*COLUMNS), np.int16)
    for k in range(count):
        top, left = k//across*ROWS, k % across*COLUMNS
        tiles[top:top + ROWS, left:left + COLUMNS] = picture(k, volume)
    right, down = np.array(iop, float).reshape(2, 3)
    further = right*PIXEL[1]*COLUMNS + down*PIXEL[0]*ROWS
    corner = np.array(position(0, iop), float) - further*(across - 1)/2
    ds = image(tiles, ImageType=['ORIGINAL', 'PRIMARY', 'M', 'MOSAIC'], Manufacturer='SIEMENS',
               Modality='MR', PixelSpacing=list(PIXEL), SliceThickness=STEP - .5,
               SpacingBetweenSlices=STEP, ImageOrientationPatient=[f'{v:.10f}' for v in iop],
               ImagePositionPatient=[f'{v:.8f}'[:16] for v in corner])
    block = ds.private_block(0x19, 'SIEMENS MR HEADER', create=True)
    block.add_new(0x0a, 'US', count)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds

@pytest.mark.parametrize('count', [1, 4, 5, 6, 9, 10])
def test_mosaic_is_the_series_that_it_was(tmp_path, count):
    "The same slices as a mosaic and one by one"
    write(tmp_path/'tiles', [mosaic(count)])
    write(tmp_path/'slices', [slice_(z, OBLIQUE) for z in range(count)])
    with pytest.warns(UserWarning, match='check top and bottom'):
        tiles = load(tmp_path/'tiles')
    same(tiles, load(tmp_path/'slices'), mm=1e-5)

@pytest.mark.parametrize('number', [True, False], ids=['(0019,100A)', 'CSA header alone'])
@pytest.mark.parametrize('side', [1, -1])
def test_csa_header_says_where_the_next_slice_lies(tmp_path, side, number):
    ds = mosaic()
    if not number: ds.remove_private_tags()
    normal = side*np.cross(OBLIQUE[:3], OBLIQUE[3:])
    header = csa_header(NumberOfImagesInMosaic=[5], SliceNormalVector=normal.tolist())
    ds.private_block(0x29, 'SIEMENS CSA HEADER', create=True).add_new(0x10, 'OB', header)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        x, affine = load(write(tmp_path/'in', [ds]))
    assert np.array_equal(x[..., ::side], truth()[..., :5])
    first = affine @ [0, 0, 0 if side > 0 else 4, 1]
    place = np.array(position(0, OBLIQUE), float)
    assert_allclose(first[:3], place*(-1, -1, 1), atol=1e-6)

def test_mosaics_of_several_points_in_time(tmp_path):
    write(tmp_path, [mosaic(volume=t, AcquisitionNumber=t + 1) for t in range(3)])
    with pytest.warns(UserWarning):
        x, _, table = load(tmp_path, volumes=True)
    assert x.shape == (7, 5, 5, 3)
    assert table.slices.tolist() == [5]*3
    assert table.AcquisitionNumber.tolist() == [1, 2, 3]
    assert np.array_equal(x[..., 2], truth(2)[..., :5])

def without_private(ds):
    ds.remove_private_tags()
    return ds

@pytest.mark.parametrize('ds, match', [
    (without_private(mosaic()),
     r'a Siemens mosaic, 15 x 21 pixels .* neither \(0019,100A\) nor a CSA header'),
    (mosaic(count=5, Rows=14), 'a Siemens mosaic of 5 slices, so 3 x 3 tiles, but 14 x 21 pixels'),
    (mosaic(SpacingBetweenSlices=None, SliceThickness=None),
     'a Siemens mosaic of 5 slices without SpacingBetweenSlices')])
def test_mosaic_that_lacks_something(tmp_path, ds, match):
    refused(write(tmp_path, [ds]), match=match)

def test_mosaic_with_thickness_alone_says_so(tmp_path):
    with pytest.warns(UserWarning, match='SliceThickness, 2 mm, is taken'):
        _, affine = load(write(tmp_path, [mosaic(SpacingBetweenSlices=None)]))
    assert spacing(affine)[2] == pytest.approx(2)

def test_grid_of_united_imaging_is_named(tmp_path):
    ds = slice_(0, Manufacturer='UIH')
    ds.private_block(0x65, 'Image Private Header', create=True).add_new(0x50, 'DS', '20')
    refused(write(tmp_path, [ds]), match='20 slices tiled in one picture by a United Imaging')

# frames

def enhanced(order, iop=OBLIQUE, shared=True, volume=None, labels=lambda z: {}, **elements):
    "One file of many frames (PS3.3 C.7.6.16); measures and orientation shared, or with each frame"
    measures = item(PixelSpacing=list(PIXEL), SliceThickness=STEP)
    turned = item(ImageOrientationPatient=[f'{v:.10f}' for v in iop])
    common = dict(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[turned])
    volumes = [0]*len(order) if volume is None else volume
    pictures = np.stack([picture(z, v) for z, v in zip(order, volumes)])
    ds = image(pictures, SOPClassUID='1.2.840.10008.5.1.4.1.1.4.1', Modality='MR', **elements)
    ds.SharedFunctionalGroupsSequence = [item(**common if shared else {})]
    ds.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=position(z, iop))],
             **{} if shared else common, **labels(i))
        for i, z in enumerate(order)]
    return ds

@pytest.mark.parametrize('shared', [True, False])
def test_enhanced_is_the_classic_series(tmp_path, shared):
    order = [3, 1, 0, 5, 4, 2]
    write(tmp_path/'frames', [enhanced(order, shared=shared)])
    write(tmp_path/'slices', all_slices(OBLIQUE))
    x, affine = load(tmp_path/'frames')
    assert np.array_equal(x, truth())
    same((x, affine), load(tmp_path/'slices'), mm=1e-6)
    same((x, affine), by_simpleitk(tmp_path/'slices'))
    same(load(tmp_path/'frames'/'000.dcm'), (x, affine))

def test_enhanced_in_order_as_simpleitk(tmp_path):
    write(tmp_path, [enhanced(range(SLICES))])
    same(load(tmp_path), from_itk(sitk.ReadImage(str(tmp_path/'000.dcm'))))

def test_enhanced_in_several_files(tmp_path):
    x, _ = load(write(tmp_path, [enhanced([0, 2, 4]), enhanced([1, 3, 5])]))
    assert np.array_equal(x, truth())

def test_compressed_frames(tmp_path):
    ds = enhanced([1, 0, 2])
    ds.compress(RLELossless)
    assert np.array_equal(load(write(tmp_path, [ds]))[0], truth()[..., :3])

def test_each_frame_has_its_rescaling(tmp_path):
    "PixelValueTransformationSequence (PS3.3 C.7.6.16.2.9)"
    def scale(i):
        line = item(RescaleSlope=i + 1, RescaleIntercept=-10, RescaleType='US')
        return dict(PixelValueTransformationSequence=[line])
    x, _ = load(write(tmp_path, [enhanced(range(SLICES), labels=scale)]))
    assert_allclose(x, truth()*np.arange(1, SLICES + 1) - 10)

def macro(keyword, value):
    "The functional group in which an element stands"
    group = dict(
        StackID='FrameContentSequence', TemporalPositionIndex='FrameContentSequence',
        EffectiveEchoTime='MREchoSequence', DiffusionBValue='MRDiffusionSequence',
        NominalCardiacTriggerDelayTime='CardiacSynchronizationSequence',
        FrameType='MRImageFrameTypeSequence', DiffusionGradientOrientation='MRDiffusionSequence')
    element = item(**{keyword: list(value) if isinstance(value, tuple) else value})
    if keyword == 'DiffusionGradientOrientation':
        element = item(DiffusionBValue=1000, DiffusionGradientDirectionSequence=[element])
    return {group[keyword]: [element]}

@pytest.mark.parametrize('keyword, values', [
    ('StackID', ['1', '2']), ('TemporalPositionIndex', [1, 2, 3]),
    ('EffectiveEchoTime', [4.92, 7.38]), ('DiffusionBValue', [0, 500, 1000]),
    ('DiffusionGradientOrientation', [(1., 0., 0.), (0., 1., 0.)]),
    ('NominalCardiacTriggerDelayTime', [0, 40.5]),
    ('FrameType', [('ORIGINAL', 'PRIMARY', 'M'), ('ORIGINAL', 'PRIMARY', 'P')])])
def test_enhanced_of_several_volumes(tmp_path, keyword, values):
    n = len(values)
    order, which = np.repeat(range(SLICES), n), np.tile(range(n), SLICES)
    labels = lambda i: macro(keyword, values[which[i]])
    write(tmp_path, [enhanced(order, volume=which, labels=labels)])
    refused(tmp_path, match=f'{n} volumes: choose one with volume=.*0: {keyword}=')
    x, _, table = load(tmp_path, volumes=True)
    assert x.shape == (7, 5, 6, n)
    assert table[keyword].tolist() == sorted(values)
    for i in range(n):
        rank = table[keyword].tolist().index(values[i])
        assert np.array_equal(x[..., rank], truth(i))
        assert np.array_equal(load(tmp_path, volume={keyword: values[i]})[0], truth(i))
        assert np.array_equal(load(tmp_path, volume=table.name[rank])[0], truth(i))
    for wrong in n, -1, 'EchoTime=3', {'EchoTime': 3}, {}:
        match = f'of {n} volumes, not one; there is 0: {keyword}='
        refused(tmp_path, volume=wrong, match=match)

def test_nm_tomogram(tmp_path):
    "Slices of negative spacing lie in front of the first, against its normal (PS3.3 C.8.4.15)"
    detector = item(ImagePositionPatient=position(0), ImageOrientationPatient=list(AXIAL))
    for sign in 1, -1:
        ds = image(np.stack([picture(z) for z in range(SLICES)]), Modality='NM',
                   PixelSpacing=list(PIXEL), SpacingBetweenSlices=sign*STEP,
                   SliceVector=list(range(1, SLICES + 1)), DetectorInformationSequence=[detector],
                   ImageType=['ORIGINAL', 'PRIMARY', 'RECON TOMO'])
        x, affine = load(write(tmp_path, [ds]))
        assert np.array_equal(x[..., ::sign], truth())
        lps = LPS_TO_RAS @ affine
        first = [0, 0, 0 if sign > 0 else SLICES - 1, 1]
        assert_allclose((lps @ first)[:3], np.array(position(0), float), atol=1e-6)
        assert_allclose(spacing(affine), [.5, .7, STEP])

def test_gated_tomogram(tmp_path):
    "Each slice at two times of the heart's beat"
    detector = item(ImagePositionPatient=position(0), ImageOrientationPatient=list(AXIAL))
    frames = [(t, z) for t in range(2) for z in range(SLICES)]
    ds = image(np.stack([picture(z, t) for t, z in frames]), Modality='NM',
               PixelSpacing=list(PIXEL), SpacingBetweenSlices=STEP,
               DetectorInformationSequence=[detector],
               SliceVector=[z + 1 for _, z in frames], TimeSlotVector=[t + 1 for t, _ in frames])
    x, _, table = load(write(tmp_path, [ds]), volumes=True)
    assert table.TimeSlotVector.tolist() == [1, 2]
    assert all(np.array_equal(x[..., t], truth(t)) for t in range(2))

def test_a_tomogram_of_one_slice(tmp_path):
    "PS3.5 6.4: a vector may have one value, which pydicom gives without a list"
    detector = item(ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=list(AXIAL))
    ds = image(np.zeros((1, 3, 4)), Modality='NM', PixelSpacing=[1, 1], SliceThickness=2,
               SliceVector=[1], TimeSlotVector=[1], DetectorInformationSequence=[detector])
    write(tmp_path, [ds])
    x, affine = load(tmp_path)
    assert x.shape == (4, 3, 1)
    assert_allclose(LPS_TO_RAS @ affine, np.diag([1, 1, 2, 1]))
    plane, = read_images(tmp_path, progress=False)[0].planes
    assert plane.labels['TimeSlotVector'] == 1

def test_a_dose_of_one_frame(tmp_path):
    "PS3.3 C.8.8.3.2: an offset that is not 0 lies along the patient's axis"
    ds = image(np.zeros((1, 3, 4)), Modality='RTDOSE', PixelSpacing=[1, 1], SliceThickness=2,
               GridFrameOffsetVector=[30], ImagePositionPatient=[0, 0, 30],
               ImageOrientationPatient=list(AXIAL))
    x, affine = load(write(tmp_path, [ds]))
    assert x.shape == (4, 3, 1)
    assert_allclose((LPS_TO_RAS @ affine)[:3, 3], [0, 0, 30])

def test_rt_dose_as_simpleitk(tmp_path):
    shutil.copy(get_testdata_file('rtdose.dcm', download=False), tmp_path)
    x, affine = load(tmp_path)
    y, other = from_itk(sitk.ReadImage(str(tmp_path/'rtdose.dcm')))
    assert x.shape == y.shape
    assert_allclose(affine, other, atol=1e-3)
    step = np.diff(pydicom.dcmread(tmp_path/'rtdose.dcm').GridFrameOffsetVector)
    assert_allclose(spacing(affine)[2], step)

def test_frames_without_a_place(tmp_path):
    write(tmp_path, [image(np.zeros((3, 4, 4)))])
    refused(tmp_path, match='3 frames, and no functional groups')

# several volumes in a classic series

def several(keyword, values, slices=SLICES):
    return [slice_(z, volume=v, **{keyword: value})
            for v, value in enumerate(values) for z in range(slices)]

@pytest.mark.parametrize('keyword, values', [
    ('TemporalPositionIdentifier', [1, 2, 3]), ('AcquisitionNumber', [4, 5]),
    ('DiffusionBValue', [0., 1000.]), ('EchoTime', [4.92, 7.38]),
    ('ImageType', [('ORIGINAL', 'PRIMARY', 'M'), ('ORIGINAL', 'PRIMARY', 'P')]),
    ('TriggerTime', [0., 40., 80.]), ('InversionTime', [100., 900.]),
    ('NominalPercentageOfCardiacPhase', [30., 75.]), ('FrameReferenceTime', [0., 500.]),
    ('AcquisitionTime', ['101010', '101020']),
    ('FlipAngle', [3., 15.]), ('EchoNumbers', [1, 2]), ('SequenceName', ['*ep_b0', '*ep_b1000#1'])])
def test_classic_of_several_volumes(tmp_path, keyword, values):
    n = len(values)
    write(tmp_path, several(keyword, [list(v) if isinstance(v, tuple) else v for v in values]))
    refused(tmp_path, match=f'{n} volumes: choose one with volume=.*0: {keyword}=')
    x, affine, table = load(tmp_path, volumes=True)
    assert table[keyword].tolist() == values
    assert table.slices.tolist() == [SLICES]*n
    for i in range(n):
        assert np.array_equal(x[..., i], truth(i))
        one, same_affine = load(tmp_path, volume=i)
        assert np.array_equal(one, truth(i))
        assert np.array_equal(affine, same_affine)

def test_rounded_labels_are_one(tmp_path):
    datasets = [slice_(z, volume=v, EchoTime=[4.92, 7.38][v] + 1e-6*(z % 2))
                for v in range(2) for z in range(SLICES)]
    assert load(write(tmp_path, datasets), volumes=True)[0].shape == (7, 5, 6, 2)

def test_echoes_and_points_in_time(tmp_path):
    labels = lambda e, t: dict(EchoTime=[5., 10.][e], TemporalPositionIdentifier=t + 1)
    write(tmp_path, [slice_(z, volume=2*e + t, **labels(e, t))
                     for e in range(2) for t in range(2) for z in range(SLICES)])
    x, _, table = load(tmp_path, volumes=True)
    assert table.name.tolist() == [f'EchoTime={e}, TemporalPositionIdentifier={t}'
                                   for e in (5, 10) for t in (1, 2)]
    assert all(np.array_equal(x[..., i], truth(i)) for i in range(4))
    one, _ = load(tmp_path, volume=dict(EchoTime=10, TemporalPositionIdentifier=1))
    assert np.array_equal(one, truth(2))
    refused(tmp_path, volume=dict(EchoTime=10), match='means 2 of 4 volumes, not one')

def test_diffusion_with_several_directions(tmp_path):
    "b = 0 has no direction, b = 1000 three"
    elements = [dict(DiffusionBValue=0)]
    for d in [1, 0, 0], [0, 1, 0], [0, 0, 1]:
        elements.append(dict(DiffusionBValue=1000, DiffusionGradientOrientation=d))
    write(tmp_path, [slice_(z, volume=v, **e)
                     for v, e in enumerate(elements) for z in range(SLICES)])
    x, _, table = load(tmp_path, volumes=True)
    assert table.DiffusionBValue.tolist() == [0, 1000, 1000, 1000]
    assert x[0, 0, 0, 0] == 0
    assert sorted(x[0, 0, 0]) == [0, 1000, 2000, 3000]

@pytest.mark.parametrize('group, creator, element, vr, values', [
    (0x19, 'SIEMENS MR HEADER', 0x0c, 'IS', [0, 800]),
    (0x43, 'GEMS_PARM_01', 0x39, 'IS', [[1000000000, 0, 0, 0], [1000000800, 0, 0, 0]]),
    (0x2001, 'Philips Imaging DD 001', 0x03, 'FL', [0., 800.])])
def test_b_value_of_older_scanners(tmp_path, group, creator, element, vr, values):
    "Where Siemens, GE (1e9 added) and Philips put it; dcm2niix reads the same"
    datasets = []
    for v, value in enumerate(values):
        for z in range(SLICES):
            ds = slice_(z, volume=v, Modality='MR')
            ds.private_block(group, creator, create=True).add_new(element, vr, value)
            datasets.append(ds)
    _, _, table = load(write(tmp_path, datasets), volumes=True)
    assert table.DiffusionBValue.tolist() == [0, 800]

def test_times_that_run_on_from_slice_to_slice(tmp_path):
    "The rank among the pictures of one place counts, in whatever order the scanner went"
    for t in [lambda z, v: 1000*v + 10*z, lambda z, v: 100*z + 10*v]:
        write(tmp_path, [slice_(z, volume=v, InstanceNumber=t(z, v) + 1)
                         for v in range(3) for z in range(SLICES)])
        x, _, table = load(tmp_path, volumes=True)
        assert table.InstanceNumber.tolist() == ['1 of 3', '2 of 3', '3 of 3']
        assert all(np.array_equal(x[..., i], truth(i)) for i in range(3))

def over_midnight(volume, z):
    "Two phases of slices 10 s apart, the first from 23:59:50 on, the second a minute later"
    seconds = (60*volume + 10*z - 10) % 86400
    hours, minutes = divmod(seconds//60, 60)
    return f'{hours:02}{minutes:02}{seconds % 60:02}.5'

def phases(date, **elements):
    "Two phases over midnight; `date`: the AcquisitionDate by the time"
    datasets = []
    for v in range(2):
        for z in range(SLICES):
            time = over_midnight(v, z)
            datasets.append(slice_(z, volume=v, AcquisitionTime=time, AcquisitionDate=date(time),
                                   **elements))
    return datasets

def test_a_series_over_midnight_goes_by_date_and_time(tmp_path):
    "PS3.5 6.2: a TM is a time within a day, to which AcquisitionDate (0008,0022) belongs"
    assert over_midnight(0, 0) > over_midnight(1, 0)
    assert over_midnight(0, 1) < over_midnight(1, 1)
    write(tmp_path, phases(lambda time: '20231231' if time > '12' else '20240101'))
    x, _, table = load(tmp_path, volumes=True)
    assert table.AcquisitionTime.tolist() == ['1 of 2', '2 of 2']
    assert all(np.array_equal(x[..., i], truth(i)) for i in range(2))

@pytest.mark.parametrize('date', [None, '', '20000101'])
def test_times_that_jump_back_over_midnight_put_nothing_in_order(tmp_path, date):
    "Without a date, or with one that stands in all files, as some put in to de-identify them"
    write(tmp_path, phases(lambda time: date))
    refused(tmp_path, volumes=True, match='6 of 12 slices lie where another one does, .* '
                                          'and no label tells them apart')

def test_a_number_puts_in_order_what_times_do_not(tmp_path):
    datasets = phases(lambda time: None)
    for i, ds in enumerate(datasets): ds.InstanceNumber = i + 1
    x, _, table = load(write(tmp_path, datasets), volumes=True)
    assert table.InstanceNumber.tolist() == ['1 of 2', '2 of 2']
    assert all(np.array_equal(x[..., i], truth(i)) for i in range(2))

def test_one_time_on_two_days(tmp_path):
    "Each is named by its rank: by its time alone neither could be chosen"
    days = '20240102', '20240101'
    write(tmp_path, [slice_(z, volume=v, AcquisitionTime='101010', AcquisitionDate=days[v])
                     for v in range(2) for z in range(SLICES)])
    x, _, table = load(tmp_path, volumes=True)
    assert table.AcquisitionTime.tolist() == ['1 of 2', '2 of 2']
    assert all(np.array_equal(x[..., i], truth(1 - i)) for i in range(2))

def test_planes_over_midnight():
    "As they are split without files: by date and time, else not at all"
    def plane(z, time, **date):
        return Plane('x.dcm', (5, 7), np.array([1., 0, 0]), np.array([0, 1., 0]),
                     np.array([0., 0, z]), 1., dict(AcquisitionTime=time, **date))
    first, second = ['235950', '235958', '000006'], ['000050', '000058', '000106']
    times = [(z, time) for phase in (first, second) for z, time in enumerate(phase)]
    assert len(split_volumes([plane(z, time) for z, time in times])) == 1
    def day(time): return '20240101' if time[0] == '2' else '20240102'
    dated = [plane(z, time, AcquisitionDate=day(time)) for z, time in times]
    split = [[p.labels['AcquisitionTime'] for p in v.planes] for v in split_volumes(dated)]
    assert split == [first, second]

@pytest.mark.parametrize('times', [['noon', 'one'], ['10:10:10', '23:30:00'], ['1', '10']])
def test_times_that_are_none_put_nothing_in_order(tmp_path, times):
    "PS3.5 6.2: HHMMSS.FFFFFF, of which minutes and all behind them may lack, but no digit"
    planes = [Plane('x.dcm', (5, 7), np.array([1., 0, 0]), np.array([0, 1., 0]),
                    np.array([0., 0, z]), 1., dict(AcquisitionTime=time))
              for time in times for z in range(3)]
    assert len(split_volumes(planes)) == 1

def test_labels_that_change_from_slice_to_slice_split_nothing(tmp_path):
    "Odd and even slices of two acquisitions, each slice at a time of its own: one volume"
    elements = lambda z: dict(AcquisitionNumber=z % 2 + 1, TriggerTime=10*z, EchoTime=5 + .1*z)
    x, _ = load(write(tmp_path, [slice_(z, **elements(z)) for z in range(SLICES)]))
    assert np.array_equal(x, truth())

def test_interleaved_acquisitions_of_two_echoes(tmp_path):
    elements = lambda z, v: dict(AcquisitionNumber=z % 2 + 1, TemporalPositionIdentifier=v + 1)
    write(tmp_path, [slice_(z, volume=v, **elements(z, v))
                     for v in range(2) for z in range(SLICES)])
    _, _, table = load(tmp_path, volumes=True)
    assert table.slices.tolist() == [SLICES]*2
    assert 'AcquisitionNumber' not in table

def test_two_stacks_with_a_hole_between(tmp_path):
    "As of two breasts, or of two ranges of a body: a label that makes two even rows splits"
    places = [*range(6), *range(20, 25)]
    write(tmp_path, [slice_(z, AcquisitionNumber=1 if z < 6 else 2) for z in places])
    refused(tmp_path, match=r'2 volumes: .*0: AcquisitionNumber=1 \(6 slices\); '
                            r'1: AcquisitionNumber=2 \(5 slices\)')
    assert load(tmp_path, volume=1)[0].shape == (7, 5, 5)
    refused(tmp_path, volumes=True, match=r'AcquisitionNumber=1 has \(7, 5, 6\) voxels, '
                                          r'AcquisitionNumber=2 \(7, 5, 5\)')

def test_pilot_scan_of_three_directions(tmp_path):
    write(tmp_path, [slice_(z, iop) for iop in (AXIAL, SAGITTAL, CORONAL) for z in range(SLICES)])
    refused(tmp_path, match='not make one volume: 6 of 5 x 7 pixels .*choose one with volume=')
    sagittal = load(tmp_path, volume='geometry=sagittal 5 x 7')
    same(sagittal, load(write(tmp_path/'sagittal', all_slices(SAGITTAL))))

def test_last_volume_cut_short(tmp_path):
    "The scan was stopped: two whole volumes and half a one"
    half = [slice_(z, volume=2, TemporalPositionIdentifier=3) for z in range(3)]
    write(tmp_path, several('TemporalPositionIdentifier', [1, 2]) + half)
    assert np.array_equal(load(tmp_path, volume=1)[0], truth(1))
    assert load(tmp_path, volume=2)[0].shape == (7, 5, 3)

def test_doubled_without_any_label(tmp_path):
    write(tmp_path, [slice_(z, volume=v) for v in range(2) for z in range(SLICES)])
    refused(tmp_path, match='6 of 12 slices lie where another one does')
    refused(tmp_path, volumes=True, match='6 of 12 slices lie where another one does')

# what comes along, and what is damaged

APPLE = bytes.fromhex('0005160700020000') + b'Mac OS X        ' + bytes(100)

@pytest.mark.parametrize('name, content, said', [
    ('._001.dcm', APPLE, 'AppleDouble'), ('page.dcm', b'<html>log in</html>'*9, 'not a DICOM file'),
    ('empty.dcm', b'', 'the file is empty'),
    ('cut.dcm', bytes(128) + b'DICM\2\0\0\0UL\4\0', 'cut.dcm')])
def test_junk_is_left_out_and_named(tmp_path, name, content, said):
    write(tmp_path, all_slices())
    (tmp_path/name).write_bytes(content)
    with pytest.warns(UserWarning, match=f'1 of 7 files left out: .*{said}'):
        assert np.array_equal(load(tmp_path)[0], truth())

@pytest.mark.parametrize('name', [
    'badVR.dcm', 'reportsi.dcm', 'rtplan.dcm', 'rtstruct.dcm', 'test-SR.dcm', 'waveform_ecg.dcm',
    'DICOMDIR', 'MR_truncated.dcm', 'rtplan_truncated.dcm', 'UN_sequence.dcm', 'CT_small.dcm'])
def test_a_file_of_another_kind_ends_no_other_series(tmp_path, name):
    write(tmp_path, all_slices())
    shutil.copy(next(Path(pydicom.__file__).parent.rglob(name)), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert np.array_equal(load(tmp_path, uid='1.2.3')[0], truth())

def every_file():
    import data_store
    bundled = Path(pydicom.__file__).parent/'data/test_files'
    folders = bundled, Path(data_store.__file__).parent/'data'
    return sorted(p for folder in folders for p in folder.glob('*.dcm'))

@pytest.mark.filterwarnings('ignore')
def test_only_two_kinds_of_error():
    "Of every file that pydicom brings"
    outcomes = []
    for path in every_file():
        try: load(path)
        except (VolumeError, DicomError) as e:
            outcomes.append(str(e))
        else: outcomes.append('')
    assert len(outcomes) > 100
    assert 15 < outcomes.count('') < 80

@pytest.mark.filterwarnings('ignore')
def test_damaged_headers_give_two_kinds_of_error(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path/'x.dcm'
    sources = [tmp_path/f'{i}' for i in range(3)]
    for source, ds in zip(sources, [slice_(0), mosaic(), enhanced([0, 1, 2])]):
        ds.save_as(source, enforce_file_format=True)
    refused = 0
    for source in sources:
        raw = source.read_bytes()
        for _ in range(60):
            bad = bytearray(raw)
            for at in rng.integers(132, len(raw) - 100, 3):
                bad[at] = rng.integers(256)
            path.write_bytes(bad)
            try: load(path)
            except (VolumeError, DicomError): refused += 1
    assert refused > 30

def captured_screen():
    "A picture of the series with neither place nor directions, as PS3.3 A.8.1 has it"
    return image(np.zeros((ROWS, COLUMNS)))

@pytest.mark.parametrize('n', [1, 2])
def test_pictures_without_a_place_among_slices(tmp_path, n):
    """They are counted and named, and what the message says to do works.

    A slice that lost its place can't be told from them: without it the volume would be wrong."""
    folder = write(tmp_path/'ct', all_slices())
    names = [f'screen{i}.dcm' for i in range(n)]
    for name in names: captured_screen().save_as(folder/name, enforce_file_format=True)
    said = (f'no place in the patient for {n} of {SLICES + n} images, so none of them is used: '
            f'{folder}/screen0.dcm: ImagePositionPatient is None; ')
    with pytest.raises(VolumeError) as e: load(folder)
    assert str(e.value).startswith(f'{folder}: {said}')
    assert all(name in str(e.value) for name in names)
    assert series_table(folder, progress=False).problem[0].startswith(said)
    converted = nifti_files(folder, tmp_path/'out', progress=False)
    assert set(converted.status) == {'failed'}
    assert converted.reason.str.contains(f'for {n} of {SLICES + n} images').all()
    advice = '[i.path for i in medtut.planes.read_images(folder) if not i.problem]'
    assert str(e.value).endswith(f'or, in Python, give the paths of the others: {advice}')
    paths = eval(advice, dict(folder=folder, medtut=medtut))
    np.testing.assert_array_equal(load(paths)[0], truth())
    for name in names: (folder/name).unlink()
    np.testing.assert_array_equal(load(folder)[0], truth())

def test_copies_count_once_among_pictures_without_a_place(tmp_path):
    "The same numbers from `load_series`, `series_table` and `nifti_files`; which copies are told"
    folder = write(tmp_path/'ct', all_slices(), shuffled=False)
    captured_screen().save_as(folder/'screen.dcm', enforce_file_format=True)
    (folder/'twice').mkdir()
    for name in '000.dcm', 'screen.dcm': shutil.copy(folder/name, folder/'twice')
    said = f'no place in the patient for 1 of {SLICES + 1} images, so none of them is used: '
    with pytest.warns(UserWarning, match='2 files are copies'):
        refused(folder, f'^{folder}: {said}')
    row, = series_table(folder, progress=False).itertuples()
    assert row.problem.startswith(said)
    assert row.note.startswith('2 files are copies of others')
    plan, = nifti_files(folder, tmp_path/'out', progress=False).itertuples()
    assert plan.status == 'failed'
    assert plan.reason.startswith(said)
    assert plan.note.startswith('2 files are copies of others')

def test_copies_of_pictures_without_a_place_are_left_out(tmp_path):
    "Whether or not their pixels can be read: nobody needs them"
    screen = captured_screen()
    screen.PixelData = screen.PixelData[:10]
    folder = write(tmp_path/'cr', [screen, screen])
    row, = series_table(folder, progress=False).itertuples()
    left_out, = nifti_files(folder, tmp_path/'out', progress=False).itertuples()
    assert left_out.status == 'left out'
    for problem in row.problem, left_out.reason:
        assert problem.startswith(f'{folder}/000.dcm: ImagePositionPatient is None')

def test_copies_that_can_not_be_decoded_among_slices(tmp_path):
    "Two of one captured screen: the reason is its place, not its pixels"
    folder = write(tmp_path/'ct', all_slices())
    screen = captured_screen()
    screen.PixelData = screen.PixelData[:10]
    for name in 'screen.dcm', 'again.dcm': screen.save_as(folder/name, enforce_file_format=True)
    failed, = nifti_files(folder, tmp_path/'out', progress=False).itertuples()
    assert failed.status == 'failed'
    assert failed.reason.startswith(f'no place in the patient for 1 of {SLICES + 1} images')
    assert failed.note.startswith('1 file is a copy of others')

def test_no_picture_with_a_place(tmp_path):
    folder = write(tmp_path/'cr', [captured_screen() for _ in range(3)])
    refused(folder, f'{folder}: no place in the patient for any of 3 images; the first: '
                    f'{folder}/00.*ImagePositionPatient is None')
    only = write(tmp_path/'one', [captured_screen()])/'000.dcm'
    refused(only, f'^{only}: ImagePositionPatient is None')

def test_an_unreadable_label_costs_no_slice(tmp_path):
    "A b-value that is no number"
    datasets = [slice_(z, Modality='MR') for z in range(SLICES)]
    datasets[2].private_block(0x19, 'SIEMENS MR HEADER', create=True).add_new(0x0c, 'LO', 'none')
    with pytest.warns(UserWarning, match='DiffusionBValue can not be read .*none'):
        assert np.array_equal(load(write(tmp_path, datasets))[0], truth())

def test_a_slice_without_pixels_is_named(tmp_path):
    write(tmp_path, all_slices())
    ds = pydicom.dcmread(tmp_path/'002.dcm')
    ds.PixelData = ds.PixelData[:20]
    ds.save_as(tmp_path/'002.dcm')
    with pytest.raises(DicomError, match='002.dcm'):
        load(tmp_path)

def test_copies_count_once(tmp_path):
    write(tmp_path, all_slices())
    (tmp_path/'again').mkdir()
    for name in '000.dcm', '003.dcm':
        shutil.copy(tmp_path/name, tmp_path/'again')
    with pytest.warns(UserWarning, match='2 files are copies of others .*again'):
        assert np.array_equal(load(tmp_path)[0], truth())

def test_the_same_uid_with_other_pixels_is_no_copy(tmp_path):
    write(tmp_path, all_slices(SOPInstanceUID='1.2.3.4'))
    assert np.array_equal(load(tmp_path)[0], truth())  # one UID for all, at different places
    other = slice_(2, volume=1, SOPInstanceUID='1.2.3.4')
    other.save_as(tmp_path/'x.dcm', enforce_file_format=True)
    refused(tmp_path, match='1 of 7 slices lie where another one does')

def test_paths_and_tables(tmp_path):
    from medtut.dicom import scan
    write(tmp_path, all_slices() + [slice_(0, SeriesInstanceUID='1.2.4')])
    table = scan(tmp_path, pixels=False, progress=False)
    chosen = table[table.SeriesInstanceUID == '1.2.3']
    as_paths = [Path(p) for p in chosen.path]
    for files in chosen, chosen.path, as_paths, tuple(chosen.path), chosen.path.to_numpy():
        assert np.array_equal(load(files)[0], truth())
    assert load(chosen.iloc[0])[0].shape == load(chosen.path.iloc[0])[0].shape == (7, 5, 1)
    refused([], match='these files: no DICOM image')
    with pytest.warns(UserWarning, match='no such file'):
        refused([tmp_path/'no.dcm'], match='no DICOM image')

@pytest.mark.parametrize('ds, match', [
    (image(np.zeros((4, 4)), PhotometricInterpretation='PALETTE COLOR'),
     '1 frame, 1 sample a pixel, PALETTE COLOR; a volume is made of grey values'),
    (image(np.zeros((4, 12)), SamplesPerPixel=3, Columns=4, PhotometricInterpretation='RGB'),
     '1 frame, 3 samples a pixel, RGB')])
def test_colour(tmp_path, ds, match):
    refused(write(tmp_path, [ds]), match=match)

# padding

def padded(tmp_path):
    datasets = all_slices(PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024)
    for ds in datasets:
        values = np.frombuffer(ds.PixelData, '<i2').copy()
        values[:3] = -2000
        ds.PixelData = values.tobytes()
    return write(tmp_path/'padded', datasets)

def test_padding_is_filled(tmp_path):
    folder, is_padding = padded(tmp_path), np.zeros((COLUMNS, ROWS, SLICES), bool)
    is_padding[:3, 0] = True
    # of the first slice, 0 to 2 are padding
    with pytest.warns(UserWarning, match='18 of 210 voxels are padding and become -1021'):
        x, _ = load(folder)
    assert np.array_equal(x, np.where(is_padding, -1021, truth() - 1024))
    assert np.array_equal(load(folder, fill=-3000)[0], np.where(is_padding, -3000, truth() - 1024))
    assert np.array_equal(np.isnan(load(folder, fill=np.nan)[0]), is_padding)

def test_padding_of_what_is_never_negative_becomes_0(tmp_path):
    "Background of a masked MR image: as tissue it would count as head"
    datasets = all_slices(Modality='MR', PixelPaddingValue=0)
    for ds in datasets:
        values = np.frombuffer(ds.PixelData, '<i2') + np.int16(37)
        values[:3] = 0
        ds.PixelData = values.tobytes()
    with pytest.warns(UserWarning, match='padding and become 0'):
        x, _ = load(write(tmp_path/'masked', datasets))
    assert x[:3, 0].max() == 0 and x[3:].min() >= 37

def test_nothing_but_padding(tmp_path):
    ds = slice_(0, PixelPaddingValue=0, PixelData=bytes(2*ROWS*COLUMNS))
    refused(write(tmp_path, [ds]), match='holds nothing but padding')
    assert (load(tmp_path, fill=-1000)[0] == -1000).all()

def test_series_to_nifti_to_prediction(tmp_path):
    torch = pytest.importorskip('torch')
    from medtut.predict import predict_file
    from medtut.unet import UNet3D
    with pytest.warns(UserWarning, match='padding'):
        x, affine = load(padded(tmp_path))
    scan = save_nifti(x, affine, tmp_path/'scan.nii.gz')
    torch.manual_seed(0)
    model = UNet3D(1, 2, filters=(4, 8))
    predict_file(model, scan, tmp_path/'labels.nii.gz', (8, 8, 8))
    labels, label_affine = load_nifti(tmp_path/'labels.nii.gz', dtype=np.uint8)
    check_same_grid(x.shape, affine, labels.shape, label_affine)

# the table

def test_series_table(tmp_path):
    write(tmp_path/'ct', all_slices(SeriesInstanceUID='1.1', SeriesDescription='head'))
    write(tmp_path/'echoes', [d for d in several('EchoTime', [5., 10.])])
    for p in (tmp_path/'echoes').iterdir():
        ds = pydicom.dcmread(p)
        ds.SeriesInstanceUID, ds.Modality = '1.2', 'MR'
        ds.save_as(p)
    write(tmp_path/'hole', [slice_(z, SAGITTAL, SeriesInstanceUID='1.3') for z in (0, 1, 2, 4)])
    write(tmp_path/'film', [image(np.zeros((4, 4)), SeriesInstanceUID='1.4', Modality='CR')])
    write(tmp_path/'frames', [enhanced(range(SLICES), SAGITTAL, SeriesInstanceUID='1.5')])
    write(tmp_path/'tiles', [mosaic(SeriesInstanceUID='1.6')])
    (tmp_path/'ct'/'._a.dcm').write_bytes(APPLE)
    for n_jobs in None, 2:
        with pytest.warns(UserWarning, match='1 of 26 files left out: .*AppleDouble'):
            df = series_table(tmp_path, n_jobs, progress=False)
        df = df.set_index('uid')
        assert df.volumes.to_dict() == {'1.1': 1, '1.2': 2, '1.3': 1, '1.4': 0, '1.5': 1, '1.6': 1}
        assert df.files.to_dict() == {'1.1': 6, '1.2': 12, '1.3': 4, '1.4': 1, '1.5': 1, '1.6': 1}
        assert df.images.to_dict() == {'1.1': 6, '1.2': 12, '1.3': 4, '1.4': 0, '1.5': 6, '1.6': 5}
        assert df['shape']['1.1'] == (7, 5, 6)
        assert df.spacing['1.1'] == (.5, .7, 2.5)
        assert df.description['1.1'] == 'head'
        assert df.folder['1.1'] == str(tmp_path/'ct')
        assert df.plane['1.1'] == 'axial'
        assert df.plane['1.5'] == 'sagittal'
        assert (df.problem[['1.1', '1.2', '1.5', '1.6']] == '').all()
        assert '2 steps of 2.5 mm, 1 of 5 mm' in df.problem['1.3']
        assert 'ImagePositionPatient is None' in df.problem['1.4']
    for uid in '1.1', '1.5':
        assert load(tmp_path, uid=uid)[0].shape == df['shape'][uid]

def test_series_table_of_nothing(tmp_path):
    assert series_table(tmp_path, progress=False).empty
    assert 'problem' in series_table(tmp_path, progress=False)

def test_split_keeps_every_plane(tmp_path):
    images = read_images(write(tmp_path, several('EchoTime', [5., 10.])), progress=False)
    planes = [p for i in images for p in i.planes]
    volumes = split_volumes(planes)
    assert sorted(id(p) for v in volumes for p in v.planes) == sorted(map(id, planes))
