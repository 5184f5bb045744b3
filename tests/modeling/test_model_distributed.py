"""Two gloo processes train the model without a search for unused parameters and stay equal to the bit."""

import runpy
from pathlib import Path

import pytest
import torch

from ranks import run_ranks

SCRIPT = Path(__file__).with_name("model_process.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, torch.Tensor]]]:
    """What two processes ended with, for each set of losses, and then for whole batches."""
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("model"))


def test_weights_and_table_stay_equal(ranks: list[list[dict[str, torch.Tensor]]]) -> None:
    """A parameter without a gradient would stop the second step of the distributed model."""
    first, second = ranks
    assert len(first) == 4
    assert "table" in first[2]
    for mine, other in zip(first, second, strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_losses_and_gradients_of_whole_batches_are_those_of_one_process(
    ranks: list[list[dict[str, torch.Tensor]]],
) -> None:
    """Every loss, also those that mine or sum over cameras; a step with another gradient ends elsewhere."""
    process = runpy.run_path(str(SCRIPT))
    alone = process["train_on_whole_batches"](0, 1)
    losses = [name for name in alone if name.startswith("loss_")]
    assert len(losses) == process["STEPS"] * len(process["OF_WHOLE_BATCHES"])
    for rank in ranks:
        for name, value in alone.items():
            torch.testing.assert_close(rank[3][name], value, rtol=1e-9, atol=1e-9, msg=name)
