"""Painters of people, two-wheelers and poles; `PAINTERS` lists every placed kind but trees."""

from __future__ import annotations

from collections.abc import Callable

from synthgen.drawn.street_canvas import (
    Canvas,
    Colour,
    Stamp,
    begin_thing,
    dim,
    ground_shadow,
    stamp_at,
)
from synthgen.drawn.street_layout import CAR_COLOURS, Camera, Thing
from synthgen.drawn.street_vehicles import bus, car, truck

POLE, LIGHT, SIGN, PERSON, RIDER, MOTORCYCLE, BICYCLE = 5, 6, 7, 11, 12, 17, 18

_TYRE: Colour = (26, 26, 28)
_HEAD: Colour = (255, 246, 214)
_SKINS: tuple[Colour, ...] = ((240, 200, 168), (214, 162, 122), (150, 100, 70), (108, 72, 52))
_SHIRTS: tuple[Colour, ...] = (
    (206, 44, 48),
    (40, 84, 190),
    (240, 200, 60),
    (60, 150, 84),
    (236, 236, 236),
    (232, 120, 40),
    (150, 70, 160),
    (40, 160, 170),
)
_TROUSERS: tuple[Colour, ...] = ((40, 48, 84), (52, 48, 46), (96, 84, 66), (30, 32, 36))


def _of(table: tuple[Colour, ...], share: float) -> Colour:
    return table[int(share * len(table)) % len(table)]


def person(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    look = thing.look
    tall = 1.72 + 0.18 * look[0]
    skin, shirt, legs = _of(_SKINS, look[1]), _of(_SHIRTS, look[2]), _of(_TROUSERS, look[3])
    stride = 0.1 + 0.22 * look[4]
    ground_shadow(canvas, camera, thing, 0.3, 0.5)
    begin_thing(canvas, thing, number, PERSON, camera, tall * 0.42)
    s = stamp_at(canvas, camera, thing, look[5] < 0.5)
    hip, neck = tall * 0.47, tall * 0.82
    s.stroke(-0.1, hip + 0.05, -stride, 0.04, 0.23, dim(legs, 0.85))
    s.stroke(0.1, hip + 0.05, stride, 0.04, 0.23, legs)
    if look[6] < 0.3:
        s.poly(((-0.2, hip + 0.2), (0.2, hip + 0.2), (0.36, hip - 0.3), (-0.36, hip - 0.3)), shirt)
    s.stroke(-0.27, neck - 0.08, -0.36 - stride * 0.3, hip - 0.02, 0.15, dim(shirt, 0.75))
    s.stroke(0.27, neck - 0.08, 0.36 + stride * 0.2, hip - 0.02, 0.15, dim(shirt, 0.75))
    s.poly(
        (
            (-0.24, hip - 0.04),
            (0.24, hip - 0.04),
            (0.31, neck - 0.04),
            (0.18, neck + 0.03),
            (-0.18, neck + 0.03),
            (-0.31, neck - 0.04),
        ),
        shirt,
    )
    s.oval(0, tall * 0.915, 0.165, 0.185, skin)
    hair: Colour = (52, 38, 30) if look[7] < 0.7 else (196, 156, 88)
    s.poly(
        (
            (-0.165, tall * 0.92),
            (-0.14, tall * 0.99),
            (0, tall * 1.015),
            (0.14, tall * 0.99),
            (0.165, tall * 0.92),
        ),
        hair,
    )


def _cycle(s: Stamp, paint: Colour, motor: bool) -> None:
    """A two-wheeler seen from the side; wheels are full discs in the label, spoked in the paint."""
    radius, reach = (0.34, 0.72) if motor else (0.38, 0.6)
    rim: Colour = (92, 94, 98) if motor else (176, 178, 180)
    for x in (-reach, reach):
        s.oval(x, radius, radius, radius, _TYRE)
        s.oval(
            x,
            radius,
            radius * (0.55 if motor else 0.66),
            radius * (0.55 if motor else 0.66),
            rim,
            inside=True,
        )
        s.oval(x, radius, 0.08, 0.08, _TYRE, inside=True)
    if motor:
        s.poly(((-0.62, 0.52), (-0.2, 0.3), (0.35, 0.3), (0.42, 0.72), (0.1, 0.92), (-0.3, 0.74)), paint)
        s.poly(((-0.95, 0.8), (-0.85, 0.62), (-0.05, 0.72), (-0.1, 0.86)), (34, 34, 38))
        s.oval(0.0, 0.38, 0.22, 0.17, (140, 142, 146), inside=True)
        s.stroke(reach, radius, 0.42, 1.02, 0.12, (120, 122, 126))
        s.stroke(0.25, 1.06, 0.55, 0.98, 0.1, (34, 34, 38))
        s.oval(0.56, 0.86, 0.13, 0.13, _HEAD, glow=s.canvas.tint.lamps)
        if s.canvas.tint.lamps:
            s.light(0.6, 0.86, 0.4, (255, 238, 180))
        return
    for x0, y0, x1, y1 in (
        (-reach, 0.38, -0.22, 0.8),
        (-0.22, 0.8, 0.0, 0.36),
        (0.0, 0.36, 0.42, 0.84),
        (-0.2, 0.78, 0.4, 0.8),
        (-reach, 0.38, 0.0, 0.36),
        (reach, 0.38, 0.38, 0.98),
    ):
        s.stroke(x0, y0, x1, y1, 0.1, paint)
    s.stroke(-0.38, 0.92, -0.08, 0.92, 0.1, (34, 34, 38))
    s.stroke(0.26, 1.02, 0.52, 1.0, 0.1, (34, 34, 38))


def two_wheeler(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    look = thing.look
    motor = thing.kind.startswith("motor")
    ridden = thing.kind.endswith("cyclist")
    ground_shadow(canvas, camera, thing, 0.85, 0.35)
    begin_thing(canvas, thing, number, MOTORCYCLE if motor else BICYCLE, camera, 1.0 if motor else 0.8)
    s = stamp_at(canvas, camera, thing, look[0] < 0.5)
    s.k *= 1.15
    s.turn *= 1.15
    paint = _of(tuple(CAR_COLOURS.values())[:5], look[1])
    _cycle(s, paint, motor)
    if not ridden:
        return
    begin_thing(canvas, thing, number, RIDER, camera, 0.5)
    shirt, legs, skin = _of(_SHIRTS, look[2]), _of(_TROUSERS, look[3]), _of(_SKINS, look[4])
    s.stroke(-0.2, 0.94, 0.16, 0.66, 0.2, legs)
    s.stroke(0.16, 0.68, 0.04, 0.28, 0.16, legs)
    s.stroke(0.12, 1.34, 0.44, 1.04, 0.13, dim(shirt, 0.75))
    s.poly(((-0.38, 0.86), (-0.06, 0.84), (0.3, 1.36), (0.08, 1.52), (-0.14, 1.46)), shirt)
    s.oval(0.24, 1.64, 0.16, 0.17, skin)
    s.poly(
        ((0.06, 1.62), (0.08, 1.78), (0.24, 1.86), (0.4, 1.76), (0.42, 1.66)),
        _of(_SHIRTS, look[5]) if look[6] < 0.7 or motor else (52, 38, 30),
    )


def pole(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    look = thing.look
    s = stamp_at(canvas, camera, thing)
    least = camera.height_px / 64
    width = max(0.17, 2.1 * least / s.k)
    grey: Colour = (124, 126, 130) if look[0] < 0.6 else (84, 92, 88)
    tall = {"lamp": 4.2 + look[1], "traffic light": 2.3, "traffic sign": 2.0}[thing.kind]
    begin_thing(canvas, thing, number, POLE, camera)
    s.box(-width / 2, 0, width / 2, tall, grey)
    s.box(width * 0.12, 0, width / 2, tall, dim(grey, 0.72), inside=True)
    if thing.kind == "lamp":
        inward = -1.0 if thing.x > 0 else 1.0
        s.poly(((0, tall), (0, tall - width), (inward * 0.8, tall - width * 0.8), (inward * 0.8, tall)), grey)
        x = inward * 0.85
        s.box(x - 0.36, tall - width * 0.9, x + 0.36, tall + width * 0.35, dim(grey, 0.8))
        if canvas.tint.lamps:
            s.box(
                x - 0.34,
                tall - width * 0.9,
                x + 0.34,
                tall - width * 0.2,
                (255, 232, 170),
                inside=True,
                glow=True,
            )
            s.light(x, tall - width * 0.5, 0.9, (255, 214, 140), 1.0)
        return
    size = max(0.6, 5.2 * least / s.k)
    if thing.kind == "traffic light":
        begin_thing(canvas, thing, number, LIGHT, camera, size * size * 1.6)
        high = size * 2.1
        s.box(-size / 2, tall, size / 2, tall + high, (36, 38, 42))
        on = int(look[2] * 3) % 3
        for i, colour in enumerate(((255, 44, 36), (255, 196, 40), (50, 240, 110))):
            y = tall + high * (5 - 2 * i) / 6
            bright = i == on
            s.oval(
                0,
                y,
                size * 0.31,
                size * 0.31,
                colour if bright else dim(colour, 0.3),
                inside=True,
                glow=bright,
            )
            if bright and canvas.tint.lamps:
                s.light(0, y, size * 0.55, colour, 0.8)
        return
    size *= 1.2
    y = tall + size * 0.45
    begin_thing(canvas, thing, number, SIGN, camera, size * size * 0.6)
    shape = int(look[2] * 4) % 4
    if shape == 0:
        s.oval(0, y, size / 2, size / 2, (214, 30, 34))
        s.oval(0, y, size * 0.3, size * 0.3, (244, 244, 244), inside=True)
    elif shape == 1:
        s.poly(
            ((-size * 0.58, y - size * 0.46), (size * 0.58, y - size * 0.46), (0, y + size * 0.56)),
            (214, 30, 34),
        )
        s.poly(
            ((-size * 0.28, y - size * 0.28), (size * 0.28, y - size * 0.28), (0, y + size * 0.22)),
            (246, 244, 236),
            inside=True,
        )
    elif shape == 2:
        s.box(-size / 2, y - size / 2, size / 2, y + size / 2, (28, 92, 200))
        s.box(-size * 0.22, y - size * 0.3, size * 0.22, y + size * 0.3, (244, 244, 244), inside=True)
    else:
        s.poly(((0, y - size * 0.62), (size * 0.62, y), (0, y + size * 0.62), (-size * 0.62, y)), (244, 244, 244))
        s.poly(
            ((0, y - size * 0.42), (size * 0.42, y), (0, y + size * 0.42), (-size * 0.42, y)),
            (246, 196, 36),
            inside=True,
        )


PAINTERS: dict[str, Callable[[Canvas, Camera, Thing, int], None]] = {
    "car": car,
    "bus": bus,
    "truck": truck,
    "person": person,
    "bicycle": two_wheeler,
    "motorcycle": two_wheeler,
    "cyclist": two_wheeler,
    "motorcyclist": two_wheeler,
    "lamp": pole,
    "traffic light": pole,
    "traffic sign": pole,
}
