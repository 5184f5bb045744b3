"""The methods by name."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastreid.config import CfgNode

from nplp.config.method_sections import METHOD_SECTIONS, MethodSection
from nplp.errors import UserError
from nplp.losses.table_contrast import UpdatedTable
from nplp.methods.protocol import Method
from nplp.modeling import NPLP

__all__ = [
    "METHODS",
    "build_method",
    "check_options",
    "neighbour_rules",
    "refuse_tables",
    "register_method",
    "require",
]

Builder = TypeVar("Builder", bound=Callable[[CfgNode, NPLP], Method])

METHODS: dict[str, Callable[[CfgNode, NPLP], Method]] = {}
"""What builds each method, from the configuration and the model."""


def register_method(
    name: str, section: str = "", options: Mapping[str, Any] | None = None
) -> Callable[[Builder], Builder]:
    """Register a method's class, and its section of the configuration.

    Args:
        name: its value in ``NPLP.METHOD``.
        section: where its options are; by default ``NPLP.`` and the name in upper case.
        options: the keys there with their defaults.

    Raises:
        ValueError: if the name is taken.
    """
    if name in METHODS:
        raise ValueError(f"a method named {name!r} is registered already")

    def register(builder: Builder) -> Builder:
        METHODS[name] = builder
        METHOD_SECTIONS[name] = MethodSection(section or f"NPLP.{name.upper()}", options or {})
        return builder

    return register


def build_method(cfg: CfgNode, model: NPLP) -> Method:
    """Return the method of ``NPLP.METHOD`` for a model without a wrapper.

    Raises:
        UserError: if there is no such method, or the model has not what it needs.
    """
    if cfg.NPLP.METHOD not in METHODS:
        raise UserError(f"NPLP.METHOD must be one of {tuple(METHODS)}, got {cfg.NPLP.METHOD!r}")
    return METHODS[cfg.NPLP.METHOD](cfg, model)


def require(cfg: CfgNode, loss: str, output: str = "") -> None:
    """Check that the model has the loss and the feature that a method needs.

    Args:
        cfg: the configuration.
        loss: a name that must be in MODEL.LOSSES.NAME.
        output: what MODEL.HEADS.OUTPUT must be; empty: anything.

    Raises:
        UserError: naming the key.
    """
    if loss not in cfg.MODEL.LOSSES.NAME:
        raise UserError(
            f"NPLP.METHOD {cfg.NPLP.METHOD!r} needs {loss!r} in MODEL.LOSSES.NAME, "
            f"got {tuple(cfg.MODEL.LOSSES.NAME)}"
        )
    if output and output != cfg.MODEL.HEADS.OUTPUT:
        raise UserError(
            f"NPLP.METHOD {cfg.NPLP.METHOD!r} needs MODEL.HEADS.OUTPUT {output!r}, "
            f"got {cfg.MODEL.HEADS.OUTPUT!r}"
        )


def refuse_tables(cfg: CfgNode, model: NPLP, kept: tuple[str, ...] = ()) -> None:
    """Check that no loss needs a table that the method does not begin.

    Args:
        cfg: the configuration.
        model: without a wrapper.
        kept: losses whose tables the method begins.

    Raises:
        UserError: naming the first loss that does.
    """
    for name, criterion in model.criteria.items():
        if isinstance(criterion, UpdatedTable) and name not in kept:
            raise UserError(
                f"NPLP.METHOD {cfg.NPLP.METHOD!r} keeps no table for {name!r} in MODEL.LOSSES.NAME: "
                "leave it out, or choose another method"
            )


def neighbour_rules(section: str, options: CfgNode) -> tuple[tuple[str, bool, str], ...]:
    """Return the rules of DBSCAN's and the Jaccard distance's neighbours, for :func:`check_options`."""
    return (
        ("MIN_SAMPLES", options.MIN_SAMPLES >= 1, "at least 1"),
        ("K1", options.K1 >= 1, "at least 1"),
        ("K2", 1 <= options.K2 <= options.K1, f"between 1 and {section}.K1"),
    )


def check_options(section: str, options: CfgNode, *rules: tuple[str, bool, str]) -> None:
    """Check a method's options.

    Args:
        section: where they are, such as "NPLP.UDA".
        options: the section itself.
        rules: a key, whether its value is in its range, and the range in words.

    Raises:
        UserError: naming the first key whose value is not.
    """
    for key, holds, rule in rules:
        if not holds:
            raise UserError(f"{section}.{key} must be {rule}, got {options[key]!r}")
