"""Images are looked at once before training; what is wrong is named."""

import logging

import PIL
import pytest
from PIL import Image

from nplp.data.checks import verify_images
from nplp.errors import UserError

PILLOW = tuple(map(int, PIL.__version__.split(".")[:2]))


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 16), (number * 40, 10, 10)).save(tmp_path / f"good_{number}.jpg")
    return tmp_path


def paths(folder):
    return sorted(str(path) for path in folder.iterdir())


def test_good_images_pass(folder):
    verify_images(paths(folder), "the set")


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_other_colour_modes_are_readable(folder, mode):
    Image.new(mode, (8, 16)).save(folder / f"other.{'jpg' if mode in ('L', 'CMYK') else 'png'}")
    verify_images(paths(folder), "the set")


def test_an_image_of_one_pixel_is_an_image(folder):
    Image.new("RGB", (1, 1)).save(folder / "one.jpg")
    verify_images(paths(folder), "the set")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty file"),
        # Pillow before 10.3 takes the bytes for the head of a TGA picture.
        (bytes(range(256)) * 4, "not an image" if PILLOW >= (10, 3) else "damaged"),
        (b"this is a text\n", "not an image"),
        ("truncated", "damaged"),
        # Which of the two depends on the version of Pillow.
        ("half", "damaged|not an image"),
    ],
)
def test_what_cannot_be_read_is_named(folder, content, fault):
    if isinstance(content, str):
        whole = (folder / "good_0.jpg").read_bytes()
        content = whole[:-60] if content == "truncated" else whole[: len(whole) // 3]
    (folder / "bad.jpg").write_bytes(content)
    with pytest.raises(UserError, match=fault) as caught:
        verify_images(paths(folder), "the set")
    message = str(caught.value)
    assert "1 of 4 images of the set" in message
    assert "bad.jpg" in message
    assert "\n" not in message


def test_a_file_that_vanished_is_named(folder):
    with pytest.raises(UserError, match="gone.jpg"):
        verify_images([*paths(folder), str(folder / "gone.jpg")], "the set")


def test_too_many_pixels_are_refused_not_decoded(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UserError, match="too many pixels"):
        verify_images(paths(folder), "the set")


def test_many_bad_files_are_counted_and_the_first_named(folder):
    for number in range(9):
        (folder / f"bad_{number}.jpg").write_text("text")
    with pytest.raises(UserError, match="9 of 12 images") as caught:
        verify_images(paths(folder), "the set")
    assert "and 4 more" in str(caught.value)


def test_bad_images_are_left_out_and_counted_on_request(folder, caplog):
    (folder / "bad.jpg").write_bytes(b"")
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.WARNING):
        assert verify_images(paths(folder), "the set", skip=True) == {str(folder / "bad.jpg")}
    assert "1 of 4 images of the set" in caplog.text
    assert "left out" in caplog.text


def test_a_set_of_bad_images_only_is_refused(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 1 images"):
        verify_images(paths(tmp_path), "the set", skip=True)
