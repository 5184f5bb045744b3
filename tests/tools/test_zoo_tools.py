"""From a finished run to a bundle that is listed, described, verified and evaluated, by command line."""

import shutil
from pathlib import Path

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from tiny import make_tiny_cfg, tiny_options

ROOT = Path(__file__).parents[2]
CONFIG = ["--config-file", str(ROOT / "configs" / "NPLP" / "quickstart.yml")]


@pytest.fixture(scope="module")
def trained(synthetic_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("zoo_tools") / "run"
    cfg = make_tiny_cfg(synthetic_root, output, "NPLP.ITERATIONS", 1, narrow=False)
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    return [*tiny_options(synthetic_root, output, narrow=False), "NPLP.ITERATIONS", "1"]


@pytest.fixture
def export(load_tool, call_tool, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool = load_tool("export_model_zoo")
    return lambda *words: call_tool(tool, [*CONFIG, "--output", "zoo/tiny", *words, "--", *trained])


@pytest.mark.parametrize("name", ["export_model_zoo", "model_zoo"])
def test_help_suffices(load_tool, call_tool, name):
    tool = load_tool(name)
    code, shown = call_tool(tool, ["--help"])
    assert code == 0
    assert "examples" in shown.out
    assert "NPLP_ZOO" in shown.out


def test_a_run_becomes_a_bundle_that_holds_what_it_promises(export, load_tool, call_tool, tmp_path):
    code, shown = export()
    assert code == 0, shown
    assert "Direct transfer" in shown.out
    assert "model.onnx" in shown.out
    zoo = load_tool("model_zoo")
    code, shown = call_tool(zoo, ["list"])
    assert (code, shown.err) == (0, "")
    assert "tiny" in shown.out
    code, shown = call_tool(zoo, ["list", "zoo", "--markdown"])
    assert shown.out.splitlines()[0] == "| Method | Pretrained | Rank@1 | mAP | mINP | download |"
    assert "| [tiny (NPLP, R18)](" in shown.out
    code, shown = call_tool(zoo, ["info", "tiny"])
    assert shown.out.startswith("# tiny\n")
    code, shown = call_tool(zoo, ["verify"])
    assert code == 0, shown
    assert "BAD" not in shown.out
    assert "metrics: mAP" in shown.out
    code, shown = call_tool(
        load_tool("train_net"),
        ["--config-file", "zoo/tiny/config.yaml", "--eval-only", "MODEL.DEVICE", "cpu"],
    )
    assert code == 0, shown
    assert "tiny/model.pth" in shown.out


def test_a_bundle_elsewhere_is_evaluated_by_its_configuration(export, load_tool, call_tool, tmp_path):
    export("--formats")
    shutil.move(tmp_path / "zoo", tmp_path / "moved")
    words = ["--config-file", "moved/tiny/config.yaml", "--eval-only", "MODEL.DEVICE", "cpu"]
    code, shown = call_tool(load_tool("train_net"), words)
    assert code == 0, shown
    assert str(tmp_path / "moved" / "tiny" / "model.pth") in shown.out


def test_what_is_not_as_recorded_is_code_one(export, load_tool, call_tool, tmp_path):
    export("--formats")
    with open(tmp_path / "zoo" / "tiny" / "model.safetensors", "ab") as file:
        file.write(b"x")
    code, shown = call_tool(load_tool("model_zoo"), ["verify", "--no-evaluate"])
    assert code == 1
    assert "BAD files" in shown.out
    assert "model.safetensors" in shown.out


def test_force_exports_again(export):
    assert export("--formats")[0] == 0
    code, shown = export("--formats")
    assert code == 2
    assert "is not empty" in shown.err
    assert export("--formats", "--force", "--no-evaluate")[0] == 0
