"""What does not belong in a street: an object of the objects world painted into the scene before the weather.

Painted before the air comes, or fog would stop at its edge and give it away (CG-Aug's unknowns, MultiShiftSeg, CVPR
2025). Its size is that of the paper, 200-500 px of 1024, as a share of the picture's width.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from synthgen.drawn.object_pen import Pen
from synthgen.drawn.object_shapes import SHAPES
from synthgen.drawn.object_staging import Actor, colours_of, extent
from synthgen.drawn.street_canvas import Canvas, ground_shadow
from synthgen.drawn.street_layout import LOOKS, Camera, Street, Thing

NAMES: tuple[str, ...] = (
    "bird",
    "boat",
    "bottle",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "aeroplane",
    "horse",
    "pottedplant",
    "sheep",
    "sofa",
    "tvmonitor",
)
"""The objects that no street has; the first eight are for training, the other six are for tests of the unknown."""

TRAINING: tuple[str, ...] = NAMES[:8]
HELD_OUT: tuple[str, ...] = NAMES[8:]
KIND = "intruder"
LENGTH = (0.19, 0.49)  # of the longer side of the object, in picture heights


def chosen(seed: int, share: float, held_out: bool = False) -> str | None:
    """The intruder of the street of this seed, None in all but `share` of them; a stream beside the street's own."""
    names = HELD_OUT if held_out else TRAINING
    rng = np.random.default_rng((seed, len(TRAINING)))
    return names[int(rng.integers(len(names)))] if rng.random() < share else None


def placed(rng: np.random.Generator, street: Street, name: str) -> Thing:
    """Where it stands: whole inside the picture, on the ground of the nearer half, or above it if it flies."""
    camera = street.camera
    look = tuple(rng.random(LOOKS).tolist())
    colours = colours_of(name)
    facing = ("front",) if not SHAPES[name].faces else ("left", "right")
    thing = Thing(
        KIND, 0.0, 1.0, look, colours[int(look[0] * len(colours))], facing[int(look[1] * len(facing))], name=name
    )
    left, right, _, down = _reach_px(camera, thing)
    low = camera.height_px - 1 - down
    foot = camera.horizon_y + (0.35 + 0.65 * look[2]) * max(low - camera.horizon_y, 1.0)
    column = left + look[3] * max(camera.width_px - left - right, 0.0)
    z_m = camera.focal_px * camera.eye_m / (foot - camera.horizon_y)
    x_m = (column - camera.vanish_x) * z_m / camera.focal_px
    return Thing(KIND, x_m, z_m, look, thing.colour, thing.view, name=name)


def paint_intruder(canvas: Canvas, camera: Camera, thing: Thing, number: int, class_id: int) -> None:
    """Paint it, tinted as the domain tints everything, under a label of its own."""
    foot = camera.at(thing.x, 0.0, thing.z)
    left, right, up, _ = _reach_px(camera, thing)
    flies = SHAPES[thing.name].flies
    middle = foot[1] - (camera.height_px * (0.12 + 0.15 * thing.look[6]) if flies else 0.0)
    middle = max(middle, up + 1)
    sheet = Image.new("CMYK", canvas.rgb.size, (0, 0, 0, 0))
    pen = Pen(
        sheet,
        foot[0] * canvas.scale,
        middle * canvas.scale,
        _unit_px(camera, thing) * canvas.scale,
        mirrored=thing.view == "left",
        owner=1,
    )
    shape = SHAPES[thing.name]
    paint = Actor(thing.name, thing.view, thing.colour).paint
    shape.paint(pen, np.random.default_rng(int(thing.look[5] * 2**32)), paint)
    painted = np.asarray(sheet)
    own = painted[..., 3] == 1
    half_m = (left + right) / 2 * thing.z / camera.focal_px
    ground_shadow(canvas, camera, thing, half_m * 0.9, half_m * 0.5)
    canvas.begin(
        class_id,
        thing=number,
        depth_m=thing.z,
        countable=True,
        full_px=float(np.count_nonzero(own)) / canvas.scale**2,
    )
    canvas.stamp(painted[..., :3], own)


def _unit_px(camera: Camera, thing: Thing) -> float:
    """Output pixels of one unit of the shape's own coordinates: the longer side has the drawn length."""
    length_px = (LENGTH[0] + (LENGTH[1] - LENGTH[0]) * thing.look[4]) * camera.height_px
    back, front, up, down = extent(thing.name)
    return length_px / max(back + front, up + down)


def _reach_px(camera: Camera, thing: Thing) -> tuple[float, float, float, float]:
    back, front, up, down = (reach * _unit_px(camera, thing) for reach in extent(thing.name))
    left, right = (front, back) if thing.view == "left" else (back, front)
    return left, right, up, down
