"""Scenes of the station: a tiled passage, a platform, a hall and ticket gates, in artificial light."""

from __future__ import annotations

from nplp_synthetic.painter import rgb
from nplp_synthetic.scenery import Scenery

__all__ = ["gates", "hall", "passage", "platform"]

_FRAME = (52.0, 54.0, 58.0)
_TUNNEL = (40.0, 44.0, 50.0)
_PANE = (150.0, 168.0, 172.0)
_SAFETY = (206.0, 172.0, 48.0)
_LAMP = (238.0, 240.0, 224.0)
_SIGNAL = (60.0, 190.0, 110.0)
_SCREEN = (176.0, 214.0, 224.0)


def passage(scene: Scenery) -> None:
    """A tiled passage with posters and a coloured band."""
    wall = scene.tone("silver", "white", "sky", "turquoise")
    scene.wall(wall)
    for y in scene.row(0.07, 0, scene.ground):
        scene.pen.line((0, y, scene.width, y), fill=rgb(wall, 0.85), width=1)
    for x in scene.row(0.105):
        scene.pen.line((x, 0, x, scene.ground), fill=rgb(wall, 0.85), width=1)
    scene.band(
        scene.above_ground(scene.between(0.18, 0.4)), 0.05, scene.tone("blue", "red", "green", "mustard")
    )
    for x in scene.row(0.9):
        _poster(scene, x + scene.between(0.0, 0.4) * scene.height, scene.above_ground(0.5))
    scene.floor(scene.tone("grey", "charcoal", "olive"))


def platform(scene: Scenery) -> None:
    """A train behind a platform's edge, with its yellow line."""
    scene.wall(_TUNNEL)
    body = scene.tone("silver", "blue", "red", "green")
    roof = 0.62
    scene.band(scene.above_ground(roof), 0.56, body)
    scene.band(scene.above_ground(0.2), 0.06, scene.tone("white", "navy", "mustard"))
    for index, x in enumerate(scene.row(0.4)):
        scene.box(x, scene.above_ground(roof - 0.1), 0.26, 0.2, _PANE)
        if index % 3 == 0:
            scene.box(x + 0.29 * scene.height, scene.above_ground(roof - 0.06), 0.09, 0.5, rgb(body, 0.7))
    scene.band(scene.above_ground(0.06), 0.06, _TUNNEL)
    scene.floor(scene.tone("grey", "silver", "charcoal"))
    scene.band(scene.ground + 0.05 * scene.height, 0.035, _SAFETY)


def hall(scene: Scenery) -> None:
    """A hall with columns, dark openings and lamps."""
    wall = scene.tone("grey", "olive", "camel", "silver")
    scene.wall(wall)
    base = scene.ground / scene.height + 0.04
    for x in scene.row(0.62):
        scene.box(x + 0.2 * scene.height, scene.above_ground(0.46), 0.32, 0.46, rgb(wall, 0.5))
        scene.box(x, 0, 0.12, base, rgb(wall, 1.3))
        scene.box(x + 0.085 * scene.height, 0, 0.035, base, rgb(wall, 0.8))
        scene.box(x + 0.24 * scene.height, 0.05 * scene.height, 0.22, 0.03, _LAMP)
    scene.floor(scene.tone("grey", "camel", "silver"))
    scene.passers()


def gates(scene: Scenery) -> None:
    """Ticket gates and machines before a dark wall with a sign."""
    scene.wall(scene.tone("charcoal", "navy", "forest", "grey"))
    scene.band(0.06 * scene.height, 0.09, scene.tone("blue", "mustard", "white"))
    for x in scene.row(0.34):
        scene.box(x, scene.above_ground(0.24), 0.12, 0.26, scene.tone("silver", "white", "grey"))
        scene.box(x + 0.03 * scene.height, scene.above_ground(0.21), 0.06, 0.04, _SIGNAL)
        if scene.rng.random() < 0.3:
            scene.box(x + 0.13 * scene.height, scene.above_ground(0.42), 0.2, 0.42, scene.tone("red", "blue"))
            scene.box(x + 0.16 * scene.height, scene.above_ground(0.38), 0.14, 0.14, _SCREEN)
    scene.floor(scene.tone("silver", "grey", "cream"))
    scene.passers()


def _poster(scene: Scenery, left: float, top: float) -> None:
    """Hang a lit advertisement."""
    rim = 0.012 * scene.height
    scene.box(left - rim, top - rim, 0.244, 0.364, _FRAME)
    scene.box(left, top, 0.22, 0.34, scene.tone("white", "yellow", "sky", "pink", "red"))
    for _ in range(4):
        x, y = left + scene.between(0, 0.13) * scene.height, top + scene.between(0, 0.24) * scene.height
        scene.box(x, y, 0.077, 0.085, scene.tone("red", "blue", "black", "green", "orange"))
