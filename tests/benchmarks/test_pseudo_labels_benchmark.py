"""The benchmark of the pseudo-label stage at sizes of seconds: its features, measurements and tables."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import clustered_features
import pseudo_label_tables
import pseudo_labels
from clustered_features import CLUSTERED, KINDS, WORST, make_features
from fresh_process import Job, MeasurementError, measure
from nplp.clustering import estimate_pseudo_labels, label_quality
from peak_memory import PeakMemory, data_limit
from usual_way import usual_euclidean, usual_jaccard

MB = 1 << 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc and RLIMIT_DATA are Linux's")


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_of_norm_1_and_repeatable_whatever_the_chunks(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_features(kind, 1500, 24, seed=3)
    assert made.features.shape == (1500, 24)
    assert made.features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made.features, axis=1), 1, atol=1e-5)
    assert set(made.camera_ids) <= set(range(6))
    assert 0 < made.alpha <= 1
    assert not np.allclose(made.features, make_features(kind, 1500, 24, seed=4).features)
    monkeypatch.setattr(clustered_features, "_CHUNK_VALUES", 24 * 77)
    again = make_features(kind, 1500, 24, seed=3)
    np.testing.assert_allclose(again.features, made.features, atol=1e-6)
    np.testing.assert_array_equal(again.camera_ids, made.camera_ids)


def test_identities_have_17_images_on_average_and_at_least_two() -> None:
    for seed in range(20):
        sizes = np.bincount(make_features(CLUSTERED, 1000 + seed, 4, seed).identities)
        assert sizes.min() >= 2
        assert sizes.sum() == 1000 + seed
    sizes = np.bincount(make_features(CLUSTERED, 40000, 2, seed=0).identities)
    assert 16 < sizes.mean() < 18
    assert sizes.std() > 5


def test_images_of_an_identity_are_not_side_by_side() -> None:
    identities = make_features(CLUSTERED, 2000, 4, seed=0).identities
    assert (identities[1:] == identities[:-1]).mean() < 0.05


def test_a_camera_shifts_all_its_images_alike() -> None:
    made = make_features(CLUSTERED, 6000, 64, seed=0)
    halves = [made.features[:3000], made.features[3000:]]
    cameras = [made.camera_ids[:3000], made.camera_ids[3000:]]
    means = [
        np.stack([half[of == camera].mean(axis=0) for camera in range(6)])
        for half, of in zip(halves, cameras, strict=True)
    ]
    first, second = (mean - mean.mean(axis=0) for mean in means)
    agreement = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
    assert agreement > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_takes_little_more_than_the_features(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustered_features, "_CHUNK_VALUES", 1 << 14)
    tracemalloc.start()
    try:
        made = make_features(kind, 20000, 256, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.25 * made.features.nbytes


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_clustered_features_give_a_sensible_clustering(distance: str) -> None:
    made = make_features(CLUSTERED, 2000, 64, seed=0)
    result = estimate_pseudo_labels(made.features, made.camera_ids, alpha=made.alpha, distance=distance)
    found = label_quality(result.startup_labels, made.identities)
    assert 0.7 < found.clusters / (made.identities.max() + 1) < 1.3
    assert 0.02 < found.outliers / 2000 < 0.4
    assert found.largest_cluster_share < 0.05
    assert found.f1 > 0.6


def test_worst_cases_are_what_they_say() -> None:
    drawn = {kind: make_features(kind, 1800, 32, seed=0) for kind in WORST}
    assert np.ptp(drawn["all identical"].features, axis=0).max() == 0
    unstructured = drawn["no structure"].features
    assert abs((unstructured @ unstructured.T)[np.triu_indices(1800, 1)]).mean() < 0.2
    alone = np.bincount(drawn["50% outliers"].identities) == 1
    assert 900 <= alone.sum() < 1000
    copies = drawn["same-camera duplicates"]
    near = (copies.features @ copies.features.T) > 1 - 1e-5
    assert near.sum(axis=1).min() >= 200
    assert (copies.camera_ids[:, None] == copies.camera_ids)[near].all()
    # Half of the copies are exact: as rows they are the few images themselves.
    assert 800 < len(np.unique(copies.features, axis=0)) < 1000


@pytest.mark.parametrize("kind", ["one giant cluster", "one giant dense cluster"])
def test_the_giant_cluster_is_one(kind: str) -> None:
    made = make_features(kind, 1500, 32, seed=0)
    result = estimate_pseudo_labels(made.features, made.camera_ids, alpha=made.alpha, distance="euclidean")
    assert np.bincount(result.startup_labels[result.startup_labels >= 0]).max() > 0.9 * 1500


@pytest.mark.parametrize(
    ("kind", "count", "dimension"), [("odd", 9, 9), (CLUSTERED, 1, 4), (CLUSTERED, 4, 0)]
)
def test_features_that_cannot_be_drawn_are_refused(kind: str, count: int, dimension: int) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*'odd'|at least 2 x 1, got"):
        make_features(kind, count, dimension, seed=0)


def test_the_usual_way_by_euclidean_distances_agrees() -> None:
    made = make_features(CLUSTERED, 1200, 32, seed=1)
    usual = usual_euclidean(torch.from_numpy(made.features), made.camera_ids, made.alpha)
    _assert_same_clusters(usual, made, "euclidean")


def test_the_usual_way_by_jaccard_distances_agrees() -> None:
    pytest.importorskip("fastreid")
    made = make_features(CLUSTERED, 700, 32, seed=1)
    usual = usual_jaccard(torch.from_numpy(made.features), made.camera_ids, made.alpha)
    _assert_same_clusters(usual, made, "jaccard")


def _assert_same_clusters(
    usual: tuple[np.ndarray, np.ndarray], made: clustered_features.BenchmarkFeatures, distance: str
) -> None:
    """Compare before and after correction, but for pairs that float32 puts on epsilon's other side."""
    ours = estimate_pseudo_labels(made.features, made.camera_ids, alpha=made.alpha, distance=distance)
    for own, other in zip((ours.startup_labels, ours.labels), usual, strict=True):
        assert own.max() > 10
        assert label_quality(other, np.where(own < 0, -1 - np.arange(len(own)), own)).ari > 0.97


@linux_only
def test_the_peak_is_what_was_taken_and_freed_again() -> None:
    memory = PeakMemory(torch.device("cpu"))
    before = memory.host_mb()
    np.ones(64 * MB, dtype=np.uint8).sum()
    assert 60 < memory.host_mb() - before < 90
    assert memory.device_mb() is None
    assert PeakMemory(torch.device("cpu")).host_mb() < 30


@linux_only
def test_the_limit_holds_within_its_block_only() -> None:
    with data_limit(100):
        assert np.ones(30 * MB, dtype=np.uint8).size
        with pytest.raises(MemoryError):
            np.ones(200 * MB, dtype=np.uint8)
    assert np.ones(200 * MB, dtype=np.uint8).size


@linux_only
def test_an_n_by_n_array_ends_a_limited_process_with_its_reason() -> None:
    works = ("reference", "usual euclidean")
    job = Job(CLUSTERED, 3000, 8, 0, works, repeats=1, threads=1, device="cpu", allowance_mb=20)
    seen: list[dict] = []
    with pytest.raises(MeasurementError, match=r"(?i)exit status 1: .*(alloc|memory)"):
        measure(job, seen.append)
    assert [record["work"] for record in seen] == ["reference"]


@linux_only
def test_a_run_prints_its_tables_and_writes_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "figures.json"
    options = ["--sizes", "700x16", "--distances", "euclidean", "--repeats", "2", "--threads", "1", "--worst"]
    options += ["--worst-size", "5000x8", "--allowance", "47", "--worst-cases", "50% outliers"]
    status = pseudo_labels.main([*options, "--output", str(output)])
    printed = capsys.readouterr().out
    figures = json.loads(output.read_text(encoding="utf-8"))
    (size,), (case,) = figures["clustered"], figures["worst"]
    assert {name: len(times) for name, times in size["seconds"].items()} == {"reference": 2, "euclidean": 2}
    assert size["memory"]["euclidean"]["host_mb"] > 0
    assert size["alpha"] == pytest.approx(0.9 / size["identities"])
    assert figures["threads"] == 1
    assert figures["versions"]["torch"] == torch.__version__
    # Whether so small an allowance is enough is the stage's matter; either way the row is there.
    assert status == int("failed" in case)
    assert "| 700 x 16 " in printed
    assert "| 50% outliers " in printed
    assert list(tmp_path.glob("new/.*")) == []


def test_what_does_not_fit_is_not_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    args = pseudo_labels.parsed(["--usual"], "")
    monkeypatch.setattr(pseudo_labels, "available_memory", lambda: 4 << 30)
    works, not_run = pseudo_labels.usual_works(args, 16000)
    assert works == ["usual euclidean"]
    assert not_run["usual jaccard"] == "does not fit: needs about 3.8 GB, 4.0 GB are available"
    monkeypatch.setattr(pseudo_labels, "available_memory", lambda: None)
    assert pseudo_labels.usual_works(args, 16000)[1] == {}


def test_ratios_are_to_the_round_and_are_held_against_the_targets() -> None:
    labels = {"final": {"clusters": 740, "outliers": 1500, "f1": 0.8}}
    result = {
        "count": 12936, "dimension": 1024, "identities": 760,
        "seconds": {"reference": [4.0, 2.0, 4.0], "jaccard": [4.0, 3.0, 4.4], "euclidean": [3.2, 1.5, 3.6]},
        "memory": {work: {"host_mb": 250.0, "device_mb": None} for work in ("jaccard", "euclidean")},
        "labels": dict.fromkeys(("jaccard", "euclidean"), labels),
        "not_run": {"usual jaccard": "does not fit"},
    }  # fmt: skip
    rows = pseudo_label_tables.clustered_table([result], "cpu").splitlines()[2:]
    reference, jaccard, euclidean, usual = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    assert reference[:4] == ["12,936 x 1024", "reference", "4", "1 (2-4 s)"]
    assert jaccard[2:7] == ["4", "1.10 (1.00-1.50)", "<= 1.25, met", "250", "<= 300 MB, met"]
    assert euclidean[3:7] == ["0.80 (0.75-0.90)", "<= 0.75, not met", "250", "<= 200 MB, not met"]
    assert jaccard[7:] == ["740 / 760", "1,500", "0.80"]
    assert usual[1:3] == ["usual jaccard", "does not fit"]
    assert "met" not in pseudo_label_tables.clustered_table([{**result, "dimension": 512}], "cpu")


def test_time_and_memory_relative_to_a_distance_are_of_the_same_round() -> None:
    memory = {
        "jaccard": {"host_mb": 40.0},
        "camera_jaccard": {"host_mb": 60.0},
        "euclidean": {"host_mb": 0.0},
    }
    seconds = {"jaccard": [1.0, 2.0, 4.0], "camera_jaccard": [2.0, 3.0, 5.0], "euclidean": [1.0, 1.0, 1.0]}
    seconds["reference"] = [9.0, 9.0, 9.0]
    result = {"count": 12936, "dimension": 1024, "seconds": seconds, "memory": memory}
    for base, expected in (
        (
            "jaccard",
            [["camera_jaccard", "1.50 (1.25-2.00)", "1.50"], ["euclidean", "0.50 (0.25-1.00)", "0.00"]],
        ),
        (
            "euclidean",
            [["jaccard", "2.00 (1.00-4.00)", "inf"], ["camera_jaccard", "3.00 (2.00-5.00)", "inf"]],
        ),
    ):
        rows = pseudo_label_tables.relative_table([result], base).splitlines()[2:]
        assert [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows] == expected


@linux_only
def test_a_run_prints_what_is_relative_to_a_distance(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--sizes", "600x16", "--distances", "jaccard", "camera_jaccard", "--relative-to", "jaccard"]
    assert pseudo_labels.main([*options, "--repeats", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "x time of jaccard (min-max)" in printed
    assert printed.count("camera_jaccard |") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--relative-to", "camera_jaccard"], "--relative-to must be one of two --distances or more"),
        (["--relative-to", "euclidean", "--distances", "euclidean"], "got euclidean of euclidean: add it"),
        (["--sizes", "12936"], "a size must be like 12936x1024, at least 2x1, got '12936'"),
        (["--sizes", "1x8"], "at least 2x1"),
        (["--repeats", "0"], "must be an integer of at least 1, got '0'"),
        (["--alpha", "1.5"], "must be in (0, 1], got '1.5'"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--sizes"], "nothing to measure"),
        (["--output", "."], "--output must be a file"),
        (["--output", "/proc/nothing/here.json"], "--output cannot be written"),
        (["--worst", "--worst-size", "4000x8"], "--allowance must be at most half of an N x N array, 61 MB"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = pseudo_labels.main(options)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
