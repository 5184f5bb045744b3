"""SSG: what it clusters, which images it leaves out, what trains with which labels, and its state."""

import numpy as np
import pytest
import torch

from nplp.clustering import estimate_pseudo_labels
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.losses import pair_triplet_loss
from nplp.methods import build_method
from tiny import make_tiny_cfg

HEAD = {"MODEL.HEADS.PAP": 2, "MODEL.HEADS.FUSION": "concat", "MODEL.LOSSES.NAME": "('PairTripletLoss',)"}
WORDS = [word for pair in {**HEAD, "NPLP.METHOD": "ssg"}.items() for word in pair]
CAMERAS = np.arange(48) % 3


@pytest.fixture
def method(synthetic_root, tmp_path):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *WORDS, "NPLP.SSG.RHO", 0.03)
    model = ReidTrainer.build_model(cfg)
    return build_method(cfg, model), model


def images(seed=0):
    """Features of 8 people, 6 images each: the stripes tell them apart otherwise than the whole does."""
    rng = np.random.default_rng(seed)
    parts = [
        np.repeat(rng.normal(size=(8, 64)), 6, axis=0) + 0.4 * rng.normal(size=(48, 64)) for _ in range(3)
    ]
    parts[1][6:12] = parts[1][:6] + 0.1 * rng.normal(size=(6, 64))  # two people with one upper half
    parts[2][3] = rng.normal(size=64)  # an outlier below alone
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def test_each_part_is_clustered_by_itself_and_an_outlier_of_any_is_left_out(method):
    method, _ = method
    features = images()
    labels = method.label(1, features, CAMERAS).estimate.labels
    method.begin_iteration(features, labels, CAMERAS)
    own = method.state_dict()["labels"].numpy()
    radii = method.state_dict()["epsilons"]
    for part, found, radius in zip(features.split(64, dim=1), own, radii, strict=True):
        unit = part / part.norm(dim=1, keepdim=True)
        expected = estimate_pseudo_labels(
            unit, None, alpha=0.03, epsilon_pairs="all", correct=False, distance="relative_jaccard"
        )
        np.testing.assert_array_equal(found, expected.labels)
        assert radius == expected.epsilon_e
    assert len(set(radii)) == 3
    np.testing.assert_array_equal(labels >= 0, (own >= 0).all(axis=0))
    assert labels[3] == -1 < own[0, 3]
    assert (own[1] != own[0]).any()
    assert set(labels) - {-1} == set(range(labels.max() + 1))


def test_radii_stay_and_the_state_brings_everything_back(method):
    method, _ = method
    labels = method.label(1, images(), CAMERAS).estimate.labels
    method.begin_iteration(images(), labels, CAMERAS)
    state = method.state_dict()
    later = method.label(2, images(1), CAMERAS).estimate.labels
    method.begin_iteration(images(1), later, CAMERAS)
    assert method.state_dict()["epsilons"] == state["epsilons"]
    assert not torch.equal(method.state_dict()["labels"], state["labels"])
    method.load_state_dict(state)
    assert torch.equal(method.state_dict()["labels"], state["labels"])


def test_kept_labels_keep_those_of_the_stripes(method):
    method, _ = method
    labels = method.label(1, images(), CAMERAS).estimate.labels
    method.begin_iteration(images(), labels, CAMERAS)
    before = method.state_dict()["labels"]
    features = images(1)[torch.randperm(48, generator=torch.Generator().manual_seed(0))]
    rejected = method.label(2, features, CAMERAS).estimate.labels
    method.begin_iteration(features, labels, CAMERAS)
    assert (rejected != labels).any()
    assert torch.equal(method.state_dict()["labels"], before)


def test_each_part_trains_with_its_labels_and_positives_are_those_drawn_together(method):
    method, model = method
    model.objective = method.losses
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(3, (3, 20), generator=generator)
    method.load_state_dict({"epsilons": [0.1, 0.1, 0.1], "labels": own})
    batch = {
        "images": torch.rand(8, 3, 32, 16, generator=generator) * 255,
        "targets": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]),
        "indices": torch.tensor([3, 4, 5, 6, 11, 12, 13, 19]),
    }
    losses = model.train()(batch)
    output = model.heads(model.backbone(model.preprocess_image(batch["images"])))
    own = own[:, batch["indices"]]
    of_part = [
        pair_triplet_loss(values, own[part], 0.5, batch["targets"])
        for part, values in enumerate(output.f_e.split(64, dim=1))
    ]
    parts = of_part[0] + of_part[1] + of_part[2]
    expected = {"loss_pairs": pair_triplet_loss(output.f_r[:, :64], batch["targets"]), "loss_parts": parts}
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("NPLP.SSG.MIN_SAMPLES", 0), "NPLP.SSG.MIN_SAMPLES must be at least 1, got 0"),
        (("MODEL.HEADS.PAP", 1), r"MODEL.HEADS.PAP must be 2 \(the whole and two stripes\)"),
        (("MODEL.HEADS.FUSION", "hn"), "MODEL.HEADS.FUSION must be 'concat'"),
        (("MODEL.LOSSES.NAME", "('PairTripletLoss','TripletLoss')"), "alone with NPLP.METHOD 'ssg'"),
    ],
)
def test_what_does_not_fit_is_refused(synthetic_root, tmp_path, pair, message):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *WORDS, *pair)
    with pytest.raises(UserError, match=message):
        build_method(cfg, ReidTrainer.build_model(cfg))
