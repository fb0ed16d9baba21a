"""medtut where a browser runs Python: without processes, and without what is compiled for it alone"""
import json
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from medtut.dicom import scan

# What the browser edition stands on
MODULES = ['dicom', 'show', 'metrics', 'splits', 'rle', 'tables', 'exercises', 'files', 'volumes',
    'decoding', 'display', 'headers', 'identity', 'orientation', 'overlays', 'moving', 'units',
    'intervals', 'nifti', 'few_patients', 'comparing']
# What Pyodide has not
MISSING = ['loky', 'gdcm', 'torch', 'pylibjpeg', 'openjpeg', 'libjpeg',
    'jpeg_ls', 'python_calamine', 'resource', 'cv2', 'fastai']
LIKE_A_BROWSER = '''
import json, subprocess, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))
class NoProcess(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        raise OSError(138, 'emscripten does not support processes.')
subprocess.Popen = NoProcess
import os
os.fork = os.posix_spawn = None
import joblib.externals.loky # Pyodide's joblib has one without this:
del joblib.externals.loky.ProcessPoolExecutor
'''

def in_a_browser(code, *args):
    "What `code` prints where there are no processes and nothing of `MISSING`, as lines"
    command = [sys.executable, '-c', LIKE_A_BROWSER + code, json.dumps(MISSING), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()

def test_imports():
    names = [f'medtut.{module}' for module in MODULES]
    imports = '\n'.join(f'import {name}' for name in names)
    loaded = '\nfor name in sys.modules:\n    if name.startswith("medtut."): print(name)'
    assert set(names) <= set(in_a_browser(imports + loaded))

DECODE = '''
import warnings
from pathlib import Path
import pydicom
from medtut.dicom import DicomError, read_dicom, stored_values
warnings.simplefilter('ignore')
folder = Path(pydicom.__file__).parent/'data/test_files'
for name in sys.argv[2:]:
    try: print(name, *stored_values(read_dicom(folder/name)).values.shape)
    except DicomError as e: print(e)
'''

def test_decodes_in_the_process():
    "What pydicom and Pillow can: native pixels, RLE, JPEG"
    names = ['CT_small.dcm', 'MR_small_RLE.dcm', 'SC_rgb_jpeg_dcmtk.dcm']
    assert in_a_browser(DECODE, *names) == [
        'CT_small.dcm 128 128', 'MR_small_RLE.dcm 64 64', 'SC_rgb_jpeg_dcmtk.dcm 100 100 3']

@pytest.mark.parametrize('name, syntax', [
    ('MR_small_jpeg_ls_lossless.dcm', 'JPEG-LS Lossless'),
    ('JPEG-lossy.dcm', 'JPEG Extended (Process 2 and 4)')])
def test_says_what_needs_a_native_decoder(name, syntax):
    said = in_a_browser(DECODE, name)[-1]
    assert f'{name}: {syntax}' in said
    assert 'not installed' in said or 'no decoder for it is installed' in said
    assert 'open the file where medtut is installed by pip' in said

SCAN = '''
from medtut.dicom import scan
table = scan(sys.argv[2], progress=False)
print(*table[['path', 'error', 'px_mean']].to_csv(index=False).splitlines(), sep=chr(10))
'''

def test_scans_as_elsewhere():
    "Files that need no native decoder, one of them a directory of others"
    folder = Path(pydicom.__file__).parent/'data/test_files/dicomdirtests'
    here = scan(folder, progress=False)[['path', 'error', 'px_mean']]
    assert in_a_browser(SCAN, folder) == here.to_csv(index=False).splitlines()
    assert here.px_mean.notna().any()

TABLE = '''
from medtut.tables import read_table
for path in sys.argv[2:]:
    try: print(read_table(path, ['id']).id.tolist())
    except ValueError as e: print(e)
'''

def test_reads_tables(tmp_path):
    "A .csv; of a .xlsx it says what to do"
    csv, xlsx = tmp_path/'a.csv', tmp_path/'a.xlsx'
    csv.write_text('ID,x\np1,2\n')
    xlsx.write_bytes(b'PK')
    read, refused = in_a_browser(TABLE, csv, xlsx)
    assert read == "['p1']"
    assert f'{xlsx}: a .xlsx is read in a process of its own' in refused
    assert 'save the table as .csv' in refused
