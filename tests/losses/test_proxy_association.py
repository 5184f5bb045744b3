"""CAP's and O2CAP's losses against transcriptions of their formulas, and the choice of proxies by hand."""

import pytest
import torch

from nplp.losses import CameraProxyLoss
from nplp.losses.proxy_association import hardest, nearest_of_cameras

TEMPERATURE, MOMENTUM, IMAGES, WIDTH = 0.07, 0.2, 90, 10
CAP = {"positives": "all", "reduction": "cameras", "intra_weight": 1.0, "weight": 0.5}
O2CAP = {"positives": "all", "reduction": "cameras", "weight": 1.0, "online_weight": 1.0}


def unit(vector):
    return vector / vector.pow(2).sum().sqrt()


def data(cameras, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(IMAGES, WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.arange(IMAGES) % 9 - 1
    seen_by = torch.randint(0, cameras, (IMAGES,), generator=generator)
    seen_by[labels == 3] = 0
    return features, labels, seen_by


def begun(features, labels, cameras):
    pairs = sorted({(a, b) for a, b in zip(labels.tolist(), cameras.tolist(), strict=True) if a >= 0})
    rows = {
        pair: [unit(row) for row, *own in zip(features, labels, cameras, strict=True) if (*own,) == pair]
        for pair in pairs
    }
    return {pair: unit(torch.stack(images).mean(0)) for pair, images in rows.items()}


def mean_log_softmax(score, positives, negatives):
    total = torch.stack([score[pair] for pair in (*positives, *negatives)]).exp().sum().log()
    return torch.stack([total - score[pair] for pair in positives]).mean()


def cap_of_image(proxies, score, x, own, negatives, across):
    """Cross-entropy over the own camera's proxies, and half the contrast of all the cluster's."""
    loss = mean_log_softmax(score, [own], [pair for pair in proxies if pair[1] == own[1] and pair != own])
    if across:
        positives = [pair for pair in proxies if pair[0] == own[0]]
        others = sorted((pair for pair in proxies if pair[0] != own[0]), key=lambda pair: -score[pair].item())
        loss = loss + 0.5 * mean_log_softmax(score, positives, others[:negatives])
    return loss


def o2cap_of_image(proxies, score, x, own, negatives, across):
    """The contrast of all the cluster's proxies, and of three of the proxies that each camera has nearest."""
    if not across:
        return 0 * x.sum()
    positives = [pair for pair in proxies if pair[0] == own[0]]
    others = sorted((pair for pair in proxies if pair[0] != own[0]), key=lambda pair: -score[pair].item())
    offline = mean_log_softmax(score, positives, others[:negatives])
    u = {pair: (0.15 * x + 0.85 * proxies[own]).dot(proxy).item() for pair, proxy in proxies.items()}
    by_camera = {}
    for pair in sorted(proxies, key=lambda pair: u[pair]):
        by_camera[pair[1]] = pair
    chosen = sorted(by_camera.values(), key=lambda pair: -u[pair])[:3]
    others = sorted((pair for pair in proxies if pair not in chosen), key=lambda pair: -u[pair])
    return offline + mean_log_softmax(score, chosen, others[:negatives])


def transcribed_step(of_image, proxies, features, labels, cameras, negatives, across):
    """Return loss, gradient and the next proxies: each camera's mean, added up."""
    f = features.clone().requires_grad_()
    loss = 0.0
    for camera in sorted(set(cameras.tolist())):
        terms = []
        for row, cluster, seen_by in zip(f, labels.tolist(), cameras.tolist(), strict=True):
            if seen_by == camera:
                x = unit(row)
                score = {pair: x.dot(proxy) / TEMPERATURE for pair, proxy in proxies.items()}
                terms.append(of_image(proxies, score, x, (cluster, camera), negatives, across))
        loss = loss + torch.stack(terms).mean()
    loss.backward()
    moved = dict(proxies)
    for row, a, b in zip(features, labels.tolist(), cameras.tolist(), strict=True):
        moved[a, b] = unit(MOMENTUM * moved[a, b] + (1 - MOMENTUM) * unit(row))
    return loss.detach(), f.grad, moved


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("cameras", [2, 5])
@pytest.mark.parametrize("negatives", [6, 500])
@pytest.mark.parametrize(("of_image", "options"), [(cap_of_image, CAP), (o2cap_of_image, O2CAP)])
def test_five_steps_are_those_of_the_formula(of_image, options, negatives, cameras, across):
    features, labels, seen_by = data(cameras)
    loss = CameraProxyLoss(TEMPERATURE, MOMENTUM, negatives=negatives, **options).double()
    loss.begin(features, labels, seen_by)
    loss.across = across
    proxies = begun(features, labels, seen_by)
    generator = torch.Generator().manual_seed(1)
    inside = torch.nonzero(labels >= 0).flatten()
    for _ in range(5):
        chosen = inside[torch.randint(0, len(inside), (16,), generator=generator)]
        # Near the image's own, as features are; several images of a pair come in mixed order.
        batch = features[chosen] + torch.randn(16, WIDTH, generator=generator, dtype=torch.float64)
        values = batch.clone().requires_grad_()
        value = loss(values, labels[chosen], seen_by[chosen])
        value.backward()
        arguments = (batch, labels[chosen], seen_by[chosen], negatives, across)
        expected, gradient, proxies = transcribed_step(of_image, proxies, *arguments)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(values.grad, gradient, rtol=1e-11, atol=1e-11)
        table = torch.stack(list(proxies.values()))
        torch.testing.assert_close(loss.table, table, rtol=1e-12, atol=1e-12)


def test_the_sum_of_cameras_means_is_the_mean_where_there_is_one_camera():
    features, labels, cameras = data(1)
    inside = labels >= 0
    values = [
        CameraProxyLoss(intra_weight=1.0, positives="all", reduction=reduction)
        for reduction in ("mean", "cameras")
    ]
    for loss in values:
        loss.begin(features, labels, cameras)
    first, second = (loss(features[inside], labels[inside], cameras[inside]) for loss in values)
    torch.testing.assert_close(first, second)


def test_weights_count_within_each_cameras_mean():
    features, labels, cameras = data(3)
    loss = CameraProxyLoss(intra_weight=1.0, reduction="cameras")
    loss.begin(features, labels, cameras)
    chosen = torch.nonzero(labels >= 0).flatten()[:12]
    arguments = features[chosen], labels[chosen], cameras[chosen]
    weights = torch.rand(12, dtype=torch.float64)
    alone = sum(
        loss(*(value[k : k + 1] for value in arguments))
        * weights[k]
        / (cameras[chosen] == cameras[chosen[k]]).sum()
        for k in range(12)
    )
    torch.testing.assert_close(loss(*arguments, weights), alone)


def test_each_camera_gives_its_nearest_proxy():
    cameras = torch.tensor([0, 1, 0, 2, 1])
    similarities = torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.4], [0.9, 0.1, 0.8, 0.7, 0.2]])
    assert nearest_of_cameras(similarities, cameras, 2).int().tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 1, 0]]
    assert nearest_of_cameras(similarities, cameras, 1).int().tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    # Three cameras give three.
    assert nearest_of_cameras(similarities, cameras, 9).int().tolist() == [[0, 1, 1, 1, 0], [1, 0, 0, 1, 1]]


def test_the_hardest_are_never_excluded_ones():
    similarities = torch.tensor([[0.9, 0.5, 0.3, 0.7]])
    excluded = torch.tensor([[True, False, False, True]])
    assert hardest(similarities, excluded, 1).int().tolist() == [[0, 1, 0, 0]]
    assert hardest(similarities, excluded, 3).int().tolist() == [[0, 1, 1, 0]]
    assert not hardest(similarities, torch.ones_like(excluded), 2).any()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("positives", "own"),
        ("reduction", "sum"),
        ("online_weight", -1.0),
        ("online_positives", 0),
        ("balance", 1.1),
    ],
)
def test_rejects_options(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be .* got {value!r}"):
        CameraProxyLoss(**{option: value})
