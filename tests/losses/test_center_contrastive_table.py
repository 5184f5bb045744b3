"""When the lookup table of the center-contrastive loss moves (eq. 11), and what holds it."""

import copy

import pytest
import torch

from lookup_tables import build, example, naive_update
from nplp.losses import CenterContrastiveLoss


def test_each_forward_pass_moves_the_table_once() -> None:
    V, features, labels = example()
    module = build(V, normalize=False)
    loss = module(features, labels)
    loss.backward(retain_graph=True)
    once = naive_update(V, features.detach(), labels)
    gradient = features.grad.clone()
    loss.backward()
    assert torch.equal(module.table, once)
    torch.testing.assert_close(features.grad, 2 * gradient)
    module(features, labels).backward()
    assert torch.equal(module.table, naive_update(once, features.detach(), labels))


def test_backward_through_a_freed_graph_changes_nothing() -> None:
    V, features, labels = example()
    module = build(V)
    loss = module(features, labels)
    loss.backward()
    once = module.table.clone()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    assert torch.equal(module.table, once)


def test_no_backward_no_update() -> None:
    V, features, labels = example()
    module = build(V)
    before = module.table.clone()
    with torch.no_grad():
        inside = module(features, labels)
    detached = module(features.detach(), labels)
    dropped = module(features, labels)
    assert inside == detached == dropped
    assert not detached.requires_grad
    assert torch.equal(module.table, before)


def test_update_can_be_off() -> None:
    V, features, labels = example()
    module = build(V, update=False)
    before = module.table.clone()
    module(features, labels).backward()
    assert torch.equal(module.table, before)
    assert features.grad.abs().sum() > 0


def test_reset_between_forward_and_backward_keeps_the_new_table() -> None:
    V, features, labels = example()
    module = build(V, normalize=False)
    loss = module(features, labels)
    module.reset(torch.ones(2, 5))
    loss.backward()
    assert torch.equal(module.table, torch.ones(2, 5).double())


def test_restore_keeps_the_bits() -> None:
    V, features, labels = example()
    module = build(V)
    module(features, labels).backward()
    saved = module.table.clone()
    fresh = CenterContrastiveLoss().double()
    fresh.restore(saved)
    assert torch.equal(fresh.table, saved)
    saved.zero_()
    assert fresh.table.abs().sum() > 0


def test_table_follows_the_module_and_no_checkpoint_holds_it() -> None:
    module = CenterContrastiveLoss()
    assert module.table.shape == (0, 0)
    module.reset(torch.ones(3, 4, dtype=torch.float64))
    assert module.table.dtype == torch.float32
    assert module.state_dict() == {}
    assert torch.equal(copy.deepcopy(module).table, module.table)
    module.half().reset(torch.ones(3, 4))
    assert module.table.dtype == torch.float32
    CenterContrastiveLoss().load_state_dict(module.state_dict())
