"""Checks that a bundle is what it says: its files, its model, its programs and its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from fastreid.config import CfgNode
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nplp.config.bundles import load_bundle_config
from nplp.config.validation import validate_config
from nplp.data.datasets import ReidData, load_test_sets
from nplp.engine.evaluating import evaluate
from nplp.engine.pipeline import load_trained
from nplp.errors import UserError, in_one_line
from nplp.export.converters import FORMATS
from nplp.export.inference import inference_weights
from nplp.export.programs import IN_BYTES, target_crops
from nplp.export.running import LEAST_COSINE, check_agreement
from nplp.metric_names import METRICS
from nplp.weights.zoo import SAFETENSORS, Bundle

__all__ = ["Check", "bundle_config", "verify_bundle"]

RUNTIME = ("onnx", "onnxruntime")
"""Packages that an ONNX program is looked at and run with."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: in a word or two.
        good: whether it is as it should be; ``None`` where it was not looked at.
        found: what was seen, in one line.
    """

    what: str
    good: bool | None
    found: str


def bundle_config(bundle: Bundle) -> CfgNode:
    """Return a bundle's configuration for the processor, with its weights, frozen.

    Raises:
        UserError: if it was altered, or sets what a bundle may not set.
    """
    cfg = load_bundle_config(bundle)
    cfg.MODEL.DEVICE = "cpu"
    validate_config(cfg)
    cfg.freeze()
    return cfg


def verify_bundle(
    bundle: Bundle, tolerance: float = 0.1, measure: bool = True, trust: bool = False
) -> Iterator[Check]:
    """Look at a bundle's files, weights, programs and metrics, one after the other.

    Nothing that a bundle holds is run as code unless ``trust`` is set: its list of sums says that a file is
    what its author wrote, not who the author is.

    Args:
        bundle: the folder.
        tolerance: by how many percentage points a metric may differ from the recorded one: another machine
            rounds differently.
        measure: evaluate the model on its test sets, whose images must be there.
        trust: load programs of ``torch.export`` too, whose format may hold any code.

    Yields:
        What was found; after a file that is damaged nothing more.
    """
    what = "files"
    try:
        for file in bundle.sums:
            bundle.path(file)
        yield Check(what, True, f"{len(bundle.sums)} files have the SHA-256 sums of the list")
        what = "results"
        results = bundle.results()
        what = "weights"
        cfg = bundle_config(bundle)
        model = _load_model(cfg)
        yield _compare_weights(bundle, model)
        what = "data"
        test_sets = load_test_sets(cfg, optional=True) if measure else []
        crops = target_crops(cfg, test_sets, substitute=True)[:64]
    except UserError as error:
        yield Check(what, False, str(error))
        return
    for name, file in FORMATS.items():
        if file not in bundle.sums:
            continue
        if reason := _reason_not_to_run(name, trust, bool(len(crops))):
            yield Check(name, None, f"not run, as {reason}")
            continue
        try:
            path, noise = bundle.path(file), name not in IN_BYTES
            cosine = check_agreement(model, path, tuple(cfg.INPUT.SIZE_TEST), crops, noise)
        except Exception as error:  # noqa: BLE001  a program from elsewhere may end in anything
            yield Check(name, False, in_one_line(error, 300))
        else:
            recorded = results.get("programs", {}).get(name, {}).get("cosine", 1.0)
            least = LEAST_COSINE if name in ("onnx", "torch-export") else recorded - 0.01
            found = f"least cosine to the model {cosine:.6f}, recorded {recorded:.6f}"
            yield Check(name, cosine >= least, found)
    if measure and not test_sets:
        yield Check("metrics", None, "its training had no image with a known identity to measure on")
    elif measure:
        yield _measure_again(cfg, model, test_sets, results.get("final"), tolerance)


def _load_model(cfg: CfgNode) -> nn.Module:
    """Return the model with the bundle's weights.

    Raises:
        UserError: if there is no such model or they do not fit.
    """
    try:
        return load_trained(cfg)[0]
    except UserError:
        raise
    except Exception as error:  # the toolbox's builders end in anything at values that no one tried
        raise UserError(f"the configuration's model cannot be built ({in_one_line(error)})") from error


def _compare_weights(bundle: Bundle, model: nn.Module) -> Check:
    weights = inference_weights(model)
    try:
        other = load_file(bundle.path(SAFETENSORS))
    except (SafetensorError, OSError, ValueError) as error:
        return Check("weights", False, f"{SAFETENSORS} cannot be read: {in_one_line(error)}")
    same = weights.keys() == other.keys() and all(
        weights[key].dtype == other[key].dtype and torch.equal(weights[key], other[key]) for key in other
    )
    held = "the same" if same else "others"
    found = f"{len(weights)} tensors fit the configuration, {SAFETENSORS} holds {held}"
    return Check("weights", same, found)


def _reason_not_to_run(name: str, trust: bool, crops: bool) -> str:
    """Return why a program is not run and what would run it; empty when it is."""
    if name == "torch-export" and not trust:
        return "loading it runs what code it holds: if you trust whoever made the bundle, add --trust"
    if name in IN_BYTES and not crops:
        # Programs in bytes are made for real images: without those there is nothing to compare on.
        return "it is compared on images of the data set: leave --no-evaluate out"
    missing = [] if name == "torch-export" else [part for part in RUNTIME if find_spec(part) is None]
    if missing:
        return f"{', '.join(missing)} is not installed: pip install 'nplp[deploy]'"
    return ""


def _measure_again(
    cfg: CfgNode,
    model: nn.Module,
    test_sets: list[ReidData],
    recorded: dict[str, float] | None,
    tolerance: float,
) -> Check:
    if recorded is None:
        return Check("metrics", False, "none are recorded")
    metrics = evaluate(cfg, model, test_sets)
    worst = max(METRICS, key=lambda metric: abs(metrics[metric] - recorded[metric]))
    difference = metrics[worst] - recorded[worst]
    found = f"mAP {metrics['mAP']:.2f}, recorded {recorded['mAP']:.2f}; at most {worst} {difference:+.3f}"
    return Check("metrics", abs(difference) <= tolerance, found)
