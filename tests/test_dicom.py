"What lesson 1 leaves to a test: many files, other processes, decoders against each other"
import io, multiprocessing, subprocess, sys
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
    a,b = (scan([p], pixels=False, progress=False).drop(columns='path') for p in (whole, cut))
    assert a.equals(b) and (b.error == '').all() and a.Rows[0] == 128
    assert not any(c.startswith('px_') for c in a)
    assert 'pixel' in scan([cut], progress=False).error[0]

def test_rows_come_in_the_order_asked_for_whatever_the_number_of_processes():
    paths = find_dicoms(carried)[::-1]
    one,two = (scan(paths, n_jobs=n, progress=False) for n in (1, 2))
    assert list(one.path) == list(map(str, paths))
    assert one.equals(two)

def test_values_in_the_table_are_plain():
    df = scan(bundled, pixels=False, progress=False)
    kinds = {type(v) for c in df for v in df[c].dropna()}
    assert all(k in (str, int, float, tuple) or issubclass(k, np.number) for k in kinds), kinds
    assert {type(x) for c in df for v in df[c].dropna() if isinstance(v, tuple) for x in v} <= {str, int, float}
    assert df.Rows.dtype == 'Int64' and df.sort_values('Rows').Rows.iloc[0] > 0

@pytest.mark.parametrize('raw, packed', [
    ('MR_small.dcm', 'MR_small_RLE.dcm'), ('MR_small.dcm', 'MR_small_jp2klossless.dcm'), ('MR_small.dcm', 'MR_small_jpeg_ls_lossless.dcm'),
    ('MR_small.dcm', 'MR_small_bigendian.dcm'), ('MR_small.dcm', 'MR_small_implicit.dcm'), ('RG1_UNCR.dcm', 'RG1_J2KR.dcm'),
    ('693_UNCR.dcm', '693_J2KR.dcm'), ('US1_UNCR.dcm', 'US1_J2KR.dcm'), ('OBXXXX1A.dcm', 'OBXXXX1A_expb.dcm'), ('OBXXXX1A.dcm', 'OBXXXX1A_rle.dcm'),
    ('liver.dcm', 'liver_expb.dcm'), ('emri_small.dcm', 'emri_small_RLE.dcm'), ('emri_small.dcm', 'emri_small_jpeg_2k_lossless.dcm')])
def test_lossless_forms_of_an_image_are_equal(raw, packed):
    a,b = (read_dicom(next(p for d in (bundled, carried) if (p := d/name).exists())) for name in (raw, packed))
    np.testing.assert_array_equal(pixels(a), pixels(b))
    np.testing.assert_array_equal(to_display(a), to_display(b))

@pytest.mark.parametrize('name', ['JPGExtended.dcm', 'JPEG-lossy.dcm'])
def test_12_bit_jpeg_is_close_to_the_lossless_original(name):
    original,lossy = pixels(read_dicom(carried/'JPEG2000_UNC.dcm')),pixels(read_dicom(bundled/name))
    assert original.shape == lossy.shape and np.corrcoef(original.ravel(), lossy.ravel())[0, 1] > .9

def test_a_frame_is_that_frame():
    ds = read_dicom(bundled/'examples_ybr_color.dcm')
    np.testing.assert_array_equal(to_display(ds)[7], to_display(ds, frame=7))
    ds = read_dicom(carried/'emri_small.dcm')
    np.testing.assert_array_equal(pixels(ds)[3], pixels(ds, frame=3))

def test_a_rescaling_for_each_frame():
    ds = read_dicom(carried/'emri_small.dcm')
    for e in 'RescaleSlope','RescaleIntercept': ds.pop(e, None)
    ds.SharedFunctionalGroupsSequence = []
    groups = []
    for i in range(int(ds.NumberOfFrames)):
        values,group = pydicom.Dataset(),pydicom.Dataset()
        values.RescaleSlope,values.RescaleIntercept,values.RescaleType = i + 1,-i,'US'
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    stored = ds.pixel_array.astype(np.float32)
    x = pixels(ds)
    for i in 0,1,9: np.testing.assert_allclose(x[i], stored[i]*(i + 1) - i)
    np.testing.assert_array_equal(pixels(ds, frame=9), x[9])

def test_deidentify_leaves_no_word_of_the_patient_at_any_depth():
    for path in find_dicoms(bundled):
        try: ds = read_dicom(path)
        except DicomError: continue
        secrets = {str(e.value) for e in ds.iterall() if e.VR == 'PN' and e.value and len(str(e.value)) > 3}
        clean = deidentify(ds)
        buffer = io.BytesIO()
        clean.save_as(buffer, enforce_file_format=False)
        for s in secrets: assert s.encode() not in buffer.getvalue(), (path.name, s)
        assert not any(e.tag.is_private for e in clean.iterall()), path.name
        assert clean.PatientIdentityRemoved == 'YES' and ds.get('PatientIdentityRemoved') != 'YES' or 'PatientIdentityRemoved' in ds

def test_pseudonyms_hold_across_processes():
    code = ("import warnings; warnings.simplefilter('ignore')\n"
            "from medtut.dicom import read_dicom\n"
            "from medtut.identity import deidentify\n"
            f"ds = deidentify(read_dicom({str(bundled/'CT_small.dcm')!r}), key=b'k'); print(ds.PatientID, ds.SeriesInstanceUID)")
    assert len({subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout for _ in range(2)}) == 1

def test_a_script_without_main_guard_can_scan_in_parallel(tmp_path):
    "Worker processes must not run the caller's script again"
    script = tmp_path/'script.py'
    script.write_text(f"from medtut.dicom import scan\nprint(len(scan({str(carried)!r}, n_jobs=2, progress=False)))\n")
    out = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.split()
    assert out == [str(len(find_dicoms(carried)))]

def test_elements_give_the_length_in_the_file():
    ds = read_dicom(bundled/'CT_small.dcm')
    before = elements(ds)
    str(ds) # reads every value
    after = elements(ds)
    assert before.length.dropna().index.isin(after.length.dropna().index).mean() > .95
    same = before.length.notna() & after.length.notna() & (before.VR != 'SQ')
    assert (before.length == after.length)[same].mean() > .95

def test_identifying_elements_looks_into_sequences():
    found = identifying_elements(read_dicom(bundled/'CT_small.dcm'))
    assert {'PatientName', 'PatientID', 'StudyDate', 'InstitutionName', 'OtherPatientIDsSequence'} <= set(found.keyword)
    assert (found.query('depth == 1').keyword == 'PatientID').sum() == 2

def decoded_sum(name): return float(pixels(read_dicom(bundled/name)).sum())

def test_daemonic_processes_can_decode_too():
    "Workers of a PyTorch DataLoader and of Dask are daemonic, and Python forbids these to have children"
    name = 'MR_small_RLE.dcm'
    with multiprocessing.get_context('spawn').Pool(1) as pool: assert pool.apply(decoded_sum, (name,)) == decoded_sum(name)

def test_a_data_loader_with_workers():
    from torch.utils.data import DataLoader
    names = ['MR_small_RLE.dcm', 'MR_small_jp2klossless.dcm', 'MR_small.dcm']
    sums = [float(x) for x in DataLoader(names, batch_size=None, num_workers=2, collate_fn=decoded_sum)]
    assert sums == [decoded_sum(n) for n in names]
