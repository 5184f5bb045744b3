"""Proxies of two gloo processes stay equal to the bit, and equal to a single process's."""

import importlib.util
from pathlib import Path

import torch

from ranks import WORLD_SIZE, run_ranks

SCRIPT = Path(__file__).with_name("camera_proxy_process.py")


def test_tables_are_equal_and_those_of_one_process(tmp_path):
    """The mean over the processes of the local losses is the loss of the whole batch, weights included."""
    results = run_ranks(SCRIPT, tmp_path)
    assert torch.equal(results[0]["table"], results[1]["table"])
    spec = importlib.util.spec_from_file_location("camera_proxy_process", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    loss = script.build()
    for step in range(script.STEPS):
        features, *others = script.global_batch(step)
        features.requires_grad_()
        value = loss(features, *others)
        value.backward()
        mean = sum(result["losses"][step] for result in results) / WORLD_SIZE
        torch.testing.assert_close(mean, value.detach())
        gradient = torch.cat([result["gradients"][step] for result in results]) / WORLD_SIZE
        torch.testing.assert_close(gradient, features.grad)
    torch.testing.assert_close(results[0]["table"], loss.table, rtol=0, atol=1e-6)
