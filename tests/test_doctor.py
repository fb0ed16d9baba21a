"Why a training does not learn: what `check_training` finds, and what it leaves alone"
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from medtut.doctor import check_training, first_batches


@pytest.fixture(scope='module')
def films():
    "Noise with a bright square in every second one, and the squares' masks"
    rng = np.random.default_rng(0)
    y = np.arange(96) % 2
    masks = np.zeros((96, 16, 16), int)
    for i in np.flatnonzero(y):
        r, c = rng.integers(2, 10, 2)
        masks[i, r:r + 4, c:c + 4] = 1
    x = rng.normal(0, .4, masks.shape) + 2*masks
    return torch.tensor(x[:, None], dtype=torch.float32), torch.tensor(y), torch.tensor(masks)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
                         nn.Flatten(), nn.Linear(8, 2))


def loader(*tensors): return DataLoader(TensorDataset(*tensors), 16, shuffle=True)


def found(report): return set(report.check[report.found])


def test_a_healthy_training_has_no_finding(films):
    x, y, _ = films
    report = check_training(loader(x[:64], y[:64]), loader(x[64:], y[64:]), network(),
                            nn.CrossEntropyLoss(), .01)
    assert not report.found.any(), report[report.found].measured.tolist()
    assert (report.look_at == '').all()
    assert len(report) == 10


def test_the_network_stays_as_it_is(films):
    x, y, _ = films
    model = network().train()
    before = deepcopy(model.state_dict())
    check_training(loader(x, y), None, model, nn.CrossEntropyLoss(), .01)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_not_given_is_not_looked_at(films):
    x, y, _ = films
    alone = check_training(loader(x, y))
    assert not alone.check.str.contains('both parts|network|steps|batch').any()


def test_a_learner_holds_it_all(films):
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    x, y, _ = films
    loaders = DataLoaders(loader(x[:64], y[:64]), loader(x[64:], y[64:]))
    learn = Learner(loaders, network(), loss_func=nn.CrossEntropyLoss(), lr=.01)
    assert found(check_training(learn)) == set()
    wild = Learner(loaders, network(), loss_func=nn.CrossEntropyLoss(), lr=30.)
    assert found(check_training(wild)) == {'steps are in proportion'}


@pytest.mark.parametrize('way, undone', [
    (lambda m: m.roll(1, 1), 'moved by -1 along axis 0'),
    (lambda m: m.roll(-1, 2), 'moved by +1 along axis 1'),
    (lambda m: m.flip(1), 'flipped along axis 0'),
    (lambda m: m.flip(2), 'flipped along axis 1')])
def test_masks_that_lie_beside_their_images(films, way, undone):
    x, y, masks = films
    right = check_training(loader(x[y == 1], masks[y == 1]))
    assert found(right) == set()
    report = check_training(loader(x[y == 1], way(masks[y == 1])))
    wrong = report[report.check == 'masks lie on their images'].iloc[0]
    assert wrong.found and wrong.measured.endswith(undone)


def test_masks_of_volumes():
    masks = torch.zeros(6, 12, 12, 12, dtype=torch.int64)
    for i in range(6): masks[i, 3:7 + i % 2, 4:8, 2:7] = 1
    noise = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))
    x = (noise*.3 + masks)[:, None]
    assert found(check_training(loader(x, masks))) == set()
    assert found(check_training(loader(x, masks.roll(1, 3)))) == {'masks lie on their images'}


def test_labels_that_nothing_can_be_learned_from(films):
    "Every image twice, with both labels: not even a batch is learned by heart"
    x, y, _ = films
    both_x, both_y = x.repeat_interleave(2, 0), torch.arange(192) % 2
    batches = [(both_x[i:i + 16], both_y[i:i + 16]) for i in range(0, 192, 16)]
    report = check_training(batches, None, network(), nn.CrossEntropyLoss(), .01)
    assert found(report) == {'an image keeps its label', 'one batch can be learned by heart'}


def test_fixed_weights(films):
    x, y, _ = films
    model = network()
    for p in model[0].parameters(): p.requires_grad_(False)
    report = check_training(loader(x, y), None, model, nn.CrossEntropyLoss(), .01)
    row = report[report.check == 'all layers can change'].iloc[0]
    assert row.found and row.measured.startswith('80 of ')


def test_one_output_an_image(films):
    "A network of one score has no rows to add up"
    x, y, _ = films
    model = nn.Sequential(*network()[:-1], nn.Linear(8, 1), nn.Flatten(0))
    def loss(scores, y): return nn.functional.binary_cross_entropy_with_logits(scores, y.float())
    assert found(check_training(loader(x, y), None, model, loss, .01)) == set()


def test_batch_norm_without_running_statistics_is_not_frozen(films):
    x, y, _ = films
    model = network()
    model[1] = nn.BatchNorm2d(8, track_running_stats=False)
    assert found(check_training(loader(x, y), None, model, nn.CrossEntropyLoss(), .01)) == set()


@pytest.mark.parametrize('shape_of', [
    lambda m: m[:, None], lambda m: torch.stack([m == 0, m == 1], 1).long()],
    ids=['an axis of channels', 'one-hot'])
def test_masks_in_channels(films, shape_of):
    "As MONAI's loaders give them"
    x, y, masks = films
    ill = y == 1
    assert found(check_training(loader(x[ill], shape_of(masks[ill])))) == set()
    moved = masks[ill].roll(1, 1)
    assert found(check_training(loader(x[ill], shape_of(moved)))) == {'masks lie on their images'}


def test_several_labels_an_image(films):
    "A column a class, as for chest films with several findings"
    x, y, _ = films
    both = torch.stack([y, 1 - y], 1).float()
    report = check_training(loader(x, both), None, network(), nn.BCEWithLogitsLoss(), .01)
    assert found(report) == set()
    both[:, 1] = 0
    report = check_training(loader(x, both))
    assert found(report) == {'no class is nearly all'}
    assert '100.0% of the labels of one class are 0' in report[report.found].measured.item()


def test_all_weights_fixed(films):
    x, y, _ = films
    model = network().requires_grad_(False)
    report = check_training(loader(x, y), None, model, nn.CrossEntropyLoss(), .01)
    assert {'all layers can change', 'one batch can be learned by heart'} <= found(report)


def test_nothing_to_measure(films):
    "Masks of all there is have no border, a network of one axis no weights to compare"
    x, y, masks = films
    model = nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d(affine=False))
    model(x)
    with np.errstate(all='raise'):
        report = check_training(loader(x, masks*0 + 1), None, model, None, .01)
    assert not report.found[report.check == 'masks lie on their images'].item()


def test_each_image_is_hashed_once(films, monkeypatch):
    import hashlib
    x, y, _ = films
    calls, sha256 = [], hashlib.sha256
    def counting(data):
        calls.append(len(data))
        return sha256(data)
    monkeypatch.setattr('medtut.doctor.hashlib.sha256', counting)
    check_training(loader(x[:64], y[:64]), loader(x[64:], y[64:]))
    assert len(calls) == 64 + 64 + 32 # two epochs of training images, and the others


def test_masks_without_anything_outlined(films):
    x, _, masks = films
    report = check_training(loader(x, masks*0))
    assert found(report) == {'enough is outlined'}


def test_draws_of_the_caller_go_on_as_if_not_asked(films):
    x, y, _ = films
    batches = [(x, y)] # without a shuffle of its own
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    model = network()
    torch.manual_seed(5)
    check_training(batches, None, model, nn.CrossEntropyLoss(), .01)
    assert torch.equal(torch.rand(3), undisturbed)


@pytest.mark.parametrize('batches, message', [
    ([], 'gives no batch'), ([dict(x=1)], 'found a dict'), ([torch.zeros(2, 1, 4, 4)], 'found a Tensor')])
def test_what_is_no_loader(batches, message):
    with pytest.raises(ValueError, match=message): first_batches(batches)
