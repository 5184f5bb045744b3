"""Shared by all tests: quiet threads, and small synthetic domains drawn once for the whole run."""

import os

import pytest
import torch

from tiny import make_tiny_cfg

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory):
    """A cache folder of the synthetic domains, shared by the processes of a parallel run."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    return shared / "synthetic"


@pytest.fixture
def tiny_cfg(synthetic_root, tmp_path):
    """The quickstart's configuration, cut down to seconds."""
    return make_tiny_cfg(synthetic_root, tmp_path / "run")
