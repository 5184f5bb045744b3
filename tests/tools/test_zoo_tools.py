"""From a finished run to a bundle that is listed, described, verified and evaluated, by command line."""

import json
import shutil
from pathlib import Path

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.export.verification import Check
from nplp.weights.zoo import write_sums
from tiny import make_tiny_cfg, tiny_options

ROOT = Path(__file__).parents[2]
CONFIG = ["--config-file", str(ROOT / "configs" / "NPLP" / "quickstart.yml")]

STEERING = "\x1b[2J\u202e"
"""Clears a terminal, and turns the letters after it round."""


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


@pytest.fixture
def stranger(tmp_path):
    """A bundle whose texts would clear the screen and turn letters round, in a folder of such a name."""
    folder = tmp_path / "zoo" / f"red{STEERING}"
    folder.mkdir(parents=True)
    final = dict.fromkeys(("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"), 1.0)
    results = {"final": final, "programs": {f"onnx{STEERING}": {}}}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "model.pth").write_bytes(b"weights")
    (folder / "README.md").write_text(f"# card{STEERING}\n")
    (folder / "model_zoo_row.md").write_text(f"| red{STEERING} | - | 1 | 1 | 1 | - |\n")
    (folder / "config.yaml").write_text("OUTPUT_DIR: /home/someone\n")
    return write_sums(folder).folder


@pytest.mark.parametrize(
    ("words", "code"),
    [(["list"], 0), (["list", "--markdown"], 0), (["info"], 0), (["verify"], 1)],
    ids=["list", "markdown", "info", "verify"],
)
def test_a_strangers_text_does_not_steer_the_terminal(stranger, load_tool, call_tool, words, code):
    found, shown = call_tool(load_tool("model_zoo"), [*words, str(stranger)])
    assert found == code, shown
    assert "\\x1b[2J" in shown.out
    assert "\\u202e" in shown.out
    for text in (shown.out, shown.err):
        assert not set(STEERING) & set(text) - set("[2J")


def test_a_mistake_does_not_steer_the_terminal_either(stranger, load_tool, call_tool, tmp_path):
    (stranger / "SHA256SUMS").write_text("nonsense")
    (tmp_path / "own.yaml").write_text(f'"red{json.dumps(STEERING)[1:-1]}": 1\n')
    for tool, words in (
        ("model_zoo", ["list", str(stranger)]),
        ("train_net", ["--config-file", str(tmp_path / "own.yaml"), "--eval-only"]),
    ):
        code, shown = call_tool(load_tool(tool), words)
        assert code == 2
        assert "red\\x1b" in shown.err.replace("\\\\", "\\")
        assert "\x1b" not in shown.err


@pytest.mark.parametrize("row", ["", "| a |\n| b |\n", "<script>alert(1)</script>", "| a | b |"])
def test_a_row_that_is_none_is_refused(stranger, load_tool, call_tool, row):
    (stranger / "model_zoo_row.md").write_text(row)
    write_sums(stranger)
    code, shown = call_tool(load_tool("model_zoo"), ["list", "--markdown", str(stranger)])
    assert code == 2
    assert "is not a row of the table" in shown.err


@pytest.mark.parametrize(
    ("states", "code"),
    [([True, True], 0), ([True, False], 1), ([None, False], 1), ([True, None], 3)],
)
def test_what_was_not_run_has_its_own_mark_and_code(
    stranger, load_tool, call_tool, monkeypatch, states, code
):
    checks = [Check("a program", state, "seen") for state in states]
    trusted = []

    def look(bundle, tolerance, measure, trust):
        trusted.append(trust)
        return iter(checks)

    monkeypatch.setattr("nplp.export.verification.verify_bundle", look)
    for words in ([], ["--trust"]):
        found, shown = call_tool(load_tool("model_zoo"), ["verify", str(stranger), *words])
        assert found == code
        marks = {True: "ok ", False: "BAD", None: "-- "}
        assert shown.out.splitlines()[1:] == [f"  {marks[state]} a program: seen" for state in states]
    assert trusted == [False, True]


def test_help_tells_the_codes_and_what_trust_means(load_tool, call_tool):
    shown = call_tool(load_tool("model_zoo"), ["--help"])[1].out
    assert "--trust" in shown
    assert "3  what was looked at is as recorded, but a program was not run" in shown
