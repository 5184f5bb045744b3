"""What an extra brings can be imported where it is installed, or is asked for by the extra's name."""

import importlib
import importlib.util
import re
import runpy
import sys
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import pytest
import setuptools

from nplp.config import default_config
from nplp.errors import UserError
from nplp.export.converters import require_packages
from nplp.export.verification import _reason_not_to_run
from nplp.methods.fixed_radius import FixedRadius
from nplp.modeling.timm_backbone import TimmBackbone
from nplp.weights.remote_zoo import hub_library
from nplp_commands.images import require_search

ROOT = Path(__file__).parents[1]
MODULES = {
    "cpu": {"faiss-cpu": "faiss"},
    "gpu": {"faiss-gpu": "faiss"},
    "deploy": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    "timm": {"timm": "timm"},
    "docs": {
        "mkdocs": "mkdocs",
        "mkdocs-material": "material",
        "mkdocstrings": "mkdocstrings",
        "nbformat": "nbformat",
    },
    "hdbscan": {"fast_hdbscan": "fast_hdbscan"},
    "infomap": {"infomap": "infomap"},
    "hub": {"huggingface_hub": "huggingface_hub"},
}
"""What each extra installs, and what that is imported as."""


def take_clusterer(name):
    """Make what clusters for a method, with a clusterer of another package."""
    options = default_config().NPLP.MEMORY
    options.CLUSTERER = name
    return FixedRadius(options, "NPLP.MEMORY")


ASKING = {
    "cpu": require_search,
    "gpu": require_search,
    "deploy": lambda: require_packages(["onnx"]),
    "timm": lambda: TimmBackbone("resnet18", (64, 32)),
    "hdbscan": lambda: take_clusterer("hdbscan"),
    "infomap": lambda: take_clusterer("infomap"),
    "hub": hub_library,
}
"""What asks for an extra's packages at its first line; the site alone needs those of docs."""

USERS = (
    "nplp.clustering.without_epsilon",
    "nplp.export.converters",
    "nplp.export.verification",
    "nplp_commands.images",
)
"""Modules that ask whether a package is there."""


def extras():
    """Return the packages that setup.py gives each extra, read from what it passes on."""
    seen = {}

    def setup(**words):
        seen.update(words["extras_require"])

    original, setuptools.setup = setuptools.setup, setup
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
    return {extra: {re.match(r"[\w-]+", line)[0]: line for line in lines} for extra, lines in seen.items()}


def test_every_extra_is_known_here_with_all_that_it_installs():
    assert {extra: set(lines) for extra, lines in extras().items()} == {
        extra: set(modules) for extra, modules in MODULES.items()
    }


@pytest.mark.parametrize(
    ("package", "module"), [pair for modules in MODULES.values() for pair in modules.items()]
)
def test_what_is_installed_can_be_imported(package, module):
    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert metadata(package)["Name"]
    assert importlib.import_module(module)


@pytest.fixture
def hidden(monkeypatch):
    """Return a function after which some modules are not there."""
    find = importlib.util.find_spec

    def hide(modules):
        def absent(name, *rest):
            return None if name in modules else find(name, *rest)

        for name in modules:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(importlib.util, "find_spec", absent)
        for user in USERS:
            monkeypatch.setattr(f"{user}.find_spec", absent)

    return hide


@pytest.mark.parametrize("extra", ASKING)
def test_what_is_missing_is_asked_for_by_the_extras_name(extra, hidden):
    hidden(set(MODULES[extra].values()))
    with pytest.raises(UserError, match=re.escape(f"nplp[{extra}]")) as caught:
        ASKING[extra]()
    assert "\n" not in str(caught.value)


def test_every_extra_but_that_of_the_site_is_asked_for():
    assert set(MODULES) - set(ASKING) == {"docs"}


def test_a_program_that_cannot_be_run_names_the_extra(hidden):
    hidden(set(MODULES["deploy"].values()))
    assert "pip install 'nplp[deploy]'" in _reason_not_to_run("onnx", trust=False, crops=True)
