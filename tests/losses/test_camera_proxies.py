"""The camera-proxy loss against its formula, image by image, and its table against the pairs of the data."""

import pytest
import torch

from nplp.losses import CameraProxyLoss

TEMPERATURE, MOMENTUM = 0.07, 0.2


def unit(vector):
    return vector / vector.pow(2).sum().sqrt()


def first_proxies(features, labels, cameras):
    """Return {(cluster, camera): proxy}, from the definition; nothing is shared with the library."""
    pairs = sorted({(a, b) for a, b in zip(labels.tolist(), cameras.tolist(), strict=True) if a >= 0})
    return {
        pair: unit(
            torch.stack(
                [
                    unit(row)
                    for row, a, b in zip(features, labels.tolist(), cameras.tolist(), strict=True)
                    if (a, b) == pair
                ]
            ).mean(0)
        )
        for pair in pairs
    }


def transcribed_step(proxies, features, labels, cameras, negatives, weight, intra, weights=None):
    """Return loss, gradient of the features and the next proxies."""
    f = features.clone().requires_grad_()
    total = 0.0
    batch = list(zip(f, labels.tolist(), cameras.tolist(), strict=True))
    for number, (row, cluster, camera) in enumerate(batch):
        x = unit(row)
        score = {pair: (x * proxy).sum() / TEMPERATURE for pair, proxy in proxies.items()}
        positives = [pair for pair in proxies if pair[0] == cluster and pair[1] != camera]
        others = sorted(
            (pair for pair in proxies if pair[0] != cluster), key=lambda pair: -score[pair].item()
        )
        own = 0.0
        if positives:
            chosen = torch.stack([score[pair] for pair in (*positives, *others[:negatives])])
            terms = [chosen.exp().sum().log() - score[pair] for pair in positives]
            own = own + weight * torch.stack(terms).mean()
        if intra:
            within = torch.stack([value for pair, value in score.items() if pair[1] == camera])
            own = own + intra * (within.exp().sum().log() - score[cluster, camera])
        total = total + (1.0 if weights is None else weights[number]) * own
    loss = total / len(f)
    loss.backward()
    moved = dict(proxies)
    for row, cluster, camera in zip(features, labels.tolist(), cameras.tolist(), strict=True):
        moved[cluster, camera] = unit(MOMENTUM * moved[cluster, camera] + (1 - MOMENTUM) * unit(row))
    return loss.detach(), f.grad, moved


def example(seed=0, count=60, clusters=8, cameras=4, width=12):
    """Return features, labels and cameras [count]; cluster 0 is in one camera alone, some images in none."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=generator, dtype=torch.float64)
    labels = torch.arange(count) % (clusters + 1) - 1
    seen_by = torch.randint(0, cameras, (count,), generator=generator)
    seen_by[labels == 0] = 2
    return features, labels, seen_by


def start(features, labels, cameras, **options):
    loss = CameraProxyLoss(TEMPERATURE, MOMENTUM, **options).double()
    loss.begin(features, labels, cameras)
    return loss


@pytest.mark.parametrize(
    ("options", "weighed"),
    [
        ({"negatives": 5, "weight": 0.5}, False),
        # More than there are: all of them.
        ({"negatives": 500, "weight": 1.0}, False),
        ({"negatives": 7, "weight": 0.5, "intra_weight": 1.0}, True),
        ({"negatives": 1, "weight": 0.0, "intra_weight": 0.3}, False),
    ],
)
def test_five_steps_are_those_of_the_formula(options, weighed):
    features, labels, cameras = example()
    loss = start(features, labels, cameras, **options)
    proxies = first_proxies(features, labels, cameras)
    generator = torch.Generator().manual_seed(1)
    inside = torch.nonzero(labels >= 0).flatten()
    for _ in range(5):
        # Several images of a pair in mixed order: the order of the updates matters.
        chosen = inside[torch.randint(0, len(inside), (24,), generator=generator)]
        batch = torch.randn(24, 12, generator=generator, dtype=torch.float64)
        weights = torch.rand(24, generator=generator, dtype=torch.float64) if weighed else None
        values = batch.clone().requires_grad_()
        value = loss(values, labels[chosen], cameras[chosen], weights)
        value.backward()
        expected, gradient, proxies = transcribed_step(
            proxies,
            batch,
            labels[chosen],
            cameras[chosen],
            options["negatives"],
            options["weight"],
            options.get("intra_weight", 0.0),
            weights,
        )
        torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(values.grad, gradient, rtol=1e-12, atol=1e-12)
        table = torch.stack(list(proxies.values()))
        torch.testing.assert_close(loss.table, table, rtol=1e-12, atol=1e-12)


def test_a_cluster_of_one_camera_is_drawn_nowhere_and_moves_its_proxy():
    features, labels, cameras = example()
    loss = start(features, labels, cameras)
    before = loss.table.clone()
    image = torch.ones(1, 12, dtype=torch.float64, requires_grad=True)
    value = loss(image, torch.tensor([0]), torch.tensor([2]))
    value.backward()
    assert value.item() == 0
    assert not image.grad.any()
    assert (loss.table != before).any(dim=1).nonzero().flatten().tolist() == [0]


def test_one_cluster_leaves_nothing_to_contrast_with():
    features, labels, cameras = example(clusters=1)
    labels[:] = 0
    cameras = torch.arange(len(labels)) % 2
    loss = start(features, labels, cameras)
    values = features[:4].clone().requires_grad_()
    # The only candidate is the only positive.
    value = loss(values, labels[:4], cameras[:4])
    value.backward()
    assert value.item() == 0
    assert not values.grad.any()


def test_the_own_proxy_of_the_pair_is_in_no_sum_across_cameras():
    features, labels, cameras = example()
    loss = start(features, labels, cameras)
    pair = next(iter((a, b) for a, b in zip(labels.tolist(), cameras.tolist(), strict=True) if a > 0))
    value = loss(features[:1], torch.tensor([pair[0]]), torch.tensor([pair[1]]))
    rows = sorted({(a, b) for a, b in zip(labels.tolist(), cameras.tolist(), strict=True) if a >= 0})
    loss.table[rows.index(pair)] = unit(features[0])
    assert loss(features[:1], torch.tensor([pair[0]]), torch.tensor([pair[1]])) == value


def test_saved_proxies_bring_the_loss_back_to_the_bit():
    features, labels, cameras = example()
    loss, other = start(features, labels, cameras), CameraProxyLoss(TEMPERATURE, MOMENTUM).double()
    inside = labels >= 0
    values = features[inside].requires_grad_()
    loss(values, labels[inside], cameras[inside]).backward()
    state = loss.proxies()
    other.restore_proxies(state)
    again = [each(values, labels[inside], cameras[inside]).item() for each in (loss, other)]
    assert again[0] == again[1]
    loss(values, labels[inside], cameras[inside]).backward()
    # What was saved is a copy.
    assert torch.equal(state["table"], other.table)
    assert not torch.equal(state["table"], loss.table)


def test_a_table_that_never_began_is_saved_and_brought_back():
    loss = CameraProxyLoss()
    loss.restore_proxies(loss.proxies())
    with pytest.raises(ValueError, match="the lookup table is empty"):
        loss(torch.rand(2, 3), torch.tensor([0, 1]), torch.tensor([0, 0]))


@pytest.mark.parametrize("camera", [-1, 0, 3, 99])
def test_a_camera_without_a_proxy_is_named(camera):
    features, labels, cameras = example()
    loss = start(features, labels, cameras)
    with pytest.raises(ValueError, match=f"no proxy of cluster 0 in camera {camera}"):
        loss(features[:2], torch.tensor([1, 0]), torch.tensor([int(cameras[labels == 1][0]), camera]))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("momentum", 1.5),
        ("temperature", 0.0),
        ("negatives", 0),
        ("weight", -0.1),
        ("intra_weight", float("inf")),
    ],
)
def test_rejects_options(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be .* got {value}"):
        CameraProxyLoss(**{option: value})


def test_rejects_cameras_that_do_not_fit():
    features, labels, cameras = example()
    loss = CameraProxyLoss()
    with pytest.raises(ValueError, match="cameras must be 60 numbers of at least 0"):
        loss.begin(features, labels, cameras[:5])
    with pytest.raises(ValueError, match="cameras must be 60 numbers of at least 0"):
        loss.begin(features, labels, cameras - 1)
    loss.begin(features, labels, cameras)
    with pytest.raises(ValueError, match="camids must be 2 integers"):
        loss(features[:2].float(), torch.tensor([1, 0]), torch.tensor([0]))
