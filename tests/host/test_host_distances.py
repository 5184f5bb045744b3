"""Distances of the toolbox on a machine without CUDA."""

import logging
import types
import warnings

import numpy as np
import pytest
import torch
from fastreid.utils import compute_dist

from nplp.host import distances
from nplp.host.distances import working_search_option


@pytest.fixture
def features():
    return torch.randn(24, 5, generator=torch.Generator().manual_seed(0))


def jaccard_oracle(x: torch.Tensor, k1: int, k2: int) -> np.ndarray:
    """k-reciprocal Jaccard distance with sets and loops (Zhong et al., CVPR 2017, eqs. 3-11)."""
    n = len(x)
    squared = ((x[:, None].double() - x[None].double()) ** 2).sum(-1).numpy()
    rank = np.argsort(squared, axis=1, kind="stable")[:, :k1]

    def reciprocal(i, k):
        return {int(j) for j in rank[i][:k] if i in rank[j][:k]}

    encoded = np.zeros((n, n))
    for i in range(n):
        near = reciprocal(i, k1 + 1)
        members = set(near)
        for j in near:
            others = reciprocal(j, round(k1 / 2) + 1)
            if len(others & near) > 2 / 3 * len(others):
                members |= others
        chosen = sorted(members)
        weights = np.exp(-squared[i, chosen])
        encoded[i, chosen] = weights / weights.sum()
    encoded = np.stack([encoded[rank[i][:k2]].mean(axis=0) for i in range(n)])
    return np.array([[1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in encoded] for a in encoded])


def test_reranking_distances_work_without_cuda(features):
    pytest.importorskip("faiss")
    found = compute_dist.build_dist(features[:8], features[8:], metric="jaccard", k1=6, k2=3)
    assert found.shape == (8, 16)
    np.testing.assert_allclose(found, jaccard_oracle(features, 6, 3)[:8, 8:], atol=1e-5)


@pytest.mark.parametrize(
    ("cuda", "gpus", "old_cast", "wanted", "expected"),
    [
        (False, 0, True, 0, 3),
        (True, 0, True, 0, 3),
        (True, 1, True, 0, 0),
        (True, 1, True, 1, 1),
        (True, 1, False, 0, 2),
        (True, 1, False, 2, 2),
        (True, 1, False, 3, 3),
    ],
)
def test_the_search_fits_the_machine(monkeypatch, cuda, gpus, old_cast, wanted, expected):
    parts = {"get_num_gpus": lambda: gpus}
    if gpus:
        parts["StandardGpuResources"] = object
    if old_cast:
        parts["cast_integer_to_long_ptr"] = object
    monkeypatch.setattr(distances, "_faiss", lambda: types.SimpleNamespace(**parts))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert working_search_option(wanted) == expected


def raising():
    raise RuntimeError("Error in cudaGetDeviceCount\nno kernel image is available for execution")


@pytest.mark.parametrize(
    ("resources", "program", "said"),
    [
        (raising, "", "no kernel image is available"),
        (None, "raise RuntimeError('cublas failed (13)')", "cublas failed (13)"),
        (None, "import os; os.abort()", "status -6"),
        (None, "import time; time.sleep(60)", "took over 5 seconds"),
        (None, "pass", ""),
    ],
)
def test_a_gpu_build_that_fails_is_tried_once_and_left(monkeypatch, caplog, resources, program, said):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    made = resources or type("Resources", (), {})
    parts = {"get_num_gpus": lambda: 1, "StandardGpuResources": made, "GpuIndexFlatL2": object}
    older = types.SimpleNamespace(**parts, cast_integer_to_long_ptr=object)
    monkeypatch.setattr(distances, "_faiss", lambda: older)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(distances, "_GPU_SEARCH", program)
    monkeypatch.setattr(distances, "GPU_SEARCH_SECONDS", 5 if "sleep" in program else 60)
    with caplog.at_level(logging.WARNING):
        assert [working_search_option(wanted) for wanted in (0, 1, 2, 3)] == (
            [3, 3, 3, 3] if said else [0, 1, 2, 3]
        )
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == bool(said)
    assert all(said in line and "\n" not in line for line in lines)


def test_euclidean_distances_are_squared_and_silent(features):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compute_dist.build_dist(features[:8], features[8:], metric="euclidean")
    expected = ((features[:8, None] - features[None, 8:]) ** 2).sum(-1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32
