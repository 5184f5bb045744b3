"""The toolbox's evaluator without its Q x G distance matrix."""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.evaluation.query_expansion import aqe
from fastreid.evaluation.reid_evaluation import ReidEvaluator
from fastreid.utils import comm

from nplp.clustering.sweep import Progress
from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError
from nplp.evaluation.bootstrap import bootstrap_intervals
from nplp.evaluation.camera_pairs import CameraPairReader, CameraPairs
from nplp.evaluation.protocol import Labels, NoMatchError, check_labels, require_match
from nplp.evaluation.ranking import (
    ListReader,
    QueryScores,
    Ranking,
    RankLists,
    ScoreReader,
    summarise,
)
from nplp.evaluation.reranking import RerankedDistances, Reranking
from nplp.evaluation.roc import MatrixReader, rates_at
from nplp.evaluation.tiles import DistanceBlocks, FeatureDistances, Reader, check_features, read_blocks
from nplp.metric_names import INTERVAL, METRICS, RANKS, RERANK_TOOLBOX, TEST_DISTANCES

__all__ = ["BoundedReidEvaluator", "reranking_of"]

logger = logging.getLogger(__name__)

MAX_RANK = 50
LONG = 2.0
"""From this length of features on, the toolbox's form of re-ranking by Euclidean distances does little."""


class BoundedReidEvaluator(ReidEvaluator):
    """Rank-1, 5 and 10, mAP and mINP, as the toolbox's ``ReidEvaluator``, in bounded memory.

    The gallery is ranked for a block of queries at a time, so that memory beyond the features is
    O(block x gallery), with ``TEST.RERANK`` too. ``TEST.AQE`` is honoured (its own similarity matrix is of
    the toolbox, and dense). ``TEST.ROC`` is defined on all distances: where nothing else is asked for, the
    toolbox's own way is taken. ``TEST.BOOTSTRAP`` adds intervals and ``TEST.BY_CAMERA`` metrics by pairs of
    cameras. Under ``torch.distributed`` the predictions are gathered on the main process.

    Args:
        cfg: ``TEST`` and ``SEED`` are read.
        num_query: how many of the images, which come first, are queries.
        output_dir: as for the toolbox's evaluator; nothing is written there.

    Attributes:
        observe: takes the rank lists of each evaluation, on the main process; not with the toolbox's own way.
        observe_pairs: takes the metrics by pairs of cameras, on the main process, with ``TEST.BY_CAMERA``.

    Raises:
        UserError: if ``TEST.METRIC`` is neither ``euclidean`` nor ``cosine``.
    """

    def __init__(self, cfg: CfgNode, num_query: int, output_dir: str | None = None) -> None:
        if cfg.TEST.METRIC not in TEST_DISTANCES:
            raise UserError(
                f"TEST.METRIC must be one of {', '.join(TEST_DISTANCES)}, got {cfg.TEST.METRIC!r}"
            )
        super().__init__(cfg, num_query, output_dir)
        self.observe: Callable[[RankLists], None] | None = None
        self.observe_pairs: Callable[[CameraPairs], None] | None = None

    @property
    def needs_matrix(self) -> bool:
        """Whether the toolbox's own way is taken, which holds the whole distance matrix."""
        others = self.cfg.TEST.RERANK.ENABLED or self._resamples or self._by_camera
        return bool(self.cfg.TEST.ROC.ENABLED and not others)

    # A configuration of the toolbox alone has none of this project's keys.
    @property
    def _by_camera(self) -> bool:
        return "BY_CAMERA" in self.cfg.TEST and bool(self.cfg.TEST.BY_CAMERA)

    @property
    def _resamples(self) -> int:
        return int(self.cfg.TEST.BOOTSTRAP) if "BOOTSTRAP" in self.cfg.TEST else 0

    def _compile_dependencies(self) -> None:
        # The toolbox's ranking is compiled in the constructor; here only where it will be used.
        if self.needs_matrix:
            super()._compile_dependencies()

    def evaluate(self) -> dict[str, Any]:
        """Return the metrics, in percent, on the main process, and an empty dictionary on the others.

        With ``TEST.BOOTSTRAP`` there are ``Rank-1 interval`` and ``mAP interval`` too, ``[low, high]``.

        Raises:
            UserError: if no query has a match from another camera, as with a single camera.
            ValueError: if features are not finite.
        """
        if self.needs_matrix:
            return self._evaluate_matrix()
        predictions = list(itertools.chain(*comm.gather(self._predictions, dst=0)))
        # For one process, but all wait for it: a large gallery takes its time.
        metrics = from_main_process(lambda: self._evaluate_predictions(predictions))
        return metrics if comm.is_main_process() else {}

    def _evaluate_predictions(self, predictions: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        features, identities, cameras = (
            torch.cat([prediction[key] for prediction in predictions]) for key in ("feats", "pids", "camids")
        )
        labels = check_labels(*self._split(identities), *self._split(cameras))
        try:
            require_match(labels)
        except NoMatchError as error:
            raise UserError(str(error)) from error
        distances = self._distances(*self._split(features))
        scores, lists, pairs, matrix = ScoreReader(), ListReader(), CameraPairReader(labels), MatrixReader()
        wanted: dict[Reader, bool] = {
            scores: True,
            lists: self.observe is not None,
            pairs: self._by_camera and self.observe_pairs is not None,
            matrix: bool(self.cfg.TEST.ROC.ENABLED),
        }
        read_blocks(distances, labels, [reader for reader, is_wanted in wanted.items() if is_wanted])
        if self.observe is not None:
            self.observe(lists.lists())
        if self.observe_pairs is not None and wanted[pairs]:
            self.observe_pairs(pairs.pairs())
        found = scores.scores()
        metrics = _in_percent(summarise(found, min(MAX_RANK, distances.shape[1])))
        if wanted[matrix]:
            metrics.update(rates_at(matrix.matrix(), labels))
        return {**metrics, **self._intervals(found, labels)}

    def _distances(self, queries: torch.Tensor, gallery: torch.Tensor) -> DistanceBlocks:
        """Return the distances that the configuration asks for."""
        check_features(queries, len(queries), "query_features")
        check_features(gallery, len(gallery), "gallery_features")
        aqe_cfg, metric = self.cfg.TEST.AQE, self.cfg.TEST.METRIC
        if aqe_cfg.ENABLED:
            logger.info("Test with AQE setting")
            queries, gallery = aqe(queries, gallery, aqe_cfg.QE_TIME, aqe_cfg.QE_K, aqe_cfg.ALPHA)
        settings = reranking_of(self.cfg)
        if settings is None:
            return FeatureDistances(queries, gallery, metric)
        logger.info(
            "  re-ranked: k1 %d, k2 %d, lambda %g, the %s's form",
            *(settings.k1, settings.k2, settings.share, settings.form),
        )
        length = float(queries.norm(dim=1).median())
        if settings.form == RERANK_TOOLBOX and metric == "euclidean" and length > LONG:
            logger.warning(
                "  features are %.1f long, so that re-ranking in the toolbox's form changes little with "
                "TEST.METRIC euclidean: set TEST.RERANK_FORM paper, or TEST.METRIC cosine",
                length,
            )
        return RerankedDistances(queries, gallery, metric, settings, Progress(shown=True))

    def _intervals(self, scores: QueryScores, labels: Labels) -> dict[str, list[float]]:
        """Return the bootstrap intervals in percent, none where they are not asked for or cannot be had."""
        resamples = self._resamples
        if not resamples:
            return {}
        values = np.stack([scores.first == 0, scores.average_precision], axis=1)
        people = labels.query_ids[scores.queries]
        found = bootstrap_intervals(values, people, resamples, int(self.cfg.SEED))
        if found is None:
            logger.warning("  all queries are of one identity, so that there is no interval over identities")
            return {}
        names = ("Rank-1", "mAP")
        return {name + INTERVAL: (100 * ends).tolist() for name, ends in zip(names, found, strict=True)}

    def _split(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values[: self._num_query], values[self._num_query :]

    def _evaluate_matrix(self) -> dict[str, float]:
        """Evaluate the toolbox's way, with the Q x G matrix."""
        for prediction in self._predictions:
            # The toolbox ranks these without a word.
            if not torch.isfinite(prediction["feats"]).all():
                raise ValueError("features must be finite, got some that are infinite or not a number")
        result: dict[str, float] | UserError
        try:
            result = super().evaluate() or {}
        except NoMatchError as error:
            result = UserError(str(error))
        except AssertionError as error:
            # This is how the toolbox's rankings say it.
            if "query identities" not in str(error):
                raise
            result = UserError(f"no query has a match from another camera ({error})")

        def outcome() -> dict[str, float]:
            if isinstance(result, UserError):
                raise result
            return result

        # The main process alone has worked; the others learn here that it is done.
        metrics = from_main_process(outcome)
        return metrics if comm.is_main_process() else {}


def reranking_of(cfg: CfgNode) -> Reranking | None:
    """Return the settings of ``TEST.RERANK``, ``None`` where it is off.

    The form is the toolbox's where the configuration has no ``TEST.RERANK_FORM``.
    """
    options = cfg.TEST.RERANK
    if not options.ENABLED:
        return None
    form = cfg.TEST.RERANK_FORM if "RERANK_FORM" in cfg.TEST else RERANK_TOOLBOX
    return Reranking(options.K1, options.K2, options.LAMBDA, form)


def _in_percent(ranking: Ranking) -> dict[str, Any]:
    """Return the toolbox's results; a rank beyond a small gallery has the value of its last rank."""
    cmc, mean_ap, mean_inp = ranking.cmc, float(ranking.all_ap.mean()), float(ranking.all_inp.mean())
    values = [*(float(cmc[min(rank, len(cmc)) - 1]) for rank in RANKS), mean_ap, mean_inp]
    values.append((mean_ap + float(cmc[0])) / 2)
    # The toolbox prints no other mapping.
    return OrderedDict(zip((*METRICS, "metric"), (value * 100 for value in values), strict=True))
