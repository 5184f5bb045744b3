"""Reads what a run left in its folder, as far as it is there.

Shapes: N target images, S images of the sample, Q queries, G gallery images.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nplp.config.dotted import value_at
from nplp.engine.output_folder import CONFIG, HISTORY, RESULTS
from nplp.errors import UserError
from nplp.files import read_json, read_json_lines, read_yaml
from nplp.metric_names import STAGES

__all__ = ["TRACED", "RunFolder", "read_run"]

TRACED = {stage: STAGES[stage] for stage in ("direct_transfer", "startup", "final")}
"""Stages whose features a run keeps, and their titles."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RunFolder:
    """A run's files.

    Attributes:
        folder: OUTPUT_DIR.
        results: the content of ``results.json``; empty while there is none.
        history: the lines of ``pseudo_labels.jsonl``.
        losses: the lines of ``metrics.json``.
        config: the content of ``config.yaml``.
    """

    folder: Path
    results: dict[str, Any]
    history: list[dict[str, Any]]
    losses: list[dict[str, Any]]
    config: dict[str, Any]

    @property
    def images(self) -> Arrays:
        """``paths``, ``cameras``, ``sample`` and, where any is known, ``identities``; empty without a trace.

        An unknown identity among known ones is -1.
        """
        return self.trace("images")

    @property
    def known_identities(self) -> int:
        """How many of the target's images have a known identity."""
        return int((self.images.get("identities", np.empty(0)) >= 0).sum())

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end; without an evaluation its last weights tell."""
        return "final" in self.results or (self.folder / "model_final.pth").is_file()

    def trace(self, name: str) -> Arrays:
        """Return the arrays of ``trace/NAME.npz``; empty where it is missing or torn."""
        try:
            with np.load(self.folder / "trace" / f"{name}.npz", allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return {}

    def iterations(self) -> list[int]:
        """Return the numbers of the iterations that have a trace."""
        return sorted(int(path.stem[-4:]) for path in (self.folder / "trace").glob("iteration_*.npz"))

    def option(self, *keys: str, default: Any = None) -> Any:
        """Return a value of the configuration, or the default where it is not there."""
        return value_at(self.config, ".".join(keys), default)


def read_run(folder: Path) -> RunFolder:
    """Return a run's files.

    Raises:
        UserError: if the folder is not one of a run.
    """
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} does not exist: name the OUTPUT_DIR of a run")
    results, history = folder / RESULTS, folder / HISTORY
    if not history.is_file() and not results.is_file():
        raise UserError(
            f"{str(folder)!r} holds neither {RESULTS} nor {HISTORY}: name the OUTPUT_DIR of an "
            "adaptation that has begun"
        )
    remedy = "--resume the run writes it again"
    try:
        config = read_yaml(folder / CONFIG, remedy)
    except UserError:
        config = {}
    return RunFolder(
        folder,
        read_json(results, remedy) if results.is_file() else {},
        read_json_lines(history),
        read_json_lines(folder / "metrics.json"),
        config,
    )
