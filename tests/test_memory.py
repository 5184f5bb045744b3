"""Blocks that halve where memory does not suffice: the same results, one warning, or one line."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import tiles
from nplp.evaluation import ranking
from nplp.evaluation import tiles as evaluation_tiles
from nplp.memory import ShrinkingBlocks, is_out_of_memory
from nplp_commands.cluster import main

ERRORS = {
    "numpy": MemoryError("Unable to allocate 9 GiB"),
    "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory."),
}


@pytest.fixture(autouse=True)
def shown():
    logging.getLogger("nplp").propagate = True


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("most", [1, 2, 5, 64])
def test_blocks_shrink_to_what_fits_and_every_row_is_used_once(caplog, error, most):
    used = []

    def make(start, stop):
        if stop - start > most:
            raise error
        return range(start, stop)

    with caplog.at_level(logging.WARNING):
        ShrinkingBlocks("Things", 32).run(100, make, used.extend)
    assert used == list(range(100))
    assert len(caplog.records) == (most < 32)


def test_a_row_that_does_not_fit_is_an_error():
    def make(start, stop):
        raise MemoryError

    with pytest.raises(MemoryError):
        ShrinkingBlocks("Things", 32).run(100, make, print)


def test_other_errors_pass():
    assert not is_out_of_memory(RuntimeError("sizes do not match"))
    calls = []

    def make(start, stop):
        calls.append(stop)
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes"):
        ShrinkingBlocks("Things", 32).run(100, make, print)
    assert calls == [32]


def features(count=700, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(70, 24))[np.arange(count) % 70] + 0.3 * rng.normal(size=(count, 24))).astype(
        "f4"
    )


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_the_pseudo_label_stage_goes_on_with_smaller_tiles(monkeypatch, caplog, distance, error):
    values, cameras = features(), np.arange(700) % 5
    settings = {"alpha": 0.01, "distance": distance}
    expected = estimate_pseudo_labels(values, cameras, **settings)
    product = tiles._ArrayWorker.product
    refused = []

    def limited(self, rows, members):
        if (rows.stop - rows.start) * len(members) > 5000:
            refused.append(1)
            raise error
        return product(self, rows, members)

    monkeypatch.setattr(tiles._ArrayWorker, "product", limited)
    with caplog.at_level(logging.WARNING):
        found = estimate_pseudo_labels(values, cameras, **settings)
    assert refused
    assert "out of memory, going on with smaller blocks" in caplog.text
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.startup_labels, expected.startup_labels)
    assert found.epsilon_e == pytest.approx(expected.epsilon_e, rel=1e-12)
    np.testing.assert_allclose(found.self_assessment, expected.self_assessment, atol=2e-6)


@pytest.mark.parametrize("tile", [tiles.Tile(3, 9, 20, 27, False), tiles.Tile(4, 9, 4, 12, True)])
def test_halves_have_the_new_cells_of_their_tile_once(tile):
    def cells(one):
        rows, columns = range(one.row, one.row_stop), range(one.column, one.column_stop)
        return [(i, j) for i in rows for j in columns if not one.on_diagonal or j > i]

    pending, found = [tile], []
    while pending:
        one = pending.pop()
        halves = tiles._halves(one)
        pending += halves
        found += [] if halves else cells(one)
    assert sorted(found) == sorted(cells(tile))


def test_ranking_goes_on_with_fewer_queries_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    queries, gallery = (torch.from_numpy(rng.normal(size=(n, 8)).astype("f4")) for n in (40, 90))
    people = [rng.integers(6, size=n) for n in (40, 90)]
    cameras = [np.zeros(40, int), np.ones(90, int)]
    expected = ranking.evaluate_features(queries, gallery, *people, *cameras)
    distances = evaluation_tiles._distances

    def limited(block, *rest):
        if len(block) > 7:
            raise ERRORS["CUDA"]
        return distances(block, *rest)

    monkeypatch.setattr(evaluation_tiles, "_distances", limited)
    found = ranking.evaluate_features(queries, gallery, *people, *cameras)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_extraction_goes_on_with_smaller_batches(monkeypatch, tiny_cfg):
    from nplp.data import extraction

    class Model(torch.nn.Module):
        def forward(self, batch):
            if len(batch["images"]) > 3:
                raise ERRORS["CUDA"]
            return batch["images"].flatten(1)[:, :5]

    images = torch.arange(20 * 12.0).view(20, 3, 2, 2)
    loader = [{"images": part, "camids": range(len(part))} for part in (images[:16], images[16:])]
    monkeypatch.setattr(extraction, "build_test_loader", lambda *_: loader)
    found = extraction.extract_features(tiny_cfg, Model(), [], "Features")
    torch.testing.assert_close(found, images.flatten(1)[:, :5])


def test_a_clustering_that_does_not_fit_is_one_line(monkeypatch, capsys, tmp_path):
    np.save(tmp_path / "f.npy", features())

    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr("nplp.clustering.estimate._run_stages", refuse)
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "f.npy"), "--out", str(tmp_path / "o.npz")])
    shown = capsys.readouterr().err.splitlines()
    assert "700 images of 24 dimensions do not fit into memory" in shown[-1]
    assert not (tmp_path / "o.npz").exists()


def test_a_step_that_does_not_fit_is_one_line(synthetic_root, tmp_path, monkeypatch):
    from nplp.engine.pipeline import run
    from nplp.engine.setup import prepare_output
    from nplp.engine.trainer import ReidTrainer
    from nplp.errors import UserError
    from tiny import make_tiny_cfg

    cfg = make_tiny_cfg(synthetic_root, tmp_path)
    prepare_output(cfg)

    def refuse(self):
        raise ERRORS["CUDA"]

    monkeypatch.setattr(ReidTrainer, "run_step", refuse)
    with pytest.raises(UserError, match="epoch 1, step 1: a batch of 16 images does not fit into memory"):
        run(cfg, cfg, resume=False)


def test_an_iteration_that_does_not_fit_is_one_line(tiny_cfg):
    from nplp.engine.pseudo_labels import PseudoLabelHook
    from nplp.errors import UserError

    def refuse(*_):
        raise ERRORS["torch"]

    hook = PseudoLabelHook.__new__(PseudoLabelHook)
    hook._cfg, hook._items = tiny_cfg, []
    hook._cameras, hook._method = None, SimpleNamespace(label=refuse)
    hook._constraints = None
    hook.state = SimpleNamespace()
    with pytest.raises(UserError, match="iteration 3: the clustering of 4 images does not fit into memory"):
        hook._find(3, torch.zeros(4, 2))
