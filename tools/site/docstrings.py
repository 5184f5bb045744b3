"""Extension of griffe: turns the few words of reStructuredText in docstrings into Markdown."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([\w.]+)`")
LIST_AFTER_TEXT = re.compile(r"^(?![-*] |\d+\. |\s|[|#>]|$)(.+\n)(?=(?:[-*]|\d+\.) )", re.MULTILINE)


def lists_apart(markdown: str) -> str:
    """Return a text with an empty line before each list, which Markdown needs to see it."""
    return LIST_AFTER_TEXT.sub(r"\1\n", markdown)


class PlainMarkdown(griffe.Extension):
    """Turns ``:class:`Name``` into ``Name`` in code, and sets lists apart from the text before."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object's docstring."""
        if obj.docstring:
            obj.docstring.value = lists_apart(ROLE.sub(r"`\1`", obj.docstring.value))
