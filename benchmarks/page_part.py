"""The part of a page that a benchmark writes, between two marks of its own."""

from pathlib import Path

from nplp.errors import UserError
from nplp.files import write_atomically

__all__ = ["END", "write_part"]

END = "<!-- end -->"
"""What ends a part, unless it has an end of its own."""


def write_part(page: Path, begin: str, text: str, end: str = END) -> None:
    """Replace what stands between the lines of two marks; the rest of the page stays as it is.

    Args:
        page: a file of Markdown.
        begin: the line above the part, once in the page.
        text: what is to stand there.
        end: the line below it.

    Raises:
        UserError: if the page does not have both, in that order.
    """
    whole = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, found, rest = whole.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended or begin in tail:
        raise UserError(f"{str(page)!r} must have the lines {begin!r}, once, and {end!r} below it")
    write_atomically(page, f"{head}{begin}\n{text}\n{end}{tail}")
