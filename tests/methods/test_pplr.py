"""PPLR: what it labels and begins with, five steps against a transcription, and its state."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nplp.clustering import estimate_pseudo_labels
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.methods import build_method
from tiny import make_tiny_cfg

KEYS = {
    "MODEL.HEADS.PAP": 1,
    "MODEL.HEADS.FUSION": "concat",
    "MODEL.HEADS.OUTPUT": "f_bn",
    "MODEL.HEADS.NECK_BIAS": False,
    "MODEL.LOSSES.NAME": "('SoftmaxTripletLoss',)",
    "NPLP.METHOD": "pplr",
    "NPLP.PPLR.PARTS": 2,
    "NPLP.PPLR.K1": 10,
    "NPLP.PPLR.NEIGHBOURS": 5,
}
WORDS = [word for pair in KEYS.items() for word in pair]
CAMERAS_TOO = (
    "MODEL.LOSSES.NAME",
    "('SoftmaxTripletLoss','CameraProxyLoss')",
    "MODEL.LOSSES.PROXY.MOMENTUM",
    1.0,
)
CAMERAS = np.arange(48) % 3


def built(synthetic_root, output, *pairs):
    cfg = make_tiny_cfg(synthetic_root, output, *WORDS, *pairs)
    model = ReidTrainer.build_model(cfg)
    method = build_method(cfg, model)
    networks = method.build_networks(48)
    model.objective = method.losses
    return method, model, networks


@pytest.fixture
def method(synthetic_root, tmp_path):
    return built(synthetic_root, tmp_path)


def images(seed=0):
    """Features of 6 people, 8 images each: the whole's neck and two pooled stripes."""
    rng = np.random.default_rng(seed)
    parts = [np.repeat(rng.normal(size=(6, 64)), 8, axis=0) for _ in range(3)]
    noisy = [
        part + noise * rng.normal(size=part.shape) for part, noise in zip(parts, (0.3, 0.5, 2), strict=True)
    ]
    return torch.from_numpy(np.concatenate(noisy, axis=1).astype(np.float32))


def near(points, k=5):
    distances = (points[:, None] - points[None]).norm(dim=2).fill_diagonal_(torch.inf)
    return [set(row.tolist()) for row in distances.argsort(dim=1)[:, :k]]


def test_an_iteration_begins_with_the_wholes_clusters_their_means_and_agreements(method):
    method, _, networks = method
    features = images()
    labels = method.label(1, features, CAMERAS).estimate.labels
    whole, *stripes = (F.normalize(part) for part in features.double().split(64, dim=1))
    expected = estimate_pseudo_labels(
        features[:, :64] / features[:, :64].norm(dim=1, keepdim=True), None, epsilon=0.5, correct=False, k1=10
    )
    np.testing.assert_array_equal(labels, expected.labels)
    method.begin_iteration(features, labels, CAMERAS)
    # A new neck divides by the root of 1 + 1e-5 and changes no direction.
    for rows, space in zip(networks.classifiers, (whole, *stripes), strict=True):
        means = torch.stack([space[torch.from_numpy(labels == cluster)].mean(0) for cluster in range(6)])
        torch.testing.assert_close(rows[:6].double(), F.normalize(means), rtol=0, atol=1e-6)
        assert not rows[6:].any()
    agreement = method.state_dict()["agreement"]
    for number, stripe in enumerate(stripes):
        shared = [len(a & b) / len(a | b) for a, b in zip(near(whole), near(stripe), strict=True)]
        np.testing.assert_allclose(agreement[:, number], shared, atol=1e-6)
    assert agreement[:, 0].mean() > agreement[:, 1].mean()


def test_the_evaluated_feature_is_the_wholes_and_stripes_come_where_images_are_labelled(method):
    _, model, _ = method
    picture = torch.rand(4, 3, 32, 16) * 255
    whole = model.eval()(picture)
    feature_map = model.backbone(model.preprocess_image(picture))
    assert torch.equal(whole, model.heads.neck[0](feature_map.mean(dim=(2, 3))))
    with model.heads.with_stripes():
        both = model(picture)
    torch.testing.assert_close(both, torch.cat([whole, *feature_map.mean(dim=3).unbind(dim=2)], dim=1))
    assert torch.equal(model(picture), whole)


class Transcription(nn.Module):
    """The authors' model and losses, with the method's weights as they begin."""

    def __init__(self, model, networks, clusters, agreement, by_agreement):
        super().__init__()
        self.base = copy.deepcopy(model.backbone)
        self.bnneck = copy.deepcopy(model.heads.neck[0])
        self.part_necks = nn.ModuleList([nn.BatchNorm1d(64).double() for _ in range(2)])
        self.heads = nn.ParameterList([nn.Parameter(rows.detach().clone()) for rows in networks.classifiers])
        for neck in self.part_necks:
            neck.bias.requires_grad_(False)
        self.clusters, self.agreement, self.by_agreement = clusters, agreement, by_agreement

    def forward(self, pixels, targets, indices):
        x = self.base(pixels)
        f_g = self.bnneck(x.mean(dim=(2, 3)))
        f_p = [neck(x[:, :, row].mean(dim=2)) for row, neck in enumerate(self.part_necks)]
        logits_g, *logits_p = (
            (f @ w.T)[:, : self.clusters] for f, w in zip((f_g, *f_p), self.heads, strict=True)
        )
        ca = self.agreement[indices].double()
        hot = F.one_hot(targets, self.clusters).double()
        ensembled = sum(F.softmax(logits_p[i], 1) * ca.softmax(1)[:, i : i + 1] for i in range(2)).detach()
        gce = (-(0.5 * hot + 0.5 * ensembled) * F.log_softmax(logits_g, 1)).sum(1).mean()
        pce = 0
        for i in range(2):
            log = F.log_softmax(logits_p[i], 1)
            if self.by_agreement:
                uniform = torch.full_like(log, 1 / self.clusters)
                divergence = F.kl_div(log, uniform, reduction="none").sum(1)
                pce = pce + (ca[:, i] * -(hot * log).sum(1) + (1 - ca[:, i]) * divergence).mean() / 2
            else:
                pce = pce + (-(0.9 * hot + 0.1 / self.clusters) * log).sum(1).mean() / 2
        distances = torch.cdist(f_g, f_g, compute_mode="donot_use_mm_for_euclid_dist")
        same = targets[:, None] == targets
        far = distances.masked_fill(~same, -1).amax(1)
        close = distances.masked_fill(same, torch.inf).amin(1)
        tri = -F.log_softmax(torch.stack([far, close], 1), 1)[:, 1].mean()
        return {"loss_softmax_triplet": tri, "loss_whole": gce, "loss_parts": pce}


@pytest.mark.parametrize("iteration", [1, 6])
def test_five_steps_are_those_of_the_authors(method, iteration):
    method, model, networks = method
    model.double(), networks.double()  # so that rounding does not add up
    labels = method.label(iteration, images(), CAMERAS).estimate.labels
    method.begin_iteration(images().double(), labels, CAMERAS)
    theirs = Transcription(model, networks, 6, method.state_dict()["agreement"], iteration > 5)
    model.train()
    trained = [p for p in (*model.parameters(), *networks.parameters()) if p.requires_grad]
    optimizers = [
        torch.optim.SGD(parameters, lr=0.05)
        for parameters in (trained, [p for p in theirs.parameters() if p.requires_grad])
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        indices = torch.randint(48, (12,), generator=generator)
        batch = {"images": torch.rand(12, 3, 32, 16, generator=generator).double() * 255, "indices": indices}
        batch["targets"] = torch.from_numpy(labels)[indices]
        ours = model(batch)
        expected = theirs(model.preprocess_image(batch["images"]), batch["targets"], indices)
        torch.testing.assert_close(ours, expected)
        for optimizer, losses in zip(optimizers, (ours, expected), strict=True):
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        method.after_step()
    for rows, their_rows in zip(networks.classifiers, theirs.heads, strict=True):
        torch.testing.assert_close(rows, their_rows)
    assert "means" not in method.state_dict()


def test_with_cameras_whole_and_stripes_are_contrasted_and_the_state_has_all(synthetic_root, tmp_path):
    method, model, networks = built(synthetic_root, tmp_path, *CAMERAS_TOO)
    labels = method.label(1, images(), CAMERAS).estimate.labels
    method.begin_iteration(images(), labels, CAMERAS)
    state = method.state_dict()
    indices = torch.arange(0, 48, 4)
    batch = {
        "images": torch.rand(12, 3, 32, 16) * 255,
        "indices": indices,
        "targets": torch.from_numpy(labels)[indices],
        "camids": torch.from_numpy(CAMERAS)[indices],
    }
    losses = model.train()(batch)
    assert {"loss_proxy", "loss_part_proxies"} < losses.keys()
    assert losses["loss_part_proxies"] > 0
    sum(losses.values()).backward()
    assert all(value.grad is not None for value in networks.parameters() if value.requires_grad)
    # Their proxies do not move within an iteration.
    assert_same(method.state_dict(), state)
    other = built(synthetic_root, tmp_path, *CAMERAS_TOO)
    other[0].load_state_dict(state)
    assert_same(other[0].state_dict(), state)
    assert all(map(torch.equal, other[2].classifiers, networks.classifiers))


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("NPLP.PPLR.PARTS", 3), "PARTS must be between 1 and the 2 rows of the feature map, got 3"),
        (("NPLP.PPLR.BETA", 1.5), r"NPLP.PPLR.BETA must be in \[0, 1\], got 1.5"),
        (("NPLP.PPLR.EPSILON", 0.0), "NPLP.PPLR.EPSILON must be in"),
        (
            ("MODEL.LOSSES.NAME", "('SoftmaxTripletLoss','ClusterMemoryLoss')"),
            "keeps no table",
        ),
        (("MODEL.LOSSES.NAME", "('TripletLoss',)"), "needs 'SoftmaxTripletLoss' in MODEL.LOSSES.NAME"),
    ],
)
def test_what_does_not_fit_is_refused(synthetic_root, tmp_path, pair, message):
    with pytest.raises(UserError, match=message):
        built(synthetic_root, tmp_path, *pair)


def test_more_clusters_than_rows_end_the_run(synthetic_root, tmp_path):
    method, *_ = built(synthetic_root, tmp_path, "NPLP.PPLR.ROWS", 4)
    labels = method.label(1, images(), CAMERAS).estimate.labels
    with pytest.raises(UserError, match="ROWS must be at least the number of clusters, 6 in iteration 1"):
        method.begin_iteration(images(), labels, CAMERAS)
