"Slices where no notebook can test them: bad tables, hostile paths, damaged files, kill -9, memory, the real boxes"
import os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import generate_uid
from hypothesis import given, settings, strategies as st

from medtut.dicom import read_dicom
from medtut.errors import DicomError
from medtut.identity import deidentify
from medtut.phantoms.breast import write_duke_breast
from medtut.slices import SliceDataset, balance, export_slices, label_slices, read_boxes, read_mapping, save_slice, volume_window

BOXES, MAPPING = 'Annotation_Boxes', 'Breast-Cancer-MRI-filepath_filename-mapping'
BOX_COLUMNS = ['Patient ID', 'Start Row', 'End Row', 'Start Column', 'End Column', 'Start Slice', 'End Slice']

@pytest.fixture(scope='session')
def duke(tmp_path_factory):
    "Five small patients: 2 and 5 padded otherwise on disk than in the table, 3 lacks a file"
    folder = tmp_path_factory.mktemp('duke')/'set'
    write_duke_breast(folder, patients=5, matrix=48, slices=40, n_jobs=1, progress=False)
    return folder

@pytest.fixture
def root(duke, tmp_path): return shutil.copytree(duke, tmp_path/'root')

@pytest.fixture(scope='session')
def slices(duke): return label_slices(read_mapping(duke/f'{MAPPING}.xlsx'), read_boxes(duke/f'{BOXES}.xlsx'))

def export(slices, root, out, **kwargs): return export_slices(slices, root, out, progress=False, **kwargs)

def pngs(out): return {p.relative_to(out).as_posix(): p for p in Path(out).glob('*/*.png')}

def state(out): return {name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for name, p in pngs(out).items()}

# --- tables

def boxes_csv(tmp_path, rows, columns=BOX_COLUMNS):
    pd.DataFrame(rows, columns=columns).to_csv(path := tmp_path/'boxes.csv', index=False)
    return path

def mapping_csv(tmp_path, rows):
    pd.DataFrame(rows, columns=['original_path_and_filename', 'classic_path']).to_csv(path := tmp_path/'mapping.csv', index=False)
    return path

def test_csv_and_xlsx_say_the_same(duke):
    assert read_boxes(duke/f'{BOXES}.csv').equals(read_boxes(duke/f'{BOXES}.xlsx'))
    assert read_mapping(duke/f'{MAPPING}.csv').equals(read_mapping(duke/f'{MAPPING}.xlsx'))

def test_columns_go_by_name(duke, tmp_path):
    "In another order, with others between them, in other case, behind a byte order mark"
    table = pd.read_csv(duke/f'{BOXES}.csv')
    table = table[table.columns[::-1]].rename(columns=lambda c: f' {c.upper()} ')
    table.insert(2, 'Comment', 'none')
    table.to_csv(tmp_path/'odd.csv', index=False, encoding='utf-8-sig')
    table.to_excel(tmp_path/'odd.xlsx', index=False)
    assert read_boxes(tmp_path/'odd.csv').equals(read_boxes(duke/f'{BOXES}.csv'))
    assert read_boxes(tmp_path/'odd.xlsx').equals(read_boxes(duke/f'{BOXES}.csv'))

def test_empty_rows_mean_nothing(duke, tmp_path):
    table = pd.read_csv(duke/f'{BOXES}.csv')
    pd.concat([table, pd.DataFrame([[None]*7]*3, columns=table.columns)]).to_excel(tmp_path/'boxes.xlsx', index=False)
    assert read_boxes(tmp_path/'boxes.xlsx').equals(read_boxes(duke/f'{BOXES}.csv'))

@pytest.mark.parametrize('row', [
    ['Breast_MRI_002', 1, 5, 1, 5, 9, 9], ['Breast_MRI_002', 1, 5, 1, 5, 0, 9], ['Breast_MRI_002', 1, 5, 9, 5, 3, 9],
    ['Breast_MRI_002', 1, 5, 1, 5, 3.5, 9], ['Breast_MRI_002', 1, 5, 1, 5, 'three', 9], ['Breast_MRI_002', 1, 5, 1, 5, None, 9],
    [' ', 1, 5, 1, 5, 3, 9], ['Breast_MRI_001', 1, 5, 1, 5, 3, 9]], ids=lambda r: '-'.join(map(str, r)))
def test_wrong_boxes(tmp_path, row):
    path = boxes_csv(tmp_path, [['Breast_MRI_001', 1, 5, 1, 5, 3, 9], row])
    with pytest.raises(ValueError, match='not one box a patient') as e: read_boxes(path)
    assert str(path) in str(e.value)

def test_no_table(duke, tmp_path):
    for name, content, reason in [('a.xlsx', b'<html>Please log in</html>', 'web page'), ('b.xlsx', b'', 'not a readable'), ('c.csv', b'', 'not a readable'),
                                  ('d.csv', b'<html>Please log in</html>', 'no column'), ('e.csv', '\xe4\xf6'.encode('latin-1'), 'not a readable')]:
        (tmp_path/name).write_bytes(content)
        for read in read_boxes, read_mapping:
            with pytest.raises(ValueError, match=reason) as e: read(tmp_path/name)
            assert name in str(e.value)
    cut = (duke/f'{MAPPING}.xlsx').read_bytes()
    (tmp_path/'cut.xlsx').write_bytes(cut[:len(cut)//2])
    with pytest.raises(ValueError, match='not a readable'): read_mapping(tmp_path/'cut.xlsx')
    with pytest.raises(ValueError, match='no such file'): read_boxes(tmp_path/'nowhere.xlsx')

def test_mapping_mends_backslashes_and_keeps_odd_rows(tmp_path):
    path = mapping_csv(tmp_path, [['DICOM_Images\\P1\\pre\\P1_pre_007.dcm', 'Duke\\P1\\1.2\\3.4\\1-007.dcm'],
                                  ['readme', 'Duke/readme.txt'], [None, 'Duke/x.dcm']])
    mapping = read_mapping(path)
    assert len(mapping) == 3 and 'uid' not in mapping
    assert mapping.iloc[0].to_dict() == dict(patient='P1', phase='pre', slice=7, path='Duke/P1/1.2/3.4/1-007.dcm')
    assert mapping.iloc[1:][['patient', 'phase', 'slice']].isna().all(axis=None)

def test_mapping_of_something_else(tmp_path):
    with pytest.raises(ValueError, match='no row names patient, phase and slice'): read_mapping(mapping_csv(tmp_path, [['a', 'b']]))
    with pytest.raises(ValueError, match='no row names patient, phase and slice'): read_mapping(mapping_csv(tmp_path, []))

# --- labels

def stack(patient, n): return pd.DataFrame(dict(patient=patient, phase='pre', slice=pd.array(range(1, n + 1), 'Int64'), path=[f'{patient}/1-{i}.dcm' for i in range(1, n + 1)]))

def box(patient, start, end): return dict(patient=patient, start_slice=start, end_slice=end)

@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 30), st.integers(0, 8))
@settings(deadline=None, max_examples=60)
def test_rule(start, thick, after, margin):
    "The tutorial's rule, slice by slice"
    end = start + thick
    found = label_slices(stack('a', end - 1 + after), pd.DataFrame([box('a', start, end)]), margin=margin)
    for s, part in zip(found.slice, found.part):
        expected = 'positive' if start <= s < end else 'negative' if s + margin <= start or s - margin > end else 'margin'
        assert part == expected

def test_labels_refuse():
    one = pd.DataFrame([box('a', 3, 6)])
    with pytest.raises(ValueError, match='1 of 2 patients have a box and no images'): label_slices(stack('a', 9), pd.DataFrame([box('a', 3, 6), box('b', 3, 6)]))
    with pytest.raises(ValueError, match='its box ends before slice 6, its images at slice 4'): label_slices(stack('a', 4), one)
    with pytest.raises(ValueError, match='come twice'): label_slices(pd.concat([stack('a', 9)]*2), one)
    with pytest.raises(ValueError, match='no slice number'): label_slices(stack('a', 9).assign(slice=pd.array([1, 2, None, 4, 5, 6, 7, 8, 9], 'Int64')), one)
    with pytest.raises(ValueError, match='margin'): label_slices(stack('a', 9), one, margin=-1)

@pytest.mark.parametrize('alike', ['Breast_MRI_001 ', 'breast_mri_001', 'Breast_MRI_001\u200b', 'Breast_MRI_001\u00a0'])
def test_one_patient_written_in_two_ways(alike):
    "Half of the slices would be left out as another patient's who has no box, or drawn as another patient's"
    mapping = pd.DataFrame(dict(patient=['Breast_MRI_001']*20 + [alike]*20, phase='pre', slice=range(1, 41), path=[f'{k}.dcm' for k in range(40)]))
    boxes = pd.DataFrame([dict(patient='Breast_MRI_001', start_row=1, end_row=5, start_column=1, end_column=5, start_slice=8, end_slice=12)])
    with pytest.raises(ValueError, match='one way') as error: label_slices(mapping, boxes)
    assert repr(alike) in str(error.value) and "'Breast_MRI_001'" in str(error.value)
    with pytest.raises(ValueError, match='one way'): label_slices(mapping[20:], boxes)
    with pytest.raises(ValueError, match='one way'): balance(mapping.assign(label=[0, 1]*20))

def test_patients_without_a_box_are_left_out():
    found = label_slices(pd.concat([stack('a', 9), stack('b', 9)]), pd.DataFrame([box('b', 3, 6)]))
    assert set(found.patient) == {'b'}

@pytest.fixture
def real_boxes():
    folder = os.environ.get('MEDTUT_REAL_FILES')
    path = Path(folder or '')/'duke'/'Annotation_Boxes.csv'
    if not folder or not path.exists(): pytest.skip('MEDTUT_REAL_FILES does not name a folder with duke/Annotation_Boxes.csv')
    return read_boxes(path)

def test_real_boxes(real_boxes):
    "2,605 positive and 13,511 negative slices in patients 1 to 100: the boxes and the total of 17,116 slices settle both, whoever has how many"
    assert len(real_boxes) == 922 and real_boxes.start_slice.min() == 1
    hundred = real_boxes[:100]
    assert hundred.patient.iloc[[0, -1]].tolist() == ['Breast_MRI_001', 'Breast_MRI_100']
    n = hundred.end_slice + 6
    n += (17_116 - n.sum())//100
    n.iloc[0] += 17_116 - n.sum()
    found = label_slices(pd.concat([stack(p, k) for p, k in zip(hundred.patient, n)], ignore_index=True), hundred)
    assert found.part.value_counts().to_dict() == dict(negative=13_511, positive=2_605, margin=1_000)

def test_first_come_quota_on_the_real_boxes(real_boxes):
    "All 2,600 negatives come from patients 1 to 20; then 82 % of the first 2,600 positives have no negative of the same patient"
    found = np.repeat(range(100), (real_boxes.end_slice - real_boxes.start_slice)[:100])[:2600]
    assert round(100*(found >= 20).mean()) == 82

# --- a fair draw

@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 5))
@settings(deadline=None, max_examples=80)
def test_balance_is_fair(counts, n, seed):
    rows = [dict(patient=f'p{i}', slice=100*label + k, label=label) for i, pair in enumerate(counts) for label, m in enumerate(pair) for k in range(m)]
    table = pd.DataFrame(rows, columns=['patient', 'slice', 'label']).astype({'label': 'Int64'})
    most = sum(min(pair) for pair in counts)
    if n > most:
        with pytest.raises(ValueError, match='to give'): balance(table, n, seed)
        return
    drawn = balance(table, n, seed)
    given_ = pd.crosstab(drawn.patient, drawn.label).reindex([f'p{i}' for i in range(len(counts))], fill_value=0)
    assert (given_[0] == given_[1]).all() and given_[1].sum() == n and drawn.index.is_unique
    room = np.array([min(pair) for pair in counts])
    assert all(given_[1].max() - g <= 1 for g, r in zip(given_[1], room) if g < r) # who gives less has no more
    assert drawn.equals(table.loc[drawn.index])

# --- export

def test_export_counts_every_row(slices, root, tmp_path):
    table = export(slices, root, tmp_path/'out')
    assert table.index.equals(slices.index) and set(table.status) == {'written', 'left out', 'failed'}
    assert (table[table.status == 'left out'].part == 'margin').all() and (table[table.status == 'left out'].reason == 'margin').all()
    failed = table[table.status == 'failed']
    assert failed.reason.str.contains('no such file').all() and (failed.patient == 'Breast_MRI_003').all()
    assert str(root) not in failed.reason.iloc[0]
    assert set(pngs(tmp_path/'out')) == set(table.png) - {''} and (table.png != '').sum() == (table.status == 'written').sum()
    for name, label in zip(table.png, table.label):
        if name: assert name.startswith({1: 'pos/', 0: 'neg/'}[label])

def test_names_padded_otherwise_are_found(slices, root, tmp_path):
    "Patients 2 and 5 have 1-07.dcm where the table says 1-007.dcm; the picture must be that very slice"
    table = export(slices, root, tmp_path/'out').query('patient == "Breast_MRI_002" and png != ""')
    assert len(table) > 10
    folder = (root/table.path.iloc[0]).parent
    window = volume_window(sorted(folder.glob('*.dcm')))
    for row in table.itertuples():
        ds = read_dicom(folder/f'1-{row.slice:02d}.dcm')
        assert ds.SOPInstanceUID == row.uid and not (root/row.path).exists()
        save_slice(ds, tmp_path/'one.png', window)
        assert (tmp_path/'one.png').read_bytes() == (tmp_path/'out'/row.png).read_bytes()

def test_a_name_that_could_be_two_files(slices, root, tmp_path):
    row = slices[(slices.patient == 'Breast_MRI_002') & slices.label.notna()].head(1)
    here = (root/row.path.iloc[0]).parent/f'1-{row.slice.iloc[0]:02d}.dcm'
    shutil.copy(here, here.with_name(f'1-{row.slice.iloc[0]:04d}.dcm'))
    table = export(row, root, tmp_path/'out')
    assert table.status.tolist() == ['failed'] and 'could be any of' in table.reason.iloc[0]

def test_another_image_under_the_right_name(slices, root, tmp_path):
    rows = slices[(slices.patient == 'Breast_MRI_001') & slices.label.notna()].head(2)
    first, second = (root/p for p in rows.path)
    shutil.copy(first, second)
    table = export(rows, root, tmp_path/'out')
    assert table.status.tolist() == ['written', 'failed'] and 'the table says' in table.reason.iloc[1]

@pytest.mark.parametrize('path', ['../../etc/passwd', '/etc/passwd', 'a/../../b.dcm', '..', 'C:/x.dcm', 'c:x.dcm', '..\\..\\x.dcm', '\\\\server\\share\\x.dcm', '//server/x', 'a\0b.dcm', ''])
def test_paths_stay_below_the_root(slices, root, tmp_path, path):
    "Refused before anything is written, even when there is such a file"
    table = slices[slices.label.notna()].head(3).copy()
    table.loc[table.index[1], 'path'] = path
    (tmp_path/'b.dcm').write_bytes(b'')
    with pytest.raises(ValueError, match='lead out'): export(table, root, tmp_path/'out')
    assert not (tmp_path/'out').exists()

@pytest.mark.parametrize('patient', ['../../evil', 'a/b', '', '.hidden', 'a b', 'x\n', '-rf'])
def test_names_that_are_no_names(slices, root, tmp_path, patient):
    with pytest.raises(ValueError, match='file name'): export(slices[slices.label.notna()].head(1).assign(patient=patient), root, tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_labels_are_two(slices, root, tmp_path):
    with pytest.raises(ValueError, match='labels must be'): export(slices[slices.label.notna()].head(2).assign(label=2), root, tmp_path/'out')

def test_names_never_collide(slices, root, tmp_path):
    known = slices[slices.label.notna()]
    for table in (pd.concat([known.head(1)]*2, ignore_index=True),
                  pd.concat([known.head(1), known.head(1).assign(patient=known.patient.iloc[0].upper())], ignore_index=True)): # on macOS and Windows the same
        with pytest.raises(ValueError, match='share a file name'): export(table, root, tmp_path/'out')
    with pytest.raises(ValueError, match='reset_index'): export(pd.concat([known.head(1)]*2), root, tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_damaged_files_cost_their_own_row(slices, root, tmp_path):
    rows = slices[(slices.patient == 'Breast_MRI_001') & slices.label.notna()].head(7)
    paths = [root/p for p in rows.path]
    paths[0].write_bytes(b'')
    paths[1].write_bytes(b'<html>Please log in</html>')
    paths[2].write_bytes(paths[2].read_bytes()[:-3000])
    paths[3].unlink()
    paths[3].mkdir()
    ds = dcmread(paths[4])
    ds.PixelData, ds.NumberOfFrames = ds.PixelData*2, 2
    ds.save_as(paths[4])
    ds = dcmread(paths[5])
    del ds.PixelData
    ds.save_as(paths[5])
    table = export(rows, root, tmp_path/'out')
    assert table.status.tolist() == ['failed']*6 + ['written']
    for i, reason in enumerate(['empty', 'web page', 'pixel data can hold', 'not a file', 'not one grey image', 'no pixel data']): assert reason in table.reason.iloc[i]

def test_a_series_of_which_nothing_can_be_read(slices, root, tmp_path):
    rows = slices[(slices.patient == 'Breast_MRI_001') & slices.label.notna()].head(3)
    shutil.rmtree((root/rows.path.iloc[0]).parent)
    assert export(rows, root, tmp_path/'out').status.tolist() == ['failed']*3

def test_other_labels_or_another_window_need_another_folder(slices, root, tmp_path):
    rows = slices[slices.label.notna()].head(4)
    export(rows, root, tmp_path/'out')
    before = state(tmp_path/'out')
    turned = export(rows.assign(label=1 - rows.label), root, tmp_path/'out')
    assert set(turned.status) == {'failed'} and turned.reason.str.contains('other labels').all() and set(turned.png) == {''}
    with pytest.raises(ValueError, match='choose another folder'): export(rows, root, tmp_path/'out', window='slice')
    assert state(tmp_path/'out') == before

def test_the_window_does_not_depend_on_which_slices_are_asked_for(slices, root, tmp_path):
    known = slices[(slices.patient == 'Breast_MRI_004') & slices.label.notna()]
    export(known, root, tmp_path/'all')
    export(known.tail(2), root, tmp_path/'two')
    for name, p in pngs(tmp_path/'two').items(): assert p.read_bytes() == (tmp_path/'all'/name).read_bytes()

def test_same_bytes_in_one_process_and_in_two(slices, root, tmp_path):
    a, b = export(slices, root, tmp_path/'a', n_jobs=1), export(slices, root, tmp_path/'b', n_jobs=2)
    assert a.equals(b)
    assert {n: p.read_bytes() for n, p in pngs(tmp_path/'a').items()} == {n: p.read_bytes() for n, p in pngs(tmp_path/'b').items()}

def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(slices, root, tmp_path, monkeypatch):
    import medtut.slices
    def full(src, dst): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(medtut.slices.os, 'replace', lambda src, dst: full(src, dst) if str(dst).endswith('.png') else os.rename(src, dst))
    with pytest.raises(OSError, match='No space left'): export(slices, root, tmp_path/'out')
    assert not [p for p in (tmp_path/'out').rglob('*') if p.suffix in ('.png', '.part')]

SCRIPT = '''
import sys, pandas as pd
from medtut.slices import export_slices
table = pd.read_pickle(sys.argv[1])
print('ready', flush=True)
export_slices(table, sys.argv[2], sys.argv[3], n_jobs=int(sys.argv[4]), progress=False)
'''

@pytest.mark.parametrize('n_jobs', [1, 2])
def test_killed_and_run_again(slices, root, tmp_path, n_jobs):
    "kill -9 at random moments, of the process alone or with its workers: what is there is whole, and the last run adds only what lacked"
    slices.to_pickle(tmp_path/'table.pkl')
    export(slices, root, tmp_path/'whole')
    whole = {n: p.read_bytes() for n, p in pngs(tmp_path/'whole').items()}
    rng, out, killed, stopped = random.Random(n_jobs), tmp_path/'out', 0, []
    for i in range(4):
        run = subprocess.Popen([sys.executable, '-c', SCRIPT, tmp_path/'table.pkl', root, out, str(n_jobs)], stdout=subprocess.PIPE, start_new_session=True)
        run.stdout.readline()
        wanted = len(pngs(out)) + rng.randrange(5, 20)
        while run.poll() is None and len(pngs(out)) < wanted: time.sleep(.0005)
        killed += run.poll() is None
        os.killpg(run.pid, signal.SIGKILL) if i % 2 else run.kill()
        run.wait()
        run.stdout.close()
        if n_jobs == 2: # workers that outlived their parent finish what they have in hand
            try: os.killpg(run.pid, signal.SIGKILL)
            except ProcessLookupError: pass
        time.sleep(.2)
        for name, p in pngs(out).items(): assert p.read_bytes() == whole[name]
        stopped.append(len(pngs(out)))
    assert killed >= 1 and stopped[0] < len(whole)
    before = state(out)
    table = export(slices, root, out, n_jobs=n_jobs)
    after = state(out)
    assert {n: content for n, (*_, content) in after.items()} == whole
    assert all(after[name] == before[name] for name in before), 'a file was written twice'
    assert (table.status == 'there already').sum() == len(before)
    assert not list(out.glob('*/.*'))

def test_memory_stays_bounded(tmp_path):
    "400 slices of 512 x 512 take as float32 420 MB; exporting them takes a fraction of that"
    from medtut.phantoms.breast import draw_patient, breast_phantom, slice_dataset
    b = breast_phantom(draw_patient(np.random.default_rng(0)), 32, 8)
    b.image = np.random.default_rng(0).integers(0, 4000, (1, 512, 512)).astype(b.image.dtype)
    ds = slice_dataset(b, 1, 'P', ('1.2', '1.3', '1.4', '1.5'), 'pre')
    (tmp_path/'root').mkdir()
    ds.save_as(tmp_path/'root'/'1-001.dcm', enforce_file_format=True)
    for k in range(2, 401): os.link(tmp_path/'root'/'1-001.dcm', tmp_path/'root'/f'1-{k:03d}.dcm')
    table = pd.DataFrame(dict(patient='P', slice=range(1, 401), path=[f'1-{k:03d}.dcm' for k in range(1, 401)], label=1))
    table.to_pickle(tmp_path/'table.pkl')
    code = SCRIPT + '\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
    code = code.replace("print('ready', flush=True)", "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    done = subprocess.run([sys.executable, '-c', code, tmp_path/'table.pkl', tmp_path/'root', tmp_path/'out', '1'], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert len(pngs(tmp_path/'out')) == 400 and (after - before)*1024 < 150e6

# --- the sample set

def test_phantoms_are_marked(duke):
    "In each header, and in such a way that the folder's patient is still to be found in it"
    files = sorted((duke/'Duke-Breast-Cancer-MRI').rglob('*.dcm'))
    for path in files:
        ds = dcmread(path)
        assert ds.QualityControlSubject == ds.QualityControlImage == 'YES' and 'PHANTOM' in ds.ImageComments
        assert ds.PatientID == ds.PatientName == f'PHANTOM-{path.parts[-4]}'

# --- one slice, and the data set

@pytest.fixture(scope='session')
def one(duke): return sorted((duke/'Duke-Breast-Cancer-MRI'/'Breast_MRI_001').glob('*/*/*.dcm'))[20]

def test_readers_agree_on_the_png(one, tmp_path):
    p = save_slice(read_dicom(one), tmp_path/'a.png')
    assert np.array_equal(np.array(Image.open(p)), cv2.imread(str(p), cv2.IMREAD_GRAYSCALE)) and Image.open(p).mode == 'L'

def test_the_tutorials_scaling_within_one_grey(one, tmp_path):
    x = dcmread(one).pixel_array.astype(float)
    found = np.array(Image.open(save_slice(read_dicom(one), tmp_path/'a.png'))).astype(int)
    assert abs(found - (x*255/x.max()).astype(np.uint8)).max() <= 1

def test_a_message_names_the_file_or_the_data_set(one, tmp_path):
    "After `deidentify`, `copy` and reading bytes a data set has no file: no message begins with None"
    ds = read_dicom(one)
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData*2
    with pytest.raises(DicomError, match=f'{one.name}: not one grey image'): save_slice(ds, tmp_path/'a.png')
    for filename in None, '':
        ds.filename = filename
        with pytest.raises(DicomError, match='^data set: not one grey image'): save_slice(ds, tmp_path/'a.png')
    with pytest.raises(DicomError, match='^data set: not one grey image'): save_slice(deidentify(ds, key=b'k'), tmp_path/'a.png')

@pytest.mark.parametrize('value', [0, -5])
def test_an_image_of_nothing_is_black(one, tmp_path, value):
    ds = read_dicom(one)
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 16, 15
    ds.PixelData = np.full((ds.Rows, ds.Columns), value, '<i2').tobytes()
    assert not np.array(Image.open(save_slice(ds, tmp_path/'a.png'))).any()

def test_volume_window(duke):
    files = sorted((duke/'Duke-Breast-Cancer-MRI'/'Breast_MRI_001').glob('*/*/*.dcm'))
    low, high = np.percentile(np.stack([dcmread(f).pixel_array for f in files]), [1, 99.5])
    width, level = volume_window(files)
    assert abs(width - (high - low)) < .1*(high - low) and abs(level - (high + low)/2) < .1*(high - low)
    with pytest.raises(DicomError): volume_window([])
    with pytest.raises(DicomError, match='no such file'): volume_window([duke/'nowhere.dcm'])

def test_dataset(slices, root, tmp_path):
    table = export(slices, root, tmp_path/'out')
    data = SliceDataset(table[table.png != ''].reset_index(drop=True), tmp_path/'out', 32)
    x, y = data[0]
    assert len(data) == (table.png != '').sum() and x.shape == (1, 32, 32) and str(x.dtype) == 'torch.float32' and y in (0, 1)
    (tmp_path/'out'/data.png[1]).write_bytes(b'not an image')
    with pytest.raises(ValueError, match='not an image'): data[1]
    with pytest.raises(ValueError, match='no PNG'): SliceDataset(table, tmp_path/'out')
