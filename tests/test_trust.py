"What comes from outside can't run, write where it should not, or swell; what a file says of its patient is not passed on"
import ast, gzip, io, json, os, shutil, struct, subprocess, sys, zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import xlsxwriter
from fastcore.nbio import read_nb
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from faulty_server import FaultyServer
from lessons import notebooks
from medtut.archives import SETS, find_set
from medtut.datasets import get_data
from medtut.dicom import scan
from medtut.download import DataError, unpack
from medtut.files import atomic_write
from medtut.phantoms.breast import write_duke_breast
from medtut.slices import export_slices, label_slices, read_boxes, read_mapping
from medtut.tables import read_table
from medtut.nifti import load_nifti
from medtut.planes import VolumeError
from medtut.weights import load_weights, read_card, read_weights, save_weights
from test_datasets import msd_at, tar_of

linux = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux limits the memory of a process')

# --- nothing is run that was meant to be read

LOADERS = {'pickle': {'load', 'loads', 'Unpickler'}, 'dill': {'load', 'loads'}, 'cloudpickle': {'load', 'loads'}, 'marshal': {'load', 'loads'}, 'shelve': {'open'},
    'joblib': {'load'}, 'torch': {'load'}, 'np': {'load'}, 'numpy': {'load'}, 'pd': {'read_pickle'}, 'pandas': {'read_pickle'}, 'yaml': {'load', 'unsafe_load'}}
ALONE = {'load_learner', 'read_pickle', 'Unpickler'}

def unsafe(code):
    "Calls in `code` that may run what they load"
    tree, imported, found = ast.parse(code), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in LOADERS:
            imported |= {a.asname or a.name: (node.module, a.name) for a in node.names}
        elif isinstance(node, ast.Import): imported |= {a.asname: (a.name, None) for a in node.names if a.asname and a.name in LOADERS}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call): continue
        f, module, name = node.func, None, None
        if isinstance(f, ast.Attribute):
            module, name = ast.unparse(f.value), f.attr
            module = imported.get(module, (module, None))[0]
        elif isinstance(f, ast.Name): module, name = imported.get(f.id, (None, f.id))
        given = {k.arg: getattr(k.value, 'value', '?') for k in node.keywords}
        if name not in ALONE and name not in LOADERS.get(module, ()): continue
        if module == 'torch' and given.get('weights_only') is True: continue
        if module in ('np', 'numpy') and given.get('allow_pickle', False) is False: continue
        found.append(ast.unparse(node))
    return found

def test_the_search_for_pickles_finds_them():
    for code in ('torch.load(f)', 'torch.load(f, weights_only=False)', 'import pickle as p\np.loads(b)', 'from joblib import load\nload(f)', 'np.load(f, allow_pickle=True)',
                 'np.load(f, allow_pickle=x)', 'load_learner(p)', 'import joblib\njoblib.load(p)', 'from pickle import loads as l\nl(x)', 'pd.read_pickle(f)', 'learn = fastai.load_learner(p)'):
        assert unsafe(code), code
    for code in ('torch.load(f, weights_only=True)', 'np.load(f)', 'json.load(f)', 'model.load(f)', 'np.load(f, allow_pickle=False)', 'pickle.dumps(x)'): assert not unsafe(code), code

def test_the_package_loads_no_pickle(root):
    for path in [*(root/'medtut').rglob('*.py'), *(root/'tools').rglob('*.py'), *(root/'benchmarks').rglob('*.py')]:
        assert not unsafe(path.read_text(encoding='utf-8')), path.name

@pytest.mark.parametrize('path', notebooks(), ids=lambda p: p.stem)
def test_a_notebook_says_so_before_it_loads_a_pickle(path):
    told = ''
    for cell in read_nb(path).cells:
        if cell.cell_type == 'markdown': told = cell.source
        else:
            code = '\n'.join(line for line in cell.source.splitlines() if not line.lstrip().startswith(('%', '!')))
            if found := unsafe(code): assert 'pickle' in told + code.partition('\n')[0] + ''.join(l.partition('#')[2] for l in code.splitlines()), found

# --- nothing is written outside

def test_a_remote_tar_whose_table_names_files_outside_writes_none(tmp_path):
    for name in '../../../outside.nii.gz', '/outside.nii.gz':
        about = dict(numTraining=1, numTest=0, test=[], training=[dict(image=name, label='./labelsTr/A.nii.gz')])
        packed = gzip.compress(b'x')
        body = tar_of({'T/dataset.json': json.dumps(about).encode(), f'T/{name}': packed, 'T/labelsTr/A.nii.gz': packed})
        with FaultyServer({'/t.tar': body}) as server:
            with pytest.raises(DataError, match='outside of the set'): get_data('msd_brain', 'real', root=tmp_path/'a'/'b', cases=1, registry=msd_at(server.url, body), progress=False)
        assert not list(tmp_path.rglob('outside*')) and not Path('/outside.nii.gz').exists()

def test_a_device_or_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    reader = subprocess.Popen(['cat', tmp_path/'pipe'], stdout=subprocess.PIPE)
    with atomic_write(tmp_path/'pipe', 'w') as f: f.write('through')
    assert reader.communicate()[0] == b'through' and (tmp_path/'pipe').is_fifo() and os.listdir(tmp_path) == ['pipe']

def test_a_link_stays_a_link(tmp_path):
    (tmp_path/'real.csv').write_text('old')
    (tmp_path/'link.csv').symlink_to(tmp_path/'real.csv')
    with atomic_write(tmp_path/'link.csv', 'w') as f: f.write('new')
    assert (tmp_path/'link.csv').is_symlink() and (tmp_path/'real.csv').read_text() == 'new'

@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    old = os.umask(mask)
    try:
        with atomic_write(tmp_path/'x'): pass
    finally: os.umask(old)
    assert (tmp_path/'x').stat().st_mode & 0o777 == 0o666 & ~mask

def test_an_empty_picture_that_a_power_cut_left_is_written_anew(tmp_path):
    write_duke_breast(tmp_path/'set', patients=1, matrix=32, slices=12, n_jobs=1, progress=False)
    table = label_slices(read_mapping(next((tmp_path/'set').glob('Breast*.csv'))), read_boxes(tmp_path/'set'/'Annotation_Boxes.csv'))
    first = export_slices(table, tmp_path/'set', tmp_path/'out', progress=False)
    png = tmp_path/'out'/first.png[first.status == 'written'].iloc[0]
    whole = png.read_bytes()
    png.write_bytes(b'')
    again = export_slices(table, tmp_path/'set', tmp_path/'out', progress=False)
    assert (again.status == 'written').sum() == 1 and png.read_bytes() == whole

# --- nothing swells

def test_an_archive_that_unpacks_to_more_than_the_disk_holds_is_refused_before_a_byte(tmp_path, monkeypatch):
    (tmp_path/'t.tar').write_bytes(tar_of({'a': bytes(10**6)}))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=10**5))
    with pytest.raises(DataError, match='unpacks to'): unpack(tmp_path/'t.tar', tmp_path/'out')
    assert not list((tmp_path/'out').iterdir())

def test_a_gzip_bomb_of_a_volume_is_refused_before_allocation(tmp_path):
    "A header that claims 8 GB, and a file that does unpack to them: a thousand to one"
    head = bytearray(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_bytes()[:352])
    head[40:56] = np.array([3, 2000, 2000, 2000, 1, 1, 1, 1], '<i2').tobytes()
    (tmp_path/'bomb.nii.gz').write_bytes(gzip.compress(head) + gzip.compress(bytes(2**25))*240)
    assert (tmp_path/'bomb.nii.gz').stat().st_size < 10**7
    with pytest.raises(VolumeError, match='more than max_bytes'): load_nifti(tmp_path/'bomb.nii.gz')
    assert load_nifti(tmp_path/'bomb.nii.gz', dtype=np.uint8, slices=[0])[0].shape == (2000, 2000, 1)

@linux
def test_a_spreadsheet_with_a_cell_in_its_far_corner_is_refused(tmp_path):
    with xlsxwriter.Workbook(tmp_path/'corner.xlsx') as book:
        sheet = book.add_worksheet()
        sheet.write('A1', 'Patient ID')
        sheet.write('XFD1048576', 1)
    with pytest.raises(ValueError, match='corner.xlsx: not a readable .*memory'): read_table(tmp_path/'corner.xlsx', ['Patient ID'])

@linux
def test_a_spreadsheet_bomb_is_refused(tmp_path):
    pd.DataFrame({'Patient ID': ['A']}).to_excel(tmp_path/'small.xlsx', index=False)
    with zipfile.ZipFile(tmp_path/'small.xlsx') as old, zipfile.ZipFile(tmp_path/'bomb.xlsx', 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist(): new.writestr(name, old.read(name).replace(b'>Patient ID<', b'>' + b'A'*10**8 + b'<'))
    assert (tmp_path/'bomb.xlsx').stat().st_size < 10**6
    with pytest.raises(ValueError, match='bomb.xlsx: not a readable .*memory'): read_table(tmp_path/'bomb.xlsx', ['Patient ID'], max_bytes=2**26)

def safetensors(path, header, data=b''):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(header)) + header + data)
    return path

@pytest.mark.parametrize('header, data', [
    ({'0.weight': dict(dtype='F32', shape=[10**6, 10**6], data_offsets=[0, 4*10**12])}, b''),
    ({'0.weight': dict(dtype='F32', shape=[10**6, 10**6], data_offsets=[0, 8])}, bytes(8)),
    ({'0.weight': dict(dtype='F32', shape=[2**40, 2**40], data_offsets=[0, 8])}, bytes(8)),
    ({'0.weight': dict(dtype='F32', shape=[2], data_offsets=[8, 0])}, bytes(8)),
    ({f'{i}': dict(dtype='U8', shape=[1000], data_offsets=[0, 1000]) for i in range(1000)}, bytes(1000)),
    (b'{' + b'"a":{'*10**5, b''), (b'[]', b''), (b'\xff'*64, b'')], ids=['beyond the end', 'larger than stored', 'overflow', 'backwards', 'overlapping', 'nested', 'a list', 'noise'])
def test_a_table_of_weights_that_lies_is_refused(tmp_path, header, data):
    path = safetensors(tmp_path/'w.safetensors', header, data)
    with pytest.raises(ValueError, match='w.safetensors: not a safetensors file'): read_weights(path)
    with pytest.raises(ValueError, match='w.safetensors'): load_weights(nn.Linear(2, 2), path)

def test_a_table_of_weights_longer_than_its_file_is_refused(tmp_path):
    (tmp_path/'w.safetensors').write_bytes(struct.pack('<Q', 2**62) + b'{}')
    with pytest.raises(ValueError, match='not a safetensors file'): read_card(tmp_path/'w.safetensors')

@pytest.mark.parametrize('card', ['[', '[]', '3', '['*10**5, '{"a": }'], ids=['open', 'list', 'number', 'nested', 'half'])
def test_a_card_that_is_none_is_refused(tmp_path, card):
    path = safetensors(tmp_path/'w.safetensors', dict(__metadata__=dict(medtut=card)))
    with pytest.raises(ValueError, match='w.safetensors: its card'): read_card(path)

def test_weights_of_other_programs_keep_their_texts(tmp_path):
    assert read_card(safetensors(tmp_path/'w.safetensors', dict(__metadata__=dict(format='pt')))) == dict(format='pt')

def test_same_model_same_bytes(tmp_path):
    model = nn.Linear(3, 2)
    one, two = (save_weights(model, tmp_path/name, **{f'k{i}': i for i in range(9)}) for name in 'ab')
    assert one.read_bytes() == two.read_bytes() and list(read_card(one)) == [f'k{i}' for i in range(9)]

def test_a_table_of_a_set_nested_without_end_is_refused(tmp_path):
    (tmp_path/'dataset.json').write_text('['*10**5)
    with pytest.raises(DataError, match="tables can't be read"): find_set(SETS['msd_brain'], tmp_path)

# --- the patient's name stays where it is

NAMES = {'PatientName': 'Zquux^Sentinella', 'PatientID': 'SENTINELLA-4711', 'ReferringPhysicianName': 'Sentinella^Doctor', 'OtherPatientIDs': 'SENTINELLA-0815',
         'PatientAddress': 'Sentinella Street 1', 'InstitutionName': 'Sentinella Hospital', 'PatientComments': 'Sentinella came late', 'AccessionNumber': 'SENTINELLA1'}

@pytest.fixture(scope='module')
def named(tmp_path_factory):
    "A breast set whose files all name the patient, in right and in wrong elements; some are damaged"
    root = tmp_path_factory.mktemp('named')/'set'
    write_duke_breast(root, patients=2, matrix=32, slices=12, n_jobs=1, progress=False)
    files = sorted(root.rglob('*.dcm'))
    for i, path in enumerate(files):
        ds = pydicom.dcmread(path)
        for keyword, value in NAMES.items(): setattr(ds, keyword, value)
        ds.add_new(0x00091001, 'LO', 'Sentinella, private')
        odd = {'PatientBirthDate': b'IS', 'PatientAge': b'UI', 'PatientSize': b'FD', 'StudyTime': b'IS'}  # a name where numbers belong: a complaint may quote it
        for keyword in odd: ds[keyword] = pydicom.DataElement(keyword, 'LO', 'Sentinella')
        ds.save_as(path)
        raw = path.read_bytes()
        for keyword, vr in odd.items():
            tag = pydicom.tag.Tag(keyword)
            start = struct.pack('<HH', tag.group, tag.element)
            assert start + b'LO' in raw
            raw = raw.replace(start + b'LO', start + vr)
        if i % 9 == 4: raw = raw[:-200]
        if i % 9 == 5: raw = raw[:600]
        if i % 9 == 6: raw = raw[:300] + b'\xff'*4 + raw[304:]
        path.write_bytes(raw)
    return root

def silent(*texts):
    for text in texts: assert 'sentinel' not in text.lower() and 'zquux' not in text.lower(), text[:2000]

def test_the_files_do_name_the_patient(named):
    "Else the tests below could not fail"
    table = scan(named, progress=False)
    assert (table.PatientName == 'Zquux^Sentinella').sum() > 5
    assert table[['note', 'error']].stack().str.contains('Sentinella').any(), 'a damaged value is quoted'
    with open(sorted(named.rglob('*.dcm'))[0], 'rb') as f: assert b'Sentinella' in f.read()

@pytest.mark.parametrize('pixels', [True, False])
def test_a_scan_without_identifying_columns_names_nobody(named, pixels, recwarn, capfd):
    table = scan(named, pixels=pixels, identifying=False, progress=False)
    assert len(table) and 'Modality' in table and 'PatientSex' not in table
    silent(table.to_csv(), *(str(w.message) for w in recwarn), *capfd.readouterr())

def medtut(*args):
    return subprocess.run([sys.executable, '-W', 'always', '-c', 'from medtut.cli import main; main()', *map(str, args)], capture_output=True, text=True)

def test_the_command_line_names_nobody(named, tmp_path):
    for done in medtut('scan', named), medtut('scan', named, '--no-pixels', '--csv', tmp_path/'scan.csv', '-j', 1), medtut('slices', named, tmp_path/'out', '--csv', tmp_path/'slices.csv', '-j', 1):
        assert 'Traceback' not in done.stderr
        silent(done.stdout, done.stderr)
    for table in 'scan.csv', 'slices.csv': silent((tmp_path/table).read_text())

def test_exported_pictures_and_their_table_name_nobody(named, tmp_path, recwarn, capfd):
    table = label_slices(read_mapping(next(named.glob('Breast*.csv'))), read_boxes(named/'Annotation_Boxes.csv'))
    done = export_slices(table, named, tmp_path/'out', progress=False)
    assert {'written', 'failed'} <= set(done.status)
    silent(done.to_csv(), *(str(w.message) for w in recwarn), *capfd.readouterr())
    for path in (tmp_path/'out').rglob('*'):
        silent(path.name)
        if path.is_file(): silent(path.read_bytes().decode('latin-1'))
        if path.suffix == '.png': assert not Image.open(path).info
