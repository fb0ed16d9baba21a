"From one process to many: the same calls on a Dask cluster give the same results, and memory doesn't grow with the number of files"
import os, shutil
from pathlib import Path

import joblib, numpy as np, pandas as pd, pydicom, pytest
from dask.distributed import Client, LocalCluster

from medtut.datasets import SETS, get_data
from medtut.dicom import scan
from medtut.grading import GradingDataset, find_cases
from medtut.slices import export_slices, label_slices, read_boxes, read_mapping

files = Path(pydicom.__file__).parent/'data'/'test_files'

@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    "Two worker processes with another working folder than the tests"
    here, scratch = Path.cwd(), tmp_path_factory.mktemp('dask')
    os.chdir(scratch)
    try: cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=scratch)
    finally: os.chdir(here)
    with cluster, Client(cluster) as client: yield client

def on_dask(): return joblib.parallel_config(backend='dask')

def contents(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file() and not p.name.startswith('.')}

@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    "Every sample set, small, made in one process"
    root = tmp_path_factory.mktemp('sets')
    return root, {name: get_data(name, 'sample', root=root, n_jobs=1, progress=False, **small(name)) for name in SETS}

def small(name): return dict(siim_small=dict(n=4, size=128), duke_breast=dict(n=2, matrix=48, slices=30), brats2020=dict(n=3, spacing=6.), msd_brain=dict(n=2, spacing=6.))[name]

def test_work_reaches_both_workers(cluster):
    "Else every other test here could pass in one process"
    with on_dask(): pids = set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(20)))
    assert len(pids) == 2 and os.getpid() not in pids

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kw', [{}, dict(identifying=False, pixels=False)])
def test_scan(cluster, kw):
    one = scan(files, progress=False, **kw)
    with on_dask(): pd.testing.assert_frame_equal(scan(files, progress=False, **kw), one)

@pytest.mark.parametrize('name', SETS)
def test_samples(cluster, sets, tmp_path, name):
    with on_dask(): made = get_data(name, 'sample', root=tmp_path, progress=False, **small(name))
    assert contents(made) == contents(sets[1][name]) and len(contents(made)) > 4

@pytest.fixture(scope='module')
def slices(sets):
    root = sets[1]['duke_breast']
    boxes, mapping = read_boxes(root/'Annotation_Boxes.xlsx'), read_mapping(root/'Breast-Cancer-MRI-filepath_filename-mapping.xlsx')
    return root, label_slices(mapping, boxes[boxes.patient.isin(mapping.patient)])

def test_export_slices(cluster, slices, tmp_path):
    root, table = slices
    one = export_slices(table, root, tmp_path/'one', progress=False)
    with on_dask():
        many = export_slices(table, root, tmp_path/'many', progress=False)
        again = export_slices(table, root, tmp_path/'many', progress=False)
    pd.testing.assert_frame_equal(many, one)
    assert contents(tmp_path/'many') == contents(tmp_path/'one') and {'written', 'left out'} <= set(one.status)
    assert set(again.status) == set(one.status) - {'written'} | {'there already'}

def test_reading_cases_of_a_set(cluster, sets):
    cases = find_cases(sets[1]['brats2020'])
    one = GradingDataset(cases, slices='largest', progress=False)
    with on_dask(): many = GradingDataset(cases, slices='largest', progress=False)
    assert (one.x == many.x).all() and (one.mask == many.mask).all() and len(one) == 3
    pd.testing.assert_frame_equal(one.table, many.table)

def test_an_error_in_a_worker_is_the_error_one_gets(cluster, sets, tmp_path):
    cases = find_cases(sets[1]['brats2020'])
    with on_dask(), pytest.raises(ValueError, match='leave it out|no slice|missing|no such file'):
        GradingDataset(cases.assign(flair=str(tmp_path/'lost.nii')), slices='largest', progress=False)

# --- workers that stand in another folder: they outlive a change of it

@pytest.mark.parametrize('backend', ['dask', 'loky'])
def test_relative_paths(cluster, sets, slices, tmp_path, monkeypatch, backend):
    root, table = slices
    shutil.copytree(root, tmp_path/'duke')
    joblib.Parallel(2)(joblib.delayed(os.getpid)() for _ in range(4)) # from here on, workers of loky are there too
    monkeypatch.chdir(tmp_path)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        headers = scan('duke', pixels=False, progress=False)
        exported = export_slices(table, 'duke', 'png', progress=False)
        lost = scan(['duke/lost.dcm', *[p for p in headers.path[:2]]], progress=False)
        for made in (sets[1][name] for name in ('brats2020', 'siim_small')): shutil.copytree(made, made.name)
        graded = GradingDataset(find_cases(sets[1]['brats2020'].name), slices='largest', progress=False)
    assert (headers.error == '').all() and headers.path.str.startswith('duke').all() and len(headers) > 50
    assert set(exported.status) == {'written', 'left out', 'failed'} or set(exported.status) == {'written', 'left out'}
    assert lost.error.tolist() == [f'{Path("duke/lost.dcm")}: no such file', '', '']
    assert len(graded) == 3
