"What lesson 1 leaves to a test: many files, other processes, decoders against each other"
import io
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest

from medtut.dicom import find_dicoms, read_dicom, scan
from medtut.display import to_display
from medtut.errors import DicomError
from medtut.headers import elements
from medtut.identity import deidentify, identifying_elements
from medtut.units import pixels

bundled = Path(pydicom.__file__).parent/'data'/'test_files'
carried = Path(data_store.__file__).parent/'data'
pytestmark = pytest.mark.filterwarnings('ignore')

def test_header_only_reads_no_pixel_bytes(tmp_path):
    "A file cut off where its pixel bytes begin gives the same row"
    whole = bundled/'CT_small.dcm'
    raw = whole.read_bytes()
    cut = tmp_path/'cut.dcm'
    cut.write_bytes(raw[:raw.rfind(b'\xe0\x7f\x10\x00') + 12])
    row_of_whole, row_of_cut = (scan([path], pixels=False, progress=False).drop(columns='path')
                                for path in (whole, cut))
    assert row_of_whole.equals(row_of_cut)
    assert (row_of_cut.error == '').all()
    assert row_of_whole.Rows[0] == 128
    assert not any(column.startswith('px_') for column in row_of_whole)
    assert 'pixel' in scan([cut], progress=False).error[0]

def test_rows_come_in_the_order_asked_for_whatever_the_number_of_processes():
    paths = find_dicoms(carried)[::-2]
    in_one, in_two = (scan(paths, n_jobs=n, progress=False) for n in (1, 2))
    assert list(in_one.path) == list(map(str, paths))
    assert in_one.equals(in_two)

def test_values_in_the_table_are_plain():
    df = scan(bundled, pixels=False, progress=False)
    values = [value for column in df for value in df[column].dropna()]
    kinds = {type(value) for value in values}
    numbers = {kind for kind in kinds if issubclass(kind, np.number)}
    assert kinds - numbers <= {str, int, float, tuple}
    tuples = [value for value in values if isinstance(value, tuple)]
    assert {type(part) for parts in tuples for part in parts} <= {str, int, float}
    assert df.Rows.dtype == 'Int64'
    assert df.sort_values('Rows').Rows.iloc[0] > 0

LOSSLESS_FORMS = {
    'MR_small': ['MR_small_RLE', 'MR_small_jp2klossless', 'MR_small_jpeg_ls_lossless',
                 'MR_small_bigendian', 'MR_small_implicit'],
    'RG1_UNCR': ['RG1_J2KR'],
    '693_UNCR': ['693_J2KR'],
    'US1_UNCR': ['US1_J2KR'],
    'OBXXXX1A': ['OBXXXX1A_expb', 'OBXXXX1A_rle'],
    'liver': ['liver_expb'],
    'emri_small': ['emri_small_RLE', 'emri_small_jpeg_2k_lossless']}

def by_name(name):
    "A file in the one or the other package"
    in_pydicom = bundled/f'{name}.dcm'
    return in_pydicom if in_pydicom.exists() else carried/f'{name}.dcm'

@pytest.mark.parametrize('raw, packed', [
    (raw, packed) for raw, forms in LOSSLESS_FORMS.items() for packed in forms])
def test_lossless_forms_of_an_image_are_equal(raw, packed):
    a, b = read_dicom(by_name(raw)), read_dicom(by_name(packed))
    np.testing.assert_array_equal(pixels(a), pixels(b))
    np.testing.assert_array_equal(to_display(a), to_display(b))

@pytest.mark.parametrize('name', ['JPGExtended.dcm', 'JPEG-lossy.dcm'])
def test_12_bit_jpeg_is_close_to_the_lossless_original(name):
    original = pixels(read_dicom(carried/'JPEG2000_UNC.dcm'))
    lossy = pixels(read_dicom(bundled/name))
    assert original.shape == lossy.shape
    assert np.corrcoef(original.ravel(), lossy.ravel())[0, 1] > .9

def test_a_frame_is_that_frame():
    ds = read_dicom(bundled/'examples_ybr_color.dcm')
    np.testing.assert_array_equal(to_display(ds)[7], to_display(ds, frame=7))
    ds = read_dicom(carried/'emri_small.dcm')
    np.testing.assert_array_equal(pixels(ds)[3], pixels(ds, frame=3))

def test_a_rescaling_for_each_frame():
    ds = read_dicom(carried/'emri_small.dcm')
    for keyword in 'RescaleSlope', 'RescaleIntercept':
        ds.pop(keyword, None)
    ds.SharedFunctionalGroupsSequence = []
    groups = []
    for i in range(int(ds.NumberOfFrames)):
        values, group = pydicom.Dataset(), pydicom.Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = i + 1, -i, 'US'
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    stored = ds.pixel_array.astype(np.float32)
    x = pixels(ds)
    for i in 0, 1, 9:
        np.testing.assert_allclose(x[i], stored[i]*(i + 1) - i)
    np.testing.assert_array_equal(pixels(ds, frame=9), x[9])

def names_in(ds):
    "Persons' names at any depth, if they are long enough to be told from chance"
    names = {str(e.value) for e in ds.iterall() if e.VR == 'PN' and e.value}
    return {name for name in names if len(name) > 3}

def is_said(name, content):
    "Do bytes hold a name? Digits within a longer number, such as a new UID, are none"
    pattern = re.escape(name.encode())
    if name.isdigit(): pattern = rb'(?<![\d.])' + pattern + rb'(?![\d.])'
    return re.search(pattern, content) is not None

def saved(ds):
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()

def test_deidentify_leaves_no_word_of_the_patient_at_any_depth():
    for path in find_dicoms(bundled):
        try: ds = read_dicom(path)
        except DicomError: continue
        was_stated = 'PatientIdentityRemoved' in ds
        clean = deidentify(ds)
        content = saved(clean)
        for name in names_in(ds):
            assert not is_said(name, content), (path.name, name)
        assert not any(e.tag.is_private for e in clean.iterall()), path.name
        assert clean.PatientIdentityRemoved == 'YES', path.name
        assert ('PatientIdentityRemoved' in ds) == was_stated, 'the original stays as it is'

def output_of(*arguments):
    "What a new Python prints"
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

def test_pseudonyms_hold_across_processes():
    code = ("import warnings; warnings.simplefilter('ignore')\n"
            "from medtut.dicom import read_dicom\n"
            "from medtut.identity import deidentify\n"
            f"ds = deidentify(read_dicom({str(bundled/'CT_small.dcm')!r}), key=b'k')\n"
            "print(ds.PatientID, ds.SeriesInstanceUID)")
    first, second = output_of('-c', code), output_of('-c', code)
    assert first
    assert first == second

def test_a_script_without_main_guard_can_scan_in_parallel(tmp_path):
    "Worker processes must not run the caller's script again"
    script, folder = tmp_path/'script.py', bundled/'dicomdirtests'
    script.write_text("from medtut.dicom import scan\n"
                      f"print(len(scan({str(folder)!r}, n_jobs=2, progress=False)))\n")
    assert output_of(script).split() == [str(len(find_dicoms(folder)))]

def test_elements_give_the_length_in_the_file():
    ds = read_dicom(bundled/'CT_small.dcm')
    before = elements(ds)
    str(ds)  # reads every value
    after = elements(ds)
    has_length_before, has_length_after = before.length.notna(), after.length.notna()
    assert has_length_after[has_length_before].mean() > .95
    comparable = has_length_before & has_length_after & (before.VR != 'SQ')
    assert (before.length == after.length)[comparable].mean() > .95

def test_identifying_elements_looks_into_sequences():
    identifying = identifying_elements(read_dicom(bundled/'CT_small.dcm'))
    expected = {'PatientName', 'PatientID', 'StudyDate', 'InstitutionName',
                'OtherPatientIDsSequence'}
    assert expected <= set(identifying.keyword)
    assert (identifying.query('depth == 1').keyword == 'PatientID').sum() == 2

def decoded_sum(name):
    return float(pixels(read_dicom(bundled/name)).sum())

def test_daemonic_processes_can_decode_too():
    """Workers of a PyTorch DataLoader and of Dask are daemonic.

    Python forbids these to have children."""
    name = 'MR_small_RLE.dcm'
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        assert pool.apply(decoded_sum, (name,)) == decoded_sum(name)

def test_a_data_loader_with_workers():
    from torch.utils.data import DataLoader
    names = ['MR_small_RLE.dcm', 'MR_small_jp2klossless.dcm', 'MR_small.dcm']
    loader = DataLoader(names, batch_size=None, num_workers=2, collate_fn=decoded_sum)
    assert [float(x) for x in loader] == [decoded_sum(name) for name in names]
