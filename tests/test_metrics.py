"Scores of any cases, against scikit-learn and against their definitions"
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics as sk

from medtut.metrics import (Interval, UndefinedMetric, accuracy, average_precision, balanced_accuracy, bootstrap_interval, confusion, npv, ppv,
    roc_auc, sensitivity, specificity)

examples = settings(max_examples=200, deadline=None, derandomize=True)
cases = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=60)

def quiet(f, *args):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*args)

@examples
@given(cases)
def test_decisions(cases):
    y, p = np.array(cases).T
    pred = p > 0
    assert confusion(y, pred) == tuple(sk.confusion_matrix(y, pred, labels=[0, 1]).ravel())
    peers = {sensitivity: lambda y, p: sk.recall_score(y, p, zero_division=np.nan), ppv: lambda y, p: sk.precision_score(y, p, zero_division=np.nan),
        specificity: lambda y, p: sk.recall_score(y, p, pos_label=0, zero_division=np.nan),
        npv: lambda y, p: sk.precision_score(y, p, pos_label=0, zero_division=np.nan), accuracy: sk.accuracy_score}
    for ours, peer in peers.items(): np.testing.assert_allclose(quiet(ours, y, pred), quiet(peer, y, pred), err_msg=ours.__name__)
    if len(set(y)) == 2: np.testing.assert_allclose(balanced_accuracy(y, pred), sk.balanced_accuracy_score(y, pred))
    else: assert np.isnan(quiet(balanced_accuracy, y, pred))

@examples
@given(cases)
def test_scores(cases):
    y, p = np.array(cases).T
    if len(set(y)) == 2: np.testing.assert_allclose(roc_auc(y, p), sk.roc_auc_score(y, p))
    else: assert np.isnan(quiet(roc_auc, y, p))
    if any(y): np.testing.assert_allclose(average_precision(y, p), sk.average_precision_score(y, p))
    else: assert np.isnan(quiet(average_precision, y, p))

@pytest.mark.parametrize('metric, y, pred, why', [
    (sensitivity, [0, 0], [0, 1], 'no positives'), (specificity, [1, 1], [0, 1], 'no negatives'), (ppv, [0, 1], [0, 0], 'no positive decisions'),
    (npv, [0, 1], [1, 1], 'no negative decisions'), (balanced_accuracy, [1, 1], [0, 1], 'no negatives'), (roc_auc, [1, 1], [.1, .2], 'no negatives'),
    (roc_auc, [0, 0], [.1, .2], 'no positives'), (average_precision, [0, 0], [.1, .2], 'no positives')])
def test_undefined(metric, y, pred, why):
    with pytest.warns(UndefinedMetric, match=why) as caught: assert np.isnan(metric(y, pred))
    assert {w.filename for w in caught} == {__file__}, 'a warning points at the line that asked for the score'

def test_kinds_of_input():
    torch = pytest.importorskip('torch')
    y, p = [0, 1, 1, 0], [.2, .9, .4, .1]
    for kind in np.array, pd.Series, torch.tensor, lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True):
        assert roc_auc(kind(y), kind(p)) == 1
    assert confusion(torch.ones(2, 3), np.ones((2, 3), bool)) == (0, 0, 0, 6)
    with pytest.raises(ValueError, match='must hold'): accuracy(['no', 'yes'], [0, 1])
    with pytest.raises(ValueError, match='must hold'): accuracy([0, None], [0, 1])
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
    interval = bootstrap_interval(roc_auc, y, p, groups, n=300)
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
    interval = bootstrap_interval(accuracy, y, y, n=50)
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
    with pytest.raises(ValueError, match='empty group'): bootstrap_interval(accuracy, [0, 1], [0, 1], groups)

def test_an_error_in_the_metric_is_seen():
    def broken(y): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): bootstrap_interval(broken, [1, 2])

def test_interval_prints():
    assert f'{Interval(.914, .87, .95)}' == str(Interval(.914, .87, .95)) == repr(Interval(.914, .87, .95)) == '0.91 (0.87–0.95)'
    assert f'{Interval(.914, .87, .95):.1%}' == '91.4% (87.0%–95.0%)'
