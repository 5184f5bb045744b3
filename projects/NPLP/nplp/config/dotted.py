"""Nested sections of a configuration by dotted keys, such as ``SOLVER.BASE_LR``."""

from collections.abc import Mapping
from typing import Any

__all__ = ["flat", "value_at"]


def flat(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{dotted key: value}`` of all values in nested sections; an empty section has none."""
    values: dict[str, Any] = {}
    for key, value in sections.items():
        if isinstance(value, Mapping):
            values.update(flat(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values


def value_at(sections: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the value or the section that a dotted key names, or the default where there is none."""
    value: Any = sections
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return default
        value = value[name]
    return value
