"Splits of any table: no patient in two parts, sizes as asked for, no class missing where it can be avoided"
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from medtut.splits import cross_validate_by_patient, split_by_patient

examples = settings(max_examples=60, deadline=None, derandomize=True)
rows = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(['a', 'b', 'c'])), min_size=1, max_size=200)
seeds = st.integers(0, 5)

def table_of(rows): return pd.DataFrame(rows, columns=['patient', 'label'])

@examples
@given(rows, st.sampled_from([(.8, .1, .1), (.6, .2, .2), (.98, .01, .01), (.5, 0, .5), (0, 0, 1)]), seeds)
def test_split(rows, fractions, seed):
    table = table_of(rows)
    n, wanted = table.patient.nunique(), [part for part, f in zip(('train', 'valid', 'test'), fractions) if f]
    if n < len(wanted):
        with pytest.raises(ValueError, match=f'{n} patients'): split_by_patient(table, fractions, seed=seed)
        return
    split = split_by_patient(table, fractions, seed=seed)
    assert split.name == 'split' and split.index.equals(table.index)
    assert set(split) == set(wanted)
    assert split.groupby(table.patient).nunique().max() == 1
    sizes = table.patient.groupby(split).nunique()
    if n*min(filter(None, fractions)) >= 1:  # else one patient each, taken from the largest part
        for part, f in zip(('train', 'valid', 'test'), fractions): assert abs(sizes.get(part, 0) - f*n) <= 1

@examples
@given(rows, st.integers(2, 8), seeds)
def test_folds(rows, n_folds, seed):
    table = table_of(rows)
    n = table.patient.nunique()
    if n < n_folds:
        with pytest.raises(ValueError, match=f'{n} patients'): cross_validate_by_patient(table, n_folds, seed=seed)
        return
    fold = cross_validate_by_patient(table, n_folds, seed=seed)
    assert fold.groupby(table.patient).nunique().max() == 1
    sizes = table.patient.groupby(fold).nunique()
    assert sizes.index.tolist() == list(range(n_folds)) and sizes.max() - sizes.min() <= 1

@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('positive', [3, 5, 12])
def test_no_part_without_a_class(positive, seed):
    "40 patients of one label each, of whom few are positive: wherever each of three parts can have one, it has"
    table = pd.DataFrame({'patient': range(40), 'label': [1]*positive + [0]*(40 - positive)})
    assert (pd.crosstab(split_by_patient(table, seed=seed), table.label) > 0).all(axis=None)

@pytest.mark.parametrize('seed', range(10))
def test_one_positive_patient_is_for_training(seed):
    table = pd.DataFrame({'patient': range(40), 'label': [1] + [0]*39})
    assert split_by_patient(table, seed=seed)[0] == 'train'

@pytest.mark.parametrize('seed', range(3))
def test_every_fold_has_a_positive(seed):
    table = pd.DataFrame({'patient': range(40), 'label': [1]*6 + [0]*34})
    assert (pd.crosstab(cross_validate_by_patient(table, 5, seed=seed), table.label) > 0).all(axis=None)

@pytest.mark.parametrize('seed', range(5))
def test_shares_as_close_as_scikit_learn(seed):
    "BraTS2020's 293 high and 76 low grades, and 40 patients with mixed slices"
    rng = np.random.default_rng(seed)
    brats = pd.DataFrame({'patient': range(369), 'label': rng.permutation([1]*293 + [0]*76)})
    mixed = pd.DataFrame({'patient': np.repeat(range(40), rng.integers(20, 60, 40))})
    mixed['label'] = rng.random(len(mixed)) < mixed.patient.map(dict(enumerate(rng.uniform(.05, .6, 40))))
    for table in brats, mixed:
        ours, peer = cross_validate_by_patient(table, seed=seed), pd.Series(0, table.index)
        for i, (_, test) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(table, table.label, table.patient)): peer.iloc[test] = i
        expected = table.label.value_counts().sort_index()/5
        off = [((pd.crosstab(fold, table.label) - expected)**2/expected).sum(axis=None) for fold in (ours, peer)]
        assert off[0] <= off[1] + .05

def test_grades_of_brats():
    "One label a patient: the shares are met to the patient"
    table = pd.DataFrame({'patient': range(369), 'label': [1]*293 + [0]*76})
    found = pd.crosstab(split_by_patient(table), table.label)
    expected = found.sum(axis=1).to_numpy()[:, None]*np.array([76, 293])/369
    assert (abs(found - expected) <= 1).all(axis=None)

def test_index_with_repeats():
    "A table put together from pieces has an index that repeats"
    table = pd.DataFrame({'patient': list('AABBCC'), 'label': [0, 1]*3}, index=[0, 1]*3)
    split = split_by_patient(table)
    assert split.index.equals(table.index)
    assert pd.Series(split.to_numpy()).groupby(list('AABBCC')).nunique().max() == 1

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
        with pytest.raises(ValueError, match=message): split(table)

@pytest.mark.parametrize('alike', [['P1', 'P1 '], ['P1', 'p1'], ['P 1', 'P1'], ['P1', 'P1\u00a0'], ['Mu\u0308ller', 'Müller'], [1, '001'], [1., '1'], ['2', '2.0'], [b'P1', 'P1']])
def test_one_patient_written_in_two_ways(alike):
    "They would land in two parts: refused, and both are named"
    table = pd.DataFrame({'patient': pd.Series([*alike, 'B', 'C', 'D'], dtype=object), 'label': 0})
    for split in split_by_patient, cross_validate_by_patient:
        for ids in table.patient, table.patient.astype('category'):
            with pytest.raises(ValueError, match='one way') as error: split(table.assign(patient=ids))
            assert all(repr(name) in str(error.value) for name in alike)

@pytest.mark.parametrize('missing', ['nan', 'None', '<NA>', 'NaT', None, pd.NA, float('nan'), ' ', '\u200b', '\0'])
def test_a_missing_patient_is_no_patient(missing):
    table = pd.DataFrame({'patient': pd.Series(['A', missing, 'B', 'C', 'D'], dtype=object), 'label': 0}).set_axis(list('abcde'))
    for split in split_by_patient, cross_validate_by_patient:
        with pytest.raises(ValueError, match="1 rows without a patient.*'b'"): split(table)

@pytest.mark.parametrize('fractions', [(.8, .1), (.8, .1, .2), (.8, .3, -.1), (.8, .1, np.nan), (80, 10, 10)])
def test_fractions_refused(fractions):
    with pytest.raises(ValueError, match='add up to 1'): split_by_patient(table_of([(i, 'a') for i in range(9)]), fractions)

def test_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        split_by_patient(table_of([(i, 'a') for i in range(9)]))
        split_by_patient(table_of([(i, 'a') for i in range(9)]), stratify=None)
