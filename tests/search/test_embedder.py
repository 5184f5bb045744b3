"""Features of files: order, decoding, cameras, and what cannot be read."""

import logging

import numpy as np
import pytest
from PIL import Image

from nplp.data.loaders import build_test_loader
from nplp.errors import UserError
from nplp.search import Embedder, load_model
from untrained import CAMERAS


def mean_colour(images, cameras):
    """A model: the mean colour, and in a fourth value which camera it was told."""
    told = [0.0 if cameras is None else float(len(name)) for name in cameras or [""] * len(images)]
    return np.column_stack([images.mean(axis=(1, 2)), told]).astype(np.float32)


MEAN = Embedder(mean_colour, size=(8, 4), dim=4, description="mean colours")


def save(path, colour=(10, 20, 30), **options):
    Image.new("RGB", (16, 32), colour).save(path, **options)
    return path


def test_rows_are_in_the_order_of_the_paths_whatever_the_batch(crops):
    rng = np.random.default_rng(0)
    paths = [crops[number] for number in rng.permutation(len(crops))]
    whole = MEAN.embed(paths, batch=1000)
    assert whole.shape == (60, 4)
    for batch in (1, 7, 60):
        assert np.array_equal(MEAN.embed(paths, batch=batch, progress=False), whole)
    expected = [np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in paths]
    np.testing.assert_allclose(whole[:, :3], expected, atol=2)


def test_images_are_decoded_as_in_evaluation(camera_run, crops, tmp_path):
    folder, cfg = camera_run
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(crops[0]).save(turned, exif=exif)
    grey, palette, clear = (tmp_path / f"{name}.png" for name in ("grey", "palette", "clear"))
    Image.open(crops[1]).convert("L").save(grey)
    Image.open(crops[2]).convert("P").save(palette)
    Image.open(crops[3]).convert("RGBA").save(clear)
    paths = [*map(str, crops[:5]), *map(str, (turned, grey, palette, clear))]
    seen = []

    def keep(images, cameras):
        seen.append(images)
        return np.zeros((len(images), 1), np.float32)

    Embedder(keep, load_model(folder).size, 1, "keeps them").embed(paths)
    (batch,) = build_test_loader(cfg, [(path, 0, 0) for path in paths])
    assert np.array_equal(seen[0], batch["images"].permute(0, 2, 3, 1).numpy())


def test_cameras_reach_the_model_by_name(crops):
    names = [None if number % 2 else "gate" for number in range(60)]
    assert MEAN.embed(crops, names)[:, 3].tolist() == [0.0 if number % 2 else 4.0 for number in range(60)]


def test_a_camera_changes_features_and_an_unknown_one_is_said(camera_run, crops, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    model = load_model(camera_run[0])
    first = model.embed(crops[:2], [CAMERAS[0]] * 2)
    assert not np.allclose(first, model.embed(crops[:2], [CAMERAS[1]] * 2))
    caplog.clear()
    unknown = model.embed(crops[:2], ["tower", None])
    assert "does not know 2 of the cameras" in caplog.text
    caplog.clear()
    assert np.array_equal(unknown, model.embed(crops[:2]))
    assert "No cameras are given" in caplog.text


def spoil(tmp_path):
    """Return three good images and four that cannot be read, one after the other."""
    paths = [save(tmp_path / f"good {number}.png") for number in range(3)]
    empty, text, torn, missing = (tmp_path / f"{name}.jpg" for name in ("empty", "text", "torn", "missing"))
    empty.write_bytes(b"")
    text.write_text("no image")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(torn)
    torn.write_bytes(torn.read_bytes()[:500])
    return [paths[0], empty, text, paths[1], torn, missing, paths[2]]


def test_unreadable_images_are_named(tmp_path):
    paths = spoil(tmp_path)
    with pytest.raises(UserError, match="4 of 7 images cannot be read: ") as error:
        MEAN.embed(paths, batch=2)
    assert all(str(paths[place]) in str(error.value) for place in (1, 2, 4, 5))
    assert "empty file" in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_images_can_be_left_out(tmp_path):
    paths = spoil(tmp_path)
    cameras = ["a", "b", "c", "dd", "e", "f", "ggg"]
    features, left_out = MEAN.embed(paths, cameras, batch=2, skip_unreadable=True)
    assert sorted(left_out) == [1, 2, 4, 5]
    assert left_out[2] == "not an image"
    assert features[:, 3].tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="4 of 4 images"):
        MEAN.embed([paths[place] for place in (1, 2, 4, 5)], skip_unreadable=True)


def test_no_images_have_no_features():
    assert MEAN.embed([]).shape == (0, 4)
    assert MEAN.embed([], skip_unreadable=True)[1] == {}


def test_mistakes_and_values_that_are_no_numbers(crops):
    with pytest.raises(ValueError, match="batch must be at least 1"):
        MEAN.embed(crops, batch=0)
    with pytest.raises(ValueError, match="60 images need as many cameras, got 1"):
        MEAN.embed(crops, ["gate"])
    broken = Embedder(lambda images, _: np.full((len(images), 2), np.nan), (8, 4), 2, "broken")
    with pytest.raises(UserError, match="values that are no numbers"):
        broken.embed(crops)


def test_batches_shrink_where_memory_does_not_suffice(crops):
    def small(images, cameras):
        if len(images) > 5:
            raise MemoryError
        return mean_colour(images, cameras)

    assert np.array_equal(Embedder(small, (8, 4), 4, "small").embed(crops), MEAN.embed(crops))
