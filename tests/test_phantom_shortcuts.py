"What is left out when a phantom is drawn changes nothing: the slow way gives the same floats"
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from medtut.phantoms import brain, brain_anatomy, breast_gland, breast_scan, chest_vessels
from medtut.phantoms.breast_anatomy import breast_depth, draw_breast_patient, soft
from medtut.phantoms.chest_anatomy import air_at, lung_thickness, lungs
from medtut.phantoms.chest_patient import draw_chest_patient, draw_film, view
from medtut.phantoms.chest_shadows import Samples, splat


def slow_vessels(rng, targets, root):
    "`grow_vessels`, one sum at a time"
    points, parent, way = [root], [0], [0]
    while len(points) < 2*len(targets):
        there, joined = list(zip(points, way)), len(points)//2
        for target in targets[joined:joined + joined//8 + 1]: # none of a crowd sees another
            far = [np.sqrt(((p - target)**2).sum()) for p, _ in there]
            j = int(np.argmin([f + .22*w for f, (_, w) in zip(far, there)]))
            start = points[j]
            halfway = start + .5*(target - start)
            bend = halfway + .22*(start - points[parent[j]]) + rng.normal(0, .035*far[j], 3)
            for point in (bend, target):
                way.append(way[j] + math.dist(point, points[j]))
                points.append(point)
                parent.append(j)
                j = len(points) - 1
    supplies = np.zeros(len(points))
    for i in range(2, len(points), 2): # each target counts on all its way to the root
        while i:
            supplies[i] += 1
            i = parent[i]
        supplies[0] += 1
    return np.array(points), np.array(parent), supplies


@pytest.mark.parametrize('n', [1, 2, 70])
def test_vessels(n):
    targets = np.random.default_rng(n).random((n, 3))*[130, -170, 250]
    root = np.array([-20., 14, 110])
    tree = chest_vessels.grow_vessels(np.random.default_rng(3), targets, root)
    slow = slow_vessels(np.random.default_rng(3), targets, root)
    for got, want in zip(tree, slow, strict=True): assert_allclose(got, want, rtol=1e-12)


@pytest.fixture(params=range(3))
def patient(request): return draw_chest_patient(np.random.default_rng(request.param))


def test_air_at_points(patient):
    x, y, z = np.random.default_rng(1).uniform((-150, -120, -20), (150, 120, 300), (400, 3)).T
    air, edges = lungs(patient, np.float32(x)[None], np.float32(z)[None])
    slab = np.clip(np.digitize(y, edges) - 1, 0, len(air) - 1)
    assert_array_equal(air_at(patient, x, y, z), air[slab, 0, np.arange(400)])


def test_rim_of_a_lung(patient):
    "From the hilum outwards, the last of 400 places that look like lung, in 240 directions"
    film = draw_film(np.random.default_rng(5))
    one = chest_vessels._one_lung(patient, film)
    reach = np.arange(0, 240, .6)
    x = (one.hilum[0] + reach*np.cos(one.at[:, None])).astype(np.float32)
    z = (one.hilum[1] + reach*np.sin(one.at[:, None])).astype(np.float32)
    thick = lung_thickness(patient, x, z)
    lung = chest_vessels._looks_like_lung(patient, one.side, x, z, thick)
    rim = (reach*lung).max(1)
    assert_array_equal(one.rim, gaussian_filter1d(rim, 1.2, mode='wrap'))


def test_shadow(patient):
    "Half of the samples miss the film"
    v = view(patient, draw_film(np.random.default_rng(5)), 64)
    x, z, weight = np.random.default_rng(2).uniform(
        (-250, -200, 0), (250, 500, 1), (5000, 3)).astype(np.float32).T
    column = (x + v.midline(z).astype(np.float32) + v.fov/2)*(2/v.px)
    row = (z + v.top)*(2/v.px)
    fine = np.zeros((128, 128))
    for r, c, w in zip(row, column, weight):
        if 0 <= r < 128 and 0 <= c < 128: fine[int(r), int(c)] += w
    shadow = fine.reshape(64, 2, 64, 2).sum((1, 3))/v.px**2
    got = splat([Samples(x, z, weight)], v)
    assert_array_equal(got, gaussian_filter(shadow.astype(np.float32), .5))


@pytest.mark.parametrize('seed', [2, 7])
def test_breast_in_one_piece(seed, monkeypatch):
    "Neither bands of slices nor boxes round organs show"
    p = draw_breast_patient(np.random.default_rng([0, seed]))
    bands = breast_scan.draw_breast_tissues(p, matrix=48, slices=24)
    everything = (slice(None),)*3
    monkeypatch.setattr(breast_scan, 'bands', lambda shape: [slice(None)])
    monkeypatch.setattr(breast_scan.Canvas, 'near', lambda *args: everything)
    for module in ('breast_gland', 'breast_chest'):
        monkeypatch.setattr(f'medtut.phantoms.{module}.bounding_box', lambda inside: everything)
    monkeypatch.setattr('medtut.phantoms.breast_chest._FRONT', -1000)
    whole = breast_scan.draw_breast_tissues(p, matrix=48, slices=24)
    for name in ('water', 'fat', 'gland', 'inside', 'truth'):
        assert_array_equal(getattr(bands, name), getattr(whole, name), name)


def test_gland_by_the_distance_from_all_ducts():
    rng = np.random.default_rng
    a = draw_breast_patient(rng([0, 3])).anatomy
    ducts = breast_gland.duct_tree(rng(0), a, 1)
    z, y, x = np.ix_(np.arange(-3, 4, 3.), np.arange(-60, 0, 4.), np.arange(40, 130, 4.))
    inside = breast_depth(a, 1, z, y, x) > 2.5
    gland = breast_gland.draw_gland(rng(1), 1, ducts)
    share = breast_gland.gland_share(gland, z, y, x, inside)
    gaps = [axis[..., None] - points for axis, points in zip((z, y, x), ducts.points.T)]
    far = np.sqrt(sum(gap**2 for gap in gaps))
    lumps = gland.lobes.at(z, y, x) + .5*gland.lobules.at(z, y, x)
    slow = soft(gland.reach[far.argmin(-1)] - far.min(-1) + lumps, 2.5)
    assert 0 < share.mean() < inside.mean()
    np.testing.assert_allclose(share, np.where(inside, slow, 0), atol=1e-6)


def test_brain_in_one_piece(monkeypatch):
    "Neither where tissues are looked up nor the box round the tumour shows"
    def drawn(): return brain.patient(np.random.default_rng(4), 'HGG', 6.)
    quick = drawn()
    everywhere = np.ones(brain_anatomy.atlas(6.).shape[1:], bool)
    monkeypatch.setattr(brain_anatomy, '_tissue_near', lambda spacing: everywhere)
    monkeypatch.setattr(brain, '_box_round', lambda inside, margin: (slice(None),)*3)
    slow = drawn()
    assert (quick.label > 0).any()
    assert_array_equal(quick.label, slow.label)
    for name, image in quick.images.items(): assert_array_equal(image, slow.images[name], name)
