"""The benchmarks' layouts: their names, and what the toolbox's own readers make of them."""

import re
import warnings

import pytest

import nplp  # noqa: F401  (bridges the toolbox before its first import)
from nplp_synthetic import DomainSpec, iter_images, write_duke, write_market, write_msmt17

pytest.importorskip("fastreid")

SPEC = DomainSpec(
    train_identities=12,
    test_identities=5,
    images_per_identity=4,
    cameras=6,
    image_size=(32, 32),
    distractors=4,
    junk=3,
)


def expected(split, extras=(), offset=0):
    """The sorted (identity, camera) pairs of a split, cameras from 0."""
    pairs = [
        (r.identity - offset, r.camera - 1)
        for r in iter_images(SPEC)
        if r.split == split and (r.identity > 0 or r.identity in extras)
    ]
    return sorted(pairs)


def read(items):
    """The sorted (identity, camera) pairs of a data set's items, without the data set's name."""
    return sorted(tuple(int(str(value).rsplit("_", 1)[-1]) for value in item[1:3]) for item in items)


def test_the_toolbox_reads_market1501(tmp_path):
    from fastreid.data.datasets.market1501 import Market1501

    folder = write_market(SPEC, tmp_path)
    assert folder == tmp_path / "Market-1501-v15.09.15"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = Market1501(root=str(tmp_path))
    assert read(data.train) == expected("train")
    assert read(data.query) == expected("query")
    assert read(data.gallery) == expected("gallery", extras=(0,))
    assert len(list(folder.glob("bounding_box_test/-1_*.jpg"))) == 3


def test_the_toolbox_reads_dukemtmc(tmp_path):
    from fastreid.data.datasets.dukemtmcreid import DukeMTMC

    folder = write_duke(SPEC, tmp_path)
    assert folder == tmp_path / "DukeMTMC-reID"
    data = DukeMTMC(root=str(tmp_path))
    assert read(data.train) == expected("train")
    assert read(data.query) == expected("query")
    people = [pair for pair in read(data.gallery) if pair[0] <= SPEC.identities]
    strangers = [identity for identity, _ in read(data.gallery) if identity > SPEC.identities]
    assert people == expected("gallery")
    assert strangers == [18, 19, 20, 21]
    for path in folder.rglob("*.jpg"):
        assert re.fullmatch(r"\d{4}_c[1-8]_f\d{7}\.jpg", path.name)


def test_the_toolbox_reads_msmt17(tmp_path):
    from fastreid.data.datasets.msmt17 import MSMT17

    folder = write_msmt17(SPEC, tmp_path)
    assert folder == tmp_path / "MSMT17_V1"
    data = MSMT17(root=str(tmp_path))
    training = {identity for identity, _ in read(data.train)}
    assert training == set(range(12)) - {9}
    everything = MSMT17(root=str(tmp_path), combineall=True)
    pairs = read(item for item in everything.train if "_test_" not in str(item[1]))
    assert pairs == expected("train", offset=1)
    # The toolbox numbers the test identities on after the training list's.
    assert read(data.query) == expected("query", offset=SPEC.train_identities + 1 - len(training))
    assert read(data.gallery) == expected("gallery", offset=SPEC.train_identities + 1 - len(training))
    listed = [
        line.split(" ")[0] for name in ("query", "gallery") for line in (folder / f"list_{name}.txt").open()
    ]
    assert sorted(listed) == sorted(
        p.relative_to(folder / "test").as_posix() for p in folder.glob("test/*/*.jpg")
    )
    assert all(re.fullmatch(r"(\d{4})/\1_\d{3}_\d{2}_0303morning_\d{4,}_[01]\.jpg", path) for path in listed)


@pytest.mark.parametrize(
    ("write", "fields", "message"),
    [
        (write_market, {"cameras": 7}, "cameras must be at most 6 for the Market-1501 layout, got 7"),
        (
            write_market,
            {"train_identities": 1500},
            r"train_identities \+ test_identities must be at most 1501 for the Market-1501 layout, got 1596",
        ),
        (write_duke, {"cameras": 9}, "cameras must be at most 8 for the DukeMTMC-reID layout, got 9"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(tmp_path, write, fields, message):
    with pytest.raises(ValueError, match=message):
        write(DomainSpec(**fields), tmp_path)
    assert list(tmp_path.iterdir()) == []
