"""Scenes of the plaza: house fronts, a park, shops and a street, in daylight."""

from __future__ import annotations

from nplp_synthetic.painter import mix, rgb
from nplp_synthetic.scenery import Scenery
from nplp_synthetic.wardrobe import COLOURS

__all__ = ["facade", "park", "shops", "street"]

_GREY = (60.0, 60.0, 60.0)
_SKY = (190.0, 214.0, 232.0)
_GLASS = (78.0, 90.0, 102.0)
_CANVAS = (232.0, 230.0, 224.0)
_MORTAR = (150, 132, 116)
_TYRE = (30, 30, 32)


def facade(scene: Scenery) -> None:
    """A row of house fronts with windows and doors."""
    left = 0.0
    while left < scene.width:
        front = scene.between(0.5, 1.0)
        right = left + front * scene.height
        wall = scene.tone("beige", "cream", "camel", "silver", "orange", "white")
        scene.box(left, 0, front, scene.ground / scene.height, wall)
        glass = mix(scene.tone("sky", "charcoal", "navy"), wall, 0.25)
        step = scene.between(0.16, 0.26)
        size = step * scene.height
        for x in scene.row(step, left + 0.25 * size, right - 0.6 * size):
            for y in scene.row(1.15 * step, scene.ground % (1.15 * size) - size, scene.ground - 0.9 * size):
                scene.box(x, y, 0.55 * step, 0.75 * step, glass)
                scene.pen.rectangle((x, y, x + 0.55 * size, y + 0.75 * size), outline=rgb(wall, 1.2))
        door = left + front * scene.height * scene.between(0.2, 0.7)
        scene.box(door, scene.above_ground(0.34), 0.15, 0.34, scene.tone("brown", "forest", "burgundy"))
        scene.box(left, scene.above_ground(0.025), front, 0.025, mix(wall, _GREY, 0.4))
        left = right
    scene.floor(scene.tone("silver", "cream", "beige"))
    scene.passers()


def park(scene: Scenery) -> None:
    """Sky, trees and hedges over a lawn and a path."""
    scene.wall(_SKY)
    for x in scene.rng.uniform(0, scene.width, 26).tolist():
        green = mix(COLOURS["forest"], COLOURS["lime"], scene.between(0.1, 0.7))
        tall, radius = scene.between(0.1, 0.5), scene.between(0.08, 0.2) * scene.height
        top = scene.above_ground(tall)
        scene.box(x - 0.012 * scene.height, top, 0.025, tall, COLOURS["brown"])
        for _ in range(5):
            middle_x = x + radius * scene.between(-0.6, 0.6)
            middle_y = top + radius * scene.between(-0.6, 0.6)
            crown = (middle_x - radius, middle_y - 0.8 * radius, middle_x + radius, middle_y + 0.8 * radius)
            scene.pen.ellipse(crown, fill=rgb(green, scene.between(0.75, 1.2)))
    scene.band(scene.above_ground(0.07), 0.07, mix(COLOURS["forest"], COLOURS["green"], 0.4))
    scene.floor(scene.tone("beige", "cream"))
    lawn = mix(COLOURS["lime"], COLOURS["green"], scene.between(0.2, 0.8))
    scene.band(scene.ground, scene.between(0.06, 0.16), lawn)
    scene.passers()


def shops(scene: Scenery) -> None:
    """Shop windows full of wares under striped awnings."""
    scene.wall(scene.tone("cream", "silver", "camel"))
    left = 0.0
    while left < scene.width:
        shop = scene.between(0.4, 0.75)
        long = shop * scene.height
        scene.box(left + 0.03 * long, scene.above_ground(0.46), 0.94 * shop, 0.42, _GLASS)
        for _ in range(9):
            ware = scene.tone("white", "yellow", "pink", "red", "sky", "lime")
            x = left + long * scene.between(0.06, 0.85)
            scene.box(x, scene.above_ground(scene.between(0.1, 0.4)), 0.05, 0.07, ware)
        awning = scene.above_ground(0.56)
        scene.box(
            left, awning, shop, 0.12, scene.tone("red", "blue", "green", "yellow", "turquoise", "orange")
        )
        for x in scene.row(0.1, left, left + long):
            scene.box(x, awning, 0.045, 0.12, _CANVAS)
        left += long
    scene.floor(scene.tone("silver", "grey", "beige"))
    scene.passers()


def street(scene: Scenery) -> None:
    """A brick wall behind parked cars, a kerb and paving."""
    scene.wall(scene.tone("sky", "cream", "silver"))
    top = 0.3 * scene.ground
    scene.band(top, (scene.ground - top) / scene.height, scene.tone("camel", "burgundy", "beige"))
    for y in scene.row(0.05, top, scene.ground):
        scene.pen.line((0, y, scene.width, y), fill=_MORTAR, width=1)
    for x in scene.row(0.85):
        _car(scene, x + scene.between(0, 0.3) * scene.height)
    scene.floor(scene.tone("grey", "charcoal", "silver"))
    scene.band(scene.ground + 0.01 * scene.height, 0.035, (206.0, 202.0, 194.0))


def _car(scene: Scenery, left: float) -> None:
    """Park a car."""
    unit = scene.height
    roof, sill = scene.above_ground(0.2), scene.above_ground(0.11)
    cabin = [(0.12, roof), (0.42, roof), (0.51, sill), (0.05, sill)]
    scene.pen.polygon([(left + x * unit, y) for x, y in cabin], fill=rgb(_GLASS))
    hull = (left, scene.above_ground(0.12), left + 0.6 * unit, scene.ground)
    colour = scene.tone("white", "red", "blue", "charcoal", "silver")
    scene.pen.rounded_rectangle(hull, 0.03 * unit, fill=rgb(colour))
    for wheel in (0.12, 0.47):
        x, radius = left + wheel * unit, 0.045 * unit
        scene.pen.ellipse((x - radius, scene.ground - radius, x + radius, scene.ground + radius), fill=_TYRE)
