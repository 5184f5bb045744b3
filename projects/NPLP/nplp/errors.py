"""The error that is meant for the user's eyes."""

import re

__all__ = ["UserError", "in_one_line", "printable"]

UNSEEN = re.compile(
    r"[^\n\t\x20-\x7e\u00a1-\U0010ffff]"
    r"|[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)
"""Characters that steer a terminal, hide, turn the direction of others, or cannot be written."""


def printable(text: str) -> str:
    """Return a stranger's text as a terminal may show it: what would steer it becomes its number."""
    return UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def in_one_line(error: Exception, limit: int = 150) -> str:
    """Return the beginning of an error's message without line breaks, or its class where it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


class UserError(ValueError):
    """A mistake in what the user asked for: a wrong key, value, file or folder.

    Its message is one line that names what was wrong, the value seen and what to do. The tools print
    that line, without a traceback, and exit with code 2.
    """
