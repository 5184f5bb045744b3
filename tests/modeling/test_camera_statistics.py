"""Statistics of cameras against a naive oracle, the correction, and what a model keeps of both."""

import numpy as np
import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.checkpoint import Checkpointer

from nplp.engine.averaging import WeightAverage
from nplp.engine.checkpoint import load_weights
from nplp.errors import UserError
from nplp.modeling import NPLP, PAPHead
from nplp.modeling.camera_statistics import (
    CAMERA_STATE,
    LEAST_FOR_DEVIATION,
    LEAST_FOR_MEAN,
    CameraStatistics,
    statistics_by_camera,
)


def oracle(features, rows, cameras):
    """The definition, image by image, in double precision: means and deviations [K + 1, D]."""
    unit = [row / np.linalg.norm(row) for row in features.double().numpy()]
    of = [[u for u, r in zip(unit, rows.tolist(), strict=True) if r == camera] for camera in range(cameras)]
    own = [part for part in of if len(part) >= LEAST_FOR_MEAN] or [unit]
    mean = np.mean([np.mean(part, axis=0) for part in own], axis=0)
    deviation = np.sqrt(np.mean([np.var(part, axis=0) for part in own], axis=0))
    means = [np.mean(part, axis=0) if len(part) >= LEAST_FOR_MEAN else mean for part in of]
    deviations = [np.std(part, axis=0) if len(part) >= LEAST_FOR_DEVIATION else deviation for part in of]
    floor = 0.1 * np.sqrt(np.mean(deviation**2))
    return np.stack([*means, mean]), np.maximum(np.stack([*deviations, deviation]), floor)


def drawn(sizes, width=6, seed=0):
    """Features whose cameras differ in mean and deviation, in a shuffled order, with each one's camera."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = rows[torch.randperm(len(rows), generator=generator)]
    shift = torch.rand(len(sizes), width, generator=generator) * 4
    scale = torch.rand(len(sizes), width, generator=generator) + 0.2
    noise = torch.randn(len(rows), width, generator=generator)
    return shift[rows] + scale[rows] * noise, rows


@pytest.mark.parametrize("sizes", [(30, 25), (40, 4, 19, 20), (5000, 5), (3, 2, 4), (1,), (0, 21)])
def test_statistics_are_the_oracles(sizes):
    features, rows = drawn(sizes)
    found = statistics_by_camera(features, rows, len(sizes))
    mean, deviation = oracle(features, rows, len(sizes))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-6)
    if len(rows) > 1:
        np.testing.assert_allclose(found.deviation, deviation, rtol=1e-5, atol=1e-6)
    assert found.count.tolist() == [*sizes, sum(sizes)]


def test_the_overall_mean_is_of_cameras_not_of_images():
    features = torch.tensor([[1.0, 0.0]] * 95 + [[0.0, 1.0]] * 5)
    found = statistics_by_camera(features, torch.tensor([0] * 95 + [1] * 5), 2)
    assert found.mean.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]


def test_values_that_do_not_vary_are_divided_by_no_small_number():
    features, rows = drawn((50, 50))
    features[:, 0] = 0
    features[rows == 1, 1] = 0
    found = statistics_by_camera(features, rows, 2)
    least = 0.1 * found.deviation[-1].square().mean().sqrt()
    assert (found.deviation >= 0.999 * least).all()
    alike = statistics_by_camera(torch.ones(30, 4), torch.zeros(30, dtype=torch.int64), 1)
    assert alike.deviation.tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_cannot_be_measured_is_refused(bad):
    features, rows = drawn((10, 10))
    features[3, 2] = bad
    with pytest.raises(ValueError, match="need finite features"):
        statistics_by_camera(features, rows, 2)
    with pytest.raises(ValueError, match="need images"):
        statistics_by_camera(features[:0], rows[:0], 2)


@pytest.mark.parametrize("treatment", ["mean", "standardize"])
def test_the_correction_by_hand(treatment):
    module = CameraStatistics(treatment)
    features, rows = drawn((30, 40))
    given = torch.tensor([[3.0, 4.0, 0, 0, 0, 0], [0, 0, 0, 0, 5.0, 12.0]])
    assert module(given, torch.tensor([0, 1])) is given
    statistics = statistics_by_camera(features, rows, 2)
    module.assign(statistics)
    unit = torch.tensor([[0.6, 0.8, 0, 0, 0, 0], [0, 0, 0, 0, 5 / 13, 12 / 13]])
    for chosen in ([0, 1], [2, 0]):
        expected = unit - torch.stack([statistics.mean[row] for row in chosen])
        if treatment == "standardize":
            expected = expected / torch.stack([statistics.deviation[row] for row in chosen])
        torch.testing.assert_close(module(given, torch.tensor(chosen)), expected)


def test_corrected_training_images_have_no_camera_left():
    module = CameraStatistics("standardize")
    features, rows = drawn((60, 80))
    module.assign(statistics_by_camera(features, rows, 2))
    corrected = module(features, rows)
    for row in (0, 1):
        torch.testing.assert_close(corrected[rows == row].mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
        deviation = corrected[rows == row].std(dim=0, correction=0)
        torch.testing.assert_close(deviation, torch.ones(6), atol=1e-3, rtol=0)


def test_an_unknown_treatment_is_one_line():
    with pytest.raises(
        UserError, match="TEST.CAMERAS must be 'mean' or 'standardize' for statistics, got 'x'"
    ):
        CameraStatistics("x")


@pytest.fixture
def build(tiny_backbone):
    """A builder of small models, which corrects features as asked for."""

    def make(treatment="mean", losses=()):
        torch.manual_seed(0)
        heads = PAPHead(feat_dim=5, embedding_dim=4, loss_names=losses)
        options = {"pixel_mean": (100.0,) * 3, "pixel_std": (50.0,) * 3, "camera_treatment": treatment}
        return NPLP(backbone=tiny_backbone, heads=heads, loss_names=losses, **options).eval()

    return make


def measure(model, names=("a", "b"), seed=0):
    """Give a model statistics of features that were drawn."""
    model.cameras.assign(names)
    features, rows = drawn((30,) * len(names), width=4, seed=seed)
    model.camera_statistics.assign(statistics_by_camera(features, rows, len(names)))
    return model


def test_a_model_corrects_by_name_by_row_and_without_either(build, batch):
    model = build()
    with torch.no_grad():
        raw = model(batch)
        measure(model)
        unit, mean = torch.nn.functional.normalize(raw), model.camera_statistics.mean
        named = model({**batch, "cameras": ["a", "b", "x", "b", "a", "a"]})
        torch.testing.assert_close(named, unit - mean[[0, 1, 2, 1, 0, 0]])
        rows = torch.tensor([0, 1, -1, 1, 0, 0])
        assert torch.equal(model({**batch, "cameras": rows}), named)
        overall = unit - mean[-1]
        for without in (batch, batch["images"]):
            torch.testing.assert_close(model(without), overall)
        with model.raw_features():
            assert torch.equal(model({**batch, "cameras": rows}), raw)
            with model.raw_features():
                pass
            assert torch.equal(model(batch), raw)
        assert torch.equal(model({**batch, "cameras": rows}), named)


def test_training_sees_nothing_of_it(build, batch):
    plain, measured = (
        build("none", ("TripletLoss",)).train(),
        measure(build("mean", ("TripletLoss",))).train(),
    )
    given = {**batch, "cameras": ["a"] * 6}
    assert torch.equal(plain(given)["loss_triplet"], measured(given)["loss_triplet"])


def test_off_is_as_if_it_were_not_there(build):
    plain, unmeasured = build("none"), build()
    assert plain.state_dict().keys() == unmeasured.state_dict().keys()
    assert not any(key.startswith(CAMERA_STATE) for key in plain.state_dict())
    assert plain.cameras is plain.camera_statistics is plain.known_cameras is unmeasured.known_cameras is None


def test_statistics_are_saved_and_loaded_over_others(build, batch):
    ours, theirs = measure(build()), measure(build(), ("c", "d", "e"), seed=1)
    theirs.load_state_dict(ours.state_dict())
    given = {**batch, "cameras": ["a", "b", "c", "d", "e", "a"]}
    with torch.no_grad():
        assert torch.equal(theirs(given), ours(given))
    assert theirs.known_cameras == ("a", "b")
    theirs.load_state_dict(build("none").state_dict())
    assert theirs.known_cameras is None


def test_statistics_of_another_width_or_number_are_refused(build):
    state = measure(build()).state_dict()
    for key, value in (
        ("camera_statistics.mean", torch.zeros(3, 5)),
        ("camera_statistics.deviation", torch.zeros(3, 4)),
        ("camera_statistics.count", torch.zeros(2, dtype=torch.int64)),
        ("camera_statistics.mean", torch.full((3, 4), float("nan"))),
    ):
        with pytest.raises(UserError, match="camera statistics are of shapes"):
            build().load_state_dict({**state, key: value})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*camera_statistics"):
        build().load_state_dict({key: value for key, value in state.items() if "deviation" not in key})


def test_files_with_and_without_statistics(build, batch, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("nplp.engine.checkpoint.logger.parent.propagate", True)
    caplog.set_level("INFO")
    measured, plain = measure(build()), build("none")
    torch.save({"model": measured.state_dict()}, tmp_path / "measured.pth")
    wrapped = {f"module.{key}": value for key, value in measured.state_dict().items()}
    torch.save({"model": wrapped}, tmp_path / "wrapped.pth")
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")

    for name in ("measured", "wrapped"):
        model = build()
        load_weights(model, str(tmp_path / f"{name}.pth"))
        with torch.no_grad():
            assert torch.equal(model(batch), measured(batch))
        assert "(TEST.CAMERAS mean) by the statistics of a, b; of other cameras by the overall" in caplog.text
    load_weights(model, str(tmp_path / "plain.pth"))
    assert not model.corrects
    assert "has no statistics of cameras: features stay as they are" in caplog.text
    caplog.clear()
    load_weights(plain, str(tmp_path / "measured.pth"))
    assert "left out: cameras.names, camera_statistics.* (3)" in caplog.text
    # An adaptation leaves behind what another network's cameras were.
    fresh = build()
    load_weights(fresh, str(tmp_path / "measured.pth"), optional=CAMERA_STATE)
    assert not fresh.corrects


def test_the_toolboxs_checkpointer_loads_them(build, batch, tmp_path):
    measured, model = measure(build()), build()
    torch.save({"model": measured.state_dict()}, tmp_path / "measured.pth")
    Checkpointer(model).load(str(tmp_path / "measured.pth"))
    with torch.no_grad():
        assert torch.equal(model(batch), measured(batch))


def test_the_average_has_what_is_measured_of_its_own_weights(build):
    model = build()
    average = WeightAverage(model, 0.5, CAMERA_STATE)
    measure(model, seed=0)
    average.update()
    with average.applied():
        assert not model.corrects
        measure(model, ("a", "b"), seed=1)
        theirs = model.camera_statistics.mean.clone()
    ours = measure(build(), seed=0).camera_statistics.mean
    assert torch.equal(model.camera_statistics.mean, ours)
    average.update()
    with average.applied():
        assert torch.equal(model.camera_statistics.mean, theirs)
    assert torch.equal(average.weights()["camera_statistics.mean"], theirs)
    other = WeightAverage(build(), 0.5, CAMERA_STATE)
    other.load_state_dict(average.state_dict())
    assert other.weights().keys() == average.weights().keys()
    assert torch.equal(other.weights()["camera_statistics.mean"], theirs)


def test_a_configuration_says_what_is_done(make_cfg):
    model = build_model(make_cfg(TEST__CAMERAS="standardize"))
    assert model.camera_statistics.treatment == "standardize"
    assert build_model(make_cfg()).camera_statistics is None
