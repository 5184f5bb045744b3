"""Data sets that users register with the toolbox, read by their own classes."""

import re

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from nplp.data.datasets import UNKNOWN_IDENTITY, load_dataset, load_training_items
from nplp.engine.evaluating import evaluate
from nplp.engine.supervised import SupervisedTrainer, load_labelled
from nplp.errors import UserError


@pytest.fixture
def register(monkeypatch):
    """A function that registers a data set of given items, or one that raises; it is forgotten afterwards."""
    monkeypatch.setattr(DATASET_REGISTRY, "_obj_map", dict(DATASET_REGISTRY._obj_map))

    def add(name, train=(), query=(), gallery=(), error=None):
        class Own(ImageDataset):
            def __init__(self, root, **_):
                if error is not None:
                    raise error
                super().__init__(list(train), list(query), list(gallery))

        Own.__name__ = Own.__qualname__ = name
        DATASET_REGISTRY.register(Own)

    return add


@pytest.fixture
def cfg(tiny_cfg):
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.VERIFY = False
    return cfg


def test_people_and_cameras_named_in_words_are_evaluated_as_numbered_ones(cfg, register):
    numbered = load_dataset(cfg, "SynthStation")

    def worded(items):
        return [(path, f"person {identity}", f"door {camera}") for path, identity, camera in items]

    register("Worded", query=worded(numbered.query), gallery=worded(numbered.gallery))
    in_words = load_dataset(cfg, "Worded", ("query", "gallery"))
    assert {type(value) for item in in_words.query + in_words.gallery for value in item[1:]} == {int}
    model = SupervisedTrainer.build_model(cfg).eval()
    expected = evaluate(cfg, model, [numbered])
    assert evaluate(cfg, model, [in_words]) == expected
    assert 0 < expected["mAP"] < 100


def test_integers_stay_as_they_are(cfg, register):
    register("Numbered", query=[("b.jpg", 5, 2)], gallery=[("a.jpg", 5, 0), ("c.jpg", 0, 7)])
    data = load_dataset(cfg, "Numbered", ("query", "gallery"))
    assert data.query == [("b.jpg", 5, 2)]
    assert data.gallery == [("a.jpg", 5, 0), ("c.jpg", 0, 7)]


@pytest.mark.parametrize("beyond", [2**63, -(2**70), "x"])
def test_what_no_tensor_holds_is_numbered_alike_in_query_and_gallery(cfg, register, beyond):
    register(
        "Large",
        query=[("a.jpg", beyond, 0), ("b.jpg", 3, 0)],
        gallery=[("c.jpg", 3, 1), ("d.jpg", beyond, 1)],
    )
    data = load_dataset(cfg, "Large", ("query", "gallery"))
    query, gallery = ([identity for _, identity, _ in part] for part in (data.query, data.gallery))
    assert query == gallery[::-1]
    assert sorted(query) == [0, 1]


@pytest.mark.parametrize(("item", "what"), [(("a.jpg", None, 0), "identity"), (("a.jpg", 1, 0.5), "camera")])
def test_what_is_neither_a_number_nor_a_word_is_refused_before_any_work(cfg, register, item, what):
    register("Odd", query=[item], gallery=[("b.jpg", 1, 1)])
    with pytest.raises(
        UserError, match=f"Odd: the {what} of 'a.jpg' is (None|0.5): it must be an integer or text"
    ):
        load_dataset(cfg, "Odd", ("query", "gallery"))


def test_the_same_number_in_two_sets_is_two_people(cfg, register):
    register("First", train=[("a.jpg", 1, 0), ("b.jpg", 2, 0)])
    register("Second", train=[("c.jpg", 1, 0), ("d.jpg", "first_1", "0")])
    cfg.DATASETS.NAMES = ("First", "Second")
    _, labels, cameras = load_labelled(cfg)
    assert len(set(labels.tolist())) == 4
    assert len(set(cameras.tolist())) == 3


@pytest.mark.parametrize("unknown", [-1, None, "", "-1"])
def test_unknown_people_are_adapted_to_and_no_source(cfg, register, unknown):
    register("Crops", train=[("a.jpg", unknown, 0), ("b.jpg", unknown, 1), ("c.jpg", "somebody", 1)])
    cfg.DATASETS.NAMES = ("Crops",)
    assert [item[1] for item in load_training_items(cfg)] == [UNKNOWN_IDENTITY, UNKNOWN_IDENTITY, "somebody"]
    with pytest.raises(UserError, match=r"Crops: 2 of 3 training images have no identity .*'a\.jpg'"):
        load_labelled(cfg)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            AssertionError("0 <= pid <= 1501"),
            r"\(AssertionError in .*test_registered\.py:\d+: 0 <= pid <= 1501\)",
        ),
        (KeyError("frames"), r"\(KeyError in .*test_registered\.py:\d+: 'frames'\)"),
        (RuntimeError("two\nlines"), r"\(RuntimeError in .*test_registered\.py:\d+: two lines\)"),
    ],
)
def test_an_error_of_a_users_class_is_not_taken_for_a_missing_folder(cfg, register, error, shown):
    register("Broken", error=error)
    with pytest.raises(UserError, match=r"Broken: .*\.Broken cannot read its images under ") as caught:
        load_dataset(cfg, "Broken")
    assert re.search(shown, str(caught.value))
    assert "does not exist" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [RuntimeError('"/data/x" is not found'), FileNotFoundError(2, "No such file", "/data/x")]
)
def test_a_folder_that_a_users_class_misses_is_named(cfg, register, error):
    register("Absent", error=error)
    with pytest.raises(UserError, match="Absent: looked for '/data/x', which does not exist"):
        load_dataset(cfg, "Absent")


def test_rows_that_are_no_items_are_one_line(cfg, register):
    register("Rows", train=[("a.jpg", 1)])
    with pytest.raises(UserError, match="Rows: .*cannot read its images .*ValueError"):
        load_dataset(cfg, "Rows", ("train",))
