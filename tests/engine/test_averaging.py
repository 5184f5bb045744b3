"""The exponential moving average of the weights."""

import pytest
import torch
from torch import nn

from nplp.engine.averaging import WeightAverage


def test_average_follows_the_recurrence():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = WeightAverage(model, decay=0.5)
    expected = 0.0
    for step in range(6):
        model.weight.data.fill_(float(step + 1))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
        assert average.weights()["weight"].item() == pytest.approx(expected)


def test_integer_buffers_are_copied():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.9)
    model.num_batches_tracked.fill_(7)
    average.update()
    assert average.weights()["num_batches_tracked"].item() == 7


def test_applied_swaps_and_restores_even_after_an_error():
    model = nn.Linear(1, 1)
    average = WeightAverage(model, decay=0.9)
    start = model.weight.item()
    model.weight.data.add_(1.0)
    seen = []
    try:
        with average.applied():
            seen.append(model.weight.item())
            raise RuntimeError
    except RuntimeError:
        pass
    assert seen == [start]
    assert model.weight.item() == start + 1.0


def test_state_round_trip_and_restart():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    model.weight.data.add_(1.0)
    average.update()
    other = WeightAverage(nn.Linear(2, 2), decay=0.9)
    other.load_state_dict(average.state_dict())
    torch.testing.assert_close(other.weights()["weight"], average.weights()["weight"])
    assert other.steps == 1
    average.restart()
    torch.testing.assert_close(average.weights()["weight"], model.weight.data)
    assert average.steps == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="decay must be in"):
        WeightAverage(nn.Linear(1, 1), decay)
