"""The configuration sections of the registered methods, which are on a floor above and declare them here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["METHOD_SECTIONS", "MethodSection"]


class MethodSection(NamedTuple):
    """Where a method's options are: a section of the configuration, and its keys with their defaults."""

    section: str
    options: Mapping[str, Any]


METHOD_SECTIONS: dict[str, MethodSection] = {}
"""By the method's name in ``NPLP.METHOD``."""
