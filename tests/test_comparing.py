"Two models on the same cases: the difference with its interval, and what may be said of it"
import numpy as np
import pytest
from scipy import stats

from medtut.comparing import Difference, chosen_interval, mean_difference, paired_difference
from medtut.metrics import UndefinedMetric, accuracy, roc_auc, sensitivity, specificity


def two_models(rng, n, first, second):
    "Truth and the scores of two models, correlated by .5, with these AUCs"
    truth = np.arange(n) < n//2
    shared = rng.normal(size=n)
    scores = [np.sqrt(.5)*shared + np.sqrt(.5)*rng.normal(size=n)
              + truth*np.sqrt(2)*stats.norm.ppf(auc) for auc in (first, second)]
    return truth, *scores


@pytest.mark.parametrize('n, first, second', [(23, .9, .8), (45, .85, .85)])
def test_differences_are_covered(n, first, second):
    rng = np.random.default_rng(7)
    differences = [paired_difference(roc_auc, *two_models(rng, n, first, second), n=200)
                   for _ in range(300)]
    assert np.mean([d.low <= first - second <= d.high for d in differences]) >= .93


def test_pairing_is_worth_it():
    "Two models that rank nearly alike: the difference is known better than either score"
    rng = np.random.default_rng(1)
    truth, score, _ = two_models(rng, 60, .8, .8)
    better = score + .15*truth
    d = paired_difference(roc_auc, truth, better, score, seed=3)
    assert d.verdict == 'higher'
    assert d.high - d.low < .1
    turned = paired_difference(roc_auc, truth, score, better, seed=3)
    assert turned == pytest.approx([-d.value, -d.high, -d.low])


def test_metrics_that_take_names_alone():
    truth, a, b = [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0]
    d = paired_difference(sensitivity, truth, a, b, n=200)
    assert d.value == .5


def test_patients_are_drawn_whole():
    rng = np.random.default_rng(2)
    truth, a, b = two_models(rng, 20, .8, .7)
    once = paired_difference(roc_auc, truth, a, b)
    copied = paired_difference(roc_auc, *[np.repeat(x, 5) for x in (truth, a, b)],
                               groups=np.repeat(np.arange(20), 5))
    assert copied == pytest.approx(once, abs=.02)


@pytest.mark.parametrize('low, high, verdict', [
    (.1, .3, 'higher'), (-.3, -.1, 'lower'), (-.1, .1, 'undecided'), (0, .2, 'undecided'),
    (np.nan, np.nan, 'undecided')])
def test_verdict(low, high, verdict):
    assert Difference(.2, low, high).verdict == verdict


def test_sentences():
    assert Difference(.12, .05, .2).sentence('the net', 'chance') == \
        'the net is higher than chance: +0.12 (+0.05 to +0.20)'
    assert Difference(-.01, -.05, .03).sentence('A', 'B', '+.0%') == \
        'undecided between A and B: -1% (-5% to +3%)'

@pytest.mark.parametrize('value, spec, shown', [
    (-.001, '', '+0.00'), (-.2, '+.0f', '+0'), (-.001, '+.0%', '+0%'), (-.01, '', '-0.01'),
    (0., '', '+0.00'), (np.nan, '', '+nan')])
def test_no_minus_zero(value, spec, shown):
    assert format(Difference(value, -30, 50), spec).startswith(f'{shown} ')


@pytest.mark.parametrize('limits, spec, shown', [
    ((-.0057, -.0114, -.0001), '+.3f', '-0.0057 (-0.0114 to -0.0001)'),
    ((.012, .0004, .03), '+.0%', '+1.20% (+0.04% to +3.00%)'),
    ((.3, .2, .4), '.1g', '0.3 (0.2 to 0.4)')])
def test_limit_of_a_verdict_never_reads_as_zero(limits, spec, shown):
    "A reader of 'lower: -0.006 (-0.011 to -0.000)' would take it for undecided"
    assert Difference(*limits).verdict != 'undecided'
    assert format(Difference(*limits), spec) == shown


def test_equal_models_are_undecided_in_words():
    with pytest.warns(UndefinedMetric, match='all give 0'):
        d = paired_difference(roc_auc, [0, 1]*3, range(6), range(6))
    assert d.value == 0
    assert d.verdict == 'undecided'
    with pytest.warns(UndefinedMetric, match='too little'):
        assert paired_difference(roc_auc, [0, 1], [1, 2], [2, 1]).verdict == 'undecided'


def test_two_wins_in_a_hundred_decide_nothing():
    "The sign test says p = .5; Hall's correction alone said higher"
    assert mean_difference([1]*2 + [0]*98, [0]*100).verdict == 'undecided'
    assert mean_difference([1]*3 + [0]*9, [0]*12).verdict == 'undecided'


@pytest.mark.parametrize('n, differ', [(12, .25), (40, 3/40), (100, .02)])
def test_equal_models_seldom_seem_to_differ(n, differ):
    "Hits and misses of two models that are equally good and seldom differ"
    rng = np.random.default_rng(9)
    samples = rng.choice([-1, 0, 1], (1000, n), p=[differ/2, 1 - differ, differ/2])
    samples = samples[samples.any(1)] # all alike: no interval
    verdicts = [mean_difference(sample, np.zeros(n)).verdict for sample in samples]
    assert np.mean([verdict != 'undecided' for verdict in verdicts]) <= .06


@pytest.mark.parametrize('n, failures', [(20, .05), (40, .02)])
def test_equal_models_that_fail_now_and_then_seldom_seem_to_differ(n, failures):
    rng = np.random.default_rng(10)
    def dice(): return rng.beta(17, 2, n)*(rng.random(n) > failures)
    verdicts = [mean_difference(dice(), dice(), bounds=(-1, 1)).verdict for _ in range(800)]
    assert np.mean([verdict != 'undecided' for verdict in verdicts]) <= .06


@pytest.mark.parametrize('ill, auc', [(5, .85), (8, .95)])
def test_differences_of_aucs_with_few_ill_are_covered(ill, auc):
    rng = np.random.default_rng(11)
    truth = np.arange(100) < ill
    shift = truth*np.sqrt(2)*stats.norm.ppf(auc)

    def holds():
        common = np.sqrt(.5)*rng.normal(size=100)
        a, b = (common + np.sqrt(.5)*rng.normal(size=100) + shift for _ in range(2))
        found = paired_difference(roc_auc, truth, a, b, n=300)
        return found.low <= 0 <= found.high

    assert np.mean([holds() for _ in range(150)]) >= .93


def test_two_ill_patients_tell_no_difference_of_scores():
    with pytest.warns(UndefinedMetric, match='2 patients say too little'):
        found = paired_difference(roc_auc, [1]*2 + [0]*50, np.arange(52), np.arange(52)[::-1])
    assert np.isnan(found.low)


def test_mean_difference_is_a_paired_test():
    rng = np.random.default_rng(4)
    a = rng.normal(size=30)
    b = a + .1 + .05*rng.normal(size=30)
    d = mean_difference(b, a)
    assert d.verdict == 'higher'
    assert d.value == pytest.approx(np.mean(b - a))
    assert d[1:] == pytest.approx(tuple(stats.ttest_rel(b, a).confidence_interval()), abs=.003)
    with pytest.raises(ValueError, match='shape'):
        mean_difference(a, b[1:])


def tenth_of_the_ill(truth, score):
    return np.quantile(score[truth], .1)


def specificity_at(truth, score, threshold):
    return specificity(truth=truth, prediction=score >= threshold)


def judged(rng, n_valid, n_test, **kwargs):
    valid, test = [two_models(rng, n, .9, .9)[:2] for n in (n_valid, n_test)]
    return chosen_interval(tenth_of_the_ill, specificity_at, valid, test, n=200, **kwargs)


def test_a_threshold_from_few_cases_costs_certainty():
    "Five times as many cases to judge on do not make up for few to choose on"
    few = judged(np.random.default_rng(5), 20, 400)
    many = judged(np.random.default_rng(5), 400, 400)
    assert few.high - few.low > 1.5*(many.high - many.low)


def test_a_chosen_threshold_is_covered():
    "Of the rule as a whole: threshold from 40 cases, specificity among all others"
    rng = np.random.default_rng(6)
    everybody = two_models(rng, 20_000, .9, .9)[:2]
    thresholds = [tenth_of_the_ill(*two_models(rng, 40, .9, .9)[:2]) for _ in range(300)]
    rule = np.mean([specificity_at(*everybody, threshold) for threshold in thresholds])
    found = [judged(rng, 40, 60) for _ in range(150)]
    assert np.mean([i.low <= rule <= i.high for i in found]) >= .93


def test_draws_without_a_choice_are_said():
    """One class is missing from 9/27 of the draws of one ill and two well, and from 2/16 of those of
    two and two: 5/12 of both together have no value"""
    says = '^the metric is undefined in 4.% of 300 draws, which are left out$'
    with pytest.warns(UndefinedMetric, match=says) as caught:
        interval = chosen_interval(
            tenth_of_the_ill, specificity_at, ([1, 0, 0], [.15, .1, .2]),
            ([1, 0, 0, 1], [.8, .1, .2, .9]), n=300)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.isfinite(interval).all()


def test_where_most_draws_have_no_value_limits_have_none():
    def of_all(truth, score, threshold): return .5 if len(set(score)) == 4 else np.nan
    with pytest.warns(UndefinedMetric, match='in 9.% of 300 draws.*limits are NaN') as caught:
        interval = chosen_interval(
            tenth_of_the_ill, of_all, ([1, 0, 0, 1], [.9, .1, .2, .8]),
            ([1, 0, 0, 1], [.8, .1, .2, .9]), n=300)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert interval.value == .5
    assert np.isnan(interval[1:]).all()


@pytest.mark.parametrize('patients', [1, 2])
@pytest.mark.parametrize('side', ['valid_groups', 'test_groups'])
def test_few_patients_to_choose_or_judge_on(side, patients):
    "Student's t with no degree of freedom has no quantile; as `paired_difference`, three are asked"
    cases = [1, 0, 0, 1], [.9, .1, .2, .8]
    groups = {side: [i % patients for i in range(4)]}
    says = f'^interval is undefined, so NaN: {patients} patients? says? too little'
    with pytest.warns(UndefinedMetric, match=says) as caught:
        interval = chosen_interval(tenth_of_the_ill, specificity_at, cases, cases, **groups)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert interval.value == 1
    assert np.isnan(interval[1:]).all()

# --- what is refused

TRUTH, SCORE = [0, 1]*3, [.1, .9, .2, .8, .3, .7]

def difference(score=SCORE, **kw):
    return paired_difference(roc_auc, TRUTH, SCORE, score, **kw)

def chosen(score=SCORE, **kw):
    def half(truth, score): return .5
    def hits(truth, score, threshold):
        return float((truth == (score > threshold)).mean())
    return chosen_interval(half, hits, (TRUTH, SCORE), (TRUTH, score), **kw)

@pytest.mark.parametrize('call, says', [
    (lambda: difference(SCORE[:3]), 'one of each for every case'),
    (lambda: difference(groups=['a', 'A', 'b', 'c', 'd', 'e']), 'one way'),
    (lambda: difference(level=2), 'level must be between 0 and 1, found 2'),
    (lambda: chosen(SCORE[:3]), r'score \(3,\)'),
    (lambda: chosen(valid_groups=['a', 'A', 'b', 'c', 'd', 'e']), 'one way'),
    (lambda: chosen(test_groups=['a', 'b']), 'for 2 groups')])
def test_cases_that_do_not_fit_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()

def test_patients_on_both_sides_are_refused_by_name():
    "A threshold that was chosen on a patient can't be judged on that patient"
    truth, score = np.tile([0, 1], 20), np.linspace(0, 1, 40)
    names = [f'P{i//2}' for i in range(40)]
    def half(truth, score): return .5
    def right(truth, score, threshold): return accuracy(truth=truth, prediction=score > threshold)
    with pytest.raises(ValueError, match='20 patients on both sides, such as P0'):
        chosen_interval(half, right, (truth, score), (truth, score), names, names, n=50)
    numbers = np.arange(40)//2 # counted from 0 on each side: other people
    assert chosen_interval(half, right, (truth, score), (truth, score), numbers, numbers, n=50)
