"""Agreement about neighbours against sets of all distances."""

import numpy as np
import pytest

from nplp.clustering.neighbour_agreement import nearest_others, neighbour_agreement


def by_sets(first, second, k):
    def near(points):
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        return [set(row[:k].tolist()) for row in np.argsort(distances, axis=1, kind="stable")]

    return [len(a & b) / len(a | b) for a, b in zip(near(first), near(second), strict=True)]


@pytest.mark.parametrize("k", [1, 5, 20])
def test_it_is_the_share_of_common_neighbours(monkeypatch, k):
    monkeypatch.setattr("nplp.clustering.neighbour_agreement._ROWS_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200, 6)).astype(np.float32)
    second = (first + 0.7 * rng.normal(size=first.shape)).astype(np.float32)
    agreement = neighbour_agreement(nearest_others(first, k), nearest_others(second, k))
    np.testing.assert_allclose(agreement, by_sets(first.astype(float), second.astype(float), k))
    assert 0 < agreement.mean() < 1


def test_a_toy_by_hand():
    # Neighbours of 0: {1, 2} and {1, 3}.
    assert neighbour_agreement(np.array([[1, 2]]), np.array([[3, 1]])) == pytest.approx(1 / 3)


def test_a_sample_is_no_neighbour_of_its_own_and_copies_are():
    near = nearest_others(np.array([[0.0], [0.0], [0.0], [5.0]], dtype=np.float32), 2)
    assert [set(row.tolist()) for row in near] == [{1, 2}, {0, 2}, {0, 1}, {0, 1}]
    crowd = nearest_others(np.zeros((9, 2), dtype=np.float32), 2)
    assert all(number not in row for number, row in enumerate(crowd))


def test_fewer_samples_than_neighbours():
    near = nearest_others(np.array([[0.0], [1.0], [3.0]], dtype=np.float32), 20)
    assert near.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert neighbour_agreement(near, near[:, ::-1]).tolist() == [1, 1, 1]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="k must be"):
        nearest_others(np.zeros((3, 2), dtype=np.float32), 0)
    with pytest.raises(ValueError, match=r"got shapes \(3, 2\) and \(3, 4\)"):
        neighbour_agreement(np.zeros((3, 2), int), np.zeros((3, 4), int))
