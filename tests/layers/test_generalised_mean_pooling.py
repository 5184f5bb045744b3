"""GeM pooling, against its formula and the toolbox's layer."""

import pytest
import torch
from fastreid.layers.pooling import GeneralizedMeanPoolingP

from nplp.layers import GeneralisedMeanPooling, PyramidalAveragePooling


def feature_map(height=5):
    return torch.randn(2, 3, height, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("power", [1.0, 2.5, 3.0])
def test_each_stripe_is_its_generalised_mean(power):
    pooling, whole = GeneralisedMeanPooling(2), feature_map(4)
    pooling.p.data.fill_(power)
    stripes = [whole, whole[:, :, :2], whole[:, :, 2:]]
    expected = [
        (sum(max(float(x), 1e-6) ** power for x in values) / len(values)) ** (1 / power)
        for b in range(2)
        for stripe in stripes
        for values in stripe[b].flatten(1)
    ]
    torch.testing.assert_close(pooling(whole).flatten(), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_of_the_whole_map_it_is_the_toolboxs_layer_with_its_gradients():
    ours, theirs, values = GeneralisedMeanPooling(1), GeneralizedMeanPoolingP(), feature_map()
    torch.testing.assert_close(ours(values), theirs(values)[..., 0, 0])
    for pooling in (ours, theirs):
        pooling(values).square().sum().backward()
    torch.testing.assert_close(ours.p.grad, theirs.p.grad)


def test_a_power_of_one_averages_what_is_positive():
    pooling, values = GeneralisedMeanPooling(3), feature_map().abs() + 1
    pooling.p.data.fill_(1.0)
    torch.testing.assert_close(pooling(values), PyramidalAveragePooling(3)(values))


def test_half_precision_does_not_overflow():
    pooling, values = GeneralisedMeanPooling(1), torch.full((1, 2, 4, 4), 100.0, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pooling(values), torch.full((1, 2), 100.0))


def test_a_map_of_too_few_rows_is_refused():
    with pytest.raises(ValueError, match="too few for 3 granularities"):
        GeneralisedMeanPooling(3)(feature_map(2))
