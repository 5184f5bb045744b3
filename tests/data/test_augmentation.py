"""One pass over the pixels: the toolbox's images to the bit, from the same random numbers."""

import numpy as np
import pytest
import torch
from fastreid.data.transforms import ToTensor, build_transforms
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import ColorJitter, Compose, Pad, RandomCrop, RandomErasing, RandomHorizontalFlip

from nplp.config import default_config
from nplp.data.augmentation import _InOnePass, of_pixels
from nplp.data.decoded import fixed_part


def pixels_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def both(transform, pixels, seed):
    """Return what the toolbox's steps give and what one pass gives, each with the next random number."""
    results = []
    for image, apply in ((Image.fromarray(pixels), transform), (pixels, of_pixels(transform))):
        torch.manual_seed(seed)
        results.append((apply(image), torch.rand(1)))
    return results


@given(
    seed=st.integers(0, 2**16),
    height=st.integers(3, 20),
    width=st.integers(3, 20),
    padding=st.none() | st.integers(0, 5),
    crop=st.booleans(),
    flip=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    erase=st.none() | st.sampled_from([0, "random", (1.0, 2.0, 3.0)]),
)
@settings(deadline=None, max_examples=60)
def test_any_usual_augmentation_gives_the_toolboxs_tensor(seed, height, width, padding, crop, flip, erase):
    parts = [
        *([] if padding is None else [Pad(padding)]),
        *([RandomCrop((height - 2, width - 1))] if crop else []),
        *([] if flip is None else [RandomHorizontalFlip(flip)]),
        ToTensor(),
        *([] if erase is None else [RandomErasing(0.5, value=erase)]),
    ]
    (theirs, next_theirs), (ours, next_ours) = both(Compose(parts), pixels_of(height, width, seed), seed)
    assert torch.equal(theirs, ours)
    assert theirs.dtype == ours.dtype
    assert ours.is_contiguous()
    assert next_theirs == next_ours


@pytest.mark.parametrize("is_train", [True, False])
def test_the_projects_own_configuration_goes_through_one_pass(is_train):
    cfg = default_config()
    cfg.INPUT.PADDING.ENABLED = cfg.INPUT.FLIP.ENABLED = cfg.INPUT.REA.ENABLED = True
    resize, rest = fixed_part(build_transforms(cfg, is_train=is_train))
    assert tuple(resize.size) == (256, 128)
    assert isinstance(of_pixels(rest), _InOnePass)
    for seed in range(20):
        (theirs, after), (ours, then) = both(rest, pixels_of(256, 128), seed)
        assert torch.equal(theirs, ours)
        assert after == then


@pytest.mark.parametrize(
    "parts",
    [
        [ColorJitter(0.5), ToTensor()],
        [RandomHorizontalFlip(), Pad(2), ToTensor()],
        [Pad(2, padding_mode="reflect"), ToTensor()],
        [Pad(2, fill=7), ToTensor()],
        [Pad((1, 2)), ToTensor()],
        [RandomCrop(4, padding=2), ToTensor()],
        [RandomCrop(12, pad_if_needed=True), ToTensor()],
    ],
)
def test_any_other_is_left_to_the_toolbox(parts):
    assert not isinstance(of_pixels(Compose(parts)), _InOnePass)
    (theirs, after), (ours, then) = both(Compose(parts), pixels_of(9, 9), 3)
    assert torch.equal(theirs, ours)
    assert after == then


def test_a_crop_larger_than_the_image_is_the_toolboxs_error():
    transform = of_pixels(Compose([RandomCrop(9), ToTensor()]))
    with pytest.raises(ValueError, match="larger than input image size"):
        transform(pixels_of(8, 8))
