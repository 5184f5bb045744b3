"""Images of every kind, in folders of every name, from the check to the tensor and through a whole run."""

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from nplp.data.checks import verify_images
from nplp.data.datasets import load_test_sets, load_training_items, verify_test_sets
from nplp.data.loaders import build_test_loader
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp_synthetic import DomainSpec, write_market
from tiny import TINY, make_tiny_cfg

ORIENTATION = 0x0112
SIZE = {key.lower(): tuple(value) if isinstance(value, list) else value for key, value in TINY.items()}


@pytest.fixture
def market(tmp_path, monkeypatch):
    """A folder in Market-1501's layout under a name with spaces and letters of other alphabets."""
    root = tmp_path / "camera récents 監視"
    write_market(DomainSpec(name="station", **SIZE), root)
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    logging.getLogger("nplp").propagate = True
    return next(root.rglob("bounding_box_train")).parent


def market_cfg(synthetic_root, output, *pairs):
    names = ("DATASETS.NAMES", "('Market1501',)", "DATASETS.TESTS", "('Market1501',)")
    return make_tiny_cfg(synthetic_root, output, *names, *pairs)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P", "LA"])
def test_every_colour_mode_becomes_three_channels(synthetic_root, tmp_path, mode):
    path = tmp_path / f"o b {mode}.{'jpg' if mode in ('RGB', 'L', 'CMYK') else 'png'}"
    Image.new("RGB", (32, 64), (100, 100, 100)).convert(mode).save(path)
    assert verify_images([str(path)], "the set") == set()
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run")
    (batch,) = build_test_loader(cfg, [(str(path), 0, 0)])
    assert batch["images"].shape == (1, 3, 32, 16)
    np.testing.assert_allclose(batch["images"], 100, atol=20 if mode == "P" else 3)


def test_a_rotated_photograph_is_seen_upright(synthetic_root, tmp_path):
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[:32] = 200
    upright = Image.fromarray(pixels)
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned a quarter clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run")
    items = [(str(tmp_path / f"{name}.png"), 0, 0) for name in ("upright", "turned")]
    (batch,) = build_test_loader(cfg, items)
    np.testing.assert_array_equal(batch["images"][0], batch["images"][1])


def test_sixteen_bits_a_channel_are_refused_as_pillow_would_clip_them(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((64, 32), 2000, np.uint16)).save(path)
    with pytest.raises(UserError, match="more than 8 bits a channel"):
        verify_images([str(path)], "the set")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="too many pixels"):
        verify_images([str(tmp_path / "bomb.png")], "the set")


def spoil(folder):
    """Spoil two images of a folder and return their paths."""
    torn, empty = sorted((folder / "bounding_box_train").glob("*.jpg"))[3:5]
    torn.write_bytes(torn.read_bytes()[:200])
    empty.write_bytes(b"")
    return {str(torn), str(empty)}


def test_bad_images_stop_the_run_before_training_with_their_list(market, synthetic_root, tmp_path):
    bad = spoil(market)
    cfg = market_cfg(synthetic_root, tmp_path / "run")
    prepare_output(cfg)
    with pytest.raises(UserError, match="2 of 96 images of Market1501's training set") as caught:
        run(cfg, cfg, resume=False)
    assert all(path.rpartition("/")[2] in str(caught.value) for path in bad)
    assert "SKIP_CORRUPT" in str(caught.value)
    assert not (tmp_path / "run" / "source").exists()


def test_bad_images_are_left_out_and_counted_on_request(market, synthetic_root, tmp_path, caplog):
    bad = spoil(market)
    pairs = ("DATASETS.SKIP_CORRUPT", True, "NPLP.ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 1)
    cfg = market_cfg(synthetic_root, tmp_path / "run", *pairs)
    with caplog.at_level(logging.WARNING):
        items = load_training_items(cfg)
    assert len(items) == 94
    assert not bad & {item[0] for item in items}
    assert "2 of 96 images" in caplog.text
    prepare_output(cfg)
    assert run(cfg, cfg, resume=False)["final"]
    (line,) = (tmp_path / "run" / "pseudo_labels.jsonl").read_text().splitlines()
    assert json.loads(line)["clusters"] > 1


@pytest.mark.parametrize("skip", [False, True])
def test_a_bad_query_stops_the_run_as_leaving_it_out_would_change_the_figures(
    market, synthetic_root, tmp_path, skip
):
    query = sorted((market / "query").glob("*.jpg"))[0]
    query.write_bytes(b"")
    cfg = market_cfg(synthetic_root, tmp_path / "run", "DATASETS.SKIP_CORRUPT", skip)
    with pytest.raises(UserError, match=rf"query and gallery .*{query.name} \(empty file\)") as caught:
        verify_test_sets(cfg, load_test_sets(cfg))
    assert "SKIP_CORRUPT" not in str(caught.value)


@pytest.mark.parametrize("name", ["holiday.jpg", "0001.jpg"])
def test_a_name_that_does_not_parse_is_left_out_and_named(market, synthetic_root, tmp_path, caplog, name):
    folder = market / "bounding_box_train"
    shutil.copy(sorted(folder.glob("*.jpg"))[0], folder / name)
    with caplog.at_level(logging.INFO):
        items = load_training_items(market_cfg(synthetic_root, tmp_path / "run"))
    assert len(items) == 96
    assert "1 file left out: 1 whose name does not follow the data set's naming" in caplog.text
    assert f"(first {name!r})" in caplog.text
