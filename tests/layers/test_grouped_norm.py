"""Batch norms over chunks of a batch, against torch's batch norm on each chunk."""

import copy

import pytest
import torch
from torch import nn

from nplp.layers import GroupedBatchNorm1d, GroupedBatchNorm2d, NormGroups, group_batch_norms

SHAPES = {"maps": (nn.BatchNorm2d, (12, 3, 4, 2)), "features": (nn.BatchNorm1d, (12, 3))}


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def started(kind, momentum=0.1):
    """Return a batch norm that has seen something."""
    norm = kind(3, momentum=momentum)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    norm(drawn(SHAPES["maps"][1] if kind is nn.BatchNorm2d else SHAPES["features"][1], seed=9))
    return norm


def grouped(norm, chunk):
    model = nn.Sequential(copy.deepcopy(norm))
    assert group_batch_norms(model, NormGroups(chunk)) == [model[0]]
    return model[0]


def oracle(norm, images, chunk):
    """Return the output of each chunk by torch, and the statistics of one step with their mean."""
    outputs, means, variances = [], [], []
    for start in range(0, len(images), chunk):
        part = copy.deepcopy(norm)
        part.momentum = 1.0
        part.weight, part.bias = norm.weight, norm.bias
        outputs.append(part(images[start : start + chunk]))
        means.append(part.running_mean)
        variances.append(part.running_var)
    moved = [
        0.9 * before + 0.1 * sum(values) / len(values)
        for before, values in ((norm.running_mean, means), (norm.running_var, variances))
    ]
    return torch.cat(outputs), moved


@pytest.mark.parametrize("chunk", [2, 3, 4, 6, 12])
@pytest.mark.parametrize("case", SHAPES)
def test_chunks_are_normalised_as_torch_normalises_each(case, chunk):
    kind, shape = SHAPES[case]
    norm = started(kind)
    ours = grouped(norm, chunk)
    images = drawn(shape).requires_grad_()
    theirs = images.detach().clone().requires_grad_()
    output = ours(images)
    expected, (mean, variance) = oracle(norm, theirs, chunk)
    torch.testing.assert_close(output, expected)
    weights = drawn(shape, seed=1)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(images.grad, theirs.grad)
    torch.testing.assert_close(ours.weight.grad, norm.weight.grad)
    torch.testing.assert_close(ours.bias.grad, norm.bias.grad)
    torch.testing.assert_close(ours.running_mean, mean)
    torch.testing.assert_close(ours.running_var, variance)
    assert int(ours.num_batches_tracked) == int(norm.num_batches_tracked) + 1


def test_chunks_differ_from_the_whole_batch():
    images, norm = drawn((12, 3)), started(nn.BatchNorm1d)
    assert not torch.allclose(grouped(norm, 4)(images), norm(images))


@pytest.mark.parametrize("case", SHAPES)
def test_one_chunk_is_torch_to_the_bit(case):
    kind, shape = SHAPES[case]
    norm = started(kind)
    ours = grouped(norm, shape[0])
    assert torch.equal(ours(drawn(shape)), norm(drawn(shape)))
    assert all(torch.equal(value, norm.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("case", SHAPES)
def test_evaluation_is_torch_to_the_bit(case):
    kind, shape = SHAPES[case]
    norm = started(kind).eval()
    # Seven images: what chunks would not divide.
    assert torch.equal(grouped(norm, 4)(drawn(shape)[:7]), norm(drawn(shape)[:7]))


def test_without_a_momentum_statistics_are_means_over_all_steps():
    norm = grouped(nn.BatchNorm1d(3, momentum=None), 4)
    batches = [drawn((8, 3), seed) for seed in range(3)]
    for batch in batches:
        norm(batch)
    chunks = torch.stack([part for batch in batches for part in batch.split(4)])
    torch.testing.assert_close(norm.running_mean, chunks.mean(dim=(0, 1)))
    torch.testing.assert_close(norm.running_var, chunks.var(dim=1).mean(dim=0))


@pytest.mark.parametrize("case", SHAPES)
def test_groups_of_given_sizes(case):
    kind, shape = SHAPES[case]
    norm = started(kind)
    ours = grouped(norm, 0)
    ours.groups[0].given = [5, 2, 5]
    images = drawn(shape)
    expected = [copy.deepcopy(norm)(part) for part in images.split([5, 2, 5])]
    torch.testing.assert_close(ours(images), torch.cat(expected))


@pytest.mark.parametrize("case", SHAPES)
def test_each_image_by_its_own_statistics_in_evaluation(case):
    kind, shape = SHAPES[case]
    norm = started(kind).eval()
    ours, images = grouped(norm, 0), drawn(shape)
    ours.channels = slice(2, 5)
    mean, variance = drawn((12, 7), seed=3), drawn((12, 7), seed=4).abs()
    ours.groups[0].statistics = mean, variance
    expected = []
    for number in range(12):
        one = copy.deepcopy(norm)
        one.running_mean, one.running_var = mean[number, 2:5], variance[number, 2:5]
        expected.append(one(images[number : number + 1]))
    torch.testing.assert_close(ours(images), torch.cat(expected))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="10 images cannot be normalised in chunks of 4"):
        grouped(started(nn.BatchNorm1d), 4)(drawn((10, 3)))


@pytest.mark.parametrize("chunk", [-1, 1])
def test_chunks_without_a_variance_are_refused(chunk):
    with pytest.raises(ValueError, match=f"chunk must be 0 or at least 2, got {chunk}"):
        NormGroups(chunk)


def test_wrong_dimensions_are_refused_as_by_torch():
    with pytest.raises(ValueError, match="4D input"):
        grouped(started(nn.BatchNorm2d), 4)(drawn((12, 3)))


class TestReplacing:
    def test_names_tensors_and_copies(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
        model.extra = nn.BatchNorm1d(4).eval()
        before = model.state_dict(keep_vars=True)
        assert group_batch_norms(model, NormGroups(2)) == [model[1][0], model.extra]
        after = model.state_dict(keep_vars=True)
        assert list(after) == list(before)
        assert all(after[key] is before[key] for key in before)
        assert isinstance(model[1][0], GroupedBatchNorm2d)
        assert isinstance(model.extra, GroupedBatchNorm1d)
        assert not model.extra.training
        assert (model[1][0].channels, model.extra.channels) == (slice(0, 4), slice(4, 8))
        again = copy.deepcopy(model)
        again[1][0].groups[0].whole = True
        assert again.extra.groups[0].whole
        assert not model.extra.groups[0].whole

    def test_a_norm_with_two_names_stays_one(self):
        norm = nn.BatchNorm1d(3)
        model = nn.ModuleList([norm, norm])
        group_batch_norms(model, NormGroups(2))
        assert model[0].weight is model[1].weight
        model[0](drawn((4, 3)))
        assert torch.equal(model[0].running_mean, model[1].running_mean)

    def test_what_has_no_groups_is_refused(self):
        with pytest.raises(ValueError, match="1 is a synchronised batch norm"):
            group_batch_norms(nn.Sequential(nn.ReLU(), nn.SyncBatchNorm(3)), NormGroups(2))
        with pytest.raises(ValueError, match="0 keeps no running statistics"):
            group_batch_norms(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), NormGroups(2))
