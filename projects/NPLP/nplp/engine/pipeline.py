"""The whole of Algorithm 1, from the source model to the adapted one, and evaluation alone."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import nn

from nplp.config import source_config
from nplp.config.choices import CAMERA_NONE, EMBEDDING
from nplp.config.ignored import warn_of_ignored
from nplp.data.datasets import ReidData, load_test_sets, load_training_items, verify_test_sets
from nplp.data.decoded import crops_kept
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.checkpoint import load_weights
from nplp.engine.evaluating import announce_evaluation, count_queries, evaluate
from nplp.engine.norm_statistics import refreshes
from nplp.engine.output_folder import CONFIG, OWN, PRODUCTS, OutputFolder, held
from nplp.engine.resuming import WITHOUT_A_WORD, differences
from nplp.engine.run_record import RunRecord, format_results
from nplp.engine.same_run import check_same_data, check_same_program, check_same_weights
from nplp.engine.setup import prepare_output
from nplp.engine.supervised import SupervisedTrainer, means_nothing_to_source, source_key
from nplp.engine.verdict import last_verdict
from nplp.errors import UserError
from nplp.losses import check_losses
from nplp.modeling.camera_statistics import CAMERA_STATE
from nplp.weights.zoo import resolve_weights

__all__ = ["CLASSIFIER", "NECK", "evaluate_only", "load_trained", "run"]

logger = logging.getLogger(__name__)

CLASSIFIER = ("heads.classifier.", "heads.weight")
"""Weights that belong to the training identities and are left behind."""

LEFT_BEHIND = CLASSIFIER + CAMERA_STATE
"""What an adaptation does not take over from its source model."""

NECK = ("heads.neck.",)
"""Weights that make f_r of f_e: a model whose feature is f_e needs them in training alone."""


def run(
    cfg: CfgNode,
    base: CfgNode,
    *,
    resume: bool,
    overwrite: bool = False,
    at_end: Callable[[Path], None] | None = None,
    watchers: Sequence[HookBase] = (),
) -> dict[str, dict[str, Any]]:
    """Train what ``cfg`` asks for and return the metrics by stage.

    An ``NPLP`` model is pre-trained on the source, unless its weights are given, and adapted to the
    target; any other model of the toolbox is trained with the identities of ``DATASETS.NAMES``.

    Everything is loaded and checked first. Then ``OUTPUT_DIR`` is written into: a run that is refused
    changes nothing in it.

    Args:
        cfg: the configuration.
        base: what ``results.json`` gives the differences in the configuration from.
        resume: continue from the last finished epoch in ``OUTPUT_DIR``, if there is one.
        overwrite: remove an earlier run in ``OUTPUT_DIR``, which is kept in ``earlier_runs`` otherwise.
        at_end: called with ``OUTPUT_DIR`` by the main process when an adaptation with ``NPLP.REPORT`` has
            ended and is saved, such as :func:`nplp.report.after_run.write_pages`.
        watchers: hooks of the adaptation's training, which must change nothing.

    Raises:
        UserError: for whatever a user can set right.
    """
    with held(Path(cfg.OUTPUT_DIR), resume) as folder, crops_kept(cfg):
        start = _Start(folder, resume, overwrite, at_end, watchers)
        check_same_program(cfg)
        warn_of_ignored(cfg)
        test_sets = load_test_sets(cfg, optional=True)
        announce_evaluation(cfg, test_sets)
        for data in test_sets:
            check_same_data(f"{data.name}'s query and gallery", data.query + data.gallery)
        verify_test_sets(cfg, test_sets)
        if cfg.MODEL.META_ARCHITECTURE != "NPLP":
            return _train_stock(cfg, base, test_sets, start)
        return _train_nplp(cfg, base, test_sets, start)


@dataclass(frozen=True)
class _Start:
    """How a run begins in its folder."""

    folder: OutputFolder
    resume: bool
    overwrite: bool
    at_end: Callable[[Path], None] | None
    watchers: Sequence[HookBase]

    def afresh(self, cfg: CfgNode, weights: str = "") -> None:
        """Begin a run, or a resumed one that had no checkpoint yet.

        Args:
            cfg: the configuration, for ``config.yaml``.
            weights: what it starts from; a subfolder that they are in stays where it is.

        Raises:
            UserError: if an earlier run cannot be kept aside, or the weights are a file of it.
        """
        place = self.folder.path
        # A source model alone is evaluated again, where it still is all that is asked for.
        again = not cfg.NPLP.ITERATIONS and not self._holds_adaptation()
        aside = not self.resume or (self._holds_end() and not again)
        staying = "source" if self.resume else ""
        if weights and aside:
            inside = os.path.relpath(os.path.realpath(resolve_weights(weights)), os.path.realpath(place))
            if inside.startswith(f"source{os.sep}"):
                staying = "source"
            elif any(fnmatch(inside, pattern) for pattern in (*OWN, *(f"{name}/*" for name in PRODUCTS))):
                raise UserError(
                    f"the weights {weights!r} are of the run in {str(place)!r}, whose place this one would "
                    "take: set another OUTPUT_DIR, or copy them elsewhere"
                )
        if self.resume:
            logger.info("Nothing to resume in %s: starting afresh", place)
        self.folder.begin(aside=aside, overwrite=self.overwrite, staying=staying)
        prepare_output(cfg)

    def again(self, trainer: SupervisedTrainer | AdaptationTrainer, cfg: CfgNode) -> None:
        """Go on with a run that ``trainer`` has resumed."""
        position = (trainer.start_epoch, trainer.max_epoch)
        logger.info("Resuming %s after epoch %d of %d", trainer.cfg.OUTPUT_DIR, *position)
        # A source model that goes on while an adapted one is there is the beginning of another run.
        aside = not isinstance(trainer, AdaptationTrainer) and self._holds_end()
        self.folder.begin(aside=aside and cfg.MODEL.META_ARCHITECTURE == "NPLP", staying="source")
        prepare_output(cfg)
        trainer.go_on()

    def _holds_end(self) -> bool:
        """Tell whether a run has ended in the folder; without a checkpoint it can only be kept aside."""
        return any(self.folder.path.glob("model_final*.pth")) or self._holds_adaptation()

    def _holds_adaptation(self) -> bool:
        """Tell whether an adaptation has ended in the folder."""
        results = self.folder.path / "results.json"
        return results.is_file() and '"final"' in results.read_text(encoding="utf-8", errors="replace")


def _train_nplp(
    cfg: CfgNode, base: CfgNode, test_sets: list[ReidData], start: _Start
) -> dict[str, dict[str, Any]]:
    """Algorithm 1. The source model is not touched where the adaptation has a checkpoint."""
    check_losses(cfg.MODEL.LOSSES.NAME)
    # Without an iteration the run ends after the direct transfer, which needs the test sets alone, unless the
    # target's cameras or statistics for batch norms are measured.
    needs_target = cfg.NPLP.ITERATIONS or cfg.TEST.CAMERAS != CAMERA_NONE or refreshes(cfg)
    target = load_training_items(cfg) if needs_target else []
    check_same_data("the target's training images", target)
    trainer = AdaptationTrainer(_without_pretraining(cfg), target, test_sets, base)
    if start.resume and trainer.resume():
        start.again(trainer, cfg)
        return _adapt(trainer, start)
    weights = cfg.NPLP.SOURCE.WEIGHTS or cfg.MODEL.WEIGHTS or (_trained_source(cfg) if start.resume else "")
    if weights:
        trainer.load_source(weights, LEFT_BEHIND, NECK)
        start.afresh(cfg, weights)
    else:
        # Refuses what a method's further networks cannot begin from before hours are spent.
        trainer.load_source("", LEFT_BEHIND, NECK)
        # Of the source's crops none is needed afterwards.
        with crops_kept(cfg):
            weights, seconds = _pretrain(cfg, start)
        trainer.load_source(weights, LEFT_BEHIND, NECK)
        trainer.record.seconds.update(seconds)
    trainer.start_afresh()
    trainer.begin(weights)
    return _adapt(trainer, start)


def evaluate_only(cfg: CfgNode) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS``, by default the run's final model, on ``DATASETS.TESTS``.

    The log has the metrics, and what ``TEST.BOOTSTRAP`` and ``TEST.BY_CAMERA`` ask for; nothing is written.
    """
    test_sets = load_test_sets(cfg)
    announce_evaluation(cfg, test_sets)
    model, path = load_trained(cfg)
    pairs: dict[str, Any] = {}  # they are in the log
    metrics = evaluate(cfg, model, test_sets, keep_pairs=pairs.__setitem__)
    if comm.is_main_process():
        logger.info("%s\n%s", path, format_results({"final": metrics}))
    return metrics


def load_trained(cfg: CfgNode) -> tuple[nn.Module, str]:
    """Return the model with ``MODEL.WEIGHTS``, by default the run's final ones, and their path.

    Raises:
        UserError: if the model cannot be built, or the weights are missing or do not fit.
    """
    path = cfg.MODEL.WEIGHTS or str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    model = SupervisedTrainer.build_model(_without_pretraining(cfg))
    # A model whose feature is f_bn or f_r is not whole without its neck.
    neck = NECK if cfg.MODEL.META_ARCHITECTURE == "NPLP" and cfg.MODEL.HEADS.OUTPUT == EMBEDDING else ()
    load_weights(model, path, optional=CLASSIFIER + neck)
    return model.eval(), path


def _without_pretraining(cfg: CfgNode) -> CfgNode:
    """Return ``cfg`` for a model whose weights are loaded right after it is built."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    if cfg.MODEL.META_ARCHITECTURE != "NPLP":
        cfg.MODEL.HEADS.NUM_CLASSES = max(1, cfg.MODEL.HEADS.NUM_CLASSES)
    cfg.freeze()
    return cfg


def _trained_source(cfg: CfgNode) -> str:
    """Return the path of the source model in ``OUTPUT_DIR/source``; empty where it is not trained to its end.

    Raises:
        UserError: if it was trained with other settings than those asked for.
    """
    source = source_config(cfg)
    final = Path(source.OUTPUT_DIR) / "model_final.pth"
    if not final.exists():
        return ""
    try:
        recorded = (final.parent / CONFIG).read_text(encoding="utf-8")
        changed = differences(source, recorded)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        logger.warning("%s: it is not known with which settings it was trained", final)
        return str(final)
    before, now = changed.get("SOLVER.MAX_EPOCH", (0, 0))
    if now > before and list(final.parent.glob("epoch_*-*.pth")):
        return ""
    other = {
        source_key(key, cfg): f"{source_key(key, cfg)} {values[0]!r} there, {values[1]!r} now"
        for key, values in changed.items()
        # The classifier's size follows from the identities where it is not given.
        if not (means_nothing_to_source(key) or key in (*WITHOUT_A_WORD, "MODEL.HEADS.NUM_CLASSES"))
    }
    if other:
        raise UserError(
            f"{str(final)!r} was trained with other settings ({'; '.join(other.values())}): resume with its "
            "own, leave --resume out to train another, or set another OUTPUT_DIR"
        )
    logger.info("Source model: %s, already trained", final)
    return str(final)


def _pretrain(cfg: CfgNode, start: _Start) -> tuple[str, dict[str, float]]:
    """Line 1 of Algorithm 1: begin the run and return the path of the source model, and the seconds."""
    trainer = SupervisedTrainer(source_config(cfg), [])
    if start.resume and trainer.resume():
        start.again(trainer, cfg)
    else:
        start.afresh(cfg)
        trainer.start_afresh()
    prepare_output(trainer.cfg)
    logger.info(
        "Pre-training on %s: %d images of %d identities, %d epochs",
        ", ".join(trainer.cfg.DATASETS.NAMES),
        len(trainer.train_set or ()),
        trainer.cfg.MODEL.HEADS.NUM_CLASSES,
        trainer.max_epoch,
    )
    record = RunRecord()
    with record.timed("source"):
        trainer.train()
    return str(trainer.save_final()), record.seconds


def _adapt(trainer: AdaptationTrainer, start: _Start) -> dict[str, dict[str, Any]]:
    """Lines 3 to 14 of Algorithm 1: train, save the adapted model and return the metrics by stage."""
    trainer.register_hooks(start.watchers)
    trainer.train()
    trainer.complete()
    trainer.save_final()
    if trainer.average is not None:
        trainer.save_final("model_final_ema", trainer.average.weights())
    trainer.write_record()
    traced = comm.is_main_process() and trainer.trace.enabled and trainer.record.history
    if traced and start.at_end is not None:
        start.at_end(Path(trainer.cfg.OUTPUT_DIR))
    results = trainer.record.results
    if comm.is_main_process() and results:
        logger.info("%s\n%s", trainer.cfg.OUTPUT_DIR, format_results(results))
    verdict = last_verdict(trainer.record.history)
    if comm.is_main_process() and verdict is not None:
        logger.info("Verdict: %s", verdict)
    return results


def _train_stock(
    cfg: CfgNode, base: CfgNode, test_sets: list[ReidData], start: _Start
) -> dict[str, dict[str, Any]]:
    trainer = SupervisedTrainer(cfg, test_sets)
    record = RunRecord(queries=count_queries(test_sets))
    if start.resume and trainer.resume():
        start.again(trainer, trainer.cfg)
        if trainer.start_epoch < trainer.max_epoch:
            # What an earlier and shorter end gave is not this run's.
            record.write(cfg, base)
    else:
        if cfg.MODEL.WEIGHTS:
            load_weights(trainer.bare_model, cfg.MODEL.WEIGHTS, optional=CLASSIFIER)
            check_same_weights(trainer.bare_model, cfg.MODEL.WEIGHTS)
        start.afresh(trainer.cfg, cfg.MODEL.WEIGHTS)
        trainer.start_afresh()
    with record.timed("training"):
        trainer.train()
    trainer.save_final()
    with record.timed("evaluation"):
        pairs = record.camera_pairs.setdefault("final", {})
        metrics = evaluate(cfg, trainer.model, test_sets, keep_pairs=pairs.__setitem__)
    if metrics:
        record.results["final"] = metrics
        logger.info("%s\n%s", cfg.OUTPUT_DIR, format_results(record.results))
    record.write(cfg, base)
    return record.results
