"Folders of mixed DICOM files, by the command line and by the functions behind it"
import contextlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import data_store
import numpy as np
import pandas as pd
import pydicom
import pytest
from command_line import medtut
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from pydicom.uid import generate_uid

from medtut.conversion import nifti_files, series_table
from medtut.dicom import find_dicoms, read_dicom, scan
from medtut.display import to_display
from medtut.errors import DicomError
from medtut.nifti import load_nifti, save_nifti
from medtut.pictures import picture, png_files, save_png
from medtut.pseudonyms import deidentify_files, new_key, read_key
from medtut.volumes import load_series

bundled = Path(pydicom.__file__).parent/'data'/'test_files'
carried = Path(data_store.__file__).parent/'data'
pytestmark = pytest.mark.filterwarnings('ignore')
WORD = 'Zwetschgenbaum'  # stands in no file of its own
KEY = b'known to everybody'

def slices(folder, n=4, **changes):
    "A series of `n` small CT slices, 2 mm apart, each with a picture of its own"
    folder.mkdir(parents=True, exist_ok=True)
    ds = pydicom.dcmread(bundled/'CT_small.dcm')
    rng = np.random.default_rng(n)
    ds.Rows, ds.Columns, ds.SeriesInstanceUID = 6, 5, generate_uid(entropy_srcs=[str(folder)])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    for i in range(n):
        ds.SOPInstanceUID = f'{ds.SeriesInstanceUID[:50]}.{i}'
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.ImagePositionPatient, ds.InstanceNumber = [0, 0, 2*i], i + 1
        ds.PixelData = rng.integers(0, 2000, (6, 5)).astype('<i2').tobytes()
        ds.save_as(folder/f'{i}.dcm')
    return folder

def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file()}

def shown(folder):
    return {n: b for n, b in files(folder).items() if not Path(n).name.startswith('.')}

def statuses(table): return table.status.value_counts().to_dict()

def table_of(path): return pd.read_csv(path, keep_default_na=False)

# --- pictures

@pytest.mark.parametrize('folder', [bundled, carried], ids=['pydicom', 'pydicom-data'])
def test_png_of_all_files(folder, tmp_path):
    done = medtut('png', folder, tmp_path/'out', '--csv', tmp_path/'t.csv', '-j', 2, '-q')
    table = table_of(tmp_path/'t.csv')
    assert set(table.path) == set(map(str, find_dicoms(folder)))
    assert set(table.status) <= {'written', 'left out', 'failed'}
    assert done.returncode == int('failed' in set(table.status))
    assert 'Traceback' not in done.stderr
    assert not done.stdout
    assert (table.reason != '').eq(table.out == '').all(), 'whoever gets no picture is told why'
    assert set(shown(tmp_path/'out')) == {Path(p).relative_to(tmp_path/'out').as_posix()
                                          for p in table.out if p}
    for path, frame, out in table[['path', 'frame', 'out']][table.out != ''].iloc[::7].values:
        with Image.open(out) as png:
            assert png.mode in ('L', 'RGB')
            assert png.info == {}
            image = picture(read_dicom(path), frame=int(frame) if frame else None)
            assert_array_equal(np.asarray(png), image)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/'out').rglob('*.png')}
    again = medtut('png', folder, tmp_path/'out', '-j', 1, '-q')
    assert again.returncode == done.returncode
    assert 'written' not in again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path/'out').rglob('*.png')}

def test_a_picture_by_hand():
    """2 x 2 pixels, twice as high as wide; rows run to the back of the patient, columns to the left

    Upright (patient's right on the left, front up) the picture is transposed: its columns are the
    stored rows, stretched twofold."""
    ds = pydicom.dcmread(bundled/'CT_small.dcm')
    ds.Rows = ds.Columns = 2
    ds.PixelData = np.array([[0, 100], [100, 100]], '<i2').tobytes()
    ds.RescaleIntercept, ds.PixelSpacing = 0, [2, 1]
    ds.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    del ds.PixelPaddingValue
    stored = picture(ds, (100, 50), upright=False, square=False)
    assert_array_equal(stored, [[0, 255], [255, 255]])
    assert_array_equal(picture(ds, (100, 50), square=False), [[0, 255], [255, 255]])
    upright = picture(ds, (100, 50))
    assert upright.shape == (2, 4)
    assert upright[0, 0] < 60
    assert upright[0, 3] > 200
    assert (upright[1] > 200).all()
    assert picture(ds, (100, 50), upright=False).shape == (4, 2)

@pytest.mark.parametrize('aspect, shape',
                         [(['2', '1'], (12, 5)), (['1', '3'], (6, 15)), (['1', '1'], (6, 5))])
def test_pixels_that_are_not_square(tmp_path, aspect, shape):
    "PS3.3 C.7.6.3.1.7: the ratio of vertical to horizontal size of a pixel"
    path = slices(tmp_path/'in', 1)/'0.dcm'
    ds = pydicom.dcmread(path)
    del ds.PixelSpacing
    ds.PixelAspectRatio = aspect
    with Image.open(save_png(ds, tmp_path/'x.png', upright=False)) as png:
        assert png.size[::-1] == shape

def test_as_stored(tmp_path):
    path = slices(tmp_path/'in', 1, PixelSpacing=[2, 1],
                  ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])/'0.dcm'
    assert medtut('png', path, tmp_path/'stored', '--as-stored', '-q').returncode == 0
    with Image.open(tmp_path/'stored/0.png') as png:
        assert_array_equal(np.asarray(png), to_display(read_dicom(path)))
    assert medtut('png', path, tmp_path/'hung', '-q').returncode == 0
    with Image.open(tmp_path/'hung/0.png') as png:
        assert png.size == (5, 12)

def test_windows(tmp_path):
    path = slices(tmp_path/'in', 1)/'0.dcm'
    for i, window in enumerate(['lung', '1500,-600']):
        assert medtut('png', path, tmp_path/f'{i}', '--window', window, '-q').returncode == 0
        with Image.open(tmp_path/f'{i}/0.png') as png:
            assert_array_equal(np.asarray(png),
                               to_display(read_dicom(path), window='lung', upright=True))
    for wrong in 'lungs', '1,2,3', '0,5', 'inf,1':
        done = medtut('png', path, tmp_path/'x', '--window', wrong)
        assert done.returncode == 2
        assert 'Traceback' not in done.stderr
        assert not (tmp_path/'x').exists(), wrong
    other = medtut('png', path, tmp_path/'0', '--window', 'bone', '-q')
    assert other.returncode == 1
    assert 'another window' in other.stderr
    ds = read_dicom(bundled/'MR_small.dcm')
    with pytest.warns(UserWarning, match='meant for HU, and its pixels are stored values'):
        picture(ds, 'lung')

def test_frames(tmp_path):
    shutil.copy(bundled/'examples_ybr_color.dcm', tmp_path/'loop.dcm')
    table = png_files(tmp_path, tmp_path/'all', progress=False)
    assert len(table) == 30
    assert table.frame.tolist() == list(range(30))
    assert Path(table.out[7]).name == 'loop_007.png'
    png_files(tmp_path, tmp_path/'one', frame=7, progress=False)
    assert list(shown(tmp_path/'one')) == ['loop.png']
    assert (tmp_path/'one/loop.png').read_bytes() == (tmp_path/'all/loop_007.png').read_bytes()
    lacking = png_files(tmp_path, tmp_path/'none', frame=30, progress=False)
    assert statuses(lacking) == dict(failed=1)
    assert 'no frame 30; it has 30' in lacking.reason[0]

def test_no_name_in_a_picture(tmp_path):
    "Planted in every element of text; file names are the user's own"
    path = slices(tmp_path/'in', 1, PatientName=WORD, PatientID=WORD, InstitutionName=WORD,
                  SeriesDescription=WORD, ImageComments=WORD)/'0.dcm'
    table = png_files(path, tmp_path/'out', progress=False)
    assert statuses(table) == dict(written=1)
    assert WORD.encode() not in b''.join(files(tmp_path/'out').values())

def test_inputs_of_one_name(tmp_path):
    folder = slices(tmp_path/'in', 4)
    for i, name in enumerate(['a.dcm', 'a.ima', 'A', 'b.dcm']):
        (folder/f'{i}.dcm').rename(folder/name)
    table = png_files(folder, tmp_path/'out', progress=False)
    assert statuses(table) == dict(written=4)
    assert sorted(Path(p).name for p in table.out) == ['A.png', 'a.dcm.png', 'a.ima.png', 'b.png']

# --- what counts as there

def test_what_it_was_made_from_decides(tmp_path):
    folder, out = slices(tmp_path/'in'), tmp_path/'out'
    def run():
        return dict(zip('0123', png_files(folder, out, progress=False).status))
    run()
    whole = shown(out)
    (out/'0.png').write_bytes(whole['0.png'][:100])  # cut off
    shutil.copy(out/'2.png', out/'1.png')            # another's
    os.utime(folder/'3.dcm')                         # the same content, whatever its date
    assert run() == {'0': 'written', '1': 'written', '2': 'there already', '3': 'there already'}
    assert shown(out) == whole
    shutil.copy(folder/'2.dcm', folder/'0.dcm')      # another source under the name
    os.utime(folder/'0.dcm', (1, 1))
    raw = (folder/'1.dcm').read_bytes()
    (folder/'1.dcm').write_bytes(raw[:raw.rfind(b'\xe0\x7f\x10\x00') + 20])  # cut off in the pixels
    assert run() == {'0': 'written', '1': 'failed', '2': 'there already', '3': 'there already'}
    assert shown(out) == {'0.png': whole['2.png'], '2.png': whole['2.png'],
                          '3.png': whole['3.png']}, 'no picture of what is not there'

def test_a_file_of_somebody_else_is_not_replaced(tmp_path):
    folder, out = slices(tmp_path/'in'), tmp_path/'out'
    out.mkdir()
    (out/'2.png').write_text('mine')
    done = medtut('png', folder, out, '-q')
    assert done.returncode == 1
    assert 'not from here' in done.stderr
    assert shown(out) == {'2.png': b'mine'}

@pytest.mark.parametrize('make', [png_files, partial(deidentify_files, key=KEY)],
                         ids=['png', 'deidentify'])
def test_a_second_folder_takes_nothing_from_the_first(tmp_path, make):
    """Discs name their files alike (PS3.10 8.2 has short names, such as IM000001), and `make_files`
    refuses a name under which lies what was made from another file"""
    first, second, out = slices(tmp_path/'a'), slices(tmp_path/'b', PatientID='B'), tmp_path/'out'
    make(first, out, progress=False)
    kept = shown(out)
    assert len(kept) == 4
    with pytest.raises(ValueError, match='made from another file than .*: choose another'):
        make(second, out, progress=False)
    assert shown(out) == kept
    # nor does a file take anything away that can't be read
    for path in second.iterdir(): path.write_bytes(path.read_bytes()[:500])
    with contextlib.suppress(ValueError): make(second, out, progress=False)
    assert shown(out) == kept

def test_another_file_of_the_same_folder_is_another_one(tmp_path):
    "`scan.dcm` and `scan.ima` would both be `scan.png`"
    folder, out = slices(tmp_path/'in', 2), tmp_path/'out'
    png_files((folder/'0.dcm').rename(folder/'scan.dcm'), out, progress=False)
    kept = shown(out)
    with pytest.raises(ValueError, match='another file'):
        png_files((folder/'1.dcm').rename(folder/'scan.ima'), out, progress=False)
    assert shown(out) == kept

def test_the_same_files_at_another_place_are_the_same(tmp_path):
    "A disk may be mounted elsewhere. What changes there afterwards is made anew"
    first, out = slices(tmp_path/'a'), tmp_path/'out'
    png_files(first, out, progress=False)
    second = shutil.copytree(first, tmp_path/'b')
    assert statuses(png_files(second, out, progress=False)) == {'there already': 4}
    shutil.copy(second/'2.dcm', second/'0.dcm')
    assert statuses(png_files(second, out, progress=False)) == {'there already': 3, 'written': 1}

def test_a_series_that_grows_is_made_anew(tmp_path):
    "Slices that come later lie beside the first: it is the same series"
    for n in (1, 3):
        table = nifti_files(slices(tmp_path/'in', n), tmp_path/'out', progress=False)
        assert statuses(table) == dict(written=1), table.reason[0]

def test_nothing_is_written_outside(tmp_path):
    folder, out = slices(tmp_path/'in'/'sub').parent, tmp_path/'out'
    before = files(folder)
    for wrong in folder, tmp_path:
        assert medtut('png', folder, wrong, '-q').returncode == 1
    out.mkdir()
    (out/'sub').symlink_to(folder/'sub')
    done = medtut('png', folder, out, '-q')
    assert done.returncode == 1
    assert 'by a link' in done.stderr
    (out/'sub').unlink()
    (out/'sub').mkdir()
    (out/'sub'/'0.png').symlink_to(folder/'sub'/'0.dcm')
    assert medtut('png', folder, out, '-q').returncode == 1
    assert medtut('scan', folder, '--csv', folder/'sub'/'0.dcm', '-q').returncode == 2
    assert files(folder) == before

def test_results_in_the_folder_itself_are_no_input(tmp_path):
    slices(tmp_path)
    for _ in range(2):
        done = medtut('deidentify', tmp_path, tmp_path/'out',
                      *(['--new-key'] if _ == 0 else ['--key-file']), tmp_path/'key', '-q')
        assert done.returncode == 0, done.stderr
        assert len(table_of(tmp_path/'out.csv')) == 4
        assert len(shown(tmp_path/'out')) == 4

def test_the_table_of_a_linked_folder_lies_beside_the_link(tmp_path):
    "Beside the link's target, the recipient's share, it would name the patients"
    slices(tmp_path/'in', 1)
    (tmp_path/'share'/'trial').mkdir(parents=True)
    (tmp_path/'copies').symlink_to(tmp_path/'share'/'trial')
    done = medtut('deidentify', tmp_path/'in', tmp_path/'copies', '--new-key', tmp_path/'key', '-q')
    assert done.returncode == 0, done.stderr
    assert (tmp_path/'copies.csv').is_file()
    assert not list((tmp_path/'share').glob('*.csv'))

# --- volumes

@pytest.mark.parametrize('folder', [bundled, carried], ids=['pydicom', 'pydicom-data'])
def test_convert_all_files(folder, tmp_path):
    done = medtut('convert', folder, tmp_path/'out', '--csv', tmp_path/'t.csv', '-j', 2, '-q')
    table = table_of(tmp_path/'t.csv')
    assert set(table.status) <= {'written', 'left out', 'failed'}
    assert 'Traceback' not in done.stderr
    assert done.returncode == int('failed' in set(table.status))
    assert (table.reason != '').eq(table.out == '').all()
    assert set(shown(tmp_path/'out')) == {Path(p).name for p in table.out if p}
    assert (table.status == 'written').sum() > 5
    for row in table[table.out != ''].itertuples():
        array, _ = load_nifti(row.out)
        assert str(array.shape) == row.shape.replace('[', '(').replace(']', ')')
    series = table[table.uid != ''].drop_duplicates('uid')
    files_said = series.files.astype(int).sum() + (table.files == '').sum()
    assert files_said >= len(find_dicoms(folder)) - (table.uid == '').sum()

def test_what_an_earlier_run_made_of_fewer_files_is_told(tmp_path):
    "More of a series arrives, now two volumes: the old file is of neither"
    slices(tmp_path/'in', EchoTime=5)
    first = nifti_files(tmp_path/'in', tmp_path/'out', progress=False)
    name, = shown(tmp_path/'out')
    assert statuses(first) == dict(written=1)
    uid = pydicom.dcmread(tmp_path/'in'/'0.dcm').SeriesInstanceUID
    slices(tmp_path/'in'/'more', EchoTime=50, SeriesInstanceUID=uid)
    for path in (tmp_path/'in'/'more').iterdir():
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID, ds.SOPInstanceUID = uid, generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(path)
    with pytest.warns(UserWarning, match=f'{name}: of an earlier run') as warned:
        second = nifti_files(tmp_path/'in', tmp_path/'out', progress=False)
    assert statuses(second) == dict(written=2)
    assert len([w for w in warned if 'earlier run' in str(w.message)]) == 1
    assert name in shown(tmp_path/'out'), 'nothing is deleted'

def test_values_and_geometry(tmp_path):
    "As `load_series` has them; 16 bits where these are exact"
    whole = slices(tmp_path/'in'/'whole', SeriesNumber=7)
    half = slices(tmp_path/'in'/'half', RescaleSlope='0.5', RescaleIntercept='0', SeriesNumber=8)
    table = nifti_files(tmp_path/'in', tmp_path/'out', progress=False).set_index('path')
    for folder, dtype in (whole, 'int16'), (half, 'float32'):
        row = table.loc[str(folder)]
        array, affine = load_nifti(row.out)
        expected, expected_affine = load_series(folder, progress=False)
        assert_array_equal(array, expected)
        assert_allclose(affine, expected_affine, atol=1e-5)
        assert row.stored == dtype
        assert list(row['shape']) == [5, 6, 4]
        assert row.files == 4
    assert [Path(p).name[:13]
            for p in table.out[[str(whole), str(half)]]] == ['007_CT_axial_', '008_CT_axial_']

def test_no_name_in_a_name(tmp_path):
    slices(tmp_path/'in', PatientName=WORD, PatientID=WORD, SeriesDescription=WORD,
           ProtocolName=WORD, StudyDescription=WORD)
    nifti_files(tmp_path/'in', tmp_path/'out', progress=False)
    assert WORD not in repr(files(tmp_path/'out'))
    done = medtut('convert', tmp_path/'in', tmp_path/'told', '--name', '{number}-{description}',
                  '-q')
    assert done.returncode == 0
    assert list(shown(tmp_path/'told')) == [f'001-{WORD}.nii.gz']

@pytest.mark.parametrize('description',
                         ['../../x', '/etc/passwd', '..', 'a\\b:c', 'CON\0', 'Müller/Ü'])
def test_a_description_leads_nowhere(tmp_path, description):
    slices(tmp_path/'in', SeriesDescription=description)
    table = nifti_files(tmp_path/'in', tmp_path/'out', '{description}', progress=False)
    assert statuses(table) == dict(written=1)
    assert Path(table.out[0]).parent == tmp_path/'out'
    assert {p.name for p in tmp_path.iterdir()} == {'in', 'out'}

def test_names_that_volumes_would_share(tmp_path):
    for name in 'a', 'b':
        slices(tmp_path/'in'/name)
    done = medtut('convert', tmp_path/'in', tmp_path/'out', '--name', '{modality}', '-q')
    assert done.returncode == 1
    assert '2 volumes the name CT.nii.gz' in done.stderr
    assert not (tmp_path/'out').exists()
    for wrong in '{PatientName}', '{id.x}', '{id!r:>9}', '{id:9}', '../{id}', '{', 'x', '.{id}':
        with pytest.raises(ValueError):
            nifti_files(tmp_path/'in', tmp_path/'out', wrong, progress=False)
    assert medtut('convert', tmp_path/'in', tmp_path/'out', '--name', wrong, '-q').returncode == 2
    assert not (tmp_path/'out').exists()

def test_one_series_of_several(tmp_path):
    for name in 'a', 'b':
        slices(tmp_path/'in'/name)
    uids = pd.read_csv(medtut_output('series', tmp_path/'in', '-q')).uid
    done = medtut('convert', tmp_path/'in', tmp_path/'out', '--uid', uids[1], '-q')
    assert done.returncode == 0
    assert len(shown(tmp_path/'out')) == 1
    lost = medtut('convert', tmp_path/'in', tmp_path/'x', '--uid', '1.2.3', '-q')
    assert lost.returncode == 1
    assert 'no series 1.2.3' in lost.stderr

def medtut_output(*args):
    import io
    done = medtut(*args)
    assert done.returncode == 0, done.stderr
    return io.StringIO(done.stdout)

def test_several_volumes(tmp_path):
    "Two echoes at the same places"
    folder = slices(tmp_path/'in', 6)
    for i in range(6):
        ds = pydicom.dcmread(folder/f'{i}.dcm')
        ds.EchoTime, ds.ImagePositionPatient = [10, 20][i % 2], [0, 0, 2*(i//2)]
        ds.save_as(folder/f'{i}.dcm')
    table = nifti_files(folder, tmp_path/'out', progress=False)
    assert table.volume.tolist() == ['EchoTime=10', 'EchoTime=20']
    assert [p[-10:-7] for p in table.out] == ['_v0', '_v1']
    for i, out in enumerate(table.out):
        assert_array_equal(load_nifti(out)[0],
                           load_series(folder, volume=i, progress=False)[0])

def test_each_volume_is_named_by_its_own_plane(tmp_path):
    "A series of localisers: three pictures, each in a plane of its own"
    folder = slices(tmp_path/'in', 3)
    along = dict(axial=[1, 0, 0, 0, 1, 0], coronal=[1, 0, 0, 0, 0, -1], sagittal=[0, 1, 0, 0, 0, -1])
    for path, cosines in zip(sorted(folder.iterdir()), along.values()):
        ds = pydicom.dcmread(path)
        ds.ImageOrientationPatient = cosines
        ds.save_as(path)
    table = nifti_files(folder, tmp_path/'out', progress=False)
    assert not table.reason.any() and len(table) == 3
    for volume, out in zip(table.volume, table.out):
        plane = volume.removeprefix('geometry=').partition(' ')[0]
        assert f'_{plane}_' in Path(out).name
    assert {Path(out).name.split('_')[2] for out in table.out} == set(along)

def test_notes_of_files_that_are_there_already(tmp_path):
    "A warning of the first run is in the table of the second, and the list in the folder names no file"
    folder = slices(tmp_path/WORD, 3, PixelPaddingValue=1)
    path = folder/'1.dcm'
    ds = pydicom.dcmread(path)
    ds.PixelData = np.ones((6, 5), '<i2').tobytes()
    ds.save_as(path)
    first, second = [nifti_files(folder, tmp_path/'out', progress=False) for _ in range(2)]
    assert second.status.tolist() == ['there already']
    assert 'voxels are padding' in first.note[0]
    assert second.note[0] == first.note[0]
    assert WORD not in (tmp_path/'out'/'.convert.jsonl').read_text()

def test_what_makes_no_volume(tmp_path):
    "Radiographs are left out; a series with a slice missing has failed"
    slices(tmp_path/'in'/'gap', 6)
    (tmp_path/'in'/'gap'/'3.dcm').unlink()
    shutil.copy(next((bundled/'dicomdirtests'/'77654033'/'CR1').iterdir()), tmp_path/'in')
    (tmp_path/'in'/'broken.dcm').write_bytes(b'no DICOM')
    done = medtut('convert', tmp_path/'in', tmp_path/'out', '--csv', tmp_path/'t.csv', '-q')
    table = table_of(tmp_path/'t.csv')
    assert done.returncode == 1
    assert statuses(table) == {'failed': 2, 'left out': 1}
    assert table.reason.str.contains('even row').sum() == 1
    assert table.reason.str.contains('broken.dcm: not a DICOM file').sum() == 1

@pytest.mark.parametrize('name', ['IM000003', '1.2.840.3'])
def test_an_empty_slice_without_suffix_is_told(tmp_path, name):
    "Names of discs (PS3.10 8.5) and of archives; hidden files and other suffixes say nothing"
    folder = slices(tmp_path/'in', 3)
    for other in name, '.nomedia', 'mask.nii': (folder/other).touch()
    done = medtut('convert', folder, tmp_path/'out', '--csv', tmp_path/'t.csv', '-q')
    failed = table_of(tmp_path/'t.csv').query('status == "failed"')
    assert done.returncode == 1
    assert failed.path.tolist() == [str(folder/name)]
    assert failed.reason.str.contains('the file is empty').all()

def test_no_value_that_a_warning_quotes_is_on_the_list(tmp_path):
    "A component of a UID has no leading zero (PS3.5 9.1), which pydicom says with the whole UID"
    uid = '1.2.276.0.07.4711'
    folder = slices(tmp_path/'in', 3)
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation(): ds.SeriesInstanceUID = uid
        ds.save_as(path)
    table = nifti_files(folder, tmp_path/'out', progress=False)
    assert table.status.tolist() == ['written']
    assert uid not in (tmp_path/'out'/'.convert.jsonl').read_text()

@pytest.mark.skipif(os.name != 'posix', reason='other systems count another length')
def test_a_name_that_is_too_long_costs_one_file(tmp_path):
    "Of 252 bytes; with .png it has 256, where Linux and macOS take 255"
    folder = slices(tmp_path/'in', 2)
    (folder/'0.dcm').rename(folder/('n'*252))
    for status in 'written', 'there already':
        table = png_files(folder, tmp_path/'out', progress=False)
        assert statuses(table) == {status: 1, 'failed': 1}
        reason, = table.reason[table.status == 'failed']
        assert 'too long' in reason and 'shorter' in reason

# --- copies without names

def tree(tmp_path):
    "Two patients, whose names stand in folders, files and headers"
    for name in (WORD, f'{WORD}2'):
        slices(tmp_path/'in'/name/'1970', 2, PatientName=name, PatientID=name, InstitutionName=WORD)
    (tmp_path/'in'/f'{WORD}.txt').write_text(WORD)
    (tmp_path/'in'/f'{WORD}.dcm').write_bytes(b'')
    shutil.copy(bundled/'dicomdirtests'/'DICOMDIR', tmp_path/'in')
    return tmp_path/'in'

def test_a_tree_without_names(tmp_path):
    folder, out = tree(tmp_path), tmp_path/'out'
    before = files(folder)
    medtut('deidentify', '--new-key', tmp_path/'key')
    done = medtut('deidentify', folder, out, '--key-file', tmp_path/'key', '-q')
    table = table_of(tmp_path/'out.csv')
    assert done.returncode == 1
    assert statuses(table) == {'written': 4, 'left out': 2, 'failed': 1}
    assert 'out.csv' in done.stderr
    assert set(table.path) == set(map(str, (p for p in folder.rglob('*')
                                            if p.is_file()))), 'a row for each file'
    assert len(shown(out)) == 4
    assert {len(Path(n).parts) for n in shown(out)} == {3}
    for name, content in files(out).items():
        assert WORD not in name
        assert WORD.encode() not in content
    ids = {str(pydicom.dcmread(out/n).PatientID) for n in shown(out)}
    assert len(ids) == 2
    assert files(folder) == before
    assert table.look[table.status == 'written'].str.contains('BurnedInAnnotation').all()
    again = medtut('deidentify', folder, tmp_path/'twice', '--key-file', tmp_path/'key', '-q')
    assert again.returncode == 1
    assert shown(tmp_path/'twice') == shown(out), 'the same key, the same names'
    other = deidentify_files(folder, tmp_path/'other', KEY, progress=False)
    assert not {Path(p).name for p in other.out if p} & {Path(n).name for n in shown(out)}
    with pytest.raises(ValueError, match='another key'):
        deidentify_files(folder, out, KEY, progress=False)

def test_the_list_leads_nobody_back(tmp_path):
    "Digests of the originals, which anyone who has them could compare, are not in it"
    import hashlib
    folder = tree(tmp_path)
    deidentify_files(folder, tmp_path/'out', KEY, progress=False)
    lines = (tmp_path/'out'/'.deidentify.jsonl').read_text().splitlines()
    noted = [json.loads(line)['from'] for line in lines if 'from' in line]
    plain = png_files(folder, tmp_path/'png', progress=False)
    known = [json.loads(line).get('from')
             for line in (tmp_path/'png'/'.png.jsonl').read_text().splitlines()]
    contents = [p.read_bytes() for p in folder.rglob('*.dcm')]
    assert len(noted) == 4
    assert not set(noted) & {hashlib.blake2b(c, digest_size=16).hexdigest() for c in contents}
    assert not set(noted) & set(known)
    assert statuses(plain)['written'] == 4

def test_what_the_key_file_must_be(tmp_path):
    folder = slices(tmp_path/'in', 1)
    (tmp_path/'short').write_text('swordfish\n')
    for wrong in 'short', 'missing':
        done = medtut('deidentify', folder, tmp_path/'out', '--key-file', tmp_path/wrong, '-q')
        assert done.returncode == 1
        assert wrong in done.stderr
        assert '--new-key' in done.stderr
        assert done.stderr.count('\n') == 1
    assert medtut('deidentify', folder, tmp_path/'out', '-q').returncode == 2
    assert not (tmp_path/'out').exists()
    assert not (tmp_path/'out.csv').exists()
    made = medtut('deidentify', '--new-key', tmp_path/'key')
    assert made.returncode == 0
    assert (tmp_path/'key').stat().st_mode & 0o777 == 0o600
    kept = (tmp_path/'key').read_bytes()
    assert medtut('deidentify', '--new-key', tmp_path/'key').returncode == 1
    assert (tmp_path/'key').read_bytes() == kept
    (tmp_path/'key').chmod(0o644)
    with pytest.warns(UserWarning, match='chmod 600'):
        read_key(tmp_path/'key')

def test_keys_differ(tmp_path):
    assert len({read_key(new_key(tmp_path/str(i))) for i in range(5)}) == 5

@pytest.mark.parametrize('args', [['--csv', 'out/t.csv'], ['--key-file', 'key', '--new-key',
                                                           'other'], ['--retain', 'everything'],
    ['--retain', 'dates', '--retain', 'dates shifted'], ['--new-key', 'out/key']], ids=' '.join)
def test_wrong_usage_of_deidentify(tmp_path, args):
    slices(tmp_path/'in', 1)
    (tmp_path/'out').mkdir()
    (tmp_path/'key').write_bytes(KEY)
    key = [] if '--new-key' in args else ['--key-file', 'key']
    done = medtut('deidentify', 'in', 'out', *key, *args, '-q', cwd=tmp_path)
    assert done.returncode == 2
    assert 'Usage' in done.stderr
    assert not any((tmp_path/'out').iterdir())

@pytest.mark.parametrize('own', ['patient,arm\n1,A\n', '\n1,2\n'])
def test_a_table_of_ones_own_is_not_replaced(tmp_path, own):
    "Nobody has named study.csv: it lies beside OUT, and may be the table of the study"
    slices(tmp_path/'in', 1)
    (tmp_path/'key').write_bytes(KEY)
    table = tmp_path/'study.csv'
    table.write_text(own)
    command = 'deidentify', 'in', 'study', '--key-file', 'key', '-q'
    done = medtut(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert '--csv' in done.stderr
    assert table.read_text() == own
    assert not (tmp_path/'study').exists()
    table.write_text('')
    for status in 'written', 'there already':
        assert medtut(*command, cwd=tmp_path).returncode == 0
        assert table_of(table).status.tolist() == [status]

@pytest.mark.parametrize('args', [
    ['scan', 'in', '--key-file', 'key', '--csv', 'key'],
    ['deidentify', 'in', 'out', '--key-file', 'key', '--csv', 'in/../key'],
    ['deidentify', 'in', 'out', '--new-key', 'new', '--csv', 'new'],
    ['deidentify', 'in', 'out', '--new-key', 'out.csv']], ids=' '.join)
def test_a_table_never_replaces_the_key(tmp_path, args):
    slices(tmp_path/'in', 1)
    key = b'a key, with a comma\n'
    (tmp_path/'key').write_bytes(key)
    done = medtut(*args, '-q', cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert 'the table would replace the secret key' in ' '.join(done.stderr.split())
    assert (tmp_path/'key').read_bytes() == key
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'key']

def test_a_second_patient_leaves_the_first_in_the_table(tmp_path):
    "Rows of copies that are there stay; what is made again, or is gone, has no second row"
    (tmp_path/'key').write_bytes(KEY)
    for name in 'p1', 'p2': slices(tmp_path/name/name, 2)
    for name in 'p1', 'p2', 'p1':
        done = medtut('deidentify', name, 'copies', '--key-file', 'key', '-q', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert '2 ' in done.stderr and '4 ' not in done.stderr, 'it counts this run'
    table = table_of(tmp_path/'copies.csv')
    assert sorted(table.path) == [f'{name}/{name}/{i}.dcm' for name in ('p1', 'p2') for i in '01']
    assert set(table.out) == {f'copies/{name}' for name in shown(tmp_path/'copies')}
    (tmp_path/table.out[table.path == 'p2/p2/0.dcm'].item()).unlink()
    medtut('deidentify', tmp_path/'p1', tmp_path/'copies', '--key-file', tmp_path/'key', '-q')
    assert len(table_of(tmp_path/'copies.csv')) == 3

@pytest.mark.skipif(os.name != 'posix', reason='other systems have no such permissions')
def test_the_table_of_copies_is_for_its_owner_alone(tmp_path):
    "As the key, it leads back to the patients; also where an earlier one could be read by others"
    slices(tmp_path/'in', 1)
    (tmp_path/'key').write_bytes(KEY)
    table = tmp_path/'copies.csv'
    for _ in range(2):
        medtut('deidentify', 'in', 'copies', '--key-file', 'key', '-q', cwd=tmp_path)
        assert table.stat().st_mode & 0o777 == 0o600
        table.chmod(0o644)

def test_options_of_the_profile(tmp_path):
    folder = slices(tmp_path/'in', 1, PatientSex='F', StudyDate='20200102')
    (tmp_path/'key').write_bytes(KEY)
    done = medtut('deidentify', folder, tmp_path/'out', '--key-file', tmp_path/'key', '--retain',
                  'patient characteristics', '--retain', 'dates', '-q')
    ds = pydicom.dcmread(tmp_path/'out'/next(iter(shown(tmp_path/'out'))))
    assert done.returncode == 0
    assert (ds.PatientSex, ds.StudyDate) == ('F', '20200102')
    other = medtut('deidentify', folder, tmp_path/'out', '--key-file', tmp_path/'key', '-q')
    assert other.returncode == 1
    assert 'another retain' in other.stderr

@pytest.mark.parametrize('folder', [bundled, carried], ids=['pydicom', 'pydicom-data'])
def test_deidentify_all_files(folder, tmp_path):
    (tmp_path/'key').write_bytes(KEY)
    done = medtut('deidentify', folder, tmp_path/'out', '--key-file', tmp_path/'key', '-j', 2, '-q')
    table = table_of(tmp_path/'out.csv')
    assert len(table) == sum(p.is_file() for p in folder.rglob('*'))
    assert 'Traceback' not in done.stderr
    assert done.returncode == int('failed' in set(table.status))
    assert (table.reason != '').eq(table.out == '').all()
    assert set(shown(tmp_path/'out')) == {Path(p).relative_to(tmp_path/'out').as_posix()
                                          for p in table.out if p}
    for path, out in table[['path', 'out']][table.out != ''].iloc[::5].values:
        old, new = read_dicom(path), read_dicom(out)
        assert new.get('PatientIdentityRemoved') == 'YES'
        assert old.get('SOPClassUID') == new.get('SOPClassUID')

# --- all commands

def test_version():
    from medtut import __version__
    done = medtut('--version')
    assert (done.returncode, done.stdout) == (0, f'medtut {__version__}\n')

@pytest.mark.parametrize('command', [['png', 'in', 'out'], ['convert', 'in', 'out'],
                                     ['series', 'in'], ['scan', 'in']], ids=' '.join)
def test_an_empty_folder(tmp_path, command):
    (tmp_path/'in').mkdir()
    done = medtut(*command, '-q', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith('medtut: in: no DICOM')
    assert done.stderr.count('\n') == 1
    assert not done.stdout

@pytest.mark.parametrize('command', [['png', 'in', 'out'], ['convert', 'in', 'out'],
                                     ['series', 'in']], ids=' '.join)
def test_a_table_on_standard_output(tmp_path, command):
    slices(tmp_path/'in')
    done = medtut(*command, cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == dict(png=5, convert=2, series=2)[command[0]]
    assert '%|' in done.stderr

OLD_NAME = 'M\udcfcller'  # what `os.fsdecode` makes of Latin-1, as on an old disc

@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such names')
@pytest.mark.parametrize('command', [
    ['scan', 'in'], ['series', 'in'], ['png', 'in', 'out'], ['convert', 'in', 'out'],
    ['deidentify', 'in', 'out', '--key-file', 'key']], ids=lambda command: command[0])
def test_a_name_that_is_no_utf8_costs_no_table(tmp_path, command):
    """Names of files are bytes (POSIX.1 3.170). UTF-8 has no code for one that stands for itself
    (RFC 3629 3), so that a table shows it as an escape"""
    slices(tmp_path/'in'/'a').rename(tmp_path/'in'/OLD_NAME)
    (tmp_path/'key').write_bytes(KEY)
    done = medtut(*command, '--csv', 't.csv', '-q', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'M\\udcfcller' in (tmp_path/'t.csv').read_text()
    if command[0] == 'deidentify': return  # which writes its table to no other place
    assert 'M\\udcfcller' in medtut(*command, '-q', cwd=tmp_path).stdout

@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such names')
@pytest.mark.parametrize('table_of', [
    scan, series_table, lambda folder, **kw: png_files(folder, folder.parent/'out', **kw),
    lambda folder, **kw: nifti_files(folder, folder.parent/'out', **kw),
    lambda folder, **kw: deidentify_files(folder, folder.parent/'out', key=KEY, **kw)],
    ids=['scan', 'series', 'png', 'nifti', 'deidentify'])
def test_a_name_that_is_no_utf8_is_a_name(tmp_path, table_of):
    "Also where pandas keeps text by Arrow, which refuses it"
    slices(tmp_path/'in'/'a').rename(tmp_path/'in'/OLD_NAME)
    table = table_of(tmp_path/'in', progress=False)
    said = table.get('path', table.get('folder'))
    assert all(OLD_NAME in str(path) for path in said)

# --- a network on DICOM

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "A network for one channel, never trained"
    import torch

    from medtut.unet import UNet3D, save_unet
    torch.manual_seed(0)
    card = dict(patch=(8, 8, 4), spacing=None, per='volume', inside=None, channels=['CT'],
                labels={'1': 'one', '2': 'two'})
    network = UNet3D(1, 3, filters=2, depth=2)
    path = tmp_path_factory.mktemp('network')/'w.safetensors'
    return save_unet(network, path, data='', seed=0, scores={}, **card)

def predict(weights, *args):
    return medtut('predict', *args, '--weights', weights, '--device', 'cpu', '-q')

def test_predict_a_series(weights, tmp_path):
    "The same labels, on the same grid, as of the series converted first"
    folder = slices(tmp_path/'in', 6)
    assert medtut('convert', folder, tmp_path/'nii', '-q').returncode == 0
    name = next(iter(shown(tmp_path/'nii')))
    for source, out in (folder, 'a'), (tmp_path/'nii'/name, 'b'):
        done = predict(weights, source, '--out', tmp_path/out)
        assert done.returncode == 0
        assert done.stdout.splitlines()[0] == 'case,label,ml', done.stderr
    assert shown(tmp_path/'a') == shown(tmp_path/'b')
    assert list(shown(tmp_path/'a')) == [name]
    (label, affine), (_, expected) = load_nifti(tmp_path/'a'/name,
                                                np.uint8), load_series(folder, progress=False)
    assert label.shape == (5, 6, 6)
    assert label.any()
    assert_allclose(affine, expected, atol=1e-5)
    single = predict(weights, folder, '--out', tmp_path/'one.nii.gz')
    assert single.returncode == 0
    assert (tmp_path/'one.nii.gz').read_bytes() == (tmp_path/'a'/name).read_bytes()

def test_predict_several_series(weights, tmp_path):
    for name in 'a', 'b', 'c':
        slices(tmp_path/'in'/name, 6)
    unclear = predict(weights, tmp_path/'in', '--out', tmp_path/'out')
    assert unclear.returncode == 1
    assert '3 series' in unclear.stderr
    assert not (tmp_path/'out').exists()
    uids = pd.read_csv(medtut_output('series', tmp_path/'in', '-q')).uid
    done = predict(weights, tmp_path/'in', '--uid', uids[0], '--uid', uids[2], '--out',
                   tmp_path/'out')
    assert done.returncode == 0
    assert '2 written' in done.stderr
    assert len(shown(tmp_path/'out')) == 2
    # a series that has changed is predicted anew, the other is not
    rng = np.random.default_rng(5)
    for path in (tmp_path/'in'/'a').iterdir():
        ds = pydicom.dcmread(path)
        ds.PixelData = rng.integers(0, 2000, (6, 5)).astype('<i2').tobytes()
        ds.save_as(path)
    again = predict(weights, tmp_path/'in', '--uid', uids[0], '--uid', uids[2], '--out',
                    tmp_path/'out')
    assert '1 written' in again.stderr
    assert '1 there already' in again.stderr
    lost = predict(weights, tmp_path/'in', '--uid', '1.2.3', '--out', tmp_path/'x')
    assert lost.returncode == 1
    assert 'no series 1.2.3' in lost.stderr
    assert predict(weights, tmp_path/'x.nii', '--uid', '1.2.3', '--out',
                   tmp_path/'x').returncode == 2

@pytest.mark.parametrize('keyword, right', [
    ('PatientID', 'RIGHT'), ('StudyInstanceUID', '1.2.5'), ('FrameOfReferenceUID', '1.2.6')])
def test_results_follow_a_header_that_was_corrected(tmp_path, keyword, right):
    """A result has the patient, study and frame of reference of its images (PS3.3 C.7.1.1, C.7.2.1,
    C.7.4.1), though the labels stay as they were"""
    pytest.importorskip('highdicom')
    from medtut.cli_results import write_results
    from medtut.predict import series_cases
    folder = slices(tmp_path/'in', PatientID='WRONG', StudyInstanceUID='1.2.4',
                    FrameOfReferenceUID='1.2.3')
    volume, affine = load_series(folder, progress=False)
    scans = series_cases(folder, progress=False)
    case, = scans
    mask = (volume > 0).astype(np.uint8)
    written = {case: save_nifti(mask, affine, tmp_path/f'{case}.nii.gz')}
    def results(): return write_results(scans, written, {'1': 'lesion'}, 'net', True)
    before = [path.read_bytes() for path in results()]
    assert [path.read_bytes() for path in results()] == before, 'written once'
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        setattr(ds, keyword, right)
        ds.save_as(path)
    seg, report = map(pydicom.dcmread, results())
    assert seg[keyword].value == right
    assert report.get(keyword, right) == right
    assert seg.SOPInstanceUID in report.to_json(), 'the report is about this segmentation'

def test_results_of_others_are_neither_replaced_nor_sent(tmp_path):
    pytest.importorskip('highdicom')
    from medtut.cli_results import check_results
    label_file, theirs = tmp_path/'outline.nii.gz', tmp_path/'outline_seg.dcm'
    check_results([label_file], True)
    shutil.copy(bundled/'CT_small.dcm', theirs)
    with pytest.raises(ValueError, match='outline_seg.dcm: is there, and not from here'):
        check_results([label_file], False)
    theirs.rename(tmp_path/'outline_sr.dcm')
    check_results([label_file], False)
    with pytest.raises(ValueError, match='outline_sr.dcm: is there, and not from here'):
        check_results([label_file], True)
    (tmp_path/'outline_sr.dcm').unlink()
    theirs.write_text('notes')
    with pytest.raises(ValueError, match='not from here'): check_results([label_file], True)

# --- a table that can be grouped, and names nobody

def test_pseudonyms_of_a_scan(tmp_path):
    for name, patient in dict(a=WORD, b=WORD, c=f'{WORD}2').items():
        slices(tmp_path/'in'/name, 2, PatientID=patient,
               StudyInstanceUID=f'1.2.{patient[-1]}0'.replace('m', '9'))
    (tmp_path/'key').write_bytes(KEY)
    def table(*args):
        return pd.read_csv(medtut_output('scan', tmp_path/'in', '-q', *args))
    drawn, again, keyed = table(), table(), table('--key-file', tmp_path/'key')
    for t in drawn, again, keyed:
        assert [t[k].nunique() for k in ('PatientID', 'StudyInstanceUID', 'SeriesInstanceUID',
                                         'SOPInstanceUID')] == [2, 2, 3, 6]
        assert WORD not in t.to_csv()
        assert 'PatientName' not in t
    assert not set(drawn.SeriesInstanceUID) & set(again.SeriesInstanceUID)
    # the same key, and the table fits the copies
    copies = deidentify_files(tmp_path/'in', tmp_path/'out', KEY, progress=False)
    series = {str(pydicom.dcmread(p).SeriesInstanceUID) for p in copies.out}
    assert set(keyed.SeriesInstanceUID) == series
    assert medtut('scan', tmp_path/'in', '--identifying', '--key-file',
                  tmp_path/'key').returncode == 2

def test_a_padded_patient_id_has_one_pseudonym_in_a_scan(tmp_path):
    "PS3.5 6.2: spaces around a LO mean nothing; two pseudonyms could land in train and test"
    slices(tmp_path/'in'/'a', 1, PatientID='P1')
    slices(tmp_path/'in'/'b', 1, PatientID=' P1')
    table = scan(tmp_path/'in', pixels=False, progress=False, identifying=False, key=KEY)
    copies = deidentify_files(tmp_path/'in', tmp_path/'out', KEY, progress=False)
    patients = {str(pydicom.dcmread(p).PatientID) for p in copies.out}
    assert set(table.PatientID) == patients
    assert len(patients) == 1

# --- what is refused before any work

@pytest.mark.parametrize('make, error, says', [
    (lambda i, o: png_files(i/'nowhere', o), DicomError, 'nowhere: not a folder'),
    (lambda i, o: png_files(i, o), ValueError, 'in: no DICOM files in it'),
    (lambda i, o: png_files(i, o, window='lungs'), ValueError, "no window 'lungs'"),
    (lambda i, o: nifti_files(i, o), ValueError, 'in: no DICOM files in it'),
    (lambda i, o: nifti_files(i, o, '{patient}'), ValueError, 'patient'),
    (lambda i, o: deidentify_files(i, o, KEY), ValueError, 'in: no DICOM files in it'),
    (lambda i, o: deidentify_files(i, o, b'short'), ValueError, 'key has 5 bytes; it needs 16'),
    (lambda i, o: deidentify_files(i, o, KEY, ['all']), ValueError, 'no option all')])
def test_functions_of_folders_refuse(tmp_path, make, error, says):
    (tmp_path/'in').mkdir()
    with pytest.raises(error, match=says):
        make(tmp_path/'in', tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_a_picture_of_what_has_no_image_is_refused(tmp_path):
    with pytest.raises(DicomError, match='reportsi.dcm: no pixel data'):
        save_png(read_dicom(bundled/'reportsi.dcm'), tmp_path/'x.png')
    assert not any(tmp_path.iterdir())
