"""From a folder of crops to a better model, by one call or one command."""

import json
import logging

import numpy as np
import pytest

from adapt_cases import SHORT
from nplp.adapt.request import Request, describe_choices, make_plan
from nplp.adapt.run import Products, adapt, resume
from nplp.adapt.timing import in_words
from nplp.errors import UserError
from nplp.search import Index, load_model
from nplp_commands import adapt as command
from tiny import TINY

WEIGHTS_ALONE = Products(onnx=False, index=False)


def request_of(images, source, output, /, **changes):
    fields = {"images": str(images), "weights": str(source), "output": str(output), "options": SHORT}
    return Request(**{**fields, **changes})


def test_it_leaves_a_model_an_index_and_a_page(adapted, crops):
    assert (adapted / "report.html").is_file()
    assert (adapted / "bundle" / "model.onnx").is_file()
    index = Index.load(adapted / "index")
    assert len(index) == len(list(crops.rglob("*.png"))) + len(list(crops.rglob("*.jpg")))
    model = load_model(adapted / "bundle")
    index.check_model(model)
    assert len(model.known_cameras) == 3
    first, camera = index.paths[5], index.cameras[5]
    hits = index.search(model.embed([first], [camera], progress=False), top=1)
    assert hits.paths[0][0] == first
    program = load_model(adapted / "bundle" / "model.onnx")
    given = (index.paths[:4], index.cameras[:4])
    assert np.allclose(program.embed(*given, progress=False), model.embed(*given, progress=False), atol=1e-4)


def test_nothing_is_claimed_of_people_whom_nobody_knows(adapted):
    results = json.loads((adapted / "results.json").read_text())
    assert "final" not in results
    line = json.loads((adapted / "pseudo_labels.jsonl").read_text().splitlines()[-1])
    assert "precision" not in line
    assert line["alpha_trials"]
    assert "Not measured" in (adapted / "bundle" / "README.md").read_text()


def test_the_last_line_is_the_verdict(adapted):
    """Two iterations of some twenty images teach nothing, and so it says."""
    verdict = json.loads((adapted / "results.json").read_text())["verdict"]
    assert verdict["word"] == "failed"
    lines = (adapted / "log.txt").read_text().splitlines()
    last = [line for line in lines if "nplp.adapt.run" in line][-1]
    assert "Verdict: failed: keep the old model" in last
    assert verdict["reasons"][0] in last


def test_the_log_tells_every_setting_and_its_reason(adapted):
    log = (adapted / "log.txt").read_text()
    for words in ("alpha", "input size", "as you set it", "Expected time", "3 cameras"):
        assert words in log


def test_the_settings_are_the_command_lines_where_it_has_some(adapted):
    config = (adapted / "config.yaml").read_text()
    assert "STEPS_PER_EPOCH: 2" in config
    assert "CAMERA_CENTERING: true" in config


def test_a_finished_run_can_be_resumed_into_the_same(adapted, caplog):
    before = (adapted / "bundle" / "model.safetensors").read_bytes()
    resume(str(adapted), [], WEIGHTS_ALONE)
    assert (adapted / "bundle" / "model.safetensors").read_bytes() == before


def test_a_guess_of_the_people_sets_alpha(crops, weights, tmp_path, capsys):
    guessed = request_of(crops, weights, tmp_path / "run", people=12)
    assert adapt(guessed, WEIGHTS_ALONE, dry_run=True) == {}
    assert "0.9 / 12 people, by your guess" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_source_models_size_is_that_of_training_and_of_testing(crops, weights, tmp_path):
    request = request_of(crops, weights, tmp_path / "run", options=("MODEL.DEVICE", "cpu"))
    plan = make_plan(request)
    assert plan.cfg.INPUT.SIZE_TRAIN == plan.cfg.INPUT.SIZE_TEST == [32, 16]
    row = next(line for line in describe_choices(plan).splitlines() if line.startswith("input size"))
    assert "32 x 16" in row
    assert "the source model's" in row


def test_more_iterations_do_not_begin_the_correcting_stage(crops, weights, tmp_path):
    plan = make_plan(request_of(crops, weights, tmp_path / "run", options=("NPLP.ITERATIONS", "40")))
    assert plan.cfg.NPLP.STARTUP_ITERATIONS >= plan.cfg.NPLP.ITERATIONS == 40


def test_what_says_which_images_holds_before_they_are_counted(weights, synthetic_root, tmp_path):
    sizes = [word for key, value in TINY.items() for word in (f"DATASETS.SYNTHETIC.{key}", str(value))]
    root = ("DATASETS.SYNTHETIC.ROOT", str(synthetic_root))
    plan = make_plan(request_of("SynthStation", weights, tmp_path / "run", options=(*sizes, *root)))
    assert len(plan.items) == TINY["TRAIN_IDENTITIES"] * TINY["IMAGES_PER_IDENTITY"]
    assert plan.tested > 0


def test_a_registered_data_set_with_identities_is_measured(weights, synthetic_root, tmp_path):
    sizes = [word for key, value in TINY.items() for word in (f"DATASETS.SYNTHETIC.{key}", str(value))]
    root = ("DATASETS.SYNTHETIC.ROOT", str(synthetic_root))
    station = request_of("SynthStation", weights, tmp_path / "run", options=(*SHORT, *sizes, *root))
    results = adapt(station, WEIGHTS_ALONE)
    assert {"direct_transfer", "final", "final_ema"} <= results.keys()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": "no such folder"}, "--images 'no such folder' is no folder, no table and no registered"),
        ({"people": 1}, "--people must be 2 or more, got 1"),
        ({"people": -4}, "--people must be 2 or more, got -4"),
        ({"weights": "no such file"}, "no such file"),
        ({"options": ("NPLP.ITERATION", "3")}, "NPLP.ITERATION"),
        ({"options": (*SHORT, "NPLP.ITERATIONS", "-1")}, "NPLP.ITERATIONS must be at least 0, got -1"),
        ({"options": ("MODEL.DEVICE", "gpu")}, "MODEL.DEVICE must be 'cpu' or 'cuda', got 'gpu'"),
        ({"camera_pattern": "(?P<door>x)"}, "camera"),
        ({"images": "SynthStation", "camera_pattern": "(?P<camera>x)"}, "--camera-pattern and --columns"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(crops, weights, tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason.replace("(", r"\(")) as caught:
        adapt(request_of(crops, weights, tmp_path / "run", **changes), WEIGHTS_ALONE)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_too_few_images(crops, weights, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(crops.rglob("*.*"))[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="there are 5 images to adapt to"):
        adapt(request_of(few, weights, tmp_path / "run"), WEIGHTS_ALONE)


def test_resuming_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="there is no run in"):
        resume(str(tmp_path / "nothing"), [], WEIGHTS_ALONE)


def test_one_folder_is_one_camera(crops, weights, tmp_path, caplog):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in crops.rglob("*.*"):
        (flat / path.name).write_bytes(path.read_bytes())
    caplog.set_level(logging.INFO)
    once = (*SHORT, "NPLP.ITERATIONS", "1")
    adapt(request_of(flat, weights, tmp_path / "run", options=once), WEIGHTS_ALONE)
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "CAMERA_CENTERING: false" in config
    assert (tmp_path / "run" / "bundle").is_dir()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "--output"),
        (["--output", "x"], "--images is missing"),
        (["--output", "x", "--images", "y"], "--weights is missing"),
        (
            ["--output", "x", "--resume", "--images", "y"],
            "--resume takes images and model from the run itself, got --images",
        ),
        (["--output", "x", "--resume", "--columns", "camera=c"], "got --columns: leave it out"),
        (["--output", "x", "--resume", "--skip-unreadable"], "got --skip-unreadable: leave it out"),
        (["--output", "x", "--resume", "--overwrite"], "--resume goes on with the run"),
        (
            ["--output", "x", "--images", "y", "--weights", "z", "--num-gpus", "0"],
            "--num-gpus must be at least",
        ),
    ],
)
def test_wrong_words_are_one_line(words, reason, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nplp adapt", *words])
    with pytest.raises(SystemExit) as caught:
        command.command_line()
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"), [(20, "about a minute"), (600, "about 10 minutes"), (9000, "about 2.5 hours")]
)
def test_durations_are_said_in_words(seconds, words):
    assert in_words(seconds) == words
