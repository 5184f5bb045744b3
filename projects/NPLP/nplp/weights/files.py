"""What a file that is named as weights is, and its content, read without running code."""

import os
import pickle
import re
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import torch
from torch.serialization import safe_globals

from nplp.errors import UserError, in_one_line

__all__ = ["read_weights_file"]

UNREADABLE = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
)
"""What reading a file that is torn or of another kind ends in."""

HEAD_BYTES = 1024
FOREIGN = (
    (rb"\s*<(?:!doctype|html|\?xml|head)", "a web page: the download failed"),
    (
        rb"version https://git-lfs\.github\.com",
        "a pointer of Git LFS: fetch the file itself with git lfs pull",
    ),
    (rb"\x89HDF", "an HDF5 file of Keras or TensorFlow: export its weights from there as .safetensors"),
    (rb"\x93NUMPY", "a NumPy array: save a dictionary of tensors with torch.save"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a compressed archive: unpack it"),
    (rb"[\s\S]{257}ustar", "a tar archive: unpack it"),
    (rb"\x08[\x01-\x10]\x12[\x00-\x40][\x20-\x7e]{3}", "an ONNX model: give the .pth file it was made from"),
    (
        rb"\x80[\x02-\x05](?!\x8a\x0al\xfc)",
        "a pickle that torch.save did not write, and it would run code: save its tensors with torch.save",
    ),
    (rb"\s*[{\[]\s*\"[\x20-\x7e]+\"", "a JSON text: give the file with the tensors"),
)
"""How files of other kinds begin, and what they are."""

WOULD_RUN_CODE = re.compile(
    r"GLOBAL (?P<a>[\w.]+)|unrecognized function (?P<b>.+?)(?:\.|$)|unsupported class (?P<c>.+?)(?:\.|$)"
)
"""How torch says that an object of a file cannot be made without code that the file names."""


def read_weights_file(path: str) -> Any:
    """Return what a file holds, on the CPU; no code that it could hold is run.

    Read are the formats of ``torch.save``, old and new, and safetensors, whatever the file's name ends in.
    Of other objects than tensors and plain values only NumPy's numbers are made.

    Args:
        path: the file.

    Raises:
        UserError: if the file does not exist, is torn, altered, of another kind, or would run code; in one
            line that says which.
    """
    _check_file(path)
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        if _is_safetensors(head, os.path.getsize(path)):
            return _read_safetensors(path)
        _check_archive(path, head)
        with safe_globals(_numbers_of_numpy()), warnings.catch_warnings():
            # An old pickle protocol is none of the user's business.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UNREADABLE as error:
        code = WOULD_RUN_CODE.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code:
            held = (code["a"] or code["b"] or code["c"]).strip()
            raise UserError(
                f"{path!r} cannot be read as weights: it would run code, as it holds {held}; where it is "
                "trusted, save its tensors alone (a model's state_dict()) and give that file"
            ) from error
        _refuse_foreign(path, head)
        reason = in_one_line(error, 5000)
        if "Unsupported operand" in reason:
            reason = (
                "its pickle protocol is not one that is read without running code, save it with protocol 2"
            )
        elif "Weights only load failed" in reason:
            reason = "it is no file of torch.save"
        reason = reason[:120]
        raise UserError(
            f"{path!r} cannot be read as weights ({reason}): it is torn or of another kind"
        ) from error


def _check_file(path: str) -> None:
    """Refuse what is no file with content."""
    if os.path.isdir(path):
        raise UserError(f"{path!r} cannot be read as weights: it is a folder; give the path of a file in it")
    if not os.path.isfile(path):
        raise UserError(f"the weights {path!r} do not exist: give the path of a .pth file")
    try:
        empty = os.path.getsize(path) == 0
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UserError(f"{path!r} cannot be read as weights ({error.strerror}): allow reading it") from error
    if empty:
        raise UserError(f"{path!r} cannot be read as weights: it is empty; copy or download it again")


def _refuse_foreign(path: str, head: bytes) -> None:
    """Name a file of another kind by how it begins."""
    for start, kind in FOREIGN:
        if re.match(start, head, re.IGNORECASE):
            raise UserError(f"{path!r} cannot be read as weights: it is {kind}")


def _is_safetensors(head: bytes, size: int) -> bool:
    """Tell whether a file begins as safetensors do: the size of a JSON header, then the header."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    try:
        # Imported where it is needed: the files of torch.save are read without it.
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f"{path!r} holds safetensors: pip install safetensors to read it") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _check_archive(path: str, head: bytes) -> None:
    """Check a zip archive: that ``torch.save`` wrote it, and the sum of each tensor, which torch does not.

    Raises:
        UserError: if something else wrote it.
        ValueError: if it is torn or a tensor was altered.
    """
    if not zipfile.is_zipfile(path):
        if head.startswith(b"PK\x03\x04"):
            raise ValueError("damaged archive: its end is missing")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = _kind_of_archive(names)
            altered = None if kind else archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"damaged archive: {error}") from error
    if kind:
        raise UserError(f"{path!r} cannot be read as weights: it is {kind}")
    if altered:
        raise ValueError(f"{altered} was altered: its CRC-32 sum is another")


def _kind_of_archive(names: list[str]) -> str:
    """Return what an archive with files of these names is; empty for one of ``torch.save``."""
    files = {name.partition("/")[2] for name in names}
    if "constants.pkl" in files:
        return "a TorchScript program, whose code would run: save the state_dict() of the model it came from"
    # The second name is that of torch 2.6.
    if any("archive_format" in name or "serialized_exported_program" in name for name in names):
        return "an exported program (.pt2), whose code would run: save the state_dict() of its model"
    if "data.pkl" in files:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays (.npz): save a dictionary of tensors with torch.save"
    return f"a zip archive of other files ({', '.join(names[:2]) or 'none'}): unpack it"


def _numbers_of_numpy() -> list[Any]:
    """Return what makes a NumPy number, such as a score kept beside the weights, of its bytes.

    ``numpy.core`` is its place in NumPy 1, ``numpy._core`` that in NumPy 2; a file may come from either.
    """
    scalar = np.float64(0).__reduce__()[0]
    dtypes: list[Any] = sorted({type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}, key=str)
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *dtypes,
    ]
