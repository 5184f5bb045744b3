"""Weights of images in every loss: against the sum over single images, and none against all 1."""

import pytest
import torch

from nplp.losses import BatchHardTripletLoss, CenterContrastiveLoss, ClusterMemoryLoss, SoftmaxLoss

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def build(kind):
    loss = kind().double()
    if hasattr(loss, "reset"):
        loss.reset(torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    return loss


def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=generator, dtype=torch.float64).requires_grad_()


def gradient(loss, weights):
    values = features()
    result = loss(values, LABELS, weights)
    result.backward()
    return result.detach(), values.grad


KINDS = [BatchHardTripletLoss, CenterContrastiveLoss, ClusterMemoryLoss, SoftmaxLoss]


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_a_factor_of_an_image_s_share(kind):
    weights = torch.tensor([0.3, 2.0, 0.0, 1.5, 1.0, 0.7], dtype=torch.float64)
    value, slope = gradient(build(kind), weights)
    shares, slopes = zip(
        *(gradient(build(kind), one) for one in torch.eye(6, dtype=torch.float64)), strict=True
    )
    assert sum(share > 0 for share in shares) > 2
    expected = sum(weight * share for weight, share in zip(weights, shares, strict=True))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    expected = sum(weight * each for weight, each in zip(weights, slopes, strict=True))
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_1_change_nothing_and_tables_move_alike(kind):
    plain, even, uneven = build(kind), build(kind), build(kind)
    torch.testing.assert_close(gradient(plain, None), gradient(even, torch.ones(6)), rtol=1e-12, atol=1e-12)
    gradient(uneven, torch.arange(6.0))
    if hasattr(plain, "table"):
        assert torch.equal(plain.table, uneven.table)
        assert not torch.equal(plain.table, build(kind).table)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [torch.ones(5), torch.ones(6, 1), torch.ones(6, dtype=torch.int64)])
def test_rejects_weights_that_do_not_fit(kind, weights):
    with pytest.raises(ValueError, match="weights must be 6 floating point numbers"):
        build(kind)(features(), LABELS, weights)
