"""The rankings of the toolbox's evaluator: never fatal, without a compiler, equal to its loops."""

import importlib.util

import fastreid.evaluation.rank_cylib as package
import numpy as np
import pytest
from fastreid.evaluation import rank, reid_evaluation, roc
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.evaluation import NoMatchError
from nplp.evaluation.host_ranking import _scores_and_labels, install_rankings

CASE = (np.array([[0.3, 0.1, 0.2]]), *(np.array(x) for x in ([1], [1, 1, 2], [0], [1, 0, 0])))


@pytest.fixture
def untouched(monkeypatch):
    """Give the toolbox's modules back as they were."""
    for module, names in {rank: ("evaluate_py",), roc: ("evaluate_roc_py",)}.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
        monkeypatch.setattr(module, "IS_CYTHON_AVAI", False)
    return monkeypatch


@pytest.mark.usefixtures("untouched")
def test_the_loop_is_vectorised_once(monkeypatch):
    # The toolbox's own, whatever was installed in this process before.
    spec = importlib.util.spec_from_file_location(rank.__name__, rank.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    monkeypatch.setattr(rank, "evaluate_py", fresh.evaluate_py)
    loop = rank.evaluate_py
    expected = rank.evaluate_rank(*CASE, max_rank=2)
    install_rankings()
    assert rank.evaluate_py is not loop
    found = rank.evaluate_rank(*CASE, max_rank=2)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with pytest.raises(NoMatchError):
        rank.evaluate_rank(CASE[0], CASE[1], CASE[2], CASE[3], np.zeros(3, dtype=int))
    vectorised = rank.evaluate_py
    install_rankings()
    assert rank.evaluate_py is vectorised


@pytest.mark.usefixtures("untouched")
def test_the_cuhk03_protocol_stays_with_the_toolbox():
    install_rankings()
    cmc, mean_ap = rank.evaluate_rank(*CASE, max_rank=2, use_metric_cuhk03=True)
    assert cmc.tolist() == [0.0, 1.0]
    assert mean_ap == pytest.approx(0.5)


LOOP = roc.evaluate_roc_py
"""The toolbox's own, before a test replaces it."""


@given(seed=st.integers(0, 2**16), queries=st.integers(1, 9), gallery=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_the_curve_has_the_pairs_of_the_toolbox(random_case, seed, queries, gallery):
    case = random_case(seed, queries, gallery, identities=4, cameras=2)
    for ours, theirs in zip(_scores_and_labels(*case), LOOP(*case), strict=True):
        assert len(ours) == len(theirs)
    pairs = [sorted(zip(*found, strict=True)) for found in (_scores_and_labels(*case), LOOP(*case))]
    assert pairs[0] == pairs[1]


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


def test_the_toolbox_evaluator_works(run_script):
    assert run_script(EVALUATION).splitlines()[-1] == "False 100.000 100.000 100.000"
