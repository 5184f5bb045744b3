"""A new method and a new loss: one registration each, and a tiny run trains with them."""

import json
import re
from pathlib import Path

import pytest
from torch import nn

from nplp.config import ignored
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.losses import LOSSES, Loss, register_loss
from nplp.methods import METHODS, build_method, register_method
from tiny import make_tiny_cfg

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


class Spread(nn.Module):
    """The variance of features within a batch, pushed up."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, features, labels):
        assert len(features) == len(labels)
        return self.weight / (1 + features.var())


@pytest.fixture
def registries():
    """Leave no dummy behind."""
    kept = [(registry, dict(registry)) for registry in (METHODS, METHOD_SECTIONS, LOSSES)]
    ignored._defaults.cache_clear()
    yield
    for registry, content in kept:
        registry.clear()
        registry.update(content)
    ignored._defaults.cache_clear()


def train(cfg):
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
    return results, lines[-1]


def test_the_example_of_the_docs_and_a_dummy_loss_train(registries, synthetic_root, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    register_loss(Loss("Spread", Spread, "loss_spread", "f_bn", "SPREAD", {"WEIGHT": 1.0}))
    cfg = make_tiny_cfg(
        synthetic_root,
        tmp_path,
        *("NPLP.METHOD", "triplet_only", "NPLP.TRIPLET_ONLY.EPSILON", 0.35, "NPLP.ITERATIONS", 1),
        *("MODEL.LOSSES.NAME", "('TripletLoss', 'Spread')", "MODEL.LOSSES.SPREAD.WEIGHT", 0.5),
    )
    results, line = train(cfg)
    assert results["final"]["mAP"] > 0
    assert {"loss_triplet", "loss_spread", "loss_norm"} <= line.keys()


def test_a_name_is_registered_once(registries):
    with pytest.raises(ValueError, match="named 'nplp' is registered already"):
        register_method("nplp")
    with pytest.raises(ValueError, match="a name of its own"):
        register_loss(Loss("TripletLoss", Spread, "loss_spread", "f_e"))
    with pytest.raises(ValueError, match="one of the outputs"):
        register_loss(Loss("Spread", Spread, "loss_spread", "f_x"))
    with pytest.raises(ValueError, match="takes any of"):
        register_loss(Loss("Spread", Spread, "loss_spread", "f_e", takes=("images",)))


def test_a_loss_that_takes_no_weights_is_not_weighed_without_a_word(registries, synthetic_root, tmp_path):
    register_loss(Loss("Spread", Spread, "loss_spread", "f_bn"))
    names = ("MODEL.LOSSES.NAME", "('TripletLoss', 'CenterContrastiveLoss', 'Spread')")
    assert make_tiny_cfg(synthetic_root, tmp_path, *names).MODEL.LOSSES.NAME[-1] == "Spread"
    for key in ("CAMERA_ENTROPY_WEIGHT", "SCORE_WEIGHT"):
        with pytest.raises(UserError, match=rf"NPLP\.{key} needs losses .* got 'Spread'"):
            make_tiny_cfg(synthetic_root, tmp_path, *names, f"NPLP.{key}", True)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("NPLP.METHOD", "memory"), r"'memory' needs 'ClusterMemoryLoss' in MODEL\.LOSSES\.NAME"),
        (
            ("NPLP.METHOD", "memory", "MODEL.LOSSES.NAME", "('ClusterMemoryLoss',)"),
            r"'memory' needs MODEL\.HEADS\.OUTPUT 'f_bn', got 'f_e'",
        ),
        (("MODEL.LOSSES.NAME", "('TripletLoss',)"), r"'nplp' needs 'CenterContrastiveLoss'"),
    ],
)
def test_what_a_method_needs_is_named(synthetic_root, tmp_path, pairs, message):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *pairs)
    with pytest.raises(UserError, match=message):
        build_method(cfg, None)
