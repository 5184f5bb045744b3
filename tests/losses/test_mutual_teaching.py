"""The losses of mutual mean-teaching against loops over images and classes."""

import math

import pytest
import torch

from nplp.errors import UserError
from nplp.losses import MutualTeachingLoss
from nplp.losses.mutual_teaching import smoothed_cross_entropy, soft_cross_entropy, softmax_triplet_loss
from nplp.losses.registry import LOSSES, MUTUAL_TEACHING

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def test_smoothed_labels():
    logits, total = drawn(8, 5), 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        for cluster, share in enumerate(softmax(row)):
            wanted = 0.1 / 5 + (0.9 if cluster == label else 0.0)
            total -= wanted * math.log(share) / 8
    assert smoothed_cross_entropy(logits, LABELS, 0.1).item() == pytest.approx(total)


def test_a_teachers_classes():
    logits, taught, total = drawn(8, 5), drawn(8, 5, seed=1), 0.0
    for row, teacher in zip(logits.tolist(), taught.tolist(), strict=True):
        total -= sum(p * math.log(q) for p, q in zip(softmax(teacher), softmax(row), strict=True)) / 8
    assert soft_cross_entropy(logits, taught).item() == pytest.approx(total)


def naive_triplets(features, labels, taught=None):
    """Return the mean over anchors of - t' log t - (1 - t') log (1 - t), t' = 1 by the label."""
    terms = []
    for anchor, label in enumerate(labels.tolist()):
        far = [(features[anchor] - other).norm().item() for other in features]
        same = [number for number in range(len(far)) if labels[number] == label]
        others = [number for number in range(len(far)) if labels[number] != label]
        positive, negative = max(same, key=far.__getitem__), min(others, key=far.__getitem__)
        share = softmax([far[positive], far[negative]])
        wanted = [0.0, 1.0]
        if taught is not None:
            pair = (taught[anchor] - taught[positive]).norm(), (taught[anchor] - taught[negative]).norm()
            wanted = softmax([float(distance) for distance in pair])
        terms.append(-sum(p * math.log(q) for p, q in zip(wanted, share, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("taught", [None, drawn(8, 6, seed=1)], ids=["label", "teacher"])
def test_triplets(taught):
    features = drawn(8, 6)
    loss = softmax_triplet_loss(features, LABELS, taught)
    assert loss.item() == pytest.approx(naive_triplets(features, LABELS, taught))


def test_an_anchor_without_a_negative_teaches_nothing():
    features = drawn(4, 6).requires_grad_()
    loss = softmax_triplet_loss(features, torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()


def test_teachers_get_no_gradient_and_networks_do():
    learned = drawn(8, 6).requires_grad_(), drawn(8, 5).requires_grad_()
    taught = drawn(8, 6, seed=1).requires_grad_(), drawn(8, 5, seed=1).requires_grad_()
    sum(MutualTeachingLoss().of_network(learned, taught, LABELS)).backward()
    assert all(tensor.grad is None for tensor in taught)
    assert all(tensor.grad.isfinite().all() and tensor.grad.any() for tensor in learned)


def test_shares_of_labels_and_teachers():
    learned, taught = (drawn(8, 6), drawn(8, 5)), (drawn(8, 6, seed=1), drawn(8, 5, seed=1))
    found = MutualTeachingLoss(0.2, 0.3, 0.6).of_network(learned, taught, LABELS)
    expected = (
        0.7 * smoothed_cross_entropy(learned[1], LABELS, 0.2),
        0.3 * soft_cross_entropy(learned[1], taught[1]),
        0.4 * naive_triplets(learned[0], LABELS),
        0.6 * naive_triplets(learned[0], LABELS, taught[0]),
    )
    assert [float(term) for term in found] == pytest.approx([float(term) for term in expected])


def test_a_weight_of_zero_leaves_an_image_out_of_every_mean():
    learned, taught = (drawn(8, 6), drawn(8, 5)), (drawn(8, 6, seed=1), drawn(8, 5, seed=1))
    loss = MutualTeachingLoss()
    each = torch.eye(8, dtype=torch.float64)
    parts = [sum(loss.of_network(learned, taught, LABELS, row)).item() for row in each]
    assert sum(parts) == pytest.approx(sum(loss.of_network(learned, taught, LABELS)).item())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1.0"),
        ({"soft_classes": -0.1}, r"soft_classes must be in \[0, 1\], got -0.1"),
        ({"soft_triplets": math.nan}, r"soft_triplets must be in \[0, 1\], got nan"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        MutualTeachingLoss(**options)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="taught must be"):
        soft_cross_entropy(drawn(8, 5), drawn(8, 4))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), got 2"):
        smoothed_cross_entropy(drawn(8, 2), LABELS)
    with pytest.raises(ValueError, match="weights must be 8"):
        softmax_triplet_loss(drawn(8, 5), LABELS, weights=torch.ones(3))


def test_one_network_alone_cannot_be_taught():
    with pytest.raises(UserError, match=r"set NPLP\.METHOD mmt"):
        LOSSES[MUTUAL_TEACHING].build()(drawn(8, 6), LABELS)
