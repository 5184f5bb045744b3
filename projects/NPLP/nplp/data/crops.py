"""Crops of the people in a camera's frames, cut by a tracker's boxes, and a table of all cameras' crops."""

import math
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
from tqdm import tqdm

from nplp.circumstances import usable_cores
from nplp.data.images import UnreadableImageError, read_rgb
from nplp.data.mot import EMPTY, LOW, Box, CropOptions, find_frames, read_boxes, select_boxes
from nplp.data.own_cells import read_text_table
from nplp.errors import UserError, in_one_line
from nplp.files import PART, write_bytes_atomically

__all__ = ["TABLE", "Crops", "cut_crops"]

TABLE = "images.csv"
"""The table's name in the output folder."""
COLUMNS = ("path", "camera", "track", "time")

JPEG_QUALITY = 95
NO_FOLDER_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^[.\s]|[.\s]$|^$')
"""What no folder's name has on every system, or what hides a folder."""
MOST_THREADS = 8
REMEDY = "make room, or name another --output"


@dataclass(frozen=True)
class Crops:
    """What came of a tracker's boxes.

    Attributes:
        crops: how many were written.
        tracks: of how many tracks.
        frames: from how many frames.
        left_out: how many boxes were left out, by the reason.
        table: of all crops in the output folder.
        images: its rows.
        cameras: its cameras.
    """

    crops: int
    tracks: int
    frames: int
    left_out: dict[str, int]
    table: Path
    images: int
    cameras: int


def cut_crops(
    tracks: str, frames: str, camera: str, output: str, options: CropOptions | None = None
) -> Crops:
    """Cut a camera's boxes out of its frames into ``output/camera``, and add them to the table in ``output``.

    Each frame is decoded once, with a progress bar on a terminal. Boxes are clipped to their frames. The
    table has the columns path, camera, track and time, and keeps others that somebody added.

    Crops and rows appear when all of them are there; after an error or Ctrl-C there are none.

    Args:
        tracks: a tracker's file, see :mod:`nplp.data.mot`.
        frames: the folder of its frames.
        camera: a name that the table does not have yet.
        output: a folder; it is made where there is none.
        options: which boxes, and their times.

    Raises:
        UserError: for whatever is wrong with the files, if the camera is there already, if a frame is
            missing or cannot be read, if no box is left, or if something cannot be written.
    """
    options = options or CropOptions()
    if NO_FOLDER_NAME.search(camera):
        raise UserError(f"--camera must be a name that a folder can have, such as gate, got {camera!r}")
    place = Path(output)
    _extended(place, camera, [])
    kept, left_out = select_boxes(read_boxes(tracks), options, tracks)
    found = find_frames(frames)
    by_frame: dict[int, list[Box]] = {}
    for box in kept:
        by_frame.setdefault(box.frame, []).append(box)
    missing = [number for number in by_frame if number not in found]
    if missing:
        raise UserError(
            f"{len(missing):,} of the {len(by_frame):,} frames that {tracks!r} needs are not in {frames!r}, "
            f"which has {min(found)} to {max(found)}; the first is {missing[0]}: name their "
            "folder"
        )
    with _folder_of_its_own(place, camera) as folder:
        cut = partial(_cut, folder=folder, min_height=options.min_height, tracks=tracks)
        names: dict[Box, str] = {}
        for box, fate in _in_threads(
            cut, [(found[number], boxes) for number, boxes in by_frame.items()], camera
        ):
            if fate in (EMPTY, LOW):
                left_out[fate] += 1
            else:
                names[box] = fate
        if not names:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            raise UserError(f"no box of {tracks!r} becomes a crop: {reasons}")
        rows = [_row(camera, name, box, options.fps) for box, name in names.items()]
        # Another camera may have come to it meanwhile.
        table = _extended(place, camera, rows)
        os.replace(folder, place / camera)
        try:
            write_bytes_atomically(place / TABLE, table.write_csv().encode("utf-8"), REMEDY)
        except BaseException:
            os.replace(place / camera, folder)
            raise
    return Crops(
        crops=len(names),
        tracks=len({box.track for box in names} - {None}),
        frames=len({box.frame for box in names}),
        left_out=dict(left_out),
        table=place / TABLE,
        images=table.height,
        cameras=table["camera"].n_unique(),
    )


def _extended(place: Path, camera: str, rows: list[dict[str, str | None]]) -> pl.DataFrame:
    """Return the table of an output folder with further rows, in the order of their paths.

    Raises:
        UserError: if the camera is in the table or in the folder, or the table cannot be read or is
            another's.
    """
    table = pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    path = place / TABLE
    if path.exists():
        try:
            table = read_text_table(str(path))
        except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = " ".join(str(error).split())[:100]
            remedy = "remove it, or name another --output"
            raise UserError(f"{str(path)!r} cannot be read ({reason}): {remedy}") from error
        if lacking := [column for column in COLUMNS if column not in table.columns]:
            raise UserError(
                f"{str(path)!r} has no column {lacking[0]}, so it is not a table of crops: name another "
                "--output"
            )
    if camera in table["camera"]:
        raise UserError(f"the camera {camera!r} is in {str(path)!r} already: name another --camera")
    if (place / camera).exists():
        raise UserError(
            f"{str(place / camera)!r} is there already and not in {TABLE}: remove it, or name another "
            "--camera"
        )
    new = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String)).sort("path")
    return pl.concat([table, new], how="diagonal")


@contextmanager
def _folder_of_its_own(place: Path, camera: str) -> Iterator[Path]:
    """Make a hidden folder for a camera's crops, which is gone after the block unless it got another name.

    Raises:
        UserError: if the file system refuses what the block does with it.
    """
    folder = place / f".{camera}{PART}"
    made = not place.exists()
    try:
        # What a killed process left behind.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        raise UserError(f"crops cannot be written into {str(place)!r} ({reason}): {REMEDY}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made and place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _in_threads(
    cut: partial[list[tuple[Box, str]]], jobs: list[tuple[str, list[Box]]], camera: str
) -> Iterator[tuple[Box, str]]:
    """Yield what ``cut`` returns of each frame, in their order, with a progress bar."""
    pool = ThreadPoolExecutor(min(MOST_THREADS, usable_cores()))
    try:
        results = pool.map(lambda job: cut(*job), jobs)
        bar = tqdm(
            results, total=len(jobs), desc=f"Cutting {camera}", unit="frame", leave=False, disable=None
        )
        for pairs in bar:
            yield from pairs
    finally:
        pool.shutdown(cancel_futures=True)


def _cut(frame: str, boxes: list[Box], folder: Path, min_height: int, tracks: str) -> list[tuple[Box, str]]:
    """Write a frame's crops; return of each box the file's name, or why there is none: EMPTY or LOW.

    Raises:
        UserError: if the frame cannot be read.
        OSError: if a crop cannot be written.
    """
    try:
        image = read_rgb(frame)
    except UnreadableImageError as error:
        raise UserError(
            f"{frame!r} cannot be read ({error.reason}): put the frame back, or remove the lines of frame "
            f"{boxes[0].frame} from {tracks!r}"
        ) from error
    fates = []
    for box in boxes:
        area = _clipped(box, *image.size)
        if area[0] >= area[2] or area[1] >= area[3]:
            fates.append((box, EMPTY))
        elif area[3] - area[1] < min_height:
            fates.append((box, LOW))
        else:
            track = f"{box.track:04d}" if box.track is not None else f"none_{box.line:06d}"
            name = f"{track}_{box.frame:06d}.jpg"
            image.crop(area).save(folder / name, quality=JPEG_QUALITY, subsampling=0)
            fates.append((box, name))
    return fates


def _clipped(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in whole pixels, within a frame of a width and a height."""
    left, top, right, bottom = (
        math.floor(value + 0.5) for value in (box.left, box.top, box.left + box.width, box.top + box.height)
    )
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _row(camera: str, name: str, box: Box, fps: float | None) -> dict[str, str | None]:
    return {
        "path": f"{camera}/{name}",
        "camera": camera,
        "track": None if box.track is None else str(box.track),
        "time": None if fps is None else str(round((box.frame - 1) / fps, 6)),
    }
