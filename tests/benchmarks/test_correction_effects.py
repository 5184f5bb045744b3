"""What correction removes, counted by hand."""

import json

import numpy as np
import pytest

import correction_effects
from correction_effects import effects, pairs_of
from nplp.errors import UserError

IDENTITIES = np.array([0, 0, 0, 1, 1, 2, 2, 2])
CAMERAS = np.array([0, 0, 1, 0, 1, 0, 0, 0])
STARTUP = np.array([0, 0, 0, 0, 0, 1, 1, -1])


def test_pairs_are_counted_within_clusters():
    # Cluster 0: 10 pairs, of which 3 + 1 right, 2 + 1 of them across cameras. Cluster 1: one, right.
    assert pairs_of(STARTUP, IDENTITIES, CAMERAS).tolist() == [6, 5, 3]
    assert pairs_of(np.full(8, -1), IDENTITIES, CAMERAS).tolist() == [0, 0, 0]


def test_effects_are_shares_of_what_was_there_before():
    after = np.array([1, 1, -1, -1, -1, 0, 0, -1])
    found = effects(STARTUP, after, np.array([0]), IDENTITIES, CAMERAS)
    assert found == pytest.approx(
        {
            "people": 2,
            "people_elsewhere": 1,
            "touched": 100 * 5 / 7,
            "dropped": 60,
            "wrong_removed": 100,
            "right_removed": 100 * 3 / 5,
            "right_across": 100,
            "across": 60,
        }
    )


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has no checkpoint"):
        list(correction_effects.measure(tmp_path))


def test_means_over_runs_are_shown_and_kept(tmp_path, monkeypatch, capsys):
    values = {"seed0": 10.0, "seed1": 20.0}
    monkeypatch.setattr(
        correction_effects,
        "measure",
        lambda folder: [("form", dict.fromkeys(correction_effects.COLUMNS, values[folder.parent.name]))],
    )
    words = [str(tmp_path / setting / seed / "startup") for setting in "xy" for seed in values]
    words += ["--output", str(tmp_path / "kept.json")]
    correction_effects.main(correction_effects.build_parser().parse_args(words))
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| form")]
    assert rows == [["form", *["15.0"] * len(correction_effects.COLUMNS)]] * 2
    assert sum(line.endswith(", 2 runs") for line in lines) == 2
    kept = json.loads((tmp_path / "kept.json").read_text())["runs"]
    assert [run["form"]["people"] for run in kept.values()] == [10, 20, 10, 20]
