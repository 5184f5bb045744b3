"""A method that the user names in place of the recommended settings: a file over the configuration."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from fastreid.config import CfgNode

from nplp.adapt.facts import ImageFacts
from nplp.adapt.settings import Choice, neighbours_of_few
from nplp.config.dotted import flat, value_at
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.engine.setup import merge_file
from nplp.errors import UserError
from nplp.losses.registry import CAMERA_PROXY

__all__ = ["NPLP", "NamedMethod", "check_cameras", "lay_over"]

PAPER = "nplp"
"""The name of the paper's method as it is published; its correcting stage is the second half."""
NPLP = "nplp"
"""The value of NPLP.METHOD that takes alpha and the neighbours of section NPLP."""
OF_NPLP = ("NPLP.K1", "NPLP.K2")
FREE_IN_HEADS = tuple(f"MODEL.HEADS.{key}" for key in ("OUTPUT", "POOLING", "NECK_BIAS"))
"""Keys of the head that fit weights of any shape: a method may want another value than the source model."""


@dataclass(frozen=True)
class NamedMethod:
    """A method by the name that the user gave, and the file that says what it is.

    Attributes:
        name: such as "memory".
        overlay: the file's path.
    """

    name: str
    overlay: str


def lay_over(
    cfg: CfgNode,
    method: NamedMethod,
    choices: Sequence[Choice],
    known: Mapping[str, Any],
    images: ImageFacts,
    own_head: bool,
) -> list[Choice]:
    """Merge a method's file into ``cfg``, in place, and return the choices with what the method sets.

    Args:
        cfg: with the choices and what the source model brings along.
        method: a named one.
        choices: all others; they lose the keys that the method sets otherwise.
        known: the keys and values of the source model, which hold but for those of the head that the method
            may change.
        images: the target's.
        own_head: whether the source model's weights have a head, so that its shape is theirs.

    Raises:
        UserError: for a file that cannot be merged.
    """
    before = dict(flat(cfg))
    merge_file(cfg, method.overlay, "--method")
    for key, value in known.items():
        if not key.startswith("MODEL.HEADS.") or (own_head and key not in FREE_IN_HEADS):
            cfg.merge_from_list([key, value])
    section = METHOD_SECTIONS[cfg.NPLP.METHOD].section if cfg.NPLP.METHOD in METHOD_SECTIONS else ""
    for key, value in _fitting(cfg, method, section, images).items():
        cfg.merge_from_list([key, value])
    changed = {key: value for key, value in flat(cfg).items() if before[key] != value}
    changed.pop("NPLP.METHOD", None)
    reason = "you asked for it: in place of the recommended additions"
    named = [Choice("method", {"NPLP.METHOD": cfg.NPLP.METHOD}, reason, method.name)]
    if changed:
        shown = ", ".join(f"{'.'.join(key.split('.')[-2:])} {value}" for key, value in changed.items())
        named.append(Choice("what it sets", changed, f"its file, {method.name}.yml", shown))
    idle = () if cfg.NPLP.METHOD == NPLP else OF_NPLP
    left = [_without(choice, {*changed, *idle}) for choice in choices]
    return [*named, *(choice for choice in left if choice.keys)]


def _without(choice: Choice, keys: Set[str]) -> Choice:
    """Return a choice without keys that hold otherwise; its words give way to what is left."""
    left = {key: value for key, value in choice.keys.items() if key not in keys}
    if len(left) == len(choice.keys):
        return choice
    return replace(choice, keys=left, shown=", ".join(map(str, left.values())))


def _fitting(cfg: CfgNode, method: NamedMethod, section: str, images: ImageFacts) -> dict[str, Any]:
    """Return what fits a method to the images' number and to the run's length."""
    keys: dict[str, Any] = {}
    if section not in ("", "NPLP"):
        few = neighbours_of_few(images.count)
        keys |= {f"{section}.{key}": value for key, value in few.items() if value_at(cfg, f"{section}.{key}")}
    if method.name == PAPER:
        startup = cfg.NPLP.ITERATIONS // 2
        keys |= {"NPLP.STARTUP_ITERATIONS": startup, "NPLP.STOP.MIN_ITERATIONS": startup + 1}
    return keys


def check_cameras(cfg: CfgNode, method: NamedMethod, images: ImageFacts) -> None:
    """Check that there are the cameras that a method works with.

    Raises:
        UserError: naming the key that asks for two cameras or more where there is one.
    """
    section = METHOD_SECTIONS[cfg.NPLP.METHOD].section
    asks = [
        ("MODEL.LOSSES.NAME", CAMERA_PROXY, CAMERA_PROXY in cfg.MODEL.LOSSES.NAME),
        (f"{section}.DISTANCE", "camera_jaccard", value_at(cfg, f"{section}.DISTANCE") == "camera_jaccard"),
    ]
    for key, value, asked in asks:
        if asked and len(images.cameras) < 2:
            raise UserError(
                f"--method {method.name} compares cameras ({key} {value}), and the images have one, or none "
                "is known: say where cameras are (--camera-pattern, a column camera), or name another method"
            )
