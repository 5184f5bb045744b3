"""Reading arrays in every form, larger than memory too, and writing a result whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cluster_command_cases import ALPHA, USUAL, command, saved, write_data
from nplp import files
from nplp.clustering import estimate_pseudo_labels
from nplp_commands import array_files


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The arrays, which are also .npy files in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_data()


def write_forms(data: dict[str, np.ndarray]) -> None:
    """Write the arrays in every form that is read."""
    tensors = {name: torch.from_numpy(array) for name, array in data.items()}
    features = data["features"]
    np.save("double.npy", features.astype(np.float64))
    np.save("big_endian.npy", features.astype(">f4"))
    np.save("fortran.npy", np.asfortranarray(features))
    np.save("old.npy:new.npy", features)
    np.savez("one.npz", features)
    np.savez("all.npz", **data)
    np.savez_compressed("small.npz", **data)
    torch.save(tensors["features"], "tensor.pt")
    torch.save(torch.nn.Parameter(tensors["features"]), "parameter.pt")
    torch.save(tensors | {"epoch": 3}, "all.pth")
    torch.save({"features": tensors["features"], "names": ["a"]}, "one.pth")
    torch.save(tensors, "old.pt", _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("features", "cameras"),
    [
        ("double.npy", "cameras.npy"),
        ("big_endian.npy", "cameras.npy"),
        ("fortran.npy", "cameras.npy"),
        ("old.npy:new.npy", "cameras.npy"),
        ("one.npz", "all.npz:cameras"),
        ("all.npz:features", "all.pth:cameras"),
        ("small.npz:features", "small.npz:cameras"),
        ("tensor.pt", "old.pt:cameras"),
        ("parameter.pt", "cameras.npy"),
        ("all.pth:features", "cameras.npy"),
        ("one.pth", "cameras.npy"),
        ("old.pt:features", "cameras.npy"),
    ],
)
def test_every_form_of_file_gives_the_same_labels(features: str, cameras: str, data: dict) -> None:
    write_forms(data)
    assert command(features, "--cameras", cameras, "--out", "labels.npz", "--alpha", str(ALPHA)) == 0
    expected = estimate_pseudo_labels(data["features"], data["cameras"], alpha=ALPHA)
    np.testing.assert_array_equal(saved()["labels"], expected.labels)


def test_features_larger_than_memory_are_mapped() -> None:
    shape = (1 << 28, 1024)
    with open("huge.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            file.truncate(file.tell() + 4 * shape[0] * shape[1])  # 1 TiB of nothing
        except OSError:
            pytest.skip("the file system has no sparse files of 1 TiB")
    features = array_files.read_features("huge.npy")
    assert tuple(features.shape) == shape
    assert not features[-1].any()


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(
    failure: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("labels.npz").write_text("old")
    listed = set(tmp_path.iterdir())

    def fail(descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(files.os, "fsync", fail)
    code = command(*USUAL, "--force")
    assert code == (130 if isinstance(failure, KeyboardInterrupt) else 2)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert Path("labels.npz").read_text() == "old"
    assert set(tmp_path.iterdir()) == listed


def test_the_file_has_the_modes_of_any_new_file() -> None:
    assert command(*USUAL) == 0
    Path("other").write_text("")
    assert Path("labels.npz").stat().st_mode == Path("other").stat().st_mode
