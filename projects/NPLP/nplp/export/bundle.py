"""A trained model becomes a bundle: weights, configuration, results, programs, card and sums in a folder.

The same checkpoint and settings give the same bytes.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from safetensors.torch import save
from torch import nn

from nplp.config.bundles import RefusedKeyError, parse_configuration
from nplp.data.datasets import load_test_sets
from nplp.engine.evaluating import evaluate
from nplp.engine.pipeline import load_trained
from nplp.engine.run_record import versions_of_results
from nplp.errors import UserError
from nplp.export.card import card_facts, render_card, zoo_row
from nplp.export.converters import FORMATS, require_packages
from nplp.export.inference import UNKNOWN_CAMERA, inference_config, inference_weights
from nplp.export.programs import write_programs
from nplp.files import PART, read_json, save_atomically
from nplp.metric_names import METRICS
from nplp.weights.zoo import (
    CARD,
    CONFIG,
    RESULTS,
    SAFETENSORS,
    SUMS,
    WEIGHTS,
    Bundle,
    check_name,
    read_bundle,
    write_sums,
)

__all__ = ["ExportOptions", "export_bundle"]

logger = logging.getLogger(__name__)

ROW = "model_zoo_row.md"
SAME = 0.05
"""Percentage points by which the recorded metrics of the same weights may differ."""


@dataclass(frozen=True)
class ExportOptions:
    """What a bundle has.

    Attributes:
        config_file: the configuration's file, for the card.
        base: the configuration that the card gives differences from.
        formats: of :data:`FORMATS`; "float16" and "int8-*" bring "onnx" along.
        evaluate: measure the metrics of the weights and of each program on DATASETS.TESTS; else those that
            lie beside the weights are taken over.
        force: replace what an earlier export left in the folder.
        licence: of the weights; empty: what is known of the data sets.
    """

    config_file: str
    base: CfgNode
    formats: tuple[str, ...] = ("onnx",)
    evaluate: bool = True
    force: bool = False
    licence: str = ""


def export_bundle(cfg: CfgNode, output: Path, options: ExportOptions) -> Bundle:
    """Write the model of ``MODEL.WEIGHTS`` (default: the run's final one) to a folder as a bundle.

    Args:
        cfg: the configuration that it was trained with.
        output: the folder; its name becomes the model's.
        options: what the bundle has.

    Raises:
        UserError: if the folder is not empty, the weights do not fit the configuration, data to evaluate on
            are missing, or a program disagrees with the model. Nothing is left of the bundle.
    """
    name = check_name(output.resolve().name)
    _check_folder(output, options.force)
    formats = _with_onnx(options.formats)
    require_packages(formats)
    cfg = _on_cpu(cfg)
    configuration = _configuration_of(cfg, name)
    test_sets = load_test_sets(cfg, optional=True) if options.evaluate else []
    model, weights = load_trained(cfg)
    record = _record_beside(Path(weights))
    if test_sets:
        metrics = evaluate(cfg, model, test_sets)
        record = _record_of(record, metrics, weights)
    elif "final" not in record and cfg.DATASETS.TESTS:
        raise UserError(
            f"there is no {RESULTS} with final metrics beside {weights!r}: leave --no-evaluate out, so that "
            "they are measured"
        )
    with _unfinished(output) as folder:
        (folder / CONFIG).write_text(configuration, encoding="utf-8")
        tensors = inference_weights(model)
        save_atomically({"model": tensors}, folder / WEIGHTS)
        # Not save_file, whose file others could not read.
        (folder / SAFETENSORS).write_bytes(save(tensors, metadata={"format": "pt"}))
        programs = write_programs(cfg, model, folder, formats, test_sets, record.get("final", {}))
        known = getattr(model, "known_cameras", None)
        results = {**record, **({"programs": programs} if programs else {}), **_rows_of_cameras(cfg, known)}
        (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        pretrained = cfg.MODEL.BACKBONE.PRETRAIN
        row = zoo_row(cfg, name, options.config_file, record.get("final", {}), pretrained)
        (folder / ROW).write_text(row + "\n", encoding="utf-8")
        sums = write_sums(folder).sums
        facts = card_facts(cfg, options.base, name, record, programs)
        facts.update(_facts_of_export(cfg, model, options, tensors), sums=sums, cameras=known)
        (folder / CARD).write_text(render_card(facts), encoding="utf-8")
        write_sums(folder)
        _move(folder, output)
    return read_bundle(output)


def _configuration_of(cfg: CfgNode, name: str) -> str:
    """Return the content of a bundle's configuration, of which nothing will be refused when it is read.

    Raises:
        UserError: if a setting cannot go into a bundle.
    """
    if cfg.INPUT.CROP.ENABLED:
        raise UserError(
            "INPUT.CROP.ENABLED must be False for a bundle, whose programs take whole images of "
            "INPUT.SIZE_TEST, got True: export with it False"
        )
    text = inference_config(cfg, name).dump()
    try:
        parse_configuration(text)
    except RefusedKeyError as error:
        raise UserError(f"the configuration {error}: change it, as no one could use the bundle") from error
    return text


def _with_onnx(formats: tuple[str, ...]) -> list[str]:
    """Return the formats in the order of :data:`FORMATS`, with that from which others are made."""
    wanted = set(formats)
    if wanted & {"float16", "int8-dynamic", "int8-calibrated"}:
        wanted.add("onnx")
    return [name for name in FORMATS if name in wanted]


def _on_cpu(cfg: CfgNode) -> CfgNode:
    """Return the configuration for the processor, whose results do not depend on what else is there."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def _check_folder(output: Path, force: bool) -> None:
    """Raise ``UserError`` if the folder cannot become a bundle."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {str(output)!r} is a file: name a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not force:
        raise UserError(f"--output {str(output)!r} is not empty: name another folder, or add --force")
    if not (output / SUMS).is_file():
        raise UserError(f"--output {str(output)!r} holds something else than a bundle: name another folder")


@contextmanager
def _unfinished(output: Path) -> Iterator[Path]:
    """Give a folder beside ``output`` that is gone when the block ends.

    Raises:
        UserError: if something cannot be written.
    """
    folder = output.with_name(output.name + PART)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise UserError(
            f"--output {str(output)!r} cannot be written ({error.strerror or error}): make room or name "
            "another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, output: Path) -> None:
    """Put a finished bundle in its place; an earlier one's files go, files of others stay.

    The list of sums comes last. Where this is cut short, the folder is a bundle some of whose files have
    other sums: these are not loaded, and an export with ``force`` replaces all.
    """
    if not output.exists():
        folder.replace(output)
        return
    old = read_bundle(output).sums if (output / SUMS).is_file() else {}
    new = {path.name for path in folder.iterdir()}
    for name in sorted(new - {SUMS}):
        (folder / name).replace(output / name)
    for name in old.keys() - new:
        (output / name).unlink(missing_ok=True)
    (folder / SUMS).replace(output / SUMS)


def _record_beside(weights: Path) -> dict[str, Any]:
    """Return the run's ``results.json`` beside the weights; empty where there is none."""
    try:
        record = read_json(weights.parent / RESULTS, "measure again")
    except UserError:
        return {}
    if weights.stem.endswith("_ema") and "final_ema" in record:
        record["final"] = record["final_ema"]
    return {key: value for key, value in record.items() if key not in ("final_ema", "programs", "cameras")}


def _rows_of_cameras(cfg: CfgNode, known: tuple[str, ...] | None) -> dict[str, Any]:
    """Return what the results say of the cameras by which features are corrected; nothing without any."""
    if known is None:
        return {}
    rows = {name: row for row, name in enumerate(known)}
    return {"cameras": {"treatment": cfg.TEST.CAMERAS, "rows": rows, "unknown": UNKNOWN_CAMERA}}


def _record_of(record: dict[str, Any], metrics: dict[str, float], weights: str) -> dict[str, Any]:
    """Return the run's record with the metrics as they were measured now.

    A record of other weights is left out with a warning.
    """
    recorded = record.get("final")
    if recorded is not None and any(abs(recorded[key] - metrics[key]) > SAME for key in METRICS):
        logger.warning(
            "%s beside %s is left out, as it is of other weights: mAP %.2f there, %.2f here",
            *(RESULTS, weights, recorded["mAP"], metrics["mAP"]),
        )
        record = {}
    if not record:
        record = {"versions": versions_of_results()}
    return {**record, "final": metrics}


def _facts_of_export(
    cfg: CfgNode, model: nn.Module, options: ExportOptions, tensors: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """Return what the model card tells of the weights and of how they were written."""
    with torch.no_grad():
        dim = model(torch.zeros(1, 3, *cfg.INPUT.SIZE_TEST)).shape[1]
    facts = {
        "dim": dim,
        "parameters": sum(value.numel() for value in tensors.values()),
        "config_file": options.config_file,
        "measured": options.evaluate and bool(cfg.DATASETS.TESTS),
    }
    return {**facts, "licence": options.licence} if options.licence else facts
