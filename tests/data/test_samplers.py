"""The batch samplers: composition, coverage, repeatability and the split over ranks."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.data.samplers import IdentityBatchSampler, ShuffledBatchSampler

LABELS = np.repeat(np.arange(10), 6)


def identity_batches(
    labels=LABELS, *, batch_size=8, num_instances=2, num_batches=5, seed=0, rank=0, world_size=1
):
    return list(
        IdentityBatchSampler(
            labels,
            batch_size=batch_size,
            num_instances=num_instances,
            num_batches=num_batches,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
    )


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


def test_shuffled_batches_cover_all_before_repeating():
    batches = list(ShuffledBatchSampler(10, batch_size=5, num_batches=4, seed=0))
    assert sorted(batches[0] + batches[1]) == list(range(10))
    assert sorted(batches[2] + batches[3]) == list(range(10))
    assert batches[0] + batches[1] != batches[2] + batches[3]


def test_shuffled_ranks_share_the_batch():
    whole = list(ShuffledBatchSampler(10, batch_size=4, num_batches=3, seed=1))
    shares = [
        list(ShuffledBatchSampler(10, batch_size=4, num_batches=3, seed=1, rank=r, world_size=2))
        for r in (0, 1)
    ]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: identity_batches(np.array([], dtype=int)), "labels must hold at least one image"),
        (lambda: identity_batches(batch_size=7), "batch_size must be a positive multiple of"),
        (lambda: identity_batches(batch_size=8, world_size=3), "batch_size must be a positive multiple of"),
        (lambda: ShuffledBatchSampler(0, batch_size=4, num_batches=1, seed=0), "size must be at least 1"),
        (lambda: ShuffledBatchSampler(4, batch_size=3, num_batches=1, seed=0, world_size=2), "batch_size"),
    ],
)
def test_wrong_sizes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
