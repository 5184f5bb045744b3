"""Random states come back, and a GPU's convolutions are chosen by the configuration."""

import random

import numpy as np
import pytest
import torch

from nplp.engine.seeding import (
    choose_kernels,
    derive_seed,
    random_state,
    restore_random_state,
    seed_everything,
)


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_state_that_is_restored_gives_the_same_draws():
    seed_everything(derive_seed(3, 1, 2))
    state = random_state()
    first = draws()
    assert draws() != first
    restore_random_state(state)
    assert draws() == first


def test_seeds_differ_by_position_and_repeat():
    assert derive_seed(0, 1) == derive_seed(0, 1)
    assert (
        len({derive_seed(seed, stage, epoch) for seed in (0, 1) for stage in (0, 1) for epoch in (1, 2)}) == 8
    )


@pytest.mark.parametrize("fastest", [False, True])
def test_on_a_gpu_convolutions_repeat_unless_the_fastest_are_asked_for(monkeypatch, fastest):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not fastest)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", fastest)
    choose_kernels(torch.device("cpu"), fastest)
    assert torch.backends.cudnn.benchmark is not fastest, "nothing is changed for the CPU"
    choose_kernels(torch.device("cuda"), fastest)
    assert torch.backends.cudnn.benchmark is fastest
    assert torch.backends.cudnn.deterministic is not fastest
