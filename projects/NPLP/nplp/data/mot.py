"""Boxes of a tracker, in MOT's text format, the frames that they are in, and which of them are worth a crop.

A line of the format is ``frame,id,x,y,w,h[,confidence,...]``: the number of the frame, the track, the left
upper corner and the size of the box in pixels. Some trackers write spaces in the place of the commas.
"""

import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nplp.data.benchmarks import image_files
from nplp.data.items import Subset
from nplp.errors import UserError, printable
from nplp.files import read_text

__all__ = ["EMPTY", "LOW", "Box", "CropOptions", "find_frames", "read_boxes", "select_boxes"]

FIELDS = 6
SHOWN = 80

EMPTY = "empty, or outside of the frame"
LOW = "lower than --min-height"
DOUBTFUL = "of less than --min-confidence"
BETWEEN = "between the frames of --every"


@dataclass(frozen=True)
class Box:
    """A line of a tracker's file.

    Attributes:
        line: its number, from 1.
        frame: the number of the image.
        track: ``None`` for a detection of no track, which has a negative id.
        left: in pixels, as ``top``, ``width`` and ``height``.
        confidence: ``None`` where the line ends before.
    """

    line: int
    frame: int
    track: int | None
    left: float
    top: float
    width: float
    height: float
    confidence: float | None


@dataclass(frozen=True)
class CropOptions:
    """Which boxes become crops, and when they were.

    Attributes:
        fps: frames a second; ``None`` where times are not known. The first frame, number 1, is at 0 seconds.
        every: keep a box of a track only where so many frames have passed since the last that was kept.
        min_height: of a crop, in pixels.
        min_confidence: of a box; ``None`` for all.
    """

    fps: float | None = None
    every: int = 1
    min_height: int = 64
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: for one out of its range.
        """
        if self.fps is not None and not (self.fps > 0 and math.isfinite(self.fps)):
            raise UserError(f"--fps must be above 0, got {self.fps}")
        if self.every < 1:
            raise UserError(f"--every must be at least 1, got {self.every}")
        if self.min_height < 1:
            raise UserError(f"--min-height must be at least 1, got {self.min_height}")


def read_boxes(path: str) -> list[Box]:
    """Return the boxes of a tracker's file, in the order of its lines; empty lines are none.

    Raises:
        UserError: if it cannot be read or holds no box; or naming the first line that is none, or that has a
            track twice in a frame.
    """
    text = read_text(Path(path), "name the text file that the tracker wrote", encoding="utf-8-sig")
    boxes = []
    line_of: dict[tuple[int, int], int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        box = _parse(line, number)
        if box is None:
            raise UserError(
                f"line {number} of {path!r} is {printable(line.strip()[:SHOWN])!r}: it must be "
                "frame,id,x,y,w,h[,confidence,...] with frames and ids as whole numbers"
            )
        if box.track is not None:
            first = line_of.setdefault((box.frame, box.track), number)
            if first != number:
                raise UserError(
                    f"lines {first} and {number} of {path!r} are both of track {box.track} in frame "
                    f"{box.frame}: leave one out"
                )
        boxes.append(box)
    if not boxes:
        raise UserError(f"{path!r} holds no box: name the text file that the tracker wrote")
    return boxes


def _parse(line: str, number: int) -> Box | None:
    """Return a line's box; ``None`` where it is none."""
    fields = re.split(r"\s*,\s*|\s+", line.strip().rstrip(", "))
    try:
        values = [float(field) for field in fields[: FIELDS + 1]]
    except ValueError:
        return None
    is_whole = [value.is_integer() for value in values[:2]]
    if len(values) < FIELDS or not all(map(math.isfinite, values)) or not all(is_whole) or values[0] < 0:
        return None
    frame, track = int(values[0]), int(values[1])
    confidence = values[FIELDS] if len(values) > FIELDS else None
    left, top, width, height = values[2:FIELDS]
    return Box(number, frame, track if track >= 0 else None, left, top, width, height, confidence)


def find_frames(folder: str) -> dict[int, str]:
    """Return the frames in a folder by their numbers, which are the digits at the end of their names.

    Files without are no frames: ``000001.jpg`` and ``gate_000001.png`` are.

    Raises:
        UserError: if it is no folder, holds no frame or two of a number.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder!r} is no folder: name the one that holds the frames, such as img1")
    frames: dict[int, str] = {}
    for path in image_files(folder, Subset([])):
        match = re.search(r"(\d+)$", os.path.splitext(os.path.basename(path))[0], re.ASCII)
        if match is None:
            continue
        first = frames.setdefault(int(match[1]), path)
        if first != path:
            raise UserError(f"{first!r} and {path!r} are both frame {int(match[1])}: leave one out")
    if not frames:
        raise UserError(f"{folder!r} holds no frame: images whose names end on a number, such as 000001.jpg")
    return frames


def select_boxes(boxes: list[Box], options: CropOptions, path: str) -> tuple[list[Box], Counter[str]]:
    """Return the boxes to be cut, in the order of frames, and how many are left out, by the reason.

    Confidence and height are looked at before ``every``, so that each track keeps its first good box.
    Detections of no track count as one track.

    Args:
        boxes: as :func:`read_boxes` returns them.
        options: which to keep.
        path: their file, for the message.

    Raises:
        UserError: if a confidence is asked for and a line has none.
    """
    left_out: Counter[str] = Counter()
    good = []
    for box in sorted(boxes, key=lambda box: (box.frame, box.line)):
        if options.min_confidence is not None and box.confidence is None:
            raise UserError(f"line {box.line} of {path!r} has no confidence: leave out --min-confidence")
        if options.min_confidence is not None and (box.confidence or 0.0) < options.min_confidence:
            left_out[DOUBTFUL] += 1
        elif min(box.width, box.height) <= 0:
            left_out[EMPTY] += 1
        elif box.height < options.min_height:
            left_out[LOW] += 1
        else:
            good.append(box)
    kept = []
    last: dict[int | None, int] = {}
    for box in good:
        passed = box.frame - last.get(box.track, box.frame)
        # Those of no track count as one, of several boxes in a frame.
        if passed == 0 or passed >= options.every:
            last[box.track] = box.frame
            kept.append(box)
        else:
            left_out[BETWEEN] += 1
    return kept, left_out
