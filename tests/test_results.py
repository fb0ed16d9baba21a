"""Results as DICOM, against the truth in millimetres, highdicom, SimpleITK and dciodvfy of
dicom3tools"""
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.distance import pdist

from medtut.coding import coded
from medtut.dicom import read_dicom
from medtut.display import to_display
from medtut.errors import DicomError
from medtut.nifti import load_nifti, save_nifti
from medtut.outlines import import_outline
from medtut.planes import VolumeError
from medtut.reports import longest_diameter
from medtut.results import read_seg, read_sr, save_overlay, save_seg, save_sr
from medtut.units import pixels
from medtut.volumes import load_series, reorient, spacing

highdicom = pytest.importorskip('highdicom')
from highdicom import seg as hdseg  # noqa: E402

AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
OBLIQUE = tuple(np.round(turned[:2], 10).ravel())
ORIENTATIONS = dict(axial=AXIAL, sagittal=SAGITTAL, coronal=CORONAL, oblique=OBLIQUE)
# odd, so that no frame of bits ends at the end of a byte
ROWS, COLUMNS, SLICES, PIXEL, STEP = 13, 11, 9, (.7, .5), 2.5
LPS_TO_RAS = np.array([-1, -1, 1])

each_orientation = pytest.mark.parametrize('iop', ORIENTATIONS.values(), ids=list(ORIENTATIONS))

def slice_(z, iop, study, jitter=0., rows=ROWS, columns=COLUMNS, **elements):
    "One slice of a CT, with what the standard asks for"
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = 'Doe^Jane', 'p1', '', 'F'
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = '20260102', '101112', 's1', 'a1'
    ds.ReferringPhysicianName, ds.Modality, ds.SeriesNumber = '', 'CT', 3
    ds.InstanceNumber, ds.ImageType = SLICES - z, ['ORIGINAL', 'PRIMARY', 'AXIAL']
    right, down = np.array(iop, float).reshape(2, 3)
    place = np.array((-30, 12, 5)) + (z*STEP + jitter)*np.cross(right, down)
    ds.ImagePositionPatient = [f'{x:.10g}'[:16] for x in place]
    ds.ImageOrientationPatient = [f'{x:.10g}'[:16] for x in iop]
    ds.PixelSpacing, ds.SliceThickness = list(PIXEL), STEP
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    values = np.arange(rows*columns, dtype=np.int16).reshape(rows, columns) + 200*z
    ds.add_new('PixelData', 'OW', values.tobytes())
    for keyword, value in elements.items(): setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds

def write_series(folder, iop=AXIAL, slices=range(SLICES), jitter=0., **elements):
    "Slices in files whose order says nothing"
    study = generate_uid(), generate_uid(), generate_uid()
    slices = list(slices)
    offsets = np.random.default_rng(4).uniform(-jitter, jitter, len(slices))
    order = np.random.default_rng(0).permutation(len(slices))
    folder.mkdir(parents=True, exist_ok=True)
    for z, offset, name in zip(slices, offsets, order):
        ds = slice_(z, iop, study, offset, **elements)
        ds.save_as(folder/f'{name:03}.dcm', enforce_file_format=True)
    return folder

def random_labels(n=2, shape=(COLUMNS, ROWS, SLICES)):
    "Labels 0 to `n`, in no symmetry; the lowest and the highest slice are empty"
    labels = np.random.default_rng(3).integers(0, n + 1, shape).astype(np.uint8)
    labels[:, :, [0, -1]] = 0
    labels[:4] = 0
    return labels

def places_in_file(path, number=1):
    """Where the voxels of a segment lie, LPS mm, sorted: from the elements of its frames alone
    (PS3.3 C.7.6.2.1.1)"""
    ds = pydicom.dcmread(path)
    shared = ds.SharedFunctionalGroupsSequence[0]
    iop = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down_mm, right_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    places = []
    for group, frame in zip(ds.PerFrameFunctionalGroupsSequence, frames):
        named = group.get('SegmentIdentificationSequence') or shared.SegmentIdentificationSequence
        if named[0].ReferencedSegmentNumber != number: continue
        first = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.nonzero(frame)
        places.append(first + column[:, None]*iop[:3]*right_mm + row[:, None]*iop[3:]*down_mm)
    return sorted(map(tuple, np.round(np.concatenate(places), 3)))

def verify(path):
    "Fail if dciodvfy finds an error"
    if shutil.which('dciodvfy') is None:
        pytest.skip('dciodvfy is not installed: apt-get install dicom3tools')
    said = subprocess.run(['dciodvfy', '-new', str(path)], capture_output=True, text=True).stderr
    errors = [line for line in said.splitlines() if line.startswith('Error')]
    assert said and not errors, said

@pytest.fixture
def case(tmp_path):
    "A series, its volume and a mask of two labels"
    series = write_series(tmp_path/'series')
    return series, load_series(series, progress=False), random_labels()

NAMES = {1: 'liver', 2: 'lesion'}

# --- there and back

@each_orientation
def test_comes_back_bit_for_bit(tmp_path, iop):
    series = write_series(tmp_path/'series', iop)
    voxels = load_series(series, progress=False)
    mask = random_labels()
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    back = read_seg(path, (mask.shape, voxels.affine))
    np.testing.assert_array_equal(back.array, mask)
    assert back.table.name.tolist() == ['liver', 'lesion']
    assert back.table.voxels.tolist() == [(mask == 1).sum(), (mask == 2).sum()]

@each_orientation
def test_lies_where_it_lay_in_the_patient(tmp_path, iop):
    "In millimetres: a fault that writing and reading share would not show in arrays"
    series = write_series(tmp_path/'series', iop)
    affine = load_series(series, progress=False).affine
    mask = random_labels()
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm', NAMES)
    for label in NAMES:
        ras = np.argwhere(mask == label) @ affine[:3, :3].T + affine[:3, 3]
        expected = sorted(map(tuple, np.round(ras*LPS_TO_RAS, 3)))
        np.testing.assert_allclose(places_in_file(path, label), expected, atol=2e-3)

@each_orientation
def test_on_another_orientation_of_the_grid(tmp_path, iop):
    "Axes permuted and flipped: each voxel stays in its place"
    series = write_series(tmp_path/'series', iop)
    affine = load_series(series, progress=False).affine
    mask = random_labels()
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm', NAMES)
    ras = reorient(mask, affine, 'RAS')
    back = read_seg(path, (ras.array.shape, ras.affine))
    np.testing.assert_array_equal(back.array, ras.array)

def test_every_slice_is_the_one_it_names(case, tmp_path):
    "Each frame refers to the image that lies where it lies"
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    place_of = {}
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        place_of[ds.SOPInstanceUID] = ds.ImagePositionPatient
    frames = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    for frame in frames:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(place_of[image.ReferencedSOPInstanceUID], position, atol=1e-6)

def test_positions_of_real_scanners(tmp_path):
    "Up to 0.07 voxels off an even row"
    series = write_series(tmp_path/'series', jitter=.04*STEP)
    affine = load_series(series, progress=False).affine
    mask = random_labels()
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm', NAMES)
    np.testing.assert_array_equal(read_seg(path, (mask.shape, affine)).array, mask)

def test_one_slice(tmp_path):
    series = write_series(tmp_path/'series', slices=[0])
    affine = load_series(series, progress=False).affine
    mask = np.random.default_rng(0).random((COLUMNS, ROWS, 1)) < .3
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm')
    np.testing.assert_array_equal(read_seg(path, (mask.shape, affine)).array, mask)

def test_tilted_gantry(tmp_path):
    study = generate_uid(), generate_uid(), generate_uid()
    (tmp_path/'series').mkdir()
    for z in range(SLICES):
        ds = slice_(z, AXIAL, study)
        ds.ImagePositionPatient = [-30, 12 + .4*z, 5 + STEP*z]
        ds.save_as(tmp_path/f'series/{z}.dcm', enforce_file_format=True)
    with pytest.warns(UserWarning, match='slice lies 0.4 mm beside'):
        affine = load_series(tmp_path/'series', progress=False).affine
    mask = random_labels()
    with pytest.warns(UserWarning, match='slice lies 0.4 mm beside'):
        path = save_seg(mask, affine, tmp_path/'series', tmp_path/'seg.dcm', NAMES)
    np.testing.assert_array_equal(read_seg(path, (mask.shape, affine)).array, mask)

def test_labels_with_gaps(case, tmp_path):
    series, voxels, mask = case
    mask[mask == 2] = 4
    names = {1: 'edema', 2: 'non-enhancing', 4: 'enhancing'}
    with pytest.warns(UserWarning, match='no voxel of non-enhancing'):
        path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', names)
    like = mask.shape, voxels.affine
    np.testing.assert_array_equal(read_seg(path, like, names).array, mask)
    assert sorted(np.unique(read_seg(path, like).array)) == [0, 1, 3]  # the file's own numbers
    only = read_seg(path, like, {7: 'enhancing'})
    np.testing.assert_array_equal(only.array, np.where(mask == 4, 7, 0))
    with pytest.raises(VolumeError, match="no segment named .*'necrosis'.*; there is edema"):
        read_seg(path, like, {1: 'necrosis'})

def test_empty_mask(case, tmp_path):
    series, voxels, mask = case
    with pytest.warns(UserWarning, match='no voxel of lesion'):
        path = save_seg(np.zeros(mask.shape, bool), voxels.affine, series, tmp_path/'seg.dcm')
    back = read_seg(path, (mask.shape, voxels.affine))
    assert not back.array.any()
    assert back.table.voxels.tolist() == [0]
    verify(path)

def test_probabilities(case, tmp_path):
    series, voxels, mask = case
    p = np.random.default_rng(5).random((*mask.shape, 2)).astype(np.float32)
    path = save_seg(p, voxels.affine, series, tmp_path/'seg.dcm', NAMES, probabilities=True)
    back = read_seg(path, (mask.shape, voxels.affine)).array
    np.testing.assert_array_equal(back, np.rint(p*255).astype(np.float32)/np.float32(255))
    verify(path)
    for wrong in (p*2, np.where(mask[..., None] > 0, np.nan, p)):
        with pytest.raises(VolumeError, match='between 0 and 1'):
            save_seg(wrong, voxels.affine, series, path, NAMES, probabilities=True)
    with pytest.raises(VolumeError, match='probabilities=True writes probabilities'):
        save_seg(p, voxels.affine, series, path, NAMES)
    with pytest.raises(VolumeError, match='probabilities, which have no volume'):
        save_sr(path, series, tmp_path/'sr.dcm')

def test_overlapping_segments(case, tmp_path):
    series, voxels, mask = case
    both = np.stack([mask > 0, mask > 1], axis=-1)
    path = save_seg(both, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    like = mask.shape, voxels.affine
    np.testing.assert_array_equal(read_seg(path, like, separate=True).array, both)
    with pytest.raises(VolumeError, match='of several segments at a time .liver; lesion.'):
        read_seg(path, like)

# --- what is refused

def test_another_grid_is_refused_and_both_are_named(case, tmp_path):
    series, voxels, mask = case
    shifted = voxels.affine.copy()
    shifted[2, 3] += 1
    tests = [
        (mask[:-1], voxels.affine, '10 x 13 x 9 voxels.*11 x 13 x 9 voxels'),
        (mask, shifted, r'first at \(30.0, -12.0, 6.0\).*first at \(30.0, -12.0, 5.0\)'),
        (*reorient(mask, voxels.affine, 'RAS'), 'Mask: .*Series: ')]
    for array, affine, words in tests:
        with pytest.raises(VolumeError, match=words):
            save_seg(array, affine, series, tmp_path/'seg.dcm', NAMES)
    assert not (tmp_path/'seg.dcm').exists()

def test_reading_on_another_grid_is_refused(case, tmp_path):
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    shift, finer, thicker = np.eye(4), np.diag([.5, .5, 1, 1]), np.diag([1, 1, 2, 1])
    shift[0, 3] = .4
    for change, words in (shift, '0.4 voxels off'), (finer, 'voxels off'), (thicker, 'voxels off|mm apart'):
        with pytest.raises(VolumeError, match=words) as e:
            read_seg(path, (mask.shape, voxels.affine @ change))
        assert 'Frame ' in str(e.value) and 'Wanted: 11 x 13 x 9 voxels' in str(e.value)
    with pytest.raises(VolumeError, match='voxels? outside'):
        read_seg(path, ((5, 5, 5), voxels.affine))

def test_half_the_slices_are_no_grid(case, tmp_path):
    "Where frames fall on every second slice of a finer grid, the rest would stay empty unseen"
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    with pytest.raises(VolumeError, match='2.5 mm apart'):
        read_seg(path, ((*mask.shape[:2], 2*SLICES), voxels.affine @ np.diag([1, 1, .5, 1])))

def test_a_missing_slice_is_refused_in_words(tmp_path):
    affine = load_series(write_series(tmp_path/'whole'), progress=False).affine
    series = write_series(tmp_path/'gap', slices=[z for z in range(SLICES) if z != 4])
    with pytest.raises(VolumeError, match='1 of 5 mm, the largest between'):
        save_seg(random_labels(), affine, series, tmp_path/'seg.dcm', NAMES)

def test_two_series_are_refused_in_words(tmp_path):
    write_series(tmp_path/'all/one')
    affine = load_series(tmp_path/'all', progress=False).affine
    uid = pydicom.dcmread(next((tmp_path/'all/one').iterdir())).SeriesInstanceUID
    write_series(tmp_path/'all/two')
    with pytest.raises(VolumeError, match='2 series: choose one with uid='):
        save_seg(random_labels(), affine, tmp_path/'all', tmp_path/'seg.dcm', NAMES)
    path = save_seg(random_labels(), affine, tmp_path/'all', tmp_path/'seg.dcm', NAMES, uid=uid)
    assert pydicom.dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID == uid

def test_labels_without_a_name_are_refused(case, tmp_path):
    series, voxels, mask = case
    with pytest.raises(VolumeError, match=r'label \[2\], and names are given for \[1\]'):
        save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', 'liver')
    with pytest.raises(VolumeError, match='found float64'):
        save_seg(mask.astype(float), voxels.affine, series, tmp_path/'seg.dcm', NAMES)

def test_no_slice_is_written_over(case):
    series, voxels, mask = case
    target = next(series.iterdir())
    before = target.read_bytes()
    with pytest.raises(VolumeError, match='is a slice of the series'):
        save_seg(mask, voxels.affine, series, target, NAMES)
    assert target.read_bytes() == before

def test_what_is_no_segmentation(case, tmp_path):
    series, voxels, mask = case
    with pytest.raises(DicomError, match='CT Image Storage, not a segmentation'):
        read_seg(next(series.iterdir()), (mask.shape, voxels.affine))
    with pytest.raises(DicomError, match='CT, not a structured report'):
        read_sr(next(series.iterdir()))

def test_headers_that_lack_what_a_result_needs(tmp_path):
    series = write_series(tmp_path/'series', FrameOfReferenceUID='')
    affine = load_series(series, progress=False).affine
    with pytest.raises(VolumeError, match='no FrameOfReferenceUID'):
        save_seg(random_labels(), affine, series, tmp_path/'seg.dcm', NAMES)

def test_headers_that_lack_what_may_be_empty(tmp_path):
    series = write_series(tmp_path/'series')
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        del ds.PatientName, ds.PatientSex, ds.StudyDate, ds.AccessionNumber, ds.PatientBirthDate
        ds.save_as(file)
    affine = load_series(series, progress=False).affine
    mask = random_labels()
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm', NAMES)
    np.testing.assert_array_equal(read_seg(path, (mask.shape, affine)).array, mask)
    verify(path)

# --- what the files say

def test_says_what_it_is(case, tmp_path):
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES, algorithm='net 6')
    ds, source = pydicom.dcmread(path), pydicom.dcmread(next(series.iterdir()))
    for keyword in ('PatientName', 'PatientID', 'PatientSex', 'StudyInstanceUID', 'StudyDate',
                    'AccessionNumber', 'FrameOfReferenceUID'):
        assert ds[keyword].value == source[keyword].value, keyword
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert ds.ContentQualification == 'RESEARCH'
    assert ds.SeriesDescription == 'Segmentation: research, not for clinical use'
    assert 'not for clinical use' in ds.ContentDescription
    liver, lesion = ds.SegmentSequence
    assert liver.SegmentLabel == 'liver'
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == '10200004'
    assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == '49755003'
    for segment in (liver, lesion):
        assert segment.SegmentAlgorithmType == 'AUTOMATIC'
        assert segment.SegmentAlgorithmName == 'net 6'
        assert segment.SegmentDescription == 'research, not for clinical use'
        assert segment.TrackingUID
    with pytest.raises(ValueError, match='10 fewer'):
        save_seg(mask, voxels.affine, series, path, NAMES, description='x'*42)

def test_colours_are_those_of_the_pictures(case, tmp_path):
    from matplotlib.colors import to_rgb
    from skimage.color import lab2rgb

    from medtut.overlays import class_colors
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    colors = class_colors(NAMES.values())
    for segment in pydicom.dcmread(path).SegmentSequence:
        # L from 0 to 100, a and b from -128 to 127, each in 16 bits (PS3.3 C.10.7.1.1)
        scaled = np.array(segment.RecommendedDisplayCIELabValue)/65535
        rgb = lab2rgb(scaled*(100, 255, 255) - (0, 128, 128))
        np.testing.assert_allclose(rgb, to_rgb(colors[segment.SegmentLabel]), atol=.02)

def test_names_with_letters_beyond_ascii(tmp_path):
    series = write_series(tmp_path/'series', SpecificCharacterSet='ISO_IR 100',
                          PatientName='Müller^Jürgen')
    affine = load_series(series, progress=False).affine
    mask = random_labels(1)
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm', 'Läsion')
    ds = pydicom.dcmread(path)
    assert str(ds.PatientName) == 'Müller^Jürgen'
    assert read_seg(path, (mask.shape, affine)).table.name[0] == 'Läsion'

@pytest.mark.parametrize('charset, patient', [
    (None, 'Doe^Jane'), ('ISO_IR 100', 'Müller^Jürgen'), ('ISO_IR 192', 'Müller^Jürgen'),
    (['', 'ISO 2022 IR 87'], 'Yamada^Tarou=山田^太郎')])
def test_names_that_the_series_could_not_write(tmp_path, charset, patient):
    "Of segments; those of patients stay as well"
    series = write_series(tmp_path/'series', SpecificCharacterSet=charset, PatientName=patient)
    affine = load_series(series, progress=False).affine
    names = {1: 'ήπαρ', 2: 'Läsion'}
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        path = save_seg(random_labels(), affine, series, tmp_path/'seg.dcm', names)
        report = save_sr(path, series, tmp_path/'sr.dcm')
        pictures = save_overlay(random_labels(), affine, series, tmp_path/'overlay', names)
    back = read_seg(path, ((COLUMNS, ROWS, SLICES), affine), names)
    assert back.table.name.tolist() == list(names.values())
    assert read_sr(report).tracking.unique().tolist() == list(names.values())
    for file in (path, report, pictures[0]): assert str(pydicom.dcmread(file).PatientName) == patient
    assert 'ήπαρ' in pydicom.dcmread(pictures[0]).ImageComments
    verify(path)
    verify(report)

def test_no_name_of_a_patient_in_a_warning(tmp_path):
    series = write_series(tmp_path/'series', PatientName='JaneDoe')
    affine = load_series(series, progress=False).affine
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        path = save_seg(random_labels(), affine, series, tmp_path/'seg.dcm', NAMES)
        save_sr(path, series, tmp_path/'sr.dcm')
        save_overlay(random_labels(), affine, series, tmp_path/'overlay', NAMES)

@each_orientation
def test_dciodvfy_finds_no_error(tmp_path, iop):
    series = write_series(tmp_path/'series', iop)
    affine = load_series(series, progress=False).affine
    names = NAMES | {3: 'left thumb', 4: coded('mass')._replace(region=coded('breast').kind)}
    mask = random_labels(4)
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm', names)
    verify(path)
    verify(save_sr(path, series, tmp_path/'sr.dcm'))
    pictures = save_overlay(mask, affine, series, tmp_path/'overlay', names)
    verify(pictures[0])
    verify(pictures[-1])

def test_simpleitk_opens_it_in_its_place(tmp_path):
    "Compared in mm. GDCM, on which it stands, misreads frames of bits that end within a byte"
    sitk = pytest.importorskip('SimpleITK')
    series = write_series(tmp_path/'series', rows=16, columns=12)
    affine = load_series(series, progress=False).affine
    mask = random_labels(1, (12, 16, SLICES)) > 0
    path = save_seg(mask, affine, series, tmp_path/'seg.dcm')
    image = sitk.ReadImage(str(path))
    shown = np.argwhere(sitk.GetArrayFromImage(image).T > 0).tolist()
    lps = [image.TransformIndexToPhysicalPoint(index) for index in shown]
    ras = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    expected = sorted(map(tuple, np.round(ras*LPS_TO_RAS, 3)))
    np.testing.assert_allclose(sorted(map(tuple, np.round(lps, 3))), expected, atol=2e-3)

def test_highdicom_reads_it(case, tmp_path):
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    ds = hdseg.segread(path)
    files = [pydicom.dcmread(f, stop_before_pixels=True) for f in series.iterdir()]
    files.sort(key=lambda f: f.ImagePositionPatient[2])
    by_slice = ds.get_pixels_by_source_instance(
        [f.SOPInstanceUID for f in files], combine_segments=True,
        assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(by_slice.transpose(2, 1, 0), mask)

# --- other makers' files

def by_highdicom(series, frames, kind, **settings):
    "A SEG as highdicom's users write it: frames (z, y, x) in any order of the files"
    files = [pydicom.dcmread(f) for f in series.iterdir()]
    files.sort(key=lambda f: f.ImagePositionPatient[2], reverse=settings.pop('downward', False))
    codes = pydicom.sr.codedict.codes
    names = settings.pop('names', {1: 'one', 2: 'two'})
    descriptions = [
        hdseg.SegmentDescription(i, name, codes.SCT.Organ, codes.SCT.Liver, 'MANUAL')
        for i, name in names.items()]
    return hdseg.Segmentation(
        files, frames, kind, descriptions, generate_uid(), 1, generate_uid(), 1, 'maker', 'model',
        '1', '2', **settings)

@pytest.mark.parametrize('settings', [{}, dict(omit_empty_frames=False), dict(downward=True)],
                         ids=['no empty frames', 'all frames', 'from the top'])
@pytest.mark.parametrize('kind', ['BINARY', 'LABELMAP'])
def test_reads_what_highdicom_writes(case, tmp_path, kind, settings):
    series, voxels, mask = case
    frames = mask.transpose(2, 1, 0)
    if settings.get('downward'): frames = frames[::-1]
    by_highdicom(series, frames, kind, **settings).save_as(tmp_path/'seg.dcm')
    back = read_seg(tmp_path/'seg.dcm', (mask.shape, voxels.affine))
    np.testing.assert_array_equal(back.array, mask)
    assert back.table.name.tolist() == ['one', 'two']
    separate = read_seg(tmp_path/'seg.dcm', (mask.shape, voxels.affine), separate=True).array
    np.testing.assert_array_equal(separate, np.stack([mask == 1, mask == 2], axis=-1))

def test_reads_overlapping_segments_of_highdicom(case, tmp_path):
    series, voxels, mask = case
    both = np.stack([mask > 0, mask > 1], axis=-1).transpose(2, 1, 0, 3)
    by_highdicom(series, both, 'BINARY').save_as(tmp_path/'seg.dcm')
    back = read_seg(tmp_path/'seg.dcm', (mask.shape, voxels.affine), separate=True)
    np.testing.assert_array_equal(back.array, both.transpose(2, 1, 0, 3))

def dcmqi(program, *arguments):
    "Run a program of dcmqi, by which 3D Slicer writes its DICOM segmentations"
    path = shutil.which(program, path=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    if path is None: pytest.skip(f'{program} is not installed: pip install dcmqi (51 MB)')
    return subprocess.run([path, *map(str, arguments)], check=True, capture_output=True, text=True)

def code_of_dcmqi(value, meaning):
    return dict(CodeValue=value, CodingSchemeDesignator='SCT', CodeMeaning=meaning)

def about_dcmqi(path):
    "What dcmqi wants to be told of the segments, as a file"
    segments = [
        dict(labelID=label, SegmentLabel=name, SegmentDescription=name,
            SegmentAlgorithmType='AUTOMATIC', SegmentAlgorithmName='net',
            recommendedDisplayRGBValue=[200, 50, 50],
            SegmentedPropertyCategoryCodeSequence=code_of_dcmqi('85756007', 'Tissue'),
            SegmentedPropertyTypeCodeSequence=code_of_dcmqi('85756007', 'Tissue'))
        for label, name in NAMES.items()]
    about = dict(ContentCreatorName='Reader', SeriesDescription='Segmentation', SeriesNumber='300',
        InstanceNumber='1', ContentLabel='SEGMENTATION', segmentAttributes=[segments])
    path.write_text(json.dumps(about))
    return path

@each_orientation
def test_dcmqi_there_and_back(tmp_path, iop):
    "What it writes is read here, and what is written here is read by it, voxel for voxel"
    series, mask = write_series(tmp_path/'series', iop), random_labels()
    affine = load_series(series, progress=False).affine
    nifti = save_nifti(mask, affine, tmp_path/'mask.nii.gz')
    dcmqi('itkimage2segimage', '--inputImageList', nifti, '--inputDICOMDirectory', series,
        '--inputMetadata', about_dcmqi(tmp_path/'about.json'), '--outputDICOM', tmp_path/'theirs.dcm')
    back = read_seg(tmp_path/'theirs.dcm', (mask.shape, affine), NAMES)
    np.testing.assert_array_equal(back.array, mask)
    ours = save_seg(mask, affine, series, tmp_path/'ours.dcm', NAMES)
    dcmqi('segimage2itkimage', '--inputDICOM', ours, '--outputDirectory', tmp_path,
          '--outputType', 'nifti', '--prefix', 'read')
    for label in NAMES:
        theirs, their_affine = load_nifti(tmp_path/f'read-{label}.nii.gz')
        # it writes the box that holds a segment; in mm, so that a shared fault would show
        ras = np.argwhere(theirs > 0) @ their_affine[:3, :3].T + their_affine[:3, 3]
        lps = sorted(map(tuple, np.round(ras*LPS_TO_RAS, 3)))
        np.testing.assert_allclose(lps, places_in_file(ours, label), atol=2e-3)

def test_dcmqi_reads_the_report(case, tmp_path):
    series, voxels, mask = case
    seg = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    report = save_sr(seg, series, tmp_path/'sr.dcm')
    dcmqi('tid1500reader', '--inputDICOM', report, '--outputMetadata', tmp_path/'read.json')
    groups = json.loads((tmp_path/'read.json').read_text())['Measurements']
    assert [group['TrackingIdentifier'] for group in groups] == list(NAMES.values())
    theirs = [float(item['value']) for group in groups for item in group['measurementItems']]
    assert theirs == read_sr(report).value.tolist()

# --- reports and pictures

def test_report_comes_back(case, tmp_path):
    series, voxels, _ = case
    mask = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    mask[2:6, 3:5, 2:4] = 1
    mask[8, 9, 5] = 2
    names = NAMES | {3: 'cyst'}
    with pytest.warns(UserWarning, match='no voxel of cyst'):
        seg = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', names, algorithm='net')
    path = save_sr(seg, series, tmp_path/'sr.dcm')
    verify(path)
    table = read_sr(path)
    values = table.pivot(index='segment', columns='measurement', values='value')
    voxel_ml = .5*.7*2.5/1000
    assert values.loc[1, 'Volume'] == pytest.approx(16*voxel_ml, abs=1e-4)
    assert values.loc[2, 'Volume'] == pytest.approx(voxel_ml, abs=1e-4)
    assert values.loc[3, 'Volume'] == 0
    assert np.isnan(values.loc[3, 'Long axis'])
    # from the upper face of one voxel to the lower face of the farthest
    farthest = np.linalg.norm(np.array([3, 1, 2])*(.5, .7, 2.5))
    assert values.loc[1, 'Long axis'] == pytest.approx(farthest, abs=1e-3)
    assert values.loc[2, 'Long axis'] == 2.5
    assert table.unit.tolist() == ['mL', 'mm', 'mL', 'mm', 'mL']
    assert table.finding.unique().tolist() == ['Liver', 'Lesion', 'Cyst']
    ds = pydicom.dcmread(seg)
    assert set(table.seg_uid) == {ds.SOPInstanceUID}
    assert list(table.tracking_uid.unique()) == [s.TrackingUID for s in ds.SegmentSequence]
    assert 'not for clinical use' in pydicom.dcmread(path).SeriesDescription
    report = highdicom.sr.srread(path)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == ['liver', 'lesion', 'cyst']

def altered_report(case, tmp_path, change):
    "A report of `case`, in which `change` has altered the first group's items"
    series, voxels, mask = case
    seg = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    ds = pydicom.dcmread(save_sr(seg, series, tmp_path/'sr.dcm'))
    def below(item):
        for child in item.get('ContentSequence') or []:
            yield child
            yield from below(child)
    group = next(item for item in below(ds) if item.get('ConceptNameCodeSequence')
                 and item.ConceptNameCodeSequence[0].CodeValue == '125007')
    change(group.ContentSequence)
    ds.save_as(tmp_path/'other.dcm')
    return read_sr(tmp_path/'other.dcm')

def test_report_says_how_a_value_was_derived(case, tmp_path):
    """PS3.16 TID 1419: (121401, DCM, 'Derivation') below a NUM, of CID 7464

    Else mean, minimum and maximum are three values of one name"""
    how = [('373098007', 'SCT', 'Mean'), ('255605001', 'SCT', 'Minimum'),
           ('56851009', 'SCT', 'Maximum')]
    name = highdicom.sr.CodedConcept('112031', 'DCM', 'Attenuation Coefficient')
    unit = highdicom.sr.CodedConcept("[hnsf'U]", 'UCUM', 'Hounsfield unit')
    def add(items):
        for value, code in zip((41, 12, 87), how):
            derivation = highdicom.sr.CodedConcept(*code)
            items.extend(highdicom.sr.Measurement(name, value, unit, derivation=derivation))
    table = altered_report(case, tmp_path, add)
    added = table[table.measurement == 'Attenuation Coefficient']
    assert added.value.tolist() == [41, 12, 87]
    assert added.derivation.tolist() == ['Mean', 'Minimum', 'Maximum']
    assert (table.derivation[~table.index.isin(added.index)] == '').all()

def test_report_of_several_segments_at_once(case, tmp_path):
    "Referenced Segment Number (0062,000B) is 1-n (PS3.6; PS3.3 C.18.4)"
    def refer(items):
        image, = [i for i in items if i.ValueType == 'IMAGE'
                  and 'ReferencedSegmentNumber' in i.ReferencedSOPSequence[0]]
        image.ReferencedSOPSequence[0].ReferencedSegmentNumber = [1, 2]
    table = altered_report(case, tmp_path, refer)
    assert table.segment.tolist() == [(1, 2), (1, 2), 2, 2]
    assert table.seg_uid.nunique() == 1

def test_report_with_several_sites(case, tmp_path):
    "Finding Site may come several times (PS3.16 TID 1419): all of them, and not the last alone"
    def add(items):
        for code in ('39607008', 'SCT', 'Lung'), ('10200004', 'SCT', 'Liver'):
            items.append(highdicom.sr.FindingSite(highdicom.sr.CodedConcept(*code)))
    assert altered_report(case, tmp_path, add).site.tolist() == ['Lung, Liver']*2 + ['']*2

def farthest_by_hand(mask, affine):
    "Of all pairs of middles of faces of all voxels the longest distance: 6 points a voxel"
    half_steps = np.concatenate([np.eye(3), -np.eye(3)])/2
    faces = (np.argwhere(mask)[:, None] + half_steps).reshape(-1, 3)
    return pdist(faces @ affine[:3, :3].T).max()

TILTED = from_matvec(euler2mat(.3, -.5, .2) @ np.diag([.5, .7, 2.5]), (3, -8, 1))
SHEARED = np.array([[.5, 0, .8, 0], [0, .7, 0, 0], [0, 0, 2.5, 0], [0, 0, 0, 1]])

@pytest.mark.parametrize('affine', [np.eye(4), np.diag([.5, .7, 2.5, 1]), TILTED, SHEARED],
                         ids=['cubes', 'anisotropic', 'oblique', 'sheared'])
def test_longest_diameter_of_what_is_flat(affine):
    "In a slice of any axis, in a slanting plane, on a line, of one voxel: as by trying all pairs"
    rng, masks = np.random.default_rng(0), []
    x, y, z = np.indices((9, 9, 9))
    everywhere = x >= 0
    planes = x == 4, y == 4, z == 4, x == y, x + z == 8, x == 2*y, x + y + z == 12
    lines = (x == 4) & (y == 4), (x == y) & (z == 3), (x == y) & (y == z), (x == 2*y) & (z == 1)
    for part in (*planes, *lines, everywhere):
        for share in .1, .5, 1.:
            masks.append(part & (rng.random(part.shape) < share))
    masks += [np.arange(729).reshape(9, 9, 9) == 400]
    for mask in masks:
        if not mask.any(): continue
        assert longest_diameter(mask, affine) == pytest.approx(farthest_by_hand(mask, affine))
    assert longest_diameter(everywhere & False, affine) == 0

@pytest.mark.parametrize('shape, mm', [((1000, 1000, 1), np.hypot(1000, 999)),
                                       ((1, 1000, 1000), np.hypot(1000, 999))])
def test_longest_diameter_of_a_large_slice_fits_in_memory(shape, mm):
    "A film's worth of voxels; all pairs of their faces would take 131 TiB"
    assert longest_diameter(np.ones(shape, bool), np.eye(4)) == pytest.approx(mm)

def test_longest_diameter_of_a_large_ball_fits_in_memory():
    "160 voxels across: its hull has some 4,000 corners, and all pairs of their faces took 2.4 GB"
    x = np.indices((161,)*3) - 80
    ball = (x**2).sum(axis=0) <= 80**2
    tracemalloc.start()
    try:
        assert longest_diameter(ball, np.eye(4)) == pytest.approx(161, abs=.01)
        assert tracemalloc.get_traced_memory()[1] < 5e8
    finally:
        tracemalloc.stop()

def test_report_of_another_study_is_refused(case, tmp_path):
    series, voxels, mask = case
    seg = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    other = write_series(tmp_path/'other')
    with pytest.raises(VolumeError, match='of another StudyInstanceUID'):
        save_sr(seg, other, tmp_path/'sr.dcm')

def test_report_of_another_series_is_refused(tmp_path):
    "A repeat in the same study, on the same grid: the report would name images nobody outlined"
    first = write_series(tmp_path/'first')
    affine = load_series(first, progress=False).affine
    again = tmp_path/'again'
    again.mkdir()
    uid, frame = generate_uid(), pydicom.dcmread(next(first.iterdir())).FrameOfReferenceUID
    for file in first.iterdir():
        ds = pydicom.dcmread(file)
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid, frame
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(again/file.name)
    seg = save_seg(random_labels(), affine, first, tmp_path/'seg.dcm', NAMES)
    with pytest.raises(VolumeError, match=f'another SeriesInstanceUID .*{uid}'):
        save_sr(seg, again, tmp_path/'sr.dcm')
    ds = pydicom.dcmread(seg)
    # other makers' files need not say which series that was
    del ds.ReferencedSeriesSequence
    ds.save_as(tmp_path/'silent.dcm')
    assert len(read_sr(save_sr(tmp_path/'silent.dcm', first, tmp_path/'sr.dcm'))) == 4
    ds.FrameOfReferenceUID = generate_uid()
    ds.save_as(tmp_path/'elsewhere.dcm')
    with pytest.raises(VolumeError, match='another FrameOfReferenceUID'):
        save_sr(tmp_path/'elsewhere.dcm', first, tmp_path/'sr.dcm')

def test_pictures_say_of_their_source_what_stays_true(tmp_path):
    "Text burned into the image is in the picture too, and what was lossy remains so"
    lossy = dict(LossyImageCompression='01', LossyImageCompressionRatio='12',
                 LossyImageCompressionMethod='ISO_10918_1')
    removed = dict(PatientIdentityRemoved='YES', DeidentificationMethod='all of it')
    said = [dict(BurnedInAnnotation='YES', **lossy), dict(BurnedInAnnotation='NO', **removed), {}]
    for i, elements in enumerate(said):
        series = write_series(tmp_path/str(i), slices=range(2), **elements)
        affine = load_series(series, progress=False).affine
        mask = np.ones((COLUMNS, ROWS, 2), bool)
        path = save_overlay(mask, affine, series, tmp_path/f'overlay{i}')[0]
        ds = pydicom.dcmread(path)
        for keyword in ('BurnedInAnnotation', *lossy, *removed):
            assert str(ds.get(keyword)) == str(elements.get(keyword)), keyword
        verify(path)

@each_orientation
def test_pictures_are_of_their_slices(tmp_path, iop):
    series = write_series(tmp_path/'series', iop)
    affine = load_series(series, progress=False).affine
    mask = random_labels()
    paths = save_overlay(mask, affine, series, tmp_path/'overlay', NAMES)
    source_of = {}
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        source_of[ds.SOPInstanceUID] = ds
    series_uids = set()
    for z, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        source = source_of[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for keyword in ('PatientName', 'PatientID', 'StudyInstanceUID', 'FrameOfReferenceUID'):
            assert ds[keyword].value == source[keyword].value
        for keyword in ('ImagePositionPatient', 'ImageOrientationPatient'):
            np.testing.assert_allclose(ds[keyword].value, source[keyword].value, atol=1e-6)
        has_colour = np.ptp(ds.pixel_array.astype(int), axis=-1) > 0
        np.testing.assert_array_equal(has_colour, mask[:, :, z].T > 0)
        assert 'not for clinical use' in ds.SeriesDescription
        series_uids.add(ds.SeriesInstanceUID)
    assert len(series_uids) == 1
    assert series_uids.isdisjoint(s.SeriesInstanceUID for s in source_of.values())

@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
@pytest.mark.parametrize('window', [
    dict(width=3000., level=900.), dict(width=300., level=200.), {}])
def test_the_lowest_value_of_monochrome1_is_white(tmp_path, photometric, window):
    """PS3.3 C.7.6.3.1.2: of MONOCHROME1 the least value is white, after the VOI transformation;
    padding is black, as `to_display` shows it"""
    series = write_series(tmp_path/'series', PhotometricInterpretation=photometric,
                          PixelPaddingValue=0)
    affine = load_series(series, fill=0, progress=False).affine
    nothing = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    paths = save_overlay(nothing, affine, series, tmp_path/'overlay', NAMES, **window)
    source_of = {}
    for file in series.iterdir():
        ds = read_dicom(file)
        source_of[ds.SOPInstanceUID] = ds
    whole = np.stack([pixels(ds) for ds in source_of.values()])
    least, most = np.nanmin(whole), np.nanmax(whole)
    shown = window or dict(width=most - least, level=(least + most)/2)
    for path in paths:
        ds = pydicom.dcmread(path)
        source = source_of[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]
        want = to_display(source, **shown).astype(int)
        assert np.abs(ds.pixel_array.astype(int) - want[..., None]).max() <= 1

def test_sides_of_an_axial_picture(case, tmp_path):
    series, voxels, mask = case
    paths = save_overlay(mask, voxels.affine, series, tmp_path/'overlay', NAMES)
    assert list(pydicom.dcmread(paths[0]).PatientOrientation) == ['L', 'P']

def test_sides_of_a_picture_that_is_tilted_twice(tmp_path):
    """PS3.3 C.7.6.1.1.1: rows and columns, which both run farthest to the left, lie along two
    axes"""
    iop = .7248, -.6773, .1267, .6000, .53, -.5993
    series = write_series(tmp_path/'series', iop)
    affine = load_series(series, progress=False).affine
    paths = save_overlay(random_labels(), affine, series, tmp_path/'overlay', NAMES)
    assert list(pydicom.dcmread(paths[0]).PatientOrientation) == ['L', 'F']

def test_pictures_of_real_world_values_are_in_the_window_of_stored_ones(tmp_path):
    """PS3.3 C.11.2.1.2: without a rescaling the window is for stored values, and the series is read
    in mm2/s. Pictures were black throughout"""
    unit, values = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = 'mm2/s', 'UCUM', 'mm2/s'
    values.MeasurementUnitsCodeSequence = [unit]
    values.RealWorldValueSlope, values.RealWorldValueIntercept = 1e-6, 0.
    values.RealWorldValueFirstValueMapped, values.RealWorldValueLastValueMapped = 0, 4095
    series = write_series(tmp_path/'series', RescaleSlope=None, RescaleIntercept=None,
                          WindowCenter=900, WindowWidth=1000,
                          RealWorldValueMappingSequence=[values])
    affine = load_series(series, progress=False).affine
    nothing = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    paths = save_overlay(nothing, affine, series, tmp_path/'overlay', NAMES)
    source_of = {}
    for file in series.iterdir():
        ds = read_dicom(file)
        source_of[ds.SOPInstanceUID] = ds
    for path in paths:
        ds = pydicom.dcmread(path)
        want = to_display(source_of[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]).astype(int)
        assert np.abs(ds.pixel_array.astype(int) - want[..., None]).max() <= 1

def test_a_folder_that_holds_something_is_left_alone(case, tmp_path):
    series, voxels, mask = case
    with pytest.raises(ValueError, match='holds something already'):
        save_overlay(mask, voxels.affine, series, series, NAMES)

def test_says_in_one_sentence_that_highdicom_is_missing(case, tmp_path, monkeypatch):
    series, voxels, mask = case
    monkeypatch.setitem(sys.modules, 'highdicom', None)
    with pytest.raises(ImportError, match=r"medtut.results needs highdicom, not installed here: "
                                          r"pip install 'medtut\[archive\]'"):
        save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)

@each_orientation
def test_a_segmentation_is_imported_like_other_outlines(tmp_path, iop):
    series = write_series(tmp_path/'series', iop)
    voxels, mask = load_series(series, progress=False), random_labels()
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    image = save_nifti(voxels.array, voxels.affine, tmp_path/'image.nii')
    outline = import_outline(path, image, NAMES)
    assert (outline.label == mask).all()
    assert outline.names == NAMES
    only = import_outline(path, (mask.shape, voxels.affine), {5: 'lesion'})
    assert (only.label == 5*(mask == 2)).all()
    with pytest.raises(VolumeError, match='seg.dcm: .*on the grid of its series'):
        import_outline(path, image, resampled=True)
    with pytest.raises(DicomError): import_outline(next(series.glob('*')), image)

# numbers of FreeSurfer's table (FreeSurferColorLUT.txt)
FREESURFER = {2: 'white matter', 1024: 'precentral', 1026: 'rostral anterior cingulate'}

def test_segment_numbers_of_two_bytes(case, tmp_path):
    """A pixel of a label map is a segment's number, of 8 or 16 bits (PS3.3 C.8.20.2). Numbers that
    a label of one byte can't hold are refused, and `labels` gives others; they never wrap: 1024 is
    0 and 1026 is 2 in one byte"""
    series, voxels, _ = case
    truth = random_labels(3)
    path, grid = tmp_path/'seg.dcm', (truth.shape, voxels.affine)
    numbers = np.array([0, *FREESURFER], np.uint16)[truth]
    by_highdicom(series, numbers.transpose(2, 1, 0), 'LABELMAP', names=FREESURFER).save_as(path)
    np.testing.assert_array_equal(read_seg(path, grid).array, numbers)
    says = r"seg.dcm: precentral has number 1024.*labels=\{1: 'precentral'\}"
    with pytest.raises(VolumeError, match=says): import_outline(path, grid)
    names = dict(enumerate(FREESURFER.values(), 1))
    outline = import_outline(path, grid, names)
    np.testing.assert_array_equal(outline.label, truth)
    assert outline.names == names

def test_a_number_that_no_voxel_has_does_not_matter(case, tmp_path):
    "A file may describe segments of which nothing is drawn (PS3.3 C.8.20.2)"
    series, voxels, mask = case
    names = {1: 'one', 2: 'two', 1024: 'precentral'}
    path = tmp_path/'seg.dcm'
    by_highdicom(series, mask.transpose(2, 1, 0), 'LABELMAP', names=names).save_as(path)
    outline = import_outline(path, (mask.shape, voxels.affine))
    np.testing.assert_array_equal(outline.label, mask)
    assert outline.label.dtype == np.uint8

def test_labels_beyond_two_bytes(case, tmp_path):
    "Labels are the reader's own, and may be of any size; those in a file have 16 bits"
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    liver = list(NAMES.values())[0]
    back = read_seg(path, (mask.shape, voxels.affine), {70_000: liver})
    np.testing.assert_array_equal(back.array, 70_000*(mask == list(NAMES)[0]))

def test_a_step_that_a_header_has_wrong(case, tmp_path):
    "Slices lie where their positions say (PS3.3 C.7.6.2.1.1), and a SEG says so too"
    series, voxels, mask = case
    for path in series.iterdir():
        ds = pydicom.dcmread(path)
        ds.SpacingBetweenSlices = 9
        ds.save_as(path)
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    np.testing.assert_array_equal(read_seg(path, (mask.shape, voxels.affine)).array, mask)

def test_a_stated_step_that_the_positions_contradict(case, tmp_path):
    "As others write it; positions count (PS3.3 C.7.6.2.1.1)"
    series, voxels, mask = case
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    ds = pydicom.dcmread(path)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 9
    ds.save_as(path)
    np.testing.assert_array_equal(read_seg(path, (mask.shape, voxels.affine)).array, mask)

@pytest.mark.parametrize('thickness', [None, ''])
def test_slices_that_do_not_say_how_thick_they_are(case, tmp_path, thickness):
    "A SEG must say it (PS3.3 C.7.6.16.2.1): the step between the slices is what is known"
    series, voxels, mask = case
    for path in series.iterdir():
        ds = pydicom.dcmread(path)
        if thickness is None: ds.pop('SliceThickness', None)
        else: ds.SliceThickness = thickness
        ds.save_as(path)
    path = save_seg(mask, voxels.affine, series, tmp_path/'seg.dcm', NAMES)
    measures = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(spacing(voxels.affine)[2])
    np.testing.assert_array_equal(read_seg(path, (mask.shape, voxels.affine)).array, mask)

def label_map(case, tmp_path, change=None):
    "A label map of highdicom's, changed"
    series, voxels, mask = case
    seg = by_highdicom(series, mask.transpose(2, 1, 0), 'LABELMAP', omit_empty_frames=False)
    seg.save_as(tmp_path/'seg.dcm')
    ds = pydicom.dcmread(tmp_path/'seg.dcm')
    if change: change(ds)
    ds.save_as(tmp_path/'seg.dcm')
    return tmp_path/'seg.dcm', (mask.shape, voxels.affine), mask

def numbered(*numbers):
    "Gives 0, 1 and 2 other numbers, in pixels and segments"
    def change(ds):
        n = ds.Rows*ds.Columns*int(ds.NumberOfFrames) # behind them there may be a byte of padding
        pixels = np.frombuffer(ds.PixelData, np.uint8)[:n]
        ds.PixelData = np.array(numbers, np.uint8)[pixels].tobytes() + bytes(n % 2)
        for segment in ds.SegmentSequence: segment.SegmentNumber = numbers[segment.SegmentNumber]
        ds.add_new(0x00280120, 'US', numbers[0])
    return change

def test_background_is_what_the_padding_value_says(case, tmp_path):
    "Of a label map (Supplement 243): here 2 is the background, and 0 a structure"
    path, grid, mask = label_map(case, tmp_path, numbered(2, 0, 1))
    with pytest.raises(VolumeError, match='one has number 0, .*background'):
        read_seg(path, grid)
    back = read_seg(path, grid, {1: 'one', 2: 'two'})
    np.testing.assert_array_equal(back.array, mask)
    assert back.table.name.tolist() == ['one', 'two']
    separate = read_seg(path, grid, separate=True).array
    np.testing.assert_array_equal(separate, np.stack([mask == 1, mask == 2], axis=-1))

def test_a_number_that_no_segment_has_is_refused(case, tmp_path):
    "Each value of a label map is described (Supplement 243); before, its voxels were lost"
    def drop_the_last(ds): del ds.SegmentSequence[-1]
    path, grid, _ = label_map(case, tmp_path, drop_the_last)
    with pytest.raises(DicomError, match='shows segment 2, which the file does not describe'):
        read_seg(path, grid)

def test_label_map_with_a_palette(case, tmp_path):
    "Colours for the numbers, which stay what they are (PS3.3 C.8.20.2)"
    def colour(ds): ds.PhotometricInterpretation = 'PALETTE COLOR'
    path, grid, mask = label_map(case, tmp_path, colour)
    np.testing.assert_array_equal(read_seg(path, grid).array, mask)
