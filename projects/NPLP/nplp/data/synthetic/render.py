"""One record in, one picture out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from nplp.data.synthetic.body import View
from nplp.data.synthetic.camera import Camera, Light, camera_of, develop
from nplp.data.synthetic.figure import Pose, paint_person
from nplp.data.synthetic.painter import NEUTRAL, Paint, Painter
from nplp.data.synthetic.person import Person, person, stranger
from nplp.data.synthetic.records import DISTRACTOR, JUNK, Record
from nplp.data.synthetic.scenes import backdrop
from nplp.data.synthetic.spec import DomainSpec, generator
from nplp.data.synthetic.wardrobe import COLOURS

__all__ = ["jpeg_quality", "render_image"]

# Pictures are painted this much larger and then reduced, which smooths their edges.
_OVERSAMPLING = 2


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
    if rng.random() < spec.difficulty.bystander_rate:
        _bystander(spec, painter, camera, rng, behind=True)
    _subject(spec, record, painter, camera, moment, rng)
    if rng.random() < spec.difficulty.occlusion_rate and record.identity != DISTRACTOR:
        _occlude(spec, painter, camera, rng)
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
    alone = (record.frame,) if record.identity in (DISTRACTOR, JUNK) else ()
    visit = generator(spec, "visit", *key, *alone)
    course = float(visit.choice((0.0, math.pi, math.pi / 2, -math.pi / 2), p=(0.6, 0.2, 0.1, 0.1)))
    yaw = camera.heading + style.view_variation * (course + float(visit.normal(0, 0.3)))
    stands = visit.random() < 0.12
    period = float(visit.uniform(22, 30))
    start = float(visit.uniform(0, math.tau))
    place = float(visit.random()) + 0.0015 * (record.frame % 1000) * float(visit.choice((-1, 1)))
    wander = Light(*(float(v) for v in visit.normal(0, 1, 6) * (0.14, 0.05, 0.05, 0.04, 0.015, 0.06)))
    raised = float(visit.uniform(0.9, 1.7)) if visit.random() < 0.1 else 0.0
    frame = generator(spec, "frame", record.identity, record.camera, record.frame)
    flicker = Light(*(float(v) for v in frame.normal(0, 1, 6) * (0.05, 0.02, 0.02, 0.01, 0.005, 0.02)))
    return _Moment(
        yaw=yaw + 0.1 * style.view_variation * float(frame.normal()),
        pose=Pose(start + math.tau * record.frame / period, 0.12 if stands else 1.0, raised),
        place=place % 1.0,
        light=camera.light.plus(wander, style.light_jitter).plus(flicker, style.light_jitter),
        side_light=float(np.clip(2 * camera.slope, -1, 1)),
    )


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


def _view(size: tuple[int, int], camera: Camera, yaw: float, fill: float, centre: float, feet: float) -> View:
    """Return the view in which a standing body is ``fill`` of the canvas high, its feet at ``feet``."""
    width, height = size
    scale = fill * height / (math.cos(camera.pitch) + 0.12 * math.sin(camera.pitch))
    return View(yaw, camera.pitch, camera.taper, scale, (centre * width, feet * height))


def _subject(
    spec: DomainSpec,
    record: Record,
    painter: Painter,
    camera: Camera,
    moment: _Moment,
    rng: np.random.Generator,
) -> None:
    """Paint whom or what the box was put around."""
    size = painter.canvas.size
    jitter = spec.difficulty.box_jitter * (1.0 if record.box else 0.4)
    fill = 0.9 + 0.05 * jitter * float(rng.normal())
    feet = 0.95 + 0.022 * jitter * float(rng.normal())
    centre = 0.5 + 0.05 * jitter * float(rng.normal())
    if rng.random() < 0.1 * jitter:
        fill, feet = (fill * 1.22, 1.14) if rng.random() < 0.6 else (fill * 1.16, 0.97)
    if rng.random() < 0.06 * jitter:
        fill, feet = fill * 0.78, 0.86
    if record.identity == DISTRACTOR:
        if rng.random() < 0.45:
            return
        fill, feet, centre = (
            fill * float(rng.uniform(0.6, 2.4)),
            float(rng.uniform(0.8, 1.9)),
            float(rng.choice((-0.02, 1.02))) + float(rng.normal(0, 0.12)),
        )
        who: Person = stranger(spec, rng)
    elif record.identity == JUNK:
        who = person(spec, spec.train_identities + 1 + int(rng.integers(spec.test_identities)))
        fill, feet, centre = (
            fill * float(rng.uniform(1.3, 2.0)),
            float(rng.uniform(1.0, 1.7)),
            float(rng.uniform(0.1, 0.9)),
        )
        _bystander(spec, painter, camera, rng, behind=True)
    else:
        who = person(spec, record.identity)
    paint_person(painter, who, _view(size, camera, moment.yaw, fill, centre, feet), moment.pose)


def _bystander(
    spec: DomainSpec, painter: Painter, camera: Camera, rng: np.random.Generator, behind: bool
) -> None:
    """Paint somebody else, behind the person or cut by the picture's edge in front."""
    fill = float(rng.uniform(0.55, 0.85) if behind else rng.uniform(0.95, 1.15))
    side = float(rng.choice((-1, 1)))
    centre = 0.5 + side * float(rng.uniform(0.25, 0.5) if behind else rng.uniform(0.42, 0.56))
    feet = 0.92 - 0.3 * (0.9 - fill) if behind else 1.05
    view = _view(painter.canvas.size, camera, float(rng.uniform(0, math.tau)), fill, centre, feet)
    pose = Pose(float(rng.uniform(0, math.tau)), float(rng.uniform(0.2, 1.0)))
    paint_person(painter, stranger(spec, rng), view, pose)


def _occlude(spec: DomainSpec, painter: Painter, camera: Camera, rng: np.random.Generator) -> None:
    """Put a pole, a low object or somebody else before the person."""
    width, height = painter.canvas.size
    kind = int(rng.integers(3))
    colour = COLOURS[str(rng.choice(("grey", "charcoal", "olive", "brown", "silver", "burgundy")))]
    if kind == 0:
        x, half = width * float(rng.uniform(0.1, 0.9)), width * float(rng.uniform(0.04, 0.09))
        painter.loft([((x, -4.0), half), ((x, height + 4.0), half)], Paint(colour))
    elif kind == 1:
        top = height * float(rng.uniform(0.62, 0.82))
        x, half = width * float(rng.uniform(0.1, 0.9)), width * float(rng.uniform(0.3, 0.6))
        painter.loft([((x, top), half), ((x, height + 4.0), half)], Paint(colour))
        painter.line([(x - half, top), (x + half, top)], (210.0, 210.0, 206.0), 0.012 * height)
    else:
        _bystander(spec, painter, camera, rng, behind=False)


def _folds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return soft folds and stains of light: float32 factors around 1, [height, width]."""
    coarse = rng.integers(90, 167, (18, 9)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32)
    return 1 + (soft - NEUTRAL) * np.float32(0.0022)
