"""The pages that people read, and the code in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "docs/reference/*.md", "datasets/*.md", "projects/**/README.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its page, its number on the page from 1, its language and its text."""

    page: str
    number: int
    language: str
    text: str


def text_of(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(language: str, page: str = "") -> list[Block]:
    """Return the blocks in a language, of all pages or of one."""
    return [
        Block(name, number, match[1], match[2])
        for name in ([page] if page else PAGES)
        for number, match in enumerate(FENCE.finditer(text_of(name)), start=1)
        if match[1] == language
    ]


def commands() -> list[tuple[str, list[str]]]:
    """Return page and words of every command in a block of bash; dots for what is left out are dropped."""
    found = []
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = [word for word in shlex.split(line, comments=True) if word != "..."]
            rest = words
            while rest:
                end = rest.index("&&") if "&&" in rest else len(rest)
                found.append((block.page, rest[:end]))
                rest = rest[end + 1 :]
    return found


def inline_commands() -> list[tuple[str, list[str]]]:
    """Return page and words of every ``nplp ...`` that stands in a sentence."""
    return [
        (page, shlex.split(code))
        for page in PAGES
        for code in re.findall(r"`(nplp [^`\n]+)`", FENCE.sub("", text_of(page)))
    ]
