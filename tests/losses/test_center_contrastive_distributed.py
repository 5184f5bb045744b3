"""Lookup tables of two gloo processes stay equal to the bit, and equal to a single process's."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nplp.losses import CenterContrastiveLoss
from ranks import WORLD_SIZE, run_ranks

SCRIPT = Path(__file__).with_name("lookup_table_process.py")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lookup_table_process", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("gloo"))


def test_tables_are_equal_to_the_bit(results: list[dict[str, torch.Tensor]]) -> None:
    assert torch.equal(results[0]["table"], results[1]["table"])


def test_table_and_gradients_are_those_of_one_process(results: list[dict[str, torch.Tensor]]) -> None:
    """The mean over the processes of the local losses is the loss of the whole batch."""
    script = load_script()
    module = CenterContrastiveLoss()
    module.reset(script.initial_centroids())
    for step in range(script.STEPS):
        features, labels = script.global_batch(step)
        features.requires_grad_()
        loss = module(features, labels)
        loss.backward()
        mean = sum(result["losses"][step] for result in results) / WORLD_SIZE
        torch.testing.assert_close(mean, loss.detach())
        gradient = torch.cat([result["gradients"][step] for result in results]) / WORLD_SIZE
        torch.testing.assert_close(gradient, features.grad)
    torch.testing.assert_close(results[0]["table"], module.table, rtol=0, atol=1e-7)
