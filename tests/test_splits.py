"Splits of any table: no patient in two parts, sizes as asked for, classes in each where it can be"
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from medtut.splits import cross_validate_by_patient, split_by_patient

examples = settings(max_examples=60, deadline=None, derandomize=True)
row = st.tuples(st.integers(0, 30), st.sampled_from(['a', 'b', 'c'])) # patient, label
rows = st.lists(row, min_size=1, max_size=200)
seeds = st.integers(0, 5)
fractions = st.sampled_from(
    [(.8, .1, .1), (.6, .2, .2), (.98, .01, .01), (.5, 0, .5), (0, 0, 1)])
PARTS = 'train', 'valid', 'test'

def table_of(rows):
    return pd.DataFrame(rows, columns=['patient', 'label'])

def one_label_each(*counts):
    "A table of patients with one row each: so many with label 1, so many with label 0"
    positive, negative = counts
    labels = [1]*positive + [0]*negative
    return pd.DataFrame({'patient': range(len(labels)), 'label': labels})

def has_all_classes(part, table):
    return (pd.crosstab(part, table.label) > 0).all(axis=None)

@examples
@given(rows, fractions, seeds)
def test_split(rows, fractions, seed):
    table = table_of(rows)
    n = table.patient.nunique()
    share = dict(zip(PARTS, fractions))
    wanted = [part for part in PARTS if share[part]]
    if n < len(wanted):
        with pytest.raises(ValueError, match=f'{n} patients?'):
            split_by_patient(table, fractions, seed=seed)
        return
    split = split_by_patient(table, fractions, seed=seed)
    assert split.name == 'split'
    assert split.index.equals(table.index)
    assert set(split) == set(wanted)
    assert split.groupby(table.patient).nunique().max() == 1
    sizes = table.patient.groupby(split).nunique()
    smallest = min(share[part] for part in wanted)
    if n*smallest < 1: return # then one patient each, taken from the largest part
    for part in PARTS:
        assert abs(sizes.get(part, 0) - n*share[part]) <= 1

@examples
@given(rows, st.integers(2, 8), seeds)
def test_folds(rows, n_folds, seed):
    table = table_of(rows)
    n = table.patient.nunique()
    if n < n_folds:
        with pytest.raises(ValueError, match=f'{n} patients?'):
            cross_validate_by_patient(table, n_folds, seed=seed)
        return
    fold = cross_validate_by_patient(table, n_folds, seed=seed)
    assert fold.groupby(table.patient).nunique().max() == 1
    sizes = table.patient.groupby(fold).nunique()
    assert sizes.index.tolist() == list(range(n_folds))
    assert sizes.max() - sizes.min() <= 1

@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('positive', [3, 5, 12])
def test_no_part_without_a_class(positive, seed):
    "40 patients, of whom few are positive: wherever each of three parts can have one, it has"
    table = one_label_each(positive, 40 - positive)
    assert has_all_classes(split_by_patient(table, seed=seed), table)

@pytest.mark.parametrize('seed', range(10))
def test_one_positive_patient_is_for_training(seed):
    table = one_label_each(1, 39)
    assert split_by_patient(table, seed=seed)[0] == 'train'

@pytest.mark.parametrize('seed', range(3))
def test_every_fold_has_a_positive(seed):
    table = one_label_each(6, 34)
    assert has_all_classes(cross_validate_by_patient(table, 5, seed=seed), table)

def shuffled_grades(rng):
    "BraTS2020's 293 high and 76 low grades"
    return pd.DataFrame({'patient': range(369), 'label': rng.permutation([1]*293 + [0]*76)})

def mixed_slices(rng):
    "40 patients with slices of both classes"
    table = pd.DataFrame({'patient': np.repeat(range(40), rng.integers(20, 60, 40))})
    chance = dict(enumerate(rng.uniform(.05, .6, 40)))
    draws = rng.random(len(table))
    return table.assign(label=draws < table.patient.map(chance))

def scikit_learn_folds(table, seed):
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    folds = pd.Series(0, table.index)
    for i, (_, test) in enumerate(splitter.split(table, table.label, table.patient)):
        folds.iloc[test] = i
    return folds

def chi_square(folds, table):
    expected = table.label.value_counts().sort_index()/5
    counts = pd.crosstab(folds, table.label)
    return ((counts - expected)**2/expected).sum(axis=None)

@pytest.mark.parametrize('seed', range(5))
def test_shares_as_close_as_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    for table in shuffled_grades(rng), mixed_slices(rng):
        ours = cross_validate_by_patient(table, seed=seed)
        peer = scikit_learn_folds(table, seed)
        assert chi_square(ours, table) <= chi_square(peer, table) + .05

def test_grades_of_brats():
    "One label a patient: the shares are met to the patient"
    table = one_label_each(293, 76)
    counts = pd.crosstab(split_by_patient(table), table.label)
    expected = counts.sum(axis=1).to_numpy()[:, None]*np.array([76, 293])/369
    assert (abs(counts - expected) <= 1).all(axis=None)

def test_index_with_repeats():
    "A table put together from pieces has an index that repeats"
    table = pd.DataFrame({'patient': list('AABBCC'), 'label': [0, 1]*3}, index=[0, 1]*3)
    split = split_by_patient(table)
    assert split.index.equals(table.index)
    parts = pd.Series(split.to_numpy()).groupby(list('AABBCC'))
    assert parts.nunique().max() == 1

@pytest.mark.parametrize('table, message', [
    (pd.DataFrame({'patient': ['A', np.nan, 'B', 'C'], 'label': 0}), 'without a patient'),
    (pd.DataFrame({'patient': ['A', '', 'B', 'C'], 'label': 0}), 'without a patient'),
    (pd.DataFrame({'patient': ['A', 'A\t', 'B', 'C'], 'label': 0}), 'spaces alone'),
    (pd.DataFrame({'patient': [1, '1', 2, 3], 'label': 0}), 'in type'),
    (pd.DataFrame({'patient': [], 'label': []}), '0 patients'),
    (pd.DataFrame({'patient': list('ABC'), 'label': [0, 1, None]}), 'without a label'),
    (pd.DataFrame({'name': list('ABC'), 'label': 0}), "no column 'patient'")])
def test_refused(table, message):
    for split in split_by_patient, cross_validate_by_patient:
        with pytest.raises(ValueError, match=message):
            split(table)

@pytest.mark.parametrize('alike', [
    ['P1', 'P1 '], ['P1', 'p1'], ['P 1', 'P1'], ['P1', 'P1\u00a0'], ['Mu\u0308ller', 'Müller'],
    [1, '001'], [1., '1'], ['2', '2.0'], [b'P1', 'P1']])
def test_one_patient_written_in_two_ways(alike):
    "They would land in two parts: refused, and both are named"
    table = pd.DataFrame({'patient': pd.Series([*alike, 'B', 'C', 'D'], dtype=object), 'label': 0})
    for split in split_by_patient, cross_validate_by_patient:
        for ids in table.patient, table.patient.astype('category'):
            with pytest.raises(ValueError, match='one way') as error:
                split(table.assign(patient=ids))
            assert all(repr(name) in str(error.value) for name in alike)

@pytest.mark.parametrize('missing',
    ['nan', 'None', '<NA>', 'NaT', None, pd.NA, float('nan'), ' ', '\u200b', '\0'])
def test_a_missing_patient_is_no_patient(missing):
    ids = pd.Series(['A', missing, 'B', 'C', 'D'], index=list('abcde'), dtype=object)
    table = pd.DataFrame({'patient': ids, 'label': 0})
    for split in split_by_patient, cross_validate_by_patient:
        with pytest.raises(ValueError, match="1 row without a patient.*'b'"):
            split(table)

nine = table_of([(i, 'a') for i in range(9)])

@pytest.mark.parametrize('fractions',
    [(.8, .1), (.8, .1, .2), (.8, .3, -.1), (.8, .1, np.nan), (80, 10, 10)])
def test_fractions_refused(fractions):
    with pytest.raises(ValueError, match='add up to 1'):
        split_by_patient(nine, fractions)

def test_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        split_by_patient(nine)
        split_by_patient(nine, stratify=None)

def test_draws_are_those_of_scikit_learn():
    "With a row for each patient: the same patients, draw by draw"
    from sklearn.model_selection import ShuffleSplit
    counts = np.random.default_rng(0).integers(0, 9, (20, 3))
    rng = np.random.RandomState(5)
    for _, theirs in ShuffleSplit(10, test_size=7, random_state=5).split(counts):
        assert (rng.permutation(len(counts))[:7] == theirs).all()
