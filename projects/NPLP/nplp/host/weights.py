"""Initial weights of backbones: a clear message where they cannot be had or do not fit."""

import functools
import importlib
import logging
import math
import os
import pickle
import struct
import textwrap
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nplp.errors import UserError
from nplp.weights.files import read_weights_file
from nplp.weights.fitting import fit_weights

__all__ = ["bridge_pretrain_path", "bridge_weights"]

logger = logging.getLogger(__name__)

PRETRAIN_PATH = "MODEL.BACKBONE.PRETRAIN_PATH"

_published: ContextVar[list[str] | None] = ContextVar("_published", default=None)
"""Files of ImageNet weights that were read while a backbone was built."""

BACKBONES = ("resnet", "resnext", "osnet", "regnet.regnet", "regnet.effnet")


def bridge_weights() -> None:
    """Guard ``init_pretrained_weights`` (``modeling/backbones/*.py``).

    The toolbox downloads ImageNet weights while it builds a model. Without a network that ends in a
    traceback, or in a missing file; it now ends in a ``UserError``.
    """
    for name in BACKBONES:
        module: Any = importlib.import_module(f"fastreid.modeling.backbones.{name}")
        module.init_pretrained_weights = _guard(module.init_pretrained_weights, module.model_urls)


def _guard(original: Callable[..., Any], urls: dict[str, str]) -> Callable[..., Any]:
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
            weights = original(*args, **kwargs)
            read = _published.get()
            if read is not None:
                read.append(str(_cached_file(key, urls[key])))
            return weights
        except _expected_errors() as error:
            raise UserError(_explain(key, urls[key], error)) from error

    return init_pretrained_weights


def _expected_errors() -> tuple[type[Exception], ...]:
    """Return what a download, and torch's unpickler of a damaged file, may raise."""
    unpickling = (RuntimeError, EOFError, ValueError, LookupError, struct.error, pickle.UnpicklingError)
    return (*_errors_of_gdown(), OSError, ImportError, *unpickling)


def _errors_of_gdown() -> tuple[type[Exception], ...]:
    """Return gdown's own errors; without gdown, or before it had any, there are none."""
    try:
        exceptions: Any = importlib.import_module("gdown.exceptions")
    except ImportError:
        return ()
    errors = (getattr(exceptions, name, None) for name in ("DownloadError", "FileURLRetrievalError"))
    return tuple(error for error in errors if error is not None)


def _explain(key: str, url: str, error: Exception) -> str:
    """Return one line: where the weights should be, what went wrong and what can be done."""
    path = _cached_file(key, url)
    state = "cannot be read (delete it)" if path.exists() else "is not there"
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", width=200, placeholder=" ...")
    return (
        f"no ImageNet weights for {key!r}: {path} {state}, and getting {url} ended in: {reason}. Put that "
        "file there, name another in MODEL.BACKBONE.PRETRAIN_PATH, or set MODEL.BACKBONE.PRETRAIN False"
    )


def _cached_file(key: str, url: str) -> Path:
    """Return where the toolbox keeps the weights that it downloads from ``url``."""
    # OSNet's addresses end in no file name, so the toolbox makes one up.
    name = f"{key}_imagenet.pth" if key.startswith("osnet") else url.rsplit("/", 1)[-1]
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "checkpoints" / name


def bridge_pretrain_path() -> None:
    """Replace ``BACKBONE_REGISTRY.get`` (``modeling/backbones/build.py``).

    With PRETRAIN_PATH each builder of the toolbox (``modeling/backbones/*.py``) loads the file in a way of
    its own, and trains from random numbers, with no more than a list of names in the log, where no name in
    it fits. The builders now make the network alone, and one function loads the file for all of them, in
    whatever form :mod:`nplp.weights` knows.
    """
    build: Any = importlib.import_module("fastreid.modeling.backbones.build")
    registry = build.BACKBONE_REGISTRY
    find = registry.get

    def get(name: str) -> Callable[[Any], nn.Module]:
        """Return the builder of a backbone, which loads PRETRAIN_PATH as ``_build`` says."""
        builder = find(name)
        return functools.wraps(builder)(lambda cfg: _build(builder, cfg))

    registry.get = get


def _build(builder: Callable[[Any], nn.Module], cfg: Any) -> nn.Module:
    """Return a backbone with the weights that PRETRAIN_PATH names, where PRETRAIN asks for them.

    Raises:
        UserError: if they do not fit or cannot be read, or there are none to be had.
    """
    path = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if cfg.MODEL.BACKBONE.PRETRAIN and path:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
        model = _build(builder, cfg)
        _load_initial_weights(model, path, PRETRAIN_PATH)
        return model
    published: list[str] = []
    token = _published.set(published)
    try:
        model = builder(cfg)
        for file in published:
            # The toolbox has loaded what fits of it, and would go on with nothing.
            _load_initial_weights(model, file, "ImageNet weights (delete the file to download it again)")
        return model
    except FileNotFoundError as error:
        if error.filename:
            raise UserError(
                f"{cfg.MODEL.BACKBONE.NAME} looks for {error.filename!r}, a file of the toolbox, in the "
                "current folder: link the installed folder fastreid there, or choose another backbone"
            ) from error
        raise UserError(
            f"{PRETRAIN_PATH} must name a file, as no ImageNet weights are published for "
            f"{cfg.MODEL.BACKBONE.NAME}, got {path!r}: give one, or set MODEL.BACKBONE.PRETRAIN False"
        ) from error
    except RuntimeError as error:
        if not published:
            raise
        raise UserError(
            f"ImageNet weights {published[0]!r} do not fit {cfg.MODEL.BACKBONE.NAME}: delete the file, so "
            "that it is downloaded again"
        ) from error
    finally:
        _published.reset(token)


def _load_initial_weights(model: nn.Module, path: str, named_by: str) -> None:
    """Load a file into a backbone and say in one line how much of it was used.

    Args:
        model: the backbone.
        path: the file.
        named_by: where the file's name is from, for messages.

    Raises:
        UserError: if the file cannot be read, holds another network, or nothing of it fits.
    """
    reshape = getattr(model, "fit_tensor", None)
    if hasattr(model, "pos_embed"):
        reshape = functools.partial(_reshape_for_transformer, model)
    try:
        content = read_weights_file(path)
        if not isinstance(content, dict):
            raise UserError(f"{path!r} holds a {type(content).__name__}, not a dictionary of weights")
        fit = fit_weights(content, model.state_dict(), path, partial=True, reshape=reshape)
    except UserError as error:
        raise UserError(f"{named_by}: {error}") from error
    model.load_state_dict(fit.weights, strict=False)
    logger.log(logging.INFO if fit.complete else logging.WARNING, "%s", fit.summary)


def _reshape_for_transformer(model: Any, key: str, value: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return a vision transformer's tensor for images of another size, as the toolbox does.

    ``pos_embed`` [1, 1 + H W, C] is interpolated from a square grid to the model's; a distilled model's
    second token is left out. Patches that were embedded by a matrix become a convolution.
    """
    if key == "patch_embed.proj.weight" and value.dim() == 2 and value.numel() == wanted.numel():
        return value.reshape(wanted.shape)
    if key != "pos_embed" or value.dim() != 3 or value.shape == wanted.shape:
        return value
    transformer: Any = importlib.import_module("fastreid.modeling.backbones.vision_transformer")
    if math.isqrt(value.shape[1] - 2) ** 2 == value.shape[1] - 2:
        value = torch.cat([value[:, :1], value[:, 2:]], dim=1)
    if math.isqrt(value.shape[1] - 1) ** 2 != value.shape[1] - 1:
        return value
    patches = model.patch_embed
    resized: torch.Tensor = transformer.resize_pos_embed(value, wanted, patches.num_y, patches.num_x)
    return resized
