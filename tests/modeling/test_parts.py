"""A batch that goes through a network in parts: losses, gradients and statistics are those of the whole."""

import copy

import pytest
import torch
from torch import nn

from nplp.modeling import NPLP, PAPHead
from nplp.modeling.parts import in_parts

LOSSES = ("TripletLoss", "CenterContrastiveLoss")


def build(parts: int = 1, chunk: int = 0, dropout: float = 0.0, momentum: float | None = 0.1) -> NPLP:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, momentum=momentum)
    model = NPLP(
        backbone=nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), norm, nn.ReLU(), nn.Dropout(dropout)),
        heads=PAPHead(feat_dim=5, embedding_dim=4, loss_names=LOSSES),
        loss_names=LOSSES,
        pixel_mean=[128.0] * 3,
        pixel_std=[64.0] * 3,
        norm_chunk=chunk,
        parts=parts,
    ).double()
    model.criteria["CenterContrastiveLoss"].reset(torch.rand(3, 4))
    return model.train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(8, 3, 16, 8, generator=generator) * 255
    return {"images": images, "targets": torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])}


def trained(model: NPLP, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the losses, all gradients and all buffers after a step."""
    losses = model(batch)
    sum(losses.values()).backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {**losses, **gradients, **{f"buffer {name}": value for name, value in model.named_buffers()}}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_parts_of_chunks_are_the_whole(batch, momentum):
    whole = trained(build(chunk=2, momentum=momentum), batch)
    assert_close(trained(build(parts=4, chunk=2, momentum=momentum), batch), whole)
    assert int(whole["buffer backbone.1.num_batches_tracked"]) == 1


def test_without_chunks_a_part_is_what_batch_norms_normalise_over(batch):
    assert_close(trained(build(parts=4), batch), trained(build(chunk=2), batch))


def test_a_part_that_is_run_again_draws_the_same(batch):
    """The gradient of a finite step along itself, for one draw of the dropout."""
    model = build(parts=2, chunk=2, dropout=0.5)
    torch.manual_seed(3)
    found = trained(model, batch)
    weight = model.backbone[0].weight
    step = 1e-6
    moved = []
    for sign in (1, -1):
        other = build(parts=2, chunk=2, dropout=0.5)
        with torch.no_grad():
            other.backbone[0].weight.copy_(weight + sign * step * weight.grad)
        torch.manual_seed(3)
        moved.append(sum(other(batch).values()).item())
    slope = (moved[0] - moved[1]) / (2 * step)
    assert slope == pytest.approx(found["backbone.0.weight"].square().sum().item(), rel=1e-4)


def test_one_part_alone_is_in_memory(batch):
    """What the graph keeps of the convolution's inputs before the backward pass."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    for parts in (1, 4):
        model = build(parts=parts, chunk=2)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            sizes.append(0)
            model.output(batch)
    second = len(sizes) - sizes[::-1].index(0)
    assert sum(sizes[second:]) < 0.1 * sum(sizes[: second - 1])


def test_without_gradients_statistics_move_all_the_same(batch):
    one, other = build(parts=4, chunk=2), build(chunk=2)
    with torch.no_grad():
        one.output(batch)
        other.output(batch)
    for mine, theirs in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_evaluation_takes_no_parts(batch):
    model = build(parts=3).eval()
    assert torch.equal(model(batch), copy.deepcopy(model)(batch))


def test_parts_must_divide_the_batch(batch):
    with pytest.raises(ValueError, match="parts must divide the 8 images of a batch, got 3"):
        in_parts(build(), lambda part: part, {"images": batch["images"]}, 3)
