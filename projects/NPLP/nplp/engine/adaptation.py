"""Adaptation to an unlabelled camera network: lines 3 to 13 of Algorithm 1."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml
from fastreid.config import CfgNode
from fastreid.engine import hooks
from fastreid.utils import comm
from fastreid.utils.events import EventStorage, get_event_storage
from torch import nn

from nplp.data.datasets import Item, ReidData, index_identities
from nplp.data.extraction import extract_features
from nplp.engine.averaging import WeightAverage, WeightAverageHook
from nplp.engine.camera_statistics import measure_camera_statistics
from nplp.engine.checkpoint import load_weights
from nplp.engine.evaluating import count_queries, evaluate, scalars
from nplp.engine.events import log_line
from nplp.engine.networks import trained_together
from nplp.engine.norm_statistics import refresh_statistics, refreshes
from nplp.engine.pseudo_labels import PseudoLabelHook
from nplp.engine.resuming import LABELLING, TRAINING, Difference, refuse_without_effect
from nplp.engine.run_record import RunRecord
from nplp.engine.same_run import check_same_weights
from nplp.engine.stopping import is_last
from nplp.engine.trace import Trace
from nplp.engine.tracks import target_constraints
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.evaluation.ranking import RankLists
from nplp.files import sha256_of
from nplp.methods import NetworkMethod, build_method
from nplp.metric_names import METRICS
from nplp.modeling import NPLP
from nplp.modeling.camera_statistics import CAMERA_STATE
from nplp.weights.zoo import resolve_weights

__all__ = ["AdaptationTrainer"]

logger = logging.getLogger(__name__)


class AdaptationTrainer(ReidTrainer):
    """Trains an ``NPLP`` model on pseudo-labels by the method of ``NPLP.METHOD``."""

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
        self._end_unknown = False
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

    def add_networks(self, model: nn.Module) -> nn.Module:
        """Build the method, and add the networks that it trains beside the model."""
        self.method = build_method(self.cfg, cast(NPLP, model))
        return trained_together(self.method, cast(NPLP, model), len(self._items))

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
        model.objective = self.method.losses
        self.average = WeightAverage(model, cfg.NPLP.EMA_DECAY, CAMERA_STATE) if cfg.NPLP.EMA else None
        teacher = self.average if cfg.NPLP.EMA_LABELS else None
        constraints = target_constraints(cfg, self._items)
        self.pseudo_labels = PseudoLabelHook(
            cfg, model, self.method, self._items, self.record, identities, self.trace, teacher, constraints
        )
        averaging = [WeightAverageHook(self.average)] if self.average is not None else []
        return [self.pseudo_labels, *averaging, hooks.CallbackHook(after_epoch=AdaptationTrainer._end_epoch)]

    def load_source(self, weights: str, optional: tuple[str, ...], initial: tuple[str, ...]) -> None:
        """Load the source model's weights, and let the method's further networks begin from them.

        Args:
            weights: as :func:`load_weights` takes them; empty: those that the model has.
            optional: the same.
            initial: the same.

        Raises:
            UserError: if a file does not fit, or is another one on another machine.
        """
        if weights:
            load_weights(self.bare_model, weights, optional=optional, initial=initial)
        if isinstance(self.method, NetworkMethod):
            load = partial(load_weights, optional=optional, initial=initial)
            self._networks_begin = self.method.start(load)
        if weights:
            check_same_weights(self.trained, weights)

    def begin(self, weights: str) -> None:
        """Start afresh from the model's present weights: evaluate the direct transfer.

        Args:
            weights: where the weights came from, for the log.
        """
        if self.average is not None:
            self.average.restart()
        if comm.is_main_process():
            self.trace.begin()
            self.record.source_sum = sha256_of(Path(resolve_weights(weights)))
        if isinstance(self.method, NetworkMethod):
            logger.info("%s", self._networks_begin)
        logger.info("Direct transfer of %s", weights)
        self._evaluate_as("direct_transfer")
        self.write_record()
        # Without an iteration, what is measured of the target's images is all of the adaptation.
        measures = self._measures_cameras or refreshes(self.cfg)
        self._end_unknown = measures and not self.cfg.NPLP.ITERATIONS

    def resume(self) -> bool:
        """Load the last checkpoint, and return whether there was one; nothing is written.

        What was final in a shorter run is not final in this one, and so with the end of the startup stage.

        Raises:
            UserError: as the trainer's; also for another source model, or another end of the startup stage
                where that is past.
        """
        if not super().resume():
            return False
        results, options = self.record.results, self.cfg.NPLP
        ended = self.start_epoch == self.max_epoch or self.ends_before(self.start_epoch)
        if not ended:
            results.pop("final", None)
            results.pop("final_ema", None)
            if self.record.stopped:
                self._old_end = self.start_epoch
        self._note_stop()
        self._end_unknown = ended and "final" not in results
        if self._startup_before != options.STARTUP_ITERATIONS:
            results.pop("startup", None)
            for line in self.record.history:
                if line["iteration"] == options.STARTUP_ITERATIONS and set(METRICS) <= line.keys():
                    results["startup"] = {metric: line[metric] for metric in METRICS}
        return True

    def ends_before(self, epoch: int) -> bool:
        """Tell whether NPLP.STOP ended the run with the iteration whose last epoch is the one before."""
        state, options = self.pseudo_labels.state, self.cfg.NPLP
        done = epoch == state.iteration * options.EPOCHS_PER_ITERATION < self.max_epoch
        return done and is_last(options.STOP, state.iteration, state.agreement)

    def _note_stop(self, done: int | None = None) -> None:
        """Record whether NPLP.STOP ended the run with ``done`` epochs, by default those of a resumed run."""
        state = self.pseudo_labels.state
        self.record.stopped = {}
        if self.ends_before(self.start_epoch if done is None else done):
            planned, agreement = self.cfg.NPLP.ITERATIONS, float(state.agreement or 0)
            self.record.stopped = {"iteration": state.iteration, "planned": planned, "agreement": agreement}

    def means_nothing(self, key: str) -> bool:
        """Tell whether a key is derived from others, or is looked at by :meth:`check_position`."""
        return key in ("SOLVER.MAX_EPOCH", "MODEL.WEIGHTS") or key.startswith("NPLP.SOURCE.")

    def shown_key(self, key: str) -> str:
        """Return the key that a user sets for the number of epochs; other keys as they are."""
        return "NPLP.ITERATIONS" if key == "SOLVER.MAX_EPOCH" else key

    def old_end_name(self, epoch: int) -> str:
        """Return the name of the iteration that a shorter run ended with."""
        return f"iteration_{epoch // self.cfg.NPLP.EPOCHS_PER_ITERATION:04d}"

    def check_position(
        self, saved: dict[str, Any], then: dict[str, Any], changed: dict[str, Difference]
    ) -> None:
        """Check that the iterations that have begun are what they would have been in this run.

        Raises:
            UserError: naming settings that come too late.
        """
        options, begun = self.cfg.NPLP, int(saved["pseudo_labels"]["iteration"])
        self._startup_before = int(then["NPLP"]["STARTUP_ITERATIONS"])
        self._check_source(saved["record"].get("source_sum", ""), then)
        if begun > options.ITERATIONS:
            raise UserError(
                f"NPLP.ITERATIONS {options.ITERATIONS}: the run in {self.cfg.OUTPUT_DIR!r} is in iteration "
                f"{begun} already: give {begun} or more, or leave --resume out"
            )
        if min(begun, self._startup_before) != min(begun, options.STARTUP_ITERATIONS):
            raise UserError(
                f"NPLP.STARTUP_ITERATIONS {self._startup_before} there, {options.STARTUP_ITERATIONS} now: "
                f"iteration {begun} has begun, so that the stage of an earlier one would be another: resume "
                "with the old value, or leave --resume out"
            )
        super().check_position(saved, then, changed)
        stops = is_last(options.STOP, begun, saved["pseudo_labels"].get("agreement"))
        if stops and int(saved["epoch"]) == begun * options.EPOCHS_PER_ITERATION:
            reason = f"the run in {self.cfg.OUTPUT_DIR!r} has ended by NPLP.STOP"
            refuse_without_effect(changed, (*TRAINING, *LABELLING), reason)
        if stops or begun == options.ITERATIONS:
            reason = f"the last of {begun} iterations has its labels"
            refuse_without_effect(changed, LABELLING, reason)
        if options.EPSILON_UPDATE == "first":
            reason = "NPLP.EPSILON_UPDATE 'first' keeps the first iteration's epsilon"
            refuse_without_effect(changed, ("NPLP.ALPHA",), reason)

    def _check_source(self, known: str, then: dict[str, Any]) -> None:
        """Check that no other source model is asked for than the one that adaptation began with.

        The weights themselves are not needed any more: where they are gone nothing is compared.

        Args:
            known: the SHA-256 sum of the weights it began with; empty in checkpoints of earlier versions.
            then: the checkpoint's configuration.

        Raises:
            UserError: naming the keys that ask for another one.
        """
        present = self.cfg.NPLP.SOURCE.WEIGHTS or self.cfg.MODEL.WEIGHTS
        before = then["NPLP"]["SOURCE"]["WEIGHTS"] or then["MODEL"]["WEIGHTS"]
        if not present and not before:
            settings = yaml.safe_load(self.cfg.dump())["NPLP"]["SOURCE"]
            for key, value in settings.items():
                if then["NPLP"]["SOURCE"].get(key, value) != value:
                    raise UserError(
                        f"NPLP.SOURCE.{key} {then['NPLP']['SOURCE'][key]!r} there, {value!r} now: that would "
                        "change nothing, as adaptation has begun from the source model: resume with the old "
                        "value, or leave --resume out"
                    )
        if not present or present == before:
            return
        path = Path(resolve_weights(present))
        if known and path.is_file() and sha256_of(path) != known:
            raise UserError(
                f"NPLP.SOURCE.WEIGHTS {present!r} is another model than the one that the run in "
                f"{self.cfg.OUTPUT_DIR!r} began with ({before or 'its own source model'!r}): name that one, "
                "or leave --resume out"
            )
        logger.info("%s is not read: the adaptation in %s has begun", present, self.cfg.OUTPUT_DIR)

    def go_on(self) -> None:
        """Begin to write again after :meth:`resume`."""
        super().go_on()
        if comm.is_main_process():
            self.trace.go_on()
        self.write_record()

    def complete(self) -> None:
        """Evaluate the model as the final one, where it was not known to be when it was evaluated."""
        if self.record.stopped:
            logger.info(
                "Stopped after iteration %(iteration)d of %(planned)d: its labels agree with those before by "
                "%(agreement).3f (NPLP.STOP.AGREEMENT)",
                self.record.stopped,
            )
        if not self._end_unknown:
            return
        ends_startup = self.pseudo_labels.state.iteration == self.cfg.NPLP.STARTUP_ITERATIONS > 0
        with EventStorage(self.iter) as self.storage:
            self._evaluate_as(*("startup",) * ends_startup, "final")
        if self.trace.enabled and self.cfg.NPLP.ITERATIONS:
            self._trace_end()

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
        names = ["total_loss", *(name for name in latest if name.startswith("loss_"))]
        losses = {name: latest[name][0] for name in names if name in latest}
        described = ", ".join(f"{key.removeprefix('loss_')} {value:.3f}" for key, value in losses.items())
        logger.info("  epoch %d, %d steps: %s", done, self.steps_per_epoch, described)
        if done % options.EPOCHS_PER_ITERATION:
            return
        iteration = done // options.EPOCHS_PER_ITERATION
        if comm.is_main_process():
            log_line(self.record.history[-1])
        last = self.pseudo_labels.state.is_last(options)
        startup_over = iteration == options.STARTUP_ITERATIONS
        self._note_stop(done)
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

    @property
    def _measures_cameras(self) -> bool:
        return cast(NPLP, self.bare_model).camera_statistics is not None

    def _evaluate(
        self, stages: tuple[str, ...], observe: Callable[[ReidData, RankLists], None] | None = None
    ) -> dict[str, Any]:
        """Evaluate the present weights; metrics by pairs of cameras are kept under ``stages``."""

        def keep_pairs(name: str, pairs: dict[str, Any]) -> None:
            for stage in stages:
                self.record.camera_pairs.setdefault(stage, {})[name] = pairs

        with self.record.timed("evaluation"):
            kept = keep_pairs if stages else None
            return evaluate(self.cfg, self.model, self._test_sets, observe, kept)

    def _measure_and_evaluate(
        self, stages: tuple[str, ...], observe: Callable[[ReidData, RankLists], None] | None = None
    ) -> dict[str, Any]:
        """Evaluate the present weights, with statistics of the target's images where they are wanted."""
        if refreshes(self.cfg):
            with self.record.timed("batch-norm statistics"):
                refresh_statistics(self.cfg, cast(NPLP, self.bare_model), self._items)
        if self._measures_cameras:
            with self.record.timed("camera statistics"):
                measure_camera_statistics(self.cfg, cast(NPLP, self.bare_model), self._items)
        return self._evaluate(stages, observe)

    def _evaluate_as(self, *stages: str) -> None:
        """Evaluate the model, and its average where kept, and record the metrics under ``stages``.

        The direct transfer is of the source model, which knows nothing of the target's cameras.
        """
        observe = partial(self._trace_ranks, stages) if stages and self.trace.enabled else None
        averaged: dict[str, Any] = {}
        if stages == ("direct_transfer",):
            metrics = self._evaluate(stages, observe)
        else:
            metrics = self._measure_and_evaluate(stages, observe)
            if self.average is not None:
                with self.average.applied():
                    averaged = self._measure_and_evaluate(("final_ema",) if "final" in stages else ())
        if not comm.is_main_process() or not metrics:
            return
        for stage in stages:
            self.record.results[stage] = metrics
        if averaged and "final" in stages:
            self.record.results["final_ema"] = averaged
        if self.record.history and "direct_transfer" not in stages:
            self.record.history[-1].update(metrics)
            self.record.history[-1].update({f"ema/{name}": value for name, value in averaged.items()})
            self.storage.put_scalars(**scalars(metrics), smoothing_hint=False)
        extra = f"; averaged weights {averaged['Rank-1']:.2f}, {averaged['mAP']:.2f}" if averaged else ""
        logger.info("  Rank-1 %.2f, mAP %.2f%s", metrics["Rank-1"], metrics["mAP"], extra)
