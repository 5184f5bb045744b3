"""Which row a camera has, and how a model without tables, or with others, loads them."""

import numpy as np
import pytest
import torch

from nplp.data.datasets import index_cameras
from nplp.errors import UserError
from nplp.modeling.cameras import Cameras, read_names


def test_rows_are_the_numbers_of_training_batches():
    names = ["gate_2", "gate_10", "b", "gate_2", "Ä"]
    cameras = Cameras()
    cameras.assign(names)
    items = [("path", "person", name) for name in names]
    np.testing.assert_array_equal(cameras.rows(names, 5).numpy(), index_cameras(items))
    assert cameras.known == ("b", "gate_10", "gate_2", "Ä")
    assert cameras.rows(names, 5).tolist() == [2, 1, 0, 2, 3]


def test_unknown_cameras_have_the_last_row():
    cameras = Cameras()
    assert cameras.rows(["a"], 1).tolist() == [0]
    cameras.assign(["a", "b"])
    assert cameras.rows(["b", "c", 7], 3).tolist() == [1, 2, 2]
    assert cameras.rows(None, 2).tolist() == [2, 2]
    assert cameras.rows(torch.tensor([0, 1, 2, 3, -1, -9]), 6).tolist() == [0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("given", [["a"], torch.tensor([0]), torch.zeros(2, 1)])
def test_as_many_cameras_as_images(given):
    cameras = Cameras()
    cameras.assign(["a"])
    with pytest.raises(ValueError, match="2 images need as many cameras"):
        cameras.rows(given, 2)


def test_names_are_saved_and_loaded_whatever_there_was():
    ours, theirs = Cameras(), Cameras()
    assert ours.state_dict() == {}
    ours.assign(["a", "naïve | `x`"])
    theirs.assign(["c"])
    theirs.load_state_dict(ours.state_dict())
    assert theirs.known == ("a", "naïve | `x`")
    assert theirs.rows(["c"], 1).tolist() == [2]
    theirs.load_state_dict({})
    assert theirs.known == ()
    assert theirs.state_dict() == {}


@pytest.mark.parametrize("text", ["", "[", '["b", "a"]', '["a", "a"]', "[1]", '{"a": 1}', "[" * 100_000])
def test_what_is_no_list_of_names_is_refused(text):
    with pytest.raises(UserError, match="it is damaged"):
        read_names(text, "the file")
    saved = torch.tensor(list(text.encode()), dtype=torch.uint8)
    with pytest.raises(UserError, match="it is damaged"):
        Cameras().load_state_dict({"names": saved})
