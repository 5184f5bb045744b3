"""What is said of an evaluation before it begins, and how it ends where memory does not suffice."""

import json
import logging

import numpy as np
import pytest
import torch
from fastreid.evaluation import reid_evaluation

from nplp.data import datasets
from nplp.data.datasets import ReidData, load_dataset
from nplp.engine import evaluating
from nplp.engine.evaluating import announce_evaluation, count_queries
from nplp.engine.pipeline import evaluate_only, run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.evaluation import dense
from nplp.evaluation.dense import available_bytes, dense_bytes
from nplp.report.after_run import write_pages
from tiny import make_tiny_cfg


@pytest.fixture
def heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nplp")
    return caplog


def test_queries_are_counted_whatever_identities_and_cameras_are_called():
    query = [
        (f"q/{number}.jpg", who, camera) for number, (who, camera) in enumerate(["Aa", "Ab", "Ba", "Ca"])
    ]
    gallery = [("g/0.jpg", "A", "b"), ("g/1.jpg", "B", "a"), ("g/2.jpg", "D", "a")]
    assert count_queries([ReidData("set", [], query, gallery)]) == {
        "set": {"all": 4, "without_match": 3, "examples": ["1.jpg", "2.jpg", "3.jpg"]}
    }


@pytest.fixture
def half_alone(synthetic_root, monkeypatch):
    """The tiny target with the first half of its queries unknown to the gallery; returns their names."""
    load, names = datasets.load_dataset, []

    def changed(cfg, name, subsets):
        data = load(cfg, name, subsets)
        if name != "SynthStation" or not data.query:
            return data
        half = len(data.query) // 2
        alone = [(path, 1000 + identity, camera) for path, identity, camera in data.query[:half]]
        names[:] = [path.rpartition("/")[2] for path, _, _ in alone]
        return ReidData(name, data.train, [*alone, *data.query[half:]], data.gallery)

    monkeypatch.setattr(datasets, "load_dataset", changed)
    return names


def test_queries_that_count_nowhere_are_in_the_log_the_results_and_the_page(
    synthetic_root, tmp_path, half_alone, heard
):
    cfg = make_tiny_cfg(
        synthetic_root, tmp_path, "NPLP.ITERATIONS", 1, "NPLP.REPORT", True, "NPLP.SOURCE.MAX_EPOCH", 1
    )
    prepare_output(cfg)
    metrics = run(cfg, cfg, resume=False, at_end=write_pages)["final"]
    alone = len(half_alone)
    everyone = json.loads((tmp_path / "results.json").read_text())["queries"]["SynthStation"]
    assert everyone == {"all": everyone["all"], "without_match": alone, "examples": half_alone[:5]}
    assert alone == everyone["all"] // 2 > 5
    said = f"SynthStation: {alone} of {everyone['all']} queries have no match in another camera"
    assert heard.text.count(said) == 1
    assert f"{half_alone[4]} and {alone - 5} more" in heard.text
    assert said in (tmp_path / "report.html").read_text()
    heard.clear()
    assert evaluate_only(cfg) == metrics
    assert heard.text.count(said) == 1


def test_a_run_keeps_what_evaluation_is_asked_for(synthetic_root, tmp_path, heard):
    options = {"NPLP.ITERATIONS": 1, "NPLP.SOURCE.MAX_EPOCH": 1, "NPLP.STEPS_PER_EPOCH": 1, "NPLP.EMA": True}
    asked = {"TEST.RERANK.ENABLED": True, "TEST.BOOTSTRAP": 50, "TEST.BY_CAMERA": True}
    pairs = [word for pair in {**options, **asked}.items() for word in pair]
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *pairs)
    prepare_output(cfg)
    final = run(cfg, cfg, resume=False)["final"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["re-ranked"] == {"k1": 20, "k2": 6, "share": 0.3, "form": "toolbox"}
    assert results["final"] == final
    low, high = final["mAP interval"]
    assert low < final["mAP"] < high
    by_camera = json.loads((tmp_path / "camera_pairs.json").read_text())
    assert by_camera.keys() == {"direct_transfer", "final", "final_ema"}
    table = by_camera["final"]["SynthStation"]
    assert len(set(table["cameras"])) == 3
    assert [[cell is None for cell in row] for row in table["mAP"]] == np.eye(3, dtype=bool).tolist()
    # The intervals are in the history, and not among the scalars, which are single numbers.
    line = json.loads((tmp_path / "pseudo_labels.jsonl").read_text().splitlines()[-1])
    assert line["mAP interval"] == final["mAP interval"]
    written = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    heard.clear()
    assert evaluate_only(cfg) == final
    assert "SynthStation, Rank-1 / mAP (queries) by cameras:" in heard.text
    assert f"mAP interval {low:.2f} to {high:.2f} (95%, over identities)" in heard.text
    assert "re-ranked: k1 20, k2 6, lambda 0.3" in heard.text
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")} == written
    (tmp_path / "camera_pairs.json").unlink()
    run(cfg, cfg, resume=True)
    assert (tmp_path / "camera_pairs.json").read_bytes() == written["camera_pairs.json"]


def test_where_every_query_counts_nothing_is_said(tiny_cfg, heard):
    data = load_dataset(tiny_cfg, "SynthStation")
    heard.clear()
    announce_evaluation(tiny_cfg, [data])
    assert heard.text == ""
    assert count_queries([data])["SynthStation"]["without_match"] == 0


def with_options(cfg, **options):
    cfg = cfg.clone()
    cfg.merge_from_list([word for key, value in options.items() for word in (f"TEST.{key}.ENABLED", value)])
    return cfg


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"ROC": True}, "TEST.ROC.ENABLED"),
        ({"AQE": True}, "TEST.AQE.ENABLED"),
        ({"AQE": True, "ROC": True}, "TEST.ROC.ENABLED and TEST.AQE.ENABLED"),
    ],
)
def test_dense_matrices_are_announced_and_refused_where_they_cannot_fit(
    tiny_cfg, monkeypatch, heard, options, names
):
    cfg = with_options(tiny_cfg, **options)
    items = [("x.jpg", 0, 0)]
    data = ReidData("MSMT17", [], items * 1000, items * 9000)
    monkeypatch.setattr(evaluating, "count_queries", lambda test_sets: {})
    monkeypatch.setattr(evaluating, "available_bytes", lambda: 10**10)
    announce_evaluation(cfg, [data])
    assert f"MSMT17: {names} will take" in heard.text
    assert "1,000 queries and 9,000 gallery images, of 10.0 GB that are there" in heard.text
    monkeypatch.setattr(evaluating, "available_bytes", lambda: 10**8)
    with pytest.raises(UserError, match=f"{names} will take .* GB of memory .* 0.1 GB are there") as caught:
        announce_evaluation(cfg, [data])
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(evaluating, "available_bytes", lambda: None)
    announce_evaluation(cfg, [data])


def test_a_run_that_cannot_be_evaluated_is_refused_before_any_work(synthetic_root, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "available_bytes", lambda: 1000)
    monkeypatch.setattr("nplp.engine.pipeline.load_training_items", None)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "TEST.ROC.ENABLED", True)
    for start in (lambda: run(cfg, cfg, resume=False, at_end=write_pages), lambda: evaluate_only(cfg)):
        with pytest.raises(UserError, match=r"TEST\.ROC\.ENABLED will take"):
            start()


def test_the_bytes_are_those_of_the_matrices(tiny_cfg):
    def needed(**options):
        return dense_bytes(with_options(tiny_cfg, **options), 3_000, 7_000)

    assert needed() == needed(RERANK=True) == 0
    assert needed(AQE=True) == 4 * 10_000**2
    assert needed(ROC=True) == dense.ROC_BYTES * 3_000 * 7_000
    assert needed(AQE=True, ROC=True) == max(needed(AQE=True), needed(ROC=True))


@pytest.mark.parametrize("option", ["ROC", "AQE", "RERANK"])
@pytest.mark.parametrize("error", [MemoryError, lambda: RuntimeError("can't allocate memory: 8 bytes")])
def test_out_of_memory_within_an_evaluation_is_one_line(tiny_cfg, monkeypatch, option, error):
    def full(*_, **__):
        raise error()

    monkeypatch.setattr(reid_evaluation, "build_dist", full)
    monkeypatch.setattr("nplp.evaluation.evaluator.aqe", full)
    monkeypatch.setattr("nplp.evaluation.reranking.reciprocal_encoding", full)
    monkeypatch.setattr(reid_evaluation, "compile_helper", lambda: None)
    cfg = with_options(tiny_cfg, **{option: True})
    model = torch.nn.Module()
    model.forward = lambda batch: batch["images"].flatten(1)[:, :8].float()
    data = load_dataset(cfg, "SynthStation")
    with pytest.raises(
        UserError, match=f"does not fit into memory: switch TEST.{option}.ENABLED off"
    ) as caught:
        evaluating.evaluate(cfg, model, [data])
    assert "\n" not in str(caught.value)


def test_the_roc_curve_that_was_asked_for_is_among_the_metrics(tiny_cfg, monkeypatch, heard):
    monkeypatch.setattr(reid_evaluation, "compile_helper", lambda: None)
    model = torch.nn.Module()
    model.forward = lambda batch: batch["images"].flatten(1)[:, ::64].float()
    data = load_dataset(tiny_cfg, "SynthStation")
    found = evaluating.evaluate(with_options(tiny_cfg, ROC=True), model, [data])
    rates = [found[f"TPR@FPR=1e-0{power}"] for power in (4, 3, 2)]
    assert 0 <= rates[0] <= rates[1] <= rates[2] <= 100
    assert rates[2] > 1
    assert f"TPR@FPR=1e-02 {rates[2]:.2f}" in heard.text
    assert not any(key.startswith("TPR") for key in evaluating.evaluate(tiny_cfg, model, [data]))


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory": "MemTotal: 9 kB\nMemAvailable:    4 kB\n"}, 4096),
        ({"memory": "MemAvailable: 4 kB\n", "limit": "max\n", "used": "7"}, 4096),
        ({"memory": "MemAvailable: 4 kB\n", "limit": "1000\n", "used": "7\n"}, 993),
        ({"limit": "5", "used": "7"}, 0),
        ({"memory": "nothing"}, None),
        ({}, None),
    ],
)
def test_the_memory_there_is_is_the_systems_or_the_containers(tmp_path, monkeypatch, files, free):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(dense, "MEMORY", str(tmp_path / "memory"))
    monkeypatch.setattr(dense, "LIMITS", ((str(tmp_path / "limit"), str(tmp_path / "used")),))
    assert available_bytes() == free


def test_distractors_count_and_junk_does_not(tmp_path, monkeypatch, tiny_cfg):
    """Market-1501's 0000 is a person that no query is; its -1 is left out of the gallery."""
    from PIL import Image

    from nplp.evaluation import evaluate_features

    names = {
        "bounding_box_train": ["0002_c1s1_000001_00.jpg", "0003_c2s1_000001_00.jpg"],
        "query": ["0001_c1s1_000001_00.jpg"],
        "bounding_box_test": [f"{who}_c2s1_000001_00.jpg" for who in ("0000", "-1", "0001")],
    }
    for subset, files in names.items():
        folder = tmp_path / "Market-1501-v15.09.15" / subset
        folder.mkdir(parents=True)
        for name in files:
            Image.new("RGB", (16, 32)).save(folder / name)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    data = load_dataset(tiny_cfg, "Market1501")
    assert sorted(identity for _, identity, _ in data.gallery) == [0, 1]
    # The distractor is nearer than the match, and costs half of the precision.
    gallery = torch.tensor([[1.0 + identity] for _, identity, _ in data.gallery])
    labels = [
        np.array([item[place] for item in items]) for place in (1, 2) for items in (data.query, data.gallery)
    ]
    ranking = evaluate_features(torch.tensor([[1.0]]), gallery, *labels)
    assert ranking.all_ap.tolist() == [0.5]
