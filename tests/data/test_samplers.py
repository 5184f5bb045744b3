"""The batch samplers: composition, coverage, repeatability and the split over ranks."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.data.datasets import index_cameras
from nplp.data.loaders import TrainSet, build_train_loader
from nplp.data.samplers import (
    CameraProxyBatchSampler,
    CrossCameraBatchSampler,
    Epoch,
    EvenCameraBatchSampler,
    IdentityBatchSampler,
    ShuffledBatchSampler,
)

LABELS = np.repeat(np.arange(10), 6)


def identity_batches(
    labels=LABELS, *, batch_size=8, num_instances=2, num_batches=5, seed=0, rank=0, world_size=1
):
    epoch = Epoch(batch_size, num_batches, seed, rank, world_size)
    return list(IdentityBatchSampler(labels, epoch, num_instances))


def test_a_batch_has_p_identities_with_k_distinct_images():
    for batch in identity_batches():
        counts = Counter(LABELS[batch].tolist())
        assert len(counts) == 4
        assert set(counts.values()) == {2}
        assert len(set(batch)) == 8


def test_same_seed_same_batches_and_another_seed_others():
    assert identity_batches(seed=3) == identity_batches(seed=3)
    assert identity_batches(seed=3) != identity_batches(seed=4)


def test_the_global_random_state_is_neither_read_nor_changed():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = identity_batches()
    np.random.seed(1)
    assert identity_batches() == first
    np.random.seed(0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_images_of_an_identity_are_used_up_before_any_repeats():
    labels = np.zeros(6, dtype=int)
    batches = identity_batches(labels, batch_size=2, num_batches=3)
    assert sorted(image for batch in batches for image in batch) == list(range(6))


def test_an_identity_with_fewer_images_repeats_some():
    labels = np.array([0, 1, 1, 1, 1])
    for batch in identity_batches(labels, batch_size=8, num_instances=4):
        assert Counter(labels[batch].tolist()) == {0: 4, 1: 4}
        assert {1, 2, 3, 4} <= set(batch)


def test_fewer_identities_than_p_fill_the_batch_with_more_images_each():
    labels = np.repeat([0, 1], 8)
    for batch in identity_batches(labels, batch_size=16, num_instances=4):
        assert Counter(labels[batch].tolist()) == {0: 8, 1: 8}
        assert len(set(batch)) == 16


def test_ranks_together_draw_the_batch_of_one_process():
    whole = identity_batches()
    shares = [identity_batches(rank=rank, world_size=2) for rank in range(2)]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    p=st.integers(1, 6),
    k=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_batches_are_full_and_never_endless(counts, p, k, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    batches = identity_batches(labels, batch_size=p * k, num_instances=k, num_batches=3, seed=seed)
    assert [len(batch) for batch in batches] == [p * k] * 3
    for batch in batches:
        assert all(count % k == 0 for count in Counter(labels[batch].tolist()).values())


def cross_camera_batches(labels, cameras, *, p=1, k=4, num_batches=5, seed=0, rank=0, world_size=1):
    epoch = Epoch(p * k, num_batches, seed, rank, world_size)
    return list(CrossCameraBatchSampler(labels, cameras, epoch, k))


def draws_that_are_allowed(cameras, k):
    """Return all draws of an identity's K images, as sorted tuples, and how often each should come.

    By going through every first image, every order of the others and every repeat.
    """
    everyone = range(len(cameras))
    shares = Counter()
    for first in everyone:
        rest = [image for image in everyone if image != first]
        orders = list(itertools.permutations(rest))
        for order in orders:
            elsewhere = [image for image in order if cameras[image] != cameras[first]]
            beside = [image for image in order if cameras[image] == cameras[first]]
            drawn = [first, *elsewhere, *beside][:k]
            repeats = list(itertools.product(elsewhere or everyone, repeat=k - len(drawn)))
            for repeat in repeats:
                draw = (first, *sorted([*drawn[1:], *repeat]))
                shares[draw] += 1 / (len(cameras) * len(orders) * len(repeats))
    return shares


@pytest.mark.parametrize(
    "cameras",
    [
        [0, 0, 0, 1, 1, 2],
        [0, 0, 0, 0, 1],
        [0, 1, 2, 3, 4],
        [3, 3, 3, 3, 3],
        [0, 1, 1],
        [0, 1],
        [2, 2],
        [5],
    ],
)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_each_draw_across_cameras_is_allowed_and_as_likely_as_it_should_be(cameras, k):
    shares = draws_that_are_allowed(cameras, k)
    batches = cross_camera_batches(np.zeros(len(cameras), dtype=int), cameras, k=k, num_batches=6000)
    found = Counter((first, *sorted(rest)) for first, *rest in batches)
    assert set(found) <= set(shares)
    for draw, share in shares.items():
        assert abs(found[draw] / 6000 - share) < 5 * np.sqrt(share / 6000), draw


def test_other_cameras_come_first():
    cameras = np.tile([0, 0, 0, 0, 1, 2], 10)
    for batch in cross_camera_batches(LABELS, cameras, p=3, k=3, num_batches=20):
        for first, *others in zip(*[iter(batch)] * 3, strict=True):
            assert set(LABELS[[first, *others]].tolist()) == {LABELS[first]}
            assert all(cameras[image] != cameras[first] for image in others)


def test_the_plain_sampler_looks_at_no_camera():
    """With one image in another camera it is drawn always, or by chance."""
    labels, cameras = np.zeros(12, dtype=int), np.array([0] * 11 + [1])
    balanced = cross_camera_batches(labels, cameras, k=2, num_batches=40)
    plain = identity_batches(labels, batch_size=2, num_instances=2, num_batches=40)
    assert all(11 in batch for batch in balanced)
    assert sum(11 in batch for batch in plain) < 10


def test_each_image_is_the_first_once_before_any_is_again():
    labels = np.repeat([0, 1], 6)
    batches = cross_camera_batches(labels, np.tile([0, 1, 2], 4), p=2, k=2, num_batches=6)
    assert sorted(image for batch in batches for image in batch[::2]) == list(range(12))


def test_without_a_camera_for_each_image_it_is_refused():
    with pytest.raises(ValueError, match="a camera for each of 60 labels, got 3"):
        cross_camera_batches(LABELS, [0, 1, 2])


@settings(max_examples=60, deadline=None)
@given(
    people=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=10),
    p=st.sampled_from([2, 4, 6]),
    k=st.integers(1, 5),
    seed=st.integers(0, 5),
)
def test_batches_across_cameras_keep_their_promises(people, p, k, seed):
    labels = np.repeat(np.arange(len(people)), [len(cameras) for cameras in people])
    cameras = np.array([camera for each in people for camera in each])
    given = {"p": p, "k": k, "num_batches": 3, "seed": seed}
    batches = cross_camera_batches(labels, cameras, **given)
    assert batches == cross_camera_batches(labels, cameras, **given)
    assert [len(batch) for batch in batches] == [p * k] * 3
    shares = [cross_camera_batches(labels, cameras, **given, rank=rank, world_size=2) for rank in (0, 1)]
    assert [first + second for first, second in zip(*shares, strict=True)] == batches
    for batch in batches:
        drawn = np.reshape(batch, (p, k))
        if len(people) >= p:
            assert len(set(labels[drawn[:, 0]].tolist())) == p
        for first, *others in drawn.tolist():
            own = np.flatnonzero(labels == labels[first])
            elsewhere = set(own[cameras[own] != cameras[first]].tolist())
            assert set(others) <= set(own.tolist())
            assert len(elsewhere & set(others)) == min(len(elsewhere), k - 1)
            assert len({first, *others}) == min(len(own), k)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("NaiveIdentitySampler", IdentityBatchSampler),
        ("BalancedIdentitySampler", CrossCameraBatchSampler),
        ("CameraProxySampler", CameraProxyBatchSampler),
        ("CameraBalancedSampler", EvenCameraBatchSampler),
        ("TrainingSampler", ShuffledBatchSampler),
    ],
)
def test_each_name_of_the_configuration_gives_its_sampler(tiny_cfg, name, sampler):
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.SOLVER.IMS_PER_BATCH = name, 8
    items = [(f"{image}.jpg", "p", f"c{image % 3}") for image in range(60)]
    labels = np.where(np.arange(60) % 7 == 0, -1, LABELS)
    train_set = TrainSet(cfg, items, labels, index_cameras(items))
    kept = np.flatnonzero(labels >= 0)
    np.testing.assert_array_equal(train_set.cameras, kept % 3)
    built = build_train_loader(train_set, num_batches=3, seed=5).loader.batch_sampler
    assert type(built) is sampler
    if name == "BalancedIdentitySampler":
        expected = cross_camera_batches(labels[kept], kept % 3, p=2, k=4, num_batches=3, seed=5)
        assert list(built) == expected


def test_a_batch_of_proxies_has_each_persons_images_of_one_camera():
    labels, cameras = np.repeat(np.arange(5), 12), np.tile([0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 2], 5)
    epoch = Epoch(batch_size=12, num_batches=5, seed=2)
    batches = list(CameraProxyBatchSampler(labels, cameras, epoch, 4))
    drawn = np.reshape(batches, (15, 4))
    proxies = [set(zip(labels[four].tolist(), cameras[four].tolist(), strict=True)) for four in drawn]
    assert all(len(proxy) == 1 for proxy in proxies)
    # Five batches of three hold each of the fifteen proxies once.
    assert len(set().union(*proxies)) == 15
    # The third camera has one image of a person, which comes four times.
    assert all(len(set(four)) == (1 if cameras[four[0]] == 2 else 4) for four in drawn.tolist())
    shares = [
        list(CameraProxyBatchSampler(labels, cameras, replace(epoch, rank=rank, world_size=3), 4))
        for rank in range(3)
    ]
    assert [[*first, *second, *third] for first, second, third in zip(*shares, strict=True)] == batches


def test_proxies_need_a_camera_for_each_image():
    with pytest.raises(ValueError, match="a camera for each of 60 labels, got 3"):
        CameraProxyBatchSampler(LABELS, [0, 1, 2], Epoch(8, 1, 0), 4)


def test_the_plain_samplers_batches_are_those_of_the_first_version():
    first = [[59, 54, 41, 40, 2, 1, 12, 17], [8, 9, 26, 24, 42, 45, 35, 32]]
    assert identity_batches(num_batches=2, seed=3) == first


def test_shuffled_batches_cover_all_before_repeating():
    batches = list(ShuffledBatchSampler(10, Epoch(batch_size=5, num_batches=4, seed=0)))
    assert sorted(batches[0] + batches[1]) == list(range(10))
    assert sorted(batches[2] + batches[3]) == list(range(10))
    assert batches[0] + batches[1] != batches[2] + batches[3]


def test_shuffled_ranks_share_the_batch():
    whole = list(ShuffledBatchSampler(10, Epoch(batch_size=4, num_batches=3, seed=1)))
    shares = [
        list(ShuffledBatchSampler(10, Epoch(batch_size=4, num_batches=3, seed=1, rank=r, world_size=2)))
        for r in (0, 1)
    ]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole


def shared_batches(shares, *, num_batches, seed=0, rank=0, world_size=1):
    epoch = Epoch(8, num_batches, seed, rank, world_size)
    return list(IdentityBatchSampler(LABELS, epoch, 2, np.asarray(shares)))


def test_identities_are_drawn_by_their_shares():
    shares = np.array([0.2, *[1.0] * 8, 3.0])
    batches = shared_batches(shares, num_batches=4000)
    drawn = np.zeros(10)
    for batch in batches:
        counts = Counter(LABELS[batch].tolist())
        assert set(counts.values()) == {2}, "an identity comes once in a batch"
        drawn[list(counts)] += 1
    # By the definition: four draws, one after another, each among those that are left.
    expected = np.zeros(10)
    for order in itertools.permutations(range(10), 4):
        probability, left = 1.0, shares.sum()
        for identity in order:
            probability *= shares[identity] / left
            left -= shares[identity]
        expected[list(order)] += probability
    deviation = np.sqrt(expected * (1 - expected) / len(batches))
    assert (np.abs(drawn / len(batches) - expected) < 5 * deviation).all()
    assert expected[0] < 0.15 < 0.7 < expected[9]


def test_ranks_share_the_identities_that_shares_drew():
    shares = np.arange(1.0, 11.0)
    whole = shared_batches(shares, num_batches=5, seed=3)
    parts = [shared_batches(shares, num_batches=5, seed=3, rank=rank, world_size=2) for rank in (0, 1)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("shares", [np.ones(9), np.array([*np.ones(9), 0.0])])
def test_shares_that_fit_no_identities_are_refused(shares):
    with pytest.raises(ValueError, match="shares must be above 0, one for each of 10 identities, got"):
        shared_batches(shares, num_batches=1)


@pytest.mark.parametrize("name", ["NaiveIdentitySampler", "BalancedIdentitySampler", "CameraBalancedSampler"])
def test_shares_of_clusters_reach_the_sampler(tiny_cfg, name):
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.SOLVER.IMS_PER_BATCH = name, 8
    items = [(f"{image}.jpg", "p", f"c{image % 3}") for image in range(60)]
    shares = np.array([*np.full(9, 1e-9), 1.0])
    train_set = TrainSet(cfg, items, LABELS, index_cameras(items), cluster_shares=shares)
    batches = list(build_train_loader(train_set, num_batches=9, seed=5).loader.batch_sampler)
    assert all(9 in LABELS[batch] for batch in batches)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: identity_batches(np.array([], dtype=int)), "labels must hold at least one image"),
        (lambda: identity_batches(batch_size=7), "batch_size must be a positive multiple of"),
        (lambda: identity_batches(batch_size=8, world_size=3), "batch_size must be a positive multiple of"),
        (
            lambda: ShuffledBatchSampler(0, Epoch(batch_size=4, num_batches=1, seed=0)),
            "size must be at least 1",
        ),
        (
            lambda: ShuffledBatchSampler(4, Epoch(batch_size=3, num_batches=1, seed=0, world_size=2)),
            "batch_size",
        ),
    ],
)
def test_wrong_sizes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 8), st.integers(0, 99))
def test_images_are_spread_evenly_over_the_cameras_of_an_identity(sizes, k, seed):
    cameras = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(len(cameras), dtype=int)
    (batch,) = EvenCameraBatchSampler(labels, cameras, Epoch(k, 1, seed), k)
    assert len(batch) == k
    if k <= len(cameras):
        assert len(set(batch)) == k
        counts = Counter(cameras[batch].tolist())
        # No camera gives less than the fullest one but one, unless it has given all.
        most = max(counts.values())
        assert all(counts[camera] >= min(size, most - 1) for camera, size in enumerate(sizes))
    else:
        assert set(batch) == set(range(len(cameras)))


def test_even_batches_of_ranks_make_that_of_one():
    cameras = np.arange(len(LABELS)) % 3
    one, *ranks = (
        list(EvenCameraBatchSampler(LABELS, cameras, Epoch(8, 5, 3, rank, size), 2))
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    assert one == [first + second for first, second in zip(*ranks, strict=True)]
