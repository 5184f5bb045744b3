"""Evaluation of a model on the configured test sets, and the warnings that come before it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from fastreid.evaluation import inference_on_dataset
from fastreid.utils import comm
from torch import nn
from tqdm import tqdm

from nplp.data.datasets import ReidData, queries_alone
from nplp.data.loaders import DeviceLoader, build_test_loader
from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError
from nplp.evaluation.camera_pairs import CameraPairs
from nplp.evaluation.dense import available_bytes, dense_bytes, dense_keys
from nplp.evaluation.evaluator import BoundedReidEvaluator
from nplp.evaluation.ranking import RankLists
from nplp.memory import is_out_of_memory
from nplp.metric_names import INTERVAL, METRICS

__all__ = ["announce_evaluation", "count_queries", "evaluate", "scalars"]

logger = logging.getLogger(__name__)

EXAMPLES = 5
ROC = "TPR@FPR="
"""The beginning of the names of what ``TEST.ROC`` adds, in percent as the other metrics."""

GIGABYTE = 1e9


class _WithProgress:
    """A set's test loader, which adds the names of the cameras, with a progress bar on a terminal."""

    def __init__(self, loader: DeviceLoader, data: ReidData) -> None:
        self._loader = loader
        self._data = data
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        silent = None if comm.is_main_process() else True
        description = f"Evaluating on {self._data.name}"
        for batch in tqdm(self._loader, desc=description, unit="batch", leave=False, disable=silent):
            cameras = [self._data.camera_name(number) for number in batch["camids"].tolist()]
            yield {**batch, "cameras": cameras}


def count_queries(test_sets: list[ReidData]) -> dict[str, dict[str, Any]]:
    """Return, by set, how many queries there are and how many of them count in no metric.

    Those are the ones without an image of their identity in another camera of the gallery; the first file
    names among them are given as examples.
    """
    counts = {}
    for data in test_sets:
        alone = queries_alone(data)
        counts[data.name] = {
            "all": len(data.query),
            "without_match": len(alone),
            "examples": [Path(data.query[number][0]).name for number in alone[:EXAMPLES]],
        }
    return counts


def announce_evaluation(cfg: CfgNode, test_sets: list[ReidData]) -> None:
    """Say before work begins what evaluations leave out, and what dense matrices will take of memory.

    Raises:
        UserError: if they cannot fit into it.
    """
    for name, counts in count_queries(test_sets).items():
        if counts["without_match"]:
            shown, rest = counts["examples"], counts["without_match"] - len(counts["examples"])
            logger.warning(
                "%s: %d of %d queries have no match in another camera and count in no figure: %s%s",
                name,
                counts["without_match"],
                counts["all"],
                ", ".join(shown),
                f" and {rest} more" if rest else "",
            )
    if dense_keys(cfg):
        from_main_process(lambda: _check_memory(cfg, test_sets))


def _check_memory(cfg: CfgNode, test_sets: list[ReidData]) -> None:
    keys, free = dense_keys(cfg), available_bytes()
    for data in test_sets:
        needed = dense_bytes(cfg, len(data.query), len(data.gallery))
        what = (
            f"{data.name}: {' and '.join(keys)} will take {needed / GIGABYTE:.1f} GB of memory for "
            f"{len(data.query):,} queries and {len(data.gallery):,} gallery images"
        )
        if free is not None and needed > free:
            raise UserError(
                f"{what}, and {free / GIGABYTE:.1f} GB are there: switch it off, take a smaller set in "
                "DATASETS.TESTS, or a machine with more memory"
            )
        there = "" if free is None else f", of {free / GIGABYTE:.1f} GB that are there"
        logger.info("%s%s; without it evaluation is in bounded memory", what, there)


def evaluate(
    cfg: CfgNode,
    model: nn.Module,
    test_sets: list[ReidData],
    observe: Callable[[ReidData, RankLists], None] | None = None,
    keep_pairs: Callable[[str, dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Return the metrics of the first test set in percent, and of further ones under ``name/metric``.

    With ``TEST.BOOTSTRAP`` there are intervals too, such as ``mAP interval``: ``[low, high]``.

    Every rank takes part; only the main process gets the metrics, the others an empty dictionary.

    Args:
        cfg: the configuration; ``TEST`` is read.
        model: gives features in evaluation mode; its mode is restored afterwards.
        test_sets: query and gallery sets; none gives an empty result.
        observe: takes the rank lists of the first set, on the main process.
        keep_pairs: with ``TEST.BY_CAMERA`` takes the name of each set and its metrics by pairs of cameras,
            as :meth:`nplp.evaluation.camera_pairs.CameraPairs.as_record` gives them, on the main process;
            without it they are not made.

    Raises:
        UserError: if no query of a set has a match in another camera, or memory does not suffice.
    """
    metrics: dict[str, Any] = {}
    for number, data in enumerate(test_sets):
        loader = build_test_loader(cfg, data.query + data.gallery)
        evaluator = BoundedReidEvaluator(cfg, len(data.query))
        if observe is not None and not number:
            evaluator.observe = partial(observe, data)
        if keep_pairs is not None:
            evaluator.observe_pairs = partial(_take_pairs, data, keep_pairs)
        progress = _WithProgress(loader, data)
        try:
            values = inference_on_dataset(model, progress, evaluator, flip_test=cfg.TEST.FLIP.ENABLED)
        except ValueError as error:
            raise UserError(f"{data.name}: {error}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            large = dense_keys(cfg) + ["TEST.RERANK.ENABLED"] * cfg.TEST.RERANK.ENABLED
            remedy = f"switch {' and '.join(large)} off" if large else "lower TEST.IMS_PER_BATCH"
            raise UserError(
                f"{data.name}: ranking {len(data.gallery):,} images for {len(data.query):,} queries does not "
                f"fit into memory: {remedy}; what was saved is kept"
            ) from error
        prefix = f"{data.name}/" if number else ""
        metrics.update({prefix + metric: float(values[metric]) for metric in METRICS if metric in values})
        intervals = {key: ends for key, ends in values.items() if key.endswith(INTERVAL)}
        metrics.update({prefix + key: ends for key, ends in intervals.items()})
        if intervals:
            shown = ", ".join(f"{key} {low:.2f} to {high:.2f}" for key, (low, high) in intervals.items())
            logger.info("  %s: %s (95%%, over identities)", data.name, shown)
        curve = {key: 100 * float(value) for key, value in values.items() if key.startswith(ROC)}
        metrics.update({prefix + key: value for key, value in curve.items()})
        if curve:
            shown = ", ".join(f"{key} {value:.2f}" for key, value in curve.items())
            logger.info("  %s: %s", data.name, shown)
    return metrics


def _take_pairs(data: ReidData, keep: Callable[[str, dict[str, Any]], object], pairs: CameraPairs) -> None:
    """Log the metrics by pairs of cameras of a set, and keep them."""
    names = [data.camera_name(number) for number in pairs.cameras.tolist()]
    table = pairs.as_table(names)
    logger.info("%s, Rank-1 / mAP (queries) by cameras:\n%s", data.name, table)
    keep(data.name, pairs.as_record(names))


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are single numbers, without intervals."""
    return {name: value for name, value in metrics.items() if not name.endswith(INTERVAL)}
