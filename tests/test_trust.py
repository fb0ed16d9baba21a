"""What comes from outside can't run, write where it should not, or swell;
what a file says of its patient is not passed on"""
import ast
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import xlsxwriter
from fastcore.nbio import read_nb
from faulty_server import FaultyServer
from lessons import notebooks
from PIL import Image
from test_datasets import msd_at, tar_of
from torch import nn

from medtut import cli
from medtut.archives import SETS, find_set
from medtut.datasets import get_data
from medtut.dicom import scan
from medtut.download import DataError, unpack
from medtut.files import atomic_write
from medtut.nifti import load_nifti
from medtut.phantoms.breast import write_duke_breast
from medtut.planes import VolumeError
from medtut.pngs import export_slices
from medtut.slices import label_slices, read_boxes, read_mapping
from medtut.tables import read_table
from medtut.weights import load_weights, read_card, read_weights, save_weights

linux = pytest.mark.skipif(sys.platform != 'linux',
    reason='only Linux limits the memory of a process')

def refused(message, kind=ValueError):
    return pytest.raises(kind, match=message)

# --- nothing is run that was meant to be read

LOADERS = {
    'pickle': {'load', 'loads', 'Unpickler'},
    'dill': {'load', 'loads'},
    'cloudpickle': {'load', 'loads'},
    'marshal': {'load', 'loads'},
    'shelve': {'open'},
    'joblib': {'load'},
    'torch': {'load'},
    'np': {'load'}, 'numpy': {'load'},
    'pd': {'read_pickle'}, 'pandas': {'read_pickle'},
    'yaml': {'load', 'unsafe_load'}}
ALONE = {'load_learner', 'read_pickle', 'Unpickler'}

def imported_loaders(tree):
    "Name in the code -> (module, name there, None for the module itself)"
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in LOADERS:
            for a in node.names:
                imported[a.asname or a.name] = node.module, a.name
        elif isinstance(node, ast.Import):
            for a in node.names:
                if a.asname and a.name in LOADERS:
                    imported[a.asname] = a.name, None
    return imported

def called(function, imported):
    "(module, name) of what a call calls"
    if isinstance(function, ast.Name):
        return imported.get(function.id, (None, function.id))
    if not isinstance(function, ast.Attribute):
        return None, None
    owner = ast.unparse(function.value)
    module, _ = imported.get(owner, (owner, None))
    return module, function.attr

def is_unsafe(call, imported):
    module, name = called(call.func, imported)
    if name not in ALONE and name not in LOADERS.get(module, ()):
        return False
    given = {k.arg: getattr(k.value, 'value', '?') for k in call.keywords}
    if module == 'torch':
        return given.get('weights_only') is not True
    if module in ('np', 'numpy'):
        return given.get('allow_pickle', False) is not False
    return True

def unsafe(code):
    "Calls in `code` that may run what they load"
    tree = ast.parse(code)
    imported = imported_loaders(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if is_unsafe(call, imported)]

UNSAFE = ['torch.load(f)', 'torch.load(f, weights_only=False)', 'import pickle as p\np.loads(b)',
    'from joblib import load\nload(f)', 'np.load(f, allow_pickle=True)',
    'np.load(f, allow_pickle=x)', 'load_learner(p)', 'import joblib\njoblib.load(p)',
    'from pickle import loads as l\nl(x)', 'pd.read_pickle(f)',
    'learn = fastai.load_learner(p)']
SAFE = ['torch.load(f, weights_only=True)', 'np.load(f)', 'json.load(f)', 'model.load(f)',
    'np.load(f, allow_pickle=False)', 'pickle.dumps(x)']

def test_the_search_for_pickles_finds_them():
    for code in UNSAFE: assert unsafe(code), code
    for code in SAFE: assert not unsafe(code), code

def test_the_package_loads_no_pickle(root):
    for folder in 'medtut', 'tools', 'benchmarks':
        for path in (root/folder).rglob('*.py'):
            assert not unsafe(path.read_text(encoding='utf-8')), path.name

def python_of(cell):
    if cell.source.startswith('%%sh'): return ''
    lines = cell.source.splitlines()
    return '\n'.join(line for line in lines if not line.lstrip().startswith(('%', '!')))

@pytest.mark.parametrize('path', notebooks(), ids=lambda path: path.stem)
def test_a_notebook_says_so_before_it_loads_a_pickle(path):
    prose = ''
    for cell in read_nb(path).cells:
        if cell.cell_type == 'markdown':
            prose = cell.source
            continue
        code = python_of(cell)
        calls = unsafe(code)
        first_line = code.partition('\n')[0]
        comments = [line.partition('#')[2] for line in code.splitlines()]
        if calls:
            assert 'pickle' in ''.join([prose, first_line, *comments]), calls

# --- nothing is written outside

def test_a_remote_tar_whose_table_names_files_outside_writes_none(tmp_path):
    packed = gzip.compress(b'x')
    for name in '../../../outside.nii.gz', '/outside.nii.gz':
        pair = dict(image=name, label='./labelsTr/A.nii.gz')
        about = dict(numTraining=1, numTest=0, test=[], training=[pair])
        body = tar_of({
            'T/dataset.json': json.dumps(about).encode(),
            f'T/{name}': packed,
            'T/labelsTr/A.nii.gz': packed})
        with FaultyServer({'/t.tar': body}) as server:
            with refused('outside of the set', DataError):
                get_data('msd_brain', 'real', root=tmp_path/'a'/'b', cases=1,
                    registry=msd_at(server.url, body), progress=False)
        assert not list(tmp_path.rglob('outside*'))
        assert not Path('/outside.nii.gz').exists()

def test_a_device_or_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    reader = subprocess.Popen(['cat', tmp_path/'pipe'], stdout=subprocess.PIPE)
    with atomic_write(tmp_path/'pipe', 'w') as f:
        f.write('through')
    output, _ = reader.communicate()
    assert output == b'through'
    assert (tmp_path/'pipe').is_fifo()
    assert os.listdir(tmp_path) == ['pipe']

def test_a_link_stays_a_link(tmp_path):
    (tmp_path/'real.csv').write_text('old')
    (tmp_path/'link.csv').symlink_to(tmp_path/'real.csv')
    with atomic_write(tmp_path/'link.csv', 'w') as f:
        f.write('new')
    assert (tmp_path/'link.csv').is_symlink()
    assert (tmp_path/'real.csv').read_text() == 'new'

@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    old = os.umask(mask)
    try:
        with atomic_write(tmp_path/'x'): pass
    finally: os.umask(old)
    assert (tmp_path/'x').stat().st_mode & 0o777 == 0o666 & ~mask

def small_breast_set(folder, patients):
    write_duke_breast(folder, patients=patients, matrix=32, slices=12, n_jobs=1, progress=False)
    return folder

def labelled(folder):
    "The table of a breast set's slices"
    mapping = read_mapping(next(folder.glob('Breast*.csv')))
    return label_slices(mapping, read_boxes(folder/'Annotation_Boxes.csv'))

def test_an_empty_picture_that_a_power_cut_left_is_written_anew(tmp_path):
    folder = small_breast_set(tmp_path/'set', patients=1)
    table = labelled(folder)
    first = export_slices(table, folder, tmp_path/'out', progress=False)
    png = tmp_path/'out'/first.png[first.status == 'written'].iloc[0]
    whole = png.read_bytes()
    png.write_bytes(b'')
    again = export_slices(table, folder, tmp_path/'out', progress=False)
    assert (again.status == 'written').sum() == 1
    assert png.read_bytes() == whole

# --- nothing swells

def test_an_archive_larger_than_the_free_disk_is_refused_before_a_byte(tmp_path, monkeypatch):
    (tmp_path/'t.tar').write_bytes(tar_of({'a': bytes(10**6)}))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=10**5))
    out = tmp_path/'out'
    with refused('unpacks to', DataError):
        unpack(tmp_path/'t.tar', out)
    assert not list(out.iterdir())

def test_a_gzip_bomb_of_a_volume_is_refused_before_allocation(tmp_path):
    "A header that claims 8 GB, and a file that does unpack to them: a thousand to one"
    path = tmp_path/'bomb.nii.gz'
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    header = bytearray(image.to_bytes()[:352])
    # bytes 40 to 56 hold the number of axes and their lengths
    shape = np.array([3, 2000, 2000, 2000, 1, 1, 1, 1], '<i2')
    header[40:56] = shape.tobytes()
    zeros = gzip.compress(bytes(2**25))
    path.write_bytes(gzip.compress(header) + zeros*240)
    assert path.stat().st_size < 10**7
    with refused('more than max_bytes', VolumeError): load_nifti(path)
    first, *_ = load_nifti(path, dtype=np.uint8, slices=[0])
    assert first.shape == (2000, 2000, 1)

@linux
def test_a_spreadsheet_with_a_cell_in_its_far_corner_is_refused(tmp_path):
    path = tmp_path/'corner.xlsx'
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write('A1', 'Patient ID')
        sheet.write('XFD1048576', 1)
    with refused('corner.xlsx: not a readable .*memory'):
        read_table(path, ['Patient ID'])

@linux
def test_a_spreadsheet_bomb_is_refused(tmp_path):
    small, bomb = tmp_path/'small.xlsx', tmp_path/'bomb.xlsx'
    pd.DataFrame({'Patient ID': ['A']}).to_excel(small, index=False)
    long_name = b'>' + b'A'*3*10**7 + b'<'
    swollen = zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(small) as old, swollen as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, part.replace(b'>Patient ID<', long_name))
    assert bomb.stat().st_size < 10**6
    with refused('bomb.xlsx: not a readable .*memory'):
        read_table(bomb, ['Patient ID'], max_bytes=2**24)
    table = read_table(small, ['Patient ID'], max_bytes=2**24)
    assert len(table) == 1, 'the limit leaves room'

def safetensors(path, header, data=b''):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    length = struct.pack('<Q', len(header))
    path.write_bytes(length + header + data)
    return path

def weight(shape, offsets, dtype='F32'):
    return dict(dtype=dtype, shape=shape, data_offsets=offsets)

LYING_TABLES = {
    'beyond the end': ({'0.weight': weight([10**6, 10**6], [0, 4*10**12])}, b''),
    'larger than stored': ({'0.weight': weight([10**6, 10**6], [0, 8])}, bytes(8)),
    'overflow': ({'0.weight': weight([2**40, 2**40], [0, 8])}, bytes(8)),
    'backwards': ({'0.weight': weight([2], [8, 0])}, bytes(8)),
    'overlapping': ({f'{i}': weight([1000], [0, 1000], 'U8') for i in range(1000)}, bytes(1000)),
    'nested': (b'{' + b'"a":{'*10**5, b''),
    'a list': (b'[]', b''),
    'noise': (b'\xff'*64, b'')}

@pytest.mark.parametrize('header, data', LYING_TABLES.values(), ids=LYING_TABLES)
def test_a_table_of_weights_that_lies_is_refused(tmp_path, header, data):
    path = safetensors(tmp_path/'w.safetensors', header, data)
    with refused('w.safetensors: not a safetensors file'):
        read_weights(path)
    with refused('w.safetensors'):
        load_weights(nn.Linear(2, 2), path)

def test_a_table_of_weights_longer_than_its_file_is_refused(tmp_path):
    path = tmp_path/'w.safetensors'
    length = struct.pack('<Q', 2**62)
    path.write_bytes(length + b'{}')
    with refused('not a safetensors file'): read_card(path)

BAD_CARDS = {'open': '[', 'list': '[]', 'number': '3', 'nested': '['*10**5, 'half': '{"a": }'}

@pytest.mark.parametrize('card', BAD_CARDS.values(), ids=BAD_CARDS)
def test_a_card_that_is_none_is_refused(tmp_path, card):
    path = safetensors(tmp_path/'w.safetensors', dict(__metadata__=dict(medtut=card)))
    with refused('w.safetensors: its card'): read_card(path)

def test_weights_of_other_programs_keep_their_texts(tmp_path):
    path = safetensors(tmp_path/'w.safetensors', dict(__metadata__=dict(format='pt')))
    assert read_card(path) == dict(format='pt')

def test_same_model_same_bytes(tmp_path):
    model = nn.Linear(3, 2)
    card = {f'k{i}': i for i in range(9)}
    first = save_weights(model, tmp_path/'a', **card)
    second = save_weights(model, tmp_path/'b', **card)
    assert first.read_bytes() == second.read_bytes()
    assert list(read_card(first)) == list(card)

def test_a_table_of_a_set_nested_without_end_is_refused(tmp_path):
    (tmp_path/'dataset.json').write_text('['*10**5)
    with refused("tables can't be read", DataError):
        find_set(SETS['msd_brain'], tmp_path)

# --- the patient's name stays where it is

NAMES = {
    'PatientName': 'Zquux^Sentinella',
    'PatientID': 'SENTINELLA-4711',
    'ReferringPhysicianName': 'Sentinella^Doctor',
    'OtherPatientIDs': 'SENTINELLA-0815',
    'PatientAddress': 'Sentinella Street 1',
    'InstitutionName': 'Sentinella Hospital',
    'PatientComments': 'Sentinella came late',
    'AccessionNumber': 'SENTINELLA1'}
# elements that get a name where numbers belong, and what they then claim to hold:
# a complaint about them may quote it
ODD = {'PatientBirthDate': b'IS', 'PatientAge': b'UI', 'PatientSize': b'FD', 'StudyTime': b'IS'}

def name_patient(path):
    "Write the patient's name into right and into wrong elements of a file; its bytes"
    ds = pydicom.dcmread(path)
    for keyword, value in NAMES.items():
        setattr(ds, keyword, value)
    ds.add_new(0x00091001, 'LO', 'Sentinella, private')
    for keyword in ODD:
        ds[keyword] = pydicom.DataElement(keyword, 'LO', 'Sentinella')
    ds.save_as(path)
    raw = path.read_bytes()
    for keyword, vr in ODD.items():
        tag = pydicom.tag.Tag(keyword)
        start = struct.pack('<HH', tag.group, tag.element)
        assert start + b'LO' in raw
        raw = raw.replace(start + b'LO', start + vr)
    return raw

@pytest.fixture(scope='module')
def named(tmp_path_factory):
    "A breast set whose files all name the patient; some are damaged"
    root = small_breast_set(tmp_path_factory.mktemp('named')/'set', patients=2)
    for i, path in enumerate(sorted(root.rglob('*.dcm'))):
        raw = name_patient(path)
        if i % 9 == 4:
            raw = raw[:-200]
        if i % 9 == 5:
            raw = raw[:600]
        if i % 9 == 6:
            raw = raw[:300] + b'\xff'*4 + raw[304:]
        path.write_bytes(raw)
    return root

def silent(*texts):
    for text in texts:
        lower = text.lower()
        assert 'sentinel' not in lower and 'zquux' not in lower, text[:2000]

def test_the_files_do_name_the_patient(named):
    "Else the tests below could not fail"
    table = scan(named, progress=False)
    assert (table.PatientName == 'Zquux^Sentinella').sum() > 5
    complaints = table[['note', 'error']].stack()
    assert complaints.str.contains('Sentinella').any(), 'a damaged value is quoted'
    first, *_ = sorted(named.rglob('*.dcm'))
    assert b'Sentinella' in first.read_bytes()

def texts_of(warned):
    return [str(warning.message) for warning in warned]

@pytest.mark.parametrize('pixels', [True, False])
def test_a_scan_without_identifying_columns_names_nobody(named, pixels, recwarn, capfd):
    table = scan(named, pixels=pixels, identifying=False, progress=False)
    assert len(table)
    assert 'Modality' in table
    assert 'PatientSex' not in table
    silent(table.to_csv(), *texts_of(recwarn), *capfd.readouterr())

def test_the_command_line_names_nobody(named):
    "With other processes at work, whose warnings and complaints come through it"
    command = [sys.executable, '-W', 'always', '-c', 'from medtut.cli import main; main()']
    done = subprocess.run([*command, 'scan', named], capture_output=True, text=True)
    assert 'Traceback' not in done.stderr
    silent(done.stdout, done.stderr)

@pytest.mark.parametrize('command', [['scan', '--no-pixels'], ['slices', 'out']], ids=' '.join)
def test_the_command_line_and_its_tables_name_nobody(named, tmp_path, monkeypatch, capfd, command):
    name, *options = command
    table = tmp_path/'table.csv'
    arguments = [name, named, *options, '--csv', table, '-j', 1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['medtut', *map(str, arguments)])
    monkeypatch.setenv('PYTHONWARNINGS', 'always')
    with warnings.catch_warnings(), pytest.raises(SystemExit): # as any command ends
        warnings.simplefilter('always')
        cli.main()
    silent(table.read_text(), *capfd.readouterr())

def test_exported_pictures_and_their_table_name_nobody(named, tmp_path, recwarn, capfd):
    done = export_slices(labelled(named), named, tmp_path/'out', progress=False)
    assert {'written', 'failed'} <= set(done.status)
    silent(done.to_csv(), *texts_of(recwarn), *capfd.readouterr())
    for path in (tmp_path/'out').rglob('*'):
        silent(path.name)
        if path.is_file():
            silent(path.read_bytes().decode('latin-1'))
        if path.suffix == '.png':
            assert not Image.open(path).info
