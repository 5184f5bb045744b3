"""Backgrounds: one wide, structured scene for each camera, of which every image shows a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nplp_synthetic.camera import camera_of
from nplp_synthetic.plaza import facade, park, shops, street
from nplp_synthetic.scenery import Scenery
from nplp_synthetic.spec import DomainSpec, generator
from nplp_synthetic.station import gates, hall, passage, platform

__all__ = ["backdrop"]

# Size of a scene in sizes of an image.
_SCENE_WIDTHS = 6
_SCENE_HEIGHTS = 1.2
_STAINS = 0.05

_SCENES: Mapping[str, tuple[Callable[[Scenery], None], ...]] = MappingProxyType(
    {
        "plaza": (facade, park, shops, street),
        "station": (passage, platform, hall, gates),
        "campus": (facade, passage, park, hall, shops, platform, street, gates),
        "harbour": (street, hall, facade, gates, park, platform),
    }
)

# The plain tone, red, green and blue, that a domain's backgrounds stray from.
_TONES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "plaza": (158, 152, 142),
        "station": (128, 132, 132),
        "campus": (146, 138, 130),
        "harbour": (138, 146, 150),
    }
)


@lru_cache(maxsize=64)
def backdrop(spec: DomainSpec, camera: int) -> Image.Image:
    """Draw the scene of a camera.

    Args:
        spec: The domain.
        camera: Camera, from 1.

    Returns:
        An RGB picture 6 times as wide and 1.2 times as high as an image of the domain. It is shared
        between calls and must not be changed; up to 64 are kept, 0.2 MB each for 128 x 64 images.
    """
    rng = generator(spec, "scene", camera)
    height, width = round(spec.image_size[0] * _SCENE_HEIGHTS), spec.image_size[1] * _SCENE_WIDTHS
    # The more a camera looks down, the higher in its picture the ground begins.
    ground = round(height * (0.66 - 0.9 * camera_of(spec, camera).pitch + rng.uniform(-0.05, 0.05)))
    picture = Image.new("RGB", (width, height))
    scenes = _SCENES[spec.name]
    order = generator(spec, "scene order").permutation(len(scenes))
    scenes[int(order[(camera - 1) % len(scenes)])](
        Scenery(ImageDraw.Draw(picture), rng, width, height, ground)
    )
    picture = picture.filter(ImageFilter.GaussianBlur(height / 300))
    pixels = np.asarray(picture, np.float32) * _stains(rng, width, height)
    tone = np.asarray(_TONES[spec.name], np.float32)
    pixels = tone + (pixels - tone) * np.float32(spec.difficulty.clutter)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _stains(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return float32 factors around 1, [height, width, 1]: large soft stains and a fine grain."""
    coarse = Image.fromarray(rng.integers(0, 256, (9, 33)).astype(np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = rng.standard_normal((height, width), dtype=np.float32)
    return (1 + _STAINS * ((soft - 128) / 64 + 0.5 * grain))[..., None]
