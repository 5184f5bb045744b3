"""What is chosen to be looked at, on labels small enough to see through."""

import numpy as np

from nplp.report.selection import (
    by_score,
    changed_queries,
    correction_of,
    fragmented_people,
    mixed_clusters,
    purity,
)

#                   0  1  2  3  4  5  6  7  8   9
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, -1, -1])
PEOPLE = np.array([5, 5, 7, 5, 6, 7, 8, 8, 8, 5])


def test_purity_is_the_share_of_the_commonest():
    np.testing.assert_allclose(purity(LABELS, PEOPLE), [2 / 3, 1 / 3, 1])
    assert len(purity(np.full(3, -1), np.arange(3))) == 0


def test_scores_from_both_ends_never_share_a_cluster():
    lowest, highest = by_score(np.array([0.5, -0.1, 0.9, 0.2, 0.3]), 10)
    assert lowest.tolist() == [1, 3]
    assert highest.tolist() == [2, 0]
    assert [len(side) for side in by_score(np.array([0.1]), 3)] == [0, 0]


def test_correction_shows_the_parts_and_what_was_left_out():
    startup = np.array([0, 0, 0, 0, 0, 0, 1])
    labels = np.array([2, 3, 3, 3, -1, 2, 0])
    groups = correction_of(0, startup, labels, most=2)
    assert [(group.title, group.members.tolist(), group.total) for group in groups] == [
        ("cluster 3", [1, 2], 3),
        ("cluster 2", [0, 5], 2),
        ("left out", [4], 1),
    ]


def test_mixed_clusters_come_with_their_strangers_last():
    first, second = mixed_clusters(LABELS, PEOPLE, count=5, most=3)
    assert first.title == "cluster 1: 3 people"
    assert second.title == "cluster 0: 2 people"
    assert second.members.tolist() == [0, 1, 2]
    assert mixed_clusters(np.array([0, 0, 1]), np.array([4, 4, 5]), 5, 3) == []


def test_fragmented_people_come_with_their_parts():
    found = fragmented_people(LABELS, PEOPLE, count=5, most=1)
    assert [title for title, _ in found] == ["identity 5: 2 clusters", "identity 7: 2 clusters"]
    assert [(group.title, group.total) for group in found[0][1]] == [("cluster 0", 2), ("cluster 1", 1)]
    assert fragmented_people(np.array([0, 0]), np.array([1, 1]), 5, 1) == []


def test_queries_are_ordered_by_what_they_gained_or_lost():
    before = np.array([0.5, 0.1, np.nan, 0.9, 0.4])
    after = np.array([0.6, 0.9, np.nan, 0.2, 0.4])
    rose, fell = changed_queries(before, after, 3)
    assert rose.tolist() == [1, 0]
    assert fell.tolist() == [3]


def test_unknown_identities_make_no_cluster_impure_and_nobody_torn():
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    people = np.array([5, 5, -1, 5, 6, -1, -1])
    np.testing.assert_array_equal(purity(labels, people), [1, 0.5, np.nan])
    (mixed,) = mixed_clusters(labels, people, count=5, most=3)
    assert (mixed.title, mixed.members.tolist(), mixed.total) == ("cluster 1: 2 people", [3, 4], 2)
    ((title, groups),) = fragmented_people(labels, people, count=5, most=3)
    assert title == "identity 5: 2 clusters"
    assert [group.members.tolist() for group in groups] == [[0, 1], [3]]
