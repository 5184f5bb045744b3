"""What a file that is named as weights is: read, or named in one line."""

import argparse
import gzip
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nplp.errors import UserError
from nplp.weights.files import read_weights_file
from weight_forms import save_score_of_numpy_1


class Intruder:
    """Unpickling this makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("intruded",)


def save_program(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def save_exported(path):
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), str(path))


def save_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "weights")


def save_tar(path):
    Path("readme.txt").write_text("weights")
    with tarfile.open(path, "w") as archive:
        archive.add("readme.txt")


def save_torn(path, **options):
    torch.save({"a": torch.arange(100.0)}, path, **options)
    path.write_bytes(path.read_bytes()[:-100])


def save_altered(path):
    values = torch.arange(100.0)
    torch.save({"a": values}, path)
    content = bytearray(path.read_bytes())
    content[content.index(values.numpy().tobytes())] ^= 1
    path.write_bytes(content)


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 738079\n"
TENSORS = {"a": torch.ones(2)}
FILES = {
    "nothing": (lambda path: None, "do not exist"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "an empty file": (lambda path: path.touch(), "it is empty"),
    "a web page": (
        lambda path: path.write_text("\n<!DOCTYPE html><html><head><title>Google Drive"),
        "a web page: the download failed",
    ),
    "a pointer of Git LFS": (lambda path: path.write_text(LFS), "a pointer of Git LFS"),
    "a Keras file": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file"),
    "an ONNX model": (
        lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.0.0" + bytes(99)),
        "an ONNX model",
    ),
    "a TorchScript program": (save_program, "a TorchScript program, whose code would run"),
    "an exported program": (save_exported, r"an exported program \(.pt2\), whose code would run"),
    "an array": (lambda path: np.save(path.open("wb"), np.ones(3)), "a NumPy array"),
    "arrays": (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "an archive of NumPy arrays"),
    "a zip archive": (save_zip, r"a zip archive of other files \(readme.txt\): unpack it"),
    "a tar archive": (save_tar, "a tar archive: unpack it"),
    "a compressed file": (
        lambda path: path.write_bytes(gzip.compress(pickle.dumps(TENSORS))),
        "a compressed archive: unpack it",
    ),
    "a JSON text": (lambda path: path.write_text(json.dumps({"a": [1]}, indent=1)), "a JSON text"),
    "text": (lambda path: path.write_text("no weights"), "torn or of another kind"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 8), "torn or of another kind"),
    "a torn file": (save_torn, "torn"),
    "a torn file of the old format": (
        lambda path: save_torn(path, _use_new_zipfile_serialization=False),
        "torn",
    ),
    "a torn safetensors file": (
        lambda path: path.write_bytes((20).to_bytes(8, "little") + b'{"a": {"dtype": "F3' + bytes(99)),
        "torn",
    ),
    "an altered tensor": (save_altered, "was altered"),
    "a pickle": (
        lambda path: path.write_bytes(pickle.dumps({"a": 3}, protocol=2)),
        "a pickle that torch.save did not write, and it would run code",
    ),
    "a pickle that runs code": (
        lambda path: path.write_bytes(pickle.dumps(Intruder(), protocol=2)),
        r"it would run code, as it holds \w+\.mkdir",
    ),
    "a newer pickle that runs code": (
        lambda path: path.write_bytes(pickle.dumps(Intruder(), protocol=5)),
        "a pickle that torch.save did not write, and it would run code",
    ),
    "a newer pickle of torch": (
        lambda path: torch.save({"a": Intruder()}, path, pickle_protocol=4),
        "pickle protocol is not one that is read without running code",
    ),
    "code beside weights": (
        lambda path: torch.save({"model": TENSORS, "extra": Intruder()}, path),
        r"it would run code, as it holds \w+\.mkdir",
    ),
    "code in the old format": (
        lambda path: torch.save({"a": Intruder()}, path, _use_new_zipfile_serialization=False),
        r"it would run code, as it holds \w+\.mkdir",
    ),
    "a whole model": (
        lambda path: torch.save(torch.nn.Linear(2, 2), path),
        r"it would run code, as it holds torch\.nn\.modules\.linear\.Linear",
    ),
    "the training's arguments": (
        lambda path: torch.save({"model": TENSORS, "args": argparse.Namespace(lr=1)}, path),
        r"it would run code, as it holds argparse\.Namespace",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, message = FILES[kind]
    write(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message) as caught:
        read_weights_file(str(tmp_path / "weights.pth"))
    assert str(caught.value).startswith(("the weights", repr(str(tmp_path / "weights.pth"))))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_what_would_run_code_is_not_called_torn(tmp_path):
    torch.save({"extra": Intruder()}, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        read_weights_file(str(tmp_path / "w.pth"))
    assert "torn" not in str(caught.value)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "number", [np.float64(0.75), np.float32(0.75), np.float16(0.75), np.int64(3), np.int32(3), np.bool_(True)]
)
def test_numbers_of_numpy_are_read(tmp_path, number, old):
    torch.save({"rank1": number}, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    content = read_weights_file(str(tmp_path / "w.pth"))
    assert content["rank1"] == number
    assert type(content["rank1"]) is type(number)


def test_numbers_of_numpy_1_are_read(tmp_path):
    save_score_of_numpy_1({"a": torch.ones(2)}, tmp_path / "w.pth")
    assert b"numpy.core.multiarray" in (tmp_path / "w.pth").read_bytes()
    assert read_weights_file(str(tmp_path / "w.pth"))["rank1"] == 0.75


def test_nothing_more_is_allowed_afterwards(tmp_path):
    before = torch.serialization.get_safe_globals()
    torch.save({"rank1": np.float64(0.75)}, tmp_path / "w.pth")
    read_weights_file(str(tmp_path / "w.pth"))
    assert set(torch.serialization.get_safe_globals()) == set(before)
