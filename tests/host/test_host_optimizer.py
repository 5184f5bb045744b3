"""Torch's optimisers without its compiler: the same steps, and the compiler still works; fused steps."""

from functools import partial

import pytest
import torch
from fastreid.config import get_cfg

from nplp.engine.trainer import ReidTrainer
from nplp.host.optimizer import fuse_step

OPTIMIZERS = (
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ASGD",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
)

STEPS = """
import sys
import torch
{first}

def trained(name, steps=3):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((2, 5), 1.0 + step)).square().sum().backward()
        optimizer.step()
        assert all(weight.grad_fn is None for weight in model.parameters())
    optimizer.load_state_dict(optimizer.state_dict())
    return [weight.hex() for parameter in model.parameters() for weight in parameter.flatten().tolist()]

for name in {names}:
    print(name, *trained(name))
"""


def test_steps_are_torchs_own_to_the_bit_and_import_no_compiler(run_script):
    script = STEPS.format(first="", names=OPTIMIZERS)
    theirs = run_script(script).splitlines()
    script = STEPS.format(first="import nplp", names=OPTIMIZERS)
    ours = run_script(script + "print('torch._dynamo' in sys.modules)").splitlines()
    assert ours == [*theirs, "False"]
    assert len(theirs) == len(OPTIMIZERS)
    assert all(len(line.split()) == 30 for line in theirs)


@pytest.mark.parametrize("name", ["SGD"])
def test_the_compiler_works_when_it_is_imported_later(run_script, name):
    script = STEPS.format(first="import nplp", names=(name,))
    printed = run_script(
        script
        + f"""
compiled = torch.compile(lambda x: 2 * x, backend="eager")
print(compiled(torch.ones(1)).item(), "torch._dynamo" in sys.modules)
print({name!r}, *trained({name!r}))
"""
    ).splitlines()
    assert printed[1] == "2.0 True"
    assert printed[0] == printed[2]


def test_an_optimiser_that_is_differentiable_records_its_steps(run_script):
    printed = run_script(
        """
        import torch, nplp
        weight = torch.ones(1, requires_grad=True)
        moved = weight.clone()
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5, differentiable=True)
        optimizer.param_groups[0]["params"] = [moved]
        moved.grad = weight * 3
        optimizer.step()
        print(moved.item(), torch.autograd.grad(moved, weight)[0].item(), torch.is_grad_enabled())
        """
    )
    assert printed.split() == ["-0.5", "-0.5", "True"]


def weights_after(make, fused: bool, steps: int = 5) -> torch.Tensor:
    """Return what an optimiser that `make` builds turns a thousand weights into."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(1003, generator=generator, dtype=torch.float64))
    optimizer = make([{"params": [weight], "lr": 0.01, "weight_decay": 5e-4}])
    if fused:
        fuse_step(optimizer)
    for _ in range(steps):
        weight.grad = torch.randn(1003, generator=generator, dtype=torch.float64)
        optimizer.step()
    assert optimizer.param_groups[0].get("fused") is (True if fused else None)
    return weight.detach()


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.Adam,
        torch.optim.AdamW,
        partial(torch.optim.SGD, momentum=0.9),
        partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    ],
)
def test_a_fused_step_is_the_usual_one_up_to_rounding(make):
    fused, usual = weights_after(make, True), weights_after(make, False)
    torch.testing.assert_close(fused, usual, rtol=1e-12, atol=1e-14)


def test_an_optimiser_without_a_fused_step_stays_as_it_is():
    optimizer = torch.optim.RMSprop([torch.nn.Parameter(torch.ones(2))])
    before = dict(optimizer.param_groups[0])
    fuse_step(optimizer)
    assert optimizer.param_groups[0] == before


def test_a_state_that_was_not_fused_goes_on_by_the_usual_step():
    usual, fused = (torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]) for _ in range(2))
    fuse_step(fused)
    fused.load_state_dict(usual.state_dict())
    assert not fused.param_groups[0]["fused"]


@pytest.mark.parametrize(("name", "fuses"), [("Adam", True), ("SGD", True), ("RMSprop", False)])
def test_a_trainer_fuses_the_step_where_it_can(name, fuses):
    cfg = get_cfg()
    cfg.SOLVER.OPT = name
    optimizer, _ = ReidTrainer._build_optimizer(ReidTrainer, cfg, torch.nn.Sequential(torch.nn.Linear(2, 1)))
    assert all(bool(group.get("fused")) is fuses for group in optimizer.param_groups)
