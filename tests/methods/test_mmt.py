"""Mutual mean-teaching: five steps against its formulas, labels, rows, states, and what is refused."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nplp.clustering import estimate_pseudo_labels
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.methods import build_method
from tiny import make_tiny_cfg

PAIRS = (
    *("NPLP.METHOD", "mmt", "MODEL.LOSSES.NAME", "('MutualTeachingLoss',)", "MODEL.HEADS.PAP", 1),
    *("MODEL.HEADS.FUSION", "concat", "MODEL.HEADS.OUTPUT", "f_bn", "MODEL.HEADS.NECK_BIAS", False),
)
LABELS = np.repeat(np.arange(6), 8)


def mmt_cfg(synthetic_root, output, *pairs):
    return make_tiny_cfg(synthetic_root, output, *PAIRS, *pairs)


def refuse_to_load(network, path):
    raise AssertionError(path)


@pytest.fixture
def trained(synthetic_root, tmp_path):
    """A method with its model, and what trains beside it, all begun from the model's weights."""
    cfg = mmt_cfg(synthetic_root, tmp_path)
    torch.manual_seed(0)
    model = ReidTrainer.build_model(cfg)
    method = build_method(cfg, model)
    networks = method.build_networks(len(LABELS))
    method.start(refuse_to_load)
    return method, model, networks


def planted():
    rng = np.random.default_rng(0)
    return torch.from_numpy((np.eye(64)[LABELS] + 0.05 * rng.normal(size=(48, 64))).astype(np.float32))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    views = [torch.rand(8, 3, 32, 16, generator=generator) * 255 for _ in range(2)]
    targets = torch.tensor([0, 0, 1, 1, 2, 2, 5, 5])
    return {"images": views[0], "second_images": views[1], "targets": targets}


def distances(features):
    return (features.unsqueeze(0) - features.unsqueeze(1)).square().sum(2).clamp(min=1e-12).sqrt()


def triplet_logs(features, targets, pairs=None):
    """Return log softmax(d_p, d_n) of each anchor, and the pairs."""
    far, same = distances(features), targets.unsqueeze(0) == targets.unsqueeze(1)
    if pairs is None:
        pairs = (far - 1e6 * ~same).argmax(1), (far + 1e6 * same).argmin(1)
    rows = torch.arange(len(far))
    return torch.stack([far[rows, pairs[0]], far[rows, pairs[1]]], 1).log_softmax(1), pairs


def transcribed_step(students, teachers, rows, data, optimizer, step):
    """The step as the authors' formulas have it: networks, teachers, rows of all four by number."""
    views, targets, count = (data["images"], data["second_images"]), data["targets"], 6
    seen = []
    for number, network in enumerate((*students, *teachers)):
        pooled = network.backbone(network.preprocess_image(views[number % 2])).mean((2, 3))
        seen.append((pooled, F.linear(network.heads.neck[0](pooled), rows[number][:count])))
    wanted = 0.9 * F.one_hot(targets, count) + 0.1 / count
    loss = 0.0
    for (features, logits), (soft_features, soft_logits) in ((seen[0], seen[3]), (seen[1], seen[2])):
        logs = logits.log_softmax(1)
        loss -= 0.5 * (wanted * logs).sum(1).mean() + 0.5 * (soft_logits.softmax(1) * logs).sum(1).mean()
        logs, pairs = triplet_logs(features, targets)
        soft = triplet_logs(soft_features, targets, pairs)[0].exp().detach()
        loss -= 0.2 * logs[:, 1].mean() + 0.8 * (soft * logs).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    kept = min(1 - 1 / (step + 1), 0.999)
    for number in range(2):
        fast = [*students[number].parameters(), rows[number]]
        slow = [*teachers[number].parameters(), rows[2 + number]]
        for mean, value in zip(slow, fast, strict=True):
            mean.data.mul_(kept).add_((1 - kept) * value.data)
    return loss.item()


def test_five_steps_are_those_of_the_formulas(trained):
    method, model, networks = trained
    method.begin_iteration(planted(), LABELS, LABELS % 3)
    rows = [row.detach().clone().requires_grad_(number < 2) for number, row in enumerate(networks["rows"])]
    students = [copy.deepcopy(network) for network in networks["students"]]
    teachers = [copy.deepcopy(network) for network in (model, networks["second_teacher"])]
    learned = [p for network in students for p in network.parameters() if p.requires_grad]
    theirs = torch.optim.Adam([*learned, *rows[:2]], lr=3.5e-4)
    ours = torch.optim.Adam([p for p in networks.parameters() if p.requires_grad], lr=3.5e-4)
    model.objective = method.losses
    for step in range(5):
        losses = model(batch(step))
        ours.zero_grad()
        sum(losses.values()).backward()
        ours.step()
        method.after_step()
        expected = transcribed_step(students, teachers, rows, batch(step), theirs, step)
        assert sum(losses.values()).item() == pytest.approx(expected, rel=1e-4)
    for found, wanted in zip(networks["rows"], rows, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    for found, wanted in (
        *zip(networks["students"], students, strict=True),
        *zip((model, networks["second_teacher"]), teachers, strict=True),
    ):
        for name, value in found.state_dict().items():
            torch.testing.assert_close(value, wanted.state_dict()[name], rtol=2e-3, atol=5e-4)
    # Teachers' statistics are of their own batches, their weights means that lag behind.
    assert not torch.equal(model.heads.neck[0].weight, networks["students"][0].heads.neck[0].weight)


def test_after_the_first_step_a_teacher_is_its_network(trained):
    method, model, networks = trained
    method.begin_iteration(planted(), LABELS, LABELS % 3)
    for parameter in networks["students"].parameters():
        parameter.data.add_(0.25)
    method.after_step()
    pairs = zip(model.parameters(), networks["students"][0].parameters(), strict=True)
    assert all(torch.equal(slow, fast) for slow, fast in pairs)


def test_rows_begin_as_the_means_of_directions(trained):
    method, _, networks = trained
    features = planted() * torch.rand(48, 1).add(0.5)
    method.begin_iteration(features, LABELS, LABELS % 3)
    means = F.normalize(F.normalize(features).reshape(6, 8, 64).mean(1))
    for rows in networks["rows"]:
        torch.testing.assert_close(rows[:6], means)
        assert not rows[6:].any()
    assert [rows.requires_grad for rows in networks["rows"]] == [True, True, False, False]


def test_the_first_radius_is_kept(trained):
    method, _, _ = trained
    features, cameras = planted(), LABELS % 3
    method._options = SimpleNamespace(**{**method._options, "RHO": 0.1})
    first = method.label(1, features, cameras).estimate
    expected = estimate_pseudo_labels(
        F.normalize(features),
        cameras,
        alpha=0.1,
        epsilon_pairs="all",
        distance="relative_jaccard",
        correct=False,
    )
    assert first.epsilon_e == expected.epsilon_e > 0
    np.testing.assert_array_equal(first.labels, expected.labels)
    state = method.state_dict()
    method.load_state_dict(state)
    assert method.label(2, features.flip(1) ** 2, cameras).estimate.epsilon_e == first.epsilon_e


def test_a_state_brings_rows_that_no_step_has_moved(trained):
    method, _, networks = trained
    method.begin_iteration(planted(), LABELS, LABELS % 3)
    state, begun = method.state_dict(), networks["rows"][0].detach().clone()
    for rows in networks["rows"]:
        rows.data.zero_()
    method.load_state_dict(state)
    assert all(torch.equal(rows, begun) for rows in networks["rows"])
    method.after_step()
    assert "means" not in method.state_dict()


def test_a_second_source_model_is_the_second_pairs(synthetic_root, tmp_path):
    cfg = mmt_cfg(synthetic_root, tmp_path, "NPLP.MMT.SECOND_WEIGHTS", "other.pth")
    model = ReidTrainer.build_model(cfg)
    method = build_method(cfg, model)
    networks = method.build_networks(4)
    asked = []

    def load(network, path):
        asked.append(path)
        network.heads.neck[0].weight.data.fill_(3)

    assert "other.pth" in method.start(load)
    assert asked == ["other.pth"]
    weights = [network.heads.neck[0].weight for network in networks["students"]]
    assert [weight.mean().item() for weight in weights] == [1, 3]
    assert networks["second_teacher"].heads.neck[0].weight.mean().item() == 3


def test_networks_are_in_the_optimiser_and_the_model_is_not(synthetic_root, tmp_path):
    items = [(f"{number}.png", -1, number % 2) for number in range(10)]
    trainer = AdaptationTrainer(mmt_cfg(synthetic_root, tmp_path), items, [], None)
    networks = trainer.trained.networks
    taught = sum(value.numel() for value in networks.parameters() if value.requires_grad)
    assert sum(p.numel() for group in trainer.optimizer.param_groups for p in group["params"]) == taught
    assert not any(value.requires_grad for value in trainer.bare_model.parameters())
    assert networks["rows"][0].shape == (10, 64)
    assert not any(name.startswith("networks") for name in trainer.bare_model.state_dict())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("NPLP.MMT.RHO", 0.0), r"NPLP\.MMT\.RHO must be in \(0, 1\], got 0\.0"),
        (("NPLP.MMT.MIN_SAMPLES", 0), r"NPLP\.MMT\.MIN_SAMPLES must be at least 1, got 0"),
        (("NPLP.MMT.K1", 0), r"NPLP\.MMT\.K1 must be at least 1"),
        (("NPLP.MMT.K2", 50), r"NPLP\.MMT\.K2 must be between 1 and NPLP\.MMT\.K1, got 50"),
        (("NPLP.MMT.DECAY", 1.0), r"NPLP\.MMT\.DECAY must be in \[0, 1\), got 1\.0"),
        (("NPLP.MMT.TWO_VIEWS", False), r"NPLP\.MMT\.TWO_VIEWS must be True with one source model"),
        (("NPLP.EMA", True), r"NPLP\.EMA must be False: .* with NPLP\.METHOD mmt, got True"),
        (("SOLVER.HEADS_LR_FACTOR", 10.0), r"SOLVER\.HEADS_LR_FACTOR must be 1 with NPLP\.METHOD mmt"),
        (
            ("MODEL.LOSSES.NAME", "('MutualTeachingLoss','TripletLoss')"),
            r"MODEL\.LOSSES\.NAME must be \('MutualTeachingLoss',\) alone",
        ),
        (("MODEL.LOSSES.NAME", "('TripletLoss',)"), r"'mmt' needs 'MutualTeachingLoss'"),
        (("MODEL.HEADS.OUTPUT", "f_e"), r"'mmt' needs MODEL\.HEADS\.OUTPUT 'f_bn', got 'f_e'"),
    ],
)
def test_what_it_cannot_do_is_named(synthetic_root, tmp_path, pairs, message):
    cfg = mmt_cfg(synthetic_root, tmp_path, *pairs)
    with pytest.raises(UserError, match=message):
        build_method(cfg, ReidTrainer.build_model(cfg))
