"Slices where no notebook can test them: bad tables, hostile paths, damage, kill -9, memory"
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from pydicom import dcmread

from medtut.dicom import read_dicom
from medtut.errors import DicomError
from medtut.identity import deidentify
from medtut.phantoms.breast import write_duke_breast
from medtut.pngs import export_slices, save_slice, volume_window
from medtut.slices import SliceDataset, balance, label_slices, read_boxes, read_mapping

BOXES, MAPPING = 'Annotation_Boxes', 'Breast-Cancer-MRI-filepath_filename-mapping'
BOX_COLUMNS = ['Patient ID', 'Start Row', 'End Row', 'Start Column', 'End Column',
    'Start Slice', 'End Slice']

@pytest.fixture(scope='session')
def duke(tmp_path_factory):
    "Five small patients: 2 and 5 padded otherwise on disk than in the table, 3 lacks a file"
    folder = tmp_path_factory.mktemp('duke')/'set'
    write_duke_breast(folder, patients=5, matrix=48, slices=40, n_jobs=1, progress=False)
    return folder

@pytest.fixture
def root(duke, tmp_path):
    return shutil.copytree(duke, tmp_path/'root')

@pytest.fixture(scope='session')
def slices(duke):
    mapping, boxes = read_mapping(duke/f'{MAPPING}.xlsx'), read_boxes(duke/f'{BOXES}.xlsx')
    return label_slices(mapping, boxes)

def labelled(slices): return slices[slices.label.notna()]

def labelled_of(slices, patient):
    known = labelled(slices)
    return known[known.patient == patient]

def files_of(root, patient):
    return sorted((root/'Duke-Breast-Cancer-MRI'/patient).glob('*/*/*.dcm'))

def export(slices, root, out, **kwargs):
    return export_slices(slices, root, out, progress=False, **kwargs)

def pngs(out):
    return {p.relative_to(out).as_posix(): p for p in Path(out).glob('*/*.png')}

def contents(out):
    return {name: p.read_bytes() for name, p in pngs(out).items()}

def times(out):
    "When, and as which file, each PNG was written"
    stats = {name: p.stat() for name, p in pngs(out).items()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

def greys(png):
    return np.array(Image.open(png))

# --- tables

def boxes_csv(tmp_path, rows):
    path = tmp_path/'boxes.csv'
    pd.DataFrame(rows, columns=BOX_COLUMNS).to_csv(path, index=False)
    return path

def mapping_csv(tmp_path, rows):
    path = tmp_path/'mapping.csv'
    columns = ['original_path_and_filename', 'classic_path']
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path

def test_csv_and_xlsx_say_the_same(duke):
    for read, name in (read_boxes, BOXES), (read_mapping, MAPPING):
        csv, xlsx = read(duke/f'{name}.csv'), read(duke/f'{name}.xlsx')
        assert csv.equals(xlsx)

def test_columns_go_by_name(duke, tmp_path):
    "In another order, with others between them, in other case, behind a byte order mark"
    table = pd.read_csv(duke/f'{BOXES}.csv')
    table = table[table.columns[::-1]]
    table.columns = [f' {name.upper()} ' for name in table.columns]
    table.insert(2, 'Comment', 'none')
    table.to_csv(tmp_path/'odd.csv', index=False, encoding='utf-8-sig')
    table.to_excel(tmp_path/'odd.xlsx', index=False)
    expected = read_boxes(duke/f'{BOXES}.csv')
    assert read_boxes(tmp_path/'odd.csv').equals(expected)
    assert read_boxes(tmp_path/'odd.xlsx').equals(expected)

def test_empty_rows_mean_nothing(duke, tmp_path):
    table = pd.read_csv(duke/f'{BOXES}.csv')
    empty = pd.DataFrame([[None]*7]*3, columns=table.columns)
    pd.concat([table, empty]).to_excel(tmp_path/'boxes.xlsx', index=False)
    assert read_boxes(tmp_path/'boxes.xlsx').equals(read_boxes(duke/f'{BOXES}.csv'))

WRONG_BOXES = [
    ['Breast_MRI_002', 1, 5, 1, 5, 9, 9], ['Breast_MRI_002', 1, 5, 1, 5, 0, 9],
    ['Breast_MRI_002', 1, 5, 9, 5, 3, 9], ['Breast_MRI_002', 1, 5, 1, 5, 3.5, 9],
    ['Breast_MRI_002', 1, 5, 1, 5, 'three', 9], ['Breast_MRI_002', 1, 5, 1, 5, None, 9],
    [' ', 1, 5, 1, 5, 3, 9], ['Breast_MRI_001', 1, 5, 1, 5, 3, 9]]

@pytest.mark.parametrize('row', WRONG_BOXES, ids=lambda row: '-'.join(map(str, row)))
def test_wrong_boxes(tmp_path, row):
    path = boxes_csv(tmp_path, [['Breast_MRI_001', 1, 5, 1, 5, 3, 9], row])
    with pytest.raises(ValueError, match='not one box a patient') as e:
        read_boxes(path)
    assert str(path) in str(e.value)

@pytest.mark.parametrize('read', [read_boxes, read_mapping])
@pytest.mark.parametrize('name, content, reason', [
    ('a.xlsx', b'<html>Please log in</html>', 'web page'),
    ('b.xlsx', b'', 'not a readable'),
    ('c.csv', b'', 'not a readable'),
    ('d.csv', b'<html>Please log in</html>', 'no column'),
    ('e.csv', '\xe4\xf6'.encode('latin-1'), 'not a readable')])
def test_no_table(tmp_path, read, name, content, reason):
    (tmp_path/name).write_bytes(content)
    with pytest.raises(ValueError, match=reason) as e:
        read(tmp_path/name)
    assert name in str(e.value)

def test_half_a_table_or_none(duke, tmp_path):
    whole = (duke/f'{MAPPING}.xlsx').read_bytes()
    (tmp_path/'cut.xlsx').write_bytes(whole[:len(whole)//2])
    with pytest.raises(ValueError, match='not a readable'):
        read_mapping(tmp_path/'cut.xlsx')
    with pytest.raises(ValueError, match='no such file'):
        read_boxes(tmp_path/'nowhere.xlsx')

def test_mapping_mends_backslashes_and_keeps_odd_rows(tmp_path):
    path = mapping_csv(tmp_path, [
        ['DICOM_Images\\P1\\pre\\P1_pre_007.dcm', 'Duke\\P1\\1.2\\3.4\\1-007.dcm'],
        ['readme', 'Duke/readme.txt'], [None, 'Duke/x.dcm']])
    mapping = read_mapping(path)
    assert len(mapping) == 3
    assert 'uid' not in mapping
    expected = dict(patient='P1', phase='pre', slice=7, path='Duke/P1/1.2/3.4/1-007.dcm')
    assert mapping.iloc[0].to_dict() == expected
    assert mapping.iloc[1:][['patient', 'phase', 'slice']].isna().all(axis=None)

@pytest.mark.parametrize('rows', [[['a', 'b']], []])
def test_mapping_of_something_else(tmp_path, rows):
    path = mapping_csv(tmp_path, rows)
    with pytest.raises(ValueError, match='no row names patient, phase and slice'):
        read_mapping(path)

# --- labels

def stack(patient, n):
    "The mapping of one series of `n` slices"
    numbers = range(1, n + 1)
    return pd.DataFrame(dict(patient=patient, phase='pre', slice=pd.array(numbers, 'Int64'),
        path=[f'{patient}/1-{k}.dcm' for k in numbers]))

def box(patient, start, end):
    return dict(patient=patient, start_slice=start, end_slice=end)

def boxes_of(*boxes):
    return pd.DataFrame([box(*b) for b in boxes])

def part_of(k, start, end, margin):
    "The tutorial's rule, slice by slice"
    if start <= k < end: return 'positive'
    if k + margin <= start or k - margin > end:
        return 'negative'
    return 'margin'

@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 30), st.integers(0, 8))
@settings(deadline=None, max_examples=60)
def test_rule(start, thick, after, margin):
    end = start + thick
    boxes = boxes_of(('a', start, end))
    table = label_slices(stack('a', end - 1 + after), boxes, margin=margin)
    assert table.part.tolist() == [part_of(k, start, end, margin) for k in table.slice]

def test_labels_refuse():
    nine, one = stack('a', 9), boxes_of(('a', 3, 6))
    unnumbered = nine.assign(slice=nine.slice.where(nine.slice != 3))
    with pytest.raises(ValueError, match='1 of 2 patients have a box and no images'):
        label_slices(nine, boxes_of(('a', 3, 6), ('b', 3, 6)))
    with pytest.raises(ValueError,
            match='its box ends before slice 6, its images at slice 4'):
        label_slices(stack('a', 4), one)
    twice = pd.concat([nine]*2)
    with pytest.raises(ValueError, match='come twice'):
        label_slices(twice, one)
    with pytest.raises(ValueError, match='no slice number'):
        label_slices(unnumbered, one)
    with pytest.raises(ValueError, match='margin'):
        label_slices(nine, one, margin=-1)

@pytest.mark.parametrize('alike',
    ['Breast_MRI_001 ', 'breast_mri_001', 'Breast_MRI_001\u200b', 'Breast_MRI_001\u00a0'])
def test_one_patient_written_in_two_ways(alike):
    """Half of the slices would be left out as another patient's who has no box,
    or drawn as another patient's"""
    patients = ['Breast_MRI_001']*20 + [alike]*20
    mapping = stack('any', 40).assign(patient=patients)
    boxes = boxes_of(('Breast_MRI_001', 8, 12))
    with pytest.raises(ValueError, match='one way') as error:
        label_slices(mapping, boxes)
    assert repr(alike) in str(error.value)
    assert "'Breast_MRI_001'" in str(error.value)
    with pytest.raises(ValueError, match='one way'):
        label_slices(mapping[20:], boxes)
    with_labels = mapping.assign(label=[0, 1]*20)
    with pytest.raises(ValueError, match='one way'):
        balance(with_labels)

def test_patients_without_a_box_are_left_out():
    both = pd.concat([stack('a', 9), stack('b', 9)])
    assert set(label_slices(both, boxes_of(('b', 3, 6))).patient) == {'b'}

@pytest.fixture
def real_boxes():
    folder = os.environ.get('MEDTUT_REAL_FILES')
    path = Path(folder or '')/'duke'/'Annotation_Boxes.csv'
    if not folder or not path.exists():
        pytest.skip('MEDTUT_REAL_FILES does not name a folder with duke/Annotation_Boxes.csv')
    return read_boxes(path)

def test_real_boxes(real_boxes):
    """2,605 positive and 13,511 negative slices in patients 1 to 100

    The boxes and the total of 17,116 slices settle both, whoever has how many"""
    assert len(real_boxes) == 922
    assert real_boxes.start_slice.min() == 1
    hundred = real_boxes[:100]
    assert hundred.patient.iloc[[0, -1]].tolist() == ['Breast_MRI_001', 'Breast_MRI_100']
    lengths = hundred.end_slice + 6
    lengths += (17_116 - lengths.sum())//100
    lengths.iloc[0] += 17_116 - lengths.sum()
    stacks = [stack(patient, n) for patient, n in zip(hundred.patient, lengths)]
    table = label_slices(pd.concat(stacks, ignore_index=True), hundred)
    assert table.part.value_counts().to_dict() == dict(
        negative=13_511, positive=2_605, margin=1_000)

def test_first_come_quota_on_the_real_boxes(real_boxes):
    """All 2,600 negatives come from patients 1 to 20

    Then 82 % of the first 2,600 positives have no negative of the same patient"""
    positives = (real_boxes.end_slice - real_boxes.start_slice)[:100]
    patient = np.repeat(range(100), positives)[:2600]
    assert round(100*(patient >= 20).mean()) == 82

# --- a fair draw

def table_of(counts):
    "A table of slices: for each patient the numbers of negatives and positives"
    rows = []
    for i, pair in enumerate(counts):
        for label, n in enumerate(pair):
            rows += [(f'p{i}', 100*label + k, label) for k in range(n)]
    table = pd.DataFrame(rows, columns=['patient', 'slice', 'label'])
    return table.astype({'label': 'Int64'})

pairs = st.tuples(st.integers(0, 12), st.integers(0, 12))

@given(st.lists(pairs, min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 5))
@settings(deadline=None, max_examples=80)
def test_balance_is_fair(counts, n, seed):
    table = table_of(counts)
    room = np.array([min(pair) for pair in counts])
    if n > room.sum():
        with pytest.raises(ValueError, match='to give'):
            balance(table, n, seed)
        return
    drawn = balance(table, n, seed)
    patients = [f'p{i}' for i in range(len(counts))]
    share = pd.crosstab(drawn.patient, drawn.label).reindex(patients, fill_value=0)
    assert (share[0] == share[1]).all()
    assert share[1].sum() == n
    assert drawn.index.is_unique
    given_less = share[1].max() - share[1].to_numpy()
    has_more = share[1].to_numpy() < room
    assert (given_less[has_more] <= 1).all() # who gives less has no more
    assert drawn.equals(table.loc[drawn.index])

def test_balance_where_labels_of_the_index_repeat():
    "Two tables put together: before, `.loc` gave rows of one label together, with a margin's"
    a = pd.DataFrame(dict(patient='A', slice=[1, 9], label=[1, 0]))
    b = pd.DataFrame(dict(patient='B', slice=[5, 9, 1], label=[None, 0, 1]))
    drawn = balance(pd.concat([a, b]).astype(dict(label='Int64')))
    assert drawn.patient.tolist() == ['A', 'A', 'B', 'B']
    assert drawn.slice.tolist() == [1, 9, 1, 9]
    assert drawn.label.tolist() == [1, 0, 1, 0]

def test_balance_draws_the_same_whatever_the_order_of_the_rows():
    "Before, once rows were taken by place, a shuffled table gave them in its own order"
    table = table_of([(3, 5), (4, 2), (6, 6)])
    drawn = balance(table, 6, seed=1)
    places = drawn.set_index(['patient', 'slice']).index
    assert places.is_monotonic_increasing
    for seed in range(5):
        assert drawn.equals(balance(table.sample(frac=1, random_state=seed), 6, seed=1))

# --- export

def test_export_counts_every_row(slices, root, tmp_path):
    table = export(slices, root, tmp_path/'out')
    assert table.index.equals(slices.index)
    assert set(table.status) == {'written', 'left out', 'failed'}
    left_out = table[table.status == 'left out']
    assert (left_out.part == 'margin').all()
    assert (left_out.reason == 'margin').all()
    failed = table[table.status == 'failed']
    assert failed.reason.str.contains('no such file').all()
    assert (failed.patient == 'Breast_MRI_003').all()
    assert str(root) not in failed.reason.iloc[0]
    written = table[table.status == 'written']
    assert set(pngs(tmp_path/'out')) == set(written.png)
    assert (table.png != '').sum() == len(written)
    folder = written.label.map({1: 'pos', 0: 'neg'})
    assert (written.png.str.partition('/')[0] == folder).all()

def test_names_padded_otherwise_are_found(slices, root, tmp_path):
    "Patient 2 has 1-07.dcm where the table says 1-007.dcm; the picture must be that very slice"
    table = export(slices, root, tmp_path/'out').query('patient == "Breast_MRI_002" and png != ""')
    assert len(table) > 10
    folder = (root/table.path.iloc[0]).parent
    window = volume_window(sorted(folder.glob('*.dcm')))
    for row in table.itertuples():
        ds = read_dicom(folder/f'1-{row.slice:02d}.dcm')
        assert ds.SOPInstanceUID == row.uid
        assert not (root/row.path).exists()
        png = save_slice(ds, tmp_path/'one.png', window)
        assert png.read_bytes() == (tmp_path/'out'/row.png).read_bytes()

def test_a_name_that_could_be_two_files(slices, root, tmp_path):
    row = labelled_of(slices, 'Breast_MRI_002').head(1)
    number = row.slice.iloc[0]
    path = (root/row.path.iloc[0]).parent/f'1-{number:02d}.dcm'
    shutil.copy(path, path.with_name(f'1-{number:04d}.dcm'))
    table = export(row, root, tmp_path/'out')
    assert table.status.tolist() == ['failed']
    assert 'could be any of' in table.reason.iloc[0]

def test_another_image_under_the_right_name(slices, root, tmp_path):
    rows = labelled_of(slices, 'Breast_MRI_001').head(2)
    first, second = [root/path for path in rows.path]
    shutil.copy(first, second)
    table = export(rows, root, tmp_path/'out')
    assert table.status.tolist() == ['written', 'failed']
    assert 'the table says' in table.reason.iloc[1]

@pytest.mark.parametrize('path', [
    '../../etc/passwd', '/etc/passwd', 'a/../../b.dcm', '..', 'C:/x.dcm', 'c:x.dcm',
    '..\\..\\x.dcm', '\\\\server\\share\\x.dcm', '//server/x', 'a\0b.dcm', ''])
def test_paths_stay_below_the_root(slices, root, tmp_path, path):
    "Refused before anything is written, even when there is such a file"
    table = labelled(slices).head(3).copy()
    table.loc[table.index[1], 'path'] = path
    (tmp_path/'b.dcm').write_bytes(b'')
    with pytest.raises(ValueError, match='lead out'):
        export(table, root, tmp_path/'out')
    assert not (tmp_path/'out').exists()

@pytest.mark.parametrize('patient', ['../../evil', 'a/b', '', '.hidden', 'a b', 'x\n', '-rf'])
def test_names_that_are_no_names(slices, root, tmp_path, patient):
    table = labelled(slices).head(1).assign(patient=patient)
    with pytest.raises(ValueError, match='file name'):
        export(table, root, tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_labels_are_two(slices, root, tmp_path):
    table = labelled(slices).head(2).assign(label=2)
    with pytest.raises(ValueError, match='labels must be'):
        export(table, root, tmp_path/'out')

def test_names_never_collide(slices, root, tmp_path):
    first = labelled(slices).head(1)
    in_capitals = first.assign(patient=first.patient.str.upper()) # the same on macOS and Windows
    for other in first, in_capitals:
        table = pd.concat([first, other], ignore_index=True)
        with pytest.raises(ValueError, match='share a file name'):
            export(table, root, tmp_path/'out')
    with pytest.raises(ValueError, match='reset_index'):
        export(pd.concat([first]*2), root, tmp_path/'out')
    assert not (tmp_path/'out').exists()

def with_two_frames(path):
    ds = dcmread(path)
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData*2
    ds.save_as(path)

def without_pixels(path):
    ds = dcmread(path)
    del ds.PixelData
    ds.save_as(path)

def as_folder(path):
    path.unlink()
    path.mkdir()

DAMAGE = {
    'empty': lambda path: path.write_bytes(b''),
    'web page': lambda path: path.write_bytes(b'<html>Please log in</html>'),
    'pixel data can hold': lambda path: path.write_bytes(path.read_bytes()[:-3000]),
    'not a file': as_folder,
    'not one grey image': with_two_frames,
    'no pixel data': without_pixels}

def test_damaged_files_cost_their_own_row(slices, root, tmp_path):
    rows = labelled_of(slices, 'Breast_MRI_001').head(len(DAMAGE) + 1)
    for path, damage in zip(rows.path, DAMAGE.values()):
        damage(root/path)
    table = export(rows, root, tmp_path/'out')
    assert table.status.tolist() == ['failed']*len(DAMAGE) + ['written']
    for said, reason in zip(table.reason, DAMAGE):
        assert reason in said

def test_a_series_of_which_nothing_can_be_read(slices, root, tmp_path):
    rows = labelled_of(slices, 'Breast_MRI_001').head(3)
    shutil.rmtree((root/rows.path.iloc[0]).parent)
    assert export(rows, root, tmp_path/'out').status.tolist() == ['failed']*3

def test_other_labels_or_another_window_need_another_folder(slices, root, tmp_path):
    out, rows = tmp_path/'out', labelled(slices).head(4)
    export(rows, root, out)
    before = contents(out), times(out)
    turned = export(rows.assign(label=1 - rows.label), root, out)
    assert set(turned.status) == {'failed'}
    assert set(turned.png) == {''}
    assert turned.reason.str.contains('other labels').all()
    with pytest.raises(ValueError, match='choose another folder'):
        export(rows, root, out, window='slice')
    assert (contents(out), times(out)) == before

def test_the_window_does_not_depend_on_which_slices_are_asked_for(slices, root, tmp_path):
    known = labelled_of(slices, 'Breast_MRI_004')
    export(known, root, tmp_path/'all')
    export(known.tail(2), root, tmp_path/'two')
    two = contents(tmp_path/'two')
    assert len(two) == 2
    assert two.items() <= contents(tmp_path/'all').items()

def test_same_bytes_in_one_process_and_in_two(slices, root, tmp_path):
    one = export(slices, root, tmp_path/'one', n_jobs=1)
    two = export(slices, root, tmp_path/'two', n_jobs=2)
    assert one.equals(two)
    assert contents(tmp_path/'one') == contents(tmp_path/'two')

def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(
        slices, root, tmp_path, monkeypatch):
    import medtut.pngs
    def replace(source, target):
        if str(target).endswith('.png'):
            raise OSError(28, 'No space left on device')
        os.rename(source, target)
    monkeypatch.setattr(medtut.pngs.os, 'replace', replace)
    with pytest.raises(OSError, match='No space left'):
        export(slices, root, tmp_path/'out')
    written = [p for p in (tmp_path/'out').rglob('*') if p.suffix in ('.png', '.part')]
    assert not written

SCRIPT = '''
import resource, sys
import pandas as pd
from medtut.pngs import export_slices

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

table = pd.read_pickle(sys.argv[1])
print(peak(), flush=True)
export_slices(table, sys.argv[2], sys.argv[3], n_jobs=int(sys.argv[4]), progress=False)
print(peak(), flush=True)
'''

def script(*arguments):
    return [sys.executable, '-c', SCRIPT, *map(str, arguments)]

def kill(run, group):
    "kill -9 a process, alone or with its workers"
    if group: os.killpg(run.pid, signal.SIGKILL)
    else: run.kill()
    run.wait()

def run_and_kill(command, out, more, group):
    "Start an export and kill it when `more` files are there; whether it was still at work"
    run = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    run.stdout.readline()
    wanted = len(pngs(out)) + more
    while run.poll() is None:
        if len(pngs(out)) >= wanted: break
        time.sleep(.0005)
    at_work = run.poll() is None
    kill(run, group)
    run.stdout.close()
    # workers that outlived their parent finish what they have in hand
    try: os.killpg(run.pid, signal.SIGKILL)
    except ProcessLookupError: pass
    time.sleep(.2)
    return at_work

def test_killed_and_run_again(slices, root, tmp_path):
    """kill -9 at random moments, of the process alone or with its workers

    What is there is whole, and the last run adds only what lacked. `test_crash.py` kills one that
    works alone"""
    slices.to_pickle(tmp_path/'table.pkl')
    export(slices, root, tmp_path/'whole')
    whole, out = contents(tmp_path/'whole'), tmp_path/'out'
    command = script(tmp_path/'table.pkl', root, out, 2)
    rng, at_work, there = random.Random(2), [], []
    for i in range(3):
        at_work.append(run_and_kill(command, out, rng.randrange(5, 20), group=i % 2))
        assert contents(out).items() <= whole.items()
        there.append(len(pngs(out)))
    assert any(at_work)
    assert there[0] < len(whole)
    before = times(out)
    table = export(slices, root, out, n_jobs=2)
    assert contents(out) == whole
    assert before.items() <= times(out).items(), 'a file was written twice'
    assert (table.status == 'there already').sum() == len(before)
    assert not list(out.glob('*/.*'))

def large_slice(path):
    "A slice of 512 x 512 pixels of noise"
    from medtut.phantoms.breast import SliceUids, breast_phantom, slice_dataset
    from medtut.phantoms.breast_anatomy import draw_breast_patient
    b = breast_phantom(draw_breast_patient(np.random.default_rng(0)), 32, 8)
    noise = np.random.default_rng(0).integers(0, 4000, (1, 512, 512))
    b.image = noise.astype(b.image.dtype)
    ds = slice_dataset(b, 1, 'P', SliceUids('1.2', '1.3', '1.4', '1.5'), 'pre')
    ds.save_as(path, enforce_file_format=True)

def test_memory_stays_bounded(tmp_path):
    "400 slices of 512 x 512 take as float32 420 MB; exporting them takes a fraction of that"
    root, numbers = tmp_path/'root', range(1, 401)
    root.mkdir()
    large_slice(root/'1-001.dcm')
    paths = [f'1-{k:03d}.dcm' for k in numbers]
    for path in paths[1:]:
        os.link(root/'1-001.dcm', root/path)
    table = pd.DataFrame(dict(patient='P', slice=numbers, path=paths, label=1))
    table.to_pickle(tmp_path/'table.pkl')
    command = script(tmp_path/'table.pkl', root, tmp_path/'out', 1)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split()) # kilobytes
    assert len(pngs(tmp_path/'out')) == 400
    assert (after - before)*1024 < 150e6

# --- the sample set

def test_phantoms_are_marked(duke):
    "In each header, and in such a way that the folder's patient is still to be found in it"
    for path in sorted((duke/'Duke-Breast-Cancer-MRI').rglob('*.dcm')):
        ds = dcmread(path)
        assert ds.QualityControlSubject == ds.QualityControlImage == 'YES'
        assert 'PHANTOM' in ds.ImageComments
        assert ds.PatientID == ds.PatientName == f'PHANTOM-{path.parts[-4]}'

# --- one slice, and the data set

@pytest.fixture(scope='session')
def one(duke): return files_of(duke, 'Breast_MRI_001')[20]

def test_readers_agree_on_the_png(one, tmp_path):
    png = save_slice(read_dicom(one), tmp_path/'a.png')
    assert np.array_equal(greys(png), cv2.imread(str(png), cv2.IMREAD_GRAYSCALE))
    assert Image.open(png).mode == 'L'

def test_the_tutorials_scaling_within_one_grey(one, tmp_path):
    x = dcmread(one).pixel_array.astype(float)
    tutorial = (x*255/x.max()).astype(np.uint8)
    ours = greys(save_slice(read_dicom(one), tmp_path/'a.png')).astype(int)
    assert abs(ours - tutorial).max() <= 1

def test_a_message_names_the_file_or_the_data_set(one, tmp_path):
    "After `deidentify`, `copy` and reading bytes a data set has no file: no message says None"
    ds, png = read_dicom(one), tmp_path/'a.png'
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData*2
    with pytest.raises(DicomError, match=f'{one.name}: not one grey image'):
        save_slice(ds, png)
    for filename in None, '':
        ds.filename = filename
        with pytest.raises(DicomError, match='^data set: not one grey image'):
            save_slice(ds, png)
    with pytest.raises(DicomError, match='^data set: not one grey image'):
        save_slice(deidentify(ds, key=b'k'), png)

@pytest.mark.parametrize('value', [0, -5])
def test_an_image_of_nothing_is_black(one, tmp_path, value):
    ds = read_dicom(one)
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 16, 15
    ds.PixelData = np.full((ds.Rows, ds.Columns), value, '<i2').tobytes()
    assert not greys(save_slice(ds, tmp_path/'a.png')).any()

def test_volume_window(duke):
    files = files_of(duke, 'Breast_MRI_001')
    stored = np.stack([dcmread(f).pixel_array for f in files])
    low, high = np.percentile(stored, [1, 99.5])
    window = volume_window(files)
    assert abs(window.width - (high - low)) < .1*(high - low)
    assert abs(window.level - (high + low)/2) < .1*(high - low)
    with pytest.raises(DicomError): volume_window([])
    with pytest.raises(DicomError, match='no such file'):
        volume_window([duke/'nowhere.dcm'])

def known_slices(slices, root, out):
    "Rows with a PNG, and the folder they are in"
    table = export(slices, root, out)
    return table[table.png != ''].reset_index(drop=True)

def test_dataset(slices, root, tmp_path):
    out = tmp_path/'out'
    known = known_slices(slices, root, out)
    data = SliceDataset(known, out, 32)
    x, y = data[0]
    assert len(data) == len(known)
    assert x.shape == (1, 32, 32)
    assert str(x.dtype) == 'torch.float32'
    assert y in (0, 1)
    assert data.y.tolist() == known.label.tolist()
    with pytest.raises(ValueError, match='no PNG'):
        SliceDataset(known.assign(png=''), out)
    with pytest.raises(ValueError, match='per must be'):
        SliceDataset(known, out, per='head')
    (out/known.png[1]).write_bytes(b'not an image')
    with pytest.raises(ValueError, match='not an image'):
        SliceDataset(known, out, 32)

def test_slices_of_a_patient_share_a_scale(slices, root, tmp_path):
    "By volume the greys of a patient are moved and stretched alike; by slice each for itself"
    out = tmp_path/'out'
    known = known_slices(slices, root, out)
    by_volume = SliceDataset(known, out, 48).x.numpy()
    by_slice = SliceDataset(known, out, 48, per='slice').x.numpy()
    for patient in known.patient.unique():
        rows = np.flatnonzero(known.patient == patient)
        stored = np.stack([greys(out/png) for png in known.png[rows]]).astype(float)
        scaled = (stored - stored.mean())/stored.std()
        np.testing.assert_allclose(by_volume[rows, 0], scaled, atol=1e-4)
        assert abs(by_slice[rows].mean((1, 2, 3))).max() < 1e-5
        assert abs(by_volume[rows].mean((1, 2, 3))).max() > .01
