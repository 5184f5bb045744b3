"""The pseudo-label hook with a ten-line fake model and planted features."""

import logging
import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import nn
from torch.nn import functional as F

from nplp.clustering import camera_entropy_weights, label_quality
from nplp.clustering.neighbourhood import Neighbourhood, NeighbourTrial
from nplp.engine import pseudo_labels as hook_module
from nplp.engine.pseudo_labels import PseudoLabelHook
from nplp.engine.run_record import RunRecord
from nplp.engine.verdict import judge
from nplp.errors import UserError
from nplp.losses import CenterContrastiveLoss
from nplp.methods import build_method


class FakeModel(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.heads = nn.Module()
        self.heads.neck = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU())
        self.heads.output = "f_e"
        self.heads.with_stripes = nullcontext
        self.device = torch.device("cpu")
        self.loss = CenterContrastiveLoss()
        self.criteria = {"CenterContrastiveLoss": self.loss}


class FakeTrainer:
    def __init__(self):
        self.iter = 0
        self.epoch = 0
        self.sets = []

    def reset_train_set(self, train_set, steps_per_epoch=0):
        self.sets.append((train_set, steps_per_epoch))


PEOPLE, IMAGES, WIDTH = 6, 8, 16
ITEMS = [(f"{i}.jpg", f"p{i // IMAGES}", f"c{i % 4}") for i in range(PEOPLE * IMAGES)]
IDENTITIES = np.repeat(np.arange(PEOPLE), IMAGES)


def planted(seed=0, spread=0.05):
    rng = np.random.default_rng(seed)
    centres = np.eye(WIDTH)[:PEOPLE]
    points = centres[IDENTITIES] + spread * rng.normal(size=(len(ITEMS), WIDTH))
    return torch.from_numpy(points.astype(np.float32))


@pytest.fixture
def make(tiny_cfg, monkeypatch):
    def build(features=None, identities=IDENTITIES, **options):
        cfg = tiny_cfg.clone()
        cfg.defrost()
        # Six people, one in six of the pairs: twelve of a hundred cross-camera pairs are true ones.
        cfg.NPLP.ALPHA, cfg.NPLP.DISTANCE, cfg.NPLP.EPOCHS_PER_ITERATION = 0.12, "euclidean", 2
        for key, value in options.items():
            cfg.NPLP[key] = value
        shown = {"features": planted() if features is None else features}
        monkeypatch.setattr(hook_module, "extract_features", lambda *_, **__: shown["features"])
        model = FakeModel(WIDTH)
        hook = PseudoLabelHook(cfg, model, build_method(cfg, model), ITEMS, RunRecord(), identities)
        hook.trainer = FakeTrainer()
        hook.shown = shown
        return hook

    return build


def run_epoch(hook, epoch):
    hook.trainer.epoch = epoch
    hook.before_epoch()


def test_an_iteration_labels_the_people_and_fills_the_table(make):
    hook = make()
    run_epoch(hook, 0)
    labels = hook.state.labels.numpy()
    assert len(np.unique(labels[labels >= 0])) == PEOPLE
    assert all(len(np.unique(IDENTITIES[labels == cluster])) == 1 for cluster in range(PEOPLE))
    train_set, steps = hook.trainer.sets[0]
    assert len(train_set) == (labels >= 0).sum()
    assert steps == 0
    neck = hook._model.heads.neck.eval()
    with torch.no_grad():
        expected = torch.stack([neck(planted())[labels == cluster].mean(0) for cluster in range(PEOPLE)])
    torch.testing.assert_close(hook._model.loss.table, F.normalize(expected))


def test_estimates_come_every_period_and_correction_after_the_startup_stage(make):
    hook = make(STARTUP_ITERATIONS=1)
    for epoch in range(6):
        run_epoch(hook, epoch)
    assert [line["stage"] for line in hook._record.history] == ["startup", "correcting", "correcting"]
    assert [line["noisy_clusters"] > 0 for line in hook._record.history] == [False, True, True]
    assert len(hook.trainer.sets) == 3


def test_true_identities_change_nothing_but_the_report(make):
    known, unknown = make(), make(identities=None)
    shuffled = make(identities=np.roll(IDENTITIES, 3))
    for hook in (known, unknown, shuffled):
        run_epoch(hook, 0)
        torch.testing.assert_close(hook.state.labels, known.state.labels)
    assert known._record.history[0]["precision"] == 1.0
    assert "precision" not in unknown._record.history[0]


def test_with_some_identities_the_quality_is_over_these_alone(make, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    # In truth the labels are right; of the known identities half are not.
    known = np.where(np.arange(len(IDENTITIES)) % 2, -1, np.arange(len(IDENTITIES)) // 4)
    hook = make(identities=known)
    with caplog.at_level(logging.INFO):
        run_epoch(hook, 0)
    (line,) = hook._record.history
    labels, chosen = hook.state.labels.numpy(), known >= 0
    expected = label_quality(labels[chosen], known[chosen])
    assert line["precision"] == expected.precision < 1
    assert (line["recall"], line["nmi"], line["ari"]) == (expected.recall, expected.nmi, expected.ari)
    assert (line["images_with_identity"], line["known_identities"]) == (24, 12)
    assert "identities" not in line
    assert "over 24 of 48 images with known identities" in caplog.text
    assert "people)" not in caplog.text


def test_without_identities_the_log_has_no_column_of_quality(make, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    with caplog.at_level(logging.INFO):
        run_epoch(make(identities=None), 0)
    assert "epsilon    clusters" in caplog.text
    assert not re.search("precision|recall|NMI|ARI|mixed|fragmented|people", caplog.text)


def test_a_line_says_what_labels_tell_of_themselves(make):
    hook = make(STARTUP_ITERATIONS=1, identities=None)
    run_epoch(hook, 0)
    before = hook.state.labels.numpy()
    # The features move: some images change places.
    hook.shown["features"] = planted(seed=1, spread=0.3)
    run_epoch(hook, 2)
    labels, cameras = hook.state.labels.numpy(), np.arange(len(ITEMS)) % 4
    first, second = hook._record.history
    assert "label_agreement" not in first
    assert hook.state.agreement == second["label_agreement"] < 1
    people = [np.where(each < 0, 100 + np.arange(len(ITEMS)), each) for each in (labels, before)]
    assert second["label_agreement"] == pytest.approx(adjusted_rand_score(*people))
    assert (second["images"], second["cameras"]) == (len(ITEMS), 4)
    assert first["verdict"]["word"] == "failed"
    assert second["verdict"] == judge([first, second]).entry()
    entropies, pairs = [], []
    for cluster in range(second["clusters"]):
        inside = cameras[labels == cluster]
        shares = np.bincount(inside)[np.bincount(inside) > 0] / len(inside)
        entropies.append(-(shares * np.log2(shares)).sum())
        pairs += [a != b for place, a in enumerate(inside) for b in inside[:place]]
    assert second["camera_entropy"] == pytest.approx(np.mean(entropies))
    assert second["one_camera_clusters"] == np.mean([entropy == 0 for entropy in entropies])
    assert second["cross_camera_pairs"] == pytest.approx(np.mean(pairs))
    assert -1 <= second["self_assessment"] <= 1


def test_clusters_are_weighed_by_their_cameras_where_asked_to(make):
    plain, weighed = make(), make(CAMERA_ENTROPY_WEIGHT=True)
    for hook in (plain, weighed):
        hook._cameras = np.where(IDENTITIES == 2, 0, hook._cameras)
        run_epoch(hook, 0)
    assert plain.trainer.sets[0][0].dataset.weights is None
    train_set = weighed.trainer.sets[0][0]
    expected = camera_entropy_weights(weighed.state.labels.numpy(), weighed._cameras)
    assert expected.min() < 0.5 < 1 < expected.max()
    np.testing.assert_array_equal(train_set.dataset.weights, expected[train_set.labels])


def test_clusters_are_weighed_by_their_scores_where_asked_to(make):
    hook = make(SCORE_WEIGHT=True, NOISY="keep", STARTUP_ITERATIONS=1)
    run_epoch(hook, 0)
    assert hook.trainer.sets[0][0].dataset.weights is None, "nothing is scored in the startup stage"
    seen = []
    estimate = hook._method.label
    hook._method.label = lambda *given: seen.append(estimate(*given)) or seen[-1]
    run_epoch(hook, 2)
    result, (train_set, _) = seen[0].estimate, hook.trainer.sets[1]
    np.testing.assert_array_equal(result.labels, result.startup_labels)
    assert len(result.noisy_clusters) == 1
    expected = (1 + result.self_assessment) / np.mean(1 + result.self_assessment)
    np.testing.assert_allclose(train_set.dataset.weights, expected[train_set.labels])
    assert np.ptp(train_set.dataset.weights) > 0
    resumed = make(SCORE_WEIGHT=True, NOISY="keep", STARTUP_ITERATIONS=1)
    resumed.load_state_dict(hook.state_dict())
    run_epoch(resumed, 3)
    again = resumed.trainer.sets[0][0].dataset.weights
    np.testing.assert_array_equal(again, train_set.dataset.weights)


def test_neighbours_are_chosen_in_the_first_iteration_and_kept(make, monkeypatch, caplog):
    asked = []

    def choose(features, cameras, **given):
        asked.append((features, given))
        return Neighbourhood(7, 2, (NeighbourTrial(7, 6, 8.0),))

    monkeypatch.setattr("nplp.methods.nplp.choose_neighbours", choose)
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    options = {"K1": 0, "DISTANCE": "jaccard", "ALPHA": 0.12, "CAMERA_CENTERING": True}
    hook = make(**options)
    with caplog.at_level(logging.INFO):
        run_epoch(hook, 0)
        run_epoch(hook, 2)
    assert len(asked) == 1
    torch.testing.assert_close(asked[0][0], F.normalize(planted()))
    assert asked[0][1] == {"min_samples": 4, "camera_centering": True, "camera_scaling": False}
    assert [line["k1"] for line in hook._record.history] == [7, 7]
    said = [record.message for record in caplog.records if "chosen" in record.message]
    assert said == ["Iteration 1: k1 7 and k2 2 chosen; k1, and the images of a cluster by it: 7: 8"]
    usual = make(**{**options, "K1": 7, "K2": 2})
    run_epoch(usual, 0)
    assert hook._record.history[0] == {**usual._record.history[0], "k1": 7}
    resumed = make(**options)
    resumed.load_state_dict(hook.state_dict())
    run_epoch(resumed, 4)
    assert len(asked) == 1, "a resumed run goes on with what was chosen"
    assert resumed._record.history[-1]["k1"] == 7


def test_clusters_are_drawn_by_their_scores_where_asked_to(make):
    hook = make(SCORE_SAMPLING=True, NOISY="keep", STARTUP_ITERATIONS=1)
    run_epoch(hook, 0)
    assert hook.trainer.sets[0][0].cluster_shares is None, "nothing is scored in the startup stage"
    seen = []
    estimate = hook._method.label
    hook._method.label = lambda *given: seen.append(estimate(*given)) or seen[-1]
    run_epoch(hook, 2)
    scores, (train_set, _) = seen[0].estimate.self_assessment, hook.trainer.sets[1]
    expected = (1 + scores) / np.mean(1 + scores)
    np.testing.assert_allclose(train_set.cluster_shares, expected)
    assert np.ptp(expected) > 0
    assert train_set.dataset.weights is None, "the losses are not weighed as well"
    resumed = make(SCORE_SAMPLING=True, NOISY="keep", STARTUP_ITERATIONS=1)
    resumed.load_state_dict(hook.state_dict())
    run_epoch(resumed, 3)
    np.testing.assert_array_equal(resumed.trainer.sets[0][0].cluster_shares, train_set.cluster_shares)


def test_the_worst_score_is_drawn_at_some_time(make):
    hook = make(SCORE_SAMPLING=True, NOISY="keep", STARTUP_ITERATIONS=0)
    run_epoch(hook, 0)
    hook.state.score_weights = torch.tensor([0, 2, 1, 1], dtype=torch.float64)
    hook._install()
    assert hook.trainer.sets[-1][0].cluster_shares.tolist() == [0.01, 2.0, 1.0, 1.0]


def test_a_noisy_cluster_can_wait_for_a_later_iteration(make):
    hook = make(NOISY="drop", STARTUP_ITERATIONS=0)
    run_epoch(hook, 0)
    labels = hook.state.labels.numpy()
    trained_on = np.unique(IDENTITIES[labels >= 0])
    assert len(trained_on) == labels.max() + 1 == PEOPLE - 1


def test_epsilon_of_the_first_iteration_can_be_frozen(make):
    hook = make(EPSILON_UPDATE="first")
    run_epoch(hook, 0)
    hook.shown["features"] = planted(seed=1, spread=0.03)
    run_epoch(hook, 2)
    first, second = (line["epsilon_e"] for line in hook._record.history)
    assert first == second
    fresh = make(features=planted(seed=1, spread=0.03))
    run_epoch(fresh, 0)
    assert fresh._record.history[0]["epsilon_e"] != first


def test_a_resumed_hook_goes_on_within_the_iteration(make):
    hook = make()
    run_epoch(hook, 0)
    hook._model.loss.table.mul_(0.5)
    state = hook.state_dict()
    other = make(features=torch.zeros(0, WIDTH))
    other.load_state_dict(state)
    run_epoch(other, 1)
    torch.testing.assert_close(other.state.labels, hook.state.labels)
    torch.testing.assert_close(other._model.loss.table, hook._model.loss.table)
    assert len(other.trainer.sets) == 1
    assert other._record.history == []


def test_a_state_of_another_target_is_refused(make):
    hook = make()
    with pytest.raises(UserError, match="pseudo-labels of 3 images, the target set has 48"):
        hook.load_state_dict({"labels": torch.zeros(3), "iteration": 1, "table": None, "first_epsilon": 1.0})


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (
            torch.full((48, WIDTH), float("nan")),
            {},
            "iteration 1: the features of 48 of 48 images are infinite",
        ),
        (planted(), {"MIN_SAMPLES": 40}, "raise NPLP.ALPHA or lower NPLP.MIN_SAMPLES"),
    ],
)
def test_what_cannot_be_clustered_stops_with_one_line(make, features, options, message):
    hook = make(features=features, **options)
    with pytest.raises(UserError, match=message):
        run_epoch(hook, 0)
    assert hook.trainer.sets == []
