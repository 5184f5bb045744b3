"""The command line of the pseudo-label stage: its options, what it writes and what it says."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cluster_command_cases import ALPHA, COUNT, USUAL, FakeEstimate, command, saved, write_data
from nplp.clustering import PseudoLabels, choose_neighbours, estimate_pseudo_labels, label_quality
from nplp_commands import cluster as cluster_command

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pseudo_labels.md"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The arrays, which are also .npy files in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_data()


def test_everything_of_the_result_is_saved_with_its_settings(data: dict) -> None:
    assert command(*USUAL, "--noisy-fraction", "0.3") == 0
    content = saved()
    settings = json.loads(str(content.pop("settings")))
    assert settings["noisy_fraction"] == 0.3
    again = estimate_pseudo_labels(data["features"], data["cameras"], **settings)
    assert again.num_clusters > 5
    of_constraints = {"changes", "unconstrained_labels"}
    assert set(content) == {field.name for field in fields(PseudoLabels)} - of_constraints
    for name, array in content.items():
        np.testing.assert_array_equal(array, getattr(again, name), strict=True)
    assert content["labels"].dtype == np.int64


def test_the_same_input_gives_the_same_bytes() -> None:
    assert command(*USUAL) == 0
    first = Path("labels.npz").read_bytes()
    assert command(*USUAL, "--force", "--quiet") == 0
    assert Path("labels.npz").read_bytes() == first


def test_every_setting_has_an_option_with_the_librarys_default() -> None:
    parameters = inspect.signature(estimate_pseudo_labels).parameters.values()
    args = cluster_command.build_parser().parse_args(USUAL[:5])
    settings = {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in ("progress", "constraints", "also_at")
    }
    assert settings.items() <= vars(args).items()
    text = cluster_command.build_parser().format_help()
    for name in settings:
        option = "--no-correct" if name == "correct" else f"--{name.replace('_', '-')}"
        assert f"\n  {option} " in text or f"\n  {option}\n" in text


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ("--alpha 0.25", "alpha", 0.25),
        ("--beta 0.75", "beta", 0.75),
        ("--min-samples 3", "min_samples", 3),
        ("--noisy-fraction 0.2", "noisy_fraction", 0.2),
        ("--no-correct", "correct", False),
        ("--distance euclidean", "distance", "euclidean"),
        ("--assessment-distance euclidean", "assessment_distance", "euclidean"),
        ("--correction-distance euclidean", "correction_distance", "euclidean"),
        ("--k1 7", "k1", 7),
        ("--k2 2", "k2", 2),
        ("--distance camera_jaccard", "distance", "camera_jaccard"),
        ("--k1-intra 3", "k1_intra", 3),
        ("--k1-inter 9", "k1_inter", 9),
        ("--k2-intra 3", "k2_intra", 3),
        ("--k2-inter 3", "k2_inter", 3),
        ("--camera-centering", "camera_centering", True),
        ("--camera-scaling", "camera_scaling", True),
        ("--dissolved keep", "dissolved", "keep"),
        ("--reclustered-outliers rejoin", "reclustered_outliers", "rejoin"),
        ("--epsilon 0.5", "epsilon", 0.5),
        ("--quiet", "progress", False),
        ("", "progress", True),
    ],
)
def test_each_option_reaches_the_estimate(
    given: str, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = FakeEstimate()
    monkeypatch.setattr("nplp.clustering.estimate_pseudo_labels", estimate)
    assert command("features.npy", "--out", "labels.npz", *given.split()) == 0
    assert estimate.settings[name] == value
    assert type(estimate.settings[name]) is type(value)


def test_without_cameras_one_line_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("features.npy", "--out", "labels.npz", "--quiet") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("python -m nplp.clustering: warning: ")
    assert "all images" in err


def test_the_summary_tells_what_was_found(data: dict, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--noisy-fraction", "1", "--beta", "0.6"]
    assert command(*USUAL, *settings, "--identities", "identities.npy") == 0
    out, err = capsys.readouterr()
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    result = estimate_pseudo_labels(
        data["features"], data["cameras"], alpha=ALPHA, noisy_fraction=1, beta=0.6
    )
    quality = label_quality(result.labels, data["identities"], data["cameras"])
    noisy, gone = len(result.noisy_clusters), len(result.dissolved_clusters)
    assert noisy > gone > 0
    assert err == ""
    assert rows["images"] == "120 of 8 dimensions"
    assert rows["cameras"] == "4"
    assert rows["epsilon_e"].startswith(f"{result.epsilon_e:.6g}, the mean of {result.averaged_pairs} of ")
    assert rows["epsilon_c"] == f"{result.epsilon_c:.6g}"
    assert rows["clusters"] == f"{result.num_clusters}, {result.num_startup_clusters} before correction"
    assert rows["outliers"] == f"{result.num_outliers} ({result.num_outliers / COUNT:.1%} of the images)"
    assert rows["largest cluster"].startswith(f"{result.largest_cluster_share:.1%} ")
    assert rows["noisy clusters"] == f"{noisy}, of which {gone} dissolved"
    assert rows["lowest scores"].split(", ")[0] == f"{result.self_assessment.min():.3f}"
    assert rows["cross-camera recall"] == f"{quality.cross_camera_recall:.1%}"
    assert rows["F1"] == f"{quality.f1:.1%}"
    assert rows["time"].endswith(" s")


def test_the_summary_says_nothing_of_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("features.npy", "--out", "labels.npz", "--epsilon", "0.5", "--no-correct") == 0
    out = capsys.readouterr().out
    assert "unknown" in out
    assert not any(word in out for word in ("pairs", "noisy", "recall", "nan"))


def test_interrupting_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nplp.clustering.estimate_pseudo_labels", FakeEstimate(KeyboardInterrupt()))
    assert command(*USUAL) == 130
    assert capsys.readouterr() == ("", "\npython -m nplp.clustering: stopped\n")
    assert sorted(os.listdir()) == ["cameras.npy", "features.npy", "identities.npy"]


WITHOUT_TOOLBOX = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] == "fastreid" else find(name, *rest)
sys.modules["fastreid"] = None
runpy.run_module("nplp.clustering", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("how", [["-m", "nplp.clustering"], ["-c", WITHOUT_TOOLBOX]])
def test_it_runs_by_itself_with_the_toolbox_and_without(how: list[str], data: dict) -> None:
    done = subprocess.run(
        [sys.executable, *how, *USUAL],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("images ")
    expected = estimate_pseudo_labels(data["features"], data["cameras"], alpha=ALPHA)
    np.testing.assert_array_equal(saved()["labels"], expected.labels)


@pytest.mark.parametrize(
    "text", [cluster_command._EPILOG, PAGE.read_text(encoding="utf-8")], ids=["help", "page"]
)
def test_the_commands_that_are_shown_are_understood(text: str) -> None:
    shown = re.findall(r"python -m nplp\.clustering ((?:[^\n]*\\\n)*[^\n`]*)", text)
    assert len(shown) >= 2
    for line in shown:
        cluster_command.build_parser().parse_args(shlex.split(line.replace("\\\n", " ")))


def test_the_python_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks[0].splitlines()) <= 14
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["result"].num_clusters > 0


@pytest.mark.parametrize("value", [-1, 7])
def test_unknown_and_constant_identities_have_no_quality(
    data: dict, capsys: pytest.CaptureFixture[str], value: int
) -> None:
    np.save("constant.npy", np.full(COUNT, value))
    assert command(*USUAL, "--identities", "constant.npy") == 0
    out = capsys.readouterr().out
    assert "identities" in out
    assert "fewer than two are known" in out
    assert not re.search(r"^(precision|recall|F1|NMI)\b", out, re.MULTILINE)


def test_with_some_identities_the_quality_is_over_these(
    data: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    some = np.where(np.arange(COUNT) % 3, data["identities"], -1)
    np.save("some.npy", some)
    assert command(*USUAL, "--identities", "some.npy") == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    labels = estimate_pseudo_labels(data["features"], data["cameras"], alpha=ALPHA).labels
    quality = label_quality(labels[some >= 0], some[some >= 0], data["cameras"][some >= 0])
    assert rows["identities"] == "known for 80 of 120 images; the rows below are over these"
    assert rows["F1"] == f"{quality.f1:.1%}"


def test_the_camera_aware_distance_and_scaling_give_what_the_function_gives(data: dict) -> None:
    assert command(*USUAL, "--distance", "camera_jaccard", "--camera-centering", "--camera-scaling") == 0
    result = estimate_pseudo_labels(
        data["features"], data["cameras"], alpha=ALPHA, distance="camera_jaccard", camera_centering=True,
        camera_scaling=True,
    )  # fmt: skip
    assert result.num_clusters > 1
    np.testing.assert_array_equal(saved()["labels"], result.labels)


def test_the_camera_aware_distance_without_cameras_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("features.npy", "--out", "labels.npz", "--distance", "camera_jaccard") == 2
    assert "needs camera_ids, got None: give them, or take distance jaccard" in capsys.readouterr().err


def test_the_number_of_neighbours_is_chosen_where_it_is_auto(capsys: pytest.CaptureFixture) -> None:
    """Four people of 100 images, where a tenth of the images, 40, is the most that is tried."""
    people = np.repeat(np.arange(4), 100)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 16))[people] + 0.05 * rng.normal(size=(400, 16))
    np.save("many.npy", features)
    found = choose_neighbours(features, None, camera_centering=False)
    assert found.k1 == 40
    assert command("many.npy", "--out", "labels.npz", "--alpha", "0.01", "--k1", "auto", "--no-correct") == 0
    settings = json.loads(str(saved()["settings"]))
    assert (settings["k1"], settings["k2"]) == (40, 12)
    assert str(found) in capsys.readouterr().out
