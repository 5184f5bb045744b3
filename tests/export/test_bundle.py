"""What a bundle holds, that it is repeatable, and what cannot become one."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nplp.engine.pipeline import load_trained, run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.export.bundle import export_bundle
from nplp.export.card import card_facts
from nplp.export.converters import FORMATS
from nplp.export.inference import inference_weights
from nplp.export.verification import verify_bundle
from tiny import make_tiny_cfg

FILES = {"model.pth", "model.safetensors", "config.yaml", "results.json", "README.md", "model_zoo_row.md"}


def without_programs(options, **changes):
    return dataclasses.replace(options, formats=(), **changes)


def record_of(cfg):
    return json.loads((Path(cfg.OUTPUT_DIR) / "results.json").read_text())


def test_it_holds_what_it_lists(bundle):
    assert set(bundle.sums) == FILES | set(FORMATS.values())
    assert {path.name for path in bundle.folder.iterdir()} == {*bundle.sums, "SHA256SUMS"}
    assert not list(bundle.folder.parent.glob("*.part"))
    assert len({path.stat().st_mode for path in bundle.folder.iterdir()}) == 1
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=bundle.folder, check=False)
    assert done.returncode == 0


def test_weights_end_at_the_embedding(bundle, trained):
    weights = torch.load(bundle.folder / "model.pth", weights_only=True)
    assert set(weights) == {"model"}
    whole = torch.load(f"{trained.OUTPUT_DIR}/model_final.pth", weights_only=True)["model"]
    expected = {key for key in whole if not key.startswith("heads.neck.")}
    assert set(weights["model"]) == expected
    assert all(key.startswith(("backbone.", "heads.hyper_network.")) for key in expected)
    other = load_file(bundle.folder / "model.safetensors")
    assert set(other) == expected
    for key in expected:
        assert torch.equal(weights["model"][key], whole[key])
        assert torch.equal(other[key], whole[key])


def test_results_are_measured_and_carry_the_run(bundle, trained):
    results, run_results = bundle.results(), record_of(trained)
    for stage in ("direct_transfer", "startup", "final"):
        assert results[stage] == pytest.approx(run_results[stage])
    assert "final_ema" not in results
    assert results["seed"] == trained.SEED
    assert set(results["programs"]) == set(FORMATS)
    for name, program in results["programs"].items():
        assert program["bytes"] == (bundle.folder / FORMATS[name]).stat().st_size
        if name != "torch-export":
            assert program["mAP loss"] == pytest.approx(results["final"]["mAP"] - program["mAP"], abs=1e-3)


def test_the_card_tells_all(bundle):
    card = (bundle.folder / "README.md").read_text()
    for words in (
        f"# {bundle.name}",
        "SynthPlaza (labelled) to SynthStation (unlabelled)",
        f"--config-file zoo/{bundle.name}/config.yaml --eval-only",
        f"{bundle.results()['final']['mAP']:.2f}",
        "## Intended use and limits",
        "## Licence",
        "drawn figures",
        "trtexec --onnx",
        bundle.sums["model.pth"],
        bundle.sums["model.onnx"],
    ):
        assert words in card, words
    assert str(bundle.folder.parent) not in card


@pytest.mark.parametrize(
    ("options", "task", "method"),
    [
        ((), "the weights osnet.pth to SynthStation (unlabelled)", "NPLP: pseudo-labels by clustering"),
        (("NPLP.METHOD", "memory"), "the weights osnet.pth to SynthStation (unlabelled)", "memory ("),
        (("NPLP.ITERATIONS", 0), "the weights osnet.pth", "none: the weights osnet.pth as they are"),
    ],
)
def test_the_card_of_a_model_from_given_weights_names_them_and_no_data_set(trained, options, task, method):
    cfg = trained.clone()
    cfg.defrost()
    cfg.merge_from_list(["NPLP.SOURCE.WEIGHTS", "/somewhere/osnet.pth", *options])
    facts = card_facts(cfg, trained, "model", {}, {})
    assert facts["task"] == task
    assert facts["method"].startswith(method)
    assert "SynthPlaza" not in str(facts)
    assert "/somewhere" not in str(facts)
    assert "the weights osnet.pth: see the terms of who published them" in facts["licence"]


def test_no_file_names_a_folder_of_this_machine(bundle, trained):
    for path in bundle.folder.iterdir():
        content = path.read_bytes()
        for word in (trained.OUTPUT_DIR, str(bundle.folder.parent), __file__.rpartition("/tests/")[0]):
            assert word.encode() not in content, path


def test_the_same_input_gives_the_same_bytes(bundle, trained, options, tmp_path):
    again = export_bundle(trained, tmp_path / "elsewhere" / bundle.name, options)
    assert again.sums == bundle.sums


def test_the_averaged_weights_have_their_own_numbers(trained, options, tmp_path):
    cfg = trained.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = f"{trained.OUTPUT_DIR}/model_final_ema.pth"
    found = export_bundle(cfg, tmp_path / "ema", without_programs(options)).results()
    recorded = record_of(trained)
    assert found["final"] == pytest.approx(recorded["final_ema"])
    assert found["startup"] == recorded["startup"]


def test_a_record_of_other_weights_is_left_out(trained, options, tmp_path):
    weights = torch.load(f"{trained.OUTPUT_DIR}/model_final.pth", weights_only=True)["model"]
    generator = torch.Generator().manual_seed(0)
    key = "heads.hyper_network.fc.weight"
    weights[key] = torch.randn(weights[key].shape, generator=generator)
    torch.save({"model": weights}, tmp_path / "other.pth")
    record = record_of(trained)
    (tmp_path / "results.json").write_text(json.dumps(record))
    cfg = trained.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "other.pth")
    found = export_bundle(cfg, tmp_path / "bundle", without_programs(options)).results()
    assert "direct_transfer" not in found
    assert found["final"] != record["final"]


def test_recorded_metrics_need_no_images(trained, options, tmp_path, monkeypatch):
    monkeypatch.setattr("nplp.export.bundle.load_test_sets", lambda cfg: 1 / 0)
    bundle = export_bundle(trained, tmp_path / "bundle", without_programs(options, evaluate=False))
    recorded = record_of(trained)
    assert bundle.results()["final"] == recorded["final"]
    assert "not measured on these files" in (bundle.folder / "README.md").read_text()


def test_the_toolboxs_own_models_too(synthetic_root, tmp_path, options):
    cfg = make_tiny_cfg(
        synthetic_root,
        tmp_path / "run",
        *("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_ITERS", 0, "DATALOADER.NUM_WORKERS", 0),
        config_file="configs/NPLP/synthetic_baseline.yml",
    )
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    bundle = export_bundle(
        cfg, tmp_path / "baseline", dataclasses.replace(options, formats=("onnx",), base=cfg)
    )
    weights = torch.load(bundle.folder / "model.pth", weights_only=True)["model"]
    assert "heads.weight" not in weights
    assert any(key.startswith("heads.bottleneck") for key in weights)
    assert bundle.results()["programs"]["onnx"]["cosine"] >= 0.99999


def test_a_crop_that_no_program_makes_is_refused(trained, options, tmp_path):
    cfg = trained.clone()
    cfg.defrost()
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(UserError, match=r"INPUT\.CROP\.ENABLED must be False"):
        export_bundle(cfg, tmp_path / "bundle", without_programs(options))
    assert list(tmp_path.iterdir()) == []


def test_what_no_one_could_verify_is_not_written(trained, options, tmp_path):
    cfg = trained.clone()
    cfg.defrost()
    cfg.DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY = 1000
    cfg.DATASETS.SYNTHETIC.TRAIN_IDENTITIES = 4000
    with pytest.raises(UserError, match=r"sets DATASETS\.SYNTHETIC.*change it"):
        export_bundle(cfg, tmp_path / "bundle", without_programs(options))
    assert list(tmp_path.iterdir()) == []


def listing(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_not_empty_is_refused(trained, options, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("mine")
    before = listing(tmp_path)
    for force, reason in ((False, "is not empty"), (True, "holds something else than a bundle")):
        with pytest.raises(UserError, match=reason):
            export_bundle(trained, tmp_path / "bundle", without_programs(options, force=force))
    assert listing(tmp_path) == before


def test_force_replaces_a_bundle_and_nothing_else(bundle, trained, options, tmp_path):
    folder = tmp_path / bundle.name
    first = export_bundle(trained, folder, dataclasses.replace(options, formats=("torch-export",)))
    (folder / "mine.txt").write_text("mine")
    (folder / "model.pth").write_bytes(b"torn")
    second = export_bundle(trained, folder, without_programs(options, force=True))
    assert "model.pt2" in first.sums
    assert "model.pt2" not in second.sums
    assert {path.name for path in folder.iterdir()} == {*second.sums, "SHA256SUMS", "mine.txt"}
    assert second.sums["model.pth"] == bundle.sums["model.pth"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda weights: weights.pop("heads.hyper_network.fc.bias"),
            "it lacks 'heads.hyper_network.fc.bias'",
        ),
        (lambda weights: weights.update(extra=torch.zeros(2)), "it has 'extra'"),
        (
            lambda weights: weights.update({"heads.hyper_network.fc.bias": torch.zeros(7)}),
            r"is \(7,\) in the file and \(32,\) in the model",
        ),
    ],
    ids=["a missing key", "a key too many", "another shape"],
)
def test_weights_that_do_not_fit_leave_nothing(trained, options, tmp_path, damage, reason):
    weights = torch.load(f"{trained.OUTPUT_DIR}/model_final.pth", weights_only=True)["model"]
    damage(weights)
    torch.save({"model": weights}, tmp_path / "weights.pth")
    cfg = trained.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=reason) as caught:
        export_bundle(cfg, tmp_path / "bundle", options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_full_disk_leaves_nothing(trained, options, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nplp.export.bundle.save", full)
    with pytest.raises(UserError, match="No space left on device"):
        export_bundle(trained, tmp_path / "bundle", without_programs(options))
    assert list(tmp_path.iterdir()) == []


def test_weights_stay_where_they_were(trained):
    model, _ = load_trained(trained)
    for key, value in inference_weights(model).items():
        assert value.is_contiguous(), key
        assert value.device.type == "cpu"
        assert not value.requires_grad


def test_where_no_identity_is_known_nothing_is_claimed(trained, options, tmp_path):
    unlabelled = trained.clone()
    unlabelled.defrost()
    unlabelled.DATASETS.TESTS = ()
    unlabelled.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    shutil.copy(f"{trained.OUTPUT_DIR}/model_final.pth", unlabelled.MODEL.WEIGHTS)
    bundle = export_bundle(unlabelled, tmp_path / "unlabelled", without_programs(options))
    assert "final" not in bundle.results()
    card = bundle.text("README.md")
    assert "Not measured" in card
    assert "Percent, on" not in card
    assert bundle.text("model_zoo_row.md").count("| - |") == 2
    checks = {check.what: check.good for check in verify_bundle(bundle)}
    assert checks == {"files": True, "weights": True, "metrics": None}
