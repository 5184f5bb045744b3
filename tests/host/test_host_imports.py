"""Bridges of the imports, and the whole of them in a fresh process."""

import collections
import collections.abc
import importlib
import sys

import numpy as np
import pytest
import torch

from nplp import host
from nplp.host.imports import (
    bridge_numpy_bool,
    bridge_torchvision,
    old_collections_names,
    old_torch_six,
    scikit_learn_later,
)

ELSEWHERE = """
import torch
torch.library.register_fake("elsewhere::absent")(lambda x: x)
"""

FAKE_TORCHVISION = """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
library.define("present(Tensor x) -> Tensor")

@torch.library.register_fake("torchvision::present")
def present(x):
    return x.new_empty(7)

@torch.library.register_fake("torchvision::absent")
def absent(x):
    return x
"""


@pytest.fixture
def fake_torchvision(tmp_path):
    folder = tmp_path / "fake" / "torchvision"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(FAKE_TORCHVISION, encoding="utf-8")
    other = tmp_path / "elsewhere" / "torchvision"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text(ELSEWHERE, encoding="utf-8")
    return folder


def test_scikit_learn_is_loaded_when_the_toolbox_draws_a_roc_curve(run_script):
    printed = run_script(
        """
        import sys
        import nplp.engine.pipeline
        print([name for name in ("sklearn", "scipy.stats", "matplotlib") if name in sys.modules])
        from fastreid.evaluation import reid_evaluation
        false, true, _ = reid_evaluation.metrics.roc_curve([0, 1, 1], [0.1, 0.2, 0.9])
        print(false.tolist()[-1], true.tolist()[-1])
        import sklearn.metrics
        print(sklearn.metrics.roc_curve is reid_evaluation.metrics.roc_curve, bool(sklearn.__version__))
        """
    ).splitlines()
    assert printed == ["[]", "1.0 1.0", "True True"]


def test_scikit_learn_that_is_loaded_is_left_alone():
    sklearn = importlib.import_module("sklearn")
    with scikit_learn_later() as missing:
        assert not missing
        assert sys.modules["sklearn"] is sklearn
    assert sys.modules["sklearn"] is sklearn


def test_torchvision_loads_whatever_build_it_is(run_script):
    printed = run_script(
        """
        import torch
        original = torch.library.register_fake
        import importlib.util, sys
        sys.modules["fastreid"] = None
        from nplp.host.imports import bridge_torchvision
        try:
            bridged = bridge_torchvision()
            import torchvision.transforms as T
        finally:
            print(torch.library.register_fake is original)
        from PIL import Image
        print(T.Resize((4, 2))(Image.new("RGB", (8, 8))).size, bridge_torchvision())
        try:
            torch.ops.torchvision.nms
            print("operators", bridged)
        except AttributeError:
            print("no operators", bridged)
        """
    ).splitlines()
    assert printed[:2] == ["True", "(2, 4) False"]
    assert printed[2] in ("operators False", "no operators True")


def test_only_missing_torchvision_operators_are_skipped(run_script, fake_torchvision):
    printed = run_script(
        """
        import sys
        sys.modules["fastreid"] = None
        import torch
        from nplp.host.imports import bridge_torchvision
        original = torch.library.register_fake
        print(bridge_torchvision())
        print(torch.ops.torchvision.present(torch.empty(3, device="meta")).shape[0])
        del sys.modules["torchvision"]
        sys.path.insert(0, sys.path[0] + "/elsewhere")
        try:
            bridge_torchvision()
        except RuntimeError as error:
            print("elsewhere::absent" in str(error), torch.library.register_fake is original)
        """,
        PYTHONPATH=str(fake_torchvision.parent),
    )
    assert printed.split() == ["True", "7", "True", "True"]


def test_an_imported_torchvision_is_left_alone(monkeypatch):
    assert "torchvision" in sys.modules
    assert bridge_torchvision() is False


def test_collections_names_are_offered_and_taken_back():
    assert not hasattr(collections, "Mapping")
    with old_collections_names() as missing:
        assert missing
        assert collections.Mapping is collections.abc.Mapping
    assert not hasattr(collections, "Mapping")


def test_collections_that_still_have_the_name_keep_it(monkeypatch):
    own = object()
    monkeypatch.setattr(collections, "Mapping", own, raising=False)
    with old_collections_names() as missing:
        assert not missing
        assert collections.Mapping is own
    assert collections.Mapping is own


def test_torch_six_is_offered_and_taken_back():
    with old_torch_six() as missing:
        assert missing
        from torch._six import string_classes

        assert isinstance("text", string_classes)
    assert "torch._six" not in sys.modules


def test_torch_six_that_exists_is_left_alone(monkeypatch):
    module = type(sys)("torch._six")
    module.__spec__ = torch.__spec__
    monkeypatch.setitem(sys.modules, "torch._six", module)
    with old_torch_six() as missing:
        assert not missing
    assert sys.modules["torch._six"] is module


def test_names_are_taken_back_when_the_import_fails():
    with pytest.raises(KeyError), old_collections_names(), old_torch_six():
        raise KeyError
    assert not hasattr(collections, "Mapping")
    assert "torch._six" not in sys.modules


def test_numpy_bool_is_given_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(np, "bool", np.bool_, raising=False)
    monkeypatch.delattr(np, "bool")
    assert bridge_numpy_bool()
    assert np.bool is np.bool_
    assert bridge_numpy_bool() is False


def test_numpy_2_keeps_its_bool():
    if int(np.__version__.split(".")[0]) < 2:
        pytest.skip("numpy 1 has no np.bool of its own")
    before = np.bool
    assert bridge_numpy_bool() is False
    assert np.bool is before


def test_the_toolbox_imports_and_bridging_twice_changes_nothing(run_script):
    printed = run_script(
        """
        import collections, sys
        from nplp import host
        host.apply()
        import fastreid.engine, fastreid.data.build, fastreid.evaluation
        from fastreid.data.transforms import functional
        from fastreid.modeling.backbones import resnet
        from fastreid.utils import comm, compute_dist

        def replaced():
            return [
                fastreid.engine.launch, fastreid.engine.defaults.AMPTrainer, fastreid.data.build.DataLoaderX,
                compute_dist.compute_jaccard_distance, compute_dist.compute_euclidean_distance,
                functional.to_tensor, comm._serialize_to_tensor, resnet.init_pretrained_weights,
                fastreid.evaluation.reid_evaluation.compile_helper,
            ]

        first = replaced()
        print(*{item.__module__.split(".")[0] for item in first})
        host.apply()
        print(all(a is b for a, b in zip(first, replaced(), strict=True)))
        print(hasattr(collections, "Mapping"), "torch._six" in sys.modules)
        """
    )
    assert printed.split() == ["nplp", "True", "False", "False"]


@pytest.mark.parametrize("first", ["fastreid", "fastreid.engine", "fastreid.modeling"])
def test_the_toolbox_may_be_imported_before_even_in_vain(run_script, first):
    printed = run_script(
        f"""
        import importlib, sys
        import fastreid.config
        try:
            importlib.import_module("{first}")
        except Exception:
            pass
        own = fastreid.config.CfgNode
        import nplp.engine.pipeline
        import fastreid, fastreid.data.build, fastreid.evaluation
        from nplp.data.datasets import DATASET_REGISTRY
        assert fastreid.config.CfgNode is own
        assert fastreid.evaluation.reid_evaluation.compile_helper.__module__.startswith("nplp")
        assert fastreid.modeling.backbones.build.BACKBONE_REGISTRY.get("build_narrow_resnet_backbone")
        assert fastreid.data.build.DATASET_REGISTRY is DATASET_REGISTRY
        for name, module in list(sys.modules.items()):
            package, _, child = name.rpartition(".")
            if name.startswith("fastreid."):
                assert getattr(sys.modules[package], child, None) is not None, name
        print("whole")
        """
    )
    assert printed.split()[-1] == "whole"


def test_without_the_toolbox_nothing_happens_and_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastreid", None)
    host.apply()
    with pytest.raises(ImportError, match=r"not installed; .*pip install --no-deps fastreid==1\.4\.0$"):
        host.require_fastreid()


def test_the_version_of_the_bridges_is_taken_and_another_named(run_script):
    host.require_fastreid()
    printed = run_script(
        """
        import importlib.metadata
        own = importlib.metadata.version
        importlib.metadata.version = lambda name: "1.3.0" if name == "fastreid" else own(name)
        from nplp.losses import CenterContrastiveLoss
        import nplp, sys
        print("fastreid" in sys.modules)
        try:
            nplp.add_nplp_config
        except ImportError as error:
            print(error)
        """
    )
    assert printed.splitlines() == [
        "False",
        "this part of nplp needs fastreid 1.4.0, but version 1.3.0 is installed; install it with: "
        "pip install --no-deps fastreid==1.4.0",
    ]


def test_sources_of_the_toolbox_that_are_not_installed_are_taken(monkeypatch):
    def version(name):
        raise host.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(host.importlib.metadata, "version", version)
    assert host.toolbox_fault() == ""
