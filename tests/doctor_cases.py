"""Data sets without fault for the tests of doctor, and what spoils them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nplp.data.doctor import Findings, examine
from nplp.data.image_table import ImageTable

CAMERAS = ("gate", "hall", "yard")
SIZE = (24, 60)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a smooth random picture, unlike those of other seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (10, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@dataclass
class Data:
    """A data set that can be spoiled: a row an image."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    columns: tuple[str, ...] = ("camera", "identity", "split", "track")
    name: str = ""

    def add(self, name: str, image: Image.Image | None = None, **values: Any) -> Path:
        """Add a row, and its image where there is one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if image is not None:
            image.save(path)
        self.rows.append({"path": str(path), "split": "train", "track": None, **values})
        return path

    def of(self, split: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == split]

    def without(self, *splits: str) -> None:
        self.rows = [row for row in self.rows if row["split"] not in splits]

    def keep(self, chosen: list[dict[str, Any]]) -> None:
        self.rows = chosen

    def copy(self, row: dict[str, Any], name: str, **changes: Any) -> None:
        """Add a copy of a row's file under another name, with other values."""
        path = self.folder / name
        shutil.copy(row["path"], path)
        self.rows.append({**row, "path": str(path), **changes})

    def nearly(self, row: dict[str, Any], name: str, **changes: Any) -> None:
        """Add what is nearly the same picture as a row's, saved anew."""
        path = self.folder / name
        with Image.open(row["path"]) as image:
            image.save(path, quality=95, subsampling=0)
        self.rows.append({**row, "path": str(path), **changes})

    def table(self) -> ImageTable:
        rows = sorted(self.rows, key=lambda row: row["path"])
        values = {
            f"{name}s" if name != "identity" else "identities": [row[name] for row in rows]
            for name in self.columns
        }
        return ImageTable([row["path"] for row in rows], left_out=self.left_out, source="a test", **values)

    def examine(self, **options: Any) -> Findings:
        return examine(self.table(), self.name, progress=False, workers=1, **options)


def codes(findings: Findings) -> set[str]:
    return {finding.code for finding in findings.findings}


def good_data(folder: Path) -> Data:
    """Return 8 people to train on with 6 images in each of 3 cameras, and 4 people to search for."""
    data = Data(folder)
    seed = 0
    for person in range(12):
        for camera in CAMERAS:
            for number in range(6 if person < 8 else 3):
                split = "train" if person < 8 else ("query" if number == 0 else "gallery")
                name = f"{split}/{camera}/p{person:02}_{number}.png"
                values = {"camera": camera, "identity": f"p{person}", "split": split}
                data.add(name, picture(seed), track=f"{person}", **values)
                seed += 1
    return data
