"""What a run leaves for its page: labels, scores, features of a sample and rank lists, in OUTPUT_DIR/trace.

Everything is an ``.npz`` file without pickle, written whole or not at all. An iteration that is repeated
after a resume writes its files again.
"""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from torch.nn import functional as F

from nplp.clustering import PseudoLabels
from nplp.clustering.histograms import distance_histogram
from nplp.data.datasets import Item, ReidData, index_cameras
from nplp.evaluation.ranking import RankLists
from nplp.files import write_bytes_atomically
from nplp.memory import is_out_of_memory
from nplp.methods import DistanceSettings

__all__ = ["IMAGES", "SAMPLE", "TRACE", "Trace", "sample_of"]

logger = logging.getLogger(__name__)

TRACE = "trace"
IMAGES = "images.npz"
SAMPLE = 600
"""Images whose features are kept: enough to look at, and a picture that fits a page."""


def sample_of(identities: np.ndarray | None, count: int) -> np.ndarray:
    """Return the numbers of the images whose features are kept, ascending.

    Where identities are known the sample holds whole people, as scattered images of many would show nothing;
    else it is spread evenly.

    Args:
        identities: ``[N]`` int64, -1 where unknown, or ``None``.
        count: N.
    """
    if count <= SAMPLE:
        return np.arange(count)
    if identities is None:
        return np.unique(np.linspace(0, count - 1, SAMPLE).astype(np.int64))
    unknown = identities < 0
    # One whose identity is unknown may be of anybody.
    alone = np.arange(int(unknown.sum())) + int(identities.max()) + 1
    identities = identities.copy()
    identities[unknown] = alone
    people, sizes = np.unique(identities, return_counts=True)
    order = np.random.default_rng(0).permutation(len(people))
    fitting = order[np.cumsum(sizes[order]) <= SAMPLE]
    return np.flatnonzero(np.isin(identities, people[fitting]))


class Trace:
    """Writes the files; does nothing where ``NPLP.REPORT`` is off.

    Args:
        cfg: the configuration.
        items: the N target images.
        identities: ``[N]`` int64, -1 where unknown, or ``None`` where all are unknown.
    """

    def __init__(self, cfg: CfgNode, items: list[Item], identities: np.ndarray | None) -> None:
        self.enabled = bool(cfg.NPLP.REPORT)
        self._cfg = cfg
        self._folder = Path(cfg.OUTPUT_DIR) / TRACE
        self._identities = identities
        self._items = items
        self._cameras = index_cameras(items)
        self.sample = sample_of(identities, len(items))

    def begin(self) -> None:
        """Write which images there are, and forget an earlier run's files."""
        if not self.enabled:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("*.npz"):
            old.unlink()
        known = {} if self._identities is None else {"identities": self._identities}
        paths = np.array([item[0] for item in self._items])
        self._write(IMAGES, paths=paths, cameras=self._cameras, sample=self.sample, **known)

    def go_on(self) -> None:
        """Begin in the middle of a run that kept nothing until now; what there is of this run stays."""
        if not (self._folder / IMAGES).is_file():
            self.begin()

    def iteration(
        self,
        number: int,
        found: PseudoLabels,
        labels: np.ndarray,
        features: torch.Tensor,
        distances: DistanceSettings,
        rejected: np.ndarray | None = None,
        last: bool = False,
    ) -> None:
        """Write an iteration's labels, and at the turning points features of the sample and distances.

        Args:
            number: of the iteration, from 1.
            found: the estimate.
            labels: ``[N]`` int64, those trained on.
            features: ``[N, D]``, those clustered, as the model gave them, on any device.
            distances: how the method measures distances.
            rejected: ``[N]`` int64, labels that a rule rejected in favour of ``labels``.
            last: whether the run ends after it.
        """
        if not self.enabled:
            return
        options = self._cfg.NPLP
        self._write(
            f"iteration_{number:04d}.npz",
            labels=labels.astype(np.int32),
            startup_labels=found.startup_labels.astype(np.int32),
            self_assessment=found.self_assessment,
            noisy_clusters=found.noisy_clusters,
            epsilon=np.array([found.epsilon_e, found.epsilon_c]),
            **({} if rejected is None else {"rejected_labels": rejected.astype(np.int32)}),
        )
        # Without a startup stage the first iteration follows the direct transfer all the same.
        stage = "direct_transfer" if number == 1 else "startup"
        if number in (1, options.STARTUP_ITERATIONS + 1):
            self.features(stage, features[torch.from_numpy(self.sample)])
        if last or number in (1, options.STARTUP_ITERATIONS + 1):
            self._distances(number, found, features, distances)

    def _distances(
        self, number: int, found: PseudoLabels, features: torch.Tensor, distances: DistanceSettings
    ) -> None:
        """Write how distances are spread; without them where memory does not suffice."""
        known = self._identities if self._identities is not None and (self._identities >= 0).all() else None
        try:
            histogram = distance_histogram(
                distances.prepare(features).cpu().numpy(),
                self._cameras,
                known,
                **distances.keywords(),
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("  the page will have no distances of iteration %d: out of memory", number)
            return
        epsilon = np.array([found.epsilon_e, found.epsilon_c])
        self._write(f"distances_{number:04d}.npz", epsilon=epsilon, **vars(histogram))

    def features(self, stage: str, features: torch.Tensor) -> None:
        """Write the features ``[S, D]`` of the sample at a stage, as unit vectors."""
        self._write(f"features_{stage}.npz", features=F.normalize(features.cpu()).numpy().astype(np.float16))

    def ranks(self, stage: str, data: ReidData, lists: RankLists) -> None:
        """Write the first images of each query's rank list at a stage."""
        if not self.enabled:
            return
        sides: dict[str, Any] = {}
        for name, items in (("query", data.query), ("gallery", data.gallery)):
            sides[f"{name}_paths"] = np.array([item[0] for item in items])
            sides[f"{name}_identities"] = np.array([int(item[1]) for item in items])
            sides[f"{name}_cameras"] = np.array([int(item[2]) for item in items])
        self._write("test_images.npz", **sides)
        self._write(
            f"ranks_{stage}.npz", top=lists.top.astype(np.int32), average_precision=lists.average_precision
        )

    def _write(self, name: str, **arrays: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes_atomically(self._folder / name, buffer.getvalue())
