"""The whole stage against the oracle over generated cases, ten thousand of them in the long run.

What float64 itself leaves open (see `clustering_ties`) is not compared, but it is counted, and must be rare.
"""

from __future__ import annotations

import warnings

import clustering_oracle as oracle
import clustering_ties as ties
import numpy as np
import pytest
from clustering_cases import threads, tiny_blocks
from clustering_generated import Generated, generate

from nplp.clustering import PseudoLabels, estimate_pseudo_labels

CHUNK = 250
USUAL_CHUNK = 50
FORMS_PERIOD = 10
FEW = 60
OPEN_SHARE = 0.06


def estimated(case: Generated) -> PseudoLabels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimate_pseudo_labels(case.features, case.camera_ids, **case.options)


def assert_identical(one: PseudoLabels, other: PseudoLabels) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def distances_of(case: Generated) -> tuple[ties.Distances, ties.Distances]:
    """Return the oracle's distances for the clustering and for the scores."""
    o = case.options
    seen = ties.see(case.values, case.cameras, o["camera_centering"])
    names = (o["distance"], o["assessment_distance"] or o["distance"])
    by_name = {name: ties.distances(seen, name, o["k1"], o["k2"]) for name in set(names)}
    return by_name[names[0]], by_name[names[1]]


def expected_of(case: Generated, primary: ties.Distances, assessed: ties.Distances) -> oracle.Expected:
    o = case.options
    names = ("alpha", "beta", "min_samples", "noisy_fraction")
    return oracle.estimate(
        primary.matrix,
        case.cameras,
        assessed=assessed.matrix,
        keep=o["dissolved"] == "keep",
        epsilon=o.get("epsilon"),
        **{name: o[name] for name in names},
    )


def open_points(case: Generated, result: PseudoLabels) -> list[str]:
    """Compare what is decided, and return what is not."""
    o = case.options
    given = o.get("epsilon")
    pairs = len(oracle.compared_pairs(len(case.values), case.cameras)[0])
    averaged = oracle.averaged_pairs(o["alpha"], pairs)
    assert (result.pairs, result.averaged_pairs) == ((pairs, averaged) if given is None else (0, 0))
    primary, assessed = distances_of(case)
    if primary.open:
        return ["neighbours"]
    expected = expected_of(case, primary, assessed)
    assert result.epsilon_e == pytest.approx(expected.epsilon, rel=1e-6, abs=2 * primary.error)
    assert result.epsilon_c == o["beta"] * result.epsilon_e
    if given is None:
        radius = ties.startup_radius(primary, case.cameras, o["alpha"], expected.epsilon)
    else:
        radius = ties.Radius(given, firm=True)
    if ties.radius_is_open(primary, radius):
        return ["epsilon"]
    np.testing.assert_array_equal(result.startup_labels, expected.startup_labels, err_msg="startup labels")
    if not o["correct"]:
        np.testing.assert_array_equal(result.labels, result.startup_labels)
        return []
    in_order = (o["assessment_distance"] or o["distance"]) == "jaccard"
    found = open_scores(assessed, in_order, expected, result)
    return found + open_corrections(primary, radius, o, result)


def open_scores(
    assessed: ties.Distances, in_order: bool, expected: oracle.Expected, result: PseudoLabels
) -> list[str]:
    error = ties.score_error(assessed, expected.startup_labels)
    assert result.self_assessment.shape == expected.scores.shape
    assert len(set(result.noisy_clusters.tolist())) == len(expected.noisy)
    if assessed.open or error > 1e-6:
        return ["scores"]
    np.testing.assert_allclose(result.self_assessment, expected.scores, rtol=0, atol=1e-5, err_msg="scores")
    tolerance = ties.SCORE_TOLERANCE + 2 * error
    return open_noisy(expected.scores, expected.noisy, result.noisy_clusters, in_order, tolerance)


def open_noisy(
    scores: np.ndarray, expected: np.ndarray, noisy: np.ndarray, in_order: bool, tolerance: float
) -> list[str]:
    """Compare the noisy clusters as far as near ties between scores allow."""
    near = ties.near_scores(scores, tolerance)
    among, chosen = (np.isin(np.arange(len(scores)), clusters) for clusters in (expected, noisy))
    if (near & among[:, None] & ~among).any():
        last = scores[expected[-1]]
        assert chosen[scores < last - tolerance].all()
        assert not chosen[scores > last + tolerance].any()
        return ["noisy clusters"]
    np.testing.assert_array_equal(chosen, among, err_msg="noisy clusters")
    # Which clusters are noisy is exact. Where scores are made from products, their list is in the order of
    # these scores, which is known to twice what a score may err.
    assert (np.diff(scores[noisy]) >= -2e-5).all(), "order of noisy clusters"
    if in_order and (near & among[:, None] & among).any():
        return ["order of noisy clusters"]
    if in_order:
        np.testing.assert_array_equal(noisy, expected, err_msg="order of noisy clusters")
    return []


def open_corrections(
    primary: ties.Distances, radius: ties.Radius, options: dict, result: PseudoLabels
) -> list[str]:
    """Compare the corrected labels, given the noisy clusters that the stage found."""
    startup, noisy, beta = result.startup_labels, result.noisy_clusters, options["beta"]
    inside = (startup[:, None] == startup) & np.isin(startup, noisy)
    smaller = ties.Radius(beta * radius.value, radius.firm, radius.key if beta == 1 else None)
    if ties.radius_is_open(primary, smaller, inside):
        return ["corrected labels"]
    labels, dissolved = oracle.correct(
        primary.matrix, startup, noisy, smaller.value, options["min_samples"], options["dissolved"] == "keep"
    )
    np.testing.assert_array_equal(result.labels, labels, err_msg="labels")
    assert result.dissolved_clusters.tolist() == dissolved
    return []


def check(index: int) -> list[str]:
    """Check one case; return which of its results float64 leaves open."""
    case = generate(index)
    result = estimated(case)
    found = open_points(case, result)
    if index % FORMS_PERIOD == 0:
        assert_identical(result, estimated(case))
        # Blocks of a few samples each make larger cases slow.
        for setting in (threads(2), threads(3), tiny_blocks(len(case.values) <= FEW)):
            with setting:
                other = estimated(case)
            np.testing.assert_array_equal(other.startup_labels, result.startup_labels)
            np.testing.assert_array_equal(other.labels, result.labels)
    return found


def recipe(index: int) -> str:
    return f"cd tests/clustering && python -c 'from test_generated import check; check({index})'"


def outcome(index: int) -> list[str] | AssertionError:
    try:
        return check(index)
    except AssertionError as error:
        return error
    except Exception as error:
        raise AssertionError(f"case {index} fails; reproduce it by: {recipe(index)}") from error


def check_range(start: int, stop: int) -> None:
    outcomes = {index: outcome(index) for index in range(start, stop)}
    differing = {index: error for index, error in outcomes.items() if isinstance(error, AssertionError)}
    if differing:
        first, error = next(iter(differing.items()))
        raise AssertionError(f"{len(differing)} differ, {list(differing)}; first: {recipe(first)}") from error
    found = [points for points in outcomes.values() if points]
    share = len(found) / len(outcomes)
    assert share <= OPEN_SHARE, f"{share:.0%} of cases {start}..{stop - 1} are open: {found}"


def line(*positions: float) -> ties.Distances:
    return ties.distances(ties.see(np.array(positions)[:, None], None, False), "euclidean", 1, 1)


def test_a_near_tie_is_open_and_an_exact_one_is_not() -> None:
    near, exact = line(0.0, 0.1, 0.1 + 0.2, 0.4), line(0.0, 1.0, 2.0, 3.0)
    pair = ties.Radius(0.1, firm=False, key=near.key(0, 1))
    # 0.4 - 0.3 is not quite 0.1, while 2 - 1 is 1, to the last bit.
    assert ties.radius_is_open(near, pair)
    assert not ties.radius_is_open(near, ties.Radius(0.15, firm=False))
    radius = ties.startup_radius(exact, None, 0.5, 1.0)
    assert radius.firm
    assert not ties.radius_is_open(exact, radius)


@pytest.mark.parametrize(("middle", "is_open"), [(0.2, True), (0.2 + 1e-9, False)])
def test_a_near_tie_between_neighbours_is_open(middle: float, is_open: bool) -> None:
    # The two nearest of the middle sample: whether it is the first or the third hangs on the last bit.
    rows = np.array([0.1, middle, 0.3, 7.0])[:, None]
    assert ties.neighbours_are_open(ties.see(rows, None, False), 2, 1) == is_open
    grid = ties.see(np.array([1.0, 2.0, 3.0, 7.0])[:, None], None, False)
    assert not ties.neighbours_are_open(grid, 2, 1)


def test_near_scores_are_those_that_rounding_may_order_either_way() -> None:
    scores = np.array([0.5, 0.5 + 1e-9, 0.5 + 1e-14, 0.7, 0.0, 0.0])
    near = {tuple(pair) for pair in np.argwhere(np.triu(ties.near_scores(scores, 2e-9))).tolist()}
    assert near == {(0, 1), (1, 2)}


@pytest.mark.parametrize("start", range(0, 300, USUAL_CHUNK))
def test_some_cases_are_the_oracles(start: int) -> None:
    check_range(start, start + USUAL_CHUNK)


@pytest.mark.long
@pytest.mark.parametrize("start", range(0, 10_000, CHUNK))
def test_ten_thousand_cases_are_the_oracles(start: int) -> None:
    check_range(start, start + CHUNK)
