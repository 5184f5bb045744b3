"""The command line of training: help, and one line with exit code 2 for every mistake."""

from pathlib import Path

import pytest
import torch

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


MISTAKES = {
    "no config file": ([], "--config-file"),
    "unknown argument": (["--config-file", CONFIG, "--sources", "x"], "--sources"),
    "missing config file": (["--config-file", "nowhere.yml"], "nowhere.yml"),
    "a folder as config file": (["--config-file", str(ROOT)], str(ROOT)),
    "unknown key": (["--config-file", CONFIG, "NPLP.ALFA", "1"], "NPLP.ALFA"),
    "odd pairs": (["--config-file", CONFIG, "NPLP.ALPHA"], "KEY VALUE"),
    "value of another type": (["--config-file", CONFIG, "NPLP.ITERATIONS", "many"], "NPLP.ITERATIONS"),
    "value out of range": (["--config-file", CONFIG, "NPLP.ALPHA", "1.2"], "NPLP.ALPHA must be in (0, 1]"),
    "machines that cannot meet": (["--config-file", CONFIG, "--num-machines", "2"], "dist_url"),
    "text for a number of processes": (["--config-file", CONFIG, "--num-gpus", "two"], "--num-gpus"),
    "unknown data set": (["--config-file", CONFIG, "DATASETS.TESTS", "('Nowhere',)"], "Nowhere"),
    "unwritable output": (["--config-file", CONFIG, "OUTPUT_DIR", "/proc/nplp"], "OUTPUT_DIR"),
    "missing weights": (["--config-file", CONFIG, "--eval-only", "MODEL.WEIGHTS", "no.pth"], "no.pth"),
    "unknown backbone": (["--config-file", CONFIG, "MODEL.BACKBONE.NAME", "build_nothing"], "build_nothing"),
    "missing backbone weights": (
        [
            "--config-file",
            CONFIG,
            "MODEL.BACKBONE.PRETRAIN",
            "True",
            "MODEL.BACKBONE.PRETRAIN_PATH",
            "no.pth",
        ],
        "PRETRAIN_PATH",
    ),
    "unknown depth": (["--config-file", CONFIG, "MODEL.BACKBONE.DEPTH", "19x"], "19x"),
    "wrong feature width": (["--config-file", CONFIG, "MODEL.BACKBONE.FEAT_DIM", "2048"], "FEAT_DIM"),
    "more stripes than rows": (["--config-file", CONFIG, "MODEL.HEADS.PAP", "9"], "MODEL.HEADS.PAP"),
    "unknown meta-architecture": (["--config-file", CONFIG, "MODEL.META_ARCHITECTURE", "NPLQ"], "NPLQ"),
    "unknown loss": (["--config-file", CONFIG, "MODEL.LOSSES.NAME", "('Hinge',)"], "Hinge"),
    "unknown optimiser": (["--config-file", CONFIG, "SOLVER.OPT", "Adamm"], "Adamm"),
    "unknown sampler": (["--config-file", CONFIG, "DATALOADER.SAMPLER_TRAIN", "Foo"], "Foo"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_code_two(call, synthetic_root, tmp_path, mistake):
    arguments, named = MISTAKES[mistake]
    given = set(arguments)
    options = tiny_options(synthetic_root, tmp_path / "run")
    pairs = [
        part for i in range(0, len(options), 2) if options[i] not in given for part in options[i : i + 2]
    ]
    config_given = (
        "--config-file" in arguments and "--sources" not in arguments and arguments[-1] != "NPLP.ALPHA"
    )
    code, shown = call(*arguments, *(pairs if config_given else []))
    assert code == 2
    last = shown.err.strip().splitlines()[-1]
    assert named in last
    assert "Traceback" not in shown.err + shown.out
    assert not (tmp_path / "run" / "results.json").exists()


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


def test_an_interrupted_run_says_how_to_go_on(call, monkeypatch, synthetic_root, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nplp.engine.pipeline.run", interrupt)
    code, shown = call("--config-file", CONFIG, *tiny_options(synthetic_root, tmp_path / "run"))
    assert code == 130
    assert "--resume" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu(call, synthetic_root, tmp_path):
    options = tiny_options(synthetic_root, tmp_path / "run")
    options[options.index("MODEL.DEVICE") + 1] = "cuda"
    code, shown = call("--config-file", CONFIG, *options, "SOLVER.AMP.ENABLED", "True")
    assert code == 0, shown.err
    assert "Final" in shown.out
