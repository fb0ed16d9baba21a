"""Lesson 7: its weights and what they reach on the real crops, its stored runs, and that nobody
stores outputs of phantoms in their place"""
import importlib.util
import json
import os
import re
import sys

import numpy as np
import pytest
from lessons import nbs
from run import environment

from medtut.archives import SETS
from medtut.cases import find_cases, load_case
from medtut.datasets import get_data
from medtut.intensities import standardize
from medtut.masks import dice
from medtut.phantoms.hippocampus import draw_crop, draw_person, write_msd_hippocampus
from medtut.predict import load_predictor
from medtut.tiles import predict_volume

LESSON = nbs/'07_hippocampus.ipynb'
WEIGHTS = LESSON.with_suffix('.safetensors')
RUNS = LESSON.with_suffix('.jsonl')
MINUTES = LESSON.with_name('07_hippocampus_minutes.jsonl')
PUBLISHED = LESSON.with_name('07_hippocampus_published.json')
FILES = os.environ.get('MEDTUT_REAL_FILES')

@pytest.fixture(scope='module')
def predictor(): return load_predictor(WEIGHTS)

def test_weights_are_small_and_their_card_is_whole(predictor):
    assert WEIGHTS.stat().st_size < 2_000_000
    card = predictor.card
    for name in ('data', 'seed', 'scores', 'limits', 'licence', 'split', 'test_cases', 'steps'):
        assert card[name] not in (None, '', [], {}), name
    assert 'real patients' in card['data'] and card['licence'].startswith('CC BY-SA 4.0')
    assert card['labels'] == {'1': 'anterior', '2': 'posterior'}
    assert len(card['test_cases']) >= 50

def test_grey_of_a_phantom_is_what_it_says():
    """`Crop.image` is 1 in white matter and .6 in the structure: the coil's field, few bumps in a
    small crop, is uneven and not brighter or darker as a whole"""
    rng = np.random.default_rng(0)
    crops = [draw_crop(rng, shape) for _ in range(20) for shape in draw_person(rng)]
    grey = [np.median(crop.image[crop.label > 0]) for crop in crops]
    assert .55 < np.mean(grey) < .65
    assert .5 < min(grey) and max(grey) < .75

def test_a_sample_has_test_cases_as_the_real_set(tmp_path):
    "A third of the crops, those that the challenge keeps the outlines of"
    table = find_cases(write_msd_hippocampus(tmp_path, n=6, n_jobs=1, progress=False))
    assert table.seg.notna().sum() == 6
    assert table.seg.isna().sum() == 3
    assert table.case.is_unique
    with pytest.raises(ValueError, match='n_test=4: there are 0 to 3 for n=6'):
        write_msd_hippocampus(tmp_path/'b', n=6, n_test=4, progress=False)

def test_weights_outline_a_phantom(predictor, tmp_path):
    "They know no phantoms; what comes out has the shape of what goes in, and a volume"
    path = get_data('msd_hippocampus', 'sample', root=tmp_path, n=2, n_jobs=1, progress=False)
    image, label, _ = load_case(find_cases(path).iloc[0])
    x = standardize(image, inside=None)
    p = predict_volume(predictor.model, x, predictor.settings['patch'], progress=False)
    assert p.shape == (3, *label.shape) and np.isfinite(p).all()

@pytest.mark.skipif(FILES is None, reason='needs the real crops: set MEDTUT_REAL_FILES')
def test_stored_scores_on_the_real_crops(predictor):
    "The weights that are shipped reach what their card says, on the crops that it names"
    table = find_cases(get_data('msd_hippocampus', 'local', root=FILES)).set_index('case', drop=False)
    scores = {'anterior': [], 'posterior': []}
    for case in predictor.card['test_cases']:
        image, label, _ = load_case(table.loc[case])
        x = standardize(image, inside=None)
        p = predict_volume(predictor.model, x, predictor.settings['patch'], progress=False)
        for k, name in enumerate(scores, 1): scores[name].append(dice(label == k, p.argmax(0) == k))
    for name, values in scores.items():
        said = float(predictor.card['scores'][f'Dice {name}'].split()[0])
        # the card rounds to two digits, the weights to half precision
        assert abs(np.mean(values) - said) < .01

def test_stored_runs():
    "Each names its crops and judges fifty or more people's crops by both parts"
    if not RUNS.exists(): pytest.skip('no run is stored')
    for line in RUNS.read_text().splitlines():
        run = json.loads(line)
        assert run['steps'] == 428 and run['size'] >= 10
        for scores in run['cases'].values():
            assert set(scores) == {'anterior', 'posterior'}
            assert all(0 <= s['dice'] <= 1 for s in scores.values())

def test_stored_minutes():
    "nnU-Net, MONAI and medtut had the same minutes, cores and people, and were judged on the same"
    runs = [json.loads(line) for line in MINUTES.read_text().splitlines()]
    settings = {(run['threads'], run['device'], *run['cases']) for run in runs}
    assert len(settings) == 1
    for minutes in {run['minutes'] for run in runs}:
        tools = [run['tool'] for run in runs if run['minutes'] == minutes]
        assert sorted(tools) == ['medtut', 'monai', 'nnunet']
    # a run takes as long as it was given, but for the last steps
    for run in runs: assert .8 < run['train_seconds']/60/run['minutes'] < 1.3

def test_published_scores_are_of_these_crops():
    """nnU-Net's scores after a whole training are of the archive that the lesson fetches, hold all
    its crops and have the mean that nnU-Net's authors give for them (.8891, in the summary.csv
    beside their networks)"""
    published = json.loads(PUBLISHED.read_text(encoding='utf-8'))
    scores = published['dice']
    archive, = SETS['msd_hippocampus'].files.values()
    assert archive.checksum == f'md5:{published["data_md5"]}'
    assert len(scores) == SETS['msd_hippocampus'].members
    assert round(np.mean(list(scores.values())), 4) == .8891
    for line in RUNS.read_text().splitlines():
        run = json.loads(line)
        if run['data'] == 'real': assert set(run['cases']) <= set(scores)

# --- what is stored

def test_stored_outputs_are_of_real_patients():
    text = LESSON.read_text(encoding='utf-8')
    assert 'crops of real patients; labels' in text
    assert not re.search(r'crops of phantoms; labels', text)

def test_outputs_of_the_sample_are_not_stored(monkeypatch):
    for name in ('MEDTUT_SOURCE', 'MEDTUT_REAL_FILES'): monkeypatch.delenv(name, raising=False)
    assert environment(LESSON, False, 'empty')['MEDTUT_SOURCE'] == 'sample'
    assert environment(LESSON, True, 'empty')['MEDTUT_SOURCE'] == 'real'
    monkeypatch.setenv('MEDTUT_REAL_FILES', 'here')
    assert environment(LESSON, True, 'empty')['MEDTUT_SOURCE'] == 'local'
    other = environment(nbs/'06_segmentation.ipynb', True, 'empty')
    assert 'MEDTUT_WEIGHTS' not in other and other['MEDTUT_DATA'] == 'empty'
    monkeypatch.setenv('MEDTUT_SOURCE', 'sample')
    with pytest.raises(SystemExit, match='not stored'): environment(LESSON, True, 'empty')

# --- the benchmark

def test_benchmark_trains_and_judges(root, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('bench7', root/'benchmarks/hippocampus.py')
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    path = get_data('msd_hippocampus', 'sample', root=tmp_path, n=10, n_jobs=1, progress=False)
    def call(*words):
        monkeypatch.setattr(sys, 'argv', ['hippocampus.py', *map(str, words)])
        bench.main()
    packed, out = tmp_path/'cases.npz', tmp_path/'runs.jsonl'
    call('pack', path, packed)
    call('train', packed, '--steps', 1, '--size', 3, '--threads', 1, '--out', out, '--judge', packed)
    run, = [json.loads(line) for line in out.read_text().splitlines()]
    assert run['size'] == 3 and run['cases'] == run['others']

def test_where_minutes_go(root, tmp_path, monkeypatch):
    "Each part has its seconds, and what is stored has the same parts"
    spec = importlib.util.spec_from_file_location('minutes', root/'benchmarks/minutes.py')
    monkeypatch.syspath_prepend(root/'benchmarks')
    minutes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(minutes)
    rows = tmp_path/'rows'
    monkeypatch.setattr(sys, 'argv', ['minutes.py', '--quick', '--rows', str(rows)])
    minutes.main()
    found, stored = [[json.loads(line) for line in path.read_text().splitlines()]
                     for path in (rows, minutes.STORED)]
    def parts(lines): return [line['part'] for line in lines if 'part' in line]
    assert parts(found) == parts(stored)
    assert all(line['seconds'] > 0 for line in found if 'part' in line)
    assert {'float32', 'bfloat16'} <= {line.get('variant') for line in stored}
