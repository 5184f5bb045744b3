"""Parts of a long measurement: in order, within a deadline, each figure on disk as soon as it is known."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Figures", "Note", "Part", "carry_out", "say"]

Note = Callable[[dict[str, Any]], None]
"""Takes one measurement of a part."""


class Figures:
    """What is known so far, written whole or not at all after each addition."""

    def __init__(self, output: Path, known: dict[str, Any]) -> None:
        """Begin with what is `known`; the folder of `output` is made."""
        self._output = output
        self.known = known
        output.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self) -> None:
        """Write the figures."""
        unfinished = self._output.with_name(f".{self._output.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(self.known, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self._output)

    def set(self, part: str, **content: Any) -> None:
        """Set fields of a part."""
        self.known["parts"].setdefault(part, {}).update(content)
        self.write()

    def add(self, part: str, measured: dict[str, Any]) -> None:
        """Append to what a part has measured."""
        self.known["parts"][part].setdefault("measured", []).append(measured)
        self.write()


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes:
        name: in the output.
        least: seconds that it needs to be worth beginning.
        most: seconds after which it is stopped.
        measure: gets what takes a measurement, and the seconds that it has.
        lacks: why it cannot be measured at all; empty where it can.
    """

    name: str
    least: float
    most: float
    measure: Callable[[Note, float], None]
    lacks: str = ""


def carry_out(
    parts: Sequence[Part], figures: Figures, seconds: float, clock: Callable[[], float] = time.monotonic
) -> bool:
    """Measure the parts in order within `seconds`; return whether all that were begun ended well.

    A part that an earlier run has done is left as it is.
    """
    deadline, good = clock() + seconds, True
    for part in parts:
        if figures.known["parts"].get(part.name, {}).get("status") == "done":
            continue
        left = deadline - clock()
        figures.known["parts"].pop(part.name, None)
        reason = part.lacks
        if not reason and left < part.least:
            reason = f"{max(0, left):.0f} s left, it needs about {part.least:.0f}"
        if reason:
            figures.set(part.name, status="skipped", reason=reason)
            say(f"{part.name}: skipped, {reason}")
            continue
        begin = clock()
        figures.set(part.name, status="unfinished")
        try:
            part.measure(lambda measured, name=part.name: figures.add(name, measured), min(part.most, left))
            status = {"status": "done"}
        except Exception as error:  # noqa: BLE001  whatever it is, the other parts are still worth measuring
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            status, good = {"status": "failed", "reason": reason}, False
        figures.set(part.name, **status, seconds=round(clock() - begin, 1))
        say(f"{part.name}: {', '.join(status.values())} ({clock() - begin:.0f} s)")
    return good


def say(text: str) -> None:
    """Write a line to the standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
