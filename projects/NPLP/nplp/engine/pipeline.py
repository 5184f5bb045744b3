"""The whole of Algorithm 1, from the source model to the adapted one, and evaluation alone."""

import logging
from pathlib import Path

from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import nn

from nplp.config import source_config
from nplp.data.datasets import ReidData, load_test_sets, load_training_items, verify_test_sets
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.checkpoint import load_weights, read_checkpoint
from nplp.engine.evaluation import announce_evaluation, count_queries, evaluate
from nplp.engine.records import RunRecord, format_results
from nplp.engine.supervised import SupervisedTrainer
from nplp.ignored import warn_of_ignored
from nplp.modeling.meta_arch import check_losses

__all__ = ["CLASSIFIER", "NECK", "evaluate_only", "load_trained", "run"]

logger = logging.getLogger(__name__)

CLASSIFIER = ("heads.classifier.", "heads.weight")
"""Weights that belong to the training identities and are left behind."""

NECK = ("heads.neck.",)
"""Weights that make f_r of f_e: in training alone, so a model from the zoo has none."""


def run(cfg: CfgNode, base: CfgNode, *, resume: bool) -> dict[str, dict[str, float]]:
    """Train what ``cfg`` asks for and return the metrics by stage.

    An ``NPLP`` model is pre-trained on the source, unless its weights are given, and adapted to the
    target; any other model of the toolbox is trained with the identities of ``DATASETS.NAMES``.

    Args:
        cfg: the configuration.
        base: what ``results.json`` gives the differences in the configuration from.
        resume: continue from the last finished epoch in ``OUTPUT_DIR``, if there is one.

    Raises:
        UserError: for whatever a user can set right.
    """
    warn_of_ignored(cfg)
    test_sets = load_test_sets(cfg, optional=True)
    announce_evaluation(cfg, test_sets)
    verify_test_sets(cfg, test_sets)
    if cfg.MODEL.META_ARCHITECTURE != "NPLP":
        return _train_stock(cfg, base, test_sets, resume)
    # Looked at before the source model is trained, as it is what fails late otherwise.
    check_losses(cfg.MODEL.LOSSES.NAME)
    # Without an iteration the run ends after the direct transfer, which needs the test sets alone.
    target = load_training_items(cfg) if cfg.NPLP.ITERATIONS else []
    weights = cfg.NPLP.SOURCE.WEIGHTS or cfg.MODEL.WEIGHTS
    seconds: dict[str, float] = {}
    if weights:
        # Refused before there is anything of a run that cannot begin.
        read_checkpoint(weights)
    else:
        weights = str(_pretrain(cfg, resume, seconds))
    trainer = AdaptationTrainer(_without_pretraining(cfg), target, test_sets, base)
    if not _resume_or_clear(trainer, resume):
        load_weights(trainer.bare_model, weights, optional=CLASSIFIER, initial=NECK)
        trainer.record.seconds.update(seconds)
        trainer.begin(weights)
    return _adapt(trainer)


def evaluate_only(cfg: CfgNode) -> dict[str, float]:
    """Evaluate ``MODEL.WEIGHTS``, by default the run's final model, on ``DATASETS.TESTS``."""
    test_sets = load_test_sets(cfg)
    announce_evaluation(cfg, test_sets)
    model, path = load_trained(cfg)
    metrics = evaluate(cfg, model, test_sets)
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
    load_weights(model, path, optional=CLASSIFIER + NECK)
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


def _pretrain(cfg: CfgNode, resume: bool, seconds: dict[str, float]) -> Path:
    """Line 1 of Algorithm 1: return the path of the source model's weights."""
    source = source_config(cfg)
    final = Path(source.OUTPUT_DIR) / "model_final.pth"
    if resume and final.exists():
        logger.info("Source model: %s, already trained", final)
        return final
    if comm.is_main_process():
        final.parent.mkdir(parents=True, exist_ok=True)
        final.unlink(missing_ok=True)
    comm.synchronize()
    trainer = SupervisedTrainer(source, [])
    logger.info(
        "Pre-training on %s: %d images of %d identities, %d epochs",
        ", ".join(source.DATASETS.NAMES),
        len(trainer.train_set or ()),
        trainer.cfg.MODEL.HEADS.NUM_CLASSES,
        trainer.max_epoch,
    )
    _resume_or_clear(trainer, resume)
    record = RunRecord()
    with record.timed("source"):
        trainer.train()
    seconds.update(record.seconds)
    return trainer.save_final()


def _adapt(trainer: AdaptationTrainer) -> dict[str, dict[str, float]]:
    """Lines 3 to 14 of Algorithm 1: train, save the adapted model and return the metrics by stage."""
    trainer.train()
    trainer.save_final()
    if trainer.average is not None:
        trainer.save_final("model_final_ema", trainer.average.weights())
    trainer.write_record()
    if comm.is_main_process() and trainer.trace.enabled and trainer.record.history:
        _write_page(Path(trainer.cfg.OUTPUT_DIR))
    results = trainer.record.results
    if comm.is_main_process() and results:
        logger.info("%s\n%s", trainer.cfg.OUTPUT_DIR, format_results(results))
    return results


def _write_page(folder: Path) -> None:
    """Write the run's page; a page that cannot be drawn must not cost a trained model."""
    try:
        # Drawing takes a second to import, and only runs that end well need it.
        from nplp.report.page import write_report
        from nplp.report.projection import write_projection

        logger.info("Page: %s", write_report(folder))
        write_projection(folder)
    except Exception as error:  # noqa: BLE001  whatever it is, the run is finished and saved
        logger.warning("The page could not be written (%s): tools/report.py %s tries again", error, folder)


def _train_stock(
    cfg: CfgNode, base: CfgNode, test_sets: list[ReidData], resume: bool
) -> dict[str, dict[str, float]]:
    trainer = SupervisedTrainer(cfg, test_sets)
    if not _resume_or_clear(trainer, resume) and cfg.MODEL.WEIGHTS:
        load_weights(trainer.bare_model, cfg.MODEL.WEIGHTS, optional=CLASSIFIER)
    record = RunRecord(queries=count_queries(test_sets))
    with record.timed("training"):
        trainer.train()
    trainer.save_final()
    with record.timed("evaluation"):
        metrics = evaluate(cfg, trainer.model, test_sets)
    if metrics:
        record.results["final"] = metrics
        logger.info("%s\n%s", cfg.OUTPUT_DIR, format_results(record.results))
    record.write(cfg, base)
    return record.results


def _resume_or_clear(trainer: SupervisedTrainer | AdaptationTrainer, resume: bool) -> bool:
    """Resume if asked and possible, else forget an earlier run in the folder; return whether resumed."""
    folder = trainer.cfg.OUTPUT_DIR
    if resume and trainer.resume():
        logger.info("Resuming %s after epoch %d of %d", folder, trainer.start_epoch, trainer.max_epoch)
        return True
    if resume:
        logger.info("Nothing to resume in %s: starting afresh", folder)
    trainer.start_afresh()
    return False
