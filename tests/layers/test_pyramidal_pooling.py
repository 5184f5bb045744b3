"""Pyramidal average pooling (section III-D a) against loops and torch's adaptive pooling."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.layers import PyramidalAveragePooling
from nplp.layers.pyramidal_pooling import stripe_rows


def naive_pyramid(feature_map: torch.Tensor, granularities: int) -> torch.Tensor:
    """C means for each stripe of H / i rows, for i = 1..I; H divisible by every i."""
    batch, channels, height, _ = feature_map.shape
    output = []
    for image in range(batch):
        values = []
        for i in range(1, granularities + 1):
            rows = height // i
            for stripe in range(i):
                values.extend(
                    feature_map[image, channel, stripe * rows : (stripe + 1) * rows].mean()
                    for channel in range(channels)
                )
        output.append(torch.stack(values))
    return torch.stack(output)


@pytest.mark.parametrize("granularities", [1, 2, 3, 4])
def test_matches_loop_where_height_divides(granularities: int) -> None:
    feature_map = torch.randn(2, 3, 12, 5, dtype=torch.float64)
    pooled = PyramidalAveragePooling(granularities)(feature_map)
    torch.testing.assert_close(pooled, naive_pyramid(feature_map, granularities))


def test_hand_computed_order() -> None:
    """Two channels, rows 1..4 and 10..40: granularity 1 first, then the upper half, then the lower."""
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    feature_map = rows.reshape(1, 2, 4, 1).expand(1, 2, 4, 3)
    pooled = PyramidalAveragePooling(2)(feature_map)
    assert pooled.tolist() == [[2.5, 25.0, 1.5, 15.0, 3.5, 35.0]]


def test_one_granularity_is_global_average_pooling() -> None:
    feature_map = torch.randn(2, 4, 7, 3)
    torch.testing.assert_close(PyramidalAveragePooling(1)(feature_map), feature_map.mean(dim=(2, 3)))


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 17), data=st.data())
def test_follows_adaptive_pooling_at_any_height(height: int, data: st.DataObject) -> None:
    granularities = data.draw(st.integers(1, min(height, 5)))
    pooling = PyramidalAveragePooling(granularities)
    feature_map = torch.randn(2, 3, height, 4, dtype=torch.float64)
    expected = [
        F.adaptive_avg_pool2d(feature_map, (i, 1)).squeeze(3).transpose(1, 2).flatten(1)
        for i in range(1, granularities + 1)
    ]
    pooled = pooling(feature_map)
    assert pooled.shape == (2, 3 * pooling.stripes)
    torch.testing.assert_close(pooled, torch.cat(expected, dim=1))


def test_stripes_share_a_row_where_height_does_not_divide() -> None:
    assert stripe_rows(5, 2) == [(0, 3), (2, 5)]
    assert stripe_rows(8, 3) == [(0, 3), (2, 6), (5, 8)]


def test_gradient() -> None:
    feature_map = torch.randn(2, 2, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PyramidalAveragePooling(3), feature_map)


def test_too_few_rows_names_shape_and_option() -> None:
    with pytest.raises(ValueError, match=r"\(2, 8, 1, 1\) has 1 row.*MODEL\.HEADS\.PAP"):
        PyramidalAveragePooling(2)(torch.zeros(2, 8, 1, 1))


def test_rejects_other_shapes_and_no_granularity() -> None:
    with pytest.raises(ValueError, match=r"must be \[B, C, H, W\], got shape \(2, 8\)"):
        PyramidalAveragePooling(1)(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        PyramidalAveragePooling(0)
