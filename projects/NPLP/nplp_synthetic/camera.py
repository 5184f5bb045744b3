"""The cameras of a domain: viewpoint, light, colours and picture quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from nplp_synthetic.spec import DomainSpec, generator

__all__ = ["Camera", "Light", "camera_of", "develop"]

# Height in pixels at which blur and noise are stated.
_REFERENCE_HEIGHT = 128


@dataclass(frozen=True)
class Light:
    """A departure from neutral light: exposure in stops, contrast, colour cast and saturation.

    Attributes:
        exposure: Stops of brightness.
        gamma: Logarithm of the exponent: above 0 darkens the middle.
        contrast: Logarithm of the contrast around the middle grey.
        warmth: Logarithm of red over blue.
        tint: Logarithm of green over red and blue.
        saturation: Logarithm of the saturation.
    """

    exposure: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    warmth: float = 0.0
    tint: float = 0.0
    saturation: float = 0.0

    def plus(self, other: Light, share: float = 1.0) -> Light:
        """Return this light with ``share`` of another's departure added."""
        return Light(*(a + share * b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, ...]:
        """Return the six numbers in the order of the fields."""
        return self.exposure, self.gamma, self.contrast, self.warmth, self.tint, self.saturation


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        light: Its departure from neutral light, the domain's and its own.
        blur: Standard deviation of its blur in pixels of an image 128 high.
        detail: Share of the resolution that it keeps, in (0, 1].
        noise: Standard deviation of its noise in grey levels.
        quality: JPEG quality of its images.
        pitch: Angle in radians by which it looks down.
        taper: Growth of what is higher in the picture.
        heading: Angle in radians in which most people walk past it.
        slope: Change of brightness from its left edge to its right one, in stops.
        gains: Factors of red, green and blue of its white balance.
        veil: Red, green and blue of the light that lies over its pictures, times the veil's share; 0-1.
        clear: Share of the picture that the veil leaves.
    """

    light: Light
    blur: float
    detail: float
    noise: float
    quality: int
    pitch: float
    taper: float
    heading: float
    slope: float
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    veil: tuple[float, float, float] = (0.0, 0.0, 0.0)
    clear: float = 1.0


_DOMAIN_LIGHT: Mapping[str, Light] = MappingProxyType(
    {
        "plaza": Light(exposure=0.12, gamma=-0.05, contrast=0.1, warmth=0.1, tint=-0.01, saturation=0.1),
        "station": Light(
            exposure=-0.5, gamma=0.12, contrast=-0.16, warmth=-0.14, tint=0.08, saturation=-0.25
        ),
        "campus": Light(exposure=-0.2, gamma=0.04, contrast=0.14, warmth=0.22, tint=-0.05, saturation=-0.1),
        "harbour": Light(exposure=-0.3, gamma=0.08, contrast=-0.12, warmth=-0.18, tint=0.03, saturation=-0.2),
    }
)
_SPREAD = Light(exposure=0.5, gamma=0.22, contrast=0.2, warmth=0.24, tint=0.09, saturation=0.3)
_NOISE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"plaza": (1.5, 5.0), "station": (3.0, 8.0), "campus": (2.0, 7.0), "harbour": (2.0, 7.0)}
)
# At strength 1: logarithm of a channel's gain of white balance; the largest share of haze, and its whiteness.
_BALANCE, _HAZE, _WHITENESS = 0.12, 0.2, 0.8
_THICKEST_HAZE = 0.8


@lru_cache(maxsize=256)
def camera_of(spec: DomainSpec, camera: int) -> Camera:
    """Return a camera of a domain.

    The cameras of a domain cover each property evenly: its range is divided among them in random order.

    Args:
        spec: The domain; ``spec.cameras`` decides how the ranges are divided.
        camera: Camera, from 1.

    Returns:
        The camera.
    """
    rng = generator(spec, "cameras")
    places = np.stack([rng.permutation(spec.cameras) for _ in range(12)])
    spot = (places[:, camera - 1] + rng.uniform(0.2, 0.8, (12, spec.cameras))[:, camera - 1]) / spec.cameras
    away = 2 * spot - 1
    style = spec.difficulty
    own = Light(*(float(a) * s for a, s in zip(away[:6], _SPREAD.values(), strict=True)))
    light = Light().plus(_DOMAIN_LIGHT[spec.name], style.domain_strength).plus(own, style.camera_strength)
    low, high = _NOISE[spec.name]
    weak = min(style.camera_strength, 2.0)
    pitch = 0.06 + 0.3 * float(spot[9])
    return Camera(
        light=light,
        blur=0.25 + 0.45 * weak * float(spot[6]) ** 2,
        detail=1 - 0.42 * min(1.0, weak * float(spot[7]) ** 2),
        noise=low + (high - low) * float(spot[8]) * weak,
        quality=round(92 - 34 * min(1.0, weak * float(spot[8]))),
        pitch=pitch,
        taper=0.12 + 0.6 * pitch,
        heading=math.tau * float(spot[10]) * min(1.0, style.view_variation),
        slope=0.5 * float(away[11]) * style.camera_strength,
        **_faults(spec, camera),
    )


def _faults(spec: DomainSpec, camera: int) -> dict[str, Any]:
    """Return a camera's white balance and haze, as fields of :class:`Camera`.

    Their directions share out the circle of hues, their strengths the upper half of the range.
    """
    rng = generator(spec, "faults")
    places = np.stack([rng.permutation(spec.cameras) for _ in range(4)])
    spot = (places[:, camera - 1] + rng.uniform(0.2, 0.8, (4, spec.cameras))[:, camera - 1]) / spec.cameras
    balance = spec.difficulty.white_balance * _BALANCE * (0.5 + 0.5 * float(spot[1]))
    share = min(_THICKEST_HAZE, spec.difficulty.haze * _HAZE * (0.5 + 0.5 * float(spot[3])))
    gains = np.exp(balance * _hue(float(spot[0])))
    veil = share * (_WHITENESS + (1 - _WHITENESS) * _hue(float(spot[2])))
    return {
        "gains": tuple(gains.tolist()),
        "veil": tuple(veil.tolist()),
        "clear": 1 - share,
    }


def _hue(turn: float) -> np.ndarray:
    """Return red, green and blue, between -1 and 1 with the sum 0, of a hue in turns around the circle."""
    return np.cos(math.tau * (turn - np.arange(3) / 3))


def develop(
    picture: Image.Image,
    shading: np.ndarray,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
) -> Image.Image:
    """Turn a picture in neutral light into what the camera delivers.

    Args:
        picture: RGB picture of the output's size.
        shading: Factors of brightness, [height, width] float32.
        camera: The camera.
        light: Its light at this moment.
        rng: For the noise.

    Returns:
        An RGB picture of the same size.
    """
    width, height = picture.size
    slope = np.exp2(camera.slope * np.linspace(-0.5, 0.5, width, dtype=np.float32))
    pixels = np.asarray(picture, np.float32) * (shading * slope)[..., None]
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    pixels = grey[..., None] + (pixels - grey[..., None]) * np.float32(math.exp(light.saturation))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).point(_curves(light, camera))
    scale = height / _REFERENCE_HEIGHT
    if camera.detail < 1:
        small = (max(8, round(width * camera.detail)), max(16, round(height * camera.detail)))
        picture = picture.resize(small, Image.Resampling.BILINEAR).resize(
            (width, height), Image.Resampling.BICUBIC
        )
    picture = picture.filter(ImageFilter.GaussianBlur(camera.blur * scale))
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    noise[..., 1:] = 0.5 * noise[..., 1:] + 0.5 * noise[..., :1]
    pixels = np.asarray(picture, np.float32) + camera.noise * noise
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def _curves(light: Light, camera: Camera) -> list[int]:
    """Return the 768 entries of the look-up table of light, white balance and haze."""
    level = np.arange(256) / 255
    cast = np.array(
        [0.5 * light.warmth - 0.5 * light.tint, 0.5 * light.tint, -0.5 * light.warmth - 0.5 * light.tint]
    )
    tone = level[None] * np.exp2(light.exposure) * np.exp(cast)[:, None]
    tone = tone * np.array(camera.gains)[:, None]
    tone = tone ** math.exp(light.gamma)
    tone = 0.45 + (tone - 0.45) * math.exp(light.contrast)
    # A soft shoulder keeps bright cloth from burning out.
    tone = np.where(tone > 0.8, 0.8 + 0.2 * np.tanh((tone - 0.8) / 0.2), tone)
    tone = camera.clear * tone + np.array(camera.veil)[:, None]
    return [int(v) for v in np.clip(np.rint(255 * tone), 0, 255).ravel()]
