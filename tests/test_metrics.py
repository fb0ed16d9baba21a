"Scores of any cases and masks, against scikit-learn, MONAI and SimpleITK, and against their definitions"
import inspect, os, warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist
from sklearn import metrics as sk

from medtut.metrics import (TUMOUR_REGIONS, Interval, UndefinedMetric, accuracy, average_precision, balanced_accuracy, bootstrap_interval, confusion,
    dice, hausdorff95, npv, ppv, roc_auc, segmentation_report, sensitivity, specificity, surface_dice, volume_ml)

examples = settings(max_examples=200, deadline=None, derandomize=True)
cases = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=60)

def quiet(f, *args, **named):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*args, **named)

@examples
@given(cases)
def test_decisions(cases):
    y, p = np.array(cases).T
    pred = p > 0
    assert confusion(truth=y, prediction=pred) == tuple(sk.confusion_matrix(y, pred, labels=[0, 1]).ravel())
    peers = {sensitivity: lambda y, p: sk.recall_score(y, p, zero_division=np.nan), ppv: lambda y, p: sk.precision_score(y, p, zero_division=np.nan),
        specificity: lambda y, p: sk.recall_score(y, p, pos_label=0, zero_division=np.nan),
        npv: lambda y, p: sk.precision_score(y, p, pos_label=0, zero_division=np.nan), accuracy: sk.accuracy_score}
    for ours, peer in peers.items():
        found = quiet(ours, truth=y, prediction=pred)
        np.testing.assert_allclose(found, quiet(peer, y, pred), err_msg=ours.__name__)
    if len(set(y)) == 2: np.testing.assert_allclose(balanced_accuracy(truth=y, prediction=pred), sk.balanced_accuracy_score(y, pred))
    else: assert np.isnan(quiet(balanced_accuracy, truth=y, prediction=pred))

@examples
@given(cases)
def test_scores(cases):
    y, p = np.array(cases).T
    if len(set(y)) == 2: np.testing.assert_allclose(roc_auc(y, p), sk.roc_auc_score(y, p))
    else: assert np.isnan(quiet(roc_auc, y, p))
    if any(y): np.testing.assert_allclose(average_precision(y, p), sk.average_precision_score(y, p))
    else: assert np.isnan(quiet(average_precision, y, p))

@pytest.mark.parametrize('metric, truth, prediction, why', [
    (sensitivity, [0, 0], [0, 1], 'no positives'), (specificity, [1, 1], [0, 1], 'no negatives'),
    (ppv, [0, 1], [0, 0], 'no positive decisions'), (npv, [0, 1], [1, 1], 'no negative decisions'),
    (balanced_accuracy, [1, 1], [0, 1], 'no negatives')])
def test_undefined_decisions(metric, truth, prediction, why):
    with pytest.warns(UndefinedMetric, match=why) as caught:
        assert np.isnan(metric(truth=truth, prediction=prediction))
    assert {w.filename for w in caught} == {__file__}, 'the line that asked for the score'

@pytest.mark.parametrize('metric, truth, score, why', [
    (roc_auc, [1, 1], [.1, .2], 'no negatives'), (roc_auc, [0, 0], [.1, .2], 'no positives'),
    (average_precision, [0, 0], [.1, .2], 'no positives')])
def test_undefined_scores(metric, truth, score, why):
    with pytest.warns(UndefinedMetric, match=why) as caught: assert np.isnan(metric(truth, score))
    assert {w.filename for w in caught} == {__file__}, 'the line that asked for the score'

DECISIONS = confusion, sensitivity, specificity, ppv, npv, accuracy, balanced_accuracy

@pytest.mark.parametrize('metric', DECISIONS)
def test_truth_and_prediction_are_named(metric):
    "Swapped, they would give another number, and nobody would see it"
    with pytest.raises(TypeError, match='positional'): metric([0, 1, 1], [0, 0, 1])
    with pytest.raises(TypeError, match='positional'): bootstrap_interval(metric, [0, 1, 1], [0, 0, 1])

def test_truth_and_prediction_of_a_report_are_named():
    full = np.ones((4, 4, 4), int)
    with pytest.raises(TypeError, match='positional'): segmentation_report(full, full, (1, 1, 1), {1: 'all'})

def test_a_swap_of_truth_and_score_is_refused():
    truth, score = [0, 1, 1], [.2, .7, .1]
    for metric in roc_auc, average_precision:
        with pytest.raises(ValueError, match='truth must hold 0 and 1'): metric(score, truth)
        with pytest.raises(ValueError, match='truth must hold 0 and 1'): bootstrap_interval(metric, score, truth)

def test_one_interface():
    "Everywhere truth first, then the prediction or the score, under one name"
    for metric in *DECISIONS, dice, hausdorff95, surface_dice, segmentation_report:
        assert list(inspect.signature(metric).parameters)[:2] == ['truth', 'prediction'], metric.__name__
    for metric in roc_auc, average_precision:
        assert list(inspect.signature(metric).parameters) == ['truth', 'score'], metric.__name__

def test_masks_in_either_order():
    "Truth and prediction may be given by position, because a swap makes no difference"
    truth, prediction = labelled(0)
    truth, prediction = truth > 0, prediction > 1
    for metric in dice, partial(hausdorff95, spacing=(1, 2, 3)), partial(surface_dice, spacing=(1, 2, 3), tolerance=1):
        assert metric(truth, prediction) == metric(prediction, truth)

def test_kinds_of_input():
    torch = pytest.importorskip('torch')
    y, p = [0, 1, 1, 0], [.2, .9, .4, .1]
    for kind in np.array, pd.Series, torch.tensor, lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True):
        assert roc_auc(kind(y), kind(p)) == 1
    assert confusion(truth=torch.ones(2, 3), prediction=np.ones((2, 3), bool)) == (0, 0, 0, 6)
    with pytest.raises(ValueError, match='must hold'): accuracy(truth=['no', 'yes'], prediction=[0, 1])
    with pytest.raises(ValueError, match='must hold'): accuracy(truth=[0, None], prediction=[0, 1])
    with pytest.raises(ValueError, match='finite'): roc_auc([0, 1], [0, np.inf])
    with pytest.raises(ValueError, match='finite'): roc_auc([0, 1], ['a', 'b'])

def test_any_numbers_of_cases():
    "Counts above what 32-bit products hold"
    y = np.repeat([False, True], 70_000)
    assert roc_auc(y, np.arange(len(y))) == 1
    assert roc_auc(y, np.zeros(len(y))) == .5

def test_bootstrap_by_definition():
    "Drawing patients by name and joining their rows, one by one, gives the same draws"
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(list('ABCDEFG'), [1, 2, 3, 4, 5, 6, 7]))
    y, p = rng.integers(0, 2, 28), rng.random(28)
    names, draws, found = np.unique(groups), np.random.default_rng(0), []
    for _ in range(300):
        table = [pd.DataFrame(dict(y=y, p=p))[groups == names[i]] for i in draws.integers(0, 7, 7)]
        table = pd.concat(table)
        found.append(sk.roc_auc_score(table.y, table.p) if table.y.nunique() == 2 else np.nan)
    expected = np.nanquantile(found, [.025, .975])
    interval = bootstrap_interval(roc_auc, y, p, groups=groups, n=300)
    np.testing.assert_allclose(interval, [sk.roc_auc_score(y, p), *expected])

def test_bootstrap_covers():
    "Of 200 samples of 30 patients, the 95 % interval holds the true accuracy for most; the interval by rows, which knows no patients, for few"
    rng, hits = np.random.default_rng(0), np.zeros(2)
    groups = np.repeat(range(30), 20)
    for _ in range(200):
        right = rng.random(600) < rng.beta(2, 1, 30)[groups]  # true mean 2/3
        for i, g in enumerate((groups, None)):
            interval = bootstrap_interval(np.mean, right, groups=g, n=300)
            hits[i] += interval.low <= 2/3 <= interval.high
    assert hits[0]/200 > .88
    assert hits[1]/200 < .7

def test_bootstrap_of_masks():
    "Cases lie along the first axis, whatever the others hold"
    y = np.random.default_rng(0).random((20, 4, 4)) > .5
    interval = bootstrap_interval(accuracy, truth=y, prediction=y, n=50)
    assert interval == (1, 1, 1)

def test_bootstrap_without_a_value():
    with pytest.warns(UndefinedMetric, match='no positives'): interval = bootstrap_interval(roc_auc, [0, 0, 0], [.1, .2, .3])
    assert np.isnan(interval).all()
    with pytest.warns(UndefinedMetric, match='one patient'): interval = bootstrap_interval(np.mean, [1, 2, 3], groups=[7, 7, 7])
    assert interval.value == 2 and np.isnan(interval[1:]).all()
    with pytest.warns(UndefinedMetric, match=r'undefined in \d+% of 500 draws'): bootstrap_interval(roc_auc, [0, 0, 1], [.1, .2, .3], n=500)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        bootstrap_interval(roc_auc, [0, 1]*30, np.arange(60), n=200)

@pytest.mark.parametrize('groups', [['A', None], ['A', np.nan], ['A', ' '], [1, np.nan], pd.Series(['A', pd.NA])])
def test_bootstrap_refuses_empty_groups(groups):
    with pytest.raises(ValueError, match='empty group'): bootstrap_interval(accuracy, truth=[0, 1], prediction=[0, 1], groups=groups)

def bootstrap_row_by_row(metric, y, p, groups, n):
    "By its definition, in the plainest way: patients drawn by number, in the order of their sorted names, and their rows joined"
    rows_of = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    draws, found = np.random.default_rng(0), []
    for _ in range(n):
        rows = np.concatenate([rows_of[i] for i in draws.integers(0, len(rows_of), len(rows_of))])
        found.append(quiet(metric, y[rows], p[rows]))
    return [metric(y, p), *np.nanquantile(found, [(1 - .95)/2, (1 + .95)/2])]

def mean_score(y, p): return np.mean(p)
def found(y, p): return sensitivity(truth=y, prediction=p)
def threshold_free(y, p): return roc_auc(y, p) # a function of one's own, of which nothing is known

@pytest.mark.parametrize('decimals', [0, 1, 12])
@pytest.mark.parametrize('metric', [roc_auc, average_precision, mean_score, threshold_free])
def test_bootstrap_is_exactly_the_definition(metric, decimals):
    "To the last bit, with many ties and without, with patients of one case and of several"
    rng = np.random.default_rng(1)
    y = rng.random(400) < .2
    p = rng.normal(y*1.).round(decimals)
    for groups in np.arange(400), rng.integers(0, 90, 400), rng.permutation(np.repeat(list('ABCDEFGH'), 50)):
        assert tuple(bootstrap_interval(metric, y, p, groups=groups, n=60)) == tuple(bootstrap_row_by_row(metric, y, p, groups, 60))
    assert bootstrap_interval(metric, y, p, n=60) == bootstrap_interval(metric, y, p, groups=np.arange(400), n=60)

def test_bootstrap_of_arrays_by_name():
    "By name, by position, and some of each: the same interval, counted or drawn row by row"
    rng = np.random.default_rng(2)
    y, groups = rng.random(300) < .4, rng.integers(0, 50, 300)
    p = rng.normal(y*1.).round(1)
    for metric in roc_auc, average_precision:
        expected = bootstrap_interval(metric, y, p, groups=groups, n=40)
        assert bootstrap_interval(metric, truth=y, score=p, groups=groups, n=40) == expected
        assert bootstrap_interval(metric, score=p, truth=y, groups=groups, n=40) == expected
        assert bootstrap_interval(metric, y, score=p, groups=groups, n=40) == expected
    by_name = bootstrap_interval(sensitivity, truth=y, prediction=p > .5, groups=groups, n=40)
    assert by_name == bootstrap_interval(found, y, p > .5, groups=groups, n=40)
    swapped = bootstrap_interval(sensitivity, prediction=p > .5, truth=y, groups=groups, n=40)
    assert swapped == by_name

def test_bootstrap_refuses_arrays_that_the_metric_does_not_take():
    with pytest.raises(TypeError, match='group'): bootstrap_interval(accuracy, truth=[0, 1], prediction=[0, 1], group=[1, 2])
    with pytest.raises(ValueError, match='no cases'): bootstrap_interval(accuracy)
    with pytest.raises(ValueError, match='no cases'): bootstrap_interval(accuracy, truth=[], prediction=[])
    with pytest.raises(ValueError, match=r'\[2, 3\] values'): bootstrap_interval(accuracy, truth=[0, 1], prediction=[0, 1, 1])

def test_bootstrap_of_scores_where_a_class_is_missing():
    "Few positives: draws without any have no value, the same ones as by definition, and are counted"
    y, p = np.arange(40) < 2, np.random.default_rng(0).random(40)
    for metric in roc_auc, average_precision:
        with pytest.warns(UndefinedMetric, match=r'undefined in \d+% of 300 draws'):
            interval = bootstrap_interval(metric, y, p, n=300)
        assert tuple(interval) == tuple(bootstrap_row_by_row(metric, y, p, np.arange(40), 300))

@pytest.mark.parametrize('grouped', [False, True])
@pytest.mark.parametrize('metric', [roc_auc, average_precision, mean_score, found])
def test_bootstrap_of_100_000_cases(metric, grouped):
    "Counting gives what drawing row by row gives, at a size for which the latter takes a minute"
    rng = np.random.default_rng(0)
    y = rng.random(100_000) < .3
    p = rng.normal(y*1.) if metric is not found else rng.random(100_000) < .5
    groups = rng.integers(0, 30_000, 100_000) if grouped else None
    drawn = np.arange(100_000) if groups is None else groups
    counted = bootstrap_interval(metric, y, p, groups=groups, n=4)
    np.testing.assert_allclose(tuple(counted), tuple(bootstrap_row_by_row(metric, y, p, drawn, 4)), rtol=1e-9)

ALIKE = [['P1', 'P1 '], ['P1', ' P1'], ['P 1', 'P1'], ['P1', 'P1\t'], ['P1', 'P1\u00a0'], ['P1', 'P1\u200b'], ['P1', 'P1\0'], ['P1', 'p1'],
    ['MÜLLER', 'Müller'], ['Mu\u0308ller', 'Müller'], [1, '1'], [1., '1'], [1, '1.0'], ['1', '1.0'], [1, '001'], [7, '007 '], [b'P1', 'P1']]

@pytest.mark.parametrize('alike', ALIKE)
def test_bootstrap_refuses_groups_that_may_be_one_patient(alike):
    "Two patients made of one narrow the interval; the message names both"
    for kind in list, lambda x: pd.Series(x, index=[5, 6, 7], dtype=object), lambda x: np.array(x, object), lambda x: pd.Categorical(x):
        with pytest.raises(ValueError, match='write each patient in one way') as error:
            bootstrap_interval(accuracy, truth=[0, 1, 1], prediction=[0, 1, 0], groups=kind([*alike, 'other']))
        assert all(repr(name) in str(error.value) for name in alike)

@pytest.mark.parametrize('groups', [['A', 'nan'], ['A', 'None'], ['A', '<NA>'], ['A', 'NaT'], ['A', '\u200b'], ['A', '\0'], ['A', b' '], [1, None], pd.Series([1, pd.NA], dtype='Int64')])
def test_bootstrap_refuses_missing_groups_written_as_text(groups):
    "astype(str) makes 'nan' of a missing patient, and one patient of all that are missing"
    with pytest.raises(ValueError, match='empty group'): bootstrap_interval(accuracy, truth=[0, 1], prediction=[0, 1], groups=groups)

def test_groups_that_are_told_apart():
    "Ids that differ in more than that are patients of their own, whatever kind they are"
    for groups in ([1, 2, 3], [1., 2., 3.5], ['A', 'B', 'NA'], ['P1', 'P10', 'P01'], [('A', 1), ('A', 2), ('B', 1)], [np.int64(1), 2, 3],
                   pd.to_datetime(['2020-01-01', '2020-01-02', '2020-01-03']), [2**62, 2**62 + 1, 3]):
        assert bootstrap_interval(np.mean, [1., 2., 3.], groups=groups, n=20).low < 2

def test_an_error_in_the_metric_is_seen():
    def broken(y): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): bootstrap_interval(broken, [1, 2])

def test_interval_prints():
    assert f'{Interval(.914, .87, .95)}' == str(Interval(.914, .87, .95)) == repr(Interval(.914, .87, .95)) == '0.91 (0.87–0.95)'
    assert f'{Interval(.914, .87, .95):.1%}' == '91.4% (87.0%–95.0%)'

masks = st.tuples(st.integers(0, 10_000), st.sampled_from([(6, 7, 5), (1, 4, 4), (9, 9, 1)]), st.floats(-.2, .3))

def pair(seed, shape, level):
    "Two lumpy masks that overlap in part; empty ones among them"
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 1)
    return field + .4*gaussian_filter(rng.normal(size=shape), 1) > level, field > level

def by_definition(pred, label, spacing):
    "Distances between surfaces, every voxel compared with every other"
    points = []
    for mask in pred, label:
        mask = np.pad(mask, 1)
        points.append((np.argwhere(mask & ~binary_erosion(mask)))*spacing)
    ways = cdist(*points)
    return ways.min(1), ways.min(0)

@examples
@given(masks)
def test_masks_by_definition(made):
    pred, label = pair(*made)
    spacing = (1.5, 1, 3)
    if not (pred.any() and label.any()): return
    there, back = by_definition(pred, label, spacing)
    np.testing.assert_allclose(hausdorff95(label, pred, spacing), max(np.percentile(there, 95), np.percentile(back, 95)))
    np.testing.assert_allclose(hausdorff95(label, pred, spacing, 100), max(there.max(), back.max()))
    np.testing.assert_allclose(surface_dice(label, pred, spacing, 1.2), np.mean(np.r_[there, back] <= 1.2))
    np.testing.assert_allclose(dice(label, pred), sk.f1_score(label.ravel(), pred.ravel()))

@pytest.mark.filterwarnings('ignore::FutureWarning')  # MONAI's own, about its next version
@settings(max_examples=50, deadline=None, derandomize=True)
@given(masks)
def test_masks_as_monai(made):
    torch, monai = pytest.importorskip('torch'), pytest.importorskip('monai.metrics')
    pred, label = pair(*made)
    spacing = [1.5, 1., 3.]
    p, t = (torch.tensor(m)[None, None] for m in (pred, label))
    close = lambda ours, theirs: np.testing.assert_allclose(ours, float(theirs), rtol=1e-5)
    if pred.any() and label.any(): close(hausdorff95(label, pred, spacing), monai.compute_hausdorff_distance(p, t, include_background=True, percentile=95, spacing=spacing))
    close(quiet(surface_dice, label, pred, spacing, 1.5), quiet(monai.compute_surface_dice, p, t, [1.5], True, 'euclidean', spacing))
    # MONAI's Dice of two empty masks is 1, ours has no value
    if pred.any() or label.any(): close(dice(label, pred), monai.compute_dice(p, t, True, False))
    else: assert np.isnan(quiet(dice, label, pred))

@pytest.mark.parametrize('seed', range(5))
def test_masks_as_simpleitk(seed):
    sitk = pytest.importorskip('SimpleITK')
    # its contour leaves the border of the image out: compare masks that don't touch it
    pred, label = (np.pad(m, 1) for m in pair(seed, (20, 18, 16), 0))
    spacing = (1.5, 1., 3.)
    images = [sitk.GetImageFromArray(m.T.astype(np.uint8)) for m in (pred, label)]  # SimpleITK's arrays are (z, y, x)
    for image in images: image.SetSpacing(spacing)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    np.testing.assert_allclose(dice(label, pred), overlap.GetDiceCoefficient())
    contours = [sitk.LabelContour(image, False) for image in images]
    ways = []
    for one, other in (contours, contours[::-1]):
        away = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True))
        ways.append(np.abs(away[sitk.GetArrayFromImage(one) > 0]))
    np.testing.assert_allclose(hausdorff95(label, pred, spacing), max(np.percentile(w, 95) for w in ways), rtol=1e-5)

def labelled(seed, shape=(20, 22, 14)):
    "Two volumes of labels 0, 1, 2 and 4, alike"
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 2)
    other = field + .3*gaussian_filter(rng.normal(size=shape), 2)
    return [np.array([0, 2, 1, 4])[np.digitize(f, [.05, .1, .15])] for f in (other, field)]

BRATS = {1: 'non-enhancing core', 2: 'edema', 4: 'enhancing'}

@pytest.mark.parametrize('seed', range(8))
def test_report_is_the_sum_of_its_parts(seed):
    pred, label = labelled(seed)
    spacing = (1, 1.2, 2.5)
    report = segmentation_report(truth=label, prediction=pred, spacing=spacing, classes=BRATS, regions=TUMOUR_REGIONS, tolerance=1.5)
    rows = {'non-enhancing core': [1], 'edema': [2], 'enhancing': [4], 'whole tumour': [1, 2, 4], 'tumour core': [1, 4], 'enhancing tumour': [4]}
    assert report.index.tolist() == list(rows)
    for name, members in rows.items():
        p, t = np.isin(pred, members), np.isin(label, members)
        expected = [quiet(dice, t, p)]
        expected += [quiet(share, truth=t, prediction=p) for share in (sensitivity, specificity, ppv)]
        expected += [quiet(hausdorff95, t, p, spacing), quiet(surface_dice, t, p, spacing, 1.5)]
        expected += [volume_ml(p, spacing), volume_ml(t, spacing)]
        np.testing.assert_allclose(report.loc[name].iloc[:8].astype(float), expected)
        assert report.loc[name].isna().any() == bool(report.note[name])

def test_report_of_other_arrays(tmp_path):
    torch = pytest.importorskip('torch')
    pred, label = labelled(0)
    expected = segmentation_report(truth=label, prediction=pred, spacing=(1, 1, 1), classes=BRATS)
    np.save(tmp_path/'label.npy', label)
    for kind in (lambda x: x.astype(np.uint8), lambda x: x.astype(np.float32)*.9999997, torch.tensor, np.asfortranarray, lambda x: np.load(tmp_path/'label.npy', mmap_mode='r') if x is label else x):
        pd.testing.assert_frame_equal(segmentation_report(truth=kind(label), prediction=kind(pred), spacing=(1, 1, 1), classes=BRATS), expected)

def test_report_where_nothing_is_defined():
    full, empty = np.ones((4, 4, 4), int), np.zeros((4, 4, 4), int)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        both = segmentation_report(truth=full, prediction=full, spacing=(1, 1, 1), classes={1: 'all'}).loc['all']
        missed = segmentation_report(truth=full, prediction=empty, spacing=(1, 1, 1), classes={1: 'all'}).loc['all']
        alarm = segmentation_report(truth=empty, prediction=full, spacing=(1, 1, 1), classes={1: 'all'}).loc['all']
        neither = segmentation_report(truth=empty, prediction=empty, spacing=(1, 1, 1), classes={1: 'all'}).loc['all']
    assert np.isnan(both.specificity) and both.dice == 1 and both.note == 'no voxel outside the class'
    assert missed.dice == missed.sensitivity == missed.surface_dice == 0 and np.isnan(missed.precision) and np.isnan(missed.hd95_mm)
    assert alarm.dice == alarm.precision == alarm.surface_dice == 0 and np.isnan(alarm.sensitivity) and np.isnan(alarm.hd95_mm)
    assert neither[['dice', 'sensitivity', 'precision', 'hd95_mm', 'surface_dice']].isna().all() and neither.specificity == 1
    assert [missed.note, alarm.note, neither.note] == ['not in the prediction; no voxel outside the class', 'not in the label', 'in neither prediction nor label']

@pytest.mark.parametrize('change, message', [
    (dict(classes={1: 'a', 2: 'b'}), 'holds label 4'), (dict(spacing=(1, 1)), '3 positive numbers'), (dict(spacing=(1, 1, np.nan)), '3 positive numbers'),
    (dict(regions={'core': [1, 3]}), '3 fits 0'), (dict(regions={'core': ['e']}), "'e' fits 2"), (dict(prediction=np.full((20, 22, 14), np.nan)), 'NaN'),
    (dict(prediction=np.full((20, 22, 14), -1)), 'label -1'), (dict(prediction=np.zeros((20, 22, 13))), r'\(20, 22, 13\)'), (dict(prediction=np.full((20, 22, 14), 'a')), 'whole numbers')])
def test_report_refuses(change, message):
    pred, label = labelled(0)
    with pytest.raises(ValueError, match=message): segmentation_report(**(dict(truth=label, prediction=pred, spacing=(1, 1, 1), classes=BRATS) | change))

def test_report_on_real_patches():
    folder = Path(os.environ.get('MEDTUT_REAL_FILES') or '')/'msd_patches'
    found = sorted(folder.glob('*.npz'))
    if not found: pytest.skip('MEDTUT_REAL_FILES does not name a folder with msd_patches/*.npz')
    names = {1: 'edema', 2: 'non-enhancing', 3: 'enhancing'}
    for path in found:
        label = np.load(path)['label']
        report = segmentation_report(truth=label, prediction=np.roll(label, 1, 0), spacing=(1, 1, 1), classes=names, regions=TUMOUR_REGIONS)
        assert (report.label_ml*1000).round().astype(int).tolist() == [int(np.isin(label, m).sum()) for m in ([1], [2], [3], [1, 2, 3], [2, 3], [3])]
        assert (report.dice.dropna() < 1).all() and (report.hd95_mm.dropna() >= 0).all()
