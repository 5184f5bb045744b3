"""A run of seconds that wrote its page."""

from pathlib import Path

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.report.after_run import write_pages
from tiny import make_tiny_cfg


@pytest.fixture(scope="session")
def finished_run(synthetic_root, tmp_path_factory) -> Path:
    """The folder of a finished run with both additions and one iteration of correction."""
    output = tmp_path_factory.mktemp("reported") / "run"
    pairs = ("NPLP.REPORT", True, "NPLP.EMA", True, "NPLP.NOISY_FRACTION", 0.4)
    cfg = make_tiny_cfg(synthetic_root, output, *pairs)
    prepare_output(cfg)
    run(cfg, cfg, resume=False, at_end=write_pages)
    return output
