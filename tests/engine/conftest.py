"""A run that others are compared with."""

import time

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from resumed_runs import start
from tiny import make_tiny_cfg


@pytest.fixture(scope="session")
def undisturbed(synthetic_root, tmp_path_factory):
    """The folder of a run that nothing disturbed, and the seconds it took."""
    output = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    process = start(synthetic_root, output)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    return output, time.monotonic() - begin


@pytest.fixture(scope="session")
def source_weights(synthetic_root, tmp_path_factory):
    """Weights of a source model that runs start from."""
    folder = tmp_path_factory.mktemp("source")
    cfg = make_tiny_cfg(synthetic_root, folder, "NPLP.ITERATIONS", 0)
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    return folder / "source" / "model_final.pth"
