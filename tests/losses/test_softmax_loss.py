"""The softmax loss against eq. 2, written as loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from nplp.losses import softmax_loss


def naive_softmax_loss(features: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> float:
    """-1/(PK) sum log(exp(W_k^T x) / sum_c exp(W_c^T x))."""
    total = 0.0
    for x, k in zip(features, labels.tolist(), strict=True):
        exponentials = [math.exp(float(w @ x)) for w in weight]
        total += math.log(exponentials[k] / sum(exponentials))
    return -total / len(features)


def test_matches_the_equation() -> None:
    features = torch.randn(6, 4, dtype=torch.float64)
    weight = torch.randn(5, 4, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    loss = softmax_loss(F.linear(features, weight), labels)
    assert loss.item() == pytest.approx(naive_softmax_loss(features, weight, labels), abs=1e-12)


def test_uniform_logits_give_the_logarithm_of_the_identities() -> None:
    assert softmax_loss(torch.zeros(3, 7), torch.tensor([0, 3, 6])).item() == pytest.approx(math.log(7))


def test_gradient_by_finite_differences() -> None:
    labels = torch.tensor([0, 2, 1])
    features = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: softmax_loss(F.linear(x, w), labels), (features, weight))


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits, labels = torch.randn(4, 10).bfloat16(), torch.tensor([1, 2, 3, 4], dtype=torch.int32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = softmax_loss(logits, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, F.cross_entropy(logits.float(), labels.long()))


@pytest.mark.parametrize("label", [-1, 3])
def test_rejects_label_out_of_range(label: int) -> None:
    with pytest.raises(ValueError, match=rf"labels must be in \[0, 3\), got {label}$"):
        softmax_loss(torch.zeros(2, 3), torch.tensor([0, label]))
