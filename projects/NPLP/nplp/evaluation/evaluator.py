"""The toolbox's evaluator without its Q x G distance matrix."""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable

import torch
from fastreid.config import CfgNode
from fastreid.evaluation.query_expansion import aqe
from fastreid.evaluation.reid_evaluation import ReidEvaluator
from fastreid.utils import comm

from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError
from nplp.evaluation.ranking import (
    NoMatchError,
    Ranking,
    RankLists,
    evaluate_features,
    rank_lists,
)
from nplp.metric_names import METRICS, RANKS, TEST_DISTANCES

__all__ = ["BoundedReidEvaluator"]

logger = logging.getLogger(__name__)


class BoundedReidEvaluator(ReidEvaluator):
    """Rank-1, 5 and 10, mAP and mINP, as the toolbox's ``ReidEvaluator``, in bounded memory.

    The gallery is ranked for a block of queries at a time, so that memory beyond the features is
    O(block x gallery). ``TEST.AQE`` is honoured (its own similarity matrix is of the toolbox, and dense).
    With ``TEST.RERANK`` or ``TEST.ROC``, which are defined on the whole distance matrix, the toolbox's
    own way is taken. Under ``torch.distributed`` the predictions are gathered on the main process.

    Args:
        cfg: ``TEST.METRIC``, ``TEST.AQE``, ``TEST.RERANK`` and ``TEST.ROC`` are read.
        num_query: how many of the images, which come first, are queries.
        output_dir: as for the toolbox's evaluator; nothing is written there.

    Attributes:
        observe: takes the rank lists of each evaluation, on the main process; not with the toolbox's own way.

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

    @property
    def needs_matrix(self) -> bool:
        """Whether something is asked for that is defined on the whole distance matrix."""
        return bool(self.cfg.TEST.RERANK.ENABLED or self.cfg.TEST.ROC.ENABLED)

    def _compile_dependencies(self) -> None:
        # The toolbox's ranking is compiled in the constructor; here only where it will be used.
        if self.needs_matrix:
            super()._compile_dependencies()

    def evaluate(self) -> dict[str, float]:
        """Return the metrics, in percent, on the main process, and an empty dictionary on the others.

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

    def _evaluate_predictions(self, predictions: list[dict[str, torch.Tensor]]) -> dict[str, float]:
        features, identities, cameras = (
            torch.cat([prediction[key] for prediction in predictions]) for key in ("feats", "pids", "camids")
        )
        queries, gallery = self._split(features)
        aqe_cfg = self.cfg.TEST.AQE
        if aqe_cfg.ENABLED:
            logger.info("Test with AQE setting")
            queries, gallery = aqe(queries, gallery, aqe_cfg.QE_TIME, aqe_cfg.QE_K, aqe_cfg.ALPHA)
        metric = self.cfg.TEST.METRIC
        try:
            ranking = evaluate_features(
                queries, gallery, *self._split(identities), *self._split(cameras), metric=metric
            )
        except NoMatchError as error:
            raise UserError(str(error)) from error
        if self.observe is not None:
            lists = rank_lists(
                queries, gallery, *self._split(identities), *self._split(cameras), metric=metric
            )
            self.observe(lists)
        return _in_percent(ranking)

    def _split(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values[: self._num_query], values[self._num_query :]

    def _evaluate_matrix(self) -> dict[str, float]:
        """Evaluate the toolbox's way, with the Q x G matrix; memory is O((Q + G)^2) with re-ranking."""
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


def _in_percent(ranking: Ranking) -> dict[str, float]:
    """Return the toolbox's results; a rank beyond a small gallery has the value of its last rank."""
    cmc, mean_ap, mean_inp = ranking.cmc, float(ranking.all_ap.mean()), float(ranking.all_inp.mean())
    values = [*(float(cmc[min(rank, len(cmc)) - 1]) for rank in RANKS), mean_ap, mean_inp]
    values.append((mean_ap + float(cmc[0])) / 2)
    # The toolbox prints no other mapping.
    return OrderedDict(zip((*METRICS, "metric"), (value * 100 for value in values), strict=True))
