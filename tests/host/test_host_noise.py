"""Image conversion and serialisation without warnings, with the same results."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from fastreid.data.transforms import functional, transforms
from fastreid.utils import comm
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def expected_tensor(image: Image.Image) -> torch.Tensor:
    """Build the tensor pixel by pixel, as PIL gives them."""
    width, height = image.size
    channels = len(image.getbands())
    result = torch.empty(channels, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            pixel = image.getpixel((x, y))
            for c, value in enumerate(pixel if isinstance(pixel, tuple) else (pixel,)):
                result[c, y, x] = value
    return result


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "1"])
@given(seed=st.integers(0, 2**16), width=st.integers(1, 5), height=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_images_of_8_bits_become_floats(mode, seed, width, height):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    tensor = functional.to_tensor(image)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert torch.equal(tensor.double(), expected_tensor(image))


@pytest.mark.parametrize(
    ("mode", "array", "dtype"),
    [
        ("I", np.array([[-3, 70000]], dtype=np.int32), torch.int32),
        ("F", np.array([[-0.5, 2.25]], dtype=np.float32), torch.float32),
        ("I;16", np.array([[3, 30000]], dtype=np.uint16), torch.int16),
    ],
)
def test_wider_images_keep_their_type(mode, array, dtype):
    image = Image.fromarray(array)
    assert image.mode == mode
    tensor = functional.to_tensor(image)
    assert tensor.dtype == dtype
    assert torch.equal(tensor, torch.from_numpy(array.astype(np.float64)).to(dtype)[None])


def test_arrays_are_converted_as_before():
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert torch.equal(functional.to_tensor(array), torch.from_numpy(array).permute(2, 0, 1).float())
    assert functional.to_tensor(array.astype(np.float64)).dtype == torch.float64


def test_the_result_does_not_share_memory_with_the_image():
    image = Image.new("F", (2, 2), 1.5)
    functional.to_tensor(image).zero_()
    assert image.getpixel((0, 0)) == 1.5


def test_nothing_warns_any_more():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transforms.ToTensor()(Image.new("RGB", (2, 2)))


def test_data_survives_serialisation(monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_backend", lambda group: "gloo")
    data = {"a": [1, 2], "b": torch.arange(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = comm._serialize_to_tensor(data, group=None)
    assert tensor.dtype == torch.uint8
    assert tensor.device.type == "cpu"
    back = pickle.loads(tensor.numpy().tobytes())
    assert back["a"] == [1, 2]
    assert torch.equal(back["b"], data["b"])
