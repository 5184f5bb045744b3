"""A model of seconds, trained, and exported with every program."""

from pathlib import Path

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.export.bundle import ExportOptions, export_bundle
from nplp.export.converters import FORMATS
from tiny import make_tiny_cfg

NAME = "nplp_tiny_R18"


@pytest.fixture(scope="session")
def trained(synthetic_root, tmp_path_factory):
    """The configuration of a finished run."""
    cfg = make_tiny_cfg(synthetic_root, tmp_path_factory.mktemp("trained"), "NPLP.EMA", True)
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    return cfg


@pytest.fixture(scope="session")
def options(trained):
    """What the bundle is exported with."""
    return ExportOptions("configs/NPLP/quickstart.yml", base=trained, formats=tuple(FORMATS))


@pytest.fixture(scope="session")
def bundle(trained, options, tmp_path_factory):
    """The finished run's bundle in a zoo."""
    return export_bundle(trained, tmp_path_factory.mktemp("zoo") / NAME, options)


@pytest.fixture
def zoo(bundle, monkeypatch) -> Path:
    """The folder of the zoo, which NPLP_ZOO names."""
    monkeypatch.setenv("NPLP_ZOO", str(bundle.folder.parent))
    return bundle.folder.parent
