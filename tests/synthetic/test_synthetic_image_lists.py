"""Which images a synthetic domain has."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp_synthetic import DOMAINS, DomainSpec, DomainStyle, iter_images
from nplp_synthetic.images import identity_records
from nplp_synthetic.writer import market_name

SPECS = st.builds(
    DomainSpec,
    name=st.sampled_from(tuple(DOMAINS)),
    train_identities=st.integers(1, 6),
    test_identities=st.integers(1, 6),
    images_per_identity=st.integers(4, 30),
    cameras=st.integers(2, 12),
    distractors=st.integers(0, 9),
    junk=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=40, deadline=None)
@given(SPECS)
def test_the_sets_are_what_a_benchmark_needs(spec):
    records = list(iter_images(spec))
    assert len(records) == spec.identities * spec.images_per_identity + spec.distractors + spec.junk
    assert len({market_name(record) for record in records}) == len(records)
    assert all(1 <= record.camera <= spec.cameras for record in records)

    people = [record for record in records if record.identity > 0]
    train = {record.identity for record in people if record.split == "train"}
    test = {record.identity for record in people if record.split != "train"}
    assert train == set(range(1, spec.train_identities + 1))
    assert test == set(range(spec.train_identities + 1, spec.identities + 1))
    assert set(Counter(record.identity for record in people).values()) == {spec.images_per_identity}

    extras = Counter((record.identity, record.split) for record in records if record.identity <= 0)
    assert extras == Counter({(0, "gallery"): spec.distractors, (-1, "gallery"): spec.junk}) + Counter()


@settings(max_examples=40, deadline=None)
@given(SPECS)
def test_every_query_has_a_match_in_another_camera(spec):
    queries, gallery_cameras = Counter(), defaultdict(set)
    for record in iter_images(spec):
        if record.split == "query":
            queries[record.identity, record.camera] += 1
            assert record.box == 0
        elif record.identity > spec.train_identities:
            gallery_cameras[record.identity].add(record.camera)
    assert set(queries.values()) == {1}
    assert {identity for identity, _ in queries} == set(gallery_cameras)
    for identity, camera in queries:
        assert gallery_cameras[identity] - {camera}
        assert camera in gallery_cameras[identity]


def test_a_person_is_seen_by_several_cameras_in_visits_of_close_frames():
    spec = DomainSpec(images_per_identity=24, cameras=3)
    visits_of_a_camera = Counter()
    for identity in range(1, 21):
        records = identity_records(spec, identity)
        assert 2 <= len({record.camera for record in records}) <= 3
        visits = defaultdict(list)
        for record in records:
            visits[record.camera, record.sequence].append(record.frame)
        visits_of_a_camera.update(camera for camera, _ in visits)
        for frames in visits.values():
            gaps = [later - earlier for earlier, later in pairwise(frames)]
            assert all(8 <= gap < 30 for gap in gaps)
    assert max(visits_of_a_camera.values()) > 20


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_people_with_few_cameras_are_seen_by_two_and_mostly_by_one(share):
    spec = DomainSpec(images_per_identity=20, cameras=8, style=DomainStyle(few_cameras=share))
    usual = DomainSpec(images_per_identity=20, cameras=8)
    few, mains = 0, set()
    for identity in range(1, 101):
        records = identity_records(spec, identity)
        by_camera = Counter(record.camera for record in records)
        if sorted(by_camera.values()) == [4, 16]:
            few += 1
            mains.add(max(by_camera, key=by_camera.__getitem__))
        else:
            assert records == identity_records(usual, identity)
    assert abs(few / 100 - share) < 0.15
    assert len(mains) == (8 if share else 0)


def test_two_images_are_left_for_the_second_of_few_cameras():
    spec = DomainSpec(images_per_identity=4, style=DomainStyle(few_cameras=1))
    assert sorted(Counter(r.camera for r in identity_records(spec, 1)).values()) == [2, 2]


def test_a_person_keeps_its_images_when_the_domain_grows():
    small, large = DomainSpec(train_identities=4), DomainSpec(train_identities=40)
    assert identity_records(small, 3) == identity_records(large, 3)
    moved = identity_records(small, 5), identity_records(large, 5)
    assert [(r.camera, r.frame) for r in moved[0]] == [(r.camera, r.frame) for r in moved[1]]
    assert {record.split for record in moved[0]} == {"query", "gallery"}


def test_records_are_yielded_one_by_one():
    huge = DomainSpec(train_identities=99_999, test_identities=99_999, images_per_identity=1000)
    first = next(iter_images(huge))
    assert (first.identity, first.split) == (1, "train")
