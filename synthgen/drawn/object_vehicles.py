"""The vehicle classes of the objects world, each facing +x."""

from __future__ import annotations

import math

import numpy as np

from synthgen.drawn.object_pen import RGB, SCENERY, Pen, shade

_DARK: RGB = (30, 30, 34)
_METAL: RGB = (150, 154, 160)
_GLASS: RGB = (164, 206, 232)
_LAMP: RGB = (255, 236, 140)
_WHITE: RGB = (240, 240, 238)


def _wheel(pen: Pen, x: float, radius: float) -> None:
    pen.disc(x, radius, radius, _DARK)
    pen.disc(x, radius, radius * 0.55, _METAL)
    pen.disc(x, radius, radius * 0.22, (70, 72, 78))


def aeroplane(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    fin = rng.uniform(0.24, 0.31)
    sweep = rng.uniform(0.12, 0.22)
    band = _WHITE if max(colour) - min(colour) > 60 or max(colour) < 80 else (60, 100, 190)
    pen.polygon([(0.14, 0.05), (-0.06, 0.05), (-0.06 - sweep, 0.22), (0.02 - sweep, 0.22)], shade(colour, 0.62))
    pen.polygon([(-0.24, 0.05), (-0.43, 0.04), (-0.49, fin), (-0.39, fin)], shade(colour, 0.82))
    pen.polygon([(-0.455, fin - 0.065), (-0.36, fin - 0.065), (-0.39, fin), (-0.49, fin)], band)
    pen.blob(
        [
            (0.47, -0.012),
            (0.43, 0.05),
            (0.32, 0.09),
            (0.05, 0.10),
            (-0.22, 0.092),
            (-0.44, 0.075),
            (-0.47, 0.05),
            (-0.28, -0.045),
            (0.0, -0.088),
            (0.3, -0.088),
            (0.43, -0.06),
        ],
        colour,
    )
    pen.blob(
        [
            (0.46, -0.03),
            (0.3, -0.03),
            (0.0, -0.03),
            (-0.24, -0.01),
            (-0.36, 0.0),
            (-0.28, -0.045),
            (0.0, -0.088),
            (0.3, -0.088),
            (0.43, -0.06),
        ],
        shade(colour, 0.76),
    )
    count = int(rng.integers(5, 8))
    for k in range(count):
        x = 0.26 - k * 0.52 / count
        pen.box(x - 0.022, 0.012, x + 0.022, 0.062, (40, 62, 104), 0.012)
    pen.polygon([(0.335, 0.025), (0.425, 0.025), (0.405, 0.062), (0.345, 0.08)], (40, 62, 104))
    pen.polygon([(-0.31, 0.045), (-0.44, 0.045), (-0.54, -0.05), (-0.46, -0.05)], shade(colour, 0.7))
    pen.box(0.0, -0.165, 0.15, -0.085, shade(_METAL, 0.8), 0.035)
    pen.ellipse(0.14, -0.125, 0.016, 0.036, _DARK)
    pen.polygon([(0.15, -0.03), (-0.10, -0.03), (-0.20 - sweep, -0.25), (-0.10 - sweep, -0.25)], shade(colour, 0.88))
    pen.stroke([(0.14, -0.035), (-0.11 - sweep, -0.245)], 0.022, shade(colour, 1.35))


def bicycle(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    radius = rng.uniform(0.175, 0.195)
    bars = int(rng.integers(2))
    basket = rng.random() < 0.25
    for x in (-0.25, 0.25):
        for k in range(4):
            u, v = (
                math.cos(k * math.pi / 4 + 0.2) * radius * 0.9,
                math.sin(k * math.pi / 4 + 0.2) * radius * 0.9,
            )
            pen.stroke([(x - u, radius - v), (x + u, radius + v)], 0.011, (176, 178, 182), round_ends=False)
        pen.ring(x, radius, radius, 0.044, _DARK)
        pen.disc(x, radius, 0.03, (120, 122, 128))
    crank, seat, head = (-0.03, radius - 0.01), (-0.10, 0.42), (0.17, 0.43)
    rear, front = (-0.25, radius), (0.25, radius)
    for line in ((rear, crank), (rear, seat), (crank, head), (seat, head), (crank, seat), (head, front)):
        pen.stroke(line, 0.042, colour)
    pen.disc(*crank, 0.048, (90, 92, 98))
    pen.stroke([crank, (0.02, radius - 0.10)], 0.026, (60, 62, 66))
    pen.stroke([(0.0, radius - 0.105), (0.06, radius - 0.105)], 0.03, _DARK)
    pen.stroke([seat, (-0.112, 0.47)], 0.032, (110, 112, 118))
    pen.blob([(-0.20, 0.485), (-0.10, 0.505), (0.0, 0.485), (-0.09, 0.465)], (54, 34, 26))
    pen.stroke([head, (0.155, 0.51)], 0.034, colour)
    if bars:
        pen.stroke([(0.10, 0.53), (0.16, 0.51), (0.21, 0.53)], 0.038, _DARK)
    else:
        pen.stroke([(0.15, 0.51), (0.23, 0.52), (0.25, 0.46), (0.21, 0.43)], 0.034, _DARK)
    if basket:
        pen.polygon([(0.22, 0.38), (0.34, 0.38), (0.37, 0.50), (0.20, 0.50)], (168, 120, 66))


def boat(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    mast = rng.uniform(0.66, 0.76)
    gaff = rng.random() < 0.35
    x = rng.uniform(-0.02, 0.05)
    cloth: RGB = ((246, 242, 232), (240, 226, 196))[int(rng.integers(2))]
    pen.stroke([(x, 0.12), (x, mast)], 0.032, (104, 70, 42))
    if gaff:
        pen.polygon([(x - 0.02, 0.22), (x - 0.33, 0.23), (x - 0.22, mast - 0.10), (x - 0.02, mast - 0.14)], cloth)
    else:
        pen.polygon([(x - 0.02, 0.22), (x - 0.32, 0.22), (x - 0.16, 0.42), (x - 0.02, mast - 0.02)], cloth)
    pen.polygon([(x - 0.02, 0.34), (x - 0.27, 0.34), (x - 0.22, 0.40), (x - 0.02, 0.40)], shade(colour, 1.1))
    pen.polygon([(x + 0.025, 0.23), (x + 0.29, 0.24), (x + 0.025, mast - 0.06)], shade(cloth, 0.88))
    pen.polygon([(x, mast), (x - 0.10, mast + 0.02), (x, mast + 0.045)], (214, 50, 46))
    pen.blob(
        [
            (-0.37, 0.175),
            (-0.2, 0.16),
            (0.1, 0.165),
            (0.44, 0.22),
            (0.36, 0.09),
            (0.25, 0.01),
            (0.0, 0.0),
            (-0.27, 0.01),
            (-0.34, 0.06),
        ],
        colour,
    )
    pen.polygon(
        [(-0.36, 0.17), (0.1, 0.165), (0.42, 0.215), (0.40, 0.165), (0.1, 0.125), (-0.355, 0.13)],
        (134, 88, 50),
    )
    pen.polygon([(-0.33, 0.045), (0.31, 0.045), (0.25, 0.01), (-0.28, 0.01)], shade(colour, 0.66))


def bus(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    top = rng.uniform(0.46, 0.52)
    windows = int(rng.integers(4, 6))
    band = _WHITE if max(colour) - min(colour) > 60 or max(colour) < 80 else (70, 120, 200)
    pen.box(-0.43, 0.07, 0.43, top, colour, 0.045)
    pen.box(-0.41, top - 0.055, 0.40, top - 0.012, shade(colour, 1.3), 0.02)
    pen.box(-0.43, 0.205, 0.43, 0.24, band)
    pen.box(-0.425, 0.075, 0.425, 0.115, shade(colour, 0.62))
    step = 0.62 / windows
    for k in range(windows):
        x = -0.39 + k * step
        pen.box(x, 0.27, x + step * 0.80, top - 0.075, shade(_GLASS, 0.88))
        pen.polygon(
            [(x, 0.27), (x + step * 0.4, 0.27), (x + step * 0.8, top - 0.075), (x + step * 0.4, top - 0.075)],
            shade(_GLASS, 1.25),
        )
    pen.box(0.255, 0.115, 0.345, top - 0.075, shade(_GLASS, 0.74))
    pen.stroke([(0.30, 0.115), (0.30, top - 0.075)], 0.016, shade(colour, 0.7), round_ends=False)
    pen.box(0.375, 0.25, 0.435, top - 0.075, shade(_GLASS, 1.1))
    pen.ellipse(0.415, 0.155, 0.024, 0.03, _LAMP)
    pen.box(-0.435, 0.14, -0.41, 0.19, (214, 40, 36))
    for x in (-0.26, 0.19):
        pen.disc(x, 0.09, 0.105, shade(colour, 0.5))
        _wheel(pen, x, 0.085)


def car(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    roof = rng.uniform(0.36, 0.43)
    rear = rng.uniform(-0.30, -0.20)
    radius = rng.uniform(0.085, 0.10)
    cabin = [(rear - 0.06, 0.22), (rear + 0.04, roof), (0.08, roof), (0.24, 0.22)]
    pen.blob(
        [
            (rear - 0.10, 0.20),
            (rear - 0.01, roof - 0.03),
            (rear + 0.10, roof + 0.01),
            (0.04, roof + 0.01),
            (0.13, roof - 0.03),
            (0.28, 0.20),
        ],
        colour,
    )
    pen.polygon(
        [
            (cabin[0][0] + 0.065, 0.235),
            (cabin[1][0] + 0.03, roof - 0.04),
            (-0.075, roof - 0.04),
            (-0.075, 0.235),
        ],
        _GLASS,
    )
    pen.polygon([(-0.035, 0.235), (-0.035, roof - 0.04), (0.065, roof - 0.04), (0.185, 0.235)], shade(_GLASS, 1.2))
    pen.blob(
        [
            (-0.43, 0.09),
            (-0.43, 0.20),
            (-0.34, 0.245),
            (0.0, 0.235),
            (0.24, 0.235),
            (0.40, 0.19),
            (0.44, 0.12),
            (0.42, 0.06),
            (0.1, 0.055),
            (-0.38, 0.055),
        ],
        colour,
    )
    pen.box(-0.42, 0.06, 0.42, 0.10, shade(colour, 0.6), 0.018)
    pen.stroke([(-0.055, 0.22), (-0.055, 0.11)], 0.014, shade(colour, 0.66), round_ends=False)
    pen.stroke([(-0.15, 0.195), (-0.10, 0.195)], 0.02, shade(colour, 0.55), round_ends=False)
    pen.ellipse(0.405, 0.165, 0.032, 0.03, _LAMP)
    pen.box(-0.435, 0.15, -0.395, 0.195, (200, 30, 34))
    for x in (-0.25, 0.24):
        pen.disc(x, radius, radius + 0.02, shade(colour, 0.45))
        _wheel(pen, x, radius)


def motorbike(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    radius = rng.uniform(0.145, 0.165)
    screen = rng.random() < 0.5
    for x in (-0.26, 0.28):
        pen.disc(x, radius, radius, _DARK)
        pen.disc(x, radius, radius * 0.56, (168, 172, 178))
        pen.disc(x, radius, radius * 0.40, (70, 72, 78))
        pen.disc(x, radius, radius * 0.16, _METAL)
    pen.stroke([(-0.26, radius), (-0.05, 0.17)], 0.05, (84, 86, 92))
    pen.stroke([(0.28, radius), (0.17, 0.45)], 0.045, _METAL)
    pen.box(-0.11, 0.10, 0.11, 0.27, (104, 108, 114), 0.03)
    for y in (0.15, 0.20):
        pen.stroke([(-0.08, y), (0.08, y)], 0.02, (58, 60, 66))
    pen.stroke([(0.06, 0.11), (-0.14, 0.10), (-0.42, 0.14)], 0.052, (186, 188, 192))
    pen.blob([(-0.42, 0.36), (-0.30, 0.31), (-0.15, 0.33), (-0.08, 0.24), (-0.24, 0.25), (-0.37, 0.28)], colour)
    pen.blob([(-0.12, 0.30), (-0.05, 0.42), (0.10, 0.44), (0.18, 0.36), (0.15, 0.25), (0.0, 0.24)], colour)
    pen.blob([(-0.03, 0.37), (0.06, 0.415), (0.11, 0.40), (0.02, 0.36)], shade(colour, 1.45))
    pen.blob([(-0.40, 0.40), (-0.22, 0.36), (-0.06, 0.38), (-0.09, 0.32), (-0.28, 0.31)], (44, 36, 36))
    pen.blob([(0.13, radius + 0.12), (0.26, radius + 0.205), (0.42, radius + 0.13), (0.28, radius + 0.135)], colour)
    pen.stroke([(0.17, 0.45), (0.14, 0.51), (0.06, 0.52)], 0.04, _DARK)
    if screen:
        pen.polygon([(0.16, 0.46), (0.25, 0.42), (0.19, 0.57), (0.16, 0.58)], shade(colour, 0.9))
    pen.ellipse(0.235, 0.42, 0.052, 0.048, (70, 72, 78))
    pen.ellipse(0.255, 0.42, 0.038, 0.042, _LAMP)
    pen.box(-0.43, 0.32, -0.39, 0.36, (220, 36, 36))


def train(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    top = rng.uniform(0.50, 0.58)
    windows = int(rng.integers(4, 6))
    band = _WHITE if max(colour) - min(colour) > 60 or max(colour) < 80 else (206, 50, 46)
    owner, pen.owner = pen.owner, SCENERY
    for k in range(6):
        x = -0.44 + 0.15 * k
        pen.polygon(
            [
                (x, 0.10 - 0.10 * k / 5),
                (x + 0.06, 0.095 - 0.10 * k / 5),
                (x + 0.10, 0.04 - 0.10 * k / 5),
                (x + 0.03, 0.045 - 0.10 * k / 5),
            ],
            (100, 78, 58),
        )
    for shift in (0.0, 0.05):
        pen.stroke([(-0.5, 0.145 - shift), (0.48, 0.015 - shift)], 0.018, (140, 142, 148), round_ends=False)
    pen.owner = owner

    def side(x: float, level: float) -> tuple[float, float]:
        """The point of the receding side at x in [-0.48, 0.12] and height share `level` of the body."""
        near = (x + 0.48) / 0.60
        low, high = 0.165 - 0.085 * near, 0.165 + (top - 0.165) * (0.52 + 0.48 * near)
        return x, low + (high - low) * level

    def panel(x0: float, x1: float, low: float, high: float, paint: RGB) -> None:
        pen.polygon([side(x0, low), side(x1, low), side(x1, high), side(x0, high)], paint)

    for x in (-0.40, -0.28, -0.08, 0.05):
        level = side(x, 0.0)[1]
        pen.disc(x, level - 0.005, 0.045, _DARK)
    panel(-0.48, 0.12, 0.0, 1.0, shade(colour, 0.78))
    panel(-0.48, 0.12, 0.0, 0.10, shade(colour, 0.5))
    panel(-0.48, 0.12, 0.34, 0.44, band)
    panel(-0.48, 0.12, 0.90, 1.0, shade(colour, 1.15))
    edges = -0.47 + 0.58 * (np.linspace(0, 1, windows + 1) ** 0.85)
    for x0, x1 in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        panel(x0 + 0.012, x1 - 0.018, 0.52, 0.82, (56, 84, 122))
    pen.blob(
        [
            (0.11, 0.07),
            (0.10, 0.30),
            (0.12, top - 0.02),
            (0.27, top + 0.03),
            (0.41, top - 0.03),
            (0.44, 0.30),
            (0.42, 0.07),
            (0.27, 0.05),
        ],
        colour,
    )
    pen.box(0.145, 0.33, 0.40, top - 0.06, (50, 74, 112), 0.03)
    pen.polygon([(0.17, 0.335), (0.22, 0.335), (0.30, top - 0.065), (0.25, top - 0.065)], (126, 168, 206))
    pen.box(0.105, 0.25, 0.435, 0.295, band)
    for x in (0.165, 0.38):
        pen.disc(x, 0.19, 0.038, _LAMP)
    pen.disc(0.272, top - 0.02, 0.024, _LAMP)
    pen.box(0.11, 0.06, 0.43, 0.115, (58, 58, 64), 0.02)
    pen.stroke([(0.2, 0.07), (0.2, 0.03), (0.34, 0.03), (0.34, 0.07)], 0.03, (44, 44, 48))
