"""The center-contrastive loss (eq. 10) and its moving lookup table (eq. 11), against loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lookup_tables import build, example, naive_update
from nplp.losses import CenterContrastiveLoss


def naive_loss(V: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    """-1/(PK) sum log(exp(V_i^T x) / sum_j exp(V_j^T x)), with the similarities over the temperature."""
    total = 0.0
    for x, i in zip(features, labels.tolist(), strict=True):
        exponentials = [math.exp(float(v @ x.detach()) / temperature) for v in V]
        total += math.log(exponentials[i] / sum(exponentials))
    return -total / len(features)


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 9), clusters=st.integers(1, 6))
def test_literal_form_matches_the_equations(seed: int, batch: int, clusters: int) -> None:
    V, features, labels = example(seed, batch, clusters)
    module = build(V, normalize=False, temperature=0.5)
    loss = module(features, labels)
    assert loss.item() == pytest.approx(naive_loss(V, features, labels, 1.0), abs=1e-9)
    assert torch.equal(module.table, V)
    loss.backward()
    assert torch.equal(module.table, naive_update(V, features.detach(), labels))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 9), clusters=st.integers(1, 6))
def test_normalised_form_matches_the_equations(seed: int, batch: int, clusters: int) -> None:
    V, features, labels = example(seed, batch, clusters)
    module = build(V, temperature=0.2)
    loss = module(features, labels)
    expected = naive_loss(unit(V), unit(features), labels, 0.2)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    loss.backward()
    table = unit(V)
    for x, i in zip(unit(features.detach()), labels.tolist(), strict=True):
        table[i] = unit(((table[i] + x) / 2).unsqueeze(0))[0]
    torch.testing.assert_close(module.table, table, rtol=0, atol=1e-14)


@pytest.mark.parametrize("normalize", [True, False])
def test_gradient_by_finite_differences(normalize: bool) -> None:
    V, features, labels = example()
    module = build(V, normalize=normalize, temperature=0.3, update=False)
    assert torch.autograd.gradcheck(lambda x: module(x, labels), features)


@pytest.mark.parametrize("normalize", [True, False])
def test_gradient_uses_the_table_of_the_forward_pass(normalize: bool) -> None:
    """The update in the same backward pass, or a later batch's, leaves the gradient alone."""
    V, features, labels = example()
    fixed = build(V, normalize=normalize, update=False)
    (expected,) = torch.autograd.grad(fixed(features, labels), features)
    moving = build(V, normalize=normalize)
    first, second = moving(features, labels), moving(features, labels)
    (gradient,) = torch.autograd.grad(second, features)
    assert not torch.equal(moving.table, fixed.table)
    (late,) = torch.autograd.grad(first, features)
    assert torch.equal(gradient, expected)
    assert torch.equal(late, expected)


def test_float64_features_are_computed_in_float64() -> None:
    V, features, labels = example()
    module = CenterContrastiveLoss(normalize=False)
    module.reset(V)
    loss = module(features, labels)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(naive_loss(V.float().double(), features, labels, 1.0), abs=1e-12)
    loss.backward()
    torch.testing.assert_close(module.table, naive_update(V, features.detach(), labels).float())


def test_runs_in_float32_under_autocast() -> None:
    V, features, labels = example()
    features = features.detach().bfloat16().requires_grad_()
    plain, autocast = build(V.float()), build(V.float())
    expected = plain(features, labels)
    expected.backward()
    gradient, features.grad = features.grad, None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = autocast(features, labels)
        loss.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert torch.equal(features.grad, gradient)
    assert torch.equal(autocast.table, plain.table)


@pytest.mark.parametrize("normalize", [True, False])
def test_non_finite_sample_shows_in_the_loss_and_not_in_the_table(normalize: bool) -> None:
    V, features, _ = example(batch=3, clusters=3)
    labels = torch.tensor([0, 1, 2])
    features = features.detach()
    features[1, 2] = math.inf
    module = build(V, normalize=normalize)
    before = module.table.clone()
    loss = module(features.requires_grad_(), labels)
    loss.backward()
    assert not loss.isfinite()
    assert torch.equal(module.table[1], before[1])
    assert module.table.isfinite().all()
    assert not torch.equal(module.table[[0, 2]], before[[0, 2]])


def test_zero_feature_is_safe() -> None:
    """ReLU can switch every value of f_r off; its gradient then stays finite."""
    V, _, _ = example()
    features = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    module = build(V)
    before = module.table.clone()
    module(features, torch.tensor([0, 1])).backward()
    assert features.grad.isfinite().all()
    torch.testing.assert_close(module.table, before)


def test_large_logits_do_not_overflow() -> None:
    module = CenterContrastiveLoss(normalize=False)
    module.reset(torch.tensor([[1000.0], [-1000.0]]))
    assert module(torch.tensor([[10.0]]), torch.tensor([1])).item() == pytest.approx(20000.0)


def test_loss_falls_when_followed() -> None:
    V, features, labels = example()
    module = build(V, update=False)
    (gradient,) = torch.autograd.grad(module(features, labels), features)
    assert module(features - 0.01 * gradient, labels) < module(features, labels)
    assert F.cosine_similarity(gradient, features.detach(), dim=1).abs().max() < 1e-9


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_rejects_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be .* got {temperature}"):
        CenterContrastiveLoss(temperature=temperature)


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        (5, [0, 4], r"labels must be in \[0, 4\), got 4"),
        (5, [0, -1], r"labels must be in \[0, 4\), got -1"),
        (3, [0, 1], "5 columns, got 3"),
        (5, [0], "labels must be 2 integers"),
    ],
)
def test_rejects_batches(columns: int, labels: list[int], message: str) -> None:
    V, _, _ = example()
    with pytest.raises(ValueError, match=message):
        build(V)(torch.ones(2, columns), torch.tensor(labels))


def test_rejects_an_empty_table() -> None:
    with pytest.raises(ValueError, match="the lookup table is empty: call reset"):
        CenterContrastiveLoss()(torch.ones(2, 5), torch.tensor([0, 1]))


@pytest.mark.parametrize("centroids", [torch.ones(3), torch.empty(0, 5), torch.tensor([[math.nan]])])
def test_rejects_centroids(centroids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="centroids must be"):
        CenterContrastiveLoss().reset(centroids)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_matches_cpu_under_autocast() -> None:
    V, features, labels = example()
    on_cpu, on_gpu = build(V.float()), CenterContrastiveLoss().cuda()
    on_gpu.reset(V)
    expected = on_cpu(features.float(), labels)
    expected.backward()
    with torch.autocast("cuda", dtype=torch.float16):
        loss = on_gpu(features.float().cuda(), labels.cuda())
    loss.backward()
    torch.testing.assert_close(loss.cpu(), expected)
    torch.testing.assert_close(on_gpu.table.cpu(), on_cpu.table)
