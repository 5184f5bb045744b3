"""What a synthetic domain is made of: its size, its seed and its difficulty."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np

__all__ = ["DOMAINS", "GENERATOR_VERSION", "LATER_SETTINGS", "DomainSpec", "DomainStyle", "generator"]

GENERATOR_VERSION = 5
"""Part of every cache key: it rises whenever the same specification would give other pixels."""
# Fields of DomainStyle that version 5 did not have from the start: 0 gives the pixels of before.
LATER_SETTINGS = ("white_balance", "haze", "few_cameras", "fixed_view")

_SHARES = ("confusable_share", "occlusion_rate", "bystander_rate", "few_cameras", "fixed_view")
_LIMITS = {
    "train_identities": (1, 99_999),
    "test_identities": (1, 99_999),
    "images_per_identity": (4, 1_000),
    "cameras": (2, 99),
    "distractors": (0, 1_000_000),
    "junk": (0, 1_000_000),
    "seed": (0, 2**32 - 1),
}
_SIDE = (32, 1024)


@dataclass(frozen=True)
class DomainStyle:
    """The difficulty of a domain: shares in [0, 1] and strengths in [0, 4].

    The defaults let a small model, trained on one domain for minutes, find about a third of the other
    domain's people at rank 1, and most of its own domain's; 0 everywhere leaves neutral, well-cut crops.

    Attributes:
        camera_strength: How far each camera's light, colour cast, contrast, blur and noise stray from the
            domain's mean. Raises fragmented noise: one person falls apart by camera.
        domain_strength: How far the domain's mean light and colour cast stray from neutral. Raises the
            gap between the domains.
        light_jitter: Changes of light from one tracklet and frame to the next within a camera.
        view_variation: Spread of the viewing angle, between the cameras and within one.
        box_jitter: How badly the bounding boxes fit: off-centre, cropped or too loose.
        clutter: How far the backgrounds, their structure and their colours, stray from the domain's plain
            tone. Raises fragmented noise: a model takes a camera's wall for a person's coat.
        confusable_share: Share of the groups of four consecutive identities that wear the same outfit and
            differ in a few attributes only. Raises mixed noise: a cluster holds several people.
        occlusion_rate: Share of the images in which something stands before the person.
        bystander_rate: Share of the images with another person behind or beside.
        white_balance: How wrong each camera's white balance is, each in a direction of its own around the
            circle of hues. Like haze and fixed_view it shifts all features of a camera the same way.
        haze: How much coloured light lies over everything that a camera sees.
        few_cameras: Share of the people that two cameras see and no other, one of them four times as often
            as the other; everybody else is seen by two or more, equally often.
        fixed_view: How far a camera sees everybody from the same side and before the same part of its
            scene: 0 as the other settings say, 1 always.
    """

    camera_strength: float = 0.6
    domain_strength: float = 0.4
    light_jitter: float = 0.6
    view_variation: float = 0.6
    box_jitter: float = 0.6
    clutter: float = 0.7
    confusable_share: float = 0.25
    occlusion_rate: float = 0.08
    bystander_rate: float = 0.08
    white_balance: float = 0.0
    haze: float = 0.0
    few_cameras: float = 0.0
    fixed_view: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            high = 1.0 if field.name in _SHARES else 4.0
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise ValueError(f"{field.name} must be a number in [0, {high:g}], got {value!r}")
            object.__setattr__(self, field.name, float(value))

    def scaled(self, difficulty: float) -> DomainStyle:
        """Return this style with every share and strength multiplied by ``difficulty``.

        Raises:
            ValueError: If a product leaves its range; the message names it.
        """
        try:
            return DomainStyle(
                **{field.name: difficulty * getattr(self, field.name) for field in fields(self)}
            )
        except ValueError as error:
            raise ValueError(
                f"difficulty {difficulty:g} takes a setting out of its range: {error}"
            ) from error


_HARBOUR = DomainStyle(
    camera_strength=0.3,
    domain_strength=1.6,
    light_jitter=0.4,
    view_variation=0.4,
    box_jitter=0.45,
    clutter=0.25,
    confusable_share=0.8,
    occlusion_rate=0.07,
    bystander_rate=0.07,
    white_balance=0.6,
    haze=0.2,
    few_cameras=1.0,
    fixed_view=0.5,
)

DOMAINS: Mapping[str, DomainStyle] = MappingProxyType(
    {"plaza": DomainStyle(), "station": DomainStyle(), "campus": DomainStyle(), "harbour": _HARBOUR}
)
"""The usual style of each domain that can be rendered, by name."""


@dataclass(frozen=True)
class DomainSpec:
    """A synthetic domain, completely: the same specification gives the same images.

    Attributes:
        name: A key of ``DOMAINS``: ``"plaza"``, ``"station"``, ``"campus"`` or ``"harbour"``.
        train_identities: Number of people in the training set.
        test_identities: Number of other people, in the query and gallery sets.
        images_per_identity: Images of each person, over all the cameras that saw it.
        cameras: Number of cameras; each person is seen by 2 of them or more.
        image_size: Height and width of the images in pixels.
        distractors: Number of gallery images of identity 0: background and parts of people.
        junk: Number of gallery images of identity -1: bad boxes, which an evaluation ignores.
        seed: Seed of everything random.
        style: Difficulty; the domain's own entry of ``DOMAINS`` where None.

    Raises:
        ValueError: If a field is out of its range; the message names the field, the range and the value.
    """

    name: str = "plaza"
    train_identities: int = 96
    test_identities: int = 96
    images_per_identity: int = 16
    cameras: int = 6
    image_size: tuple[int, int] = (128, 64)
    distractors: int = 150
    junk: int = 50
    seed: int = 0
    style: DomainStyle | None = None

    def __post_init__(self) -> None:
        if self.name not in DOMAINS:
            raise ValueError(f"name must be one of {', '.join(DOMAINS)}, got {self.name!r}")
        for field, (low, high) in _LIMITS.items():
            _check_integer(field, getattr(self, field), low, high)
        if not isinstance(self.image_size, tuple | list) or len(self.image_size) != 2:
            raise ValueError(f"image_size must be a pair (height, width), got {self.image_size!r}")
        for side, value in zip(("height", "width"), self.image_size, strict=True):
            _check_integer(f"image_size {side}", value, *_SIDE)
        object.__setattr__(self, "image_size", tuple(self.image_size))
        if self.style is None:
            object.__setattr__(self, "style", DOMAINS[self.name])
        elif not isinstance(self.style, DomainStyle):
            raise ValueError(f"style must be a DomainStyle or None, got {self.style!r}")

    @property
    def identities(self) -> int:
        """Number of people, training and test together; their identities run from 1 to this number."""
        return self.train_identities + self.test_identities

    @property
    def difficulty(self) -> DomainStyle:
        """The style that is in force: ``style``, or the domain's own where that was None."""
        return self.style if self.style is not None else DOMAINS[self.name]


def generator(spec: DomainSpec, purpose: str, *key: int) -> np.random.Generator:
    """Return the random generator of one thing, which depends on nothing else having been drawn before.

    Args:
        spec: The domain; its seed and name enter the state, its sizes do not.
        purpose: What is drawn, such as ``"person"``.
        key: Integers >= -1 that tell one such thing from another, such as identity and camera.

    Returns:
        A fresh generator.
    """
    names = (zlib.crc32(spec.name.encode()), zlib.crc32(purpose.encode()))
    return np.random.default_rng([spec.seed, *names, *(value + 1 for value in key)])


def _check_integer(field: str, value: object, low: int, high: int) -> None:
    """Raise ValueError unless ``value`` is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{field} must be an integer in [{low}, {high}], got {value!r}")
