"Bootstrap intervals, against their definition, coverage, and patients that may be one"
import warnings

import numpy as np
import pandas as pd
import pytest
from quiet import quiet
from sklearn import metrics as sk

from medtut.comparing import paired_difference
from medtut.intervals import FewPatients, Interval, bootstrap_interval
from medtut.metrics import UndefinedMetric, accuracy, average_precision, roc_auc, sensitivity


def test_bootstrap_by_definition():
    "Drawing patients by name and joining their rows, one by one, gives the same draws"
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(list('ABCDEFG'), [1, 2, 3, 4, 5, 6, 7]))
    cases = pd.DataFrame(dict(y=rng.integers(0, 2, 28), p=rng.random(28)))
    names, draws, scores = np.unique(groups), np.random.default_rng(0), []
    for _ in range(300):
        drawn = [cases[groups == names[i]] for i in draws.integers(0, 7, 7)]
        table = pd.concat(drawn)
        has_both = table.y.nunique() == 2
        scores.append(sk.roc_auc_score(table.y, table.p) if has_both else np.nan)
    limits = np.nanquantile(scores, [.025, .975])
    interval = bootstrap_interval(roc_auc, cases.y, cases.p, groups=groups, n=300)
    np.testing.assert_allclose(interval, [sk.roc_auc_score(cases.y, cases.p), *limits])

def test_bootstrap_covers():
    """Of 200 samples of 30 patients, the 95 % interval holds the true accuracy for most;
    the interval by rows, which knows no patients, for few"""
    rng, hits = np.random.default_rng(0), np.zeros(2)
    groups = np.repeat(range(30), 20)
    for _ in range(200):
        right = rng.random(600) < rng.beta(2, 1, 30)[groups]  # true mean 2/3
        for i, g in enumerate((groups, None)):
            interval = bootstrap_interval(np.mean, right, groups=g, n=300)
            hits[i] += interval.low <= 2/3 <= interval.high
    by_patient, by_row = hits/200
    assert by_patient > .88
    assert by_row < .7

def test_bootstrap_of_masks():
    "Cases lie along the first axis, whatever the others hold"
    y = np.random.default_rng(0).random((20, 4, 4)) > .5
    p = y ^ (np.arange(20) < 5)[:, None, None]
    interval = bootstrap_interval(accuracy, truth=y, prediction=p, n=50)
    assert interval.value == .75 and interval.low < .75 < interval.high

@pytest.mark.parametrize('patients', [30, 100])
def test_draws_that_never_vary_have_no_interval(patients):
    "Never 1.00 (1.00–1.00): that all were right says little about the next patient"
    with pytest.warns(UndefinedMetric, match='all give 1.*proportion_interval') as caught:
        interval = bootstrap_interval(np.mean, np.ones(patients), n=200)
    assert interval.value == 1 and np.isnan(interval[1:]).all()
    assert str(interval) == '1.00 (no interval)'
    assert {w.filename for w in caught} == {__file__}, 'the line that asked for the interval'

def test_mostly_undefined_draws_have_no_interval():
    "A metric that needs three patients at once: most draws lack one of them"
    def of_all_three(y): return y.mean() if {0, 1, 2} <= set(y) else np.nan
    with pytest.warns(UndefinedMetric, match='any interval; medtut.few_patients'):
        interval = bootstrap_interval(of_all_three, np.arange(6), n=300)
    assert interval.value == 2.5 and np.isnan(interval[1:]).all()

def test_few_patients_are_told_what_to_use():
    rng = np.random.default_rng(0)
    with pytest.warns(FewPatients, match='19 patients.*mean_interval') as caught:
        bootstrap_interval(np.mean, rng.normal(size=19), n=50)
    assert {w.filename for w in caught} == {__file__}
    slices = rng.normal(size=190)
    with pytest.warns(FewPatients):
        bootstrap_interval(np.mean, slices, groups=np.repeat(range(19), 10), n=50)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        bootstrap_interval(np.mean, rng.normal(size=20), n=50)

@pytest.mark.parametrize('metric', [roc_auc, average_precision])
def test_few_ill_patients_among_many_are_told(metric):
    "Of 5 ill among 100, with an AUC of .95, draws cover 76 % where 95 % are meant (simulated)"
    rng = np.random.default_rng(0)
    truth = np.arange(100) < 5
    score = truth + rng.normal(size=100)
    with pytest.warns(FewPatients, match='5 patients with a positive are few.*auc_interval'):
        bootstrap_interval(metric, truth, score, n=50)
    with pytest.warns(FewPatients, match='5 patients with a negative are few'):
        bootstrap_interval(metric, ~truth, score, n=50)

def test_a_difference_makes_up_for_few_patients():
    rng = np.random.default_rng(0)
    truth = np.arange(12) % 2
    a, b = rng.random((2, 12)) > .4
    with warnings.catch_warnings():
        warnings.simplefilter('error', FewPatients)
        paired_difference(accuracy, truth, a, b, n=100)

def test_bootstrap_without_a_value():
    truth, score = [0, 0, 0], [.1, .2, .3]
    with pytest.warns(UndefinedMetric, match='no positives'):
        interval = bootstrap_interval(roc_auc, truth, score)
    assert np.isnan(interval).all()
    with pytest.warns(UndefinedMetric, match='one patient') as caught:
        interval = bootstrap_interval(np.mean, [1, 2, 3], groups=[7, 7, 7])
    assert interval.value == 2
    assert np.isnan(interval[1:]).all()
    assert {w.filename for w in caught} == {__file__}, 'the line that asked for the interval'

def test_bootstrap_says_when_many_draws_have_no_value():
    with pytest.warns(UndefinedMetric, match=r'undefined in \d+% of 500 draws') as caught:
        bootstrap_interval(roc_auc, [0, 0, 1], [.1, .2, .3], n=500)
    assert {w.filename for w in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        bootstrap_interval(roc_auc, [0, 1]*30, np.arange(60), n=200)

# --- against the definition

def bootstrap_row_by_row(metric, y, p, groups, n):
    """In the plainest way: patients drawn by number, in the order of their sorted names,
    and their rows joined"""
    rows_of_patient = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    patients = len(rows_of_patient)
    rng, scores = np.random.default_rng(0), []
    for _ in range(n):
        drawn = rng.integers(0, patients, patients)
        rows = np.concatenate([rows_of_patient[i] for i in drawn])
        scores.append(quiet(metric, y[rows], p[rows]))
    limits = np.nanquantile(scores, [(1 - .95)/2, (1 + .95)/2])
    return metric(y, p), *limits

def mean_score(y, p): return np.mean(p)
def sensitivity_of(y, p):
    return sensitivity(truth=y, prediction=p)
def unknown_auc(y, p): return roc_auc(y, p) # a function of one's own, of which nothing is known

@pytest.mark.parametrize('decimals', [0, 1, 12])
@pytest.mark.parametrize('metric', [roc_auc, average_precision, mean_score, unknown_auc])
def test_bootstrap_is_exactly_the_definition(metric, decimals):
    "To the last bit, with many ties and without, with patients of one case and of several"
    rng = np.random.default_rng(1)
    y = rng.random(400) < .2
    p = rng.normal(y*1.).round(decimals)
    eight_patients = rng.permutation(np.repeat(list('ABCDEFGH'), 50))
    for groups in np.arange(400), rng.integers(0, 90, 400), eight_patients:
        interval = bootstrap_interval(metric, y, p, groups=groups, n=60)
        assert tuple(interval) == bootstrap_row_by_row(metric, y, p, groups, 60)
    ungrouped = bootstrap_interval(metric, y, p, n=60)
    assert ungrouped == bootstrap_interval(metric, y, p, groups=np.arange(400), n=60)

@pytest.mark.parametrize('metric', [roc_auc, average_precision])
def test_bootstrap_of_scores_where_a_class_is_missing(metric):
    "Few positives: draws without any have no value, the same ones as by definition"
    y, p = np.arange(40) < 2, np.random.default_rng(0).random(40)
    with pytest.warns(UndefinedMetric, match=r'undefined in \d+% of 300 draws'):
        interval = bootstrap_interval(metric, y, p, n=300)
    assert tuple(interval) == bootstrap_row_by_row(metric, y, p, np.arange(40), 300)

@pytest.mark.parametrize('grouped', [False, True])
@pytest.mark.parametrize('metric', [roc_auc, average_precision, mean_score, sensitivity_of])
def test_bootstrap_of_100_000_cases(metric, grouped):
    "Counting gives what drawing row by row gives, at a size for which the latter takes a minute"
    rng = np.random.default_rng(0)
    y = rng.random(100_000) < .3
    if metric is sensitivity_of: p = rng.random(100_000) < .5
    else: p = rng.normal(y*1.)
    groups = rng.integers(0, 30_000, 100_000) if grouped else np.arange(100_000)
    counted = bootstrap_interval(metric, y, p, groups=groups if grouped else None, n=2)
    expected = bootstrap_row_by_row(metric, y, p, groups, 2)
    np.testing.assert_allclose(tuple(counted), expected, rtol=1e-9)

# --- arrays by position and by name

@pytest.fixture
def cases():
    rng = np.random.default_rng(2)
    y, groups = rng.random(300) < .4, rng.integers(0, 50, 300)
    return y, rng.normal(y*1.).round(1), dict(groups=groups, n=40)

@pytest.mark.parametrize('metric', [roc_auc, average_precision])
def test_bootstrap_of_scores_by_name(metric, cases):
    "By name, by position, and some of each: the same interval"
    y, p, options = cases
    expected = bootstrap_interval(metric, y, p, **options)
    assert bootstrap_interval(metric, truth=y, score=p, **options) == expected
    assert bootstrap_interval(metric, score=p, truth=y, **options) == expected
    assert bootstrap_interval(metric, y, score=p, **options) == expected

def test_bootstrap_of_decisions_by_name(cases):
    y, p, options = cases
    expected = bootstrap_interval(sensitivity_of, y, p > .5, **options)
    assert bootstrap_interval(sensitivity, truth=y, prediction=p > .5, **options) == expected
    assert bootstrap_interval(sensitivity, prediction=p > .5, truth=y, **options) == expected

def test_bootstrap_refuses_a_swap():
    with pytest.raises(TypeError, match='positional'):
        bootstrap_interval(sensitivity, [0, 1, 1], [0, 0, 1])
    with pytest.raises(ValueError, match='truth must hold 0 and 1'):
        bootstrap_interval(roc_auc, [.2, .7, .1], [0, 1, 1])

def test_bootstrap_refuses_arrays_that_the_metric_does_not_take():
    with pytest.raises(TypeError, match='group'):
        bootstrap_interval(accuracy, truth=[0, 1], prediction=[0, 1], group=[1, 2])

@pytest.mark.parametrize('arrays, message', [
    (dict(), 'no cases'),
    (dict(truth=[], prediction=[]), 'no cases'),
    (dict(truth=[0, 1], prediction=[0, 1, 1]), r'\[2, 3\] values'),
    (dict(truth=[0, 1], prediction=[0, 1], groups=[1, 2, 3]), 'for 3 groups'),
    (dict(truth=[0, 1], prediction=[0, 1], n=0), 'n must be 1'),
    (dict(truth=[0, 1], prediction=[0, 1], level=95), 'level between 0 and 1')])
def test_bootstrap_refuses(arrays, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(accuracy, **arrays)

def test_groups_may_be_a_tensor(cases):
    torch = pytest.importorskip('torch')
    y, p, options = cases
    expected = bootstrap_interval(roc_auc, y, p, **options)
    as_tensor = torch.tensor(options['groups'])
    assert bootstrap_interval(roc_auc, y, p, groups=as_tensor, n=40) == expected

def test_an_error_in_the_metric_is_seen():
    def broken(y): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        bootstrap_interval(broken, [1, 2])

# --- who is a patient

def refuses_groups(groups, message, n=2):
    "The error that says so"
    with pytest.raises(ValueError, match=message) as error:
        bootstrap_interval(accuracy, truth=[0, 1, 1][:n], prediction=[0, 1, 0][:n], groups=groups)
    return str(error.value)

@pytest.mark.parametrize('groups', [
    ['A', None], ['A', np.nan], ['A', ' '], [1, np.nan], pd.Series(['A', pd.NA])])
def test_bootstrap_refuses_empty_groups(groups): refuses_groups(groups, 'empty group')

@pytest.mark.parametrize('groups', [
    ['A', 'nan'], ['A', 'None'], ['A', '<NA>'], ['A', 'NaT'], ['A', '\u200b'], ['A', '\0'],
    ['A', b' '], [1, None], pd.Series([1, pd.NA], dtype='Int64')])
def test_bootstrap_refuses_missing_groups_written_as_text(groups):
    "astype(str) makes 'nan' of a missing patient, and one patient of all that are missing"
    refuses_groups(groups, 'empty group')

ALIKE = [
    ['P1', 'P1 '], ['P1', ' P1'], ['P 1', 'P1'], ['P1', 'P1\t'], ['P1', 'P1\u00a0'],
    ['P1', 'P1\u200b'], ['P1', 'P1\0'], ['P1', 'p1'], ['MÜLLER', 'Müller'],
    ['Mu\u0308ller', 'Müller'], [1, '1'], [1., '1'], [1, '1.0'], ['1', '1.0'], [1, '001'],
    [7, '007 '], [b'P1', 'P1']]

@pytest.mark.parametrize('alike', ALIKE)
def test_bootstrap_refuses_groups_that_may_be_one_patient(alike):
    "Two patients made of one narrow the interval; the message names both"
    names = [*alike, 'other']
    as_series = pd.Series(names, index=[5, 6, 7], dtype=object)
    for groups in names, as_series, np.array(names, object), pd.Categorical(names):
        message = refuses_groups(groups, 'write each patient in one way', n=3)
        assert all(repr(name) in message for name in alike)

@pytest.mark.parametrize('groups', [
    [1, 2, 3], [1., 2., 3.5], ['A', 'B', 'NA'], ['P1', 'P10', 'P01'],
    [('A', 1), ('A', 2), ('B', 1)], [np.int64(1), 2, 3],
    pd.to_datetime(['2020-01-01', '2020-01-02', '2020-01-03']), [2**62, 2**62 + 1, 3]])
def test_groups_that_are_told_apart(groups):
    "Ids that differ in more than that are patients of their own, whatever kind they are"
    assert bootstrap_interval(np.mean, [1., 2., 3.], groups=groups, n=20).low < 2

def test_interval_prints():
    interval = Interval(.914, .87, .95)
    assert f'{interval}' == str(interval) == repr(interval) == '0.91 (0.87–0.95)'
    assert f'{interval:.1%}' == '91.4% (87.0%–95.0%)'

@pytest.mark.parametrize('groups, says', [
    (None, r'found \[4, 3\] values for 4 cases'), (['a', 'b'], 'values for 2 groups')])
def test_lengths_that_differ_are_refused(groups, says):
    with pytest.raises(ValueError, match=says):
        bootstrap_interval(accuracy, [0, 1, 0, 1], [0, 1, 0], groups=groups)
