"""What the caller has told torch to do changes no label, and is not changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import pytest
import torch
from clustering_cases import make_case, rows_on, threads

from nplp import products
from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import tiles
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.neighbours import nearest_neighbours
from nplp.clustering.sweep.parallel import Progress
from nplp.clustering.sweep.tiles import TileSource, half_precision_pays, sweep
from nplp.products import keeps_float32, multiply

NEW = hasattr(torch.backends, "fp32_precision")
"""Whether torch has settings for each backend."""
needs_new = pytest.mark.skipif(not NEW, reason="this torch has no settings for each backend")

SCRIPT = """
import sys
import numpy as np, torch
from nplp.clustering import estimate_pseudo_labels

def labels():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(40, 70))[rng.integers(40, size=600)]
    features = (people + 0.6 * rng.normal(size=people.shape)).astype("f4")
    found = []
    for distance in ("euclidean", "jaccard"):
        for given in (features, torch.from_numpy(features)):
            one = estimate_pseudo_labels(given, np.arange(600) % 3, alpha=0.02, distance=distance)
            found += [one.labels, one.startup_labels, one.noisy_clusters, np.array([one.epsilon_e])]
    return found

def settings():
    def read(ask):
        try:
            return ask()
        except RuntimeError as error:
            return "mixed"
    new = (torch.backends, torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)
    asked = [torch.get_float32_matmul_precision, lambda: torch.backends.cuda.matmul.allow_tf32]
    return [read(ask) for ask in asked] + [one.fp32_precision for one in new]

expected = labels()
for statement in sys.argv[1:]:
    exec(statement)
before = settings()
for one, other in zip(labels(), expected, strict=True):
    if one.dtype == float:
        np.testing.assert_allclose(one, other, rtol=1e-12)
    else:
        np.testing.assert_array_equal(one, other)
assert settings() == before, (before, settings())
"""
STATEMENTS = {
    "all": [
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    ],
    "cuda, new": ["torch.backends.cuda.matmul.fp32_precision = 'tf32'"],
    "common, new": ["torch.backends.fp32_precision = 'bf16'"],
    "mkldnn, new": ["torch.backends.mkldnn.matmul.fp32_precision = 'bf16'"],
    "tf32 on the processor": ["torch.backends.mkldnn.matmul.fp32_precision = 'tf32'"],
    "medium, old": ["torch.set_float32_matmul_precision('medium')"],
    "old, then new": [
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.cuda.matmul.fp32_precision = 'ieee'",
    ],
    "new, then old": [
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.backends.cuda.matmul.allow_tf32 = True",
    ],
}


@needs_new
@pytest.mark.parametrize(
    "name", ["all", *(pytest.param(name, marks=pytest.mark.long) for name in STATEMENTS if name != "all")]
)
def test_no_precision_that_the_caller_allows_changes_a_label_or_is_changed(name: str) -> None:
    # In a process of its own: what has been set by the new names can never be asked for by the old again.
    command = [sys.executable, "-c", SCRIPT, *STATEMENTS[name]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@contextmanager
def medium() -> Iterator[None]:
    """Let torch multiply float32 by way of bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("allowed", [medium, nullcontext])
def test_other_threads_see_their_own_settings_while_tiles_are_made(
    half: bool, device: torch.device | None, allowed: Callable[[], AbstractContextManager[None]]
) -> None:
    features = rows_on(device, np.random.default_rng(0).normal(size=(300, 70)))
    source, everything = TileSource(features, half), np.arange(300)
    seen = set()

    def look(tile: tiles.Tile, product: tiles.Product) -> None:
        seen.add(torch.get_float32_matmul_precision())

    with allowed(), threads(2):
        before = torch.get_float32_matmul_precision()
        sweep(source, everything, None, lambda: look, Progress(), "")
    assert seen == {before}


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 9, 3), (256, 128, 300)])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_products_are_as_good_where_float32_would_be_shortened(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], scale: float
) -> None:
    rng = np.random.default_rng(0)
    rows, columns = (
        torch.from_numpy(scale * rng.normal(size=(count, shape[2]))).float() for count in shape[:2]
    )
    exact = rows.double() @ columns.double().T
    norms = rows.double().norm(dim=1)[:, None] * columns.double().norm(dim=1)
    plain, double = torch.empty(shape[:2]), torch.empty(shape[:2])
    multiply(rows, columns, plain)
    monkeypatch.setattr(products, "keeps_float32", lambda device: False)
    with medium():
        multiply(rows, columns, double)
    errors = [float(((found - exact).abs() / norms).max()) for found in (plain, double)]
    assert max(errors) <= (shape[2] + 16) * 2.0**-24
    assert errors[1] < 4 * errors[0] + 2.0**-23


@needs_new
@pytest.mark.parametrize(
    ("kind", "settings", "kept"),
    [
        ("cpu", {}, True),
        ("cpu", {"mkldnn": "ieee"}, True),
        ("cpu", {"mkldnn": "bf16"}, False),
        ("cpu", {"mkldnn": "tf32"}, False),
        ("cpu", {"cuda": "tf32"}, True),
        ("cuda", {"cuda": "tf32"}, False),
        ("cuda", {"cuda": "ieee", "mkldnn": "bf16"}, True),
        ("xpu", {"mkldnn": "tf32"}, False),
    ],
)
def test_each_device_has_a_setting_of_its_own(
    monkeypatch: pytest.MonkeyPatch, kind: str, settings: dict[str, str], kept: bool
) -> None:
    class Backend:
        def __init__(self, precision: str) -> None:
            self.matmul = self
            self.fp32_precision = precision

    for name in ("cuda", "mkldnn"):
        monkeypatch.setattr(products.torch.backends, name, Backend(settings.get(name, "none")))
    assert keeps_float32(torch.device(kind)) == kept


def test_torch_before_the_new_settings_is_asked_for_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend:
        matmul = object()

    monkeypatch.setattr(products.torch.backends, "mkldnn", Backend())
    for answer, kept in (("highest", True), ("high", False), ("medium", False)):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda answer=answer: answer)
        assert keeps_float32(torch.device("cpu")) == kept


def test_a_driver_that_shortens_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert not keeps_float32(torch.device("cuda"))
    assert keeps_float32(torch.device("cpu"))


def default_type(kind: torch.dtype) -> AbstractContextManager[None]:
    @contextmanager
    def changed() -> Iterator[None]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(kind)
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    return changed()


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float64 by default": lambda: default_type(torch.float64),
    "bfloat16 by default": lambda: default_type(torch.bfloat16),
    "another device by default": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "gradients": torch.enable_grad,
    "automatic mixed precision": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "medium": medium,
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("number", [1, 2])
def test_surroundings_of_a_call_change_nothing(
    surroundings: str, device: torch.device | None, number: int
) -> None:
    case = make_case(5, count=300, dimension=70, cameras=3, kind="blobs")
    tensor = None if device is None else torch.from_numpy(case.features)
    rows = FeatureRows.centred_by_camera(case.features, case.camera_ids, tensor)

    def found() -> list[np.ndarray]:
        distances = EuclideanDistances(rows, keep_sums=True)
        mean = distances.mean_of_smallest(case.camera_ids, 900)
        edges: list[tuple[int, int]] = []
        distances.visit_edges(1.5 * mean, lambda i, j: edges.extend(zip(i.tolist(), j.tolist(), strict=True)))
        near = nearest_neighbours(rows, 9, half=True if device is None else None)
        return [np.array(mean), np.array(sorted(edges)), near]

    with threads(number):
        expected = found()
        with SURROUNDINGS[surroundings]():
            for one, other in zip(found(), expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_surroundings_of_a_call_change_no_label(surroundings: str) -> None:
    case = make_case(5, count=200, dimension=20, cameras=3, kind="blobs")
    for distance in ("jaccard", "camera_jaccard", "euclidean"):
        chosen = {"alpha": 0.02, "distance": distance}
        expected = estimate_pseudo_labels(case.features, case.camera_ids, **chosen)
        with SURROUNDINGS[surroundings]():
            found = estimate_pseudo_labels(case.features, case.camera_ids, **chosen)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.epsilon_e == expected.epsilon_e


def test_bfloat16_does_not_pay_without_the_library_that_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    rows = FeatureRows.plain(np.zeros((2, 64)))
    assert half_precision_pays(rows) == torch.backends.mkldnn.is_available()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not half_precision_pays(rows)
