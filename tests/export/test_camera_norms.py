"""Programs of models whose batch norms have statistics of each camera."""

import numpy as np
import pytest
import torch

from norm_cases import build_model, make_cfg, write_images
from nplp.engine.norm_statistics import refresh_statistics
from tiny import make_tiny_cfg

pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path):
    model = build_model(norm_cameras=True)
    refresh_statistics(make_cfg(tmp_path), model, write_images(tmp_path / "images", 60))
    return model.eval()


def test_a_program_takes_the_cameras_rows_and_agrees(model, tmp_path):
    from nplp.export.converters import export_onnx
    from nplp.export.running import LEAST_COSINE, OnnxModel, check_agreement

    path = tmp_path / "model.onnx"
    export_onnx(model, (16, 8), path)
    crops = np.random.default_rng(1).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)
    assert check_agreement(model, path, (16, 8), crops) > LEAST_COSINE
    program, images = OnnxModel(path), torch.from_numpy(crops).permute(0, 3, 1, 2)
    assert program.cameras.known == ("c_0", "c_1", "c_2")
    names = ["c_2", "c_0", "elsewhere"]
    ours = program({"images": images, "cameras": names})
    torch.testing.assert_close(
        ours, model({"images": images.float(), "cameras": names}), rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(ours[:2], program({"images": images})[:2], rtol=1e-2)


def test_the_weights_of_a_bundle_have_the_tables(model):
    from nplp.export.inference import inference_weights

    weights = inference_weights(model)
    again = build_model(norm_cameras=True).eval()
    again.load_state_dict(weights, strict=False)
    batch = {"images": torch.rand(3, 3, 16, 8) * 255, "cameras": ["c_1", "c_2", "x"]}
    assert torch.equal(again(batch), model(batch))


@pytest.mark.parametrize("treatment", ["none", "mean"])
def test_a_bundle_gives_what_the_run_gave(synthetic_root, tmp_path, monkeypatch, treatment):
    from nplp.config.bundles import load_bundle_config
    from nplp.engine.pipeline import load_trained, run
    from nplp.engine.setup import prepare_output
    from nplp.export.bundle import ExportOptions, export_bundle

    pairs = ("NPLP.ITERATIONS", 0, "MODEL.NORM_CAMERAS", True, "TEST.CAMERAS", treatment)
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", *pairs, "NPLP.SOURCE.MAX_EPOCH", 1)
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    assert results["final"] != results["direct_transfer"]
    options = ExportOptions("configs/NPLP/quickstart.yml", base=cfg, formats=())
    bundle = export_bundle(cfg, tmp_path / "zoo" / "nplp_cameras", options)
    assert bundle.results()["final"] == pytest.approx(results["final"])
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    said = "batch norms take each camera's own" + (
        ", and their mean is subtracted" if treatment == "mean" else ""
    )
    assert f"unlabelled training images: {said}." in card
    monkeypatch.setenv("NPLP_ZOO", str(bundle.folder.parent))
    ours, theirs = (load_trained(given)[0] for given in (load_bundle_config(bundle), cfg))
    images = torch.rand(4, 3, 32, 16, generator=torch.Generator().manual_seed(0)) * 255
    batch = {"images": images, "cameras": [*theirs.cameras.known[:3], "elsewhere"]}
    assert torch.equal(ours(batch), theirs(batch))
