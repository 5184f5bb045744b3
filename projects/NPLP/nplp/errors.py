"""The error that is meant for the user's eyes."""

import re

__all__ = ["UserError", "printable"]

UNSEEN = re.compile(
    r"[^\n\t\x20-\x7e\u00a1-\U0010ffff]"
    r"|[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)
"""Characters that steer a terminal, hide, turn the direction of others, or cannot be written."""


def printable(text: str) -> str:
    """Return a stranger's text as a terminal may show it: what would steer it becomes its number."""
    return UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


class UserError(ValueError):
    """A mistake in what the user asked for: a wrong key, value, file or folder.

    Its message is one line that names what was wrong, the value seen and what to do. The tools print
    that line, without a traceback, and exit with code 2.
    """
