"""From a command line to a running process: configuration, logging, output folder."""

import argparse
import ast
import logging
import logging.handlers
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from fastreid.config import CfgNode
from fastreid.utils import comm

from nplp.config import default_config
from nplp.config.bundles import load_bundle_config
from nplp.config.dotted import value_at
from nplp.config.validation import validate_config
from nplp.distributed.collectives import from_main_process
from nplp.engine.output_folder import CONFIG, LOG
from nplp.errors import UserError, printable
from nplp.files import read_yaml, write_atomically
from nplp.weights.zoo import SUMS, read_bundle

__all__ = [
    "base_config",
    "check_pairs",
    "configure_logging",
    "load_config",
    "merge_file",
    "merge_pairs",
    "prepare_output",
]

AUTOMATIC = {("NPLP.ALPHA", "auto"): "0.0"}
"""Words on the command line that stand for a number."""

FILE_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


def load_config(args: argparse.Namespace) -> CfgNode:
    """Return the frozen and validated configuration of ``--config-file`` and the KEY VALUE pairs.

    A file beside a list of sums is a bundle's: of it only what :mod:`nplp.config.bundles` allows is
    taken, and the weights are those beside it.

    Raises:
        UserError: for a missing or malformed file, an unknown key or a value of the wrong type or range.
    """
    check_pairs(args.opts)
    cfg = _read_file(args.config_file)
    for overlay in getattr(args, "overlay", ()):
        merge_file(cfg, overlay, "--overlay")
    merge_pairs(cfg, args.opts)
    validate_config(cfg)
    cfg.freeze()
    return cfg


def merge_pairs(cfg: CfgNode, words: list[str]) -> None:
    """Merge the KEY VALUE pairs of a command line into a configuration.

    Raises:
        UserError: for words that are no pairs, an unknown key or a value of the wrong type.
    """
    check_pairs(words)
    for key, value in zip(words[::2], words[1::2], strict=True):
        _merge(cfg, [key, AUTOMATIC.get((key, value), value)], f"{key} {value}")


def _read_file(path: str) -> CfgNode:
    """Return the toolbox's configuration with what a file says, be it anyone's or a bundle's."""
    if path and os.path.isfile(path):
        # A link may lie beside a list, or lead to one.
        for file in (Path(path).absolute(), Path(path).resolve()):
            if os.path.lexists(file.parent / SUMS):
                return load_bundle_config(read_bundle(file.parent), file.name)
    cfg = default_config()
    merge_file(cfg, path)
    return cfg


def check_pairs(words: list[str]) -> None:
    """Look for words that are no KEY VALUE pairs, which take everything after the first of them.

    Raises:
        UserError: naming the first.
    """
    for number, word in enumerate(words):
        if word.startswith("--") and not word.strip("-").isnumeric():
            raise UserError(f"{word} stands among the KEY VALUE pairs: options come before the first of them")
        if number % 2 == 0 and not re.fullmatch(r"[A-Z][A-Z0-9_.]*", word):
            raise UserError(
                f"{word!r} is no key of the configuration: after the options come KEY VALUE pairs, and "
                "--resume takes no path, it goes on with the run in OUTPUT_DIR"
            )
    if len(words) % 2:
        raise UserError(f"options come as KEY VALUE pairs, got an odd number: {' '.join(words)}")


def base_config(config_file: str) -> CfgNode:
    """Return the configuration at the root of what ``config_file`` inherits from."""
    root = Path(config_file)
    while base := read_yaml(root, "name another --config-file").get("_BASE_"):
        root = root.parent / base
    return _read_file(str(root))


def merge_file(cfg: CfgNode, path: str, option: str = "--config-file") -> None:
    """Merge a file of a configuration, and what it inherits from, into another.

    Raises:
        UserError: naming ``option``, for a missing or malformed file or an unknown key.
    """
    if not path:
        raise UserError("--config-file is missing: name one, such as configs/NPLP/quickstart.yml")
    if not os.path.isfile(path):
        raise UserError(f"{option} {path!r} does not exist: see configs/NPLP for those there are")
    try:
        cfg.merge_from_file(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path!r} is not YAML: {_first_line(error)}") from error
    except RecursionError as error:
        raise UserError(f"{option} {path!r} is among its own bases: change _BASE_") from error
    except (OSError, KeyError, ValueError, AssertionError, TypeError, AttributeError) as error:
        raise UserError(f"{option} {path!r}: {_first_line(error)}") from error


def _merge(cfg: CfgNode, pair: list[str], shown: str) -> None:
    key, value = pair
    present = value_at(cfg, key)
    names = isinstance(present, tuple) and all(isinstance(name, str) for name in present)
    try:
        cfg.merge_from_list([key, _names_in(value) if names else value])
    except AssertionError as error:
        raise UserError(f"unknown key in {shown!r}: {_first_line(error)}") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        form = f'; it takes several values: {key} "[{_read(value)!r}]"'
        several = isinstance(present, list | tuple)
        raise UserError(f"{shown!r}: {_first_line(error)}{form if several else ''}") from error


def _read(value: str) -> Any:
    """Return what python reads in a value, or the text itself."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _names_in(value: str) -> Any:
    """Return the names in ``A``, ``A,B`` or ``(A, B)`` as a tuple; what is no text, as python reads it."""
    read = _read(value)
    if not isinstance(read, str):
        return read
    names = (name.strip().strip("'\"") for name in read.strip("()[] ").split(","))
    return tuple(filter(None, names))


def _first_line(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    return printable(" ".join(text.split())) or type(error).__name__


def prepare_output(cfg: CfgNode) -> None:
    """Create ``OUTPUT_DIR``, write ``config.yaml`` and begin ``log.txt``, on the main process.

    Raises:
        UserError: if the folder cannot be written.
    """
    from_main_process(lambda: _prepare_output(cfg))


def _prepare_output(cfg: CfgNode) -> None:
    folder = Path(cfg.OUTPUT_DIR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, cfg.dump())
        for held_back in _held_back_lines():
            held_back.write_to(folder / LOG)
    except OSError as error:
        raise UserError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR!r} cannot be written ({error.strerror}): set another"
        ) from error


class _HeldBackLines(logging.handlers.MemoryHandler):
    """Keeps what is to stand in a log until its file may be written, and writes to it from then on."""

    def __init__(self) -> None:
        super().__init__(capacity=0, flushOnClose=False)

    def shouldFlush(self, record: logging.LogRecord) -> bool:  # noqa: N802  the base class's name
        """Tell whether the file is there."""
        del record
        return self.target is not None

    def write_to(self, path: Path) -> None:
        """Write to a file from now on, and what was kept before; nothing happens where one is written to."""
        if self.target is not None:
            return
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter(FILE_FORMAT, datefmt="%Y-%m-%d %H:%M:%S"))
        self.setTarget(file)
        self.flush()


def _held_back_lines() -> set[_HeldBackLines]:
    handlers = logging.getLogger("nplp").handlers
    return {handler for handler in handlers if isinstance(handler, _HeldBackLines)}


def configure_logging(cfg: CfgNode, to_file: bool = True) -> None:
    """Send the project's messages to the screen, and all of them with the toolbox's to ``log.txt``.

    The file is written from :func:`prepare_output` on, with what was said before.
    Only the main process writes; of the toolbox, warnings alone reach the screen.
    """
    file = _HeldBackLines()
    for name in ("nplp", "fastreid"):
        log = logging.getLogger(name)
        log.handlers.clear()
        log.setLevel(logging.INFO)
        log.propagate = False
        if not comm.is_main_process():
            log.addHandler(logging.NullHandler())
            continue
        screen = logging.StreamHandler(sys.stdout)
        screen.setLevel(logging.INFO if name == "nplp" else logging.WARNING)
        screen.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(screen)
        if to_file:
            log.addHandler(file)
    device = torch.device(cfg.MODEL.DEVICE)
    described = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    logging.getLogger("nplp").info(
        "Device: %s (%s), %d process(es)", device.type, described, comm.get_world_size()
    )
