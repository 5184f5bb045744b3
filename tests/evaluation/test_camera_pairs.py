"""Metrics by pairs of cameras against a ranking of each pair's images alone."""

import json

import numpy as np
import pytest

from nplp.evaluation.camera_pairs import evaluate_camera_pairs
from nplp.evaluation.protocol import NoMatchError, check_labels
from nplp.evaluation.ranking import evaluate_rank
from nplp.evaluation.tiles import GivenDistances


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("block_size", [7, 128])
def test_each_pair_is_a_ranking_of_its_images_alone(random_case, ties, block_size):
    distances, *vectors = random_case(0, 60, 90, identities=12, cameras=4, ties=ties)
    labels = check_labels(*vectors)
    found = evaluate_camera_pairs(GivenDistances(distances), labels, block_size)
    assert found.cameras.tolist() == [0, 1, 2, 3]
    for a in range(4):
        for b in range(4):
            rows, columns = labels.query_cameras == a, labels.gallery_cameras == b
            part = (
                *(labels.query_ids[rows], labels.gallery_ids[columns]),
                *(labels.query_cameras[rows], labels.gallery_cameras[columns]),
            )
            if a == b:
                with pytest.raises(NoMatchError):
                    evaluate_rank(distances[rows][:, columns], *part)
                assert found.queries[a, b] == 0
                assert np.isnan([found.rank1[a, b], found.mean_ap[a, b]]).all()
                continue
            expected = evaluate_rank(distances[rows][:, columns], *part)
            assert found.queries[a, b] == len(expected.all_ap) > 0
            assert found.rank1[a, b] == pytest.approx(expected.cmc[0])
            assert found.mean_ap[a, b] == pytest.approx(expected.all_ap.mean())


def toy():
    # Query of camera 5 finds its match of camera 7 second there, and its match of camera 9 first.
    distances = np.array([[0.1, 0.2, 0.3, 0.4]])
    labels = check_labels([1], [2, 1, 1, 2], [5], [7, 7, 9, 9])
    return evaluate_camera_pairs(GivenDistances(distances), labels)


def test_a_toy_by_hand():
    found = toy()
    assert found.cameras.tolist() == [5, 7, 9]
    np.testing.assert_array_equal(found.queries, [[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found.rank1[0], [np.nan, 0, 1])
    np.testing.assert_array_equal(found.mean_ap[0], [np.nan, 0.5, 1])


def test_the_record_is_json_in_percent_without_nan():
    record = toy().as_record(["door", "hall 🚪", "yard"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["mAP"] == [[None, 50.0, 100.0], [None] * 3, [None] * 3]
    assert record["queries"][0] == [0, 1, 1]
    assert record["cameras"][1] == "hall 🚪"


def test_the_table_has_names_and_a_dash_where_nothing_counts():
    lines = toy().as_table(["door", "hall", "yard"]).splitlines()
    assert lines[0].split("  ")[0].strip() == "query \\ gallery"
    assert lines[2].split() == ["door", "-", "0.0", "/", "50.0", "(1)", "100.0", "/", "100.0", "(1)"]
    assert lines[3].split() == ["hall", "-", "-", "-"]


def test_one_camera_gives_an_empty_table():
    labels = check_labels([1], [1, 1], [3], [3, 3])
    found = evaluate_camera_pairs(GivenDistances(np.array([[0.1, 0.2]])), labels)
    assert found.queries.tolist() == [[0]]
    assert found.as_table(["only"]).splitlines()[-1].split() == ["only", "-"]
