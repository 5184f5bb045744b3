"""UDA: its distance, radius and labels against a transcription, what it trains with, and its state."""

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN

from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.losses import pair_triplet_loss
from nplp.methods import build_method
from tiny import make_tiny_cfg

HEAD = {"MODEL.HEADS.PAP": 1, "MODEL.HEADS.FUSION": "concat", "MODEL.LOSSES.NAME": "('PairTripletLoss',)"}
WORDS = [word for pair in {**HEAD, "NPLP.METHOD": "uda"}.items() for word in pair]


@pytest.fixture
def method(synthetic_root, tmp_path):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *WORDS, "NPLP.UDA.RHO", 0.05)
    model = ReidTrainer.build_model(cfg)
    return build_method(cfg, model), model


def images(seed=0, people=8, each=7, length=30.0):
    """Features as long as a network's, some of them the same."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.normal(size=(people, 16)), each, axis=0) + 0.6 * rng.normal(
        size=(people * each, 16)
    )
    points[1] = points[0]
    return torch.from_numpy((length * points).astype(np.float32))


def distances_by_the_authors(features, k1=20, k2=6):
    """k-reciprocal Jaccard distances, N x N, of squared distances over each image's greatest."""
    points = features.double().numpy()
    squared = ((points[:, None] - points[None]) ** 2).sum(2)
    squared /= squared.max(axis=1, keepdims=True)
    rank = np.argsort(squared, axis=1, kind="stable")
    count = len(points)

    def reciprocal(i, k):
        return {j for j in rank[i, : k + 1] if i in rank[j, : k + 1]}

    weights = np.zeros((count, count))
    for i in range(count):
        near = reciprocal(i, k1)
        joined = set(near)
        for j in near:
            other = reciprocal(j, k1 // 2)
            if len(other & near) > 2 / 3 * len(other):
                joined |= other
        members = sorted(joined)
        weights[i, members] = np.exp(-squared[i, members])
        weights[i] /= weights[i].sum()
    weights = np.stack([weights[rank[i, :k2]].mean(axis=0) for i in range(count)])
    shared = np.minimum(weights[:, None], weights[None]).sum(axis=2)
    return np.clip(1 - shared / (2 - shared), 0, None)


def test_labels_are_those_of_the_authors_way(method):
    method, _ = method
    features, cameras = images(), np.arange(56) % 3
    distances = distances_by_the_authors(features)
    above = np.sort(distances[np.triu_indices(56, 1)])
    above = above[above > 1e-9]
    radius = above[: round(0.05 * len(above))].mean()
    estimate = method.label(1, features, cameras).estimate
    assert estimate.epsilon_e == pytest.approx(radius, abs=1e-9)
    expected = DBSCAN(eps=radius, min_samples=4, metric="precomputed").fit_predict(distances)
    np.testing.assert_array_equal(estimate.labels, expected)
    assert expected.max() > 2


def test_the_radius_is_that_of_the_first_iteration_and_comes_back_with_the_state(method):
    method, _ = method
    first = method.label(1, images(), np.arange(56) % 3).estimate.epsilon_e
    assert method.label(2, images(seed=1), np.arange(56) % 3).estimate.epsilon_e == first
    state = method.state_dict()
    method.load_state_dict({"epsilon": 0.0})
    assert method.label(1, images(seed=1), np.arange(56) % 3).estimate.epsilon_e != first
    method.load_state_dict(state)
    assert method.label(3, images(seed=1), np.arange(56) % 3).estimate.epsilon_e == first


def test_it_trains_with_triplets_of_the_pooled_feature_and_of_the_neck(method):
    method, model = method
    model.objective = method.losses
    batch = {"images": torch.rand(8, 3, 32, 16) * 255, "targets": torch.arange(2).repeat_interleave(4)}
    torch.manual_seed(0)
    losses = model.train()(batch)
    output = model.heads(model.backbone(model.preprocess_image(batch["images"])))
    expected = {
        "loss_pairs": pair_triplet_loss(output.f_r, batch["targets"]),
        "loss_pooled": pair_triplet_loss(output.f_e, batch["targets"]),
    }
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("NPLP.UDA.RHO", 0.0), r"NPLP.UDA.RHO must be in \(0, 1\], got 0.0"),
        (("NPLP.UDA.K2", 30), "NPLP.UDA.K2 must be between 1 and NPLP.UDA.K1, got 30"),
        (("MODEL.LOSSES.NAME", "('TripletLoss',)"), "needs 'PairTripletLoss' in MODEL.LOSSES.NAME"),
        (("MODEL.LOSSES.NAME", "('PairTripletLoss','CameraProxyLoss')"), "keeps no table"),
        (("MODEL.HEADS.OUTPUT", "f_bn"), "needs MODEL.HEADS.OUTPUT 'f_e'"),
    ],
)
def test_what_does_not_fit_is_refused(synthetic_root, tmp_path, pair, message):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *WORDS, *pair)
    with pytest.raises(UserError, match=message):
        build_method(cfg, ReidTrainer.build_model(cfg))
