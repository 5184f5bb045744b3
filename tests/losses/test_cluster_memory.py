"""The cluster memory against its formula, sample by sample."""

import pytest
import torch

from nplp.losses import ClusterMemoryLoss
from nplp.losses.lookup_table import least_similar_of_each


def transcribed_step(memory, features, labels, temperature, momentum):
    """Return loss, gradient of the features and the next memory; nothing is shared with the library."""
    f = features.clone().requires_grad_()
    total = 0.0
    for row, label in zip(f, labels.tolist(), strict=True):
        x = row / row.pow(2).sum().sqrt()
        similarities = torch.stack([(x * entry).sum() for entry in memory]) / temperature
        total = total - (similarities[label] - similarities.exp().sum().log())
    loss = total / len(f)
    loss.backward()
    moved = memory.clone()
    for row, label in zip(features, labels.tolist(), strict=True):
        x = row / row.pow(2).sum().sqrt()
        entry = momentum * moved[label] + (1 - momentum) * x
        moved[label] = entry / entry.pow(2).sum().sqrt()
    return loss.detach(), f.grad, moved


@pytest.mark.parametrize("momentum", [0.1, 0.2, 0.9])
def test_five_steps_are_those_of_the_formula(momentum):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    loss = ClusterMemoryLoss(temperature=0.05, momentum=momentum).double()
    memory = draw(7, 16)
    loss.reset(memory)
    memory = memory / memory.norm(dim=1, keepdim=True)
    for _ in range(5):
        features = draw(24, 16).requires_grad_()
        # Several images of a cluster in mixed order: the order of the updates matters.
        labels = torch.randint(0, 7, (24,), generator=generator)
        value = loss(features, labels)
        value.backward()
        expected, gradient, memory = transcribed_step(memory, features.detach(), labels, 0.05, momentum)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(features.grad, gradient, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(loss.table, memory, rtol=1e-12, atol=1e-12)


def test_momentum_is_the_share_of_the_old_row():
    loss = ClusterMemoryLoss(momentum=0.1).double()
    loss.reset(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    loss(torch.tensor([[0.0, 2.0]], dtype=torch.float64, requires_grad=True), torch.tensor([0])).backward()
    expected = torch.tensor([0.1, 0.9], dtype=torch.float64)
    torch.testing.assert_close(loss.table[0], expected / expected.norm())


@pytest.mark.parametrize(("option", "value"), [("momentum", 1.5), ("temperature", 0.0)])
def test_rejects_options(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .* got {value}"):
        ClusterMemoryLoss(**{option: value})


def hardest_moves(memory, features, labels, momentum):
    """Return the next memory of the hard variant, written from its definition; nothing is shared."""
    moved = memory.clone()
    for label in sorted(set(labels.tolist())):
        own = [row / row.pow(2).sum().sqrt() for row in features[labels == label]]
        hardest = min(own, key=lambda x: float((x * memory[label]).sum()))
        entry = momentum * memory[label] + (1 - momentum) * hardest
        moved[label] = entry / entry.pow(2).sum().sqrt()
    return moved


def test_five_steps_of_the_hard_variant_are_those_of_its_definition():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    loss = ClusterMemoryLoss(momentum=0.1, hard=True).double()
    memory = draw(7, 16)
    loss.reset(memory)
    memory = memory / memory.norm(dim=1, keepdim=True)
    for _ in range(5):
        features = draw(24, 16).requires_grad_()
        labels = torch.randint(0, 7, (24,), generator=generator)
        value = loss(features, labels)
        value.backward()
        expected, gradient, _ = transcribed_step(memory, features.detach(), labels, 0.05, 0.1)
        memory = hardest_moves(memory, features.detach(), labels, 0.1)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(features.grad, gradient, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(loss.table, memory, rtol=1e-12, atol=1e-12)


def test_of_equally_similar_images_the_first_moves_the_row_and_one_without_a_number_never():
    table = torch.eye(2, dtype=torch.float64)
    features = torch.tensor([[torch.nan, 0.0], [0.6, 0.8], [0.6, -0.8], [0.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    assert least_similar_of_each(table, features, labels).tolist() == [1, 3]
    assert least_similar_of_each(table, features[:1], labels[:1]).tolist() == []
