"Reports over patients: a model gains nothing by leaving a structure out"
import numpy as np
import pandas as pd
import pytest

from medtut.masks import segmentation_report
from medtut.metrics import UndefinedMetric
from medtut.summaries import compare_summaries, summarise

SAME = 'ignore:no interval for:medtut.metrics.UndefinedMetric'
pytestmark = pytest.mark.filterwarnings(SAME)

CLASSES = {1: 'core', 2: 'edema'}
DIAGONAL = 35.


def scan(seed, with_edema=True, shift=1, find_edema=True, invent=False):
    "Report of a made-up scan: two blocks, found one voxel or so beside their place"
    rng = np.random.default_rng(seed)
    truth = np.zeros((20, 20, 20), int)
    corner = rng.integers(3, 8, 3)
    truth[tuple(slice(c, c + 5) for c in corner)] = 1
    if with_edema:
        truth[tuple(slice(c + 6, c + 9) for c in corner)] = 2
    prediction = np.roll(truth, shift, 0)
    if not find_edema:
        prediction[prediction == 2] = 0
    if invent:
        prediction[0, 0, 0] = 2
    return segmentation_report(
        truth=truth, prediction=prediction, spacing=(1, 1, 1), classes=CLASSES)


@pytest.fixture(scope='module')
def found():
    "Twelve scans, four of them without edema"
    return {f'case {i}': scan(i, with_edema=i % 3 > 0, shift=i % 2) for i in range(12)}


@pytest.fixture(scope='module')
def left_out():
    "The same, by a model that never says edema"
    return {f'case {i}': scan(i, with_edema=i % 3 > 0, shift=i % 2, find_edema=False)
            for i in range(12)}


def test_distances_need_no_worst_where_nothing_is_missed(found):
    "A user's first call, with the defaults"
    summary = summarise(found)
    distances = [report.hd95_mm.edema for report in found.values() if report.label_ml.edema]
    assert summary.hd95_mm.edema.value == pytest.approx(np.mean(distances))
    assert summary.hd95_mm.edema.low < summary.hd95_mm.edema.value


def test_means_and_counts(found):
    summary = summarise(found, worst_mm=DIAGONAL)
    assert list(summary.index) == ['core', 'edema']
    counts = summary.loc['edema', ['cases', 'present', 'missed', 'invented']]
    assert counts.tolist() == [12, 8, 0, 0]
    edema = [report.dice.edema for report in found.values() if report.label_ml.edema]
    assert summary.dice.edema.value == pytest.approx(np.mean(edema))
    assert summary.detected.edema.value == 1
    assert summary.detected.edema.low < .7
    assert summary.rightly_absent.edema.value == 1


def test_missing_everything_improves_no_mean(found, left_out):
    better, worse = [summarise(reports, worst_mm=DIAGONAL) for reports in (found, left_out)]
    assert worse.missed.edema == 8
    assert worse.detected.edema.value == 0
    for measure in ('dice', 'surface_dice'):
        assert worse[measure].edema.value < better[measure].edema.value
    assert worse.hd95_mm.edema.value == DIAGONAL > better.hd95_mm.edema.value


def test_left_out_is_counted_all_the_same(found):
    reports = found | {'missed': scan(20, find_edema=False)}
    kept = summarise(reports, missed='leave out', worst_mm=DIAGONAL)
    worst = summarise(reports, missed='worst', worst_mm=DIAGONAL)
    assert kept.missed.edema == worst.missed.edema == 1
    assert kept.dice.edema.value > worst.dice.edema.value
    assert kept.detected.edema.value == pytest.approx(8/9)


def test_an_invented_structure_counts(found):
    reports = found | {'invented': scan(30, with_edema=False, invent=True)}
    summary = summarise(reports, worst_mm=DIAGONAL)
    assert summary.invented.edema == 1
    assert summary.rightly_absent.edema.value == pytest.approx(4/5)
    assert summary.dice.edema.value < summarise(found, worst_mm=DIAGONAL).dice.edema.value


def test_what_is_in_neither(found):
    alone = summarise(found, empty='leave out', worst_mm=DIAGONAL)
    perfect = summarise(found, empty='perfect', worst_mm=DIAGONAL)
    dice = [report.dice.edema for report in found.values() if report.label_ml.edema]
    assert perfect.dice.edema.value == pytest.approx((sum(dice) + 4)/12)
    assert alone.dice.core == perfect.dice.core


def test_patients_with_several_scans(found):
    "Each scan twice says no more than once"
    twice = found | {f'{case} again': report for case, report in found.items()}
    patients = {case: case.removesuffix(' again') for case in twice}
    once = summarise(found, worst_mm=DIAGONAL)
    both = summarise(twice, patients=patients, worst_mm=DIAGONAL)
    assert both.dice.core == pytest.approx(once.dice.core)


def test_a_table_does_as_well(found):
    table = pd.concat(found, names=['case', 'region']).reset_index()
    assert str(summarise(table, worst_mm=DIAGONAL)) == str(summarise(found, worst_mm=DIAGONAL))


def test_two_models(found, left_out):
    table = compare_summaries(found, left_out, ('dice', 'hd95_mm'), worst_mm=DIAGONAL)
    assert table.dice.edema.verdict == 'higher'
    assert table.hd95_mm.edema.verdict == 'lower'
    first, second = [summarise(reports, ('dice',)).dice.core.value for reports in (found, found)]
    with pytest.warns(UndefinedMetric):
        same = compare_summaries(found, found, ('dice',))
    assert first == second
    assert same.dice.core.verdict == 'undecided'


def test_inventing_costs_something_beside_a_model_that_does_not():
    "In healthy patients the one that rightly draws nothing has no Dice of its own"
    healthy = [i % 2 == 0 for i in range(20)]
    a, b = ({f'case {i}': scan(i, with_edema=not well, shift=i % 3, invent=invents and well)
             for i, well in enumerate(healthy)} for invents in (True, False))
    row = compare_summaries(a, b).dice.edema
    assert row.verdict == 'lower'
    assert row.value == pytest.approx(-.5)
    assert compare_summaries(b, a).dice.edema.value == pytest.approx(.5)
    perfect = compare_summaries(a, b, empty='perfect').dice.edema
    assert perfect.value == pytest.approx(-.5)
    with pytest.warns(UndefinedMetric):
        left_out = compare_summaries(a, b, missed='leave out').dice.edema
    assert left_out.value == 0


@pytest.mark.parametrize('settings, message', [
    (dict(missed='zero'), "missed must be one of .*found 'zero'"),
    (dict(empty='one'), "empty must be one of .*found 'one'"),
    (dict(measures=('jaccard',)), "no measure 'jaccard': the reports have dice"),
    (dict(measures=('dice',), patients={'case 0': 'P0'}), 'case case 1 is not in patients')])
def test_refused(found, settings, message):
    with pytest.raises(ValueError, match=message):
        summarise(found, **settings)
    with pytest.raises(ValueError, match=message):
        compare_summaries(found, found, **settings)

def test_a_measure_that_one_of_two_lacks(found):
    without = {case: report.drop(columns='dice') for case, report in found.items()}
    for pair in ((found, without), (without, found)):
        with pytest.raises(ValueError, match="no measure 'dice': the reports have sensitivity"):
            compare_summaries(*pair)

def test_a_missed_structure_needs_a_worst_distance(left_out):
    with pytest.raises(ValueError, match='give worst_mm'):
        summarise(left_out)


def test_refused_tables(found):
    with pytest.raises(ValueError, match='no reports'):
        summarise({})
    with pytest.raises(ValueError, match='no column case'):
        summarise(found['case 0'])
    table = pd.concat(found, names=['case', 'region']).reset_index()
    with pytest.raises(ValueError, match='case case 0 has core twice'):
        summarise(pd.concat([table, table]))
    without_first = {case: report for case, report in found.items() if case != 'case 0'}
    with pytest.raises(ValueError, match='case case 0, region core: only one of the two'):
        compare_summaries(found, without_first)


def test_means_without_interval_are_told_at_the_line_that_asked():
    reports = {f'case {i}': scan(0) for i in range(5)}
    with pytest.warns(UndefinedMetric, match='dice of core, dice of edema: fewer') as caught:
        summary = summarise(reports, ['dice'])
    assert len(caught) == 1 and caught[0].filename == __file__
    assert str(summary.dice.core).endswith('(no interval)')
    with pytest.warns(UndefinedMetric, match='dice of core') as caught:
        compare_summaries(reports, reports)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_limits_stay_where_a_score_can_lie(found, left_out):
    summary = summarise(left_out, worst_mm=DIAGONAL)
    for measure, most in dict(dice=1, surface_dice=1, hd95_mm=DIAGONAL).items():
        limits = [(m.low, m.high) for m in summary[measure] if np.isfinite(m.low)]
        assert all(0 <= low <= high <= most for low, high in limits)
    for difference in compare_summaries(found, left_out).dice:
        if np.isfinite(difference.low): assert -1 <= difference.low <= difference.high <= 1


def elsewhere(n=3):
    "Reports of structures that were drawn at another place, of their size"
    truth = np.zeros((20, 20, 20), int)
    truth[2:6, 2:6, 2:6] = 1
    prediction = np.roll(truth, 10, 0)
    report = segmentation_report(
        truth=truth, prediction=prediction, spacing=(1, 1, 1), classes={1: 'core'})
    return {f'case {i}': report for i in range(n)}


def test_drawn_elsewhere_is_not_detected():
    "A structure counts as detected where what is drawn touches it"
    row = summarise(elsewhere()).loc['core']
    assert row[['present', 'missed']].tolist() == [3, 0]
    assert row.dice.value == 0
    assert row.detected.value == 0


def test_without_a_score_of_overlap_any_drawing_is_a_detection():
    reports = {case: report[['volume_ml', 'label_ml']] for case, report in elsewhere().items()}
    assert summarise(reports, measures=()).detected.core.value == 1

def test_a_difference_of_distances_stays_where_it_can_lie():
    "Two distances of at most `worst_mm` can't differ by more"
    def reports(hd95):
        row = dict(dice=.5, hd95_mm=hd95, volume_ml=1., label_ml=1.)
        return pd.DataFrame({'tumour': row}).T
    small = {f'p{i}': reports(x) for i, x in enumerate([0., .5, 1, .2])}
    large = {f'p{i}': reports(x) for i, x in enumerate([1., 30, .5, 34])}
    found = compare_summaries(small, large, ['hd95_mm'], worst_mm=35).hd95_mm['tumour']
    assert -35 <= found.low and found.high <= 35

def rows(**columns):
    "Reports of six cases as a table; all have a structure of 1 ml, and it was found"
    return pd.DataFrame(dict(case=list('abcdef'), region='x', dice=[.9, .8, .7, .6, .5, .1],
                             hd95_mm=[2., 3, 4, 5, 6, 7], volume_ml=1., label_ml=1.) | columns)


@pytest.mark.parametrize('worst_mm', [np.inf, np.nan, 0, -3, 1])
def test_a_missed_structure_never_counts_as_better(worst_mm):
    "Before, inf and nan left it out, and 1 mm improved the mean"
    missed = rows(hd95_mm=[2, 3, 4, 5, 6, np.nan], volume_ml=[1, 1, 1, 1, 1, 0.])
    with pytest.raises(ValueError, match='worst_mm'):
        summarise(missed, ['hd95_mm'], worst_mm=worst_mm)
    assert summarise(missed, ['hd95_mm'], worst_mm=100).hd95_mm.x.value == pytest.approx(20)


def test_a_table_with_its_own_patients():
    "Five scans each of four patients: intervals are over patients (Kish 1965)"
    scans = [f'c{i}' for i in range(20)]
    table = pd.DataFrame(dict(case=scans, patient=np.repeat(list('ABCD'), 5), region='x',
                              dice=np.repeat([.9, .7, .8, .5], 5), volume_ml=1., label_ml=1.))
    by_argument = dict(zip(table.case, table.patient))
    without = table.drop(columns='patient')
    assert summarise(table, ['dice']).dice.x == \
        summarise(without, ['dice'], patients=by_argument).dice.x
    worse = table.assign(dice=table.dice - np.repeat([.1, .2, .05, .1], 5))
    assert compare_summaries(table, worse).dice.x == \
        compare_summaries(without, worse, patients=by_argument).dice.x
    torn = rows(case=list('aabbcc'), region=['x', 'y']*3, patient=list('ABCCDD'))
    with pytest.raises(ValueError, match='case a has 2 patients'):
        summarise(torn, ['dice'])


@pytest.mark.parametrize('columns, message', [
    (dict(label_ml=[1, 1, 1, 1, 1, np.nan]), 'case f, region x: no label_ml'),
    (dict(hd95_mm=[2, 3, 4, 5, 6, np.nan]), 'case f, region x: no hd95_mm'),
    (dict(volume_ml=[1, 1, 1, 1, 1, 0.], label_ml=[1, 1, 1, 1, 1, 0.]),
     'case f, region x: a dice, although neither')])
def test_values_that_do_not_fit_their_volumes_are_refused(columns, message):
    "Before, they dropped out of the mean, or counted as invented; the last comes of rounding"
    with pytest.raises(ValueError, match=message):
        summarise(rows(**columns), ['dice', 'hd95_mm'], worst_mm=100)


def test_scores_in_per_cent_are_refused():
    with pytest.raises(ValueError, match='the mean is 60, and bounds'):
        summarise(rows(dice=[90, 80, 70, 60, 50, 10]), ['dice'])


def test_models_judged_against_two_truths_are_refused():
    with pytest.raises(ValueError, match='case a, region x: the true volume is 1 ml .* 8 ml'):
        compare_summaries(rows(), rows(label_ml=8.))
    rounded = rows(label_ml=1.004)
    assert compare_summaries(rows(), rounded).dice.x.value == 0


def test_cases_that_became_numbers_are_named():
    "As of '001' that was read from a text file"
    with pytest.raises(ValueError, match="case .*: only one of the two has it"):
        compare_summaries(rows(case=[f'00{i}' for i in range(6)]), rows(case=range(6)))
