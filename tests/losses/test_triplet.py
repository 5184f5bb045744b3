"""The batch-hard triplet loss against eq. 1, written as loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from busy import two_busy_threads
from nplp.losses import BatchHardTripletLoss, batch_hard_triplet_loss


def naive_terms(features: torch.Tensor, labels: torch.Tensor, margin: float) -> list[float]:
    """Eq. 1 for each anchor, with the hinge at 0."""
    rows, terms = features.tolist(), []
    for a, anchor in enumerate(rows):
        positives = [math.dist(anchor, row) for p, row in enumerate(rows) if labels[p] == labels[a]]
        negatives = [math.dist(anchor, row) for n, row in enumerate(rows) if labels[n] != labels[a]]
        terms.append(max(0.0, max(positives) - min(negatives) + margin) if negatives else 0.0)
    return terms


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 12),
    identities=st.integers(1, 4),
    margin=st.sampled_from([0.0, 0.3, 2.0]),
)
def test_matches_loop(seed: int, size: int, identities: int, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(size, 3, dtype=torch.float64, generator=generator)
    labels = torch.randint(identities, (size,), generator=generator)
    terms = naive_terms(features, labels, margin)
    total = batch_hard_triplet_loss(features, labels, margin, reduction="sum")
    mean = batch_hard_triplet_loss(features, labels, margin)
    assert total.item() == pytest.approx(sum(terms), abs=1e-9)
    assert mean.item() == pytest.approx(sum(terms) / size, abs=1e-9)


def test_negatives_of_the_own_camera_are_mined_within_it() -> None:
    """Against the loop over the images of each camera, the positives being of any camera."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        features = torch.randn(10, 3, dtype=torch.float64, generator=generator)
        labels = torch.randint(3, (10,), generator=generator)
        cameras = torch.randint(3, (10,), generator=generator)
        terms = []
        for a in range(10):
            distances = [math.dist(features[a], row) for row in features]
            positives = [d for d, label in zip(distances, labels, strict=True) if label == labels[a]]
            negatives = [
                d for n, d in enumerate(distances) if labels[n] != labels[a] and cameras[n] == cameras[a]
            ]
            terms.append(max(0.0, max(positives) - min(negatives) + 0.3) if negatives else 0.0)
        module = BatchHardTripletLoss(0.3, "sum", negatives="own")
        assert module(features, labels, camids=cameras).item() == pytest.approx(sum(terms), abs=1e-9)
        everywhere = BatchHardTripletLoss(0.3, "sum")(features, labels, camids=cameras)
        assert everywhere.item() == pytest.approx(sum(naive_terms(features, labels, 0.3)), abs=1e-9)


def test_negatives_of_the_own_camera_need_cameras() -> None:
    with pytest.raises(ValueError, match="need the cameras"):
        BatchHardTripletLoss(negatives="own")(torch.randn(2, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="negatives must be one of"):
        BatchHardTripletLoss(negatives="mine")


def test_hand_computed() -> None:
    """On a line, identity 0 at 0 and 3, identity 1 at 4 and 5, margin 0.5.

    Anchors: 3 - 4 + 0.5 < 0; 3 - 1 + 0.5; 1 - 1 + 0.5; 1 - 2 + 0.5 < 0.
    """
    features = torch.tensor([[0.0], [3.0], [4.0], [5.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert batch_hard_triplet_loss(features, labels, 0.5, "sum").item() == pytest.approx(2.5 + 0.5)
    assert BatchHardTripletLoss(0.5)(features, labels).item() == pytest.approx(3.0 / 4)


def test_distance_is_not_squared() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    loss = batch_hard_triplet_loss(features, torch.tensor([0, 1]), margin=6.0)
    assert loss.item() == pytest.approx(1.0)


def test_gradient_by_finite_differences() -> None:
    features = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
    assert torch.autograd.gradcheck(lambda x: batch_hard_triplet_loss(x, labels, 1.0), features)
    assert torch.autograd.gradcheck(lambda x: batch_hard_triplet_loss(x, labels, 1.0, "sum"), features)


def test_gradient_at_distance_zero_is_zero() -> None:
    """All features equal: the loss is the margin and no direction is preferred."""
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.equal(features.grad, torch.zeros(4, 3))


@pytest.mark.parametrize(("images", "values"), [(128, 256), (64, 1024), (128, 2048)])
def test_gradient_repeats_with_two_threads(images: int, values: int) -> None:
    features = torch.randn(images, values, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(images) // 4

    def gradient() -> torch.Tensor:
        leaf = features.clone().requires_grad_()
        batch_hard_triplet_loss(leaf, labels, 2.0, "sum").backward()
        return leaf.grad

    alone = gradient()
    with two_busy_threads():
        assert all(torch.equal(gradient(), alone) for _ in range(30))


def test_anchor_alone_is_its_own_positive() -> None:
    features = torch.tensor([[0.0], [1.0]], requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.tensor([0, 1]), 1.5, "sum")
    loss.backward()
    assert loss.item() == pytest.approx(2 * (0 - 1 + 1.5))
    assert features.grad.tolist() == [[2.0], [-2.0]]


def test_no_negative_contributes_nothing_but_stays_in_the_graph() -> None:
    features = torch.randn(3, 2, requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.tensor([5, 5, 5]), 0.3)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(features.grad, torch.zeros(3, 2))


def test_large_offset_does_not_cancel() -> None:
    """Distances of about 1 far away from the origin survive float32, in mining too."""
    features = 10000 + torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4).repeat(3)
    loss = batch_hard_triplet_loss(features, labels, 1.0, "sum")
    assert loss.item() == pytest.approx(sum(naive_terms(features, labels, 1.0)), rel=1e-5)


def test_runs_in_float32_under_autocast() -> None:
    features, labels = torch.randn(8, 16), torch.arange(4).repeat(2)
    expected = batch_hard_triplet_loss(features, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = batch_hard_triplet_loss(features, labels)
        half = batch_hard_triplet_loss(features.bfloat16(), labels)
    assert torch.equal(inside, expected)
    assert half.dtype == torch.float32


def test_non_finite_features_show_in_the_loss() -> None:
    features = torch.randn(4, 2)
    features[1, 0] = math.nan
    assert batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1])).isnan()


@pytest.mark.parametrize(
    ("margin", "reduction", "message"),
    [
        (-0.1, "mean", "margin must be .* got -0.1"),
        (math.nan, "mean", "got nan"),
        (0.3, "none", "got 'none'"),
    ],
)
def test_rejects_options(margin: float, reduction: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchHardTripletLoss(margin, reduction)
    with pytest.raises(ValueError, match=message):
        batch_hard_triplet_loss(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long), margin, reduction)


@pytest.mark.parametrize(
    ("features", "labels", "name"),
    [
        (torch.zeros(2, 3, 1), torch.zeros(2, dtype=torch.long), "features"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), "features"),
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, dtype=torch.long), "features"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), "labels"),
        (torch.zeros(2, 3), torch.zeros(2), "labels"),
    ],
)
def test_rejects_shapes_and_kinds(features: torch.Tensor, labels: torch.Tensor, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        batch_hard_triplet_loss(features, labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_matches_cpu_under_autocast() -> None:
    features, labels = torch.randn(32, 64), torch.arange(8).repeat(4)
    expected = batch_hard_triplet_loss(features, labels, 5.0)
    with torch.autocast("cuda", dtype=torch.float16):
        loss = batch_hard_triplet_loss(features.cuda(), labels.cuda(), 5.0)
    torch.testing.assert_close(loss.cpu(), expected)
