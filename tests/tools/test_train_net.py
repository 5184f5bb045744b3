"""The command line of training: help, training, evaluating, resuming, interruptions."""

import argparse
from pathlib import Path

import pytest
import torch
from fastreid.modeling.meta_arch import build_model

from nplp.engine.setup import load_config
from nplp_commands import train
from tiny import tiny_options

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "NPLP" / "quickstart.yml")


@pytest.fixture
def call(load_tool, call_tool):
    tool = load_tool("train_net")
    return lambda *arguments: call_tool(tool, [str(argument) for argument in arguments])


def test_help_suffices(call):
    code, shown = call("--help")
    assert code == 0
    for word in (
        "--config-file",
        "--resume",
        "--eval-only",
        "--num-gpus",
        "KEY VALUE",
        "FASTREID_DATASETS",
        "examples",
    ):
        assert word in shown.out


def corrupt(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x04 not weights")
    return path


def build_untrained_model(options):
    """Return a model of a run's configuration, without a run."""
    cfg = load_config(argparse.Namespace(config_file=CONFIG, opts=[str(option) for option in options]))
    return build_model(cfg)


def final_row(shown):
    return next(line.split() for line in shown.splitlines() if line.startswith("Final"))


def test_training_evaluating_and_resuming_from_the_command_line(call, synthetic_root, tmp_path):
    options = tiny_options(synthetic_root, tmp_path / "run")
    code, shown = call("--config-file", CONFIG, *options)
    assert code == 0, shown.err
    assert "Direct transfer" in shown.out
    final = final_row(shown.out)
    code, shown = call("--config-file", CONFIG, "--eval-only", *options)
    assert code == 0
    assert final_row(shown.out) == final
    code, shown = call("--config-file", CONFIG, "--resume", *options)
    assert code == 0
    assert final_row(shown.out) == final
    code, shown = call("--config-file", CONFIG, "--eval-only", *options, "MODEL.WEIGHTS", corrupt(tmp_path))
    assert code == 2
    assert "cannot be read as weights" in shown.err


def test_what_was_used_of_strangers_weights_is_on_the_screen(call, synthetic_root, tmp_path):
    options = tiny_options(synthetic_root, tmp_path / "run")
    model = build_untrained_model(options)
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    del weights["module.backbone.stem.1.num_batches_tracked"]
    path = tmp_path / "strange.pth.tar"
    torch.save({"state_dict": {**weights, "module.heads.weight": torch.ones(751, 32)}}, path)
    code, shown = call("--config-file", CONFIG, "--eval-only", *options, "MODEL.WEIGHTS", path)
    assert code == 0, shown.err
    [line] = [line for line in shown.out.splitlines() if "tensors from" in line]
    assert f"from {path} (under 'state_dict'; 'module.' taken off)" in line
    assert "left out: heads.neck.* (4), heads.weight (751 identities)" in line


def test_an_interrupted_run_says_how_to_go_on(call, monkeypatch, synthetic_root, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nplp.engine.pipeline.run", interrupt)
    code, shown = call("--config-file", CONFIG, *tiny_options(synthetic_root, tmp_path / "run"))
    assert code == 130
    assert "--resume" in shown.err
    assert "Traceback" not in shown.err


def test_a_command_started_as_a_module_goes_on_as_one(monkeypatch):
    monkeypatch.setattr("sys.argv", [train.__file__, "--config-file", "a b.yml", "--overwrite", "SEED", "1"])
    said = train.how_to_go_on(argparse.Namespace(eval_only=False))
    assert said.endswith("\n  python -m nplp_commands.train --resume --config-file 'a b.yml' SEED 1")
    assert train.how_to_go_on(argparse.Namespace(eval_only=True)) == ""


def test_processes_communicate_from_the_configured_device(call, monkeypatch, synthetic_root, tmp_path):
    launched = []
    monkeypatch.setattr("nplp.distributed.processes.launch", lambda *args: launched.append(args))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    call("--config-file", CONFIG, "--num-gpus", "2", *tiny_options(synthetic_root, tmp_path / "run"))
    assert [args[-1] for args in launched] == ["cpu"]


def test_a_mistake_is_found_before_there_are_processes(call, monkeypatch):
    monkeypatch.setattr("nplp.distributed.processes.launch", lambda *args: pytest.fail("launched"))
    code, shown = call("--config-file", CONFIG, "--num-gpus", "2", "NPLP.ALPHA", "1.2")
    assert code == 2
    assert "NPLP.ALPHA must be in (0, 1], or auto, got 1.2" in shown.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu(call, synthetic_root, tmp_path):
    options = tiny_options(synthetic_root, tmp_path / "run")
    options[options.index("MODEL.DEVICE") + 1] = "cuda"
    code, shown = call("--config-file", CONFIG, *options, "SOLVER.AMP.ENABLED", "True")
    assert code == 0, shown.err
    assert "Final" in shown.out
