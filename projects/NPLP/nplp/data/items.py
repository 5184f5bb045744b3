"""What a data set is made of.

An item is ``(image path, identity, camera)`` as in the toolbox: the identity and the camera are strings
in a training set and integers in the query and gallery sets.
"""

from typing import Any

__all__ = ["UNKNOWN_IDENTITY", "Item"]

Item = tuple[str, Any, Any]

UNKNOWN_IDENTITY = "unknown"
"""The identity of a training image of which nobody knows who it shows."""
