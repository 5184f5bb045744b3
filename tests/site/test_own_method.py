"""The worked example of a method: the page shows the file, and the file trains as its formulas say."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from nplp.config import ignored
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.methods import METHODS
from site_pages import ROOT, blocks
from tiny import make_tiny_cfg

PAGE, FILE = "own_method.md", ROOT / "examples" / "own_method.py"
OPTIONS = (
    *("NPLP.METHOD", "prototypes", "NPLP.PROTOTYPES.EPSILON", 0.35, "NPLP.ITERATIONS", 1),
    *("MODEL.LOSSES.NAME", "('TripletLoss',)"),
)


@pytest.fixture
def example():
    """The module of the example; its method is forgotten afterwards."""
    kept = [(registry, dict(registry)) for registry in (METHODS, METHOD_SECTIONS)]
    ignored._defaults.cache_clear()
    spec = importlib.util.spec_from_file_location("own_method", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for registry, content in kept:
        registry.clear()
        registry.update(content)
    ignored._defaults.cache_clear()


def test_the_page_shows_the_file():
    (block,) = blocks("python", f"docs/{PAGE}")
    assert block.text == FILE.read_text(encoding="utf-8")
    assert len(block.text.splitlines()) <= 70


def test_it_trains(example, synthetic_root, tmp_path):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *OPTIONS)
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
    assert results["final"]["mAP"] > 0
    assert {"loss_triplet", "loss_prototypes"} <= lines[-1].keys()


class Output:
    """What the method reads of the head's output."""

    def __init__(self, features):
        self.f_e = features


class Model:
    """A model without losses of its own."""

    def losses(self, output, batch):
        return {}


def make_method(example, synthetic_root, tmp_path, *pairs):
    return example.Prototypes(make_tiny_cfg(synthetic_root, tmp_path, *OPTIONS, *pairs), Model())


def test_its_loss_and_its_prototypes_are_those_of_a_loop(example, synthetic_root, tmp_path):
    torch.manual_seed(0)
    method = make_method(example, synthetic_root, tmp_path)
    features, labels = torch.randn(12, 32), torch.arange(12) % 3
    assert method.begin_iteration(features, labels.numpy(), None) == 0.0
    unit = [each / each.norm() for each in features]
    table = []
    for cluster in range(3):
        mean = sum(unit[i] for i in range(12) if labels[i] == cluster) / 4
        table.append(mean / mean.norm())
    assert torch.allclose(method.prototypes, torch.stack(table), atol=1e-6)
    batch, targets = torch.randn(4, 32), torch.tensor([0, 1, 1, 2])
    loss = method.losses(Output(batch), {"targets": targets})["loss_prototypes"]
    expected = 0.0
    for feature, target in zip(batch, targets, strict=True):
        cosines = torch.stack([feature / feature.norm() @ row for row in table]) / 0.1
        expected -= (cosines[target] - cosines.logsumexp(0)) / 4
    assert torch.allclose(loss, expected, atol=1e-5)
    for feature, target in zip(batch, targets, strict=True):
        moved = 0.8 * table[target] + 0.2 * feature / feature.norm()
        table[target] = moved / moved.norm()
    assert torch.allclose(method.prototypes, torch.stack(table), atol=1e-6)
    other = make_method(example, synthetic_root, tmp_path)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.prototypes, method.prototypes)


def test_a_wrong_option_is_named(example, synthetic_root, tmp_path):
    with pytest.raises(UserError, match=r"NPLP\.PROTOTYPES\.TEMPERATURE must be above 0, got 0"):
        make_method(example, synthetic_root, tmp_path, "NPLP.PROTOTYPES.TEMPERATURE", 0.0)
