"""The hyper-network (section III-D b): one fully connected layer."""

import pytest
import torch

from nplp.layers import HyperNetwork


def test_is_one_affine_map() -> None:
    network = HyperNetwork(6, 4).double()
    f_c = torch.randn(3, 6, dtype=torch.float64)
    expected = torch.stack([network.fc.weight @ row + network.fc.bias for row in f_c])
    torch.testing.assert_close(network(f_c), expected)
    assert sum(parameter.numel() for parameter in network.parameters()) == 6 * 4 + 4


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = HyperNetwork(512, 256)
    assert torch.equal(network.fc.bias, torch.zeros(256))
    assert network.fc.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("in_features", "out_features", "name"), [(0, 4, "in_features"), (4, 0, "out_features")]
)
def test_rejects_empty_sizes(in_features: int, out_features: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        HyperNetwork(in_features, out_features)
