"""ImageNet weights: a clear message where they cannot be had."""

import importlib
import os
import pickle
import struct
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nplp.compat.probes import refers_to
from nplp.errors import UserError

__all__ = ["bridge_weights"]

BACKBONES = ("resnet", "resnext", "osnet", "regnet.regnet", "regnet.effnet")


def bridge_weights() -> list[str]:
    """Guard ``init_pretrained_weights`` (``modeling/backbones/*.py``); return the modules where it was.

    The toolbox downloads ImageNet weights while it builds a model. Without a network that ends in a
    traceback, or in a missing file; it now ends in a ``UserError``.
    """
    guarded = []
    for name in BACKBONES:
        module: Any = importlib.import_module(f"fastreid.modeling.backbones.{name}")
        original = getattr(module, "init_pretrained_weights", None)
        if original is not None and refers_to(original, "gdown"):
            module.init_pretrained_weights = _guard(original, module.model_urls)
            guarded.append(name)
    return guarded


def _guard(original: Callable[..., Any], urls: dict[str, str]) -> Callable[..., Any]:
    # Of the download the first three; the rest is what torch's unpickler makes of a damaged file.
    expected: tuple[type[Exception], ...] = (*_errors_of_gdown(), OSError, ImportError)
    expected += (RuntimeError, EOFError, ValueError, LookupError, struct.error, pickle.UnpicklingError)

    def init_pretrained_weights(*args: Any, **kwargs: Any) -> Any:
        """Return ImageNet weights from the cache or the network.

        Raises:
            UserError: if neither has them, with the address, the place in the cache and the ways out.
        """
        # OSNet's is called as (model, key), the others' as (key): the key comes last.
        key = kwargs.get("key", args[-1] if args else "")
        if key not in urls:
            raise UserError(
                f"no ImageNet weights are published for {key!r}, only for {', '.join(urls)}: name a file in "
                "MODEL.BACKBONE.PRETRAIN_PATH, or set MODEL.BACKBONE.PRETRAIN False"
            )
        try:
            return original(*args, **kwargs)
        except expected as error:
            raise UserError(_explain(key, urls[key], error)) from error

    return init_pretrained_weights


def _errors_of_gdown() -> tuple[type[Exception], ...]:
    """Return gdown's own errors; without gdown, or before it had any, there are none."""
    try:
        exceptions: Any = importlib.import_module("gdown.exceptions")
    except ImportError:
        return ()
    found = (getattr(exceptions, name, None) for name in ("DownloadError", "FileURLRetrievalError"))
    return tuple(error for error in found if error is not None)


def _explain(key: str, url: str, error: Exception) -> str:
    """Return one line: where the weights should be, what went wrong and what can be done."""
    # OSNet's addresses end in no file name, so the toolbox makes one up.
    name = f"{key}_imagenet.pth" if key.startswith("osnet") else url.rsplit("/", 1)[-1]
    path = _cache_folder() / name
    state = "cannot be read (delete it)" if path.exists() else "is not there"
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", width=200, placeholder=" ...")
    return (
        f"no ImageNet weights for {key!r}: {path} {state}, and getting {url} ended in: {reason}. Put that "
        "file there, name another in MODEL.BACKBONE.PRETRAIN_PATH, or set MODEL.BACKBONE.PRETRAIN False"
    )


def _cache_folder() -> Path:
    """Return the folder where the toolbox keeps downloaded weights."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "checkpoints"
