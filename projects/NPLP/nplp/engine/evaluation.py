"""Evaluation of a model on the configured test sets."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from fastreid.config import CfgNode
from fastreid.evaluation import inference_on_dataset
from fastreid.utils import comm
from torch import nn
from tqdm import tqdm

from nplp.data.datasets import ReidData
from nplp.data.loaders import DeviceLoader, build_test_loader
from nplp.engine.records import METRICS
from nplp.errors import UserError
from nplp.evaluation.evaluator import BoundedReidEvaluator
from nplp.evaluation.ranking import RankLists

__all__ = ["evaluate"]


class _WithProgress:
    """A test loader with a progress bar, shown on a terminal only."""

    def __init__(self, loader: DeviceLoader, description: str) -> None:
        self._loader = loader
        self._description = description
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        silent = None if comm.is_main_process() else True
        yield from tqdm(self._loader, desc=self._description, unit="batch", leave=False, disable=silent)


def evaluate(
    cfg: CfgNode,
    model: nn.Module,
    test_sets: list[ReidData],
    observe: Callable[[ReidData, RankLists], None] | None = None,
) -> dict[str, float]:
    """Return the metrics of the first test set in percent, and of further ones under ``name/metric``.

    Every rank takes part; only the main process gets the metrics, the others an empty dictionary.

    Args:
        cfg: the configuration; ``TEST`` is read.
        model: gives features in evaluation mode; its mode is restored afterwards.
        test_sets: query and gallery sets; none gives an empty result.
        observe: takes the rank lists of the first set, on the main process; not with re-ranking.

    Raises:
        UserError: if no query of a set has a match in another camera.
    """
    metrics: dict[str, float] = {}
    for number, data in enumerate(test_sets):
        loader = build_test_loader(cfg, data.query + data.gallery)
        evaluator = BoundedReidEvaluator(cfg, len(data.query))
        if observe is not None and not number:
            evaluator.observe = partial(observe, data)
        progress = _WithProgress(loader, f"Evaluating on {data.name}")
        try:
            found = inference_on_dataset(model, progress, evaluator, flip_test=cfg.TEST.FLIP.ENABLED)
        except ValueError as error:
            raise UserError(f"{data.name}: {error}") from error
        prefix = f"{data.name}/" if number else ""
        metrics.update({prefix + metric: float(found[metric]) for metric in METRICS if metric in found})
    return metrics
