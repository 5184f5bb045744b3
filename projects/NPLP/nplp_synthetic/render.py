"""One record in, one picture out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from nplp_synthetic.camera import Camera, Light, camera_of, develop
from nplp_synthetic.cast import Cast
from nplp_synthetic.figure import Pose
from nplp_synthetic.images import DISTRACTOR, JUNK, Record
from nplp_synthetic.painter import NEUTRAL, Painter
from nplp_synthetic.scenes import backdrop
from nplp_synthetic.spec import DomainSpec, generator

__all__ = ["jpeg_quality", "render_image"]

# Pictures are painted this much larger and then reduced, which smooths their edges.
_OVERSAMPLING = 2
# How far a person walks along the scene in a frame, as a share of it.
_DRIFT = 0.0015
# Where in its scene a camera with a fixed view sees everybody.
_USUAL_PLACE = 0.5
# Standard deviations of the light from visit to visit and from frame to frame.
_WANDER = Light(exposure=0.14, gamma=0.05, contrast=0.05, warmth=0.04, tint=0.015, saturation=0.06)
_FLICKER = Light(exposure=0.05, gamma=0.02, contrast=0.02, warmth=0.01, tint=0.005, saturation=0.02)


@dataclass(frozen=True)
class _Moment:
    """What the images of one visit to a camera have in common, moved on to one frame."""

    yaw: float
    pose: Pose
    place: float
    light: Light
    side_light: float


def render_image(spec: DomainSpec, record: Record) -> Image.Image:
    """Render one image of a domain.

    Args:
        spec: The domain.
        record: Which image, from ``iter_images``.

    Returns:
        An RGB picture of ``spec.image_size``; it depends on the specification and the record only.
    """
    camera = camera_of(spec, record.camera)
    moment = _moment(spec, record, camera)
    rng = generator(spec, "image", record.identity, record.camera, record.frame)
    height, width = spec.image_size
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    painter = Painter(_background(spec, record, size, moment.place, rng), moment.side_light)
    cast = Cast(spec, painter, camera, rng)
    if rng.random() < spec.difficulty.bystander_rate or record.identity == JUNK:
        cast.bystander_behind()
    cast.subject(record, moment.yaw, moment.pose)
    if rng.random() < spec.difficulty.occlusion_rate and record.identity != DISTRACTOR:
        cast.occlude()
    picture = painter.canvas.reduce(_OVERSAMPLING)
    shade = painter.shade.reduce(_OVERSAMPLING).filter(ImageFilter.GaussianBlur(height / 100))
    shading = np.asarray(shade, np.float32) * np.float32(1 / NEUTRAL) * _folds(rng, picture.size)
    return develop(picture, shading, camera, moment.light, rng)


def jpeg_quality(spec: DomainSpec, record: Record) -> int:
    """Return the JPEG quality with which the record's camera stores its images."""
    return camera_of(spec, record.camera).quality


def _moment(spec: DomainSpec, record: Record, camera: Camera) -> _Moment:
    """Draw the visit of a person to a camera and follow it to the record's frame."""
    style = spec.difficulty
    key = (record.identity, record.camera, record.sequence)
    # Every distractor and junk image is a visit of its own.
    visit = generator(
        spec, "visit", *key, *((record.frame,) if record.identity in (DISTRACTOR, JUNK) else ())
    )
    free = 1 - style.fixed_view
    yaw = camera.heading + free * _course(visit, style.view_variation)
    stands = visit.random() < 0.12
    phase = float(visit.uniform(0, math.tau)) + math.tau * record.frame / float(visit.uniform(22, 30))
    drift = _DRIFT * (record.frame % 1000) * float(visit.choice((-1, 1)))
    place = (float(visit.random()) + drift) % 1.0
    place = free * place + style.fixed_view * _USUAL_PLACE
    wander = _light(visit, _WANDER)
    raised_arm = float(visit.uniform(0.9, 1.7)) if visit.random() < 0.1 else 0.0
    frame = generator(spec, "frame", record.identity, record.camera, record.frame)
    flicker = _light(frame, _FLICKER)
    return _Moment(
        yaw=yaw + 0.1 * style.view_variation * float(frame.normal()),
        pose=Pose(phase, 0.12 if stands else 1.0, raised_arm),
        place=place,
        light=camera.light.plus(wander, style.light_jitter).plus(flicker, style.light_jitter),
        side_light=float(np.clip(2 * camera.slope, -1, 1)),
    )


def _course(rng: np.random.Generator, variation: float) -> float:
    """Draw how far, in radians, a way departs from the camera's usual one: at times back or across."""
    turned = rng.random() < min(0.9, 0.4 * variation)
    course = float(rng.choice((math.pi, math.pi / 2, -math.pi / 2), p=(0.5, 0.25, 0.25)))
    return (course if turned else 0.0) + 0.3 * variation * float(rng.normal())


def _light(rng: np.random.Generator, spread: Light) -> Light:
    """Draw a departure from a light, normally distributed."""
    return Light(*(float(v) * s for v, s in zip(rng.normal(size=6), spread.values(), strict=True)))


def _background(
    spec: DomainSpec, record: Record, size: tuple[int, int], place: float, rng: np.random.Generator
) -> Image.Image:
    """Cut the part of the camera's scene that stands behind the person."""
    scene = backdrop(spec, record.camera)
    zoom = float(rng.uniform(0.8, 1.0)) / _OVERSAMPLING
    wide, high = size[0] * zoom, size[1] * zoom
    left = place * (scene.width - wide)
    top = float(rng.uniform(0.35, 0.65)) * (scene.height - high)
    return scene.resize(size, Image.Resampling.BILINEAR, (left, top, left + wide, top + high))


def _folds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return soft folds and stains of light: float32 factors around 1, [height, width]."""
    coarse = rng.integers(90, 167, (18, 9)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32)
    return 1 + (soft - NEUTRAL) * np.float32(0.0022)
