"""What is found, and the folder that an index is kept in."""

import json
import os
from pathlib import Path

import faiss
import numpy as np
import pytest

from nplp.errors import UserError
from nplp.search import Embedder, Index

rng = np.random.default_rng(0)
FEATURES = rng.normal(size=(200, 16)).astype(np.float32) * rng.uniform(0.1, 9, (200, 1)).astype(np.float32)
PATHS = [f"dir é/{number} 😀.png" for number in range(200)]
NAMES = [None if number % 7 == 0 else f"camera {number % 3}" for number in range(200)]
QUERIES = rng.normal(size=(9, 16))


def constant(values, description="a model"):
    """A model whose feature of every image is the same."""
    feature = np.asarray(values, np.float32)
    return Embedder(lambda images, _: np.tile(feature, (len(images), 1)), (4, 2), len(feature), description)


def by_hand(queries, allowed, top):
    """Return numbers and cosines of the best ``allowed`` [Q, N] images."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, FEATURES.astype(np.float64)))
    cosines = np.where(allowed, a @ b.T, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, :top]
    return order, np.take_along_axis(cosines, order, axis=1)


def test_hits_are_those_of_the_highest_cosine():
    hits = Index(FEATURES, PATHS, NAMES).search(QUERIES, top=5)
    numbers, cosines = by_hand(QUERIES, np.ones((9, 200), bool), 5)
    assert np.array_equal(hits.numbers, numbers)
    np.testing.assert_allclose(hits.similarity, cosines, atol=1e-6)
    assert hits.paths == [[PATHS[number] for number in row] for row in numbers]
    assert hits.cameras == [[NAMES[number] for number in row] for row in numbers]
    assert len(hits) == 9


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_the_querys_camera_can_be_left_out(kind):
    cameras = [f"camera {number % 3}" for number in range(8)] + [None]
    index = Index(FEATURES, PATHS, NAMES, kind=kind)
    hits = index.search(QUERIES, 5, cameras, exclude_same_camera=True)
    allowed = np.array([[camera is None or name != camera for name in NAMES] for camera in cameras])
    assert np.array_equal(hits.numbers, by_hand(QUERIES, allowed, 5)[0])
    assert all(
        camera is None or camera not in seen for camera, seen in zip(cameras, hits.cameras, strict=True)
    )


def test_fewer_hits_than_asked_for():
    index = Index(FEATURES[:3], PATHS[:3], ["a", "a", "b"])
    hits = index.search(QUERIES[:1], 10, ["a"], exclude_same_camera=True)
    assert hits.numbers.tolist() == [[2, -1, -1]]
    assert np.isnan(hits.similarity[0, 1:]).all()
    assert hits.paths == [[PATHS[2]]]
    empty = Index(np.empty((0, 16), np.float32), [])
    assert empty.search(QUERIES).paths == [[] for _ in range(9)]


def test_a_querys_own_file_is_no_hit_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = Index(FEATURES, PATHS, NAMES)
    hits = index.search(FEATURES[:2], 4)
    assert hits.paths[0][0] == PATHS[0]
    others = hits.without([os.path.abspath(PATHS[0]), "elsewhere.png"], 3)
    assert others.paths == [hits.paths[0][1:], hits.paths[1][:3]]
    assert np.array_equal(others.numbers, [hits.numbers[0, 1:], hits.numbers[1, :3]])


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_saved_index_finds_the_same_and_grows(kind, tmp_path):
    index = Index(FEATURES[:150], PATHS[:150], NAMES[:150], constant(np.ones(16), "who"), kind)
    index.save(tmp_path / "gallery é")
    read = Index.load(tmp_path / "gallery é")
    assert (len(read), read.dim, read.kind, read.model["description"]) == (150, 16, kind, "who")
    for one in (index, read):
        one.add(FEATURES[150:], PATHS[150:], NAMES[150:])
    first, second = index.search(QUERIES), read.search(QUERIES)
    assert np.array_equal(first.numbers, second.numbers)
    assert (first.paths, first.cameras) == (second.paths, second.cameras)
    read.save(tmp_path / "gallery é", overwrite=True)
    assert len(list((tmp_path / "gallery é").iterdir())) == 2
    assert len(Index.load(tmp_path / "gallery é")) == 200


def test_the_vectors_are_a_file_of_faiss(tmp_path):
    Index(FEATURES, PATHS).save(tmp_path / "gallery")
    (path,) = (tmp_path / "gallery").glob("*.faiss")
    found = faiss.read_index(str(path)).search((QUERIES / 1).astype(np.float32), 5)[1]
    assert np.array_equal(found, by_hand(QUERIES, np.ones((9, 200), bool), 5)[0])


def test_another_model_is_refused():
    index = Index(FEATURES, PATHS, model=constant(np.arange(16) + 1.0, "one"))
    index.check_model(constant(np.arange(16) * 2 + 2.0, "the same, longer"))
    with pytest.raises(UserError, match="made by one, and two gives other features"):
        index.check_model(constant(np.arange(16)[::-1] + 1.0, "two"))
    with pytest.raises(UserError, match="16 values by one, and small gives 4"):
        index.check_model(constant(np.ones(4), "small"))
    with pytest.raises(UserError, match="the model gives 4 values"):
        Index(FEATURES, PATHS, model=constant(np.ones(4)))


@pytest.mark.parametrize(
    ("features", "paths", "said"),
    [
        (FEATURES[0], PATHS, r"must be real numbers \[N, D\]"),
        (FEATURES.astype(complex), PATHS, "must be real numbers"),
        (np.where(np.arange(16) == 3, np.inf, FEATURES), PATHS, "no numbers in row 0"),
        (FEATURES, PATHS[:5], "200 features need as many paths, got 5"),
    ],
)
def test_wrong_features_are_one_line(features, paths, said):
    with pytest.raises(UserError, match=said):
        Index(features, paths)


def test_wrong_questions_are_one_line():
    index = Index(FEATURES, PATHS, NAMES)
    with pytest.raises(UserError, match="features of 16 values, got 4"):
        index.search(QUERIES[:, :4])
    with pytest.raises(UserError, match="top must be at least 1, got 0"):
        index.search(QUERIES, top=0)
    with pytest.raises(UserError, match="needs the cameras of the 9 queries"):
        index.search(QUERIES, exclude_same_camera=True)
    with pytest.raises(UserError, match="kind must be one of exact, hnsw, got 'tree'"):
        Index(FEATURES, PATHS, kind="tree")
    with pytest.raises(UserError, match="as many cameras, got 1"):
        index.add(FEATURES[:2], PATHS[:2], ["a"])


def test_what_a_cut_off_save_has_left_is_no_obstacle(tmp_path):
    folder = tmp_path / "gallery"
    folder.mkdir()
    (folder / "vectors-new.faiss").write_bytes(b"half")
    (folder / "index.json.part").write_text("{")
    Index(FEATURES, PATHS).save(folder)
    assert len(Index.load(folder)) == len(PATHS)
    assert not (folder / "vectors-new.faiss").exists()


def test_nothing_is_replaced_unasked(tmp_path):
    index = Index(FEATURES, PATHS)
    index.save(tmp_path / "gallery")
    with pytest.raises(UserError, match="holds an index: add --overwrite"):
        index.save(tmp_path / "gallery")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        index.save(tmp_path / "other", overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        index.save(tmp_path / "other" / "thesis.txt")


def test_an_interrupted_save_leaves_the_old_index(tmp_path, monkeypatch):
    Index(FEATURES[:5], PATHS[:5]).save(tmp_path / "gallery")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nplp.search.index.write_atomically", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        Index(FEATURES, PATHS).save(tmp_path / "gallery", overwrite=True)
    assert len(Index.load(tmp_path / "gallery")) == 5
    with pytest.raises(UserError, match="No space left"):
        Index(FEATURES, PATHS).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def change(folder: Path, **values):
    about = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**about, **values}))


def vectors(folder: Path) -> Path:
    return next(folder.glob("*.faiss"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "index.json").unlink(), "holds no index: nplp index writes one"),
        (lambda folder: (folder / "index.json").write_text('{"for'), "is damaged"),
        (lambda folder: (folder / "index.json").write_text("[1]"), "is damaged"),
        (lambda folder: change(folder, version=99), "version 99, not nplp-index version 1"),
        (lambda folder: change(folder, format="thesis"), "is 'thesis'"),
        (lambda folder: change(folder, paths=["a"]), "it has not 200 paths"),
        (lambda folder: change(folder, paths=[3] * 200), "its paths are no names"),
        (lambda folder: change(folder, cameras=[3] * 200), "its cameras are no names"),
        (lambda folder: change(folder, images="many"), "does not say what it holds"),
        (lambda folder: change(folder, vectors="../../etc/passwd"), "does not name its vectors"),
        (lambda folder: change(folder, model=3), "does not name its model"),
        (lambda folder: change(folder, model={"probe": [1.0]}), "its model gives other features"),
        (lambda folder: change(folder, dim=8), "holds 200 vectors of 16 values"),
        (lambda folder: change(folder, kind="hnsw"), "is no hnsw index"),
        (lambda folder: vectors(folder).unlink(), "cannot be read .No such file"),
        (lambda folder: vectors(folder).write_bytes(vectors(folder).read_bytes()[:99]), "was altered"),
    ],
)
def test_what_is_no_index_is_one_line(spoil, said, tmp_path):
    Index(FEATURES, PATHS).save(tmp_path / "gallery")
    spoil(tmp_path / "gallery")
    with pytest.raises(UserError, match=said) as error:
        Index.load(tmp_path / "gallery")
    assert "\n" not in str(error.value)
