"""The losses of part-based refinement against their formulas, image by image."""

import math

import pytest
import torch

from nplp.losses import (
    SoftmaxTripletLoss,
    agreement_smoothed_cross_entropy,
    part_refined_cross_entropy,
)

LABELS = torch.tensor([0, 2, 1, 2, 0])


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 0.0, 1.5], dtype=torch.float64)])
def test_the_whole_learns_from_refined_labels(weights):
    logits, parts, agreement = (
        drawn(5, 4).requires_grad_(),
        drawn(5, 3, 4, seed=1),
        drawn(5, 3, seed=2).sigmoid(),
    )
    terms = []
    for image in range(5):
        shares = [math.exp(agreement[image, part]) for part in range(3)]
        refined = [0.3 * (cluster == LABELS[image]).double() for cluster in range(4)]
        for part in range(3):
            values = parts[image, part].exp() / parts[image, part].exp().sum()
            for cluster in range(4):
                refined[cluster] = refined[cluster] + 0.7 * shares[part] / sum(shares) * values[cluster]
        log = (logits[image].exp() / logits[image].exp().sum()).log()
        term = -sum(refined[cluster] * log[cluster] for cluster in range(4))
        terms.append(term * (1 if weights is None else weights[image]))
    expected = torch.stack(terms).mean()
    loss = part_refined_cross_entropy(logits, parts, LABELS, agreement, 0.3, weights)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


def test_the_parts_learn_nothing_of_it():
    parts = drawn(5, 3, 4, seed=1).requires_grad_()
    loss = part_refined_cross_entropy(drawn(5, 4).requires_grad_(), parts, LABELS, torch.ones(5, 3))
    assert torch.autograd.grad(loss, parts, allow_unused=True) == (None,)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 0.0, 1.5], dtype=torch.float64)])
def test_a_part_learns_from_labels_smoothed_by_disagreement(weights):
    logits, agreement = drawn(5, 4).requires_grad_(), drawn(5, seed=2).sigmoid()
    terms = []
    for image in range(5):
        predicted = logits[image].exp() / logits[image].exp().sum()
        divergence = sum(0.25 * torch.log(0.25 / predicted[cluster]) for cluster in range(4))
        term = -agreement[image] * predicted[LABELS[image]].log() + (1 - agreement[image]) * divergence
        terms.append(term * (1 if weights is None else weights[image]))
    expected = torch.stack(terms).mean()
    loss = agreement_smoothed_cross_entropy(logits, LABELS, agreement, weights)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


def test_the_triplets_are_of_the_hardest_pairs():
    features, labels = drawn(6, 3), torch.tensor([0, 0, 0, 1, 1, 1])
    distances = (features[:, None] - features[None]).norm(dim=2)
    terms = []
    for anchor in range(6):
        far = max(distances[anchor, other] for other in range(6) if labels[other] == labels[anchor])
        near = min(distances[anchor, other] for other in range(6) if labels[other] != labels[anchor])
        terms.append(-torch.log(near.exp() / (near.exp() + far.exp())))
    torch.testing.assert_close(SoftmaxTripletLoss()(features, labels), torch.stack(terms).mean())


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"kept must be in \[0, 1\], got 1.5"):
        part_refined_cross_entropy(drawn(5, 4), drawn(5, 3, 4), LABELS, torch.ones(5, 3), 1.5)
    with pytest.raises(ValueError, match=r"part_logits must be \[B, P, c\]"):
        part_refined_cross_entropy(drawn(5, 4), drawn(5, 2, 4), LABELS, torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"agreement must be \[5\]"):
        agreement_smoothed_cross_entropy(drawn(5, 4), LABELS, torch.ones(4))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), got 2"):
        agreement_smoothed_cross_entropy(drawn(5, 2), LABELS, torch.ones(5))
