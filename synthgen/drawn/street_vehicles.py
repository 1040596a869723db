"""Painters of the street's cars, buses and trucks, seen from behind, in front or the side."""

from __future__ import annotations

from math import cos, pi, sin

from synthgen.drawn.street_canvas import (
    Canvas,
    Colour,
    Stamp,
    begin_thing,
    dim,
    ground_shadow,
    stamp_at,
)
from synthgen.drawn.street_layout import BUS_COLOURS, CAR_COLOURS, Camera, Thing

CAR, TRUCK, BUS = 13, 14, 15

_TYRE: Colour = (26, 26, 28)
_HUB: Colour = (150, 152, 156)
_GLASS: Colour = (66, 84, 104)
_SHINE: Colour = (150, 178, 200)
_HEAD: Colour = (255, 246, 214)
_TAIL: Colour = (226, 26, 24)
_ROUND = tuple((cos(2 * pi * i / 16), sin(2 * pi * i / 16)) for i in range(16))


def _flank(
    canvas: Canvas,
    camera: Camera,
    x: float,
    z0: float,
    z1: float,
    y0: float,
    y1: float,
    colour: Colour,
    inside: bool = False,
) -> None:
    canvas.poly(
        (camera.at(x, y0, z0), camera.at(x, y0, z1), camera.at(x, y1, z1), camera.at(x, y1, z0)), colour, inside=inside
    )


def _flank_wheels(canvas: Canvas, camera: Camera, x: float, spots: tuple[float, ...], radius: float) -> None:
    """Wheels on the side plane X = x, at the given z."""
    for middle in spots:
        for r, colour in ((radius, _TYRE), (radius * 0.5, _HUB)):
            canvas.poly(
                [camera.at(x, radius + r * up, middle + r * along) for along, up in _ROUND], colour, inside=r < radius
            )


def _lamps(stamp: Stamp, xs: tuple[float, float], y: float, rx: float, ry: float, front: bool) -> None:
    lit = stamp.canvas.tint.lamps
    colour = _HEAD if front else (255, 40, 30) if lit else _TAIL
    for x in xs:
        stamp.oval(x, y, rx, ry, colour, inside=True, glow=lit)
        if lit:
            stamp.light(x, y, 0.42 if front else 0.3, (255, 238, 180) if front else (255, 40, 30))


def car(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    look, paint = thing.look, CAR_COLOURS[thing.colour]
    tall = 1.42 + 0.22 * look[0]
    if thing.view == "side":
        _car_side(canvas, camera, thing, number, paint, tall)
        return
    half = 0.92 + 0.06 * look[1]
    length = 3.9 + 0.5 * look[2]
    ground_shadow(canvas, camera, thing, half * 1.08, length)
    begin_thing(canvas, thing, number, CAR, camera, half * 2 * tall * 0.85)
    belt = 0.58 * tall
    inner = -half if thing.x > 0 else half
    if abs(thing.x) > half:
        z = thing.z
        _flank(canvas, camera, thing.x + inner, z, z + length, 0.28, belt, dim(paint, 0.72))
        _flank_wheels(canvas, camera, thing.x + inner, (z + 0.75, z + length - 0.8), 0.34)
        canvas.poly(
            (
                camera.at(thing.x + inner * 0.86, belt - 0.05, z),
                camera.at(thing.x + inner * 0.86, belt - 0.05, z + length - 0.7),
                camera.at(thing.x + inner * 0.6, tall, z + length - 1.5),
                camera.at(thing.x + inner * 0.6, tall, z),
            ),
            dim(_GLASS, 0.8),
        )
    s = stamp_at(canvas, camera, thing)
    front = thing.view == "front"
    s.box(-half * 0.94, 0, -half * 0.6, 0.4, _TYRE)
    s.box(half * 0.6, 0, half * 0.94, 0.4, _TYRE)
    s.poly(
        (
            (-half * 0.86, belt - 0.02),
            (half * 0.86, belt - 0.02),
            (half * 0.68, tall * 0.97),
            (half * 0.58, tall),
            (-half * 0.58, tall),
            (-half * 0.68, tall * 0.97),
        ),
        dim(paint, 0.92),
    )
    s.poly(
        (
            (-half, 0.24),
            (half, 0.24),
            (half, belt * 0.86),
            (half * 0.9, belt + 0.03),
            (-half * 0.9, belt + 0.03),
            (-half, belt * 0.86),
        ),
        paint,
    )
    s.poly(
        (
            (-half * 0.74, belt + 0.05),
            (half * 0.74, belt + 0.05),
            (half * 0.58, tall * 0.91),
            (-half * 0.58, tall * 0.91),
        ),
        _GLASS,
        inside=True,
    )
    s.poly(
        (
            (-half * 0.62, belt + 0.16),
            (-half * 0.1, belt + 0.16),
            (-half * 0.25, tall * 0.88),
            (-half * 0.54, tall * 0.88),
        ),
        _SHINE,
        inside=True,
    )
    if canvas.tint.snow:
        s.poly(
            (
                (-half * 0.64, tall * 0.92),
                (half * 0.64, tall * 0.92),
                (half * 0.58, tall),
                (-half * 0.58, tall),
            ),
            (250, 250, 252),
            inside=True,
        )
    s.box(-half, 0.24, half, 0.40, dim(paint, 0.5), inside=True)
    if front:
        s.box(-half * 0.42, 0.42, half * 0.42, belt * 0.76, (44, 44, 48), inside=True)
    else:
        s.box(-half * 0.3, 0.44, half * 0.3, 0.6, (238, 238, 226), inside=True)
    _lamps(s, (-half * 0.76, half * 0.76), belt * 0.74, 0.17, 0.13, front)


def _car_side(canvas: Canvas, camera: Camera, thing: Thing, number: int, paint: Colour, tall: float) -> None:
    look = thing.look
    s = stamp_at(canvas, camera, thing, look[3] < 0.5)
    ground_shadow(canvas, camera, thing, 2.0, 1.7)
    begin_thing(canvas, thing, number, CAR, camera, 4.2 * tall * 0.7)
    belt = 0.58 * tall
    tail = -1.75 if look[4] < 0.4 else -1.25  # estate or saloon
    s.poly(
        (
            (-1.95, belt),
            (tail, tall * 0.97),
            (tail + 0.15, tall),
            (0.45, tall),
            (0.62, tall * 0.97),
            (1.25, belt),
        ),
        dim(paint, 0.95),
    )
    s.poly(
        (
            (-2.1, 0.3),
            (2.1, 0.3),
            (2.12, belt * 0.72),
            (1.95, belt * 0.92),
            (1.15, belt + 0.04),
            (-2.0, belt + 0.04),
            (-2.12, belt * 0.8),
        ),
        paint,
    )
    s.poly(
        ((-1.62, belt + 0.06), (tail + 0.18, tall * 0.91), (-0.42, tall * 0.91), (-0.42, belt + 0.06)),
        _GLASS,
        inside=True,
    )
    s.poly(
        ((-0.28, belt + 0.06), (-0.28, tall * 0.91), (0.44, tall * 0.91), (0.98, belt + 0.06)),
        _GLASS,
        inside=True,
    )
    s.poly(((-0.2, belt + 0.2), (-0.2, tall * 0.88), (0.2, tall * 0.88)), _SHINE, inside=True)
    if canvas.tint.snow:
        s.poly(
            ((tail, tall * 0.93), (tail + 0.15, tall), (0.45, tall), (0.62, tall * 0.93)), (250, 250, 252), inside=True
        )
    s.box(-2.1, 0.3, 2.1, 0.42, dim(paint, 0.55), inside=True)
    s.box(-0.37, 0.42, -0.33, belt, dim(paint, 0.7), inside=True)
    for x in (-1.28, 1.28):
        s.oval(x, 0.36, 0.38, 0.36, _TYRE)
        s.oval(x, 0.36, 0.19, 0.18, _HUB, inside=True)
    lit = canvas.tint.lamps
    s.oval(1.95, belt * 0.72, 0.15, 0.12, _HEAD, inside=True, glow=lit)
    s.oval(-2.0, belt * 0.74, 0.12, 0.12, _TAIL, inside=True, glow=lit)
    if lit:
        s.light(2.0, belt * 0.72, 0.5, (255, 238, 180))
        s.light(-2.0, belt * 0.74, 0.3, (255, 40, 30))


def bus(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    paint, look = BUS_COLOURS[thing.colour], thing.look
    half, tall = 1.25, 2.95 + 0.3 * look[0]
    side = thing.view == "side"
    length = 7.6 if side else 9.0
    ground_shadow(canvas, camera, thing, length / 2 if side else half, 2.3 if side else length)
    begin_thing(canvas, thing, number, BUS, camera, (length if side else 2 * half) * tall * 0.9)
    s = stamp_at(canvas, camera, thing, look[3] < 0.5)
    if side:
        h = length / 2
        s.box(-h, 0.35, h, tall, paint)
        s.box(-h, 0.35, h, 0.95, dim(paint, 0.7), inside=True)
        for i in range(6):
            x = -h + 0.25 + i * (length - 0.3) / 6
            s.box(x, 1.35, x + (length - 0.3) / 6 - 0.22, tall - 0.5, _GLASS, inside=True)
        s.box(h - 1.15, 0.5, h - 0.3, tall - 0.5, dim(_SHINE, 0.8), inside=True)
        for x in (-h * 0.62, h * 0.58):
            s.oval(x, 0.48, 0.5, 0.48, _TYRE)
            s.oval(x, 0.48, 0.24, 0.24, _HUB, inside=True)
        if canvas.tint.lamps:
            s.light(h, 0.8, 0.5, (255, 238, 180))
    else:
        inner = -half if thing.x > 0 else half
        x = thing.x + inner
        if abs(thing.x) > half:
            _flank(canvas, camera, x, thing.z, thing.z + length, 0.3, tall, dim(paint, 0.72))
            _flank(
                canvas,
                camera,
                x,
                thing.z + 0.4,
                thing.z + length - 0.4,
                1.4,
                tall - 0.5,
                dim(_GLASS, 0.8),
                True,
            )
            _flank_wheels(canvas, camera, x, (thing.z + 1.5, thing.z + length - 2), 0.48)
        s.box(-half * 0.92, 0, -half * 0.6, 0.5, _TYRE)
        s.box(half * 0.6, 0, half * 0.92, 0.5, _TYRE)
        s.poly(
            (
                (-half, 0.3),
                (half, 0.3),
                (half, tall - 0.18),
                (half * 0.86, tall),
                (-half * 0.86, tall),
                (-half, tall - 0.18),
            ),
            paint,
        )
        s.box(-half, 0.3, half, 0.55, dim(paint, 0.55), inside=True)
        s.box(-half * 0.88, 1.2, half * 0.88, tall - 0.62, _GLASS, inside=True)
        s.poly(
            ((-half * 0.8, 1.35), (-half * 0.3, 1.35), (-half * 0.1, tall - 0.7), (-half * 0.6, tall - 0.7)),
            _SHINE,
            inside=True,
        )
        s.box(-half * 0.7, tall - 0.5, half * 0.7, tall - 0.18, (34, 34, 36), inside=True)
        s.box(-half * 0.45, tall - 0.42, half * 0.45, tall - 0.26, (255, 176, 60), inside=True, glow=canvas.tint.lamps)
        _lamps(s, (-half * 0.78, half * 0.78), 0.82, 0.18, 0.15, thing.view == "front")
    if canvas.tint.snow:
        w = length / 2 if side else half * 0.86
        s.box(-w, tall - 0.16, w, tall, (250, 250, 252), inside=True)


def truck(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    paint, look = BUS_COLOURS[thing.colour], thing.look
    cargo: Colour = (228, 226, 218) if look[5] < 0.6 else dim(paint, 0.8)
    half, tall = 1.2, 2.75 + 0.35 * look[0]
    side = thing.view == "side"
    ground_shadow(canvas, camera, thing, 3.1 if side else half, 2.3 if side else 6.0)
    begin_thing(canvas, thing, number, TRUCK, camera, (6.2 if side else 2 * half) * tall * 0.85)
    s = stamp_at(canvas, camera, thing, look[3] < 0.5)
    if side:
        s.box(-3.1, 0.5, 3.0, 0.85, (60, 60, 64))
        s.box(-3.1, 0.8, 1.35, tall, cargo)
        s.box(-3.1, 1.5, 1.35, 1.85, paint, inside=True)
        s.poly(((1.5, 0.45), (3.1, 0.45), (3.1, 1.3), (2.75, 2.2), (1.5, 2.2)), paint)
        s.poly(((2.1, 1.3), (2.95, 1.3), (2.65, 2.05), (2.1, 2.05)), _GLASS, inside=True)
        for x in (-2.2, -1.2, 2.25):
            s.oval(x, 0.48, 0.48, 0.48, _TYRE)
            s.oval(x, 0.48, 0.23, 0.23, _HUB, inside=True)
        if canvas.tint.lamps:
            s.light(3.05, 0.8, 0.5, (255, 238, 180))
        top = (-3.1, 1.35)
    else:
        front = thing.view == "front"
        inner = -half if thing.x > 0 else half
        x, z = thing.x + inner, thing.z
        if front:
            z += 1.6
        if abs(thing.x) > half:
            _flank(canvas, camera, x, z, thing.z + 6.2, 0.75, tall, dim(cargo, 0.72))
            if front:
                _flank(canvas, camera, x, thing.z, thing.z + 1.5, 0.4, 2.2, dim(paint, 0.72))
            _flank_wheels(canvas, camera, x, (thing.z + 0.9, thing.z + 4.6), 0.48)
        s.box(-half * 0.92, 0, -half * 0.55, 0.6, _TYRE)
        s.box(half * 0.55, 0, half * 0.92, 0.6, _TYRE)
        if front:
            s.box(-half, 1.9, half, tall, dim(cargo, 0.92))
            s.poly(
                (
                    (-half, 0.4),
                    (half, 0.4),
                    (half, 1.5),
                    (half * 0.9, 2.25),
                    (-half * 0.9, 2.25),
                    (-half, 1.5),
                ),
                paint,
            )
            s.poly(
                ((-half * 0.86, 1.4), (half * 0.86, 1.4), (half * 0.78, 2.1), (-half * 0.78, 2.1)),
                _GLASS,
                inside=True,
            )
            s.box(-half * 0.5, 0.75, half * 0.5, 1.15, (48, 48, 52), inside=True)
        else:
            s.box(-half, 0.55, half, tall, cargo)
            s.box(-half, 0.55, half, 0.8, (58, 58, 62), inside=True)
            s.box(-0.05, 0.85, 0.05, tall - 0.1, dim(cargo, 0.6), inside=True)
            s.box(-half * 0.94, 0.85, -half * 0.84, tall - 0.1, paint, inside=True)
            s.box(half * 0.84, 0.85, half * 0.94, tall - 0.1, paint, inside=True)
        _lamps(s, (-half * 0.78, half * 0.78), 0.7, 0.17, 0.13, front)
        top = (-half, half)
    if canvas.tint.snow:
        s.box(top[0], tall - 0.16, top[1], tall, (250, 250, 252), inside=True)
