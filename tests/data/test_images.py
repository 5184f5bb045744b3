"""The one way in which images are read, and every reader that goes it."""

import struct

import numpy as np
import pytest
from fastreid.data.data_utils import read_image
from PIL import Image, ImageFile

from nplp.data.checks import verify_images
from nplp.data.images import UnreadableImageError, decode, read_rgb
from nplp.data.loaders import build_test_loader
from nplp.errors import UserError
from nplp.export import programs
from nplp.report.crops import read_crop, sprite, thumbnail
from tiny import make_tiny_cfg

ORIENTATION = 0x0112


@pytest.fixture
def cfg(synthetic_root, tmp_path):
    return make_tiny_cfg(synthetic_root, tmp_path / "run")


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """An image of more than twice the pixels that Pillow takes."""
    path = str(tmp_path / "bomb.png")
    Image.new("RGB", (300, 300)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    return path


@pytest.fixture
def turned(tmp_path):
    """A photograph, light above and dark below, stored lying on its side."""
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[:32] = 200
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned a quarter clockwise
    path = str(tmp_path / "turned.png")
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


def crops_of(cfg, monkeypatch, path):
    monkeypatch.setattr(programs, "load_training_items", lambda cfg: [(path, "a", "b")])
    return programs.target_crops(cfg, [object()])


def test_too_many_pixels_end_no_reader_with_a_traceback(cfg, bomb, monkeypatch):
    with pytest.raises(UserError, match=r"bomb\.png \(too many pixels\)"):
        verify_images([bomb], "the set")
    with pytest.raises(UserError, match=r"bomb\.png' cannot be read any more \(too many pixels\)"):
        list(build_test_loader(cfg, [(bomb, 0, 0)]))
    with pytest.raises(UserError, match=r"bomb\.png' cannot be read any more \(too many pixels\)"):
        crops_of(cfg, monkeypatch, bomb)
    assert read_crop(bomb, (2, 2)).getpixel((0, 0)) == (128, 128, 128)
    assert thumbnail(bomb).startswith("data:image/jpeg")
    assert sprite(np.array([bomb]))[1] == 1


@pytest.mark.parametrize("error", [struct.error, EOFError, IndexError, KeyError, TypeError, OverflowError])
def test_errors_of_every_kind_in_a_decoder_name_the_file(cfg, tmp_path, monkeypatch, error):
    path = str(tmp_path / "damaged.png")
    Image.new("RGB", (8, 16)).save(path)

    def decode(self):
        raise error("in a\ndecoder")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    for read in (
        lambda: verify_images([path], "the set"),
        lambda: list(build_test_loader(cfg, [(path, 0, 0)])),
        lambda: crops_of(cfg, monkeypatch, path),
    ):
        with pytest.raises(UserError, match=r"damaged\.png.* \(damaged: .*decoder") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert read_crop(path, (2, 2)).getpixel((0, 0)) == (128, 128, 128)


def test_want_of_memory_is_not_taken_for_a_damaged_image(tmp_path, monkeypatch):
    path = str(tmp_path / "large.png")
    Image.new("RGB", (8, 16)).save(path)

    def decode(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    for read in (lambda: read_rgb(path), lambda: verify_images([path], "the set")):
        with pytest.raises(MemoryError):
            read()


def test_every_reader_sees_a_photograph_upright(cfg, turned, monkeypatch):
    np.testing.assert_array_equal(np.asarray(read_rgb(turned)), np.asarray(read_image(turned, "RGB")))
    (batch,) = build_test_loader(cfg, [(turned, 0, 0)])
    for image in (
        batch["images"][0].permute(1, 2, 0).numpy(),
        np.asarray(read_crop(turned, (16, 32))),
        crops_of(cfg, monkeypatch, turned)[0],
    ):
        assert image.shape == (32, 16, 3)
        assert image[:12].min() > 190
        assert image[-12:].max() < 10


def test_a_gallery_stands_in_for_training_images_that_are_not_there(cfg, turned, monkeypatch):
    def missing(cfg):
        raise UserError("there are none")

    class Data:
        gallery = [(turned, 0, 0)]  # noqa: RUF012

    monkeypatch.setattr(programs, "load_training_items", missing)
    assert programs.target_crops(cfg, [Data()], substitute=True).shape == (1, 32, 16, 3)
    with pytest.raises(UserError, match="there are none"):
        programs.target_crops(cfg, [Data()])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_text("text"), "not an image"),
    ],
)
def test_the_reason_is_told_in_a_few_words(tmp_path, make, reason):
    make(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError) as caught:
        read_rgb(str(tmp_path / "a.jpg"))
    assert caught.value.reason == reason


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "CMYK", "1"])
def test_a_checked_image_is_the_one_that_the_model_gets(tmp_path, mode):
    path = str(tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    decoded = decode(path)
    assert decoded.mode == mode
    np.testing.assert_array_equal(np.asarray(decoded.image), np.asarray(read_rgb(path)))


def test_a_checked_image_is_upright(turned):
    np.testing.assert_array_equal(np.asarray(decode(turned).image), np.asarray(read_rgb(turned)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_text("text"), "not an image"),
        (
            lambda path: Image.fromarray(np.full((16, 8), 2000, np.uint16)).save(path),
            "more than 8 bits a channel, convert it",
        ),
    ],
)
def test_a_check_tells_the_reason_in_a_few_words(tmp_path, make, reason):
    make(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError) as caught:
        decode(str(tmp_path / "a.png"))
    assert caught.value.reason == reason
