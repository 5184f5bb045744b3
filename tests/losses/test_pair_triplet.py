"""The triplet loss over positive pairs, against the loops of its definition."""

import math

import pytest
import torch

from nplp.losses import PairTripletLoss, pair_triplet_loss


def by_loops(features, labels, groups, margin, weights=None):
    """The formula, pair by pair."""
    count, terms = len(features), []
    for i in range(count):
        for j in range(i + 1, count):
            if groups[i] != groups[j]:
                continue
            negatives = [(features[i] - features[n]).norm() for n in range(count) if labels[n] != labels[i]]
            term = torch.zeros(()).to(features)
            if negatives:
                term = torch.relu((features[i] - features[j]).norm() - min(negatives) + margin)
            terms.append(term * (1 if weights is None else weights[i]))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize("weighed", [False, True])
def test_it_is_the_formula_and_so_is_its_gradient(by_parts, weighed):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(16, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    groups = torch.arange(4).repeat_interleave(4)
    labels = torch.randint(3, (16,), generator=generator) if by_parts else groups
    weights = torch.rand(16, generator=generator, dtype=torch.float64) if weighed else None
    expected = by_loops(features, labels, groups, 0.5, weights)
    loss = pair_triplet_loss(features, labels, 0.5, groups, weights)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(value, features)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_toy_by_hand():
    features = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
    # (0, 1): 1 - 3 + 2.5; (2, 3): 0.5 - 2 + 2.5.
    assert float(pair_triplet_loss(features, torch.tensor([0, 0, 1, 1]), 2.5)) == pytest.approx(0.75)


def test_an_image_drawn_twice_gives_a_finite_gradient():
    features = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.5, 2.0], [1.0, 1.0]], requires_grad=True)
    pair_triplet_loss(features, torch.tensor([0, 0, 1, 1]), 0.5).backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_a_negative_or_a_pair_it_is_zero_and_can_be_differentiated(labels):
    features = torch.randn(3, 2, requires_grad=True)
    loss = PairTripletLoss()(features, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_must_be_finite_and_not_negative(margin):
    with pytest.raises(ValueError, match="margin must be a finite number >= 0"):
        PairTripletLoss(margin)


def test_groups_must_be_one_for_each_image():
    with pytest.raises(ValueError, match="labels must be 4 integers"):
        pair_triplet_loss(torch.zeros(4, 2), torch.zeros(4).long(), groups=torch.zeros(3).long())
