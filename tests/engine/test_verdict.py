"""The verdict on an adaptation: each sign by itself, and lines that earlier versions wrote."""

import pytest

from nplp.engine.verdict import (
    DOUBTFUL,
    FAILED,
    FAILED_FALL,
    FEW_CLUSTERS,
    FEW_IMAGES,
    FEWEST_IMAGES,
    GIANT,
    HEALTHY,
    HEALTHY_FALL,
    MANY_OUTLIERS,
    ONE_CAMERA,
    RECENT,
    UNSETTLED,
    Verdict,
    judge,
    last_verdict,
    read_signs,
)

GOOD = {
    "images": 1000,
    "cameras": 4,
    "clusters": 60,
    "outliers": 100,
    "largest_cluster_share": 0.05,
    "label_agreement": 0.9,
    "one_camera_clusters": 0.2,
    "rules": [],
}


def history(*epsilons, **last):
    """Return a line for each epsilon; ``last`` changes the last one."""
    lines = [{**GOOD, "iteration": number, "epsilon_e": value} for number, value in enumerate(epsilons, 1)]
    lines[-1].update(last)
    return lines


def test_a_run_whose_epsilon_falls_is_healthy():
    assert judge(history(0.5, 0.4, 0.3)) == Verdict(HEALTHY)
    assert str(judge(history(0.5, 0.4, 0.3))) == "healthy"


@pytest.mark.parametrize(
    ("fall", "word"),
    [
        (HEALTHY_FALL, HEALTHY),
        (HEALTHY_FALL + 0.001, DOUBTFUL),
        (FAILED_FALL - 0.001, DOUBTFUL),
        (FAILED_FALL, FAILED),
        (1.2, FAILED),
    ],
)
def test_the_fall_of_epsilon_decides(fall, word):
    verdict = judge(history(1.0, 0.3, fall))
    assert verdict.word == word
    assert (not verdict.reasons) == (word == HEALTHY)


def test_thresholds_of_a_fit_can_be_given():
    lines = history(1.0, 0.7)
    assert judge(lines, healthy_fall=0.6).word == DOUBTFUL
    assert judge(lines, healthy_fall=0.6, failed_fall=0.65).word == FAILED


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        ({"outliers": int(1000 * MANY_OUTLIERS)}, HEALTHY, ""),
        ({"outliers": int(1000 * MANY_OUTLIERS) + 1}, DOUBTFUL, "50% of the images are outliers"),
        ({"label_agreement": UNSETTLED - 0.01}, DOUBTFUL, "labels still change"),
        ({"one_camera_clusters": ONE_CAMERA}, DOUBTFUL, "90% of the clusters hold one camera alone"),
        ({"one_camera_clusters": 1.0, "cameras": 1}, HEALTHY, ""),
        ({"clusters": FEW_CLUSTERS - 1}, DOUBTFUL, "7 clusters are few"),
        ({"clusters": 1}, FAILED, "1 clusters"),
        ({"clusters": 0, "largest_cluster_share": 0.0}, FAILED, "0 clusters"),
        ({"largest_cluster_share": GIANT}, FAILED, "one cluster holds 50% of the clustered images"),
        ({"images": FEW_IMAGES - 1, "outliers": 9}, DOUBTFUL, f"{FEW_IMAGES - 1} images are few"),
        ({"images": 24, "outliers": 4}, FAILED, f"24 images teach nothing, at least {FEWEST_IMAGES}"),
        ({"labels_of_iteration": 1}, FAILED, "no clusters any more"),
        ({"rules": [{"rule": "no_cluster", "action": "keep"}]}, FAILED, "no clusters any more"),
        ({"rules": [{"rule": "explosion", "action": "report"}]}, FAILED, "exploded"),
        ({"rules": [{"rule": "small_clusters", "action": "report"}]}, HEALTHY, ""),
    ],
)
def test_each_sign_alone_gives_its_word_and_reason(change, word, reason):
    verdict = judge(history(0.5, 0.3, **change))
    assert verdict.word == word
    assert reason in str(verdict)
    assert len(verdict.reasons) == (word != HEALTHY)


def test_an_explosion_counts_for_some_iterations():
    lines = history(*[0.5] * 2, *[0.3] * RECENT)
    lines[1]["rules"] = [{"rule": "explosion"}]
    assert judge(lines).word == HEALTHY
    lines[2]["rules"] = [{"rule": "explosion"}]
    assert judge(lines).word == FAILED


def test_failures_hide_doubts_and_come_together():
    lines = history(0.5, 0.6, images=24, outliers=20, label_agreement=0.0)
    verdict = judge(lines)
    assert verdict.word == FAILED
    assert len(verdict.reasons) == 2
    assert str(verdict).startswith("failed: keep the old model (24 images teach nothing")


def test_a_first_iteration_and_an_epsilon_that_is_held_are_doubtful():
    assert "one iteration" in str(judge(history(0.5)))
    assert judge(history(0.4, 0.4, 0.4)).reasons == ("epsilon is held, and its fall is what tells most",)
    assert judge(history(0.0, 0.1)).word == DOUBTFUL


def test_epsilon_is_measured_by_the_distance_of_unrelated_images():
    """Euclidean features that grow to twice their size raise epsilon, and tell nothing by it."""
    lines = history(0.5, 0.7)
    lines[0]["unrelated_distance"], lines[1]["unrelated_distance"] = 1.0, 2.0
    assert read_signs(lines).epsilon_fall == pytest.approx(0.7)
    assert judge(lines).word == HEALTHY


def test_an_alpha_that_changes_is_no_fall_of_epsilon():
    """A larger alpha averages farther pairs: the radii at the alpha of the first iteration are compared."""
    lines = history(0.44, 0.53)
    lines[0].update(alpha=0.02, alpha_trials=[{"guess": 45, "epsilon": 0.44}, {"guess": 16, "epsilon": 0.62}])
    lines[1].update(
        alpha=0.056, alpha_trials=[{"guess": 45, "epsilon": 0.33}, {"guess": 16, "epsilon": 0.53}]
    )
    assert read_signs(lines).epsilon_fall == pytest.approx(0.75)
    lines[1]["alpha_trials"].pop(0)
    assert read_signs(lines).epsilon_fall == pytest.approx(0.53 / 0.62)
    lines[1]["alpha_trials"] = []
    assert read_signs(lines).epsilon_fall == pytest.approx(0.53 / 0.44)


def test_lines_of_earlier_versions_are_read():
    lines = [{"iteration": n, "epsilon_e": e, "clusters": 40, "outliers": 9} for n, e in ((1, 0.6), (2, 0.3))]
    signs = read_signs(lines)
    assert (signs.images, signs.outliers, signs.agreement, signs.one_camera) == (None, None, None, None)
    assert judge(lines).word == HEALTHY


def test_identities_are_not_looked_at():
    lines = history(0.5, 0.3)
    worse = history(0.5, 0.3, precision=0.0, recall=0.0, mAP=0.1, ari=-0.5, cross_camera_recall=0.0)
    assert judge(lines) == judge(worse)


def test_no_line_is_an_error():
    with pytest.raises(ValueError, match="there is none"):
        judge([])


def test_the_last_lines_verdict_is_read_back():
    verdict = judge(history(0.5, 0.45))
    assert verdict.word == FAILED
    assert last_verdict([{}, {"verdict": verdict.entry()}]) == verdict
    assert last_verdict([]) is None
    assert last_verdict([{"verdict": verdict.entry()}, {"iteration": 2}]) is None
