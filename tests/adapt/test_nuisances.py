"""A folder with all that is wrong with real folders goes through doctor and adapt."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt_cases import SHORT
from nplp.adapt.request import Request
from nplp.adapt.run import Products, adapt
from nplp.data.doctor import examine
from nplp.data.own_images import read_image_table
from nplp.errors import UserError
from nplp.search import Index

CAMERAS = [f"кам{number:02d} 门 🚪" for number in range(1, 13)]
"""Twelve, whose numbers have two digits: Cyrillic, Chinese, a space and an emoji."""
EACH = 6
ONCE = (*SHORT, "NPLP.ITERATIONS", "1")

UNREADABLE = {"empty.jpg", "torn.jpg", "text.png", "deep.png"}
IGNORED = {"Thumbs.db", ".DS_Store", ".hidden.jpg", "notes.txt"}


def draw(path: Path, seed: int, mode: str = "RGB") -> Path:
    """Save a smooth picture, unlike those of other seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (10, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((32, 64), Image.Resampling.BICUBIC).convert(mode).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve cameras of six images whose names are the same in each, and all that is odd or wrong."""
    root = tmp_path_factory.mktemp("nuisances") / "my crops 📷"
    for number, camera in enumerate(CAMERAS):
        for image in range(EACH):
            draw(root / camera / f"прохожий {image} 人.png", 100 * number + image)
    first = root / CAMERAS[0]
    for image in range(3):
        draw(root / "few" / f"{image}.jpg", 5000 + image)
    draw(first / "palette.png", 6001, "P")
    draw(first / "grey.png", 6002, "L")
    draw(first / "four channels.jpg", 6003, "CMYK")
    draw(first / "2026-01-31" / "deeper.JPG", 6004)
    shutil.copy(first / "прохожий 0 人.png", root / CAMERAS[1] / "copy.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(draw(first / "upright.png", 6005)) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(first / "turned.jpg", exif=turned)
    (first / "empty.jpg").touch()
    whole = draw(root / CAMERAS[2] / "torn.jpg", 6006)
    whole.write_bytes(whole.read_bytes()[:-300])
    (first / "text.png").write_text("no image")
    Image.fromarray(np.arange(64 * 32, dtype=np.uint16).reshape(64, 32)).save(root / CAMERAS[3] / "deep.png")
    for name in IGNORED:
        (first / name).write_bytes((first / "grey.png").read_bytes())
    return root


def test_doctor_names_everything_that_is_wrong(folder):
    findings = examine(read_image_table(str(folder)), "", progress=False, workers=1)
    found = {finding.code: finding for finding in findings.findings}
    expected = {"unreadable-images", "few-images-in-camera", "ignored-files", "duplicates-in-two-cameras"}
    assert expected <= found.keys()
    unreadable = [finding for finding in findings.findings if finding.code == "unreadable-images"]
    assert sum(int(finding.message.split()[0]) for finding in unreadable) == len(UNREADABLE)
    assert findings.has_errors


def test_adapt_stops_at_what_cannot_be_read_and_says_how_to_go_on(folder, weights, tmp_path):
    request = Request(str(folder), str(weights), str(tmp_path / "run"), options=ONCE)
    with pytest.raises(UserError, match="4 of 86 images .* cannot be read.*--skip-unreadable") as caught:
        adapt(request, Products(onnx=False, index=False))
    for name in UNREADABLE:
        assert name in str(caught.value)
    assert f"{CAMERAS[2]}/torn.jpg (damaged" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_adapt_goes_on_without_it_when_asked_to(folder, weights, tmp_path):
    output = tmp_path / "my run 🏃"
    request = Request(str(folder), str(weights), str(output), skip_unreadable=True, options=ONCE)
    assert adapt(request, Products(onnx=False)) == {}
    log = (output / "log.txt").read_text(encoding="utf-8")
    assert "4 of 86 images" in log
    assert "13 cameras" in log
    assert "a camera has 3 images" in log or "13 cameras are too many" in log
    index = Index.load(output / "index")
    names = [str(Path(path).relative_to(folder)) for path in index.paths]
    assert len(names) == len(set(names)) == 82
    assert not {Path(name).name for name in names} & (UNREADABLE | IGNORED)
    assert sum(name.endswith("прохожий 0 人.png") for name in names) == 12
    assert set(index.cameras) == {*CAMERAS, "few"}
    assert f"{CAMERAS[0]}/2026-01-31/deeper.JPG" in names


def test_a_table_whose_rows_have_no_files_is_adapted_to_without_them(folder, weights, tmp_path):
    rows = [f'"{folder / camera / name}",{camera}' for camera in CAMERAS for name in ("прохожий 1 人.png",)]
    rows += [f'"{folder / camera / "прохожий 2 人.png"}",{camera}' for camera in CAMERAS]
    table = tmp_path / "crops.csv"
    table.write_text("\n".join(["path,camera", *rows, "gone.jpg,gate"]), encoding="utf-8")
    request = Request(str(table), str(weights), str(tmp_path / "run"), options=ONCE)
    with pytest.raises(UserError, match="1 of the 25 images .* do not exist.*--skip-unreadable"):
        adapt(request, Products(onnx=False, index=False))
    without = Request(str(table), str(weights), str(tmp_path / "run"), skip_unreadable=True, options=ONCE)
    adapt(without, Products(onnx=False))
    assert len(Index.load(tmp_path / "run" / "index")) == 24


def test_a_folder_without_a_readable_image_is_one_line(weights, tmp_path):
    for number in range(30):
        (tmp_path / "crops" / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "crops" / f"c{number % 2}" / f"{number}.jpg").write_text("no image")
    request = Request(str(tmp_path / "crops"), str(weights), str(tmp_path / "run"), options=ONCE)
    with pytest.raises(UserError, match="none of 30 images that were looked at can be read") as caught:
        adapt(request, Products())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
