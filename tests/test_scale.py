"The same calls on a Dask cluster give the same results, and memory doesn't grow with the files"
import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import joblib
import pandas as pd
import pydicom
import pytest
from dask.distributed import Client, LocalCluster
from fastcore.nbio import read_nb

from medtut.cases import find_cases
from medtut.datasets import SETS, get_data
from medtut.dicom import find_dicoms, scan
from medtut.grading import GradingDataset
from medtut.pngs import export_slices
from medtut.predict import predict_cases
from medtut.slices import label_slices, read_boxes, read_mapping
from medtut.unet import UNet3D, load_unet

files = Path(pydicom.__file__).parent/'data'/'test_files'

@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    "Two worker processes with another working folder than the tests"
    here, scratch = Path.cwd(), tmp_path_factory.mktemp('dask')
    os.chdir(scratch)
    try:
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                               dashboard_address=None, local_directory=scratch)
    finally: os.chdir(here)
    with cluster, Client(cluster) as client: yield client

def on_dask(): return joblib.parallel_config(backend='dask')

def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file() and not p.name.startswith('.')}

@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    "Every sample set, small, made in one process"
    root = tmp_path_factory.mktemp('sets')
    return root, {name: get_data(name, 'sample', root=root, n_jobs=1, progress=False, **small(name))
                  for name in SETS}

def small(name):
    return dict(siim_small=dict(n=4, size=128), duke_breast=dict(n=2, matrix=48, slices=30),
                brats2020=dict(n=3, spacing=6.), msd_brain=dict(n=4, n_test=1, spacing=6.),
                msd_hippocampus=dict(n=4))[name]

def test_work_reaches_both_workers(cluster):
    "Else every other test here could pass in one process"
    with on_dask():
        pids = set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(20)))
    assert len(pids) == 2
    assert os.getpid() not in pids

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kw', [{}, dict(identifying=False, pixels=False)])
def test_scan(cluster, kw):
    paths = find_dicoms(files)[::2]
    one = scan(paths, progress=False, **kw)
    with on_dask():
        pd.testing.assert_frame_equal(scan(paths, progress=False, **kw), one)

@pytest.mark.parametrize('name', SETS)
def test_samples(cluster, sets, tmp_path, name):
    with on_dask():
        made = get_data(name, 'sample', root=tmp_path, progress=False, **small(name))
    assert contents(made) == contents(sets[1][name])
    assert len(contents(made)) > 4

@pytest.fixture(scope='module')
def slices(sets):
    root = sets[1]['duke_breast']
    boxes = read_boxes(root/'Annotation_Boxes.xlsx')
    mapping = read_mapping(root/'Breast-Cancer-MRI-filepath_filename-mapping.xlsx')
    return root, label_slices(mapping, boxes[boxes.patient.isin(mapping.patient)])

def test_export_slices(cluster, slices, tmp_path):
    root, table = slices
    one = export_slices(table, root, tmp_path/'one', progress=False)
    with on_dask():
        many = export_slices(table, root, tmp_path/'many', progress=False)
        again = export_slices(table, root, tmp_path/'many', progress=False)
    pd.testing.assert_frame_equal(many, one)
    assert contents(tmp_path/'many') == contents(tmp_path/'one')
    assert {'written', 'left out'} <= set(one.status)
    assert set(again.status) == set(one.status) - {'written'} | {'there already'}

def test_reading_cases_of_a_set(cluster, sets):
    cases = find_cases(sets[1]['brats2020'])
    one = GradingDataset(cases, slices='largest', progress=False)
    with on_dask():
        many = GradingDataset(cases, slices='largest', progress=False)
    assert (one.x == many.x).all()
    assert (one.mask == many.mask).all()
    assert len(one) == 3
    pd.testing.assert_frame_equal(one.table, many.table)

def test_predicting_cases(cluster, sets, tmp_path):
    root, model = sets[1]['msd_brain'], UNet3D(4, 4, filters=2, depth=2)
    paths = sorted((root/'imagesTr').glob('BRATS_*'))[:3]
    one = predict_cases(model, paths, tmp_path/'one', (16, 16, 16), progress=False)
    with on_dask():
        many = predict_cases(model, paths, tmp_path/'many', (16, 16, 16), progress=False)
    assert set(one.status) == {'written'}
    assert contents(tmp_path/'many') == contents(tmp_path/'one')
    assert len(contents(tmp_path/'one')) == 3
    pd.testing.assert_frame_equal(many.drop(columns='out'), one.drop(columns='out'))

def test_an_error_in_a_worker_is_the_error_one_gets(cluster, sets, tmp_path):
    cases = find_cases(sets[1]['brats2020'])
    with on_dask(), pytest.raises(ValueError, match='leave it out|no slice|missing|no such file'):
        GradingDataset(cases.assign(flair=str(tmp_path/'lost.nii')), slices='largest',
                       progress=False)

# --- workers that stand in another folder than the caller, who went elsewhere since they started

def there(folder, monkeypatch):
    "Start workers, then change the working folder"
    joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4))
    monkeypatch.chdir(folder)

def test_relative_paths_on_dask(cluster, sets, slices, tmp_path, monkeypatch):
    root, table = slices
    shutil.copytree(root, tmp_path/'duke')
    shutil.copytree(sets[1]['brats2020'], tmp_path/'brats')
    with on_dask():
        there(tmp_path, monkeypatch)
        exported = export_slices(table, 'duke', 'png', progress=False)
        graded = GradingDataset(find_cases('brats'), slices='largest', progress=False)
    pd.testing.assert_frame_equal(exported,
                                  export_slices(table, root, tmp_path/'absolute', progress=False))
    assert contents(tmp_path/'png') == contents(tmp_path/'absolute')
    assert len(graded) == 3

@pytest.mark.parametrize('backend', ['dask', 'loky'])
def test_relative_paths_of_a_scan(cluster, tmp_path, monkeypatch, backend):
    (tmp_path/'some').mkdir()
    for name in ('CT_small.dcm', 'MR_small.dcm'):
        shutil.copy(files/name, tmp_path/'some')
    with joblib.parallel_config(backend=backend, n_jobs=2):
        there(tmp_path, monkeypatch)
        table, lost = scan('some', progress=False), scan([Path('some/lost.dcm')], progress=False)
    assert table.path.tolist() == [str(Path('some')/n) for n in ('CT_small.dcm', 'MR_small.dcm')]
    assert (table.error == '').all()
    assert lost.error.tolist() == [f'{Path("some/lost.dcm")}: no such file']

# --- memory

@pytest.fixture(scope='module')
def many(sets, tmp_path_factory):
    "160 slices under names of their own, two series of 80: hard links to a few files"
    folder, rows = tmp_path_factory.mktemp('many'), []
    sources = sorted(sets[1]['duke_breast'].rglob('*.dcm'))[:20]
    for i in range(160):
        path = folder/f'P{i//80}'/f'1-{i % 80:03}.dcm'
        path.parent.mkdir(exist_ok=True)
        os.link(sources[i % len(sources)], path)
        rows.append((path.parent.name, i % 80, str(path.relative_to(folder)), i % 2))
    return folder, pd.DataFrame(rows, columns=['patient', 'slice', 'path', 'label'])

def growth(call, *args, sizes=(60, 160)):
    """Bytes that each file beyond the first few adds to the peak of `call`, and to its result

    Traced, not the system's: the same on every machine"""
    found = []
    call(5, *args) # imports and caches
    for n in sizes:
        gc.collect()
        tracemalloc.start()
        try:
            result = call(n, *args)
            gc.collect()
            found.append(tracemalloc.get_traced_memory())
        finally: tracemalloc.stop()
        del result
    return [(b - a)/(sizes[1] - sizes[0]) for a, b in zip(found[0][::-1], found[1][::-1])]

@pytest.fixture(scope='module')
def measured():
    "Calls `growth` in a process without the threads, and what they allocate, of other tests"
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        yield lambda *args: process.submit(growth, *args).result()

def scan_first(n, paths):
    return scan(paths[:n], pixels=False, progress=False)

def test_scan_holds_little_more_than_its_table(many, measured):
    "As a list of rows the same values take more than five times the table's memory"
    peak, table = measured(scan_first, sorted(many[0].rglob('*.dcm')))
    assert table > 500
    assert peak < 2.5*table

def export_first(n, table, folder, out):
    return export_slices(table[:n], folder, out/f'{n}', window='slice', progress=False)

def test_export_slices_holds_no_pixels(many, measured, tmp_path):
    "A slice has 48 x 48 pixels of 2 bytes; less than a quarter of that stays until the end"
    folder, table = many
    peak, _ = measured(export_first, table, folder, tmp_path)
    assert peak < 48*48*2/4
    assert len(contents(tmp_path/'160')) == 160

def test_numbers_too_large_for_a_column_of_whole_numbers(tmp_path):
    "One file with a damaged number costs no table"
    for i, number in enumerate(['7', '100000000000000000000']):
        ds = pydicom.dcmread(files/'CT_small.dcm')
        tag = pydicom.tag.Tag('InstanceNumber')
        ds._dict[tag] = ds.get_item(tag)._replace(value=number.encode(), length=len(number))
        ds.save_as(tmp_path/f'{i}.dcm')
    table = scan(tmp_path, pixels=False, progress=False)
    assert table.InstanceNumber.tolist() == [7, 10**20]
    assert (table.error == '').all()
    assert table.Rows.dtype == 'Int64'

# --- training in two processes

WATCHED = '''
import hashlib, json, os, sys
from medtut.patches import PatchDataset
import train_unet

seen, draw = [], PatchDataset.draw
def watched(self, i):
    is_of_training = self.flips
    if is_of_training: seen.append((self.epoch, int(i), *map(int, draw(self, i)[1])))
    return draw(self, i)
PatchDataset.draw = watched
learn = train_unet.main(sys.argv[1:])
weights = b''.join(w.numpy().tobytes() for w in learn.model.state_dict().values())
weights = hashlib.sha256(weights).hexdigest()
values = [list(map(float, v)) for v in learn.recorder.values]
with open(os.environ['RANK'] + '.json', 'w') as f:
    json.dump(dict(seen=seen, weights=weights, values=values), f)
'''

@pytest.fixture(scope='module')
def script(root, tmp_path_factory):
    "The page's script, as it is written there"
    folder = tmp_path_factory.mktemp('train')
    cells = [c.source for c in read_nb(root/'nbs'/'toolbox'/'more_machines.ipynb').cells
             if c.source.startswith('%%writefile train_unet.py')]
    (folder/'train_unet.py').write_text(cells[0].partition('\n')[2])
    (folder/'watched.py').write_text(WATCHED)
    return folder

SMALL = ['--mm', '6', '--epochs', '4', '--patches', '16', '--patch', '16', '--filters', '4', '8']

def test_two_processes_train_one_network(sets, script):
    command = [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes',
               '2', '--num_machines', '1', '--main_process_port', '0',
        '--mixed_precision', 'no', '--dynamo_backend', 'no', 'watched.py', sets[1]['msd_brain'],
        *SMALL]
    done = subprocess.run(command, cwd=script, capture_output=True, text=True,
                          env=os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''))
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((script/f'{rank}.json').read_text()) for rank in range(2))
    assert one['weights'] == two['weights']
    assert one['values'] == two['values']
    (train, valid), (train_end, valid_end) = one['values'][0], one['values'][-1]
    assert len(one['values']) == 4
    assert train_end < train
    assert valid_end < valid
    epochs = []
    for epoch in range(4):
        mine, theirs = ({tuple(rest) for e, *rest in process['seen'] if e == epoch}
                        for process in (one, two))
        assert len(mine) == len(theirs) == 8
        assert sorted(i for i,
                      *_ in mine | theirs) == list(range(16)) # each patch once, in one of them
        epochs.append({i: corner for i, *corner in mine | theirs})
    for a, b in zip(epochs, epochs[1:]):
        assert a != b, 'set_epoch reached a process, or the other, not at all'
    model, card = load_unet(script/'unet.safetensors')
    weights = b''.join(w.numpy().tobytes() for w in model.state_dict().values())
    assert hashlib.sha256(weights).hexdigest() == one['weights']
    assert card['processes'] == 2
    assert card['scores']['valid_loss'] == valid_end
    assert isinstance(model, UNet3D)

def test_the_script_refuses_patches_that_can_not_be_shared_out(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(script)
    monkeypatch.setenv('WORLD_SIZE', '2')
    import train_unet
    with pytest.raises(SystemExit):
        train_unet.main(['nowhere', '--patches', '15'])
    assert 'multiple of 2 processes' in capsys.readouterr().err
