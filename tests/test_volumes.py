"Volumes against nibabel, SimpleITK and dicom2nifti, and on what is wrong with files"
import gzip
import itertools
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from medtut.conversion import series_table
from medtut.errors import DicomError
from medtut.nifti import load_nifti, save_nifti
from medtut.planes import VolumeError, read_images
from medtut.volumes import (
    check_affine,
    check_same_grid,
    load_series,
    reorient,
    resample,
    spacing,
)

LPS_TO_RAS = np.diag([-1, -1, 1, 1])
rng = np.random.default_rng(0)
turned = nib.affines.from_matvec(np.linalg.qr(rng.normal(size=(3, 3)))[0]*(1, 2, 3.5),
                                 (10, -20, 30))  # oblique

def write(path, array, affine=None, slope=None, inter=0, **codes):
    image = nib.Nifti1Image(array, turned if affine is None else affine)
    for part, code in codes.items():
        image.header[f'{part}_code'] = code
    nib.save(image, path)
    if slope is not None:  # nibabel computes slopes of its own: put ours where the format has them
        is_packed = str(path).endswith('gz')
        raw = Path(path).read_bytes()
        raw = bytearray(gzip.decompress(raw) if is_packed else raw)
        raw[112:120] = np.array([slope, inter], '<f4').tobytes()
        Path(path).write_bytes(gzip.compress(raw) if is_packed else raw)
    return path

# reading, against nibabel

@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
@pytest.mark.parametrize('dtype',
                         ['uint8', 'int16', '>i2', 'uint16', 'int32', 'float32', 'float64'])
@pytest.mark.parametrize('shape', [(5, 4, 3), (5, 4, 3, 2), (5, 4, 3, 1, 2), (5, 4, 3, 1)])
def test_reads_what_nibabel_reads(tmp_path, ending, dtype, shape):
    data = rng.integers(0, 100, shape).astype(dtype)
    path = write(tmp_path/f'x{ending}', data)
    expected = nib.load(path).get_fdata().reshape(*shape[:3], *[n for n in shape[3:] if n > 1])
    x, affine = load_nifti(path)
    assert x.dtype == np.float32
    assert np.array_equal(x, expected)
    assert_allclose(affine, nib.load(path).affine)

@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_slope_and_intercept(tmp_path, ending):
    path = write(tmp_path/f'x{ending}', rng.integers(-1000, 1000, (5, 4, 3)).astype(np.int16),
                 slope=.25, inter=-7)
    expected = nib.load(path).get_fdata()
    assert expected.min() < -100
    for dtype in np.float32, np.float64:
        x, _ = load_nifti(path, dtype=dtype)
        assert x.dtype == dtype
        assert np.allclose(x, expected, rtol=1e-6)

@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_selection(tmp_path, data):
    "Any slices and channels are what nibabel's array has there, and lie where it says"
    ending = data.draw(st.sampled_from(['.nii', '.nii.gz']))
    path = tmp_path/f'x{ending}'
    if not path.exists():
        write(path, rng.integers(-99, 99, (4, 3, 7, 5)).astype(np.int16))
    full, whole_affine = nib.load(path).get_fdata(), nib.load(path).affine
    channels = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    start = data.draw(st.integers(0, 6))
    stop = data.draw(st.integers(1, 7))
    step = data.draw(st.integers(1, 3))
    slices = data.draw(st.sampled_from([range(start, stop, step), slice(start, stop, step),
                                        list(range(start, stop, step))]))
    z = list(range(start, stop, step))
    if not z:
        with pytest.raises(VolumeError, match='asked for'):
            load_nifti(path, channels=channels, slices=slices)
        return
    x, affine = load_nifti(path, channels=channels, slices=slices)
    assert np.array_equal(x, full[:, :, z][..., channels])
    for i in range(len(z)):
        assert_allclose(affine @ [1, 2, i, 1], whole_affine @ [1, 2, z[i], 1], atol=1e-6)

def test_one_channel_drops_its_axis_and_out_is_filled(tmp_path):
    data = rng.normal(size=(5, 4, 3, 2)).astype(np.float32)
    path = write(tmp_path/'x.nii', data)
    assert load_nifti(path, channels=1)[0].shape == (5, 4, 3)
    out = np.zeros((5, 4, 3, 2), np.float32, order='F')
    x, _ = load_nifti(path, out=out)
    assert x is out
    assert np.array_equal(out, data)
    with pytest.raises(VolumeError, match='`out` is'):
        load_nifti(path, out=out[..., 0])
    with pytest.raises(VolumeError, match='`out` is'):
        load_nifti(path, out=out.astype(float))

def test_units_other_than_mm(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.diag([500, 500, 1000, 1]))
    image.header.set_xyzt_units('micron')
    nib.save(image, tmp_path/'x.nii')
    assert_allclose(spacing(load_nifti(tmp_path/'x.nii')[1]), [.5, .5, 1])

def test_pair_of_header_and_image(tmp_path):
    data = rng.integers(0, 99, (5, 4, 3)).astype(np.int16)
    nib.save(nib.Nifti1Pair(data, turned), tmp_path/'x.img')
    assert np.array_equal(load_nifti(tmp_path/'x.img')[0], data)

# bad input

def refused(path, match, **kwargs):
    with pytest.raises(VolumeError, match=match) as e:
        load_nifti(path, **kwargs)
    assert str(path) in str(e.value)

@pytest.fixture
def good(tmp_path):
    return write(tmp_path/'good.nii.gz', rng.integers(0, 2000, (20, 20, 20, 2)).astype(np.int16))

@pytest.mark.parametrize('share', [.02, .3, .7, .99, .9999])
def test_truncated(tmp_path, good, share):
    raw = good.read_bytes()
    (tmp_path/'cut.nii.gz').write_bytes(raw[:min(int(len(raw)*share), len(raw) - 1)])
    refused(tmp_path/'cut.nii.gz', 'cut off|can not be read')
    plain = gzip.decompress(raw)
    (tmp_path/'cut.nii').write_bytes(plain[:min(int(len(plain)*share), len(plain) - 1)])
    refused(tmp_path/'cut.nii', 'cut off|can not be read')

def test_any_cut_and_any_flipped_bit_is_refused_or_harmless(tmp_path, good):
    "Of a compressed file, whatever is damaged: the right numbers or a VolumeError, nothing else"
    raw, data, path = good.read_bytes(), nib.load(good).get_fdata(), tmp_path/'x.nii.gz'
    refusals = 0
    for at in rng.integers(0, len(raw), 60):
        for bad in raw[:at], raw[:at] + bytes([raw[at] ^ 16]) + raw[at + 1:]:
            path.write_bytes(bad)
            try:
                assert np.array_equal(load_nifti(path)[0], data)
            except VolumeError: refusals += 1
    assert refusals > 100

@pytest.mark.parametrize(
    'content', [b'', b'<html>Please log in</html>', b'\x1f\x8b\x08', bytes(400), b'n+1\0'*100],
    ids=['empty', 'web page', 'gzip head', 'zeros', 'noise'])
@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_not_nifti(tmp_path, content, ending):
    (tmp_path/f'x{ending}').write_bytes(content)
    refused(tmp_path/f'x{ending}', 'can not be read as NIfTI|claims|affine|shape')

def test_name_and_content_disagree(tmp_path, good):
    shutil.copy(good, tmp_path/'x.nii')
    refused(tmp_path/'x.nii', 'its content is gzip-compressed')
    (tmp_path/'y.nii.gz').write_bytes(gzip.decompress(good.read_bytes()))
    refused(tmp_path/'y.nii.gz', 'its content is not gzip-compressed')

def test_missing_folder_and_other_formats(tmp_path):
    refused(tmp_path/'no.nii', 'no such file')
    refused(tmp_path, 'load_series')
    nib.save(nib.MGHImage(np.zeros((3, 3, 3), np.float32), np.eye(4)), tmp_path/'x.mgz')
    refused(tmp_path/'x.mgz', 'MGHImage, not NIfTI')

flat = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('affine', [np.zeros((4, 4)), np.diag([1, 1, 0, 1]),
                                    np.diag([1, np.nan, 1, 1]),
                                    flat],
                         ids=['zeros', 'flat', 'nan', 'two axes the same'])
def test_bad_affine(tmp_path, affine):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    image.header['sform_code'] = 1
    for row, name in zip(affine, ('srow_x', 'srow_y', 'srow_z')):
        image.header[name] = row
    raw = bytearray(image.to_bytes())
    raw[252:256] = np.array([0, 1], '<i2').tobytes()  # qform, sform code
    raw[280:328] = affine[:3].astype('<f4').tobytes()
    (tmp_path/'x.nii').write_bytes(raw)
    refused(tmp_path/'x.nii', 'a place of its own')
    with pytest.raises(VolumeError, match='a place of its own'):
        save_nifti(np.zeros((3, 3, 3)), affine, tmp_path/'y.nii')

def test_no_orientation_is_said(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), None)
    nib.save(image, tmp_path/'x.nii')
    with pytest.warns(UserWarning, match='no orientation in the header'):
        load_nifti(tmp_path/'x.nii')

def with_quaternion(path, bcd, kind=nib.Nifti1Image):
    "A file whose qform alone gives the orientation, by these three numbers"
    image = kind(rng.integers(0, 99, (2, 3, 4)).astype(np.int16), None)
    image.set_qform(np.diag([2, 2, 3, 1]), code=1)
    raw = bytearray(image.to_bytes())
    at, number = (256, '<f4') if kind is nib.Nifti1Image else (352, '<f8')
    raw[at:at + 3*np.dtype(number).itemsize] = np.array(bcd, number).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == '.gz' else raw)
    return path

@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
@pytest.mark.parametrize('bcd', [(0, .70710701, .7071069), (0, 0, 1.0000002),
                                 (.57740, .57740, .57740), (.5, .5, .5), (1.0004, 0, 0)])
def test_quaternion_that_rounding_made_too_long(tmp_path, bcd, ending):
    "nifti1_io.c (nifti_quatern_to_mat44), and so SimpleITK, makes it 1 long; nibabel refuses it"
    path = with_quaternion(tmp_path/f'x{ending}', bcd)
    x, affine = load_nifti(path)
    read = sitk.ReadImage(str(path))
    assert np.array_equal(x, sitk.GetArrayFromImage(read).T)
    lps = nib.affines.from_matvec(np.array(read.GetDirection()).reshape(3, 3)*read.GetSpacing(),
                                  read.GetOrigin())
    assert_allclose(LPS_TO_RAS @ lps, affine, atol=1e-5)

def test_quaternion_of_nifti_2(tmp_path):
    affine = load_nifti(with_quaternion(tmp_path/'x.nii', (0, 1/np.sqrt(2), 1/np.sqrt(2) + 1e-9),
                                        nib.Nifti2Image))[1]
    assert_allclose(affine[:3, :3], [[-2, 0, 0], [0, 0, 3], [0, 2, 0]], atol=1e-6)

def test_quaternion_that_is_none(tmp_path):
    "No rounding makes it so: its length is said, and nothing of gzip"
    path = with_quaternion(tmp_path/'x.nii.gz', (1, 2, 2))
    refused(path, r'quatern_b, c, d are \[1.0, 2.0, 2.0\], 3 long; a rotation has 1 at most')
    with pytest.raises(VolumeError) as e:
        load_nifti(path)
    assert 'gzip-compressed' not in str(e.value)

def test_nan_is_said_refused_or_kept(tmp_path):
    data = np.ones((4, 4, 4), np.float32)
    data[1, 2, 3], data[0, 0, 0] = np.nan, np.inf
    path = write(tmp_path/'x.nii', data)
    with pytest.warns(UserWarning, match='2 of 64 voxels are nan'):
        load_nifti(path)
    refused(path, '2 of 64 voxels are nan', nan='refuse')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert np.isnan(load_nifti(path, nan='keep')[0][1, 2, 3])
    refused(path, 'found nan|found inf', dtype=np.uint8)
    with pytest.raises(ValueError, match='nan must be'):
        load_nifti(path, nan='ignore')

def test_masks_are_rounded_or_refused(tmp_path):
    path = write(tmp_path/'x.nii.gz', np.full((3, 3, 3), .99999997, np.float64))
    assert np.array_equal(load_nifti(path, dtype=np.uint8)[0], np.ones((3, 3, 3)))
    refused(write(tmp_path/'half.nii', np.full((3, 3, 3), .5, np.float32)), 'found 0.5',
            dtype=np.uint8)
    refused(write(tmp_path/'big.nii', np.full((3, 3, 3), 300, np.int16)), 'do not fit uint8',
            dtype=np.uint8)
    refused(write(tmp_path/'minus.nii', np.full((3, 3, 3), -1, np.int16)), 'do not fit uint8',
            dtype=np.uint8)

def test_a_header_that_claims_terabytes_costs_nothing(tmp_path):
    raw = bytearray(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_bytes())
    raw[40:56] = np.array([4, 32000, 32000, 32000, 4, 1, 1, 1], '<i2').tobytes()
    for path, data in ((tmp_path/'x.nii', raw), (tmp_path/'x.nii.gz', gzip.compress(raw))):
        path.write_bytes(data)
        refused(path, 'claims 131,072,000,000,000 bytes')

def test_shapes_and_types_that_are_no_volume(tmp_path):
    refused(write(tmp_path/'flat.nii', np.zeros((4, 4), np.uint8)), r'shape \(4, 4\)')
    refused(write(tmp_path/'five.nii', np.zeros((4, 4, 4, 2, 3), np.uint8)), 'shape')
    refused(write(tmp_path/'complex.nii', np.zeros((4, 4, 4), np.complex64)), 'complex64')
    rgb = np.zeros((4, 4, 4), [('R', 'u1'), ('G', 'u1'), ('B', 'u1')])
    refused(write(tmp_path/'rgb.nii', rgb), 'not real numbers')

@pytest.mark.parametrize('kwargs', [dict(channels=2), dict(channels=[0, -1]),
                                    dict(slices=range(15, 25)), dict(slices=[]), dict(slices=20)])
def test_what_is_not_there(good, kwargs):
    refused(good, 'asked for', **kwargs)

def test_uneven_slices(good):
    refused(good, 'evenly spaced', slices=[1, 2, 4])

def test_a_mirrored_mask_is_refused():
    check_same_grid((5, 5, 5), turned, (5, 5, 5, 2), turned + np.outer([1, 1, 1, 0], [1e-6]*4))
    for change in np.diag([-1, 1, 1, 1]), nib.affines.from_matvec(np.eye(3), (.3, 0, 0)):
        with pytest.raises(VolumeError, match='mask .* mm apart'):
            check_same_grid((5, 5, 5), turned, (5, 5, 5), change @ turned)
    with pytest.raises(VolumeError, match=r'\(5, 5, 5\) voxels, mask \(5, 5, 4\)'):
        check_same_grid((5, 5, 5), turned, (5, 5, 4), turned)

# memory

code = '''
import resource, sys, numpy as np, medtut.nifti as v
kb = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])
v.load_nifti(sys.argv[2])
before = kb()
x, _ = v.load_nifti(sys.argv[1])
print((kb() - before)*1024/x.nbytes)'''

@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs Linux')
@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_no_hidden_copy(tmp_path, ending):
    path = save_nifti(np.ones((160, 160, 100, 4), np.int16), turned, tmp_path/f'big{ending}')
    small = save_nifti(np.ones((4, 4, 4), np.int16), turned, tmp_path/f'small{ending}')
    done = subprocess.run([sys.executable, '-c', code, path, small], capture_output=True, text=True,
                          check=True)
    assert .9 < float(done.stdout) < 1.15

# writing

@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=st.sampled_from(['uint8', 'int16', 'uint16', 'int32', 'float32', 'float64', 'bool',
                              'int64']).flatmap(
    lambda d: arrays(d, st.tuples(*[st.integers(1, 4)]*3),
                     elements=dict(allow_nan=False, allow_infinity=False) if d.startswith('f') else
                     dict(min_value=-2**31, max_value=2**31 - 1) if d == 'int64' else None)),
                     packed=st.booleans())
def test_round_trip(tmp_path, array, packed):
    path = save_nifti(array, turned, tmp_path/('x.nii.gz' if packed else 'x.nii'))
    x, affine = load_nifti(path, dtype=np.float64)
    assert np.array_equal(x, array)
    assert_allclose(affine, turned, atol=1e-5)
    itk = sitk.ReadImage(str(path))
    assert_allclose(np.diag([-1, -1, 1]) @ itk.GetOrigin(), turned[:3, 3], atol=1e-3)
    assert_allclose(itk.GetSpacing(), spacing(turned), rtol=1e-4)

def test_same_array_same_bytes(tmp_path):
    x = rng.normal(size=(5, 4, 3))
    one, two = (save_nifti(x, turned, tmp_path/f'{n}.nii.gz').read_bytes() for n in 'ab')
    assert one == two

sheared = np.array([[1, 0, .3, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.]])

def test_shear_is_kept_and_said(tmp_path):
    with pytest.warns(UserWarning, match='x.nii: the axes are not at right angles'):
        path = save_nifti(np.zeros((3, 3, 3)), sheared, tmp_path/'x.nii')
    assert_allclose(load_nifti(path)[1], sheared, atol=1e-6)
    with pytest.raises(RuntimeError, match='ITK ERROR'):
        sitk.ReadImage(str(path))

def test_what_can_not_be_saved(tmp_path):
    for array, match in ((np.zeros((3, 3)), 'shape'), (np.zeros((2, 2, 2), complex), 'real'),
                         (np.full((2, 2, 2), 2**40), 'int32'), (np.zeros((0, 2, 2)), 'shape')):
        with pytest.raises(VolumeError, match=match):
            save_nifti(array, turned, tmp_path/'x.nii')
    with pytest.raises(VolumeError, match='must end in'):
        save_nifti(np.zeros((2, 2, 2)), turned, tmp_path/'x.img')
    assert not list(tmp_path.iterdir())

def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_nifti(np.zeros((3, 3, 3), np.uint8), turned, tmp_path/'x.nii.gz')
    before = path.read_bytes()
    def full(self, f):
        f.write(b'half')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(nib.Nifti1Image, 'to_stream', full)
    with pytest.raises(OSError, match='No space'):
        save_nifti(np.ones((3, 3, 3), np.uint8), turned, path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1

# turning and resampling

all_orientations = []
for pairs in itertools.permutations(['RL', 'AP', 'SI']):
    all_orientations += [''.join(letters) for letters in itertools.product(*pairs)]

@pytest.mark.parametrize('orientation', all_orientations)
def test_reorient_all_48(orientation):
    x = rng.normal(size=(5, 4, 3, 2))
    y, affine = reorient(x, turned, orientation)
    assert ''.join(nib.aff2axcodes(affine)) == orientation
    change = nib.orientations.ornt_transform(
        nib.io_orientation(turned), nib.orientations.axcodes2ornt(orientation))
    oracle = nib.Nifti1Image(x, turned).as_reoriented(change)
    assert np.array_equal(y, oracle.get_fdata())
    assert_allclose(affine, oracle.affine)
    back, same = reorient(y, affine, ''.join(nib.aff2axcodes(turned)))
    assert np.array_equal(back, x)
    assert_allclose(same, turned)

@pytest.mark.parametrize('orientation', ['', 'RA', 'RASS', 'RLS', 'XYZ', 'RRA'])
def test_no_orientation(orientation):
    with pytest.raises(VolumeError, match='one each of'):
        reorient(np.zeros((2, 2, 2)), turned, orientation)

def as_itk(array, affine):
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps, size = LPS_TO_RAS @ affine, spacing(affine)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(size.tolist())
    image.SetDirection((lps[:3, :3]/size).ravel().tolist())
    return image

@pytest.mark.parametrize('nearest', [False, True])
def test_resample_like_simpleitk(nearest):
    """Onto a grid that is turned, shifted and reaches out of the volume

    Where ITK has no voxels round a point, it fills"""
    x = rng.integers(0, 5, (20, 18, 16)).astype(np.float32)
    other = turned @ nib.affines.from_matvec(nib.eulerangles.euler2mat(.1, .2, -.15)*1.3,
                                             (1.7, -2.3, .9))
    y, affine = resample(x, turned, like=((17, 15, 14), other), nearest=nearest, fill=-1)
    grid = as_itk(np.zeros((17, 15, 14), np.float32), other)
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    by_itk = sitk.Resample(as_itk(x, turned), grid, sitk.Transform(), how, -1.)
    z = sitk.GetArrayFromImage(by_itk).T
    assert_array_equal(affine, other)
    assert .1 < (z == -1).mean() < .9
    assert np.mean(np.isclose(y, z, atol=1e-3)) > (.995 if nearest else .999)

def test_resample_keeps_the_field_of_view():
    x = rng.normal(size=(30, 24, 15)).astype(np.float32)
    y, affine = resample(x, turned, (2, 3, 5))
    assert y.shape == (15, 16, 10)
    assert y.dtype == np.float32
    assert_allclose(spacing(affine), (2, 3, 5))
    centre = lambda shape, a: a @ [*(np.array(shape) - 1)/2, 1]
    assert_allclose(centre(x.shape, turned), centre(y.shape, affine), atol=1e-9)

def test_resample_to_the_same_grid_changes_nothing():
    x = rng.normal(size=(6, 5, 4, 3)).astype(np.float32)
    y, affine = resample(x, turned, spacing(turned))
    assert_allclose(y, x, atol=1e-6)
    assert_allclose(affine, turned)

def test_resample_and_back():
    i, j, k = np.indices((24, 20, 18))
    smooth = (np.sin(i/6) + np.cos(j/5) + k/9).astype(np.float32)
    y, affine = resample(smooth, turned, spacing(turned)/2)
    back, _ = resample(y, affine, like=(smooth.shape, turned))
    assert_allclose(back[1:-1, 1:-1, 1:-1], smooth[1:-1, 1:-1, 1:-1], atol=.02)

@pytest.mark.parametrize('nearest', [False, True])
def test_resample_beyond_the_volume(nearest):
    "12 slices of 1 mm are 2 of 5 mm, which reach from -5 to 5 mm: the outer two lie beyond them"
    x = np.arange(2, dtype=np.float32).reshape(1, 1, 2) + 3
    affine, fine = np.diag([1., 1, 5, 1]), np.diag([1., 1, 1, 1])
    fine[2, 3] = 2.5 - 5.5 # the middles of both grids lie at 2.5 mm
    wanted = (1, 1, 12), fine
    within = resample(x, affine, like=wanted, nearest=nearest, fill=-1).array[0, 0]
    assert (within == -1).tolist() == [True] + [False]*10 + [True]
    assert (resample(x, affine, like=wanted, nearest=nearest).array[0, 0, [0, -1]] == 0).all()
    kept = resample(x, affine, like=wanted, nearest=nearest, fill=None).array[0, 0]
    assert_array_equal(kept[1:-1], within[1:-1])
    assert kept[[0, -1]].tolist() == [3, 4]

def test_resample_straightens_a_shear_without_a_gap():
    "What lies beyond a sheared volume may get its nearest value too"
    x = np.full((6, 5, 4), 7, np.float32)
    assert (resample(x, sheared, 1).array == 0).any()
    assert (resample(x, sheared, 1, fill=None).array == 7).all()

@pytest.mark.parametrize('affine', [sheared, turned @ sheared, sheared @ np.diag([1, -1, -1, 1])],
                         ids=['shear', 'turned', 'flipped'])
def test_resample_straightens_a_shear(affine):
    "A ramp in the patient stays that ramp, all old voxels fit in, axes run to the same sides"
    ijk = np.indices((12, 10, 8))
    place = lambda a, i: nib.affines.apply_affine(a, np.moveaxis(i, 0, -1))
    ramp = place(affine, ijk) @ (1, -2, .5)
    y, new = resample(ramp, affine, (1, 1, 2), fill=np.nan)
    assert_allclose(new[:3, :3].T @ new[:3, :3], np.diag([1, 1, 4]), atol=1e-9)
    assert (np.diag(np.linalg.inv(affine)[:3, :3] @ new[:3, :3]) > 0).all()
    corners = np.array(list(itertools.product((0, 11), (0, 9), (0, 7))))
    at = nib.affines.apply_affine(np.linalg.inv(new) @ affine, corners)
    assert (at > -.51).all()
    assert (at < np.array(y.shape) - .49).all()
    old = np.moveaxis(place(np.linalg.inv(affine) @ new, np.indices(y.shape)), -1, 0)
    within = np.all([(0 <= o) & (o <= n - 1) for o, n in zip(old, ramp.shape)], axis=0)
    assert within.mean() > .5
    assert np.isnan(y).any()
    assert_allclose(y[within], (place(new, np.indices(y.shape)) @ (1, -2, .5))[within],
                    atol=1e-4)

def test_resample_is_told_one_grid():
    x = np.zeros((3, 3, 3))
    both = dict(new_spacing=1, like=(x.shape, turned))
    for bad in {}, both, dict(new_spacing=0), dict(new_spacing=(1, np.nan, 1)):
        with pytest.raises(VolumeError):
            resample(x, turned, **bad)

# DICOM series

bundled = Path(pydicom.__file__).parent/'data/test_files/dicomdirtests'

def by_simpleitk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    lps = nib.affines.from_matvec(np.array(image.GetDirection()).reshape(3, 3)*image.GetSpacing(),
                                  image.GetOrigin())
    return sitk.GetArrayFromImage(image).T, LPS_TO_RAS @ lps

def by_dicom2nifti(folder):
    import dicom2nifti.settings as options
    from dicom2nifti.common import read_dicom_directory
    from dicom2nifti.convert_dicom import dicom_array_to_nifti
    for off in (options.disable_validate_slicecount, options.disable_validate_orthogonal,
                options.disable_validate_slice_increment):
        off()
    image = dicom_array_to_nifti(read_dicom_directory(str(folder)), None, False)['NII']
    return image.get_fdata(), image.affine

def agree(mine, other, atol):
    x, affine = mine
    y, other_affine = other
    x, affine = reorient(x, affine, 'RAS')
    y, other_affine = reorient(y, other_affine, 'RAS')
    assert x.shape == y.shape
    check_same_grid(x.shape, affine, y.shape, other_affine, tolerance=atol)
    measured = np.isfinite(x)
    assert measured.mean() > .5
    assert np.allclose(x[measured], y[measured], atol=1e-3)

@pytest.fixture(scope='module')
def breast(tmp_path_factory):
    from medtut.datasets import get_data
    return get_data('duke_breast', source='sample', n=2, root=tmp_path_factory.mktemp('data'),
                    progress=False)/'Duke-Breast-Cancer-MRI/Breast_MRI_001'

@pytest.fixture
def folder(request, breast, tmp_path):
    "A CT of real slices, made small by pydicom; the upper three of another; the sample breast"
    if request.param == 'breast':
        return next(breast.rglob('*.dcm')).parent
    if request.param == 'CT5N': return bundled/'98892001/CT5N'
    for name in '17136', '17166', '17196':
        shutil.copy(bundled/'77654033/CT2'/name, tmp_path)
    return tmp_path

@pytest.mark.parametrize('oracle', [by_simpleitk, by_dicom2nifti])
@pytest.mark.parametrize('folder', ['CT5N', 'CT2', 'breast'], indirect=True)
def test_series_is_what_others_read(folder, oracle):
    agree(load_series(folder, fill=np.nan, progress=False), oracle(folder), atol=.02)

@pytest.mark.parametrize('name', ['CT_small.dcm', 'MR_small.dcm', '693_UNCR.dcm', 'MR2_UNCR.dcm'])
def test_single_slices_of_real_scanners(name, tmp_path):
    from pydicom.data import get_testdata_file
    shutil.copy(get_testdata_file(name, download=False), tmp_path)
    agree(load_series(tmp_path, fill=np.nan, progress=False), by_simpleitk(tmp_path), atol=.02)

@pytest.mark.parametrize('name, match', [
    ('77654033/CT2',
     '2 steps of 1.25 mm, 1 of 202.5 mm, the largest between 17106 .* and 17136 '),
    ('98892001/CT2N', 'do not make one volume: 1 of 16 x 16 .* 1 of 16 x 16'),
    ('98892003/MR700', 'do not make one volume'),
    ('98892003/MR2', '3 series: choose one with uid'),
    ('77654033/CR1', 'ImagePositionPatient is None'), ('TINY_ALPHA', 'no DICOM image')])
def test_real_folders_that_are_no_volume(name, match):
    "Left-over slices, two scout views, projections, three pilot scans, a radiograph, no images"
    with pytest.raises(VolumeError, match=match):
        load_series(bundled/name, progress=False)

@pytest.fixture
def series(tmp_path):
    "Eight oblique slices of 5 x 7 pixels, in files whose names lie about their order"
    cosines = np.round(np.linalg.qr(rng.normal(size=(3, 3)))[0][:2], 6)
    normal, template = np.cross(*cosines), pydicom.dcmread(bundled/'98892001/CT5N/2062')
    uids = [pydicom.uid.generate_uid() for _ in range(8)]
    for i, z in enumerate(rng.permutation(8)):
        ds, ds.SOPInstanceUID = (d := template.copy()), uids[i]
        d.Rows, d.Columns, d.PixelSpacing = 5, 7, [.7, .5]
        d.RescaleSlope, d.RescaleIntercept = 2, -1024
        d.ImageOrientationPatient = [f'{v:.6f}' for v in cosines.ravel()]
        d.ImagePositionPatient = [f'{v:.4f}' for v in np.array([-30, 12, 5]) + 2.5*z*normal]
        d.PixelData = (np.arange(35) + 100*z).astype('<u2').tobytes()
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.pop('PixelPaddingValue', None)
        d.SeriesInstanceUID = '1.2.3'
        d.save_as(tmp_path/f'{i}.dcm')
    return tmp_path

def change(path, **tags):
    ds = pydicom.dcmread(path)
    for k, v in tags.items():
        if v is None: del ds[k]
        else: setattr(ds, k, v)
    ds.save_as(path)

def test_oblique_series(series):
    x, affine = load_series(series, progress=False)
    assert x.shape == (7, 5, 8)
    assert x.dtype == np.float32
    expected = np.stack([(np.arange(35).reshape(5, 7).T + 100*z)*2 - 1024 for z in range(8)], -1)
    assert np.array_equal(x, expected)
    assert_allclose(spacing(affine), [.5, .7, 2.5], rtol=1e-4)
    first = next(d for d in map(pydicom.dcmread, series.glob('*.dcm'))
                 if np.frombuffer(d.PixelData, '<u2')[0] == 0)
    assert_allclose(affine[:3, 3],
                    np.diag([-1, -1, 1]) @ np.array(first.ImagePositionPatient, float))
    agree((x, affine), by_simpleitk(series), atol=.01)

def slice_at(series, z):
    return next(p for p in series.glob('*.dcm')
                if np.frombuffer(pydicom.dcmread(p).PixelData, '<u2')[0] == 100*z)

def test_missing_slice(series):
    slice_at(series, 3).unlink()
    with pytest.raises(VolumeError,
                       match=r'2\.500 to 5\.000 mm apart; .*5 steps of 2\.5 mm, 1 of 5 mm'):
        load_series(series, progress=False)

def test_doubled_slice(series):
    shutil.copy(slice_at(series, 3), series/'again.dcm')
    change(series/'again.dcm', SOPInstanceUID='1.2.3.4')
    with pytest.raises(VolumeError, match='1 of 9 slices lie where another one does'):
        load_series(series, progress=False)

def test_doubled_slices_of_one_name_are_told_apart_by_their_folders(series):
    for folder in 'first', 'second': (series/folder).mkdir()
    slice_at(series, 3).rename(series/'first'/'0.dcm')
    shutil.copy(series/'first'/'0.dcm', series/'second')
    change(series/'second'/'0.dcm', SOPInstanceUID='1.2.3.4')
    with pytest.raises(VolumeError, match=r'\(first/0\.dcm.* and second/0\.dcm.*\)'):
        load_series(series, progress=False)

def test_several_time_points(series):
    for i in range(8):
        shutil.copy(series/f'{i}.dcm', series/f'later{i}.dcm')
        change(series/f'later{i}.dcm', SOPInstanceUID=f'1.2.3.{i}')
    with pytest.raises(VolumeError, match='8 of 16 slices'):
        load_series(series, progress=False)

def test_uneven_gaps(series):
    path = slice_at(series, 4)
    position = np.array(pydicom.dcmread(path).ImagePositionPatient, float)
    normal = np.cross(*np.array(pydicom.dcmread(path).ImageOrientationPatient, float).reshape(2, 3))
    change(path, ImagePositionPatient=[f'{v:.4f}' for v in position + .4*normal])
    with pytest.raises(VolumeError, match=r'2\.100 to 2\.900 mm apart; .* 0\.40 mm off'):
        load_series(series, progress=False)
    assert load_series(series, tolerance=.5, progress=False)[0].shape == (7, 5, 8)

def test_tilted_gantry_is_a_shear(series):
    for p in series.glob('*.dcm'):
        ds = pydicom.dcmread(p)
        z, along = np.frombuffer(ds.PixelData,
                                 '<u2')[0]//100, np.array(ds.ImageOrientationPatient[3:], float)
        position = np.array(ds.ImagePositionPatient, float) + .6*z*along
        change(p, ImagePositionPatient=[f'{v:.4f}' for v in position])
    _, affine = load_series(series, progress=False)
    lps = LPS_TO_RAS @ affine
    last = np.array(pydicom.dcmread(slice_at(series, 7)).ImagePositionPatient, float)
    assert_allclose((lps @ [0, 0, 7, 1])[:3], last, atol=1e-3)

def test_mixed_orientation_and_size(series):
    change(slice_at(series, 2), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(VolumeError, match='7 of 5 x 7 pixels .* 1 of 5 x 7 pixels'):
        load_series(series, progress=False)
    slice_at(series, 2).unlink()
    change(slice_at(series, 5), Rows=7, Columns=5)
    with pytest.raises(VolumeError, match='1 of 7 x 5 pixels|6 of 5 x 7 pixels'):
        load_series(series, progress=False)

def test_two_series(series):
    for z in 0, 1:
        change(slice_at(series, z), SeriesInstanceUID='1.2.4', SeriesDescription='another')
    with pytest.raises(VolumeError, match='2 series') as e:
        load_series(series, progress=False)
    assert '1.2.3: 6 images' in str(e.value)
    assert '1.2.4: 2 images, CT another' in str(e.value)
    assert load_series(series, uid='1.2.4', progress=False)[0].shape == (7, 5, 2)
    with pytest.raises(VolumeError, match='no series 1.2.5; there is'):
        load_series(series, uid='1.2.5', progress=False)

@pytest.mark.parametrize('tag, value', [('ImagePositionPatient', None),
                                        ('ImageOrientationPatient', None),
                                        ('PixelSpacing', None), ('PixelSpacing', [0, 0]),
                                        ('ImageOrientationPatient', [0]*6),
                                        ('ImagePositionPatient', [1, 2])])
def test_no_geometry(series, tag, value):
    for p in series.glob('*.dcm'):
        change(p, **{tag: value})
    with pytest.raises(VolumeError, match=f'{tag} is|are no geometry'):
        load_series(series, progress=False)

def test_one_slice_takes_its_thickness(series):
    for z in range(1, 8):
        slice_at(series, z).unlink()
    change(slice_at(series, 0), SliceThickness=4)
    assert_allclose(spacing(load_series(series, progress=False)[1]), [.5, .7, 4],
                    rtol=1e-4)
    change(slice_at(series, 0), SliceThickness=None)
    with pytest.raises(VolumeError, match='no SliceThickness'):
        load_series(series, progress=False)

def test_no_series_in_it(tmp_path):
    with pytest.raises(ValueError, match='not a folder'):
        load_series(tmp_path/'no', progress=False)
    with pytest.raises(VolumeError, match='no DICOM image'):
        load_series(tmp_path, progress=False)

def test_several_frames_in_a_file(tmp_path):
    shutil.copy(Path(pydicom.__file__).parent/'data/test_files/examples_ybr_color.dcm', tmp_path)
    with pytest.raises(VolumeError, match='30 frames'):
        load_series(tmp_path, progress=False)

# --- what is refused

@pytest.mark.parametrize('affine, says', [
    (np.eye(3), r'has shape \(4, 4\), found \(3, 3\)'),
    (np.zeros((4, 4)), 'not every one a place of its own'),
    (np.diag([1, 1, np.nan, 1]), 'not every one a place of its own'),
    (np.eye(4)[[0, 1, 2, 2]], 'not every one a place of its own')])
def test_an_affine_that_is_none_is_refused(affine, says):
    with pytest.raises(VolumeError, match=f'^CT: .*{says}'):
        check_affine(affine, 'CT')

@pytest.mark.parametrize('read', [series_table, read_images, load_series])
def test_a_folder_that_is_not_there_is_named(read, tmp_path):
    with pytest.raises(DicomError, match='nowhere: not a folder'):
        read(tmp_path/'nowhere')

@pytest.mark.parametrize('nearest', [False, True])
def test_resample_takes_half_precision(nearest):
    "As `predict_volume(dtype=np.float16)` gives it; SciPy has no such type"
    x = np.arange(64, dtype=np.float16).reshape(4, 4, 4)
    found = resample(x, np.eye(4), 2, nearest=nearest).array
    expected = resample(x.astype(np.float32), np.eye(4), 2, nearest=nearest).array
    assert found.dtype == (np.float16 if nearest else np.float32)
    assert_array_equal(found, expected)

def test_channels_by_a_mask(tmp_path):
    "As NumPy reads it; before, True was channel 1 and False channel 0"
    data = np.broadcast_to(np.arange(4, dtype='f4'), (2, 2, 2, 4)).copy()
    path = save_nifti(data, np.eye(4), tmp_path/'x.nii')
    wanted = np.array([False, True, False, True])
    assert load_nifti(path, channels=wanted).array[0, 0, 0].tolist() == [1, 3]
    with pytest.raises(VolumeError, match='asked for, it has 4'):
        load_nifti(path, channels=np.array([True, False]))

@pytest.mark.parametrize('ending', ['.mha', '.mhd', '.nrrd', '.raw.gz'])
def test_another_format_is_to_be_converted(tmp_path, ending):
    (tmp_path/f'x{ending}').write_bytes(b'ObjectType = Image\nNDims = 3\n')
    with pytest.raises(VolumeError, match='convert it, for instance with SimpleITK') as caught:
        load_nifti(tmp_path/f'x{ending}')
    assert 'download' not in str(caught.value)
