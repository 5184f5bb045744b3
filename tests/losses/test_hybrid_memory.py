"""The hybrid memory against its authors' formula, image by image, and the bounds that their code gives it."""

import pytest
import torch

from nplp.losses import HybridMemoryLoss

SMALL = 1e-6


def transcribed_step(memory, classes, features, indices, temperature, momentum):
    """Return loss, gradient of the features and the next memory; nothing is shared with the library."""
    f = features.clone().requires_grad_()
    total = 0.0
    for row, index in zip(f, indices.tolist(), strict=True):
        x = row / row.pow(2).sum().sqrt()
        exponentials = {}
        for label in sorted(set(classes.tolist())):
            members = memory[classes == label]
            similarity = torch.stack([(x * entry).sum() for entry in members]).sum() / temperature
            exponentials[label] = (similarity / len(members)).exp()
        share = exponentials[int(classes[index])] / (sum(exponentials.values()) + SMALL)
        total = total - (share + SMALL).log()
    loss = total / len(f)
    loss.backward()
    moved = memory.clone()
    for row, index in zip(features, indices.tolist(), strict=True):
        x = row / row.pow(2).sum().sqrt()
        entry = momentum * moved[index] + (1 - momentum) * x
        moved[index] = entry / entry.pow(2).sum().sqrt()
    return loss.detach(), f.grad, moved


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def filled(classes, momentum=0.2, width=16):
    generator = torch.Generator().manual_seed(0)
    loss = HybridMemoryLoss(temperature=0.05, momentum=momentum).double()
    rows = draw(generator, len(classes), width)
    loss.reset(rows)
    loss.assign(classes)
    return loss, rows / rows.norm(dim=1, keepdim=True), generator


@pytest.mark.parametrize("momentum", [0.2, 0.9])
def test_five_steps_are_those_of_the_formula(momentum):
    # Clusters of several sizes in mixed order, and classes of one.
    classes = torch.tensor([0, 2, 1, 0, 3, 2, 2, 4, 1, 0, 5])
    loss, memory, generator = filled(classes, momentum)
    for step in range(5):
        features = draw(generator, 12, 16).requires_grad_()
        # An image may come twice in a batch: the order of its updates matters.
        indices = torch.randint(0, len(classes), (12,), generator=generator)
        value = loss(features, classes[indices], indices)
        value.backward()
        expected, gradient, memory = transcribed_step(
            memory, classes, features.detach(), indices, 0.05, momentum
        )
        torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(features.grad, gradient, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(loss.table, memory, rtol=1e-12, atol=1e-12)
        if step == 2:
            # Rows stay where they are when images are clustered anew.
            classes = classes.roll(1)
            loss.assign(classes)


def test_logits_beyond_the_reach_of_an_exponential_have_a_loss_and_a_gradient():
    loss = HybridMemoryLoss(temperature=1e-3)
    loss.reset(torch.eye(3))
    loss.assign(torch.arange(3))
    features = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    value = loss(features, torch.tensor([0, 1]), torch.tensor([0, 1]))
    value.backward()
    # The first is certain; the second impossible, whose loss the small number bounds.
    torch.testing.assert_close(
        value.detach(), torch.tensor(-SMALL).log1p().neg() / 2 + 13.8155 / 2, atol=1e-4, rtol=0
    )
    assert bool(features.grad.isfinite().all())


def test_memory_stays_as_it_is_without_a_backward_pass():
    classes = torch.arange(4)
    loss, memory, _ = filled(classes)
    with torch.no_grad():
        loss(torch.ones(4, 16, dtype=torch.float64), classes, classes)
    torch.testing.assert_close(loss.table, memory)


@pytest.mark.parametrize(
    ("labels", "indices", "message"),
    [
        ([0, 1], [0, 9], r"indices must be 2 rows in \[0, 4\)"),
        ([0, 1], [0], r"indices must be 2 rows"),
        ([0, 1], [0, 2], "labels must be the classes"),
    ],
)
def test_rejects_rows_that_are_not_the_images(labels, indices, message):
    loss, _, _ = filled(torch.arange(4))
    with pytest.raises(ValueError, match=message):
        loss(torch.ones(2, 16, dtype=torch.float64), torch.tensor(labels), torch.tensor(indices))


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2, 4], [-1, 0, 1, 2]])
def test_rejects_classes_that_do_not_fit(classes):
    loss, _, _ = filled(torch.arange(4))
    with pytest.raises(ValueError, match="classes must be"):
        loss.assign(torch.tensor(classes))


def test_a_memory_without_classes_says_what_is_missing():
    loss = HybridMemoryLoss()
    loss.reset(torch.eye(3))
    with pytest.raises(ValueError, match=r"call assign\(classes\)"):
        loss(torch.eye(3), torch.arange(3), torch.arange(3))


@pytest.mark.parametrize(("option", "value"), [("momentum", -0.1), ("temperature", 0.0)])
def test_rejects_options(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .* got {value}"):
        HybridMemoryLoss(**{option: value})
