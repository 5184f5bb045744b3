"""Checks that a bundle is what it says: its files, its model, its programs and its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from fastreid.config import CfgNode, get_cfg
from safetensors.torch import load_file
from torch import nn

from nplp.config import add_nplp_config
from nplp.data.datasets import load_test_sets
from nplp.engine.evaluation import evaluate
from nplp.engine.pipeline import load_trained
from nplp.engine.records import METRICS
from nplp.errors import UserError
from nplp.export.converters import FORMATS
from nplp.export.inference import inference_weights
from nplp.export.programs import IN_BYTES, target_crops
from nplp.export.running import LEAST_COSINE, check_agreement
from nplp.export.zoo import CONFIG, SAFETENSORS, WEIGHTS, Bundle

__all__ = ["Check", "bundle_config", "verify_bundle"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: in a word or two.
        good: whether it is as it should be.
        found: what was seen, in one line.
    """

    what: str
    good: bool
    found: str


def bundle_config(bundle: Bundle) -> CfgNode:
    """Return a bundle's configuration for the processor, with its weights, frozen.

    Raises:
        UserError: if it was altered.
    """
    cfg = get_cfg()
    add_nplp_config(cfg)
    cfg.merge_from_file(str(bundle.path(CONFIG)))
    cfg.MODEL.WEIGHTS = str(bundle.path(WEIGHTS))
    cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def verify_bundle(bundle: Bundle, tolerance: float = 0.1, measure: bool = True) -> Iterator[Check]:
    """Look at a bundle's files, weights, programs and metrics, one after the other.

    Args:
        bundle: the folder.
        tolerance: by how many percentage points a metric may differ from the recorded one: another machine
            rounds differently.
        measure: evaluate the model on its test sets, whose images must be there.

    Yields:
        What was found; after a file that is damaged nothing more.
    """
    what = "files"
    try:
        for file in bundle.sums:
            bundle.path(file)
        yield Check(what, True, f"{len(bundle.sums)} files have the SHA-256 sums of the list")
        what = "weights"
        cfg = bundle_config(bundle)
        model, _ = load_trained(cfg)
        yield _compare_weights(bundle, model)
        what = "data"
        test_sets = load_test_sets(cfg) if measure else []
    except UserError as error:
        yield Check(what, False, str(error))
        return
    crops = target_crops(cfg, test_sets, substitute=True)[:64]
    for name, file in FORMATS.items():
        # Programs in bytes are made for real images: without those there is nothing to compare on.
        if file in bundle.sums and (len(crops) or name not in IN_BYTES):
            yield _compare_program(bundle, name, model, crops, cfg)
    if measure:
        recorded = bundle.results().get("final")
        if recorded is None:
            yield Check("metrics", False, "none are recorded")
            return
        metrics = evaluate(cfg, model, test_sets)
        worst = max(METRICS, key=lambda metric: abs(metrics[metric] - recorded[metric]))
        difference = metrics[worst] - recorded[worst]
        found = f"mAP {metrics['mAP']:.2f}, recorded {recorded['mAP']:.2f}; at most {worst} {difference:+.3f}"
        yield Check("metrics", abs(difference) <= tolerance, found)


def _compare_weights(bundle: Bundle, model: nn.Module) -> Check:
    weights, other = inference_weights(model), load_file(bundle.path(SAFETENSORS))
    same = weights.keys() == other.keys() and all(torch.equal(weights[key], other[key]) for key in other)
    held = "the same" if same else "others"
    found = f"{len(weights)} tensors fit the configuration, {SAFETENSORS} holds {held}"
    return Check("weights", same, found)


def _compare_program(bundle: Bundle, name: str, model: nn.Module, crops: np.ndarray, cfg: CfgNode) -> Check:
    recorded = bundle.results().get("programs", {}).get(name, {}).get("cosine", 1.0)
    height, width = cfg.INPUT.SIZE_TEST
    path, noise = bundle.path(FORMATS[name]), name not in IN_BYTES
    cosine = check_agreement(model, path, (height, width), crops, noise)
    exact = name in ("onnx", "torch-export")
    least = LEAST_COSINE if exact else recorded - 0.01
    return Check(name, cosine >= least, f"least cosine to the model {cosine:.6f}, recorded {recorded:.6f}")
