"""What a run leaves for its page: complete, small, the same after a resume, and nothing when switched off."""

import json
import re

import numpy as np
import pytest

from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.engine.trace import SAMPLE, sample_of
from nplp.report.after_run import write_pages
from tiny import make_tiny_cfg


def arrays_of(folder):
    found = {}
    for path in sorted((folder / "trace").glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            found[path.stem] = {key: file[key] for key in file.files}
    return found


def train(synthetic_root, folder, *pairs, resume=False):
    cfg = make_tiny_cfg(synthetic_root, folder, "NPLP.REPORT", True, *pairs)
    prepare_output(cfg)
    return run(cfg, cfg, resume=resume, at_end=write_pages)


@pytest.fixture(scope="module")
def traced(synthetic_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    train(synthetic_root, folder)
    return folder


def test_it_holds_every_iteration_and_every_stage(traced):
    found = arrays_of(traced)
    stages = ("direct_transfer", "startup", "final")
    assert set(found) == {
        *("images", "test_images", "iteration_0001", "iteration_0002", "iteration_0003"),
        *("distances_0001", "distances_0003"),
        *(f"{kind}_{stage}" for kind in ("features", "ranks") for stage in stages),
    }
    images = found["images"]
    count = len(images["paths"])
    assert count == len(images["cameras"]) == len(images["identities"])
    for number in (1, 2, 3):
        arrays = found[f"iteration_{number:04d}"]
        assert arrays["labels"].shape == arrays["startup_labels"].shape == (count,)
        assert len(arrays["self_assessment"]) == (arrays["startup_labels"].max() + 1 if number == 3 else 0)
    for stage in stages:
        assert found[f"features_{stage}"]["features"].shape == (len(images["sample"]), 32)
        assert np.isfinite(found[f"features_{stage}"]["features"]).all()
    different = [found[f"features_{stage}"]["features"] for stage in stages]
    assert not np.array_equal(different[0], different[1])
    assert not np.array_equal(different[1], different[2])


@pytest.mark.parametrize(
    ("iterations", "startup", "lines", "results", "features"),
    [
        (2, 0, ["correcting"] * 2, ["direct_transfer", "final"], ["direct_transfer", "final"]),
        (2, 2, ["startup"] * 2, ["direct_transfer", "startup", "final"], ["direct_transfer", "final"]),
        (2, 5, ["startup"] * 2, ["direct_transfer", "final"], ["direct_transfer", "final"]),
        (1, 0, ["correcting"], ["direct_transfer", "final"], ["direct_transfer", "final"]),
        (1, 1, ["startup"], ["direct_transfer", "startup", "final"], ["direct_transfer", "final"]),
        (0, 0, [], ["direct_transfer"], []),
        (0, 3, [], ["direct_transfer"], []),
    ],
)
def test_each_stage_has_its_name_wherever_the_startup_stage_ends(
    traced, synthetic_root, tmp_path, iterations, startup, lines, results, features
):
    """Where startup ends with the last iteration, the model at its end is the final one."""
    pairs = ("NPLP.ITERATIONS", iterations, "NPLP.STARTUP_ITERATIONS", startup, "NPLP.STEPS_PER_EPOCH", 1)
    weights = traced / "source" / "model_final.pth"
    found = train(synthetic_root, tmp_path, *pairs, "NPLP.SOURCE.WEIGHTS", weights)
    assert list(found) == results
    written = [json.loads(line) for line in (tmp_path / "pseudo_labels.jsonl").open()]
    assert [line["stage"] for line in written] == lines
    names = arrays_of(tmp_path)
    assert {name for name in names if name.startswith("features")} == {
        f"features_{each}" for each in features
    }
    assert {name for name in names if name.startswith("ranks")} == {f"ranks_{each}" for each in results}
    if not iterations:
        assert not (tmp_path / "report.html").exists()
        return
    first = arrays_of(traced)["features_direct_transfer"]["features"]
    np.testing.assert_array_equal(names["features_direct_transfer"]["features"], first)
    page = (tmp_path / "report.html").read_text()
    pictures = re.findall(r'aria-label="Map of features, ([^:]+):', page)
    assert pictures == ["Direct transfer", "Final"]
    assert ("End of startup" in page) == ("startup" in results)
    assert "parts the startup stage" not in page


def test_rank_lists_follow_the_protocol(traced):
    found = arrays_of(traced)
    tests, lists = found["test_images"], found["ranks_final"]
    top = lists["top"]
    assert top.shape == (len(tests["query_paths"]), 10)
    for query, row in enumerate(top):
        own = tests["gallery_identities"][row] == tests["query_identities"][query]
        assert not (own & (tests["gallery_cameras"][row] == tests["query_cameras"][query])).any()
        assert len(set(row.tolist())) == 10


def test_a_resumed_run_leaves_the_same(traced, synthetic_root, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    ordinary = AdaptationTrainer._end_epoch

    def stopping(self):
        if self.epoch == 1:
            raise StoppedError
        ordinary(self)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptationTrainer, "_end_epoch", stopping)
        with pytest.raises(StoppedError):
            train(synthetic_root, tmp_path)
    train(synthetic_root, tmp_path, resume=True)
    ours, theirs = arrays_of(tmp_path), arrays_of(traced)
    assert ours.keys() == theirs.keys()
    for name, arrays in theirs.items():
        for key, value in arrays.items():
            np.testing.assert_array_equal(ours[name][key], value, err_msg=f"{name}: {key}")


def test_another_run_in_the_folder_leaves_nothing_of_the_first(synthetic_root, tmp_path):
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "iteration_0009.npz").write_bytes(b"old")
    train(synthetic_root, tmp_path, "NPLP.ITERATIONS", 1)
    assert "iteration_0009" not in arrays_of(tmp_path)


def test_switched_off_it_leaves_nothing_and_changes_nothing(traced, synthetic_root, tmp_path):
    import torch

    train(synthetic_root, tmp_path, "NPLP.REPORT", False)
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "report.html").exists()
    ours, theirs = (torch.load(path / "model_final.pth", weights_only=True) for path in (tmp_path, traced))
    for key, value in theirs["model"].items():
        assert torch.equal(ours["model"][key], value)


def test_without_memory_for_the_distances_the_run_goes_on(synthetic_root, tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("nplp.engine.trace.distance_histogram", full)
    assert train(synthetic_root, tmp_path, "NPLP.ITERATIONS", 1)["final"]
    assert not list((tmp_path / "trace").glob("distances_*"))
    assert "No distances have been counted" in (tmp_path / "report.html").read_text()


def test_the_sample_holds_whole_people():
    people = np.random.default_rng(0).integers(0, 300, 5000)
    sample = sample_of(people, 5000)
    assert 0.9 * SAMPLE < len(sample) <= SAMPLE
    assert (np.diff(sample) > 0).all()
    outside = np.setdiff1d(np.arange(5000), sample)
    assert not set(people[sample]) & set(people[outside])
    np.testing.assert_array_equal(sample, sample_of(people, 5000))
    assert len(sample_of(None, 5000)) == SAMPLE
    assert sample_of(None, 7).tolist() == list(range(7))
