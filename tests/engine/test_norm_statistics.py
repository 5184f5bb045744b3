"""Statistics of batch norms, estimated anew over a target's images."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from norm_cases import build_model, make_cfg, refreshed, trained, write_images
from nplp.data.images import read_rgb
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.norm_statistics import refresh_statistics
from nplp.engine.pipeline import evaluate_only, run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from ranks import run_ranks
from tiny import make_tiny_cfg

LAYERS = ("backbone.1", "backbone.4", "heads.neck.0")
SIZE = 11


@pytest.fixture
def items(tmp_path):
    return write_images(tmp_path / "images", SIZE)


def statistics(model):
    return {
        key: value.clone() for key, value in model.state_dict().items() if key.endswith(("_mean", "_var"))
    }


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def oracle(model, items, groups):
    """Return the pooled statistics of all that comes to a layer, in double precision."""
    model = copy.deepcopy(model).double()

    def normalise(norm, values):
        return F.batch_norm(values, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)

    seen = {layer: [] for layer in LAYERS}
    for group in groups:
        images = [torch.from_numpy(np.array(read_rgb(items[number][0]))) for number in group]
        values = (torch.stack(images).permute(0, 3, 1, 2).double() - 120) / 60
        for number, layer in enumerate(model.backbone):
            if f"backbone.{number}" in seen:
                seen[f"backbone.{number}"].append(values.permute(0, 2, 3, 1).flatten(0, 2))
                values = normalise(layer, values)
            else:
                values = layer(values)
        seen["heads.neck.0"].append(model.heads.embed(values))
    pooled = {layer: torch.cat(values) for layer, values in seen.items()}
    return {
        f"{layer}.running_{name}": getattr(values, name)(dim=0).float()
        for layer, values in pooled.items()
        for name in ("mean", "var")
    }


def order(images, seed=0):
    return np.random.default_rng(seed).permutation(images)


def test_statistics_are_those_of_all_values_that_come_to_a_layer(items, tmp_path):
    model = build_model()
    expected = oracle(model, items, np.array_split(order(SIZE), 3))
    refresh_statistics(make_cfg(tmp_path), model, items)
    ours = statistics(model)
    assert set(ours) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pairs", [("TEST.IMS_PER_BATCH", 2), ("DATALOADER.NUM_WORKERS", 2)])
def test_what_loads_the_images_has_no_influence(items, tmp_path, pairs):
    ours, theirs = build_model(), build_model()
    refresh_statistics(make_cfg(tmp_path), ours, items)
    refresh_statistics(make_cfg(tmp_path, *pairs), theirs, items)
    assert_equal(ours.state_dict(), theirs.state_dict())


def test_statistics_from_before_have_no_influence_and_the_rest_stays(items, tmp_path):
    ours, theirs = build_model(), build_model()
    for norm in (theirs.backbone[1], theirs.heads.neck[0]):
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(0.1)
        norm.num_batches_tracked.fill_(7)
    theirs.backbone[4].momentum = None
    theirs.backbone.eval()
    refresh_statistics(make_cfg(tmp_path), ours, items)
    before = theirs.state_dict(keep_vars=True)
    refresh_statistics(make_cfg(tmp_path), theirs, items)
    assert_equal(statistics(ours), statistics(theirs))
    after = theirs.state_dict(keep_vars=True)
    assert all(after[key] is before[key] for key in before)
    assert theirs.heads.neck[0].num_batches_tracked == 7
    assert (theirs.backbone[1].momentum, theirs.backbone[4].momentum) == (0.1, None)
    assert theirs.training
    assert theirs.heads.neck[0].training
    assert not theirs.backbone[1].training


def test_the_groups_are_a_part_of_the_rule(items, tmp_path):
    ours, theirs = build_model(), build_model()
    refresh_statistics(make_cfg(tmp_path), ours, items)
    refresh_statistics(make_cfg(tmp_path, "NPLP.NORM.BATCH", 6), theirs, items)
    first, last = "backbone.1.running_var", "heads.neck.0.running_var"
    # What comes to the first layer is the same; the groups may change the last digits of sums alone.
    torch.testing.assert_close(ours.state_dict()[first], theirs.state_dict()[first], rtol=1e-5, atol=0)
    assert not torch.allclose(ours.state_dict()[last], theirs.state_dict()[last], rtol=1e-4)


def test_a_part_of_the_images(items, tmp_path):
    model = build_model()
    refresh_statistics(make_cfg(tmp_path, "NPLP.NORM.IMAGES", 7, "SEED", 3), model, items)
    expected = oracle(build_model(), items, np.array_split(order(SIZE, 3)[:7], 2))
    for key, value in expected.items():
        torch.testing.assert_close(statistics(model)[key], value, rtol=1e-5, atol=1e-6)


def test_chunks_of_training_do_not_divide_the_groups(items, tmp_path):
    ours, theirs = build_model(norm_chunk=2), build_model()
    for model in (ours, theirs):
        refresh_statistics(make_cfg(tmp_path), model, items)
    assert_equal(ours.state_dict(), theirs.state_dict())
    assert not ours.norm_groups.whole


def test_a_feature_that_is_the_necks_shows_each_image_to_it_once(items, tmp_path):
    ours, theirs = build_model(), build_model()
    ours.heads.output = "f_bn"
    for model in (ours, theirs):
        refresh_statistics(make_cfg(tmp_path), model, items)
    assert_equal(ours.state_dict(), theirs.state_dict())


class TestCameras:
    @pytest.fixture
    def many(self, tmp_path):
        """Images of three cameras, 19, 19 and 18; a fourth camera has eleven."""
        items = write_images(tmp_path / "many", 67)
        return [*items[:56], *((path, who, "c_3") for path, who, _ in items[56:])]

    def test_each_camera_has_the_statistics_of_its_own_images(self, many, tmp_path):
        model, plain = build_model(norm_cameras=True), build_model()
        cfg = make_cfg(tmp_path, "NPLP.NORM.BATCH", 8)
        refresh_statistics(cfg, plain, many)
        refresh_statistics(cfg, model, many)
        assert model.cameras.known == ("c_0", "c_1", "c_2", "c_3")
        assert model.camera_norms.mean.shape == (5, 9)
        features = []
        for row, name in enumerate(model.cameras.known[:3]):
            own = [item for item in many if item[2] == name]
            alone = build_model()
            refresh_statistics(cfg, alone, own)
            for norm, channels in ((alone.backbone[1], slice(0, 5)), (alone.backbone[4], slice(5, 9))):
                torch.testing.assert_close(model.camera_norms.mean[row, channels], norm.running_mean)
                torch.testing.assert_close(model.camera_norms.variance[row, channels], norm.running_var)
            features.append(len(own) * alone.heads.neck[0].running_mean)
        # The fourth has too few images; so it, and cameras that are not known, take the statistics of all.
        overall = torch.cat([plain.backbone[1].running_mean, plain.backbone[4].running_mean])
        assert torch.equal(model.camera_norms.mean[3], overall)
        assert torch.equal(model.camera_norms.mean[4], overall)
        assert torch.equal(model.backbone[1].running_var, plain.backbone[1].running_var)
        # The neck sees the features of aligned cameras.
        torch.testing.assert_close(model.heads.neck[0].running_mean, sum(features) / 56)

    def test_a_second_time_changes_nothing(self, many, tmp_path):
        model = build_model(norm_cameras=True)
        refresh_statistics(make_cfg(tmp_path), model, many)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        refresh_statistics(make_cfg(tmp_path), model, many)
        assert_equal(model.state_dict(), before)

    def test_cameras_of_few_images_alone_leave_the_statistics_of_all(self, items, tmp_path):
        model, plain = build_model(norm_cameras=True), build_model()
        for each in (model, plain):
            refresh_statistics(make_cfg(tmp_path), each, items)
        assert_equal({key: statistics(model)[key] for key in statistics(plain)}, statistics(plain))
        assert len(model.camera_norms.mean.unique(dim=0)) == 1


def test_switched_off_or_without_images_nothing_happens(items, tmp_path):
    model = build_model()
    refresh_statistics(make_cfg(tmp_path, "NPLP.NORM.REFRESH", False), model, items)
    refresh_statistics(make_cfg(tmp_path), model, [])
    assert_equal(model.state_dict(), build_model().state_dict())


def test_one_image_is_refused(items, tmp_path):
    with pytest.raises(UserError, match="need at least 2 images of the target, got 1"):
        refresh_statistics(make_cfg(tmp_path), build_model(), items[:1])


def test_too_little_memory_is_named_with_the_key(items, tmp_path, monkeypatch):
    model = build_model()

    def fail(images):
        raise MemoryError

    monkeypatch.setattr(model.backbone, "forward", fail)
    with pytest.raises(UserError, match=r"NPLP\.NORM\.BATCH 4: .* does not fit into memory"):
        refresh_statistics(make_cfg(tmp_path), model, items)
    assert model.training
    assert model.backbone[1].momentum == 0.1


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run_ranks(Path(__file__).with_name("norm_process.py"), tmp_path_factory.mktemp("ranks"))


def test_two_processes_end_with_the_numbers_of_one(ranks, tmp_path):
    (first, _), (second, _) = ranks
    assert_equal(first, second)
    theirs = refreshed(tmp_path)
    assert "camera_norms.mean" in theirs
    assert first.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(first[key], value, rtol=1e-6, atol=1e-7)


def test_two_processes_with_the_same_chunks_have_the_gradients_and_statistics_of_one(ranks):
    (_, first), (_, second) = ranks
    alone = trained(0, 1)
    assert alone.keys() == first.keys()
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(second[key], value, rtol=1e-5, atol=1e-6)


def test_without_an_iteration_statistics_alone_adapt_the_source_model(
    synthetic_root, source_weights, tmp_path
):
    pairs = ("NPLP.ITERATIONS", 0, "NPLP.SOURCE.WEIGHTS", source_weights, "NPLP.NORM.REFRESH", True)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *pairs)
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    assert results["final"] != results["direct_transfer"]
    ours, theirs = (
        torch.load(path, weights_only=True)["model"]
        for path in (tmp_path / "model_final.pth", source_weights)
    )
    for key, value in ours.items():
        refreshed = key.endswith(("running_mean", "running_var"))
        assert torch.equal(value, theirs[key]) != refreshed, key


class StoppedError(Exception):
    pass


SWITCHES = {
    "refresh": ("NPLP.NORM.REFRESH", True),
    "chunk": ("MODEL.NORM_CHUNK", 8),
    "cameras": ("MODEL.NORM_CAMERAS", True),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_resumed_run_ends_as_the_undisturbed_one(
    synthetic_root, source_weights, tmp_path, monkeypatch, switch
):
    def cfg_of(name):
        options = {"NPLP.ITERATIONS": 2, "NPLP.EPOCHS_PER_ITERATION": 2, "NPLP.STEPS_PER_EPOCH": 3}
        options.update({"NPLP.EMA": True, "NPLP.SOURCE.WEIGHTS": source_weights})
        pairs = [text for pair in options.items() for text in pair]
        cfg = make_tiny_cfg(synthetic_root, tmp_path / name, *pairs, *SWITCHES[switch])
        prepare_output(cfg)
        return cfg

    whole = cfg_of("whole")
    results = run(whole, whole, resume=False)
    stopped = cfg_of("stopped")
    end_epoch = AdaptationTrainer._end_epoch

    def end(trainer):
        if trainer.epoch == 3:
            raise StoppedError
        end_epoch(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(AdaptationTrainer, "_end_epoch", end)
        with pytest.raises(StoppedError):
            run(stopped, stopped, resume=False)
    assert run(stopped, stopped, resume=True) == results
    for name in ("model_final", "model_final_ema"):
        ours, theirs = (
            torch.load(tmp_path / folder / f"{name}.pth", weights_only=True)["model"]
            for folder in ("stopped", "whole")
        )
        assert_equal(ours, theirs)
    if switch == "cameras":
        assert "camera_norms.mean" in ours
        # The saved model is the one that was evaluated.
        alone = cfg_of("stopped").clone()
        alone.defrost()
        alone.MODEL.WEIGHTS = str(tmp_path / "stopped" / "model_final_ema.pth")
        assert evaluate_only(alone) == results["final_ema"]
