"""The command lines: ``python -m nplp_commands.train`` and others; the files in ``tools`` start them too.

Each module has ``build_parser``, ``main`` and ``command_line``. It imports the library within functions: help
is shown at once, and where the toolbox is not installed too.
"""

__all__ = ["require_toolbox"]


def require_toolbox() -> None:
    """Check that the toolbox is installed.

    Raises:
        UserError: if it is not, with the command that installs it.
    """
    from nplp.errors import UserError
    from nplp.host import require_fastreid

    try:
        require_fastreid()
    except ImportError as error:
        raise UserError(str(error)) from error
