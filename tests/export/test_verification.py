"""Bundles that are what they say, and bundles that are not."""

import json
import shutil

import pytest
import torch

from nplp.export.verification import verify_bundle
from nplp.weights.zoo import read_bundle, write_sums


@pytest.fixture
def copied(bundle, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / bundle.name)
    return read_bundle(tmp_path / bundle.name)


def test_a_whole_bundle_passes_every_check(bundle):
    checks = list(verify_bundle(bundle, trust=True))
    assert [check.what for check in checks] == [
        *("files", "weights", "onnx", "float16", "int8-dynamic", "int8-calibrated", "torch-export", "metrics")
    ]
    assert all(check.good for check in checks), checks


def test_a_damaged_file_is_named_and_ends_it(copied):
    with open(copied.folder / "model_float16.onnx", "ab") as file:
        file.write(b"x")
    (check,) = verify_bundle(copied)
    assert (check.what, check.good) == ("files", False)
    assert "model_float16.onnx" in check.found


def test_claimed_numbers_that_do_not_come_out_are_noticed(copied):
    results = copied.results()
    results["final"]["mAP"] += 1
    (copied.folder / "results.json").write_text(json.dumps(results))
    checks = {check.what: check for check in verify_bundle(write_sums(copied.folder))}
    assert not checks["metrics"].good
    assert "mAP -1.000" in checks["metrics"].found
    assert all(check.good is not False for what, check in checks.items() if what != "metrics")
    tolerated = {check.what: check for check in verify_bundle(read_bundle(copied.folder), tolerance=2)}
    assert tolerated["metrics"].good


def test_weights_that_differ_between_the_files_are_noticed(copied):
    weights = torch.load(copied.folder / "model.pth", weights_only=True)["model"]
    weights["heads.hyper_network.fc.bias"] += 100
    torch.save({"model": weights}, copied.folder / "model.pth")
    checks = {check.what: check for check in verify_bundle(write_sums(copied.folder), measure=False)}
    assert not checks["weights"].good
    assert not checks["onnx"].good
    assert "metrics" not in checks


def test_weights_that_do_not_fit_are_named(copied):
    weights = torch.load(copied.folder / "model.pth", weights_only=True)["model"]
    del weights["heads.hyper_network.fc.bias"]
    torch.save({"model": weights}, copied.folder / "model.pth")
    checks = list(verify_bundle(write_sums(copied.folder)))
    assert [(check.what, check.good) for check in checks] == [("files", True), ("weights", False)]
    assert "lacks 'heads.hyper_network.fc.bias'" in checks[-1].found


def test_images_that_are_not_there_are_named(copied, monkeypatch):
    from nplp.errors import UserError

    def missing(cfg, optional=False):
        raise UserError("SynthStation: looked for it")

    monkeypatch.setattr("nplp.export.verification.load_test_sets", missing)
    *_, last = verify_bundle(copied)
    assert (last.what, last.good) == ("data", False)
