"""The real configurations on small folders in the benchmarks' layouts, with a small backbone."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nplp.engine.pipeline import run
from nplp.engine.setup import base_config, load_config, prepare_output
from nplp.errors import UserError
from nplp_synthetic import DomainSpec, write_duke, write_market, write_msmt17
from tiny import NARROW_BACKBONE, TINY

CONFIGS = Path(__file__).parents[2] / "configs" / "NPLP"
SIZE = {key.lower(): tuple(value) if isinstance(value, list) else value for key, value in TINY.items()}
SMALL = {
    **NARROW_BACKBONE,
    "MODEL.BACKBONE.PRETRAIN": False,
    "MODEL.HEADS.EMBEDDING_DIM": 32,
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TRAIN": [32, 16],
    "INPUT.SIZE_TEST": [32, 16],
    "INPUT.PADDING.SIZE": 2,
    "DATALOADER.NUM_WORKERS": 1,
    "SOLVER.IMS_PER_BATCH": 16,
    "NPLP.SOURCE.IMS_PER_BATCH": 16,
    "NPLP.SOURCE.MAX_EPOCH": 1,
    "NPLP.ITERATIONS": 2,
    "NPLP.STARTUP_ITERATIONS": 1,
    "NPLP.EPOCHS_PER_ITERATION": 1,
    # 0.9 over the dozen identities of these folders.
    "NPLP.ALPHA": 0.08,
}
RESNET18 = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.DEPTH": "18x",
    "MODEL.BACKBONE.FEAT_DIM": 512,
}
"""Which has ImageNet weights, and tells more people apart."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The three benchmarks' folders, filled with synthetic people; each with its own."""
    folder = tmp_path_factory.mktemp("benchmarks")
    write_duke(DomainSpec(name="plaza", **SIZE), folder)
    write_market(DomainSpec(name="station", **SIZE), folder)
    write_msmt17(DomainSpec(name="station", seed=1, **SIZE), folder)
    return folder


def load(name, output, **changes):
    options = {**SMALL, "OUTPUT_DIR": output, **changes}
    pairs = [str(part) for pair in options.items() for part in pair]
    return load_config(argparse.Namespace(config_file=str(CONFIGS / f"{name}.yml"), opts=pairs))


@pytest.mark.parametrize("name", ["d2m", "m2d", "m2msmt", "d2msmt", "d2m-plus"])
def test_the_real_configurations_run_their_whole_path(root, tmp_path, monkeypatch, name):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = load(name, tmp_path)
    prepare_output(cfg)
    results = run(cfg, base_config(str(CONFIGS / f"{name}.yml")), resume=False)
    assert {"direct_transfer", "startup", "final"} <= set(results)
    lines = [json.loads(line) for line in (tmp_path / "pseudo_labels.jsonl").open()]
    assert [line["stage"] for line in lines] == ["startup", "correcting"]


@pytest.mark.parametrize("name", ["source_duke", "source_market"])
def test_the_source_configurations_stop_after_the_direct_transfer(root, tmp_path, monkeypatch, name):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = load(name, tmp_path, **{"NPLP.ITERATIONS": 0})
    prepare_output(cfg)
    assert set(run(cfg, cfg, resume=False)) == {"direct_transfer"}
    assert (tmp_path / "source" / "model_final.pth").exists()


def test_an_unreadable_target_image_stops_before_training(root, tmp_path, monkeypatch):
    """The message names the file; the folder is copied, so that other tests keep theirs."""
    broken = tmp_path / "datasets"
    shutil.copytree(root, broken)
    victim = next((broken / "Market-1501-v15.09.15" / "bounding_box_train").glob("*.jpg"))
    victim.write_text("not an image")
    monkeypatch.setenv("FASTREID_DATASETS", str(broken))
    cfg = load("d2m", tmp_path / "run")
    prepare_output(cfg)
    with pytest.raises(UserError, match=victim.name):
        run(cfg, cfg, resume=False)
    assert not (tmp_path / "run" / "source").exists()


def test_without_imagenet_weights_the_message_says_where_to_put_them(root, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("gdown.download", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    cfg = load("d2m", tmp_path / "run", **RESNET18, **{"MODEL.BACKBONE.PRETRAIN": True})
    prepare_output(cfg)
    with pytest.raises(UserError, match="MODEL.BACKBONE.PRETRAIN_PATH") as caught:
        run(cfg, cfg, resume=False)
    assert "\n" not in str(caught.value)


@pytest.fixture
def narrowed(root, tmp_path, monkeypatch):
    """A copy of Market-1501's folder whose training, query or gallery images are reduced by a rule."""

    def build(keep, subfolders):
        folder = tmp_path / "datasets"
        shutil.copytree(root, folder)
        for subfolder in subfolders:
            for path in (folder / "Market-1501-v15.09.15" / subfolder).glob("*.jpg"):
                if not keep(path.name):
                    path.unlink()
        monkeypatch.setenv("FASTREID_DATASETS", str(folder))
        return folder

    return build


def first_identity(folder):
    return min(path.name for path in (folder / "Market-1501-v15.09.15" / "bounding_box_train").glob("*.jpg"))[
        :4
    ]


@pytest.mark.parametrize("case", ["one camera", "one identity"])
def test_a_target_of_one_camera_is_adapted_to_and_one_of_one_identity_refused(root, tmp_path, narrowed, case):
    person = first_identity(root)
    narrowed(
        (lambda name: "_c1" in name) if case == "one camera" else (lambda name: name.startswith(person)),
        ["bounding_box_train"],
    )
    cfg = load("d2m", tmp_path / "run", **RESNET18, **{"NPLP.ALPHA": 0.3})
    prepare_output(cfg)
    if case == "one camera":
        with pytest.warns(UserWarning, match="camera"):
            results = run(cfg, cfg, resume=False)
        assert "final" in results
    else:
        with pytest.raises(UserError, match="fewer than 2 teach nothing"):
            run(cfg, cfg, resume=False)


def test_a_source_of_one_identity_is_refused(root, tmp_path, narrowed):
    person = first_identity(root)
    narrowed(lambda name: name.startswith(person), ["bounding_box_train"])
    cfg = load("m2d", tmp_path / "run")
    prepare_output(cfg)
    with pytest.raises(UserError, match="at least 2"):
        run(cfg, cfg, resume=False)


def test_a_test_set_of_one_camera_is_refused_before_training(tmp_path, narrowed):
    narrowed(lambda name: "_c1" in name, ["query", "bounding_box_test"])
    cfg = load("d2m", tmp_path / "run")
    prepare_output(cfg)
    with pytest.raises(UserError, match="in another camera of the gallery"):
        run(cfg, cfg, resume=False)
    assert not (tmp_path / "run" / "source").exists()


def test_an_image_of_one_pixel_is_an_image(tmp_path, narrowed):
    folder = narrowed(lambda _: True, [])
    Image.new("RGB", (1, 1)).save(
        next((folder / "Market-1501-v15.09.15" / "bounding_box_train").glob("*.jpg"))
    )
    cfg = load("d2m", tmp_path / "run")
    prepare_output(cfg)
    assert "final" in run(cfg, cfg, resume=False)
