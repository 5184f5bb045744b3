"""What names and times of own images mean: what tables and folders share."""

import math
import re
from datetime import datetime, timezone

from nplp.data.items import UNKNOWN_IDENTITY

__all__ = ["SECONDS_BEFORE_BAR", "TIME", "identity_of", "seconds_of", "track_of"]

NOBODY = ("", "-1", UNKNOWN_IDENTITY)
NO_TRACK = ("", "-1")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NOT_KNOWN = ("", "nan")

SECONDS_BEFORE_BAR = 2.0
"""What takes longer shows a progress bar."""

TIME = "it must be a number of seconds, or a date and time as 2026-01-31T12:00:00"
"""What a time should be, for messages."""


def identity_of(text: str | None) -> str | None:
    """Return a person's name; ``None`` for nobody known, which is nothing, ``-1`` or ``unknown``."""
    return None if text is None or text in NOBODY else text


def track_of(text: str | None) -> str | None:
    """Return a track's name; ``None`` for no track, which is nothing or ``-1``."""
    return None if text is None or text in NO_TRACK else text


def seconds_of(text: str | None) -> float:
    """Return a time in seconds; NaN where there is none.

    A number is seconds from any origin. A date, with a time of day or without, is ISO 8601 and becomes
    seconds from 1970; it is UTC where it names no zone.

    Raises:
        ValueError: if it is neither.
    """
    if text is None or text.lower() in NOT_KNOWN:
        return math.nan
    if NUMBER.fullmatch(text):
        seconds = float(text)
        if math.isinf(seconds):
            raise ValueError(f"{text!r} is too large")
        return seconds
    # Python 3.10 does not know the Z.
    moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
