"""Arrays in files, for the command line of the pseudo-label stage; files that could run code are refused.

An address is a path (.npy, .npz, .pt or .pth), with ``:KEY`` behind it where the file holds several arrays.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import torch

from nplp.errors import UserError

__all__ = ["check_output", "read_array", "read_features", "read_ids"]

_ADDRESS = re.compile(r"(?P<path>.+?\.(?:npy|npz|pt|pth)):(?P<key>.+)", re.IGNORECASE | re.DOTALL)

_LISTED_KEYS = 10

# What numpy, torch, zipfile and the restricted unpickler raise on files that are damaged or hold objects.
_UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError, OverflowError,
    RuntimeError, MemoryError, struct.error, pickle.UnpicklingError, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_features(address: str) -> np.ndarray | torch.Tensor:
    """Return the array [N, D] at an address; its type and values are the estimate's to check.

    Raises:
        UserError: if it cannot be read or is not of two dimensions.
    """
    features = read_array(address)
    if features.ndim != 2:
        raise UserError(f"features {address} must be of shape [N, D], got {list(features.shape)}")
    return features


def read_ids(option: str, address: str, count: int) -> np.ndarray:
    """Return the ids at an address as an array [count] of int64.

    Args:
        option: the option that gave the address, for the message.
        address: of [count] integers.
        count: the number of images.

    Raises:
        UserError: if it cannot be read, or holds anything but `count` integers in one dimension.
    """
    ids = read_array(address)
    if list(ids.shape) != [count]:
        raise UserError(
            f"{option} {address} must be of shape [{count}], one for each image, got {list(ids.shape)}"
        )
    if not _is_integer(ids):
        raise UserError(f"{option} {address} must hold integers, got {str(ids.dtype).removeprefix('torch.')}")
    return np.asarray(ids).astype(np.int64)


def _is_integer(ids: np.ndarray | torch.Tensor) -> bool:
    """Return whether the type of an array is one of integers."""
    if isinstance(ids, torch.Tensor):
        return not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    return ids.dtype.kind in "iu"


def read_array(address: str) -> np.ndarray | torch.Tensor:
    """Return the array or tensor at an address.

    The array of a .npy file and the tensors of a .pt file stay in the file, mapped, and must not be written
    to; a .npz file is read into memory. Tensors are moved to the CPU.

    Raises:
        UserError: if the file is missing, damaged, of another kind, or holds Python objects; if the key is
            missing or unknown.
    """
    path, key = _split(address)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{address} must end in one of {', '.join(_READERS)}; a key follows as FILE:KEY")
    if not os.path.isfile(path):
        raise UserError(f"{path} {'is not a file' if os.path.exists(path) else 'does not exist'}")
    try:
        return reader(path, key)
    except UserError:
        raise
    except _UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read ({_reason(error)}); it must be whole and of numbers alone, "
            f"as {_WRITERS[path.suffix.lower()]} writes it"
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of why a file cannot be read."""
    if isinstance(error, pickle.UnpicklingError):  # torch's own words are a page on how to run the code
        return "it is damaged, or holds objects that could run code"
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _split(address: str) -> tuple[Path, str | None]:
    """Return the path and the key of an address; a colon in the name of an existing file is no key."""
    match = None if os.path.exists(address) else _ADDRESS.fullmatch(address)
    return (Path(match["path"]), match["key"]) if match else (Path(address), None)


def _map_npy(path: Path, key: str | None) -> np.ndarray | torch.Tensor:
    """Return the array of a .npy file, mapped; as a tensor on that memory where torch has the type."""
    _refuse_key(path, key)
    # Not mode "c": Linux counts a private writable mapping against memory and refuses one that is larger.
    array = np.lib.format.open_memmap(path, mode="r")
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        return array
    with warnings.catch_warnings():
        # The estimate only reads. A tensor spares it compiling its loops again for read-only arrays.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))


def _read_npz(path: Path, key: str | None) -> np.ndarray:
    """Return one array of a .npz file, read into memory."""
    with open(path, "rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
        name = _pick(path, archive.files, key)
        array = archive[name]
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}:{name} is not an array; save it by numpy.savez")
    return array


def _load_pt(path: Path, key: str | None) -> torch.Tensor:
    """Return a tensor of a .pt file, mapped where the file's format allows it."""
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if isinstance(content, torch.Tensor):
        _refuse_key(path, key)
        tensor, name = content, str(path)
    elif isinstance(content, dict):
        tensors = {str(name): item for name, item in content.items() if isinstance(item, torch.Tensor)}
        key = _pick(path, tensors, key)
        tensor, name = tensors[key], f"{path}:{key}"
    else:
        raise UserError(f"{path} must hold a tensor or a dict of tensors, got a {type(content).__name__}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise UserError(f"{name} must be a dense tensor, got {tensor.type()}; save its to_dense()")
    return tensor.detach()


_READERS = {".npy": _map_npy, ".npz": _read_npz, ".pt": _load_pt, ".pth": _load_pt}
_WRITERS = {".npy": "numpy.save", ".npz": "numpy.savez", ".pt": "torch.save", ".pth": "torch.save"}


def _refuse_key(path: Path, key: str | None) -> None:
    """Refuse a key for a file that holds one array."""
    if key is not None:
        raise UserError(f"{path} holds one array without a key; leave out :{key}")


def _pick(path: Path, names: Collection[str], key: str | None) -> str:
    """Return the key asked for, or the only one."""
    if key in names and key is not None:
        return key
    if not names:
        raise UserError(f"{path} holds no arrays")
    listed = ", ".join(list(names)[:_LISTED_KEYS]) + (", ..." if len(names) > _LISTED_KEYS else "")
    if key is not None:
        raise UserError(f"{path} holds no array {key!r}; it holds {listed}")
    if len(names) > 1:
        raise UserError(f"{path} holds {len(names)} arrays; choose one as {path}:KEY from {listed}")
    return next(iter(names))


def check_output(path: Path, inputs: Iterable[str], force: bool) -> None:
    """Check, before any work, that a result can be written.

    Args:
        path: of the .npz file to be.
        inputs: addresses that must survive.
        force: whether a file may be replaced.

    Raises:
        UserError: if the name does not end in .npz, its folder is missing or cannot be written to, or it is
            a folder, an input, or there already and not to be replaced.
    """
    if path.suffix != ".npz":
        raise UserError(f"--out must end in .npz, got {path}")
    if not os.path.isdir(path.parent):
        raise UserError(f"--out {path}: the folder {path.parent} does not exist; make it first")
    if os.path.isdir(path):
        raise UserError(f"--out {path} is a folder; name a file")
    if os.path.exists(path):
        if any(os.path.exists(file) and os.path.samefile(file, path) for file, _ in map(_split, inputs)):
            raise UserError(f"--out {path} is one of the inputs; name another file")
        if not force:
            raise UserError(f"--out {path} is there already; add --force to replace it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--out {path}: cannot write into {path.parent}: {error.strerror}") from error
