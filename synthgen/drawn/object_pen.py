"""A pen that paints colour and ownership together, so a mask cannot disagree with its picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

SCENERY = 9
"""Owner code of paint that hides what is under it without belonging to any object."""

_CIRCLE = [(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)]
_STEPS = np.arange(5) / 5.0
_CATMULL_ROM = 0.5 * np.stack(
    [
        -_STEPS + 2 * _STEPS**2 - _STEPS**3,
        2 - 5 * _STEPS**2 + 3 * _STEPS**3,
        _STEPS + 4 * _STEPS**2 - 3 * _STEPS**3,
        -(_STEPS**2) + _STEPS**3,
    ],
    axis=1,
)


def new_canvas(side_px: int) -> Image.Image:
    """An empty canvas of four plain channels: R, G, B, owner code (0 = untouched).

    CMYK is only a carrier here: unlike RGBA, Pillow neither blends nor premultiplies it.
    """
    return Image.new("CMYK", (side_px, side_px), (0, 0, 0, 0))


def shade(colour: RGB, factor: float) -> RGB:
    """`colour` darkened (factor < 1) or moved towards white (factor > 1, 2 = white)."""
    if factor <= 1.0:
        return (int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor))
    lift = factor - 1.0
    red, green, blue = (int(c + (255 - c) * lift) for c in colour)
    return (red, green, blue)


class Pen:
    """Paints in object coordinates: x forward, y up, (0, 0) where the object touches the ground.

    `scale_px` canvas pixels make one unit; `turn_rad` is positive anticlockwise in the drawn image; a
    mirrored pen faces left.
    """

    __slots__ = ("_draw", "_matrix", "_x_px", "_y_px", "owner")

    def __init__(
        self,
        canvas: Image.Image,
        x_px: float,
        y_px: float,
        scale_px: float,
        *,
        mirrored: bool = False,
        turn_rad: float = 0.0,
        owner: int = SCENERY,
    ) -> None:
        cos, sin = math.cos(turn_rad) * scale_px, math.sin(turn_rad) * scale_px
        flip = -1.0 if mirrored else 1.0
        self._draw = ImageDraw.Draw(canvas)
        self._matrix = (cos * flip, -sin, -sin * flip, -cos)
        self._x_px, self._y_px = x_px, y_px
        self.owner = owner

    def polygon(self, points: Points, colour: RGB) -> None:
        a, b, c, d = self._matrix
        x_px, y_px = self._x_px, self._y_px
        flat = [(x_px + a * x + b * y, y_px + c * x + d * y) for x, y in points]
        self._draw.polygon(flat, fill=(*colour, self.owner))

    def blob(self, points: Points, colour: RGB) -> None:
        """A closed smooth outline through `points` (uniform Catmull-Rom spline)."""
        knots = np.asarray(points)
        windows = np.stack([np.roll(knots, 1, 0), knots, np.roll(knots, -1, 0), np.roll(knots, -2, 0)])
        curve = np.einsum("sk,knd->nsd", _CATMULL_ROM, windows).reshape(-1, 2)
        self.polygon(curve.tolist(), colour)

    def ellipse(self, x: float, y: float, x_radius: float, y_radius: float, colour: RGB, turn_rad: float = 0.0) -> None:
        cos, sin = math.cos(turn_rad), math.sin(turn_rad)
        self.polygon(
            [
                (x + u * x_radius * cos - v * y_radius * sin, y + u * x_radius * sin + v * y_radius * cos)
                for u, v in _CIRCLE
            ],
            colour,
        )

    def disc(self, x: float, y: float, radius: float, colour: RGB) -> None:
        self.ellipse(x, y, radius, radius, colour)

    def ring(self, x: float, y: float, radius: float, width: float, colour: RGB) -> None:
        """A circle line of `width` inside `radius`; the hole stays unpainted."""
        inner = radius - width
        turn = [*_CIRCLE, _CIRCLE[0]]
        outline = [(x + radius * u, y + radius * v) for u, v in turn]
        outline += [(x + inner * u, y + inner * v) for u, v in reversed(turn)]
        self.polygon(outline, colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB, corner: float = 0.0) -> None:
        """A rectangle, with its corners cut round by `corner` where that is positive."""
        if corner <= 0.0:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)
            return
        outline: list[tuple[float, float]] = []
        centres = (
            (x1 - corner, y1 - corner),
            (x0 + corner, y1 - corner),
            (x0 + corner, y0 + corner),
            (x1 - corner, y0 + corner),
        )
        for quarter, (x, y) in enumerate(centres):
            arc = [_CIRCLE[(7 * quarter + k) % 28] for k in range(0, 8)]
            outline += [(x + corner * u, y + corner * v) for u, v in arc]
        self.polygon(outline, colour)

    def stroke(self, points: Points, width: float, colour: RGB, *, round_ends: bool = True) -> None:
        """A line of constant width through `points`, rounded at the inner joints and, if asked, the ends."""
        half = width / 2
        for (x0, y0), (x1, y1) in pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            u, v = (y0 - y1) / length * half, (x1 - x0) / length * half
            self.polygon([(x0 + u, y0 + v), (x1 + u, y1 + v), (x1 - u, y1 - v), (x0 - u, y0 - v)], colour)
        joints = points if round_ends else points[1:-1]
        for x, y in joints:
            self.ellipse(x, y, half, half, colour)
