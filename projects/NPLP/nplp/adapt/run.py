"""From a plan to a better model: the run, the bundle with its ONNX program, and the index to search in."""

import argparse
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fastreid.config import CfgNode
from fastreid.utils import comm

from nplp.adapt.progress import WholeRun
from nplp.adapt.request import Plan, Request, describe_choices, make_plan
from nplp.adapt.timing import expected_seconds, in_words, measure_speed
from nplp.config import default_config
from nplp.config.validation import validate_device
from nplp.data.datasets import Item, load_training_items
from nplp.distributed.collectives import from_main_process
from nplp.engine.output_folder import CONFIG, RESULTS
from nplp.engine.pipeline import run
from nplp.engine.setup import configure_logging, load_config, merge_pairs
from nplp.engine.trainer import ReidTrainer
from nplp.engine.verdict import Verdict
from nplp.errors import UserError
from nplp.export.bundle import ExportOptions, export_bundle
from nplp.files import read_json
from nplp.methods import build_method
from nplp.modeling import NPLP
from nplp.report.after_run import write_pages
from nplp.search import Embedder, Index, load_model
from nplp.weights.zoo import SUMS

__all__ = ["BUNDLE", "INDEX", "Products", "adapt", "resume"]

logger = logging.getLogger(__name__)

BUNDLE = "bundle"
"""Folder of the adapted model in the run's, ready to be used elsewhere."""
INDEX = "index"
"""What ``nplp search`` reads in the run's folder: the target's images."""


@dataclass(frozen=True)
class Products:
    """What is made of the adapted model: ``onnx`` a program beside its weights, ``index`` a search index."""

    onnx: bool = True
    index: bool = True


def adapt(
    request: Request, products: Products, *, overwrite: bool = False, dry_run: bool = False
) -> dict[str, dict[str, float]]:
    """Adapt a model to a folder of images; return the metrics by stage, of which there may be none.

    Args:
        request: what is asked for.
        products: what is made of the model.
        overwrite: remove an earlier run in the folder, which is kept in ``earlier_runs`` otherwise.
        dry_run: show the settings and the expected time, and end.

    Raises:
        UserError: for whatever a user can set right.
    """
    begun = default_config()
    merge_pairs(begun, list(request.options))
    validate_device(begun)
    configure_logging(begun)
    plan = make_plan(request)
    logger.info("Source model: %s", plan.source.description)
    for note in plan.source.notes:
        logger.info("  %s", note)
    logger.info("\n%s\n", describe_choices(plan))
    if plan.unmeasured:
        logger.info("How much better the model gets will not be measured: %s", plan.unmeasured)
    _announce_time(plan)
    if dry_run:
        return {}
    return _run(plan.cfg, products, plan.items, resumed=False, overwrite=overwrite)


def resume(output: str, options: list[str], products: Products) -> dict[str, dict[str, float]]:
    """Go on with a run that was stopped, with its own settings.

    Args:
        output: its folder.
        options: keys and values in turn, which are refused where they come too late.
        products: what is made of the model.

    Raises:
        UserError: if there is no run, or for whatever a user can set right.
    """
    path = Path(output) / CONFIG
    if not path.is_file():
        raise UserError(f"--resume: there is no run in {output!r}: leave --resume out to begin one")
    cfg = load_config(argparse.Namespace(config_file=str(path), opts=options))
    configure_logging(cfg)
    # In every process: reading some data sets takes all of them.
    return _run(cfg, products, load_training_items(cfg, decoded=False), resumed=True)


def _announce_time(plan: Plan) -> None:
    """Say how long it will take, by a few batches that are timed."""

    def measured() -> float:
        cfg = plan.cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
        model = cast(NPLP, ReidTrainer.build_model(cfg))
        # What a method lacks is said now, also where the settings are only shown.
        build_method(cfg, model)
        speed = measure_speed(cfg, model.backbone, plan.items)
        return expected_seconds(cfg, speed, len(plan.items), plan.tested)

    seconds = from_main_process(measured)
    logger.info("Expected time: %s at most, on this machine as it is now", in_words(seconds))


def _run(
    cfg: CfgNode, products: Products, items: list[Item], *, resumed: bool, overwrite: bool = False
) -> dict[str, dict[str, float]]:
    options = cfg.NPLP
    steps = options.ITERATIONS * options.EPOCHS_PER_ITERATION * options.STEPS_PER_EPOCH
    results = run(
        cfg,
        default_config(),
        resume=resumed,
        overwrite=overwrite,
        at_end=write_pages,
        watchers=[WholeRun(steps)],
    )
    if comm.is_main_process():
        _finish(cfg, products, items, results)
    return results


def _finish(
    cfg: CfgNode, products: Products, items: list[Item], results: dict[str, dict[str, float]]
) -> None:
    """Make the products, an index of the items among them, and say what there is."""
    folder = Path(cfg.OUTPUT_DIR)
    bundle = folder / BUNDLE
    made = [("report.html", "a page to look at the run")] if (folder / "report.html").is_file() else []
    _export(cfg, bundle, products.onnx)
    made.append((f"{BUNDLE}/", "the adapted model" + (", with model.onnx" if products.onnx else "")))
    if products.index:
        _index(items, load_model(bundle, cfg.MODEL.DEVICE), folder / INDEX)
        command = shlex.join(["nplp", "search", "QUERY.jpg", "--index", str(folder / INDEX)])
        made.append((f"{INDEX}/", f"its images to search in: {command}"))
    width = max(len(name) for name, _ in made)
    lines = "\n".join(f"  {name:{width}}  {text}" for name, text in made)
    logger.info("In %s:\n%s", folder, lines)
    if not results:
        logger.info("How much better the model is was not measured: that takes images with identities")
    entry = read_json(folder / RESULTS, "run again").get("verdict")
    if entry:
        logger.info("Verdict: %s", Verdict.from_entry(entry))


def _export(cfg: CfgNode, bundle: Path, onnx: bool) -> None:
    weights = Path(cfg.OUTPUT_DIR) / ("model_final_ema.pth" if cfg.NPLP.EMA else "model_final.pth")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(weights)
    cfg.freeze()
    options = ExportOptions(
        config_file=str(Path(cfg.OUTPUT_DIR) / CONFIG),
        base=default_config(),
        formats=("onnx",) if onnx else (),
        evaluate=False,
        force=(bundle / SUMS).is_file(),
    )
    export_bundle(cfg, bundle, options)


def _index(items: list[Item], embedder: Embedder, folder: Path) -> None:
    """Embed the target's images by the adapted model and write an index of them."""
    paths, cameras = [item[0] for item in items], [str(item[2]) for item in items]
    # Before training, images that cannot be read were refused, or left out as the user wished.
    features, left_out = embedder.embed(paths, cameras, skip_unreadable=True)
    kept = [number for number in range(len(paths)) if number not in left_out]
    index = Index(features, [paths[i] for i in kept], [cameras[i] for i in kept], embedder)
    index.save(folder, overwrite=True)
