"""Adaptation to an unlabelled camera network: lines 3 to 13 of Algorithm 1."""

import logging
from functools import partial
from typing import cast

from fastreid.config import CfgNode
from fastreid.engine import hooks
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage

from nplp.data.datasets import Item, ReidData, index_identities
from nplp.data.extraction import extract_features
from nplp.engine.averaging import WeightAverage, WeightAverageHook
from nplp.engine.evaluation import count_queries, evaluate
from nplp.engine.events import log_line
from nplp.engine.pseudo_labels import PseudoLabelHook
from nplp.engine.records import RunRecord
from nplp.engine.trace import Trace
from nplp.engine.trainer import ReidTrainer
from nplp.evaluation.ranking import RankLists
from nplp.modeling import NPLP

__all__ = ["AdaptationTrainer"]

logger = logging.getLogger(__name__)


class AdaptationTrainer(ReidTrainer):
    """Trains an ``NPLP`` model with triplet and center-contrastive loss on pseudo-labels (eq. 12)."""

    stage = 1

    def __init__(self, cfg: CfgNode, items: list[Item], test_sets: list[ReidData], base: CfgNode) -> None:
        """Build everything; the weights are loaded afterwards.

        Args:
            cfg: the configuration.
            items: the target's training images.
            test_sets: evaluated by ``NPLP.EVAL_PERIOD``.
            base: what ``results.json`` gives the differences in the configuration from.
        """
        self.record = RunRecord(queries=count_queries(test_sets))
        self._base = base
        self._test_sets = test_sets
        self._items = items
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.MAX_EPOCH = cfg.NPLP.ITERATIONS * cfg.NPLP.EPOCHS_PER_ITERATION
        cfg.freeze()
        super().__init__(cfg)
        self.checkpointer.checkpointables["pseudo_labels"] = self.pseudo_labels
        self.checkpointer.checkpointables["record"] = self.record
        if self.average is not None:
            self.checkpointer.checkpointables["average"] = self.average

    def build_stage_hooks(self) -> list[hooks.HookBase]:
        """Return the pseudo-label hook, the weight average and the evaluation."""
        cfg, model = self.cfg, cast(NPLP, self.bare_model)
        identities = index_identities(self._items)
        if identities is None:
            logger.info("Target: no image's identity is known, so how good pseudo-labels are cannot be told")
        elif (identities < 0).any():
            logger.info(
                "Target: %d of %d images have known identities; the quality of labels is over these alone",
                (identities >= 0).sum(),
                len(identities),
            )
        self.trace = Trace(cfg, self._items, identities)
        self.pseudo_labels = PseudoLabelHook(cfg, model, self._items, self.record, identities, self.trace)
        self.average = WeightAverage(model, cfg.NPLP.EMA_DECAY) if cfg.NPLP.EMA else None
        averaging = [WeightAverageHook(self.average)] if self.average is not None else []
        return [self.pseudo_labels, *averaging, hooks.CallbackHook(after_epoch=AdaptationTrainer._end_epoch)]

    def begin(self, weights: str) -> None:
        """Start afresh from the model's present weights: evaluate the direct transfer.

        Args:
            weights: where the weights came from, for the log.
        """
        if self.average is not None:
            self.average.restart()
        if comm.is_main_process():
            self.trace.begin()
        logger.info("Direct transfer of %s", weights)
        self._evaluate_as("direct_transfer")
        self.write_record()

    def write_record(self) -> None:
        """Write the results files."""
        self.record.write(self.cfg, self._base)

    def _run_steps(self) -> None:
        with self.record.timed("training"):
            super()._run_steps()

    def _end_epoch(self) -> None:
        """Report the losses; at an iteration's end evaluate and write the results files."""
        options, done = self.cfg.NPLP, self.epoch + 1
        latest = get_event_storage().latest()
        losses = {key: latest[key][0] for key in ("total_loss", "loss_triplet", "loss_cc") if key in latest}
        described = ", ".join(f"{key.removeprefix('loss_')} {value:.3f}" for key, value in losses.items())
        logger.info("  epoch %d, %d steps: %s", done, self.steps_per_epoch, described)
        if done % options.EPOCHS_PER_ITERATION:
            return
        iteration = done // options.EPOCHS_PER_ITERATION
        if comm.is_main_process():
            log_line(self.record.history[-1])
        last, startup_over = iteration == options.ITERATIONS, iteration == options.STARTUP_ITERATIONS
        if last or startup_over or (options.EVAL_PERIOD and iteration % options.EVAL_PERIOD == 0):
            stages = [name for name, due in (("startup", startup_over), ("final", last)) if due]
            self._evaluate_as(*stages)
        if last and self.trace.enabled:
            self._trace_end()
        self.write_record()

    def _trace_end(self) -> None:
        """Keep the sample's features by the finished model."""
        sample = [self._items[number] for number in self.trace.sample]
        with self.record.timed("extraction"):
            features = extract_features(self.cfg, self.bare_model, sample, "Features of the sample")
        if comm.is_main_process():
            self.trace.features("final", features)

    def _trace_ranks(self, stages: tuple[str, ...], data: ReidData, lists: RankLists) -> None:
        for stage in stages:
            self.trace.ranks(stage, data, lists)

    def _evaluate_as(self, *stages: str) -> None:
        """Evaluate the model, and its average where kept, and record the metrics under ``stages``."""
        with self.record.timed("evaluation"):
            observe = partial(self._trace_ranks, stages) if stages and self.trace.enabled else None
            metrics = evaluate(self.cfg, self.model, self._test_sets, observe)
            averaged: dict[str, float] = {}
            if self.average is not None and stages != ("direct_transfer",):
                with self.average.applied():
                    averaged = evaluate(self.cfg, self.model, self._test_sets)
        if not comm.is_main_process() or not metrics:
            return
        for stage in stages:
            self.record.results[stage] = metrics
        if averaged and "final" in stages:
            self.record.results["final_ema"] = averaged
        if self.record.history and "direct_transfer" not in stages:
            self.record.history[-1].update(metrics)
            self.record.history[-1].update({f"ema/{name}": value for name, value in averaged.items()})
            self.storage.put_scalars(**metrics, smoothing_hint=False)
        extra = f"; averaged weights {averaged['Rank-1']:.2f}, {averaged['mAP']:.2f}" if averaged else ""
        logger.info("  Rank-1 %.2f, mAP %.2f%s", metrics["Rank-1"], metrics["mAP"], extra)
