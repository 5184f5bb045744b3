"""The command lines: ``python -m nplp.commands.train`` and others; the files in ``tools`` start them too.

Each module has ``build_parser``, ``main`` and ``command_line``. It imports what needs the toolbox within
functions, so that its help and its messages work where the toolbox is not installed.
"""

from nplp.errors import UserError

__all__ = ["require_toolbox"]


def require_toolbox() -> None:
    """Check that the toolbox is installed.

    Raises:
        UserError: if it is not, with the command that installs it.
    """
    from nplp.host import require_fastreid

    try:
        require_fastreid()
    except ImportError as error:
        raise UserError(str(error)) from error
