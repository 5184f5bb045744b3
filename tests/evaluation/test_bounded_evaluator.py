"""The evaluator with bounded memory against the toolbox's own."""

import json
import logging
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from fastreid.config import get_cfg
from fastreid.evaluation import ReidEvaluator, reid_evaluation

from nplp.config import default_config
from nplp.errors import UserError
from nplp.evaluation import BoundedReidEvaluator, evaluator
from nplp.evaluation.tiles import FeatureDistances

IDENTITIES = 6
QUERIES = 18
IMAGES = 70


def make_config(**options):
    cfg = get_cfg()
    cfg.merge_from_list([part for key, value in options.items() for part in (key.replace("__", "."), value)])
    return cfg


def make_batches(seed: int = 0, cameras: int = 3, images: int = IMAGES) -> list:
    """Inputs and outputs of a model, in batches of 16, queries first."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(IDENTITIES, (images,), generator=generator)
    camera_ids = torch.randint(cameras, (images,), generator=generator)
    centres = torch.randn(IDENTITIES, 16, generator=generator)
    features = centres[ids] + 1.5 * torch.randn(images, 16, generator=generator)
    parts = zip(ids.split(16), camera_ids.split(16), features.split(16), strict=True)
    return [({"targets": i, "camids": c}, f) for i, c, f in parts]


def evaluate(evaluator_class, cfg, batches, num_query=QUERIES):
    made = evaluator_class(cfg, num_query)
    made.reset()
    for inputs, outputs in batches:
        made.process(inputs, outputs)
    return made.evaluate()


@pytest.fixture(autouse=True)
def _no_compilation(monkeypatch):
    # Compiling has tests of its own; what ranks here is the toolbox's Python.
    monkeypatch.setattr(reid_evaluation, "compile_helper", lambda: None)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("aqe", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_numbers_are_the_toolbox_numbers(metric, aqe, seed):
    cfg = make_config(TEST__METRIC=metric, TEST__AQE__ENABLED=aqe, TEST__AQE__QE_K=3)
    # The curve of fastreid's Python is ragged below 50 gallery images.
    batches = make_batches(seed, images=120)
    found = evaluate(BoundedReidEvaluator, cfg, batches)
    expected = evaluate(ReidEvaluator, cfg, batches)
    assert list(found) == list(expected) == ["Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "metric"]
    for key, value in expected.items():
        # Percent of float32 sums; the metrics themselves are equal to 1e-6.
        assert found[key] == pytest.approx(float(value), abs=1e-4), key
    assert all(type(value) is float for value in found.values())
    assert 0 < found["mAP"] < 100


def test_the_curve_alone_goes_the_toolbox_way():
    cfg = make_config(TEST__ROC__ENABLED=True)
    batches = make_batches(images=120)
    found = evaluate(BoundedReidEvaluator, cfg, batches)
    assert found == evaluate(ReidEvaluator, cfg, batches)
    assert "TPR@FPR=1e-02" in found


@pytest.mark.parametrize("roc", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_reranked_numbers_are_the_toolbox_numbers(metric, roc):
    options = {"TEST__RERANK__K1": 6, "TEST__RERANK__K2": 3, "TEST__RERANK__ENABLED": True}
    cfg = make_config(**options, TEST__METRIC=metric, TEST__ROC__ENABLED=roc)
    batches = make_batches(images=120)
    found, expected = (evaluate(kind, cfg, batches) for kind in (BoundedReidEvaluator, ReidEvaluator))
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(float(value), abs=1e-4), key
    assert ("TPR@FPR=1e-02" in found) == roc
    plain = evaluate(BoundedReidEvaluator, make_config(TEST__METRIC=metric), batches)
    assert found["mAP"] != plain["mAP"]


def make_own_config(**options):
    cfg = default_config()
    cfg.merge_from_list([part for key, value in options.items() for part in (key.replace("__", "."), value)])
    return cfg


def test_the_papers_form_is_there_too_and_named_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nplp")
    found = {}
    for form in ("toolbox", "paper"):
        options = {"TEST__RERANK__ENABLED": True, "TEST__RERANK_FORM": form}
        cfg = make_own_config(**options, TEST__METRIC="euclidean")
        for scale in (1, 100):
            batches = [(inputs, scale * outputs) for inputs, outputs in make_batches(images=120)]
            found[form, scale] = evaluate(BoundedReidEvaluator, cfg, batches)["mAP"]
            assert f"re-ranked: k1 20, k2 6, lambda 0.3, the {form}'s form" in caplog.text
    cfg = make_own_config(TEST__METRIC="euclidean")
    plain = evaluate(BoundedReidEvaluator, cfg, make_batches(images=120))["mAP"]
    # The features are some 7 long: the toolbox's form is at a loss when they are 100 times that.
    assert found["paper", 1] == pytest.approx(found["paper", 100])
    assert found["paper", 1] > plain + 1
    assert found["toolbox", 100] == pytest.approx(plain, abs=0.5)
    assert caplog.text.count("set TEST.RERANK_FORM paper, or TEST.METRIC cosine") == 2


def test_intervals_are_those_of_the_queries(monkeypatch):
    cfg = make_own_config(TEST__BOOTSTRAP=200)
    found = evaluate(BoundedReidEvaluator, cfg, make_batches())
    plain = evaluate(BoundedReidEvaluator, make_own_config(), make_batches())
    assert {key: value for key, value in found.items() if not key.endswith(" interval")} == plain
    for metric in ("Rank-1", "mAP"):
        low, high = found[f"{metric} interval"]
        assert 0 <= low < plain[metric] < high <= 100
    assert evaluate(BoundedReidEvaluator, cfg, make_batches()) == found
    cfg.SEED = 1
    assert evaluate(BoundedReidEvaluator, cfg, make_batches())["mAP interval"] != found["mAP interval"]


def test_one_identity_has_no_interval(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    inputs = {"targets": torch.tensor([0, 0, 0, 1]), "camids": torch.tensor([0, 1, 1, 1])}
    found = evaluate(BoundedReidEvaluator, make_own_config(TEST__BOOTSTRAP=9), [(inputs, torch.eye(4))], 1)
    assert not any(key.endswith("interval") for key in found)
    assert "no interval over identities" in caplog.text


def test_everything_comes_of_one_pass(monkeypatch):
    blocks = []
    block = FeatureDistances.block
    monkeypatch.setattr(
        FeatureDistances, "block", lambda self, *ends: blocks.append(ends) or block(self, *ends)
    )
    cfg = make_own_config(TEST__BY_CAMERA=True, TEST__BOOTSTRAP=5, TEST__ROC__ENABLED=True)
    made, seen = BoundedReidEvaluator(cfg, QUERIES), []
    made.observe, made.observe_pairs = seen.append, seen.append
    for inputs, outputs in make_batches():
        made.process(inputs, outputs)
    metrics = made.evaluate()
    assert blocks == [(0, QUERIES)]
    lists, pairs = seen
    assert np.nanmean(lists.average_precision) == pytest.approx(metrics["mAP"] / 100)
    assert pairs.queries.shape == (3, 3)
    assert "TPR@FPR=1e-02" in metrics


@pytest.mark.parametrize("needed", [False, True])
def test_nothing_is_compiled_unless_the_matrix_is_ranked(monkeypatch, needed):
    calls = []
    monkeypatch.setattr(reid_evaluation, "compile_helper", lambda: calls.append("compiled"))
    monkeypatch.setitem(sys.modules, "fastreid.evaluation.rank_cylib.rank_cy", None)
    BoundedReidEvaluator(make_config(TEST__ROC__ENABLED=needed), QUERIES)
    assert calls == ["compiled"] * needed


@pytest.mark.parametrize("roc", [False, True])
def test_one_camera_is_a_mistake_with_one_line(roc):
    with pytest.raises(UserError, match="^no query has a match[^\n]*$"):
        evaluate(BoundedReidEvaluator, make_config(TEST__ROC__ENABLED=roc), make_batches(cameras=1))


def test_one_camera_is_said_so_by_the_vectorised_ranking_too(monkeypatch):
    from fastreid.evaluation import rank

    from nplp.evaluation.host_ranking import _vectorised

    monkeypatch.setattr(rank, "IS_CYTHON_AVAI", False)
    monkeypatch.setattr(rank, "evaluate_py", _vectorised(rank.evaluate_py))
    with pytest.raises(UserError, match="at least two cameras"):
        evaluate(BoundedReidEvaluator, make_config(TEST__ROC__ENABLED=True), make_batches(cameras=1))


def test_other_assertions_are_not_taken_for_a_mistake(monkeypatch):
    def fail(self):
        raise AssertionError("a matrix is not contiguous")

    monkeypatch.setattr(ReidEvaluator, "evaluate", fail)
    with pytest.raises(AssertionError, match="not contiguous"):
        evaluate(BoundedReidEvaluator, make_config(TEST__ROC__ENABLED=True), make_batches())


def test_a_gallery_of_three_is_silent(capsys):
    batches = [({"targets": torch.tensor([0, 0, 1, 1]), "camids": torch.tensor([0, 1, 1, 1])}, torch.eye(4))]
    found = evaluate(BoundedReidEvaluator, make_config(), batches, num_query=1)
    assert found["Rank-5"] == found["Rank-10"] == 100.0
    assert capsys.readouterr().out == ""


def test_other_metrics_are_refused_before_anything_is_extracted():
    with pytest.raises(UserError, match="TEST.METRIC must be one of euclidean, cosine, got 'jaccard'"):
        BoundedReidEvaluator(make_config(TEST__METRIC="jaccard"), QUERIES)


def test_features_that_are_no_numbers_are_named():
    batches = make_batches()
    batches[0][1][3] = float("nan")
    with pytest.raises(ValueError, match="query_features must be finite, got 1 of 18"):
        evaluate(BoundedReidEvaluator, make_config(), batches)


@pytest.mark.parametrize("option", ["TEST__RERANK__ENABLED", "TEST__ROC__ENABLED", "TEST__AQE__ENABLED"])
def test_features_that_are_no_numbers_are_not_ranked_the_toolbox_way_either(option):
    batches = make_batches()
    batches[2][1][3] = float("nan")
    with pytest.raises(ValueError, match="features must be finite"):
        evaluate(BoundedReidEvaluator, make_config(**{option: True}), batches)


def test_a_second_evaluation_starts_anew():
    made = BoundedReidEvaluator(make_config(), QUERIES)
    results = []
    for _ in range(2):
        made.reset()
        for inputs, outputs in make_batches():
            made.process(inputs, outputs)
        results.append(made.evaluate())
    assert results[0] == results[1]


def test_results_can_be_written_as_json():
    found = evaluate(BoundedReidEvaluator, make_config(), make_batches())
    assert json.loads(json.dumps(found)) == dict(found)


def test_ranks_beyond_the_curve_have_its_last_value():
    ranking = evaluator.Ranking(np.array([0.25, 0.5]), np.array([0.4]), np.array([0.2]))
    results = evaluator._in_percent(ranking)
    assert (results["Rank-1"], results["Rank-5"], results["Rank-10"]) == (25.0, 50.0, 50.0)
    assert results["metric"] == pytest.approx((40 + 25) / 2)


DISTRIBUTED = """
    import json, sys
    from pathlib import Path
    import torch
    from nplp.distributed.processes import launch

    def main(folder):
        from fastreid.data.samplers import InferenceSampler
        from fastreid.utils import comm
        from nplp.config import default_config
        from nplp.evaluation import BoundedReidEvaluator
        data = torch.load(Path(folder, "data.pth"))
        cfg = default_config()
        cfg.merge_from_list(data["options"])
        evaluator = BoundedReidEvaluator(cfg, int(data["num_query"]))
        seen = []
        evaluator.observe_pairs = seen.append
        for index in torch.tensor(list(InferenceSampler(len(data["ids"])))).split(16):
            inputs = {"targets": data["ids"][index], "camids": data["cameras"][index]}
            evaluator.process(inputs, data["features"][index])
        results = evaluator.evaluate()
        assert len(seen) == comm.is_main_process()
        Path(folder, f"{comm.get_rank()}.json").write_text(json.dumps(results))
        comm.synchronize()

    if __name__ == "__main__":
        launch(main, 1, args=(sys.argv[1],))
"""


def test_two_processes_give_the_numbers_of_one(tmp_path):
    batches = make_batches()
    data = {
        "ids": torch.cat([inputs["targets"] for inputs, _ in batches]),
        "cameras": torch.cat([inputs["camids"] for inputs, _ in batches]),
        "features": torch.cat([outputs for _, outputs in batches]),
        "num_query": QUERIES,
        "options": ["TEST.RERANK.ENABLED", True, "TEST.BOOTSTRAP", 50, "TEST.BY_CAMERA", True],
    }
    torch.save(data, tmp_path / "data.pth")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(DISTRIBUTED), encoding="utf-8")
    # As torchrun starts its workers.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **shared}
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert second == {}
    cfg = default_config()
    cfg.merge_from_list(data["options"])
    assert first == dict(evaluate(BoundedReidEvaluator, cfg, batches))
    assert len(first["mAP interval"]) == 2
