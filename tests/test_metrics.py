"Scores of any cases, against scikit-learn and their definitions; truth and prediction not to be swapped"
import inspect

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from quiet import quiet
from sklearn import metrics as sk

from medtut.masks import dice, hausdorff95, segmentation_report, surface_dice
from medtut.metrics import (
    Confusion,
    UndefinedMetric,
    accuracy,
    average_precision,
    balanced_accuracy,
    confusion,
    npv,
    ppv,
    roc_auc,
    sensitivity,
    specificity,
)

examples = settings(max_examples=200, deadline=None, derandomize=True)
cases = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=60)

DECISIONS = confusion, sensitivity, specificity, ppv, npv, accuracy, balanced_accuracy
each_decision = pytest.mark.parametrize('metric', DECISIONS, ids=lambda m: m.__name__)

def nan_if_undefined(score, **options):
    "scikit-learn's score, with NaN where it divides by zero"
    def scored(truth, prediction):
        return score(truth, prediction, zero_division=np.nan, **options)
    return scored

PEERS = {
    sensitivity: nan_if_undefined(sk.recall_score),
    specificity: nan_if_undefined(sk.recall_score, pos_label=0),
    ppv: nan_if_undefined(sk.precision_score),
    npv: nan_if_undefined(sk.precision_score, pos_label=0),
    accuracy: sk.accuracy_score}

@examples
@given(cases)
def test_decisions(cases):
    truth, score = np.array(cases).T
    given = dict(truth=truth, prediction=score > 0)
    counts = sk.confusion_matrix(truth, score > 0, labels=[0, 1]).ravel()
    assert confusion(**given) == tuple(counts)
    for ours, peer in PEERS.items():
        found, expected = quiet(ours, **given), quiet(peer, truth, score > 0)
        np.testing.assert_allclose(found, expected, err_msg=ours.__name__)
    balanced = quiet(balanced_accuracy, **given)
    if len(set(truth)) < 2: assert np.isnan(balanced)
    else: np.testing.assert_allclose(balanced, sk.balanced_accuracy_score(truth, score > 0))

@examples
@given(cases)
def test_scores(cases):
    truth, score = np.array(cases).T
    auc, precision = quiet(roc_auc, truth, score), quiet(average_precision, truth, score)
    if len(set(truth)) < 2: assert np.isnan(auc)
    else: np.testing.assert_allclose(auc, sk.roc_auc_score(truth, score))
    if not any(truth): assert np.isnan(precision)
    else: np.testing.assert_allclose(precision, sk.average_precision_score(truth, score))

@pytest.mark.parametrize('metric, truth, prediction, why', [
    (sensitivity, [0, 0], [0, 1], 'no positives'),
    (specificity, [1, 1], [0, 1], 'no negatives'),
    (ppv, [0, 1], [0, 0], 'no positive decisions'),
    (npv, [0, 1], [1, 1], 'no negative decisions'),
    (balanced_accuracy, [0, 0], [0, 1], 'no positives'),
    (balanced_accuracy, [1, 1], [0, 1], 'no negatives')])
def test_undefined_decisions(metric, truth, prediction, why):
    with pytest.warns(UndefinedMetric, match=why) as caught:
        assert np.isnan(metric(truth=truth, prediction=prediction))
    assert {w.filename for w in caught} == {__file__}, 'the line that asked for the score'

@pytest.mark.parametrize('metric, truth, score, why', [
    (roc_auc, [1, 1], [.1, .2], 'no negatives'),
    (roc_auc, [0, 0], [.1, .2], 'no positives'),
    (average_precision, [0, 0], [.1, .2], 'no positives')])
def test_undefined_scores(metric, truth, score, why):
    with pytest.warns(UndefinedMetric, match=why) as caught:
        assert np.isnan(metric(truth, score))
    assert {w.filename for w in caught} == {__file__}, 'the line that asked for the score'

@each_decision
def test_truth_and_prediction_are_named(metric):
    "Swapped, they would give another number, and nobody would see it"
    with pytest.raises(TypeError, match='positional'):
        metric([0, 1, 1], [0, 0, 1])

def test_truth_and_prediction_of_a_report_are_named():
    full = np.ones((4, 4, 4), int)
    with pytest.raises(TypeError, match='positional'):
        segmentation_report(full, full, (1, 1, 1), {1: 'all'})

@pytest.mark.parametrize('metric', [roc_auc, average_precision])
def test_a_swap_of_truth_and_score_is_refused(metric):
    with pytest.raises(ValueError, match='truth must hold 0 and 1'):
        metric([.2, .7, .1], [0, 1, 1])

def test_one_interface():
    "Everywhere truth first, then the prediction or the score, under one name"
    def names(metric):
        return list(inspect.signature(metric).parameters)[:2]
    for metric in *DECISIONS, dice, hausdorff95, surface_dice, segmentation_report:
        assert names(metric) == ['truth', 'prediction'], metric.__name__
    for metric in roc_auc, average_precision:
        assert names(metric) == ['truth', 'score'], metric.__name__

def test_groups_of_the_counts():
    counts = Confusion(tn=1, fp=20, fn=300, tp=4000)
    assert (counts.positives, counts.negatives) == (4300, 21)
    assert (counts.called_positive, counts.called_negative) == (4020, 301)

def with_gradient(x):
    torch = pytest.importorskip('torch')
    return torch.tensor(x, dtype=torch.float32, requires_grad=True)

def test_kinds_of_input():
    torch = pytest.importorskip('torch')
    truth, score = [0, 1, 1, 0], [.2, .9, .4, .1]
    for kind in np.array, pd.Series, torch.tensor, with_gradient:
        assert roc_auc(kind(truth), kind(score)) == 1
    ones = torch.ones(2, 3)
    assert confusion(truth=ones, prediction=np.ones((2, 3), bool)) == (0, 0, 0, 6)

@pytest.mark.parametrize('truth', [['no', 'yes'], [0, None], [0, 4], [0, np.nan]])
def test_refuses_what_is_no_decision(truth):
    with pytest.raises(ValueError, match='truth must hold'):
        accuracy(truth=truth, prediction=[0, 1])
    with pytest.raises(ValueError, match='prediction must hold'):
        accuracy(truth=[0, 1], prediction=truth)

@pytest.mark.parametrize('score', [[0, np.inf], [0, np.nan], ['a', 'b']])
def test_refuses_what_is_no_score(score):
    with pytest.raises(ValueError, match='finite'):
        roc_auc([0, 1], score)

def test_any_numbers_of_cases():
    "Counts above what 32-bit products hold"
    truth = np.repeat([False, True], 70_000)
    assert roc_auc(truth, np.arange(len(truth))) == 1
    assert roc_auc(truth, np.zeros(len(truth))) == .5

# --- what is refused

@pytest.mark.parametrize('truth, prediction, says', [
    ([], [], 'are empty: there is nothing to score'),
    ([0, 1], [1], r'truth has shape \(2,\), prediction \(1,\)'),
    ([0, 2], [0, 1], 'truth must hold 0 and 1, or False and True; found 2 '),
    ([0, 1], [.5, 1], 'prediction must hold 0 and 1, or False and True; found 0.5 ')])
def test_confusion_refuses(truth, prediction, says):
    with pytest.raises(ValueError, match=says):
        confusion(truth=truth, prediction=prediction)

@pytest.mark.parametrize('metric', [roc_auc, average_precision])
@pytest.mark.parametrize('score, says', [
    ([.1, np.nan], 'score must be finite numbers; found float64 with 1 NaN'),
    ([[.1, .9], [.2, .8]], 'give that of the positive one'),
    ([.1], r'truth has shape \(2,\), score \(1,\)')])
def test_scores_are_refused(metric, score, says):
    with pytest.raises(ValueError, match=says):
        metric(truth=[0, 1], score=score)

def test_scores_in_bfloat16():
    "A network in half precision gives them, and NumPy has no such type"
    torch = pytest.importorskip('torch')
    score = torch.tensor([.1, .9], dtype=torch.bfloat16)
    assert roc_auc([0, 1], score) == 1
    assert sensitivity(truth=[0, 1], prediction=(score > .5)) == 1


def test_missing_values_of_pandas_are_refused_in_words():
    missing = pd.array([True, False, pd.NA], dtype='boolean')
    with pytest.raises(ValueError, match='truth must hold a value .* 1 of 3 are missing'):
        sensitivity(truth=missing, prediction=[1, 0, 1])
    with pytest.raises(ValueError, match='score must be finite'):
        roc_auc([1, 0, 1], pd.array([.1, .2, pd.NA], dtype='Float64'))

def test_masked_values_are_refused():
    "NumPy would bring back what the mask hides, and count it"
    masked = np.ma.array([1, 1, 0], mask=[0, 1, 0])
    with pytest.raises(ValueError, match='1 of 3 values are masked'):
        sensitivity(truth=masked, prediction=[1, 0, 0])
    with pytest.raises(ValueError, match='1 of 3 values are masked'):
        roc_auc([1, 0, 0], np.ma.array([.9, .1, .2], mask=[0, 0, 1]))
    assert sensitivity(truth=np.ma.array([1, 1, 0]), prediction=[1, 0, 0]) == .5
