"""``nplp embed``: what it writes, and what it refuses before it works."""

import csv
import os

import numpy as np
import pytest

from nplp.search import load_model


def test_features_of_a_folder(nplp, run_folder, crops):
    code, shown = nplp("embed", "--model", run_folder, "--images", "crops", "--output", "e.npz")
    assert (code, shown.out) == (0, "e.npz: 60 images, 32 values each, by model_final.pth of the run site\n")
    with np.load("e.npz", allow_pickle=False) as found:
        assert set(found.files) == {"paths", "features", "cameras", "model"}
        assert found["features"].dtype == np.float32
        assert sorted(set(found["cameras"])) == ["gate", "hall é"]
        expected = load_model(run_folder).embed(found["paths"].tolist(), found["cameras"].tolist())
        assert np.array_equal(found["features"], expected)


def test_features_of_a_table_with_other_columns_and_without_cameras(nplp, run_folder, crops):
    paths = sorted(crops.rglob("*.png"))[:3]
    with open("table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file"], *[[os.path.relpath(path)] for path in paths]])
    code, shown = nplp(
        *("embed", "--model", run_folder, "--images", "table.csv", "--columns", "path=file"),
        *("--output", "e.npz", "--batch", "2"),
    )
    assert code == 0, shown.err
    with np.load("e.npz", allow_pickle=False) as found:
        assert "cameras" not in found.files
        assert [os.path.samefile(a, b) for a, b in zip(found["paths"], paths, strict=True)] == [True] * 3


def test_unreadable_images_end_it_or_are_left_out(nplp, run_folder, crops):
    (crops / "gate" / "broken.png").write_text("no image")
    words = ("embed", "--model", run_folder, "--images", "crops", "--output", "e.npz")
    code, shown = nplp(*words)
    assert code == 2
    assert "nplp embed: 1 of 61 images cannot be read" in shown.err
    assert "--skip-unreadable" in shown.err
    assert not os.path.exists("e.npz")
    code, shown = nplp(*words, "--skip-unreadable")
    assert (code, shown.out.split(",")[0]) == (0, "e.npz: 60 images")
    assert "left out" in shown.err
    assert "broken.png (not an image)" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "e.csv"], "--output must end in .npz, got 'e.csv'"),
        (["--output", "absent/e.npz"], "there is no folder 'absent', make it first"),
        (["--output", "taken.npz"], "'taken.npz' is there already: add --overwrite"),
        (["--output", "e.npz", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["--output", "e.npz", "--images", "absent"], "'absent' does not exist"),
        (["--output", "e.npz", "--model", "absent"], "there is no model 'absent'"),
        (["--output", "e.npz", "--columns", "path"], "--columns must be OURS=THEIRS"),
        (["--output", "e.npz", "--camera-pattern", "c[0-9"], "is no regular expression"),
        ([], "the following arguments are required: --output"),
    ],
)
def test_a_mistake_is_one_line(nplp, run_folder, crops, words, said):
    with open("taken.npz", "w") as file:
        file.write("mine")
    code, shown = nplp("embed", "--model", run_folder, "--images", "crops", *words)
    assert code == 2
    assert shown.err.startswith("nplp embed: ")
    assert said in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")
    assert sorted(os.listdir()) == ["crops", "taken.npz"]
    with open("taken.npz") as file:
        assert file.read() == "mine"


def test_overwriting_is_asked_for(nplp, run_folder, crops):
    with open("e.npz", "w") as file:
        file.write("old")
    words = ("embed", "--model", run_folder, "--images", "crops", "--output", "e.npz", "--overwrite")
    assert nplp(*words)[0] == 0
    assert len(np.load("e.npz", allow_pickle=False)["paths"]) == 60
