"""What lesson 6 can't show in passing: independent oracles, random shapes, broken weight files,
workers, memory"""
import copy
import json
import os
import pickle
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastcore.nbio import read_nb
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from lessons import nbs
from monai.inferers import sliding_window_inference
from monai.losses import DiceLoss
from monai.networks.nets import BasicUNet
from scipy.stats import chisquare
from torch.utils.data import DataLoader

from medtut.brain_sets import MSD_LABELS
from medtut.intensities import standardize
from medtut.masks import TUMOUR_REGIONS
from medtut.modes import evaluating
from medtut.patches import TUTORIAL_PATCHES, PatchDataset, PatchSampler, crop
from medtut.segmentation import dice_ce_loss, soft_dice_loss
from medtut.summaries import summarise
from medtut.tiles import predict_volume
from medtut.unet import UNet3D, load_unet, save_unet

few = settings(max_examples=40, deadline=None, derandomize=True)

# Patches

def box(corner, patch):
    return tuple(slice(c, c + p) for c, p in zip(corner, patch))

def qualifying(label, patch, share):
    "Corners of all patches with at least `share` of foreground, one by one"
    corners = product(*[range(n - p + 1) for n, p in zip(label.shape, patch)])
    return {c for c in corners if (label[box(c, patch)] > 0).mean() >= share}

def three(low, high):
    return st.tuples(*[st.integers(low, high)]*3)

labels = arrays(np.uint8, three(3, 7), elements=st.integers(0, 2))

@few
@given(labels, three(1, 3), st.sampled_from([0, .1, .3, .5, 1]))
def test_sampler_knows_exactly_the_corners_that_qualify(label, patch, share):
    wanted = qualifying(label, patch, share)
    if not wanted:
        with pytest.raises(ValueError):
            PatchSampler(label, patch, share, 'any')
        return
    sampler = PatchSampler(label, patch, share, 'any')
    assert len(sampler) == len(wanted)
    assert {tuple(c) for c in sampler.draw(0, 50*len(wanted) + 200).tolist()} <= wanted

def test_sampler_is_uniform():
    label = (np.random.default_rng(1).random((9, 8, 7)) < .2).astype(np.uint8)
    wanted = sorted(qualifying(label, (4, 3, 3), .25))
    drawn = PatchSampler(label, (4, 3, 3), .25).draw(2, 40_000).tolist()
    index = {c: i for i, c in enumerate(wanted)}
    counts = np.bincount([index[tuple(c)] for c in drawn], minlength=len(wanted))
    assert len(wanted) > 30
    assert chisquare(counts).pvalue > 1e-3
    tilted = counts*np.linspace(.9, 1.1, len(counts)) # a slope of a tenth would be seen
    assert chisquare(tilted/tilted.sum()*counts.sum()).pvalue < 1e-3

def test_one_patch_draws_as_many_draws():
    label = np.ones((6, 6, 6), int)
    sampler = PatchSampler(label, (2, 2, 2))
    assert sampler.draw(0).shape == (3,)
    assert sampler.draw(0, 5).shape == (5, 3)

def test_classes_come_up_equally_often():
    label = np.zeros((20, 20, 6), int)
    label[2:10, 2:10], label[15, 15, 3] = 1, 3
    sampler = PatchSampler(label, (3, 3, 3), 1/27, classes=(1, 2, 3))
    assert sampler.classes == [1, 3]  # no patch holds class 2
    def times(c, sampler):
        patches = [crop(label, corner, (3, 3, 3)) for corner in sampler.draw(0, 2000)]
        return sum((p == c).any() for p in patches)
    assert abs(times(3, sampler) - 1000) < 100
    assert abs(times(1, sampler) - 1000) < 100
    whole = PatchSampler(label, (3, 3, 3), 1/27, classes='any')
    assert whole.classes == ['any']
    assert times(3, whole) < 200

def test_defaults_are_those_of_lesson_6():
    "Cubes of 48 voxels, one voxel of the class drawn, all classes that there are alike"
    label = np.zeros((60, 50, 52), int)
    label[3, 4, 5], label[20:40, 20:40, 20:40] = 3, 1
    sampler = PatchSampler(label)
    same = PatchSampler(label, (48, 48, 48), 1/48**3, classes=(1, 2, 3))
    assert sampler.classes == [1, 3]
    assert sampler.patch == (48, 48, 48)
    assert np.array_equal(sampler.draw(5, 99), same.draw(5, 99))
    image = np.zeros((1, *label.shape), np.float32)
    assert PatchDataset([(image, label)]).draw(0).corner.tolist() == \
        PatchDataset([(image, label)], (48, 48, 48), 1, 1/48**3, (1, 2, 3)).draw(0).corner.tolist()

def test_the_tutorials_settings_have_a_name():
    "160 x 160 x 16 voxels, 5 % of any tumour"
    label = np.zeros((161, 160, 17), int)
    needed = 160*160*16//20
    label.reshape(-1)[label[:160, :, :16].size//2:][:2*needed] = 2
    label[0, :9, 0] = 1
    sampler = PatchSampler(label, **TUTORIAL_PATCHES)
    assert sampler.classes == ['any']
    assert sampler.patch == (160, 160, 16)
    wanted = qualifying(label, (160, 160, 16), .05)
    assert len(sampler) == len(wanted) > 0
    label[label > 0] = 0
    label[:, 0, 0] = 1
    with pytest.raises(ValueError, match='holds 0.05'):
        PatchSampler(label, **TUTORIAL_PATCHES)

def test_share_is_not_lost_to_rounding():
    """0.1*30 is a little more than 3 in floating point; three voxels of thirty are enough all the
    same"""
    label = np.zeros((2, 3, 5), int)
    label[0, 0, :3] = 1
    assert len(PatchSampler(label, (2, 3, 5), .1)) == 1

@pytest.mark.parametrize('share,voxels', [(.11111111111111112, 4), (1/9, 3), (1/27, 1), (0, 0),
                                          (1, 27), (26.5/27, 27)])
def test_share_and_the_number_of_voxels(share, voxels):
    """The least whole number that is no less than the share of 27 voxels, as Python divides;
    .11111111111111112 is the float next to 1/9, so that 3 voxels of 27 are less"""
    assert voxels/27 >= share
    assert not (voxels - 1)/27 >= share
    label = np.zeros((3, 3, 3), int)
    label.reshape(-1)[:voxels] = 1
    assert len(PatchSampler(label, (3, 3, 3), share, 'any')) == 1
    if not voxels: return
    label.reshape(-1)[0] = 0
    with pytest.raises(ValueError):
        PatchSampler(label, (3, 3, 3), share, 'any')

def held(sampler):
    return sum(v.nbytes for v in vars(sampler).values() if isinstance(v, np.ndarray))

@pytest.mark.parametrize('patch', [(1, 1, 1), (48, 48, 48)])
def test_sampler_is_small(patch):
    """A bit for each place a patch can lie at, for each of three classes, is 3.2 MiB; a fifth more
    for numbers and counts. Noise is the worst that a label can be: no block of places is empty"""
    label = np.random.default_rng(0).integers(0, 4, (240, 240, 155), np.uint8)
    sampler = PatchSampler(label, patch, 0, classes=(1, 2, 3))
    assert len(sampler) == 3*np.prod([n - p + 1 for n, p in zip(label.shape, patch)])
    sampler = PatchSampler(label, patch, 1/np.prod(patch), classes=(1, 2, 3))
    assert held(sampler) < 3.85*2**20
    assert len(pickle.dumps(sampler)) < 3.85*2**20

def test_every_corner_can_be_drawn():
    """More corners than a block of bits holds, of two classes,
    in a volume whose corners do not fill the last block"""
    label = np.random.default_rng(3).integers(0, 3, (11, 13, 9))
    drawn = PatchSampler(label, (1, 1, 1), 1, classes=(1, 2)).draw(0, 30_000).tolist()
    assert {tuple(c) for c in drawn} == {tuple(c) for c in np.argwhere(label).tolist()}
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    kinds = label[tuple(np.argwhere(label).T)] # in the order of np.unique, too
    for kind in 1, 2:
        assert chisquare(counts[kinds == kind]).pvalue > 1e-3

@pytest.mark.parametrize('patch', [(4, 4, 6), (4, 4, 5), (9, 9, 9)])
def test_patch_larger_than_the_volume(patch):
    label = np.zeros((8, 8, 4), int)
    label[3:5, 3:5, 1:3] = 1
    sampler = PatchSampler(label, patch, 8/np.prod(patch))
    for corner in sampler.draw(0, 50):
        piece = crop(label, corner, patch)
        assert piece.shape == patch
        assert piece.sum() == 8
    assert sampler.draw(0)[2] == -((patch[2] - 4)//2)

def test_sampler_says_what_is_wrong():
    label = np.zeros((8, 8, 8), int)
    patch = (4, 4, 4)
    for classes in None, 'any':
        with pytest.raises(ValueError, match='no foreground among labels above 0'):
            PatchSampler(label, patch, classes=classes)
    label[0, 0, 0] = 1
    for share in .05, 2/64:
        with pytest.raises(ValueError, match=r'best one holds 0\.0156'):
            PatchSampler(label, patch, share)
    with pytest.raises(ValueError, match='no foreground among'):
        PatchSampler(label, patch, classes=[2])
    usual = dict(label=label, patch=patch)
    for wrong in (dict(label=label[0]), dict(patch=(4, 4)), dict(patch=(4, 4, 0)),
                  dict(min_foreground=5), dict(classes='all')):
        with pytest.raises(ValueError, match='found'):
            PatchSampler(**usual | wrong)

@few
@given(three(-6, 9), three(1, 5))
def test_crop_reads_zero_outside(corner, patch):
    x = np.arange(1, 2*5*4*6 + 1).reshape(2, 5, 4, 6)
    wide = np.pad(x, [(0, 0)] + [(20, 20)]*3)
    wanted = wide[(slice(None), *box(np.add(corner, 20), patch))]
    np.testing.assert_array_equal(crop(x, corner, patch), wanted)

@pytest.mark.parametrize('corner,patch', [((1, 2), (2, 2, 2)), ((1, 2, 3), (2, 2)),
                                          ((0, 0, 0, 0), (1, 1, 1))])
def test_crop_wants_three_numbers(corner, patch):
    with pytest.raises(ValueError, match='three'):
        crop(np.zeros((5, 5, 5)), corner, patch)

# Standardisation

def double_loop(image):
    out = np.zeros(image.shape)
    for c in range(image.shape[0]):
        for z in range(image.shape[-1]):
            s = image[c, :, :, z].astype(float)
            if np.ptp(s):
                out[c, :, :, z] = (s - s.mean())/s.std()
    return out

@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int16])
def test_standardize_equals_the_double_loop(order, dtype):
    image = np.random.default_rng(0).normal(400, 150, (3, 20, 18, 7)).astype(dtype, order=order)
    image[1, :, :, 2], image[2, :, :, 3] = 7, 0
    before = image.copy()
    out = standardize(image, 'slice', inside=None)
    assert out.dtype == np.float32
    assert (image == before).all()
    np.testing.assert_allclose(out, double_loop(image), atol=2e-6)

@pytest.mark.parametrize('value', [0, .1, 1/3, 1e-30, 123456.7, -1e8])
@pytest.mark.parametrize('per', ['slice', 'volume'])
def test_constant_gives_zeros(value, per):
    image = np.full((2, 31, 17, 3), value, np.float32)
    for inside in 'head', None:
        assert not standardize(image, per, inside).any()

def a_head():
    "Two channels with air round them, and where one of them is dark inside"
    rng, image = np.random.default_rng(0), np.zeros((2, 12, 11, 10))
    image[0, 2:9, 3:9, 1:8] = rng.normal(500, 90, (7, 6, 7))
    image[1, 2:9, 3:9, 1:8] = rng.normal(5, 2, (7, 6, 7))
    image[1, 4:6, 4:6, 4:6] = 0
    return image

@pytest.mark.parametrize('order', ['C', 'F'])
def test_standardize_inside_the_head_by_default(order):
    """What is not 0 in all channels, a volume at a time: numpy's own mean and deviation of those
    voxels"""
    image = np.asarray(a_head().astype(np.float32), order=order)
    inside = (image != 0).any(0)
    out = standardize(image)
    for x, wanted in zip(out, image):
        wanted = (wanted[inside] - wanted[inside].mean(dtype=float))/wanted[inside].std(dtype=float)
        np.testing.assert_allclose(x[inside], wanted, atol=1e-5)
    assert not out[:, ~inside].any()
    for same in 'head', inside:
        np.testing.assert_allclose(standardize(image, inside=same), out, atol=1e-6)
    np.testing.assert_array_equal(standardize(image[0]), standardize(image[:1])[0])

def test_standardize_in_place():
    image = a_head().astype(np.float32)
    wanted = standardize(image)
    assert standardize(image, out=image) is image
    np.testing.assert_array_equal(image, wanted)

def test_standardize_inside_a_mask():
    rng = np.random.default_rng(0)
    image = rng.normal(5, 3, (2, 12, 11, 10))
    mask = rng.random((12, 11, 10)) < .3
    mask[:, :, 4] = False
    out = standardize(image, 'volume', mask)
    assert not out[:, ~mask].any()
    np.testing.assert_allclose(out[:, mask].mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(out[:, mask].std(1), 1, atol=1e-5)
    per_slice = standardize(image, 'slice', mask)
    np.testing.assert_allclose(per_slice[0, :, :, 2][mask[:, :, 2]].std(), 1, atol=1e-5)
    assert not per_slice[:, :, :, 4].any()

def test_standardize_refuses():
    with pytest.raises(ValueError, match='finite'):
        standardize(np.full((1, 2, 2, 2), np.nan))
    image = np.ones((1, 2, 2, 2))
    with pytest.raises(ValueError, match='per must be'):
        standardize(image, 'channel')
    with pytest.raises(ValueError, match='inside must be'):
        standardize(image, inside='brain')

# The data set

@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    labels = [(rng.random((12, 10, 9)) < .3).astype(np.uint8)*3 for _ in range(3)]
    return [(np.stack([y, rng.random(y.shape)]).astype(np.float32), y) for y in labels]

def test_image_and_label_stay_together(cases):
    for x, y in PatchDataset(cases, (5, 4, 6), n=30, flips=(0, 1, 2)):
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.shape == (2, 5, 4, 6)
        assert (x[0] == y).all()

def test_patches_depend_on_seed_epoch_and_number_alone(cases):
    def make(seed):
        return PatchDataset(cases, (5, 4, 6), n=9, flips=(0,), seed=seed)
    data = make(0)
    alone = patches(DataLoader(data, 2))
    assert torch.equal(alone, patches(DataLoader(data, 2, num_workers=2)))
    assert torch.equal(data[7][0], alone[7])
    assert not torch.equal(alone, patches(DataLoader(make(1), 2)))
    data.set_epoch(1)
    assert not torch.equal(alone, patches(DataLoader(data, 2)))
    assert {data.draw(i).case for i in range(9)} == {0, 1, 2}

def patches(loader):
    return torch.cat([x for x, _ in loader])

@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_workers_that_stay_hear_of_the_epoch(cases, start):
    """As without workers, in every epoch; before, workers that stay had the data set as it was when
    they were started"""
    data = PatchDataset(cases, (5, 4, 6), n=9, flips=(0,))
    loader = DataLoader(data, 2, num_workers=2, persistent_workers=True,
                        multiprocessing_context=start)
    drawn = []
    for epoch in 0, 1, 5, 0:
        data.set_epoch(epoch)
        drawn.append(patches(loader))
        assert torch.equal(drawn[-1], patches(DataLoader(data, 2)))
    assert torch.equal(drawn[0], drawn[3])
    assert not any(torch.equal(a, b) for a, b in zip(drawn, drawn[1:]))

def test_an_epoch_that_was_left_early_does_not_reach_into_the_next(cases):
    "Workers draw ahead: what they drew for the epoch before is not taken"
    data = PatchDataset(cases, (5, 4, 6), n=30)
    loader = DataLoader(data, 2, num_workers=2, persistent_workers=True)
    next(iter(loader))
    data.set_epoch(1)
    assert torch.equal(patches(loader), patches(DataLoader(data, 2)))

@pytest.mark.parametrize('way', [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_a_copy_has_its_own_epoch(cases, way):
    data = PatchDataset(cases, (5, 4, 6), n=4)
    data.set_epoch(3)
    other = way(data)
    assert other.epoch == 3
    other.set_epoch(7)
    assert data.epoch == 3
    assert other.epoch == 7
    loader = DataLoader(other, 2, num_workers=1, persistent_workers=True)
    for epoch in 1, 2:
        other.set_epoch(epoch)
        assert torch.equal(patches(loader), patches(DataLoader(other, 2)))

def test_every_case_has_its_turn_in_epochs_shorter_than_the_set(cases):
    "Before, the third of three cases never came up in epochs of two patches"
    data, seen = PatchDataset(cases, (5, 4, 6), n=2), []
    for epoch in range(6):
        data.set_epoch(epoch)
        seen += [data.draw(i).case for i in range(2)]
    assert sorted(seen) == sorted([0, 1, 2]*4)

def test_an_epoch_is_a_whole_number(cases):
    data = PatchDataset(cases, (5, 4, 6))
    for wrong in -1, 1.5, None:
        with pytest.raises(ValueError, match='epoch'):
            data.set_epoch(wrong)

# case, corner, axes mirrored, as drawn at commit 5eebeb1
EARLIER = [(0, [2, 2, 0], [-1]), (1, [2, 1, 3], [-3]), (2, [6, 5, 2], [-3]),
           (0, [3, 3, 0], [-1]), (1, [2, 6, 2], [-1]), (2, [7, 2, 3], [-1])]

def test_patches_stay_those_of_earlier_versions(cases):
    "Results that were had with a seed can be had again"
    data = PatchDataset(cases, (5, 4, 6), n=6, min_foreground=.2, classes=(3,), flips=(0, 2),
                        seed=4)
    data.set_epoch(2)
    drawn = [data.draw(i) for i in range(6)]
    assert [(d.case, d.corner.tolist(), d.mirrored) for d in drawn] == EARLIER

def test_all_flips_occur(cases):
    data = PatchDataset(cases, (5, 4, 6), n=300, flips=(0, 2))
    seen = [tuple(data.draw(i).mirrored) for i in range(300)]
    assert all(50 < seen.count(f) < 100 for f in [(), (-3,), (-1,), (-3, -1)])

def test_dataset_names_the_case(cases):
    image, label = cases[1]
    little = np.zeros_like(label)
    little[..., 0] = 1
    with pytest.raises(ValueError, match='case 1: no patch'):
        PatchDataset([cases[0], (image, little)], (12, 10, 9), min_foreground=.2)
    with pytest.raises(ValueError, match='case 0: image of'):
        PatchDataset([(image[..., 1:], label)], (2, 2, 2))

# Network and losses

def test_tutorial_network():
    assert sum(p.numel() for p in UNet3D.tutorial().parameters()) == 16_318_307

@pytest.mark.parametrize('norm', ['instance', 'batch', 'group', None])
@pytest.mark.parametrize('up', ['transpose', 'repeat', 'linear'])
@pytest.mark.parametrize('residual', [False, True])
def test_every_kind_of_network_learns(norm, up, residual):
    torch.manual_seed(0)
    model = UNet3D(2, 3, filters=4, depth=3, norm=norm, up=up, residual=residual)
    out = model(torch.randn(2, 2, 8, 12, 4))
    assert out.shape == (2, 3, 8, 12, 4)
    out.sum().backward()
    for p in model.parameters():
        assert p.grad is not None and p.grad.isfinite().all()

def test_network_refuses():
    with pytest.raises(ValueError, match='multiple of 8'):
        UNet3D()(torch.zeros(1, 4, 16, 16, 12))
    for wrong in dict(norm='layer'), dict(up='bilinear'), dict(depth=0), dict(filters=(4,)*9):
        with pytest.raises(ValueError):
            UNet3D(**wrong)

def as_monai(model, features):
    "MONAI's network of the same structure, with the weights of `model`"
    other = BasicUNet(in_channels=4, out_channels=4, features=features, act='relu')
    ours, theirs = model.state_dict(), other.state_dict()
    assert [w.shape for w in ours.values()] == [w.shape for w in theirs.values()]
    other.load_state_dict(dict(zip(theirs, ours.values())))
    return other.eval()

def test_network_equals_monai():
    torch.manual_seed(0)
    model = UNet3D(filters=(4, 4, 8, 16, 32)).eval()
    # norms start as ones and zeros: a swap would go unseen
    for p in model.parameters():
        p.data += .1*torch.randn_like(p)
    other, x = as_monai(model, (4, 4, 8, 16, 32, 4)), torch.randn(2, 4, 32, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), other(x), atol=1e-5, rtol=1e-5)

def test_memory_format_changes_nothing():
    """torch's GroupNorm with one group a channel is the same norm, and faster, but loses digits on
    channels-last input"""
    torch.manual_seed(0)
    model, x = UNet3D(filters=(4, 8)).eval(), torch.randn(2, 4, 32, 32, 32) + 20
    with torch.inference_mode():
        exact = model.double()(x.double())
        usual = model.float()(x)
        last = model.to(memory_format=torch.channels_last_3d)(x)
    for out in usual, last:
        torch.testing.assert_close(out.double(), exact, atol=5e-5, rtol=0)

@pytest.mark.parametrize('norm', ['instance', 'batch', 'group'])
@pytest.mark.parametrize('n', [1, 2])
def test_gradients_do_not_depend_on_the_memory_format(norm, n):
    """torch's instance norm takes a batch of one as it is, and its gradient is wrong where what
    comes back lies channels last and the input does not (torch 2.15, CPU)"""
    torch.manual_seed(0)
    norm_and_relu = UNet3D(filters=(8,), norm=norm).down[0].convs[1:3]
    x, g = torch.randn(2, n, 8, 12, 12, 12)
    gradients = []
    for dtype, order in ((torch.float64, torch.contiguous_format),
                         (torch.float32, torch.contiguous_format),
                         (torch.float32, torch.channels_last_3d)):
        leaf = x.to(dtype, memory_format=order).detach().requires_grad_()
        norm_and_relu.to(dtype)(leaf).backward(g.to(dtype))
        gradients.append(leaf.grad.double())
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-4, rtol=0)

@pytest.mark.parametrize('background', [True, False])
@pytest.mark.parametrize('pooled', [True, False])
@pytest.mark.parametrize('epsilon', [1., 1e-3])
def test_soft_dice_equals_monai(background, pooled, epsilon):
    torch.manual_seed(0)
    p = torch.randn(3, 4, 6, 5, 7, dtype=torch.float64).softmax(1)
    y = torch.randint(0, 3, (3, 6, 5, 7))  # class 3 is empty
    monai = DiceLoss(include_background=background, to_onehot_y=True, squared_pred=True,
                     smooth_nr=epsilon, smooth_dr=epsilon, batch=pooled)
    ours = soft_dice_loss(p, y, epsilon, background, pooled)
    assert abs(ours - monai(p, y[:, None])) < 1e-6

def test_gradients():
    torch.manual_seed(0)
    z = torch.randn(2, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    y = torch.randint(0, 3, (2, 2, 2, 2))
    assert torch.autograd.gradcheck(lambda z: soft_dice_loss(z.softmax(1), y), z)
    assert torch.autograd.gradcheck(lambda z: dice_ce_loss(z, y), z)

def test_loss_refuses_shapes_that_do_not_fit():
    p, y = torch.rand(2, 3, 4, 4, 4), torch.zeros(2, 4, 4, 5).long()
    with pytest.raises(ValueError, match='do not fit'):
        soft_dice_loss(p, y)

halves = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])

@halves
def test_sums_do_not_overflow_in_half_precision(dtype):
    """Over 65,504 voxels, which float16 can't count; bfloat16 counts to 256. Perfect: loss 0.
    All logits equal, two classes of which one fills the patch: Dice is 2*.5n/(.25n + n) and
    1/(.25n + 1), and cross-entropy is ln 2"""
    p, n = torch.ones(1, 1, 512, 512, dtype=dtype), 64**3
    assert soft_dice_loss(p, p).item() == 0
    z = torch.zeros(1, 2, 64, 64, 64, dtype=dtype, requires_grad=True)
    y = torch.ones(1, 64, 64, 64).long()
    wanted = 1 - (2*.5*n/(1.25*n) + 1/(.25*n))/2 + np.log(2)
    loss = dice_ce_loss(z, y)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - wanted) < 1e-4
    loss.backward()
    assert z.grad.isfinite().all()
    assert z.grad.any()

@halves
def test_losses_under_autocast(dtype):
    torch.manual_seed(0)
    conv, x = torch.nn.Conv3d(1, 3, 1), torch.rand(2, 1, 48, 48, 48)
    y = torch.randint(0, 3, (2, 48, 48, 48))
    wanted = dice_ce_loss(conv(x), y)
    with torch.autocast('cpu', dtype=dtype):
        loss = dice_ce_loss(conv(x), y)
        loss.backward()
    assert abs(loss - wanted) < .01
    assert conv.weight.grad.isfinite().all()

def test_half_precision_is_that_of_the_input_alone():
    "The loss of rounded probabilities, to the digits of float32, whatever precision they come in"
    torch.manual_seed(0)
    p, y = torch.randn(2, 3, 8, 8, 8).softmax(1).half(), torch.randint(0, 3, (2, 8, 8, 8))
    channels = torch.nn.functional.one_hot(y, 3).movedim(-1, 1)
    wanted = soft_dice_loss(p.double(), y)
    for dtype in torch.int64, torch.uint8, torch.int32, torch.float16:
        for truth in y, channels:
            assert abs(soft_dice_loss(p, truth.to(dtype)) - wanted) < 1e-6
    assert abs(soft_dice_loss(p, channels.bool()) - wanted) < 1e-6

def test_labels_of_any_type_are_one():
    """torch's cross_entropy takes int64 alone; a label that was read as uint8 or as float32 is the
    same label"""
    torch.manual_seed(0)
    z, y = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 4, 4, 4))
    for dtype in torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64:
        assert torch.equal(dice_ce_loss(z, y.to(dtype)), dice_ce_loss(z, y))
    assert torch.equal(dice_ce_loss(z[:, :2], y > 0), dice_ce_loss(z[:, :2], (y > 0).long()))

def tumour_dice(p, y):
    return soft_dice_loss(p, y, background=False)

@pytest.mark.parametrize('loss', [soft_dice_loss, tumour_dice, dice_ce_loss])
@pytest.mark.parametrize('label,said', [
    (4, 'label 4.* 0 to 3'), (255, 'label 255.* 0 to 3'), (-1, 'label -1.* 0 to 3'),
    (-100, 'label -100.* 0 to 3'), (1.5, '1.5.*whole'), (np.nan, 'nan.*whole'),
    (np.inf, 'inf.*whole')])
def test_labels_that_are_no_class_are_refused(loss, label, said):
    """BraTS numbers its parts 1, 2 and 4: with four classes, label 4 is none of them.
    torch leaves out label -100 without a word"""
    y = torch.tensor([[0, 1, 2, label]])
    with pytest.raises(ValueError, match=said):
        loss(torch.eye(4).T[None], y)

@pytest.mark.parametrize('wrong', [2, 255, -1, np.nan])
def test_channels_of_truth_are_shares(wrong):
    "Masks of 0 and 255 are a usual mistake; their squares overflow in uint8"
    y = torch.tensor([0, 1, 1, wrong]).view(1, 1, 2, 2)
    with pytest.raises(ValueError, match='from 0 to 1'):
        soft_dice_loss(torch.rand(1, 1, 2, 2), y)

def test_loss_says_which_shape_it_wants():
    p, y = torch.rand(2, 3, 4, 4, 4), torch.zeros(2, 4, 4, 4).long()
    for loss in soft_dice_loss, dice_ce_loss:
        with pytest.raises(ValueError, match=re.escape('y[:, 0]')):
            loss(p, y[:, None])
        with pytest.raises(ValueError, match='do not fit'):
            loss(p, y[0])
        with pytest.raises(ValueError, match='batch, class'):
            loss(p[0, 0, 0], y[0, 0, 0])

# Whole volumes

def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)

@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return UNet3D(4, 4, filters=(4, 8), norm='batch')

@pytest.mark.parametrize('shape', [(20, 17, 9), (16, 16, 8), (11, 40, 7), (5, 5, 5)])
@pytest.mark.parametrize('overlap,weight', [
    (.5, 'gaussian'), (.25, 'constant'), (0, 'gaussian'), (.7, 'gaussian')])
def test_predict_equals_monai(model, shape, overlap, weight):
    image, patch = noise(4, *shape), (16, 16, 8)
    p = predict_volume(model, image, patch, overlap, weight, progress=False)
    def probabilities(x): return model(x).softmax(1)
    volume = torch.from_numpy(image)[None]
    with evaluating(model), torch.inference_mode():
        theirs = sliding_window_inference(volume, patch, 3, probabilities, overlap, weight)
    assert p.shape == (4, *shape)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, theirs[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(p.sum(0), 1, atol=1e-5)

def test_batch_does_not_matter_and_the_weights_are_left_as_they_were(model):
    image = np.random.default_rng(1).normal(size=(4, 30, 20, 11))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    one = predict_volume(model, image, (16, 16, 8), batch=1, progress=False)
    five = predict_volume(model, image, (16, 16, 8), batch=5, progress=False)
    np.testing.assert_allclose(one, five, atol=1e-6)
    for k, v in model.state_dict().items():
        assert torch.equal(v, state[k])

@pytest.mark.parametrize('n, batch, sizes', [(5, 4, [3, 2]), (5, 8, [5]), (1, 4, [2]), (1, 1, [1]),
                                             (3, 1, [1, 1, 1])])
def test_batches_are_of_nearly_one_size(model, n, batch, sizes):
    """A small tile alone goes twice, which is quicker on a CPU, but never where only one at a time
    was asked for: a model may take no more"""
    seen = []
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    image = np.zeros((4, 16*n, 16, 8), np.float32)
    p = predict_volume(model, image, (16, 16, 8), overlap=0, batch=batch, progress=False)
    hook.remove()
    assert seen == sizes
    assert p.shape == (4, 16*n, 16, 8)

def modes(model):
    return [m.training for m in model.modules()]

def half_frozen(fails=False):
    """A model in training, its first block frozen in evaluation, as many do who fine-tune;
    it says in which modes it ran"""
    model, seen = UNet3D(4, 4, filters=(4, 8), norm='batch').train(), []
    model.down[0].eval()
    def look(module, inputs):
        seen.append(modes(model))
        if fails: raise KeyboardInterrupt('in the middle of a forward pass')
    model.head.register_forward_pre_hook(look)
    return model, seen

def test_parts_of_the_model_keep_their_own_mode():
    model, seen = half_frozen()
    before = modes(model)
    assert True in before
    assert False in before
    predict_volume(model, np.zeros((4, 16, 16, 8), np.float32), (16, 16, 8), progress=False)
    assert seen == [[False]*len(before)]
    assert modes(model) == before

def test_parts_keep_their_mode_when_a_forward_pass_fails():
    model, seen = half_frozen(fails=True)
    before = modes(model)
    with pytest.raises(KeyboardInterrupt):
        predict_volume(model, np.zeros((4, 16, 16, 8), np.float32), (16, 16, 8), progress=False)
    assert len(seen) == 1
    assert modes(model) == before

def test_a_model_with_its_own_train_method_is_left_as_found():
    """Some override `train` so that a norm stays frozen: what the override does is no business of a
    prediction"""
    class Stubborn(torch.nn.Sequential):
        def train(self, mode=True): raise AssertionError('nobody asked for another mode')
    model = Stubborn(torch.nn.Conv3d(4, 2, 1), torch.nn.Dropout(.5))
    image = np.random.default_rng(0).random((4, 8, 8, 8), np.float32)
    one, two = (predict_volume(model, image, (8, 8, 8), progress=False) for _ in range(2))
    assert np.array_equal(one, two)
    assert modes(model) == [True]*3

class Outputs(torch.nn.Module):
    "Puts out what `make` makes of its logits"
    def __init__(self, make):
        super().__init__()
        self.conv, self.make = torch.nn.Conv3d(1, 2, 1), make
    def forward(self, x):
        return self.make(self.conv(x))

@pytest.mark.parametrize('make,found', [
    (lambda z: [z, z[..., ::2, ::2, ::2]], 'a list of 2'), (lambda z: (z, z), 'a tuple of 2'),
    (lambda z: [z], 'a list of 1'), (lambda z: dict(out=z, aux=z), "a dict of 'out', 'aux'"),
    (lambda z: z.detach().numpy(), 'a ndarray'), (lambda z: None, 'a NoneType')])
def test_models_with_several_outputs_are_refused(make, found):
    """Which of them is the prediction, the function can't know: torchvision puts it under 'out',
    with deep supervision it is first, or last"""
    model = Outputs(make)
    with pytest.raises(ValueError, match=f'puts out {found}.*one tensor'):
        predict_volume(model, np.zeros((1, 8, 8, 8)), (8, 8, 8), progress=False)
    with pytest.raises(ValueError, match='one tensor'):
        predict_volume(lambda x: model(x), np.zeros((1, 8, 8, 8)), (8, 8, 8), progress=False)
    assert modes(model) == [True]*2

@pytest.mark.parametrize('dtype,at', [(torch.float16, 2e-3), (torch.bfloat16, .02),
                                      (torch.float64, 1e-6)])
@pytest.mark.parametrize('frozen', [False, True])
def test_models_of_other_precision(dtype, at, frozen):
    """The prediction of the float32 model, as near as the precision allows; `frozen`:
    weights that are buffers"""
    torch.manual_seed(0)
    model = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = np.random.default_rng(0).normal(size=(1, 10, 8, 9))
    wanted = predict_volume(model, image, (8, 8, 8), progress=False)
    model = copy.deepcopy(model).to(dtype)
    if frozen:
        for name in 'weight', 'bias':
            values = getattr(model, name).data
            delattr(model, name)
            model.register_buffer(name, values)
    p = predict_volume(model, image, (8, 8, 8), progress=False)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, wanted, atol=at)

def test_one_tile_is_one_pass(model):
    image = noise(4, 16, 16, 8, seed=2)
    p = predict_volume(model, image, (16, 16, 8), progress=False)
    with evaluating(model), torch.inference_mode():
        once = model(torch.from_numpy(image)[None]).softmax(1)
    np.testing.assert_allclose(p, once[0].numpy(), atol=1e-6)

def test_memory_mapped_half_precision_and_activations(model, tmp_path):
    image = noise(4, 20, 20, 10, seed=3)
    np.save(tmp_path/'x.npy', image)
    mapped = np.load(tmp_path/'x.npy', mmap_mode='r')
    p = predict_volume(model, image, (16, 16, 8), progress=False)
    half = predict_volume(model, mapped, (16, 16, 8), dtype=np.float16, progress=False)
    assert half.dtype == np.float16
    assert abs(half - p).max() < 1e-3
    def thrice(x): return x*3
    raw, sigmoid = (predict_volume(thrice, image, (20, 20, 10), activation=a, progress=False)
                    for a in (None, 'sigmoid'))
    np.testing.assert_allclose(raw, image*3, rtol=1e-5)
    np.testing.assert_allclose(sigmoid, 1/(1 + np.exp(-image*3)), atol=1e-6)

def test_predict_refuses(model):
    image = np.zeros((4, 16, 16, 8), np.float32)
    usual = dict(model=model, image=image, patch=(16, 16, 8), progress=False)
    for wrong in (dict(image=image[0]), dict(overlap=1), dict(weight='hann'), dict(batch=0),
                  dict(patch=(16, 16)), dict(activation='relu')):
        with pytest.raises(ValueError):
            predict_volume(**usual | wrong)
    with pytest.raises(ValueError, match='multiple of 2'):
        predict_volume(model, image, (16, 16, 7), progress=False)
    for wrong in (lambda x: x[..., :1], lambda x: x.mean((2, 3, 4)),
                  lambda x: x[:1, :, :, :, :, None]):
        with pytest.raises(ValueError, match=re.escape('need (batch, class, *patch)')):
            predict_volume(wrong, image, (16, 16, 4), progress=False)

def test_memory_is_bounded_by_the_volume(tmp_path):
    "A whole-volume copy of the image in float32 would add 400 MB to this"
    pytest.importorskip('resource')
    np.lib.format.open_memmap(tmp_path/'x.npy', 'w+', np.int8, (8, 240, 240, 220)).flush()
    code = f'''
import numpy as np, resource, torch
from medtut.summaries import summarise
from medtut.tiles import predict_volume
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def first(x): return x[:, :1]
image = np.load({str(tmp_path/"x.npy")!r}, mmap_mode='r')
before = peak()
predict_volume(first, image, (80,)*3, 0, activation=None, batch=1, progress=False)
print((peak() - before)/1024)'''
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    grown = float(done.stdout)
    if sys.platform == 'darwin': grown /= 1024
    volume = 240*240*220/2**20
    assert grown < 8*volume + 2*4*volume + 100, 'file pages, sums and weights, batch'

# Weights

def test_weights_come_back(tmp_path):
    torch.manual_seed(0)
    model = UNet3D(filters=4, depth=2, norm='batch').to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 4, 8, 8, 8)
    model(x)
    written = dict(data='noise', seed=0, scores={'Dice': .5}, note='test')
    path = save_unet(model, tmp_path/'unet.safetensors', **written)
    again, card = load_unet(path)
    assert torch.equal(again(x), model.eval()(x))
    assert not again.training
    assert written.items() <= card.items()
    assert 'Not for clinical use' in card['use']
    assert os.listdir(tmp_path) == ['unet.safetensors']

def test_files_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file
    model = UNet3D(filters=4, depth=2)
    path = save_unet(model, tmp_path/'unet.safetensors', data='', seed=0, scores={})
    cut, pickled, bare = (tmp_path/n for n in ('cut.safetensors', 'unet.pt', 'bare.safetensors'))
    cut.write_bytes(path.read_bytes()[:-100])
    torch.save(model, pickled)
    save_file(model.state_dict(), bare)
    for bad in cut, pickled, bare:
        with pytest.raises(ValueError, match=bad.name):
            load_unet(bad)
    weights = load_file(path)
    def described(config, weights=weights):
        bad, notes = tmp_path/'bad.safetensors', '{"unet3d": %s, "card": {}}' % config
        save_file(weights, bad, metadata=dict(medtut=notes))
        return bad
    for config in (
            '{', '[]', '{"filters": 5}', '{"filters": 4, "depth": 2, "up": "guess"}',
            '{"filters": 4, "depth": 1000000000}', '{"danger": 1}',
            '{"filters": 1000000, "depth": 8}', '{"filters": 4, "depth": 3}'):
        with pytest.raises(ValueError, match='bad.safetensors'):
            load_unet(described(config))
    weights.pop('head.bias')
    lacking = described('{"filters": 4, "depth": 2}', weights)
    with pytest.raises(ValueError, match='head.bias'):
        load_unet(lacking)
    with pytest.raises(ValueError, match='must end in'):
        save_unet(model, tmp_path/'unet.pt2', data='', seed=0, scores={})

def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    model = UNet3D(filters=4, depth=2)
    path = save_unet(model, tmp_path/'unet.safetensors', data='first', seed=0, scores={})
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('medtut.files.os.replace', full)
    with pytest.raises(OSError):
        save_unet(model, path, data='second', seed=0, scores={})
    assert load_unet(path).card['data'] == 'first'
    assert os.listdir(tmp_path) == ['unet.safetensors']

# Real patches

def test_real_patches_go_through_unchanged():
    folder = os.environ.get('MEDTUT_REAL_FILES')
    paths = sorted(Path(folder, 'msd_patches').glob('*.npz')) if folder else []
    if not paths: pytest.skip('MEDTUT_REAL_FILES does not name a folder with msd_patches/')
    from medtut.masks import segmentation_report
    cases = []
    for path in paths:
        with np.load(path) as f:
            cases.append((standardize(f['image'], 'slice'), f['label']))
    for x, _ in cases:
        assert x.shape == (4, 160, 160, 16) and np.isfinite(x).all()
    data = PatchDataset(cases, (32, 32, 16), n=4, classes=(1, 2, 3), min_foreground=.005,
                        flips=(0, 1))
    torch.manual_seed(0)
    model = UNet3D(filters=(4, 8, 16))
    optimizer, losses = torch.optim.AdamW(model.parameters(), 1e-2), []
    for epoch in range(6):
        data.set_epoch(epoch % 2)
        for x, y in DataLoader(data, batch_size=4):
            loss = dice_ce_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] - .1
    image, label = cases[0]
    p = predict_volume(model, image, (32, 32, 16), progress=False)
    report = segmentation_report(truth=label, prediction=p.argmax(0), spacing=(1, 1, 1),
                                 classes=MSD_LABELS)
    assert len(report)
    assert report.dice.between(0, 1).any()

# --- what losses refuse

@pytest.mark.parametrize('loss', [soft_dice_loss, dice_ce_loss])
@pytest.mark.parametrize('shape, label, says', [
    ((1, 4, 3), 0, r'labels would be \(1, 4, 4\)'),
    ((1, 1, 4, 4), 0, r'give y\[:, 0\]'),
    ((1, 4, 4), 5, 'label 5, the prediction has classes 0 to 1')])
def test_losses_refuse_labels(loss, shape, label, says):
    with pytest.raises(ValueError, match=says):
        loss(torch.zeros(1, 2, 4, 4), torch.full(shape, label))

def test_soft_dice_refuses_shares_beyond_1():
    with pytest.raises(ValueError, match='goes from 0 to 1, found 2'):
        soft_dice_loss(torch.zeros(1, 2, 4, 4), torch.full((1, 2, 4, 4), 2.))

# --- what lesson 6 stores

def test_stored_trainings(root):
    "Three seeds, judged on the same patients, from which a summary can be made"
    lines = (root/'nbs/06_segmentation.jsonl').read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    assert [run['seed'] for run in runs] == [0, 1, 2]
    tables = [pd.DataFrame(run['rows']) for run in runs]
    for run, table in zip(runs, tables):
        assert run['data'] == 'phantoms'
        judged = table[['case', 'region', 'label_ml']]
        assert judged.equals(tables[0][judged.columns])
        assert set(summarise(table, ['dice']).index) == set(TUMOUR_REGIONS)

def test_stored_losses(root):
    "Each loss from each seed, judged on the same patients, none of them of the test set"
    lines = (root/'nbs/06_losses.jsonl').read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    assert len({run['loss'] for run in runs}) == 4
    assert sorted((run['loss'], run['seed']) for run in runs) == sorted(
        (loss, seed) for loss in {run['loss'] for run in runs} for seed in range(3))
    judged = [{(row['case'], row['region'], row['label_ml']) for row in run['rows']} for run in runs]
    assert all(cases == judged[0] for cases in judged)
    tested = json.loads((root/'nbs/06_segmentation.jsonl').read_text().splitlines()[0])['rows']
    assert not {case for case, _, _ in judged[0]} & {row['case'] for row in tested}

@pytest.fixture
def lesson(monkeypatch):
    "Cells of lesson 6 by id, and the names that those on stored trainings use"
    cells = {cell['id']: cell.source for cell in read_nb(nbs/'06_segmentation.ipynb').cells}
    names = dict(json=json, pd=pd, Path=Path, TUMOUR_REGIONS=TUMOUR_REGIONS,
                 kind='phantom', epochs=12)
    monkeypatch.chdir(nbs)
    exec(cells['seg71s'], names)
    return cells, names

def test_trainings_on_other_data_stay_where_new_ones_are_stored(lesson, tmp_path):
    "Before, a training on real patients replaced the scores of the phantoms"
    _, names = lesson
    path = tmp_path/'runs.jsonl'
    path.write_text('{"seed": 0, "data": "phantoms", "epochs": 12}\n')
    names['kind'] = 'real patient'
    assert names['runs_in'](path) == []
    for seed in 1, 2: names['store'](path, [dict(seed=seed, data='real patients', epochs=12)])
    stored = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(run['seed'], run['data']) for run in stored] == [(0, 'phantoms'), (2, 'real patients')]
    assert [run['seed'] for run in names['runs_in'](path)] == [2]

@pytest.mark.parametrize('cell', ['seg71t', 'seg71x'])
def test_run_all_repeats_no_training_whose_scores_are_there(lesson, cell):
    "In Colab, 'Run all' took more than an hour here. Trainings of another length are others"
    cells, names = lesson
    source = cells[cell]
    exec(source, names | {'reports': None}) # without a network: a training would be an error
    names['epochs'] = 3
    with pytest.raises(NameError): exec(source, names | {'reports': None})

@pytest.mark.parametrize('flips', [(1, 2, 3), (-1,), (0, 3)])
def test_flips_are_axes_of_the_volume(cases, flips):
    "Before, axis 3 mirrored the label and not the image"
    with pytest.raises(ValueError, match='x, y and z are axes 0, 1 and 2'):
        PatchDataset(cases, (5, 4, 6), flips=flips)

def test_soft_dice_refuses_logits_and_a_class_that_is_left_out():
    truth = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match='probabilities'):
        soft_dice_loss(torch.full((1, 2, 4, 4, 4), 10.), truth)
    with pytest.raises(ValueError, match='nothing of a single class'):
        soft_dice_loss(torch.rand(1, 1, 4, 4, 4), truth, background=False)

def test_softmax_over_one_class_is_refused():
    "It is 1 whatever the model says"
    one, image = torch.nn.Conv3d(1, 1, 1), np.zeros((1, 8, 8, 8), np.float32)
    with pytest.raises(ValueError, match="one channel, .*activation='sigmoid'"):
        predict_volume(one, image, (8, 8, 8), progress=False)
    assert predict_volume(one, image, (8, 8, 8), activation='sigmoid', progress=False).min() < 1

class _InPlace(torch.nn.Module):
    "Changes its input, and takes the batch for a part of the channels"
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Conv3d(1, 2, 1)
    def forward(self, x):
        x.clamp_(-3, 3)
        b, c, *size = x.shape
        return self.last(x.view(b*c, 1, *size))

def test_a_lone_tile_goes_as_others_do():
    "Before, it was an error inside torch: a lone small tile goes twice, which was no copy"
    predict_volume(_InPlace(), np.zeros((1, 16, 16, 16), np.float32), (16, 16, 16), progress=False)

def test_a_step_is_not_cut_by_rounding():
    "10*(1 - .8) is 1.9999999999999996: before, tiles overlapped by .9"
    from medtut.tiles import _starts
    assert _starts(30, 10, .8)[:3] == [0, 2, 4]

def test_the_lesson_calls_nothing_a_phantom_that_may_be_real():
    "One word changes the set: what it is is said by that word alone"
    cells = {cell.id: cell.source for cell in read_nb(nbs/'06_segmentation.ipynb').cells
             if cell.cell_type == 'code'}
    defined = ("kind = 'phantom' if source", "made = 'phantoms of medtut", 'labelled = {} #')
    for name, source in cells.items():
        lines = [line for line in source.splitlines() if not any(d in line for d in defined)]
        said = [line.partition('#')[0] for line in lines]
        assert not any('phantom' in line for line in said), name
    assert "run['data'] == f'{kind}s'" in cells['seg71s']
    for name in 'seg71u', 'seg71y': assert 'runs_in(' in cells[name]
    assert "if source == 'sample':" in cells['seg171'], 'a bar for scores'
