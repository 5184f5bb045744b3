"""Every mistake is one line and exit code 2, and nothing is written or run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster_command_cases import COUNT, FakeEstimate, command, write_data

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody may write to")


class Intruder:
    """Unpickling this makes a folder."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("intruded",)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The arrays, which are also .npy files in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_data()


def write_bad_files(data: dict[str, np.ndarray]) -> None:
    """Write the files that the mistakes below name."""
    features, whole = data["features"], Path("features.npy").read_bytes()
    broken = features.copy()
    broken[5, 2] = np.nan
    np.save("nan.npy", broken)
    np.save("complex.npy", features.astype(np.complex64))
    np.save("flat.npy", features.ravel())
    np.save("single.npy", features[:1])
    np.save("empty.npy", features[:0])
    np.save("short.npy", data["cameras"][1:])
    np.save("halves.npy", data["cameras"] + 0.5)
    np.save("objects.npy", np.array([Intruder()]), allow_pickle=True)
    np.savez("objects.npz", features=np.array([Intruder()]))
    np.savez("all.npz", **data)
    np.savez("none.npz")
    np.savez("taken.npz", features=features)
    torch.save({name: torch.from_numpy(array) for name, array in data.items()}, "all.pt")
    torch.save(Intruder(), "objects.pt")
    torch.save([1, 2], "list.pt")
    torch.save(torch.from_numpy(features).to_sparse(), "sparse.pt")
    torch.save(torch.zeros(COUNT, dtype=torch.bool), "flags.pt")
    Path("cut.npy").write_bytes(whole[:-100])
    Path("header.npy").write_bytes(whole[:40])
    Path("cut.npz").write_bytes(Path("all.npz").read_bytes()[:-100])
    Path("cut.pt").write_bytes(Path("all.pt").read_bytes()[:-100])
    for name in ("noise.npy", "noise.npz", "noise.pth", "features.csv"):
        Path(name).write_text("1.0, 2.0\n" * 9)
    for name in ("folder.npy", "folder.npz"):
        Path(name).mkdir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        # features
        ("absent.npy", "absent.npy does not exist"),
        ("folder.npy", "folder.npy is not a file"),
        ("features.csv", "features.csv must end in one of .npy, .npz, .pt, .pth"),
        ("flat.npy", r"must be of shape \[N, D\], got \[960\]"),
        ("nan.npy", "NaN.*row 5"),
        ("complex.npy", "real numbers, got complex64"),
        ("single.npy", "at least 2 images, got 1"),
        ("empty.npy", "at least 2 images, got 0|cannot be read"),
        # files that are damaged, or no such files at all
        ("cut.npy", "cut.npy cannot be read .*as numpy.save writes it"),
        ("header.npy", "header.npy cannot be read"),
        ("cut.npz:features", "cut.npz cannot be read .*as numpy.savez writes it"),
        ("cut.pt:features", "cut.pt cannot be read .*as torch.save writes it"),
        ("noise.npy", "noise.npy cannot be read"),
        ("noise.npz", "noise.npz cannot be read"),
        ("noise.pth", "noise.pth cannot be read"),
        # files that would run code
        ("objects.npy", "objects.npy cannot be read .*Python objects.*numbers alone"),
        ("objects.npz", "objects.npz cannot be read .*allow_pickle.*numbers alone"),
        ("objects.pt", "objects.pt cannot be read .*could run code.*numbers alone"),
        # keys
        (
            "all.npz --out labels.npz",
            "3 arrays; choose one as all.npz:KEY from features, cameras, identities",
        ),
        ("all.pt", "3 arrays; choose one as all.pt:KEY from features, cameras, identities"),
        ("all.npz:feature", "no array 'feature'; it holds features, cameras"),
        ("all.pt:feature", "no array 'feature'; it holds features, cameras"),
        ("features.npy:key", "one array without a key; leave out :key"),
        ("flags.pt:key", "one array without a key; leave out :key"),
        ("none.npz", "none.npz holds no arrays"),
        ("list.pt", "a tensor or a dict of tensors, got a list"),
        ("sparse.pt", "sparse.pt must be a dense tensor"),
        # ids
        ("features.npy --cameras short.npy", r"--cameras short.npy .*\[120\].*got \[119\]"),
        ("features.npy --cameras features.npy", r"--cameras .*got \[120, 8\]"),
        ("features.npy --cameras halves.npy", "--cameras .*integers, got float64"),
        ("features.npy --cameras flags.pt", "--cameras .*integers, got bool"),
        ("features.npy --identities short.npy", "--identities short.npy must be of shape"),
        ("features.npy --identities absent.npy", "absent.npy does not exist"),
        # settings
        ("features.npy --alpha 1.2", r"alpha must be in \(0, 1\], got 1.2"),
        ("features.npy --beta 0", r"beta must be in \(0, 1\], got 0.0"),
        ("features.npy --noisy-fraction nan", r"noisy_fraction must be in \(0, 1\], got nan"),
        ("features.npy --min-samples 0", "min_samples must be .* at least 1, got 0"),
        ("features.npy --k1 2.5", "--k1: must be a whole number or auto, got '2.5'"),
        ("unread.npy --k1 auto --distance euclidean", "--k1 auto is for --distance jaccard"),
        ("features.npy --epsilon -1", "epsilon must be .*at least 0.*got -1.0"),
        ("features.npy --distance cosine", "distance must be one of .*got 'cosine'"),
        ("features.npy --assessment-distance l2", "assessment_distance must be .*got 'l2'"),
        ("features.npy --correction-distance l2", "correction_distance must be .*got 'l2'"),
        ("features.npy --dissolved split", "dissolved must be one of .*got 'split'"),
        ("features.npy --reclustered-outliers lose", "reclustered_outliers must be one of .*got 'lose'"),
        ("features.npy --gamma 1", "unrecognized arguments: --gamma 1"),
        # the file to write
        ("features.npy --out labels.npy", "--out must end in .npz, got labels.npy"),
        ("features.npy --out absent/labels.npz", "the folder absent does not exist"),
        ("features.npy --out folder.npz", "--out folder.npz is a folder"),
        ("features.npy --out taken.npz", "taken.npz is there already; add --force"),
        ("taken.npz --out ./taken.npz --force", "taken.npz is one of the inputs"),
        ("taken.npz:features --out taken.npz --force", "taken.npz is one of the inputs"),
        pytest.param("features.npy --out /proc/labels.npz", "cannot write into /proc", marks=NEEDS_PROC),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, said: str, tmp_path: Path, data: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bad_files(data)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    given = arguments.split()
    assert command(*given, "--quiet", *([] if "--out" in given else ["--out", "labels.npz"])) == 2
    out, err = capsys.readouterr()
    *warned, last = err.splitlines()
    assert re.search(said, last), last
    assert last.startswith("python -m nplp.clustering: ")
    assert all("camera_ids" in line for line in warned)
    assert out == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(("given", "missing"), [([], "FEATURES, --out"), (["features.npy"], "--out")])
def test_what_is_missing_is_one_line(
    given: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*given) == 2
    err = capsys.readouterr().err
    assert err.startswith("python -m nplp.clustering: ")
    assert err.endswith(f"required: {missing}\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("out", ["absent/labels.npz", "cameras.npz", "labels.txt"])
def test_the_file_to_write_is_checked_before_the_work(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nplp.clustering.estimate_pseudo_labels", FakeEstimate(AssertionError("it ran")))
    np.savez("cameras.npz")
    assert command("features.npy", "--out", out) == 2
