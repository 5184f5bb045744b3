"""Adaptation to images that nobody has labelled, or of which some are: no number pretends otherwise."""

import json
import logging
import re

import numpy as np
import pytest

from nplp.data import datasets
from nplp.data.datasets import UNKNOWN_IDENTITY, index_identities
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.report.after_run import write_pages
from tiny import make_tiny_cfg

QUALITY = re.compile(
    r"precision|recall|\b(nmi|ari)\b|mixed|fragmented|people there are|identities", re.IGNORECASE
)


@pytest.fixture
def adapt(source_weights, synthetic_root, tmp_path, monkeypatch, caplog):
    """Return a function that adapts to items with other identities and returns what the log said."""
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    load = datasets.load_dataset

    def start(identity_of):
        def changed(cfg, name, subsets):
            data = load(cfg, name, subsets)
            train = [(path, identity_of(n, who), camera) for n, (path, who, camera) in enumerate(data.train)]
            return datasets.ReidData(name, train, data.query, data.gallery)

        monkeypatch.setattr(datasets, "load_dataset", changed)
        pairs = {"NPLP.REPORT": True, "NPLP.SOURCE.WEIGHTS": source_weights, "NPLP.STEPS_PER_EPOCH": 2}
        pairs["NPLP.NOISY_FRACTION"] = 0.4
        cfg = make_tiny_cfg(synthetic_root, tmp_path, *(word for pair in pairs.items() for word in pair))
        prepare_output(cfg)
        with caplog.at_level(logging.INFO, logger="nplp"):
            run(cfg, cfg, resume=False, at_end=write_pages)
        return caplog.text

    return start


@pytest.mark.parametrize("identity", [UNKNOWN_IDENTITY, "0"])
def test_unknown_or_constant_identities_leave_no_figure_that_needs_them(adapt, tmp_path, identity):
    log = adapt(lambda *_: identity)
    of_target = [line for line in log.splitlines() if "classifier" not in line]
    said = [line for line in of_target if QUALITY.search(line)]
    assert ("have the identity '0', which is taken for unknown" in log) == (identity == "0")
    assert len(said) == (identity == "0")
    assert "no image's identity is known" in log
    for name in ("pseudo_labels.jsonl", "metrics.json", "results.json"):
        assert not QUALITY.search((tmp_path / name).read_text().replace("SYNTHETIC.TRAIN_IDENTITIES", "")), (
            name
        )
    assert "identities" not in np.load(tmp_path / "trace" / "images.npz").files
    page = (tmp_path / "report.html").read_text()
    assert "The identities of the target are unknown" in page
    assert "cannot be known without identities" in page
    assert not re.search("Precision, recall|Score against purity|% of one|people there are", page)


def test_with_some_identities_every_figure_says_over_how_many(adapt, tmp_path):
    log = adapt(lambda number, who: UNKNOWN_IDENTITY if number % 3 else who)
    images = np.load(tmp_path / "trace" / "images.npz")["identities"]
    known = int((images >= 0).sum())
    assert known == -(-len(images) // 3)
    assert f"Target: {known} of {len(images)} images have known identities" in log
    assert log.count(f"over {known} of {len(images)} images with known identities") == 3
    for line in (tmp_path / "pseudo_labels.jsonl").open():
        assert json.loads(line)["images_with_identity"] == known
    page = (tmp_path / "report.html").read_text()
    assert f"The identities of {known} of the {len(images)} target images are known" in page
    assert "nobody knows who, camera" in page
    assert "person -1" not in page
    assert "same person" not in page


def test_all_identities_are_as_before(adapt, tmp_path):
    log = adapt(lambda _, who: who)
    assert "known identities" not in log
    assert "(12 people)" in log
    lines = [json.loads(line) for line in (tmp_path / "pseudo_labels.jsonl").open()]
    assert all(line["identities"] == 12 and "images_with_identity" not in line for line in lines)


def test_identities_are_numbered_in_the_order_of_their_names_and_unknown_ones_are_minus_one():
    def number(*names):
        found = index_identities([(f"{place}.jpg", name, "c") for place, name in enumerate(names)])
        return None if found is None else found.tolist()

    assert number("b", "a", "c", "a") == [1, 0, 2, 0]
    assert number("b", UNKNOWN_IDENTITY, "a") == [1, -1, 0]
    assert number(UNKNOWN_IDENTITY, UNKNOWN_IDENTITY) is None


def test_a_constant_identity_is_looked_for_in_each_set_by_itself(tiny_cfg, monkeypatch):
    def one_of_two(cfg, name, subsets):
        train = [(f"{name}{n}.jpg", f"{name}_{n if name == 'labelled' else 0}", "c") for n in range(4)]
        return datasets.ReidData(name, train, [], [])

    monkeypatch.setattr(datasets, "load_dataset", one_of_two)
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.NAMES, cfg.DATASETS.VERIFY = ("labelled", "constant"), False
    assert index_identities(datasets.load_training_items(cfg)).tolist() == [0, 1, 2, 3] + [-1] * 4
    # Where identities are trained on, one identity is one class.
    assert index_identities(datasets.load_training_items(cfg, labelled=True)).max() == 4
