"""Buffers in several processes: statistics are averaged, the rest is copied, equal ones keep their bits."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nplp.config import default_config
from nplp.engine.replicas import average_statistics, check_batches, equalise_buffers
from nplp.errors import UserError

SCRIPT = Path(__file__).with_name("replica_process.py")
PROCESSES = 3
"""Of which a third has no exact binary fraction."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(PROCESSES), str(folder)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    assert "'syncBN' need GPUs in several processes" in done.stdout, done.stderr
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(PROCESSES)]


def test_statistics_are_averaged_over_the_processes(ranks):
    for name in ("0.running_mean", "0.running_var"):
        expected = torch.stack([before[name] for before, *_ in ranks]).mean(dim=0)
        for _, averaged, _, _ in ranks:
            torch.testing.assert_close(averaged[name], expected)


def test_statistics_that_are_equal_keep_their_bits(ranks):
    for before, averaged, equal, again in ranks:
        for name in ("1.running_mean", "1.running_var"):
            assert torch.equal(averaged[name], before[name])
        assert all(torch.equal(equal[name], again[name]) for name in equal)


def test_all_buffers_become_equal_and_the_others_are_the_main_processes(ranks):
    (first, _, equal, _), *others = ranks
    assert len(equal) == 8
    for _, _, theirs, _ in others:
        assert all(torch.equal(theirs[name], equal[name]) for name in equal)
    for name in ("0.num_batches_tracked", "0.other", "whole"):
        assert torch.equal(equal[name], first[name])


def test_one_process_changes_nothing():
    model = nn.BatchNorm2d(4)
    model(torch.randn(8, 4, 2, 2))
    before = {name: value.clone() for name, value in model.named_buffers()}
    average_statistics(model)
    equalise_buffers(model)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def same_at_any_size(chunk):
    cfg = default_config()
    cfg.merge_from_list(["NPLP.SAME_AT_ANY_WORLD_SIZE", True, "MODEL.NORM_CHUNK", chunk])
    return cfg


def test_a_pre_training_without_chunks_is_refused_by_the_name_of_its_key():
    with pytest.raises(UserError, match=r"^NPLP\.SOURCE\.NORM_CHUNK must be above 0 with .*, got 0$"):
        check_batches(same_at_any_size(0), nn.Linear(1, 1), "NPLP.SOURCE.NORM_CHUNK")


@pytest.mark.parametrize(("rate", "said"), [(0.5, True), (0.0, False)])
def test_layers_that_draw_are_named(caplog, rate, said):
    logging.getLogger("nplp").propagate = True
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(rate), nn.Dropout2d(rate))
    with caplog.at_level(logging.WARNING):
        check_batches(same_at_any_size(16), model, "MODEL.NORM_CHUNK")
    assert ("1 and 1 more of the model's layers draw random numbers" in caplog.text) == said
