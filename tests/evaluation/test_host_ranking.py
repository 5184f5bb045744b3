"""The evaluator's rankings: never fatal, compiled where possible, vectorised otherwise."""

import sys
import types

import fastreid.evaluation.rank_cylib as package
import numpy as np
import pytest
from fastreid.evaluation import rank, reid_evaluation, roc

from nplp.evaluation import NoMatchError, host_ranking
from nplp.evaluation.host_ranking import install_rankings

CASE = (np.array([[0.3, 0.1, 0.2]]), *(np.array(x) for x in ([1], [1, 1, 2], [0], [1, 0, 0])))


@pytest.fixture
def untouched(monkeypatch):
    """Give the toolbox's modules back as they were."""
    for name in ("rank_cy", "roc_cy"):
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}", raising=False)
        monkeypatch.setattr(package, name, None, raising=False)
    for module, names in {
        rank: ("evaluate_cy", "evaluate_py", "IS_CYTHON_AVAI"),
        roc: ("evaluate_roc_cy", "IS_CYTHON_AVAI"),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name, None), raising=False)
    monkeypatch.setattr(rank, "IS_CYTHON_AVAI", False)
    monkeypatch.setattr(roc, "IS_CYTHON_AVAI", False)
    return monkeypatch


def test_without_compiled_rankings_the_loop_is_vectorised(untouched):
    untouched.setattr(host_ranking, "compiled_rankings", lambda sources: {})
    loop = rank.evaluate_py
    expected = rank.evaluate_rank(*CASE, max_rank=2)
    assert install_rankings() is False
    assert rank.evaluate_py is not loop
    found = rank.evaluate_rank(*CASE, max_rank=2)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with pytest.raises(NoMatchError):
        rank.evaluate_rank(CASE[0], CASE[1], CASE[2], CASE[3], np.zeros(3, dtype=int))
    vectorised = rank.evaluate_py
    install_rankings()
    assert rank.evaluate_py is vectorised


def test_the_cuhk03_protocol_stays_with_the_toolbox(untouched):
    untouched.setattr(host_ranking, "compiled_rankings", lambda sources: {})
    install_rankings()
    cmc, mean_ap = rank.evaluate_rank(*CASE, max_rank=2, use_metric_cuhk03=True)
    assert cmc.tolist() == [0.0, 1.0]
    assert mean_ap == pytest.approx(0.5)


def test_compiled_rankings_are_put_in_place(untouched):
    modules = {name: types.ModuleType(f"{package.__name__}.{name}") for name in ("rank_cy", "roc_cy")}
    modules["rank_cy"].evaluate_cy = lambda *args: ("ranked", args[5])
    modules["roc_cy"].evaluate_roc_cy = lambda *args: "curve"
    untouched.setattr(host_ranking, "compiled_rankings", lambda sources: modules)
    assert install_rankings() is True
    assert rank.evaluate_rank(*CASE, max_rank=2) == ("ranked", 2)
    assert roc.evaluate_roc(*CASE) == "curve"
    # This import is how the toolbox decides that nothing need be compiled.
    from fastreid.evaluation.rank_cylib.rank_cy import evaluate_cy

    assert evaluate_cy is modules["rank_cy"].evaluate_cy


def test_the_bridge_is_in_place():
    assert package.compile_helper is reid_evaluation.compile_helper is install_rankings


EVALUATION = """
    import warnings
    warnings.simplefilter("error", UserWarning)
    import logging
    logging.basicConfig(format="%(name)s %(message)s", level=logging.INFO)
    import nplp.host
    nplp.host.apply()
    import torch
    from fastreid.config import get_cfg
    from fastreid.evaluation import ReidEvaluator

    cfg = get_cfg()
    cfg.TEST.RERANK.ENABLED = True
    cfg.TEST.RERANK.K1, cfg.TEST.RERANK.K2 = 6, 3
    cfg.TEST.ROC.ENABLED = True
    for _ in range(2):
        evaluator = ReidEvaluator(cfg, num_query=8)
    ids = torch.arange(4).repeat(6)
    features = torch.eye(4)[ids] + 0.01 * torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    evaluator.process({"targets": ids, "camids": torch.arange(24) // 8}, features)
    results = evaluator.evaluate()
    from fastreid.evaluation import rank
    print(rank.IS_CYTHON_AVAI, *(f"{results[key]:.3f}" for key in ("Rank-1", "mAP", "mINP")))
"""


def test_the_toolbox_evaluator_works_where_nothing_can_be_built(run_script, tmp_path):
    nowhere = tmp_path / "file"
    nowhere.touch()
    printed = run_script(EVALUATION, XDG_CACHE_HOME=str(nowhere))
    assert printed.splitlines()[-1] == "False 100.000 100.000 100.000"


@pytest.mark.long
def test_the_toolbox_evaluator_works_compiled(run_script, request):
    printed = run_script(EVALUATION, XDG_CACHE_HOME=str(request.config.cache.mkdir("rankings")))
    # False where there is no compiler.
    assert printed.splitlines()[-1].split()[1:] == ["100.000"] * 3
