"""Where objects stand, and how one or two of them and something in front are painted on a canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

from synthgen.drawn.object_pen import RGB, Pen, new_canvas, shade
from synthgen.drawn.object_shapes import SHAPES

ANIMALS: frozenset[str] = frozenset({"bird", "cat", "cow", "dog", "horse", "sheep"})

_PAINTS: dict[str, RGB] = {
    "red": (212, 36, 38), "orange": (242, 132, 28), "yellow": (248, 212, 44), "green": (38, 150, 70),
    "blue": (36, 84, 206), "pink": (246, 132, 182), "white": (240, 241, 243), "black": (42, 42, 48),
}  # fmt: skip
_COATS: dict[str, RGB] = {
    "brown": (146, 88, 44), "black": (46, 45, 52), "white": (242, 240, 234), "grey": (142, 145, 152),
}  # fmt: skip
_PAIR_SCALE = (0.46, 0.56)  # of the second object, relative to its own nominal size
_SMALLEST_SECOND = 0.012  # share of the image the second object must show, or it is left out
_LARGEST_COVERED = 0.28  # share of the first object the second may hide


def colours_of(class_name: str) -> tuple[str, ...]:
    """The colour words a class comes in: coats for animals, paints for everything else."""
    return tuple(_COATS if class_name in ANIMALS else _PAINTS)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one object stands, in shares of the image."""

    x: float
    y: float
    scale: float
    turn_rad: float


@dataclass(frozen=True, slots=True)
class Actor:
    """One object to paint; `colour` is one of `colours_of(class_name)`."""

    class_name: str
    facing: str
    colour: str

    @property
    def paint(self) -> RGB:
        return (_COATS if self.class_name in ANIMALS else _PAINTS)[self.colour]


@cache
def extent(name: str) -> tuple[float, float, float, float]:
    """(left, right, up, down) reach of a class that faces right, in its own units, over a few shapes."""
    side, scale = 256, 0.6
    reach = [0.0, 0.0, 0.0, 0.0]
    for seed in range(6):
        canvas = new_canvas(side)
        spot = Spot(0.5, 0.6, scale, 0.0)
        _paint_object(canvas, name, (90, 90, 90), "right", spot, np.random.default_rng(seed), 1)
        own = _owners(canvas) == 1
        xs, ys = np.flatnonzero(own.any(axis=0)) / side, np.flatnonzero(own.any(axis=1)) / side
        found = (0.5 - float(xs[0]), float(xs[-1]) - 0.5, 0.6 - float(ys[0]), float(ys[-1]) - 0.6)
        reach = [max(old, new / scale) for old, new in zip(reach, found, strict=True)]
    return reach[0], reach[1], reach[2], reach[3]


def find_spot(name: str, facing: str, rng: np.random.Generator) -> Spot:
    """A random place and size that keeps the whole object, its turn aside, inside the image."""
    shape = SHAPES[name]
    x, y, zoom, turn = rng.random(4).tolist()
    back, front, up, down = extent(name)
    left, right = (front, back) if facing == "left" else (back, front)
    scale = min(shape.scale * (0.82 + 0.30 * zoom), 0.96 / (left + right))
    slack = max(0.0, 0.98 - scale * (left + right))
    centre = 0.5 + (x - 0.5) * min(slack, 0.20)
    x_share = centre + scale * (left - right) / 2
    if shape.flies:
        y_share = 0.33 + 0.20 * y
        return Spot(x_share, max(y_share, scale * up + 0.04), scale, math.radians(-4 + 14 * turn))
    y_share = min(max(0.84 + 0.11 * y, scale * up + 0.03), 0.975 - scale * down)
    return Spot(x_share, y_share, scale, math.radians(-3 + 6 * turn))


def _paint_object(
    canvas: Image.Image, name: str, paint: RGB, facing: str, spot: Spot, rng: np.random.Generator, owner: int
) -> None:
    side = canvas.width
    mirrored = facing == "left"
    turn = -spot.turn_rad if mirrored else spot.turn_rad
    pen = Pen(canvas, spot.x * side, spot.y * side, spot.scale * side, mirrored=mirrored, turn_rad=turn, owner=owner)
    SHAPES[name].paint(pen, rng, paint)


def paint_occluder(canvas: Image.Image, spot: Spot, half_width: float, place: str, rng: np.random.Generator) -> None:
    """A grass tuft, a stone or a low post in front of one end of the object's foot."""
    side = canvas.width
    kind, share, size = rng.random(3).tolist()
    x = spot.x + (share - 0.5) * 1.7 * half_width * spot.scale
    pen = Pen(canvas, x * side, min(spot.y + 0.05, 0.985) * side, side)
    if kind < 0.4 and place in ("grass", "sand", "snow", "road"):
        green = (74, 132, 48) if place != "snow" else (112, 122, 92)
        for k in range(7):
            lean = (k - 3) * 0.026
            tall = 0.10 + 0.06 * size + 0.025 * math.cos(k * 2.4)
            blade = [(lean * 0.6 - 0.016, 0.0), (lean * 0.6 + 0.016, 0.0), (lean * 1.5, tall)]
            pen.polygon(blade, shade(green, (0.8, 1.0, 1.12)[k % 3]))
    elif kind < 0.75:
        wide, tall = 0.07 + 0.035 * size, 0.07 + 0.04 * size
        pen.blob(
            [(-wide, 0), (-wide * 0.8, tall * 0.7), (-0.1 * wide, tall), (wide * 0.8, tall * 0.6), (wide, 0)],
            (126, 122, 116),
        )
        pen.blob([(-wide * 0.6, tall * 0.5), (-0.1 * wide, tall * 0.86), (wide * 0.3, tall * 0.6)], (160, 156, 148))
    else:
        tall = 0.17 + 0.07 * size
        pen.box(-0.03, 0, 0.03, tall, (150, 112, 72))
        pen.box(-0.03, tall - 0.035, 0.03, tall, (214, 76, 60))


def _owners(canvas: Image.Image) -> np.ndarray:
    return np.asarray(canvas)[..., 3]


def _pair_spots(first: Actor, second: Actor, spot: Spot, in_front: bool, rng: np.random.Generator) -> tuple[Spot, Spot]:
    """The first object's spot moved aside and shrunk, and a spot for the second one on the other side."""
    other = find_spot(second.class_name, second.facing, rng)
    direction = 1 if rng.random() < 0.5 else -1
    scale = SHAPES[second.class_name].scale * float(rng.uniform(*_PAIR_SCALE))
    spot = replace(spot, x=spot.x - direction * 0.13, scale=spot.scale * 0.82)
    other_y = spot.y + 0.03 if in_front else other.y - 0.06
    if SHAPES[first.class_name].flies:
        # It is above the other one, so it needs to make less room.
        spot, other_y = replace(spot, x=spot.x + direction * 0.08), other.y + 0.03
    elif SHAPES[second.class_name].flies:
        other_y = 0.17
    return spot, Spot(0.5 + direction * 0.32, min(other_y, 0.95), scale, other.turn_rad * 0.5)


def paint_objects(
    first: Actor, second: Actor | None, side_px: int, seed: int
) -> tuple[Image.Image, list[tuple[Actor, Spot]]]:
    """A canvas of `side_px` with owner 1 = first and 2 = second, and who really stands where.

    The second is left out where almost nothing of it would show.
    """
    rng_first, rng_second = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    spot = find_spot(first.class_name, first.facing, rng_first)
    # A slight change of tone keeps a colour word from meaning one exact value.
    tone = shade(first.paint, float(rng_first.uniform(0.93, 1.07)))
    shape_seeds = int(rng_first.integers(2**32)), int(rng_second.integers(2**32))
    canvas = new_canvas(side_px)

    def paint_first() -> None:
        rng = np.random.default_rng(shape_seeds[0])
        _paint_object(canvas, first.class_name, tone, first.facing, spot, rng, 1)

    if second is None:
        paint_first()
        return canvas, [(first, spot)]
    in_front = rng_second.random() < 0.4
    spot, other = _pair_spots(first, second, spot, in_front, rng_second)

    def paint_second() -> None:
        rng = np.random.default_rng(shape_seeds[1])
        _paint_object(canvas, second.class_name, second.paint, second.facing, other, rng, 2)

    if in_front:
        paint_first()
        alone = np.count_nonzero(_owners(canvas) == 1)
        paint_second()
        if np.count_nonzero(_owners(canvas) == 1) >= (1 - _LARGEST_COVERED) * alone:
            return canvas, [(first, spot), (second, other)]
        canvas.paste((0, 0, 0, 0), (0, 0, side_px, side_px))
    paint_second()
    paint_first()
    if np.count_nonzero(_owners(canvas) == 2) >= _SMALLEST_SECOND * side_px**2:
        return canvas, [(first, spot), (second, other)]
    canvas.paste((0, 0, 0, 0), (0, 0, side_px, side_px))
    paint_first()
    return canvas, [(first, spot)]
