"Scores of any masks, against MONAI, SimpleITK, scikit-learn and their definitions"
import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from quiet import quiet
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist
from sklearn import metrics as sk

from medtut.masks import TUMOUR_REGIONS, box_of, dice, hausdorff95, segmentation_report, surface_dice, volume_ml
from medtut.metrics import ppv, sensitivity, specificity

examples = settings(max_examples=200, deadline=None, derandomize=True)
few_examples = settings(max_examples=50, deadline=None, derandomize=True)
shapes = st.sampled_from([(6, 7, 5), (1, 4, 4), (9, 9, 1)])
masks = st.tuples(st.integers(0, 10_000), shapes, st.floats(-.2, .3))

def pair(seed, shape, level):
    "Truth and prediction, two lumpy masks that overlap in part; empty ones among them"
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 1)
    noise = gaussian_filter(rng.normal(size=shape), 1)
    return field > level, field + .4*noise > level

def surface(mask, spacing):
    "Where the voxels on the surface lie, mm"
    padded = np.pad(mask, 1)
    return np.argwhere(padded & ~binary_erosion(padded))*spacing

def distances_by_definition(truth, prediction, spacing):
    "Distances between surfaces, every voxel compared with every other"
    all_pairs = cdist(surface(truth, spacing), surface(prediction, spacing))
    return all_pairs.min(1), all_pairs.min(0)

def hausdorff_by_definition(directions, percentile=95):
    return max(np.percentile(d, percentile) for d in directions)

@examples
@given(masks)
def test_masks_by_definition(drawn):
    truth, prediction = pair(*drawn)
    spacing = (1.5, 1, 3)
    if not (truth.any() and prediction.any()):
        return
    close = np.testing.assert_allclose
    directions = distances_by_definition(truth, prediction, spacing)
    close(hausdorff95(truth, prediction, spacing), hausdorff_by_definition(directions))
    largest = hausdorff_by_definition(directions, 100)
    close(hausdorff95(truth, prediction, spacing, 100), largest)
    within = np.concatenate(directions) <= 1.2
    close(surface_dice(truth, prediction, spacing, 1.2), np.mean(within))
    close(dice(truth, prediction), sk.f1_score(truth.ravel(), prediction.ravel()))

@examples
@given(masks)
def test_masks_in_either_order(drawn):
    "Truth and prediction may be given by position, because a swap makes no difference"
    truth, prediction = pair(*drawn)
    distance = partial(hausdorff95, spacing=(1, 2, 3))
    near = partial(surface_dice, spacing=(1, 2, 3), tolerance=1)
    for metric in dice, distance, near:
        one_way, other_way = quiet(metric, truth, prediction), quiet(metric, prediction, truth)
        np.testing.assert_equal(one_way, other_way)

@pytest.mark.filterwarnings('ignore::FutureWarning')  # MONAI's own, about its next version
@few_examples
@given(masks)
def test_masks_as_monai(drawn):
    torch, monai = pytest.importorskip('torch'), pytest.importorskip('monai.metrics')
    truth, prediction = pair(*drawn)
    spacing = [1.5, 1., 3.]
    p, t = [torch.tensor(m)[None, None] for m in (prediction, truth)]
    def close(ours, theirs):
        np.testing.assert_allclose(ours, float(theirs), rtol=1e-5)
    if truth.any() and prediction.any():
        options = dict(include_background=True, percentile=95, spacing=spacing)
        theirs = monai.compute_hausdorff_distance(p, t, **options)
        close(hausdorff95(truth, prediction, spacing), theirs)
    theirs = quiet(monai.compute_surface_dice, p, t, [1.5], True, 'euclidean', spacing)
    close(quiet(surface_dice, truth, prediction, spacing, 1.5), theirs)
    # MONAI's Dice of two empty masks is 1, ours has no value
    if not (truth.any() or prediction.any()): assert np.isnan(quiet(dice, truth, prediction))
    else: close(dice(truth, prediction), monai.compute_dice(p, t, True, False))

@pytest.mark.parametrize('seed', range(5))
def test_masks_as_simpleitk(seed):
    sitk = pytest.importorskip('SimpleITK')
    # its contour leaves the border of the image out: compare masks that don't touch it
    truth, prediction = [np.pad(m, 1) for m in pair(seed, (20, 18, 16), 0)]
    spacing = (1.5, 1., 3.)
    def image_of(mask):
        image = sitk.GetImageFromArray(mask.T.astype(np.uint8))  # SimpleITK's arrays are (z, y, x)
        image.SetSpacing(spacing)
        return image
    images = [image_of(truth), image_of(prediction)]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    np.testing.assert_allclose(dice(truth, prediction), overlap.GetDiceCoefficient())
    contours = [sitk.LabelContour(image, False) for image in images]
    def distances(start, end):
        options = dict(squaredDistance=False, useImageSpacing=True)
        away = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(end, **options))
        return np.abs(away[sitk.GetArrayFromImage(start) > 0])
    directions = [distances(*contours), distances(*reversed(contours))]
    expected = hausdorff_by_definition(directions)
    np.testing.assert_allclose(hausdorff95(truth, prediction, spacing), expected, rtol=1e-5)

@pytest.mark.parametrize('edge', [.35, .6, .7, 1.4])
def test_a_step_of_one_voxel_is_within_its_edge(edge):
    """1: no surface voxel of the copy is further off than a step of `edge`, which is the tolerance.
    MONAI's compute_surface_dice and SciPy's distance_transform_edt find the same; a difference of
    two places, such as 7*.7 - 6*.7, may be .7000000000000002"""
    truth = np.zeros((60, 20, 20), bool)
    truth[10:40, 5:15, 5:15] = True
    moved = np.roll(truth, 1, 0)
    assert surface_dice(truth, moved, (edge,)*3, edge) == 1
    report = segmentation_report(truth=truth, prediction=moved, spacing=(edge,)*3,
                                 classes={1: 'core'}) # by default it tolerates a voxel's edge
    assert report.surface_dice.core == 1
    assert surface_dice(truth, moved, (edge,)*3, edge*.999) < 1

# --- the report

BRATS = {1: 'non-enhancing core', 2: 'edema', 4: 'enhancing'}
SHAPE = 20, 22, 14

def labelled(seed):
    "Truth and prediction, two volumes of labels 0, 1, 2 and 4, alike"
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=SHAPE), 2)
    other = field + .3*gaussian_filter(rng.normal(size=SHAPE), 2)
    labels = np.array([0, 2, 1, 4])
    return [labels[np.digitize(f, [.05, .1, .15])] for f in (field, other)]

@pytest.mark.parametrize('seed', range(8))
def test_report_is_the_sum_of_its_parts(seed):
    truth, prediction = labelled(seed)
    mm = (1, 1.2, 2.5)
    report = segmentation_report(truth=truth, prediction=prediction, spacing=mm, classes=BRATS,
                                 regions=TUMOUR_REGIONS, tolerance=1.5)
    rows = {'non-enhancing core': [1], 'edema': [2], 'enhancing': [4],
            'whole tumour': [1, 2, 4], 'tumour core': [1, 4], 'enhancing tumour': [4]}
    assert report.index.tolist() == list(rows)
    for name, members in rows.items():
        t, p = np.isin(truth, members), np.isin(prediction, members)
        expected = [quiet(dice, t, p)]
        for share in sensitivity, specificity, ppv:
            expected.append(quiet(share, truth=t, prediction=p))
        expected += [quiet(hausdorff95, t, p, mm), quiet(surface_dice, t, p, mm, 1.5)]
        expected += [volume_ml(p, mm), volume_ml(t, mm)]
        row = report.loc[name]
        np.testing.assert_allclose(row.iloc[:8].astype(float), expected)
        assert row.isna().any() == bool(row.note)

def test_report_of_other_arrays(tmp_path):
    torch = pytest.importorskip('torch')
    truth, prediction = labelled(0)
    given = dict(spacing=(1, 1, 1), classes=BRATS)
    expected = segmentation_report(truth=truth, prediction=prediction, **given)
    np.save(tmp_path/'truth.npy', truth)
    def as_stored(x):
        return x.astype(np.float32)*.9999997
    for kind in np.uint8, as_stored, torch.tensor, np.asfortranarray:
        report = segmentation_report(truth=kind(truth), prediction=kind(prediction), **given)
        pd.testing.assert_frame_equal(report, expected)
    mapped = np.load(tmp_path/'truth.npy', mmap_mode='r')
    report = segmentation_report(truth=mapped, prediction=prediction, **given)
    pd.testing.assert_frame_equal(report, expected)

def row_of_one_class(truth, prediction):
    "The report's row, without a warning"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        report = segmentation_report(truth=truth, prediction=prediction, spacing=(1, 1, 1),
                                     classes={1: 'all'})
    return report.loc['all']

def test_report_where_nothing_is_defined():
    full, empty = np.ones((4, 4, 4), int), np.zeros((4, 4, 4), int)
    both, missed = row_of_one_class(full, full), row_of_one_class(full, empty)
    alarm, neither = row_of_one_class(empty, full), row_of_one_class(empty, empty)
    assert np.isnan(both.specificity)
    assert both.dice == 1
    assert missed.dice == missed.sensitivity == missed.surface_dice == 0
    assert np.isnan(missed.precision)
    assert np.isnan(missed.hd95_mm)
    assert alarm.dice == alarm.precision == alarm.surface_dice == 0
    assert np.isnan(alarm.sensitivity)
    assert np.isnan(alarm.hd95_mm)
    undefined = ['dice', 'sensitivity', 'precision', 'hd95_mm', 'surface_dice']
    assert neither[undefined].isna().all()
    assert neither.specificity == 1
    assert both.note == 'no voxel outside the class'
    assert missed.note == 'not in the prediction; no voxel outside the class'
    assert alarm.note == 'not in the label'
    assert neither.note == 'in neither prediction nor label'

@pytest.mark.parametrize('change, message', [
    (dict(classes={1: 'a', 2: 'b'}), 'holds label 4'),
    (dict(spacing=(1, 1)), '3 positive numbers'),
    (dict(spacing=(1, 1, np.nan)), '3 positive numbers'),
    (dict(regions={'core': [1, 3]}), '3 fits 0'),
    (dict(regions={'core': ['e']}), "'e' fits 2"),
    # a row has one name: of two things with one name, the report would hold the last alone
    (dict(classes={1: 'kidney', 2: 'kidney', 4: 'liver'}), "'kidney' names two things"),
    (dict(classes=BRATS, regions={'edema': [1, 4]}), "'edema' names two things"),
    (dict(classes={1.2: 'a', 1.7: 'b', 2: 'c', 4: 'd'}), 'a whole number of its own'),
    (dict(classes={1: 'a', '1': 'b', 2: 'c', 4: 'd'}), 'a whole number of its own'),
    (dict(prediction=np.full(SHAPE, np.nan)), 'NaN'),
    (dict(prediction=np.full(SHAPE, -1)), 'label -1'),
    (dict(prediction=np.zeros((20, 22, 13))), r'\(20, 22, 13\)'),
    (dict(prediction=np.full(SHAPE, 'a')), 'whole numbers')])
def test_report_refuses(change, message):
    truth, prediction = labelled(0)
    given = dict(truth=truth, prediction=prediction, spacing=(1, 1, 1), classes=BRATS) | change
    with pytest.raises(ValueError, match=message):
        segmentation_report(**given)

def test_report_takes_numbers_as_text():
    "As JSON keeps them; 10 comes after 2, also where both are text. 0 is the background"
    truth = np.zeros(SHAPE, int)
    truth[:4], truth[4:8] = 2, 10
    report = segmentation_report(truth=truth, prediction=truth, spacing=(1, 1, 1),
                                 classes={'0': 'none', '10': 'b', '2': 'a'})
    assert report.dice.to_dict() == {'a': 1, 'b': 1}

def test_report_on_real_patches():
    folder = Path(os.environ.get('MEDTUT_REAL_FILES') or '')/'msd_patches'
    patches = sorted(folder.glob('*.npz'))
    if not patches: pytest.skip('MEDTUT_REAL_FILES names no folder with msd_patches/*.npz')
    names = {1: 'edema', 2: 'non-enhancing', 3: 'enhancing'}
    rows = [1], [2], [3], [1, 2, 3], [2, 3], [3]
    for path in patches:
        truth = np.load(path)['label']
        report = segmentation_report(truth=truth, prediction=np.roll(truth, 1, 0),
                                     spacing=(1, 1, 1), classes=names, regions=TUMOUR_REGIONS)
        voxels = (report.label_ml*1000).round().astype(int).tolist()
        assert voxels == [int(np.isin(truth, members).sum()) for members in rows]
        assert (report.dice.dropna() < 1).all()
        assert (report.hd95_mm.dropna() >= 0).all()

@pytest.mark.parametrize('tolerance', [-1, float('nan')])
def test_a_report_refuses_a_tolerance_that_is_none(tolerance):
    mask = np.zeros((4, 4, 4), int)
    mask[1:3, 1:3, 1:3] = 1
    with pytest.raises(ValueError, match='tolerance must be 0 mm or more'):
        segmentation_report(truth=mask, prediction=mask, spacing=(1, 1, 1), classes={1: 'core'},
                            tolerance=tolerance)

@pytest.mark.parametrize('n_voxels', [0, 1, 2, 5, 60])
def test_the_box_of_a_mask_holds_all_of_it_and_no_more(n_voxels):
    "`load_case` and the scores look no further than it: what lies outside would be lost"
    rng = np.random.default_rng(n_voxels)
    for _ in range(20):
        mask = np.zeros((5, 4, 3), np.uint8)
        mask.flat[rng.choice(60, n_voxels, replace=False)] = rng.integers(1, 255, n_voxels)
        inside = mask[box_of(mask)]
        assert inside.sum() == mask.sum()
        assert inside.shape == tuple(np.ptp(axis) + 1 if n_voxels else 0
                                     for axis in np.nonzero(mask))
