"""Maps, small pictures, and reading a folder that is not whole."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nplp.errors import UserError
from nplp.report.crops import SPRITE_CELL, sprite, thumbnail
from nplp.report.reading import read_run
from nplp.report.scatter import SIDE, outline, project


def picture(uri):
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_map_is_the_same_again_and_keeps_neighbours_together():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(6), 15)
    features = (rng.normal(size=(6, 32))[people] * 3 + rng.normal(size=(90, 32)) * 0.2).astype(np.float16)
    points = project(features)
    assert points.shape == (90, 2)
    assert points.min() >= 0
    assert points.max() <= SIDE
    np.testing.assert_array_equal(points, project(features))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(90, np.inf))
    assert (people[distances.argmin(axis=1)] == people).all()


def test_a_map_that_begins_from_an_earlier_one_leaves_people_near_where_they_were():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(8), 12)
    features = rng.normal(size=(8, 32))[people] * 3 + rng.normal(size=(96, 32))
    later = features + rng.normal(size=features.shape) * 0.3
    before = project(features)
    moved = [np.abs(points - before).mean() for points in (project(later, before), project(later))]
    assert moved[0] < moved[1] / 2, moved
    np.testing.assert_array_equal(project(later, before), project(later, before))


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
def test_few_images_have_a_map_too(count):
    features = np.random.default_rng(0).normal(size=(count, 8))
    points = project(features)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert np.isfinite(project(features, points)).all()
    assert np.isfinite(project(features, np.zeros((count, 2)))).all()


def test_outlines_run_around_clusters_of_three():
    points = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [2, 2], [9, 9], [8, 8], [5, 5], [6, 6], [7, 7.0]])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2])
    (square,) = outline(points, labels)
    assert sorted(map(tuple, square)) == [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert outline(points, np.full(10, -1)) == []


def test_small_pictures_and_those_that_cannot_be_read(tmp_path):
    Image.new("RGB", (64, 128), (200, 10, 10)).save(tmp_path / "red image.png")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8")
    assert picture(thumbnail(str(tmp_path / "red image.png"))).size == (48, 96)
    red, grey = (
        picture(thumbnail(str(tmp_path / "red image.png"))),
        picture(thumbnail(str(tmp_path / "torn.jpg"))),
    )
    assert red.getpixel((20, 20))[0] > 150
    assert abs(grey.getpixel((20, 20))[0] - 128) < 5
    uri, columns = sprite(np.array([str(tmp_path / "red image.png")] * 33))
    assert picture(uri).size == (30 * SPRITE_CELL[0], 2 * SPRITE_CELL[1])
    assert columns == 30


def test_what_is_no_run_is_one_line(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="name the OUTPUT_DIR") as caught:
            read_run(folder)
        assert "\n" not in str(caught.value)


def test_half_a_line_and_torn_arrays_are_left_out(tmp_path):
    (tmp_path / "pseudo_labels.jsonl").write_text('{"iteration": 1, "clusters": 3}\n{"iteration": 2, "clu')
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "iteration_0001.npz").write_bytes(b"PK torn")
    run = read_run(tmp_path)
    assert run.history == [{"iteration": 1, "clusters": 3}]
    assert run.trace("iteration_0001") == {}
    assert run.trace("nothing") == {}
    assert run.images == {}
    assert not run.finished
    (tmp_path / "model_final.pth").touch()
    assert read_run(tmp_path).finished, "nothing was evaluated, but the run has ended"
    assert run.option("NPLP", "ITERATIONS", default=7) == 7


def test_damaged_results_are_one_line(tmp_path):
    (tmp_path / "results.json").write_text("{torn")
    with pytest.raises(UserError, match="is damaged"):
        read_run(tmp_path)
