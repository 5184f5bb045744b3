"""Copies among pictures, against a loop over all pairs."""

import itertools

import numpy as np
import pytest
from PIL import Image

from doctor_cases import picture
from nplp.data.doctor.duplicates import KINDS, equal_pictures, near_pairs, near_pictures
from nplp.data.doctor.labels import Labels
from nplp.data.doctor.look import HASH_BITS, Looks, look_at_images
from nplp.data.image_table import ImageTable


def random_hashes(count, seed, centres=6):
    """Return hashes about some centres, at 0 to 40 bits from them."""
    generator = np.random.default_rng(seed)
    middle = generator.integers(0, 256, (centres, HASH_BITS // 8), dtype=np.uint8)
    hashes = middle[generator.integers(0, centres, count)]
    flips = np.zeros((count, HASH_BITS), bool)
    for row in flips:
        row[generator.permutation(HASH_BITS)[: generator.integers(0, 20)]] = True
    return hashes ^ np.packbits(flips, axis=1)


def bits_apart(one, other):
    return int(np.unpackbits(one ^ other).sum())


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("distance", [0, 8, 24])
def test_near_pairs_are_those_of_a_loop(monkeypatch, distance, block):
    monkeypatch.setattr("nplp.data.doctor.duplicates.PAIRS", 60 * block)
    hashes = random_hashes(60, seed=distance)
    expected = {
        (one, other)
        for one, other in itertools.combinations(range(60), 2)
        if bits_apart(hashes[one], hashes[other]) <= distance
    }
    found = [
        pair
        for first, second in near_pairs(hashes, distance)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert expected or distance == 0


def test_none_and_one_hash_have_no_pair():
    for count in (0, 1):
        assert sum(len(first) for first, _ in near_pairs(random_hashes(count, 0), 24)) == 0


def cases(seed, count=50):
    """Return looks with equal and near pictures and labels, some of them unknown."""
    generator = np.random.default_rng(seed)
    hashes = random_hashes(count, seed)
    sums = generator.integers(0, 256, (count, 16), dtype=np.uint8)
    copied = generator.integers(0, count, (12, 2))
    for one, other in copied:
        sums[other], hashes[other] = sums[one], hashes[one]
    blank = generator.random(count) < 0.1
    sizes = np.where(generator.random((count, 1)) < 0.1, 0, [[24, 60]]).astype(np.int32)
    looks = Looks({}, sizes, ["RGB"] * count, sums, hashes, blank, decoded=True, hashed=True)
    table = ImageTable(
        [f"{number:03}" for number in range(count)],
        cameras=[f"c{number}" for number in generator.integers(0, 2, count)],
        identities=[None if number == 0 else f"p{number}" for number in generator.integers(0, 4, count)],
        splits=[("train", "query", "gallery")[number] for number in generator.integers(0, 3, count)],
    )
    return looks, table


def kinds_of(table, one, other):
    """Return the kinds of a pair, in the plainest way."""
    kinds = set()
    if (table.splits[one] == "train") != (table.splits[other] == "train"):
        kinds.add("train-and-test")
    people = table.identities[one], table.identities[other]
    if None not in people and people[0] != people[1]:
        kinds.add("two-identities")
    if table.cameras[one] != table.cameras[other]:
        kinds.add("two-cameras")
    return kinds or {"ordinary"}


@pytest.mark.parametrize("seed", range(4))
def test_equal_pictures_are_grouped_by_whom_they_concern(seed):
    looks, table = cases(seed)
    groups: dict[bytes, list[int]] = {}
    for number in np.flatnonzero(looks.readable).tolist():
        groups.setdefault(looks.sums[number].tobytes(), []).append(number)
    groups = {key: members for key, members in groups.items() if len(members) > 1}
    found = equal_pictures(looks, Labels.of(table))
    assert found.total == len(groups) > 0
    for kind in KINDS[:3]:
        concerned = [
            members
            for members in groups.values()
            if any(kind in kinds_of(table, *pair) for pair in itertools.combinations(members, 2))
        ]
        assert found.found[kind] == len(concerned)
        assert set(np.flatnonzero(found.images[kind]).tolist()) <= set(itertools.chain(*concerned))
        assert all(found.images[kind][members].sum() >= 2 for members in concerned)
    plain = [
        members
        for members in groups.values()
        if all(kinds_of(table, *pair) == {"ordinary"} for pair in itertools.combinations(members, 2))
    ]
    assert found.found["ordinary"] == len(plain)
    assert np.flatnonzero(found.images["ordinary"]).tolist() == sorted(itertools.chain(*plain))


@pytest.mark.parametrize("seed", range(4))
def test_near_pictures_are_pairs_by_whom_they_concern(seed):
    looks, table = cases(seed)
    stands_for: dict[tuple, int] = {}
    for number in np.flatnonzero(looks.readable & ~looks.blank).tolist():
        labels = (table.splits[number] == "train", table.identities[number], table.cameras[number])
        stands_for.setdefault((looks.sums[number].tobytes(), *labels), number)
    pairs = [
        (one, other)
        for one, other in itertools.combinations(sorted(stands_for.values()), 2)
        if bits_apart(looks.hashes[one], looks.hashes[other]) <= 24
        and (looks.sums[one] != looks.sums[other]).any()
    ]
    found = near_pictures(looks, Labels.of(table))
    assert found.total == len(pairs) > 0
    for kind in KINDS:
        concerned = [pair for pair in pairs if kind in kinds_of(table, *pair)]
        assert found.found[kind] == len(concerned)
        assert np.flatnonzero(found.images[kind]).tolist() == sorted(set(itertools.chain(*concerned)))
        assert set(found.examples[kind]) <= set(concerned)
        assert len(found.examples[kind]) == min(3, len(concerned))


def test_a_group_of_one_unknown_and_two_known_people_concerns_two_identities(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path in paths:
        picture(1).save(path)
    table = ImageTable(paths, identities=[None, "a", "b"])
    found = equal_pictures(look_at_images(paths, progress=False), Labels.of(table))
    assert found.found == {"train-and-test": 0, "two-identities": 1, "two-cameras": 0, "ordinary": 0}
    assert np.flatnonzero(found.images["two-identities"]).tolist() == [1, 2]


def photograph(seed):
    """Return a picture with coarse and fine structure, the finer the weaker, as photographs have it."""
    generator = np.random.default_rng(seed)
    total = np.zeros((128, 64, 3))
    for side in (2, 4, 8, 16, 32):
        layer = Image.fromarray(generator.integers(0, 256, (2 * side, side, 3), dtype=np.uint8))
        total += np.asarray(layer.resize((64, 128), Image.Resampling.BICUBIC), dtype=float) / side
    return Image.fromarray((200 * total / total.max()).astype(np.uint8))


@pytest.mark.parametrize("change", ["compress", "halve", "brighten", "format"])
def test_what_is_saved_again_is_near_and_another_picture_is_not(tmp_path, change):
    image = photograph(3)
    again = {
        "compress": (image, {"quality": 70}),
        "halve": (image.resize((32, 64)), {"quality": 90}),
        "brighten": (image.point(lambda value: int(1.1 * value)), {"quality": 90}),
        "format": (image, {"quality": 95}),
    }[change]
    paths = [str(tmp_path / name) for name in ("a.png", "b.webp" if change == "format" else "b.jpg", "c.png")]
    image.save(paths[0])
    again[0].save(paths[1], **again[1])
    photograph(4).save(paths[2])
    looks = look_at_images(paths, progress=False)
    labels = Labels.of(ImageTable(paths))
    assert equal_pictures(looks, labels).total == 0
    assert near_pictures(looks, labels).examples["ordinary"] == [(0, 1)]


def test_the_same_pixels_are_equal_whatever_the_format_and_the_size_counts(tmp_path):
    image = picture(1)
    for name in ("a.png", "b.bmp", "c.tif"):
        image.save(tmp_path / name)
    Image.frombytes("RGB", (image.height, image.width), image.tobytes()).save(tmp_path / "d.png")
    paths = sorted(str(path) for path in tmp_path.iterdir())
    looks = look_at_images(paths, progress=False)
    assert len(np.unique(looks.sums[:3], axis=0)) == 1
    assert len(np.unique(looks.sums, axis=0)) == 2


def test_blank_pictures_are_not_near_each_other(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (24, 60), (number * 40, 10, 10)).save(path)
    looks = look_at_images(paths, progress=False)
    assert looks.blank.all()
    assert near_pictures(looks, Labels.of(ImageTable(paths))).total == 0


def test_threads_change_nothing(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(20)]
    for number, path in enumerate(paths[:-1]):
        picture(number).save(path)
    one, three = (look_at_images(paths, workers=workers, progress=False) for workers in (1, 3))
    np.testing.assert_array_equal(one.hashes, three.hashes)
    np.testing.assert_array_equal(one.sums, three.sums)
    assert one.faults == three.faults == {19: "No such file or directory"}
