"CAM and Grad-CAM against pytorch-grad-cam, and what they leave behind in a model: nothing"
import copy
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from fastai.vision.models.xresnet import xresnet18
from hypothesis import given, settings, strategies as st
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.spatial.distance import cdist
from torch import nn

from medtut.cam import Hook, cam, grad_cam, receptive_field
from medtut.heatmaps import ReceptiveField, best_constant_point, hits_of_point, pointing_game, upsample


def net3d():
    "A volume classifier with in-place ReLUs, as many have them"
    def conv(i, o):
        conv = nn.Conv3d(i, o, 3, padding=1, stride=2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm3d(o), nn.ReLU(inplace=True))
    head = nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 3)
    return nn.Sequential(conv(1, 8), conv(8, 16), conv(16, 16), *head)

def resnet18(): return torchvision.models.resnet18(num_classes=7)
def densenet121(): return torchvision.models.densenet121(num_classes=7)

# model, layers to look at (the last one gives the features that the head takes the mean of),
# shape of an image
MODELS = dict(
    resnet18=(resnet18, ['layer1', 'layer2.0', 'layer3', 'layer4'], (3, 96, 96)),
    densenet121=(densenet121, ['features.denseblock2', 'features.denseblock4'], (3, 64, 64)),
    xresnet18=(lambda: xresnet18(n_out=7, c_in=1), ['4', '5', '7'], (1, 96, 80)),
    net3d=(net3d, ['0', '1', '2'], (1, 24, 32, 40)))
each_model = pytest.mark.parametrize('name', MODELS)

def ready(name, batch=2, seed=0):
    "A model whose weights and batch statistics are not those of a fresh one, its layers, a batch"
    make, layers, shape = MODELS[name]
    torch.manual_seed(seed)
    model = make()
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            for t in m.weight, m.running_var:
                nn.init.uniform_(t, .7, 1.3)
            for t in m.bias, m.running_mean:
                nn.init.normal_(t, 0, .1)
    return model.train(), layers, torch.randn(batch, *shape)

def oracle(model, x, target, layer):
    "What pytorch-grad-cam makes of it before it scales each map to 0..1 and to the image's size"
    model = copy.deepcopy(model)
    targets = None if target is None else [ClassifierOutputTarget(target)]*len(x)
    found = []
    with GradCAM(model, [model.get_submodule(layer)]) as theirs:
        original = theirs.get_cam_image
        def kept(*args, **kwargs):
            found.append(original(*args, **kwargs))
            return found[-1]
        theirs.get_cam_image = kept
        scaled = theirs(x, targets)
    return found[0], scaled

def close(ours, theirs, at=1e-5):
    "Equal to `at` of the largest value, before what is negative is cut off"
    ours, largest = ours.numpy(), np.abs(theirs).max()
    assert ours.shape == theirs.shape
    assert largest > 0
    np.testing.assert_allclose(ours/largest, theirs/largest, rtol=0, atol=at)

@pytest.mark.parametrize('target', [2, None])
@pytest.mark.parametrize('name,layer', [
    (name, layer) for name, (_, layers, _) in MODELS.items() for layer in layers])
def test_equals_pytorch_grad_cam(name, layer, target):
    model, _, x = ready(name)
    theirs, _ = oracle(model, x, target, layer)
    ours = grad_cam(model, x, target, layer, relu=False)
    close(ours, theirs)
    assert torch.equal(grad_cam(model, x, target, layer), ours.relu())

@each_model
def test_equals_pytorch_grad_cam_scaled(name):
    """The final output of the peer, after its scaling
    (and, in two dimensions, its enlarging, which is OpenCV's)"""
    model, layers, x = ready(name)
    _, theirs = oracle(model, x, 1, layers[-1])
    ours = grad_cam(model, x, 1, layers[-1]).numpy()
    ours = ours - ours.min(tuple(range(1, ours.ndim)), keepdims=True)
    ours = ours/(1e-7 + ours.max(tuple(range(1, ours.ndim)), keepdims=True))
    if ours.ndim == 3:
        ours = upsample(torch.tensor(ours), x.shape[2:], 'tiles').numpy()
        ours = ours/(1e-7 + ours.max((1, 2), keepdims=True))
        # OpenCV rounds the places it interpolates at
        np.testing.assert_allclose(ours, theirs, atol=.01)
    else:
        # enlarged by cubic splines: what they are made of is compared above
        assert theirs.shape == x[:, 0].shape

@each_model
def test_several_targets_are_the_single_ones(name):
    model, layers, x = ready(name)
    targets = [2, 0, 2]
    with warnings.catch_warnings():
        # such as: no batched backward for an operation, so one by one
        warnings.simplefilter('error')
        together = grad_cam(model, x, targets, layers[0], relu=False)
    for i,t in enumerate(targets):
        one = grad_cam(model, x, t, layers[0], relu=False)
        torch.testing.assert_close(together[:, i], one, rtol=1e-4, atol=1e-5*float(one.abs().max()))
    torch.testing.assert_close(cam(model, x, targets)[:, 1], cam(model, x, 0))

@each_model
def test_cam_is_grad_cam_at_the_last_layer(name):
    model, layers, x = ready(name)
    last = layers[-1]
    if name == 'densenet121':
        # a ReLU stands between its last layer and the mean, as a function: give it a name
        want = cam(model, x, 1)
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.classifier
        model, last = nn.Sequential(model.features, nn.ReLU(), *head), '1'
        torch.testing.assert_close(cam(model, x, 1), want)
    ours, other = cam(model, x, 1), grad_cam(model, x, 1, last, relu=False)
    factor = (ours*other).flatten(1).sum(1)/(other**2).flatten(1).sum(1)
    assert (factor > 0).all()
    scaled = other*factor.view(-1, *[1]*(other.ndim - 1))
    torch.testing.assert_close(ours, scaled, rtol=1e-4, atol=1e-5*float(ours.abs().max()))
    places = torch.full_like(factor, ours[0].numel()) # by which the mean divides
    torch.testing.assert_close(factor, places, rtol=1e-4, atol=0)
    model.eval()
    bias = [m for m in model.modules() if isinstance(m, nn.Linear)][-1].bias[1]
    mean = ours.flatten(1).mean(1) + bias.detach()
    torch.testing.assert_close(mean, model(x)[:, 1].detach(), rtol=1e-4, atol=1e-4)

def test_batches_of_any_size():
    model, _, x = ready('resnet18', batch=5)
    whole = grad_cam(model, x, 1, 'layer3')
    parts = torch.cat([grad_cam(model, part, 1, 'layer3') for part in x.split([1, 3, 1])])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5*float(whole.max()))
    assert grad_cam(model, x[:0], 1, 'layer3').shape == (0, 6, 6)
    assert cam(model, x[:0], [0, 1]).shape == (0, 2, 3, 3)

# --- what is left behind

HOOKS = '_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks'

def count_hooks(layer):
    return [len(getattr(layer, name)) for name in HOOKS]

def state(model):
    "All that can be told of a model from outside"
    return dict(
        modes=[m.training for m in model.modules()],
        hooks=[count_hooks(m) for m in model.modules()],
        needs=[p.requires_grad for p in model.parameters()],
        grads=[None if p.grad is None else p.grad.clone() for p in model.parameters()],
        values={k: v.clone() for k,v in model.state_dict().items()},
        names=[sorted(vars(m)) for m in model.modules()])

def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b

class Trap(nn.Module):
    "Lets everything through, or fails"
    armed = False
    def forward(self, x):
        if self.armed: raise KeyboardInterrupt('in the middle of a forward pass')
        return x

class Snare(torch.autograd.Function):
    "Lets everything through, and fails on the way back"
    @staticmethod
    def forward(ctx, x): return x.clone()
    @staticmethod
    def backward(ctx, g): raise KeyboardInterrupt('in the middle of a backward pass')

def used_model():
    """A model in the middle of its life: part frozen, part in evaluation mode,
    gradients from a step before, a hook of its owner's"""
    model, _, x = ready('resnet18')
    model.trap = Trap()
    model.layer4.register_forward_hook(lambda m, i, o: model.trap(o))
    model(x).sum().backward()
    model.layer1.eval()
    model.bn1.eval()
    model.conv1.requires_grad_(False)
    model.layer2[0].conv1.weight.grad = None
    return model, x

calls = dict(
    cam=lambda model, x: cam(model, x, 1),
    grad_cam=lambda model, x: grad_cam(model, x, None, 'layer2'),
    several=lambda model, x: grad_cam(model, x, [0, 3], model.layer3[0].conv1),
    no_such_class=lambda model, x: grad_cam(model, x, 99, 'layer2'),
    no_places=lambda model, x: grad_cam(model, x, 0, 'fc'),
    no_such_layer=lambda model, x: grad_cam(model, x, 0, 'layer9'),
    wrong_input=lambda model, x: grad_cam(model, x[:, :2], 0, 'layer2'),
    cam_no_such_class=lambda model, x: cam(model, x, -1))

@pytest.mark.parametrize('what', calls)
@pytest.mark.parametrize('armed', [False, True])
def test_model_stays_as_found(what, armed):
    model, x = used_model()
    x.requires_grad_()
    before, mode = state(model), torch.is_grad_enabled()
    model.trap.armed = armed
    fails = armed or what.startswith(('no_', 'wrong')) or '_no_' in what
    try: calls[what](model, x)
    except (ValueError, RuntimeError, KeyboardInterrupt): assert fails
    else: assert not fails
    model.trap.__dict__.pop('armed')
    assert same(before, state(model))
    assert x.grad is None
    assert torch.is_grad_enabled() == mode

def test_model_stays_as_found_when_backward_fails():
    model, x = used_model()
    before = state(model)
    handle = model.layer4.register_forward_hook(lambda m, i, o: Snare.apply(o))
    with pytest.raises(KeyboardInterrupt):
        grad_cam(model, x, 0, 'layer3')
    handle.remove()
    assert same(before, state(model))
    assert torch.is_grad_enabled()

@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_and_returns_to_any_grad_mode(context):
    model, _, x = ready('resnet18')
    want = grad_cam(model, x, 1, 'layer3')
    with context():
        mode = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = grad_cam(model, x + 0, 1, 'layer3') # a tensor made in that mode
        assert mode == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        assert torch.equal(found, want)
        assert not found.requires_grad
        assert torch.equal(cam(model, x + 0, 1), cam(model, x, 1))

def test_result_does_not_depend_on_the_mode_found():
    model, _, x = ready('resnet18')
    in_training = grad_cam(model.train(), x, 1, 'layer2')
    torch.testing.assert_close(in_training, grad_cam(model.eval(), x, 1, 'layer2'), rtol=0, atol=0)

def test_frozen_model():
    model, _, x = ready('resnet18')
    want = grad_cam(model, x, 1, 'layer2')
    frozen = grad_cam(model.requires_grad_(False), x, 1, 'layer2')
    torch.testing.assert_close(frozen, want, rtol=0, atol=0)

@pytest.mark.parametrize('before', [True, False])
@pytest.mark.parametrize('fails', [False, True])
def test_hook_gives_the_gradient_mode_back(before, fails):
    "The hook switches recording on where its layer runs; outside of it the mode is the one before"
    layer, x = nn.Conv2d(1, 1, 1), torch.rand(1, 1, 4, 4)
    with torch.set_grad_enabled(before):
        try:
            with Hook(layer, with_grad=True) as hook:
                assert layer(x).requires_grad
                if fails: raise ZeroDivisionError
        except ZeroDivisionError: assert fails
        assert torch.is_grad_enabled() == before
        with Hook(layer, with_grad=True) as hook:
            with torch.no_grad():
                y = layer(x).sum()
            assert torch.autograd.grad(y, hook.output)[0].shape == x.shape
        assert torch.is_grad_enabled() == before

def test_hook_says_that_nothing_is_recorded_in_inference_mode():
    layer, x = nn.Conv2d(1, 1, 1), torch.rand(1, 1, 4, 4)
    with torch.inference_mode():
        with pytest.raises(ValueError, match='inference_mode.*no_grad'):
            with Hook(layer, with_grad=True):
                layer(x)
        with Hook(layer) as hook: layer(x)
        assert hook.output.shape == x.shape
        with torch.inference_mode(False), Hook(layer, with_grad=True) as hook:
            assert torch.autograd.grad(layer(x.clone()).sum(), hook.output)[0].shape == x.shape
    assert not layer._forward_hooks

def test_hook_needs_numbers_that_have_a_gradient():
    class Labels(nn.Module):
        def forward(self, x): return x.argmax(1)
    labels = Labels()
    with pytest.raises(ValueError, match='torch.int64.*no gradient'):
        with Hook(labels, with_grad=True):
            labels(torch.rand(1, 2, 4, 4))
    assert torch.is_grad_enabled()

# --- layers of every kind

# Features with the channels last, as Swin and others have them. By hand: a layer that moves the
# channels to the front, put after
# the layer, is asked in its place.

class ToFront(nn.Module):
    def forward(self, x):
        return x.movedim(-1, 1)

class ToBack(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)

def last(channels, axes=2, stride=4):
    "Two layers between which the channels lie last, and a head; each place is `stride` pixels wide"
    conv = nn.Conv2d if axes == 2 else nn.Conv3d
    pool = nn.AdaptiveAvgPool2d if axes == 2 else nn.AdaptiveAvgPool3d
    features = nn.Sequential(conv(3, 6, stride, stride), ToBack(), nn.Linear(6, channels),
                             nn.GELU())
    return nn.Sequential(features, ToFront(), conv(channels, 5, 1), nn.GELU(), pool(1),
                         nn.Flatten(), nn.Linear(5, 4))

@pytest.mark.parametrize('shape,axes', [((64, 48), 2), ((33, 66), 2), ((16, 24, 32), 3),
                                        ((16, 16, 16), 3)])
@pytest.mark.parametrize('channels', [7, 96])
@pytest.mark.parametrize('target', [1, None, [0, 2]])
def test_channels_last(shape, axes, channels, target):
    torch.manual_seed(0)
    model, x = last(channels, axes), torch.randn(2, 3, *shape)
    ours = grad_cam(model, x, target, '0', relu=False)
    torch.testing.assert_close(ours, grad_cam(model, x, target, '1', relu=False))
    assert ours.shape[-axes:] == tuple(n//4 for n in shape)

@pytest.mark.parametrize('channels,places', [(8, 8), (16, 16), (8, 4), (4, 8)])
def test_as_many_channels_as_rows(channels, places):
    """From (batch, 8, 8, 8) nobody can read which axis is which: the layer is asked,
    with a longer image"""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4*places, 4*places)
    model = last(channels)
    torch.testing.assert_close(grad_cam(model, x, 1, '0', relu=False),
                               grad_cam(model, x, 1, '1', relu=False))
    first = nn.Sequential(nn.Conv2d(3, channels, 4, 4), nn.GELU(), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(channels, 4))
    maps = cam(first, x, 1)
    ours = grad_cam(nn.Sequential(first[:2], *first[2:]), x, 1, '0', relu=False)
    torch.testing.assert_close(ours*places**2, by_hand(first, x))
    torch.testing.assert_close(maps, cam_by_hand(first, x))

def by_hand(model, x):
    "Grad-CAM of class 1 at the second layer, channels first"
    features = model[:2](x).detach().requires_grad_()
    grad, = torch.autograd.grad(model[2:](features)[:, 1].sum(), features)
    return (grad.mean((2, 3), keepdim=True)*features).sum(1).detach()*features[0, 0].numel()

def cam_by_hand(model, x):
    return torch.einsum('c,bc...->b...', model[-1].weight[1], model[:2](x)).detach()

@pytest.mark.parametrize('name,size,layers', [
    ('swin_t', (64, 64), {'features': (2, 2), 'features.1': (16, 16), 'norm': (2, 2)}),
    ('swin_t', (64, 96), {'features.1.1': (16, 24), 'features.3': (8, 12)}),
    ('swin_v2_t', (64, 64), {'features.5': (4, 4)}),
    ('convnext_tiny', (64, 96), {'features.1': (16, 24), 'features': (2, 3)})])
def test_torchvision_models_with_channels_last(name, size, layers):
    """Swin's `permute` moves the channels to the front: what it puts out is mapped as other
    networks' features are"""
    torch.manual_seed(0)
    model, x = torchvision.models.get_model(name, num_classes=5).train(), torch.randn(2, 3, *size)
    before = state(model)
    for layer, places in layers.items():
        assert grad_cam(model, x, 1, layer).shape == (2, *places)
    if 'norm' in layers:
        torch.testing.assert_close(grad_cam(model, x, [0, 1], 'norm', relu=False),
                                   grad_cam(model, x, [0, 1], 'permute', relu=False))
        # four places
        torch.testing.assert_close(cam(model, x, 1), 4*grad_cam(model, x, 1, 'norm', relu=False))
    assert same(before, state(model))

def test_video_swin():
    torch.manual_seed(0)
    model, x = torchvision.models.video.swin3d_t(num_classes=3), torch.randn(1, 3, 8, 64, 64)
    ours = grad_cam(model, x, 1, 'norm', relu=False)
    assert ours.shape == (1, 4, 2, 2)
    # a mean over 16 places and a linear layer follow
    with Hook(model.norm) as hook:
        model.eval()(x)
    torch.testing.assert_close(ours, (hook.output @ model.head.weight[1]).detach()/16)

def test_cam_of_channels_last():
    "The mean over rows and columns is taken by a function, which no hook sees"
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
            self.head = nn.Linear(8, 3)
        def forward(self, x):
            return self.head(self.norm(self.conv(x).movedim(1, -1)).mean((1, 2)))
    torch.manual_seed(0)
    for size in (32, 32), (24, 40): # 8 x 8 places of 8 channels, too
        model, x = Last(), torch.randn(2, 3, *size)
        torch.testing.assert_close(cam(model, x, 1),
                                   grad_cam(model, x, 1, 'norm', relu=False)*size[0]*size[1]/16)

class Fixed(nn.Module):
    "Takes images of one size, as many transformers do"
    def __init__(self, layer, size):
        super().__init__()
        self.layer, self.size, self.head = layer, size, nn.LazyLinear(2)
    def forward(self, x):
        assert x.shape[2:] == self.size
        return self.head(self.layer(x).flatten(1))

def test_models_of_one_size():
    """Where only one reading fits the image it is taken; where both do, nobody can tell,
    and that is said"""
    torch.manual_seed(0)
    for channels, wide in (96, False), (96, True), (8, True):
        size = (32, 64) if wide else (32, 32)
        model = Fixed(nn.Sequential(nn.Conv2d(3, channels, 4, 4), ToBack()), size)
        x = torch.randn(1, 3, *size)
        model(x)
        assert grad_cam(model, x, 1, 'layer').shape == (1, size[0]//4, size[1]//4)
    model, x = Fixed(nn.Conv2d(3, 8, 4, 4), (32, 32)), torch.randn(1, 3, 32, 32)
    model(x)
    with pytest.raises(ValueError, match=r'\(1, 8, 8, 8\).*channels'):
        grad_cam(model, x, 1, 'layer')

def test_pooled_to_a_fixed_size():
    "VGG's pool gives 7 x 7 places of an image of any shape"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(7), nn.Flatten(),
                          nn.Linear(392, 2))
    for size in (64, 64), (40, 90):
        assert grad_cam(model, torch.randn(1, 3, *size), 0, '1').shape == (1, 7, 7)

def test_places_that_are_not_square():
    "Halved along the rows alone, where 16 x 16 x 32 could be 16 x 16 places, too"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, (4, 2), 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(16, 2))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(grad_cam(model, x, 1, '0', relu=False)*512, cam(model, x, 1))

def test_tokens_are_refused():
    """A transformer's sequence of patches has no rows and columns,
    and its first token is none of the patches"""
    torch.manual_seed(0)
    model, x = torchvision.models.vit_b_16(image_size=32, num_classes=3), torch.randn(1, 3, 32, 32)
    last = 'encoder.layers.encoder_layer_11'
    for layer in last, 'encoder.ln', f'{last}.mlp':
        with pytest.raises(ValueError, match=r'\(1, 5, 768\), which has no places'):
            grad_cam(model, x, 1, layer)
    with pytest.raises(ValueError, match='tuple'):
        grad_cam(model, x, 1, f'{last}.self_attention')
    with pytest.raises(ValueError, match='use grad_cam'):
        cam(model, x, 1)
    assert grad_cam(model, x, 1, 'conv_proj').shape == (1, 2, 2)

def test_receptive_field_of_channels_last():
    torch.manual_seed(0)
    model, x = last(8), torch.randn(1, 3, 32, 32)
    for layer in '0', '0.0':
        assert receptive_field(model, x, layer) == ((1.5, 1.5), (4, 4), (4, 4))

def test_layer_by_name_or_by_itself():
    model, _, x = ready('resnet18')
    by_name = grad_cam(model, x, 1, 'layer3.0')
    torch.testing.assert_close(grad_cam(model, x, 1, model.layer3[0]), by_name, rtol=0, atol=0)

def test_in_place_relu_after_the_layer():
    "The values before the ReLU count, not what it makes of them in the same memory"
    torch.manual_seed(0)
    def net(inplace):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace), nn.Conv2d(4, 4, 3),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    plain, fast = net(False), net(True)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 1, 12, 12)
    for layer in '0', '1', '2':
        torch.testing.assert_close(grad_cam(fast, x, 1, layer), grad_cam(plain, x, 1, layer))
    close(grad_cam(fast, x, 1, '1', relu=False), oracle(plain, x, 1, '1')[0])
    with Hook(fast[1]) as one, Hook(plain[1]) as two:
        fast.eval()(x), plain.eval()(x)
    assert torch.equal(one.output, two.output)
    assert (one.output < 0).any()

def test_layer_that_runs_twice_counts_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(1, 2)
        def forward(self, x):
            return self.fc(self.conv(self.conv(x).relu()).mean((2, 3)))
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(grad_cam(model, x, 1, 'conv', relu=False)*64, cam(model, x, 1))

@pytest.mark.parametrize('dtype,at', [
    (torch.bfloat16, .12), (torch.float16, .03), (torch.float64, 1e-5)])
@pytest.mark.parametrize('layer', ['layer2', 'layer4'])
def test_other_precisions(dtype, at, layer):
    model, _, x = ready('resnet18')
    want = grad_cam(model, x, [1, 2], layer)
    found = grad_cam(copy.deepcopy(model).to(dtype), x.to(dtype), [1, 2], layer)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (found - want).abs().max() <= at*want.max()
    wanted = cam(model, x, 1)
    difference = cam(copy.deepcopy(model).to(dtype), x.to(dtype), 1) - wanted
    assert difference.abs().max() <= at*wanted.abs().max()

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_images_of_another_precision_than_the_model(dtype):
    "An image goes in in the precision of the weights"
    model, _, x = ready('resnet18')
    other = copy.deepcopy(model).to(dtype)
    for f in cam, lambda *args: grad_cam(*args, 'layer3'):
        torch.testing.assert_close(f(other, x, 1), f(other, x.to(dtype), 1), rtol=0, atol=0)
        torch.testing.assert_close(f(model, x.to(dtype), 1), f(model, x.to(dtype).float(), 1),
                                   rtol=0, atol=0)
    field = receptive_field(model, torch.randn(1, 3, 128, 128), 'layer1')
    assert receptive_field(model.double(), torch.randn(1, 3, 128, 128), 'layer1') == field

def test_autocast():
    model, _, x = ready('resnet18')
    want = grad_cam(model, x, 1, 'layer3')
    with torch.autocast('cpu', torch.bfloat16):
        found = grad_cam(model, x, 1, 'layer3')
    assert (found - want).abs().max() <= .12*want.max()

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@each_model
def test_on_a_gpu(name):
    model, layers, x = ready(name)
    want = grad_cam(model, x, [0, 1], layers[-1])
    found = grad_cam(copy.deepcopy(model).cuda(), x.cuda(), [0, 1], layers[-1])
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), want, rtol=0, atol=.01*float(want.max()))

# --- errors

def test_errors_say_what_to_do():
    model, _, x = ready('resnet18')
    messages = {'layer9': "has no layer 'layer9'.*conv1, bn1", 'fc': r'no places.*earlier',
                'avgpool': r'512, 1, 1.*no places'}
    for layer, said in messages.items():
        with pytest.raises(ValueError, match=said):
            grad_cam(model, x, 0, layer)
    with pytest.raises(ValueError, match='not a layer of this ResNet'):
        grad_cam(model, x, 0, nn.Conv2d(1, 1, 1))
    for target in 7, -1, [0, 7]:
        for f in cam, lambda *args: grad_cam(*args, 'layer4'):
            with pytest.raises(ValueError, match='out of range: the model scores classes 0 to 6'):
                f(model, x, target)
    for target in 1.5, 'cat', []:
        with pytest.raises(ValueError, match='target'):
            grad_cam(model, x, target, 'layer4')

def test_layer_that_does_not_run_or_does_not_matter():
    model, _, x = ready('resnet18')
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match='did not run'):
        grad_cam(model, x, 0, 'spare')
    model.conv1.register_forward_pre_hook(lambda m, args: (model.spare(args[0]), args[0])[1:])
    with pytest.raises(ValueError, match='no gradient reaches'):
        grad_cam(model, x, 0, 'spare')
    model.layer4.register_forward_hook(lambda m, i, o: o.detach())
    with pytest.raises(ValueError, match='no gradient reaches'):
        grad_cam(model, x, 0, 'layer3')

def test_outputs_that_are_no_scores():
    _, _, x = ready('resnet18')
    fcn = nn.Conv2d(3, 2, 3)
    said = r'scores of shape \(batch, classes\), found shape \(2, 2, 94, 94\)'
    with pytest.raises(ValueError, match=said):
        grad_cam(nn.Sequential(fcn), x, 0, '0')
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = fcn
        def forward(self, x):
            return self.conv(x).mean((2, 3)), 1
    with pytest.raises(ValueError, match='found a tuple'):
        grad_cam(Pair(), x, 0, 'conv')
    with pytest.raises(ValueError, match='puts out a tuple'):
        grad_cam(nn.Sequential(Pair()), x, 0, '0')

def test_cam_refuses_other_heads():
    def net(*head, channels=8):
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), *head, nn.Linear(channels, 2))
    x = torch.randn(2, 1, 10, 10)
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    assert cam(net(*pool, nn.Dropout(.5)), x, 0).shape == (2, 8, 8)
    refused = [
        net(nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        net(*pool, nn.Linear(8, 8), nn.ReLU()),
        net(nn.Flatten(), channels=512),
        nn.Sequential(net(*pool), nn.Softmax(1)),
        nn.Sequential(nn.Conv2d(1, 2, 3), *pool)]
    for model in refused:
        with pytest.raises(ValueError, match='use grad_cam'):
            cam(model, x, 0)

def test_hook_is_gone_after_an_error():
    layer = nn.Conv2d(1, 1, 1)
    with pytest.raises(ZeroDivisionError):
        with Hook(layer): raise ZeroDivisionError
    assert not layer._forward_hooks

# --- the pointing game

@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pointing_game_by_brute_force(data):
    "Distances to every pixel of the mask, one by one"
    draw = data.draw
    axes, zoom, n = draw(st.integers(2, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    cells = tuple(draw(st.integers(2, 4)) for _ in range(axes))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    size = tuple(c*zoom for c in cells)
    maps, masks = rng.random((n, *cells)), rng.random((n, *size)) < .2
    masks.reshape(n, -1)[np.arange(n), rng.integers(0, masks[0].size, n)] = True
    tolerance, spacing = draw(st.floats(0, 5)), draw(st.sampled_from([None, (2., .5, 3.)[:axes]]))
    game = pointing_game(torch.tensor(maps), masks, tolerance, spacing, 'tiles')
    scale = np.array(spacing or [1.]*axes)
    places = np.argwhere(np.ones(size))
    for heat, mask, hit, distance, chance, point in zip(maps, masks, *game):
        assert tuple(point//zoom) == np.unravel_index(heat.argmax(), heat.shape)
        away = cdist(places*scale, np.argwhere(mask)*scale).min(1)
        want = away[np.ravel_multi_index(point, size)]
        assert np.isclose(distance, want)
        if not np.isclose(want, tolerance):
            assert hit == (want <= tolerance)
        if not np.isclose(away, tolerance).any():
            assert np.isclose(chance, (away <= tolerance).mean())

def test_a_point_as_far_off_as_the_tolerance_is_a_hit():
    "3 pixels of .1 mm are .3 mm, which the pointing game allows; as floats they are more"
    assert 3*.1 > .3
    maps, masks = np.zeros((1, 9, 9)), np.zeros((1, 9, 9))
    maps[0, 4, 7] = masks[0, 4, 4] = 1
    asked = dict(tolerance=.3, spacing=(.1, .1))
    game = pointing_game(maps, masks, **asked)
    assert game.hit[0]
    assert round(game.chance[0]*81) == 29 # as many have x^2 + y^2 <= 3^2
    assert not pointing_game(maps, masks, tolerance=.299, spacing=(.1, .1)).hit[0]
    # 6 pixels apart: the one in the middle is within 3 of both
    masks = np.zeros((2, 1, 9))
    masks[0, 0, 1] = masks[1, 0, 7] = 1
    assert best_constant_point(masks, **asked) == (0, 4)

def test_pointing_game_refuses():
    maps, masks = np.random.rand(2, 4, 4), np.ones((2, 8, 8))
    game = pointing_game(np.stack([maps[0], np.zeros((4, 4))]), masks, 100, field='tiles')
    assert game.hit.tolist() == [True, False]
    assert game.distance[1] == np.inf
    assert (game.point[1] == -1).all()
    for bad, said in [
            ((maps, masks*[[[1]], [[0]]]), 'mask 1 is empty'),
            ((maps, masks[:1]), 'a mask for each'), ((maps[0], masks[0]), 'a mask for each'),
            ((maps[:0], masks[:0]), 'one map or more'),
            ((maps*[[[1]], [[np.nan]]], masks), 'map 1 holds values')]:
        with pytest.raises(ValueError, match=said):
            pointing_game(*bad, field='tiles')

def test_coarse_maps_without_a_field_are_refused():
    "Nothing is taken for tiles unless somebody says so; a cell for each pixel needs no field"
    maps, masks = np.random.rand(2, 4, 4), np.ones((2, 8, 8))
    for ask in lambda f: pointing_game(maps, masks, field=f), lambda f: upsample(
            torch.tensor(maps), (8, 8), f):
        with pytest.raises(ValueError, match='where do the cells look'):
            ask(None)
        with pytest.raises(ValueError, match="ReceptiveField or 'tiles'"):
            ask('tile')
        ask('tiles')
    assert pointing_game(maps, masks[:, :4, :4]).hit.all()
    assert torch.equal(upsample(torch.tensor(maps), (4, 4)), torch.tensor(maps))

@settings(max_examples=40, deadline=None)
@given(st.data())
def test_best_constant_point_by_brute_force(data):
    "No pixel hits more masks, and a map that is hot there alone scores as much"
    draw = data.draw
    axes, n = draw(st.integers(2, 3)), draw(st.integers(1, 4))
    size = tuple(draw(st.integers(2, 5)) for _ in range(axes))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    masks = rng.random((n, *size)) < .2
    masks.reshape(n, -1)[np.arange(n), rng.integers(0, masks[0].size, n)] = True
    tolerance, spacing = draw(st.floats(0, 3)), draw(st.sampled_from([None, (2., .5, 3.)[:axes]]))
    asked = dict(tolerance=tolerance, spacing=spacing)
    hits = hits_of_point(best_constant_point(masks, **asked), masks, **asked).sum()
    most = max(hits_of_point(point, masks, **asked).sum() for point in np.ndindex(size))
    assert hits == most

def test_best_constant_point_refuses():
    for masks in np.zeros((0, 4, 4)), np.stack([np.ones((4, 4)), np.zeros((4, 4))]):
        with pytest.raises(ValueError, match='none of them empty'):
            best_constant_point(masks)

def test_the_field_of_another_layer_is_refused():
    """Before, block 3's field on block 4's coarser map put all heat into the upper left quarter,
    and block 4's on block 3's spread it over twice the image"""
    maps = torch.rand(1, 6, 6)
    upsample(maps, (96, 96), ReceptiveField((0, 0), (16, 16), (97, 97)))
    with pytest.raises(ValueError, match='6 cells from pixel 0 on, 8 apart, do not cover 96 pixels'):
        upsample(maps, (96, 96), ReceptiveField((0, 0), (8, 8), (49, 49)))
    with pytest.raises(ValueError, match='do not cover 48 pixels'):
        upsample(maps, (48, 48), ReceptiveField((0, 0), (16, 16), (97, 97)))

@pytest.mark.parametrize('first, step, n, pixels', [
    (0, 8, 12, 96),   # padded
    (24, 8, 6, 96),   # not padded: as much is left on the right
    (3.5, 8, 12, 96), # tiles
    (15, 32, 7, 224), # a ResNet
    (0, 8, 13, 97)])
def test_fields_that_cover_are_taken(first, step, n, pixels):
    field = ReceptiveField((first, first), (step, step), (49, 49))
    assert upsample(torch.rand(1, n, n), (pixels, pixels), field).shape == (1, pixels, pixels)

def test_upsample_by_pytorch():
    """As PyTorch interpolates tiles; and with the first cell's middle at pixel 0,
    cells keep their values on every step-th pixel"""
    maps, volume = torch.rand(2, 3, 4), torch.rand(2, 3, 4, 5)
    theirs = F.interpolate(maps[:, None], (17, 24), mode='bilinear')[:, 0]
    torch.testing.assert_close(upsample(maps, (17, 24), 'tiles'), theirs)
    theirs = F.interpolate(volume[:, None], (9, 8, 15), mode='trilinear')[:, 0]
    torch.testing.assert_close(upsample(volume, (9, 8, 15), 'tiles'), theirs)
    for first in (0, 0), (1, 2):
        found = upsample(maps, (12, 16), ReceptiveField(first, (4, 4), (9, 9)))
        assert torch.allclose(found[:, first[0]::4, first[1]::4], maps)
    with pytest.raises(ValueError, match='found'):
        upsample(maps, (9, 12, 15))

# middle of the first cell, step, width, by the recurrence of Araujo et al. 2019;
# the image's size need not be a multiple of the step
@pytest.mark.parametrize('name,layer,first,step,width', [
    ('resnet18', 'layer1', 0, 4, 43), ('resnet18', 'layer2', 0, 8, 99),
    ('xresnet18', '4', 0, 4, 47), ('net3d', '1', 0, 4, 7), ('net3d', '2', 0, 8, 15),
    ('densenet121', 'features.transition1', 2, 8, 63)])
@pytest.mark.parametrize('more', [0, 5])
def test_receptive_field(name, layer, first, step, width, more):
    model, _, _ = ready(name)
    channels, axes = MODELS[name][2][0], len(MODELS[name][2]) - 1
    before = state(model)
    size = (128 if axes == 2 else 48) + more
    field = receptive_field(model, torch.randn(4, channels, *[size]*axes), layer)
    assert field == ((first,)*axes, (step,)*axes, (width,)*axes)
    assert same(before, state(model))

def test_pointing_game_where_the_cells_look():
    "A pattern that only one place of the image has is found where it is, for any size of the image"
    torch.manual_seed(0)
    def conv():
        return nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1)
    finder = nn.Sequential(conv(), conv(), *head)
    for p in finder.parameters():
        nn.init.ones_(p)
    for size in 32, 37:
        x, mask = torch.zeros(1, 1, size, size), np.zeros((1, size, size))
        x[0, 0, 20, 12] = mask[0, 20, 12] = 1
        maps, field = cam(finder, x, 0), receptive_field(finder, torch.randn(1, 1, 48, 48), '1')
        assert pointing_game(maps, mask, field=field).distance[0] == 0
        if size == 32:
            assert pointing_game(maps, mask, field='tiles').distance[0] > 1

def test_receptive_field_refuses():
    model, _, x = ready('resnet18')
    with pytest.raises(ValueError, match='larger'):
        receptive_field(model, x, 'layer3')
    with pytest.raises(ValueError, match='earlier'):
        receptive_field(model, x, 'fc')

@pytest.mark.parametrize('kernel, settings, first, step, width', [
    (2, {}, .5, 2, 2), (3, dict(stride=2, padding=1), 0, 2, 3),
    (3, dict(stride=2, ceil_mode=True), 1, 2, 3), (2, dict(dilation=3, stride=1), 1.5, 1, 4),
    ((2, 4), dict(return_indices=False), (.5, 1.5), (2, 4), (2, 4))])
def test_receptive_field_of_a_max_pool(kernel, settings, first, step, width):
    """All of a window counts (Araujo et al. 2019), whatever the picture: of a constant one the
    gradient goes to one pixel"""
    model = nn.Sequential(nn.MaxPool2d(kernel, **settings))
    def both(x): return x if isinstance(x, tuple) else (x, x)
    for x in torch.ones(1, 1, 33, 40), torch.rand(1, 1, 33, 40):
        assert receptive_field(model, x, '0') == tuple(map(both, (first, step, width)))

def test_receptive_field_through_a_max_pool_with_indices():
    "As networks that unpool have it"
    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.last = nn.MaxPool2d(2, return_indices=True), nn.Conv2d(1, 1, 3)
        def forward(self, x): return self.last(self.pool(x)[0])
    model = Halved()
    nn.init.ones_(model.last.weight)
    assert receptive_field(model, torch.ones(1, 1, 32, 32), 'last').width == (6, 6)

def convolutions(gate):
    "Three convolutions of one channel, 3 wide: a cell sees 7 pixels, and the next begins one on"
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(1, 1, 3), gate())]
    return nn.Sequential(*layers)

@pytest.mark.parametrize('in_place', [False, True])
@pytest.mark.parametrize('seed', range(20))
def test_receptive_field_through_relus_that_put_out_nothing(seed, in_place):
    """What a cell depends on does not change with the signs of the weights (Araujo et al. 2019,
    r = 1 + 3*(3 - 1) = 7): a ReLU that puts out 0 at a place hides none of it"""
    torch.manual_seed(seed)
    model, x = convolutions(partial(nn.ReLU, in_place)), torch.randn(1, 1, 32, 40)
    before = state(model)
    for layer in '45': # before the last ReLU, and behind it
        assert receptive_field(model, x, layer) == ((3, 3), (1, 1), (7, 7))
    assert same(before, state(model))
    assert all(gate.inplace == in_place for gate in model[1::2])

@pytest.mark.parametrize('gate', [nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Mish, nn.ELU,
                                  nn.Hardswish])
def test_receptive_field_through_what_is_like_a_relu(gate):
    "As above; far below 0 each of them has a gradient of 0 or next to it"
    for sign in -1, 1:
        model = convolutions(gate)
        for layer in model[::2]:
            nn.init.constant_(layer.weight, sign)
            nn.init.constant_(layer.bias, -1000)
        assert receptive_field(model, torch.rand(1, 1, 32, 40), '4').width == (7, 7)

def test_relus_are_left_as_found_after_an_error():
    model = nn.Sequential(convolutions(partial(nn.ReLU, True)), nn.Linear(3, 3))
    before = state(model)
    with pytest.raises(RuntimeError):
        receptive_field(model, torch.rand(1, 1, 32, 32), '1')
    assert same(before, state(model))
    assert model[0][1].inplace

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_places_are_as_exact_for_coarse_numbers(dtype):
    """The right map is that of float32: only its values may be rounded to what `dtype` holds, 2^-9
    of them in bfloat16, not the places between the cells"""
    torch.manual_seed(0)
    maps = torch.rand(1, 64, 64).to(dtype)
    field = ReceptiveField((8., 8.), (16., 16.), (32, 32))
    fine = upsample(maps.float(), (1024, 1024), field)
    coarse = upsample(maps, (1024, 1024), field)
    assert coarse.dtype == dtype
    assert (coarse.float() - fine).abs().max() < .01

def test_whole_numbers_are_interpolated_too():
    maps = torch.tensor([[[0, 10], [0, 10]]])
    assert upsample(maps, (4, 4), 'tiles')[0, 0].tolist() == [0, 2.5, 7.5, 10]
