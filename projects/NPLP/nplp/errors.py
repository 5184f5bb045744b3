"""The error that is meant for the user's eyes."""

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake in what the user asked for: a wrong key, value, file or folder.

    Its message is one line that names what was wrong, the value seen and what to do. The tools print
    that line, without a traceback, and exit with code 2.
    """
