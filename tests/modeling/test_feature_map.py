"""The dry run of a backbone: what it refuses and what it leaves alone."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from torch import nn

from nplp.errors import UserError
from nplp.modeling import check_feature_map


class Fixed(nn.Module):
    """A backbone that returns what it was given."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: torch.Tensor) -> Any:
        assert images.shape == (1, 3, 64, 32)
        assert not torch.is_grad_enabled()
        return self.output


def test_accepts_a_map_that_fits(make_cfg: Callable[..., Any]) -> None:
    check_feature_map(make_cfg(MODEL__HEADS__PAP=4), Fixed(torch.zeros(1, 512, 4, 2)))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            torch.zeros(1, 256, 4, 2),
            r"build_resnet_backbone gives .*\(1, 256, 4, 2\).*set MODEL.BACKBONE.FEAT_DIM to 256, got 512",
        ),
        (
            torch.zeros(1, 512, 1, 1),
            r"build_resnet_backbone gives .*\(1, 512, 1, 1\), 1 row.*set MODEL.HEADS.PAP to at most 1, got 2",
        ),
        (torch.zeros(1, 512), r"gives shape \(1, 512\) .*not a feature map.*MODEL.BACKBONE.NAME"),
        ([torch.zeros(1, 512, 4, 2)], r"gives a list .*not a feature map.*MODEL.BACKBONE.NAME"),
    ],
)
def test_refuses_in_one_line(make_cfg: Callable[..., Any], output: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_feature_map(make_cfg(), Fixed(output))
    assert "\n" not in str(error.value)


def test_building_the_model_runs_the_check(make_cfg: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"set MODEL\.BACKBONE\.FEAT_DIM to 512, got 2048"):
        build_model(make_cfg(MODEL__BACKBONE__FEAT_DIM=2048))


def test_leaves_statistics_modes_gradients_and_random_states_alone(make_cfg: Callable[..., Any]) -> None:
    class Noisy(nn.Sequential):
        """Draws a random number even in evaluation."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images + torch.rand(1))

    backbone = Noisy(nn.Conv2d(3, 512, 16, 16), nn.BatchNorm2d(512), nn.Dropout(0.5), nn.BatchNorm2d(512))
    backbone[3].eval()
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    check_feature_map(make_cfg(), backbone)
    assert [module.training for module in backbone] == [True, True, True, False]
    assert backbone.training
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])
    assert random.getstate() == python_state


def test_modes_come_back_after_a_failure(make_cfg: Callable[..., Any]) -> None:
    backbone = nn.Sequential(nn.Conv2d(4, 8, 3))
    with pytest.raises(RuntimeError):
        check_feature_map(make_cfg(), backbone)
    assert backbone.training
    assert backbone[0].training
