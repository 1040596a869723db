"""The living classes of the objects world, each facing +x (the person faces the viewer)."""

from __future__ import annotations

import numpy as np

from synthgen.drawn.object_pen import RGB, Pen, shade

_DARK: RGB = (34, 30, 32)
_WHITE: RGB = (242, 240, 234)
_PINK: RGB = (226, 150, 146)


def _legs(
    pen: Pen,
    near: tuple[float, float],
    far: tuple[float, float],
    top: float,
    width: float,
    coat: RGB,
    hoof: RGB,
) -> None:
    """Two far legs in shadow, then two near ones, from the ground to `top`."""
    for xs, colour in ((far, shade(coat, 0.66)), (near, shade(coat, 0.92))):
        for x in xs:
            pen.polygon(
                [(x - width / 2, 0), (x + width / 2, 0), (x + width * 0.62, top), (x - width * 0.62, top)],
                colour,
            )
            pen.box(x - width * 0.58, 0, x + width * 0.58, width * 0.75, hoof)


def bird(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    beak: RGB = (240, 150, 30)
    plump = rng.uniform(0.92, 1.1)
    tail_y = rng.uniform(0.17, 0.30)
    beak_length = rng.uniform(0.10, 0.15)
    belly = rng.choice([1.45, 1.3])
    for x in (-0.01, 0.09):
        pen.stroke([(x, 0.2), (x + 0.01, 0.02)], 0.032, shade(beak, 0.85))
        pen.stroke([(x - 0.03, 0.016), (x + 0.07, 0.016)], 0.032, beak)
    pen.polygon([(-0.18, 0.34), (-0.45, tail_y + 0.09), (-0.47, tail_y), (-0.16, 0.23)], shade(colour, 0.62))
    pen.blob(
        [
            (-0.26, 0.30),
            (-0.12, 0.42 * plump),
            (0.08, 0.50),
            (0.24, 0.44),
            (0.27, 0.30),
            (0.16, 0.17),
            (-0.02, 0.15),
            (-0.18, 0.20),
        ],
        colour,
    )
    pen.blob([(0.22, 0.42), (0.26, 0.30), (0.16, 0.18), (0.0, 0.16), (0.06, 0.26)], shade(colour, belly))
    pen.polygon([(0.33, 0.56), (0.34, 0.48), (0.34 + beak_length, 0.505)], beak)
    pen.disc(0.23, 0.53, 0.125, shade(colour, 1.06))
    pen.disc(0.275, 0.56, 0.034, _WHITE)
    pen.disc(0.28, 0.56, 0.022, (16, 16, 20))
    pen.blob([(0.12, 0.40), (0.10, 0.27), (-0.08, 0.22), (-0.33, 0.24), (-0.14, 0.38)], shade(colour, 0.72))
    pen.stroke([(0.02, 0.30), (-0.2, 0.26)], 0.018, shade(colour, 0.5))


def cat(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    dark = shade(colour, 0.68) if max(colour) > 80 else shade(colour, 1.16)
    pale = shade(colour, 1.5) if max(colour) < 200 else shade(colour, 0.88)
    eye: RGB = ((150, 210, 70), (245, 200, 50), (110, 190, 235))[int(rng.integers(3))]
    tip = rng.uniform(0.26, 0.44)
    stripes = rng.random() < 0.5
    pen.stroke([(-0.16, 0.06), (-0.29, 0.07), (-0.35, 0.16), (-0.34, tip), (-0.29, tip + 0.06)], 0.075, dark)
    pen.blob(
        [
            (-0.24, 0.10),
            (-0.20, 0.26),
            (-0.10, 0.42),
            (0.04, 0.50),
            (0.17, 0.42),
            (0.19, 0.22),
            (0.20, 0.02),
            (0.0, 0.0),
            (-0.2, 0.01),
        ],
        colour,
    )
    if stripes:
        for y in (0.30, 0.22, 0.14):
            pen.stroke([(-0.23 + y * 0.12, y), (-0.10, y + 0.03)], 0.026, dark)
    pen.ellipse(0.12, 0.28, 0.062, 0.13, pale)
    pen.ellipse(-0.10, 0.10, 0.11, 0.10, shade(colour, 0.84))
    for x in (0.07, 0.17):
        pen.stroke([(x, 0.22), (x + 0.01, 0.035)], 0.072, colour)
        pen.ellipse(x + 0.02, 0.025, 0.05, 0.027, pale)
    for x, lean in ((-0.02, -0.03), (0.18, 0.03)):
        pen.polygon([(x - 0.075, 0.62), (x + 0.075, 0.62), (x + lean, 0.80)], colour)
        pen.polygon([(x - 0.035, 0.64), (x + 0.035, 0.64), (x + lean * 0.8, 0.745)], _PINK)
    pen.ellipse(0.08, 0.565, 0.175, 0.145, colour)
    if stripes:
        for x in (0.04, 0.09, 0.14):
            pen.stroke([(x, 0.70), (x, 0.65)], 0.022, dark)
    pen.ellipse(0.115, 0.505, 0.085, 0.06, pale)
    for x in (0.035, 0.175):
        pen.disc(x, 0.585, 0.04, eye)
        pen.ellipse(x + 0.004, 0.585, 0.016, 0.034, (14, 14, 18))
    pen.ellipse(0.115, 0.528, 0.026, 0.018, (214, 100, 110))


def cow(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    light = max(colour) > 200
    patch = ((44, 42, 46), (128, 78, 42))[int(rng.integers(2))] if light else (238, 234, 226)
    horns = rng.random() < 0.75
    leg = rng.uniform(0.20, 0.25)
    pen.stroke([(-0.33, leg + 0.28), (-0.39, leg + 0.16), (-0.385, leg)], 0.028, shade(colour, 0.8))
    pen.ellipse(-0.385, leg - 0.02, 0.026, 0.05, _DARK if light else shade(colour, 0.6))
    _legs(pen, (-0.25, 0.16), (-0.15, 0.08), leg + 0.06, 0.075, colour, _DARK)
    pen.ellipse(-0.11, leg + 0.01, 0.075, 0.05, _PINK)
    pen.blob(
        [
            (-0.34, leg + 0.20),
            (-0.32, leg + 0.31),
            (-0.10, leg + 0.31),
            (0.16, leg + 0.33),
            (0.25, leg + 0.26),
            (0.24, leg + 0.08),
            (0.10, leg),
            (-0.16, leg + 0.01),
            (-0.31, leg + 0.05),
        ],
        colour,
    )
    for x in (-0.22, -0.02, 0.13):
        if rng.random() < 0.85:
            y = leg + rng.uniform(0.12, 0.24)
            x, size = x + rng.uniform(-0.03, 0.03), rng.uniform(0.045, 0.066)
            pen.blob(
                [
                    (x - size * 1.2, y),
                    (x, y + size),
                    (x + size, y + size * 0.3),
                    (x + size * 0.6, y - size),
                    (x - size * 0.5, y - size * 0.8),
                ],
                patch,
            )
    pen.polygon([(0.14, leg + 0.32), (0.24, leg + 0.08), (0.34, leg + 0.22), (0.30, leg + 0.36)], colour)
    head_y = leg + 0.29
    if horns:
        for x in (0.245, 0.345):
            pen.stroke(
                [(x, head_y + 0.08), (x - 0.015, head_y + 0.145), (x + 0.02, head_y + 0.19)],
                0.036,
                (232, 216, 170),
            )
    pen.ellipse(0.205, head_y + 0.06, 0.07, 0.035, shade(colour, 0.7), 0.25)
    pen.blob(
        [
            (0.22, head_y + 0.09),
            (0.36, head_y + 0.09),
            (0.40, head_y),
            (0.45, head_y - 0.10),
            (0.38, head_y - 0.15),
            (0.29, head_y - 0.10),
        ],
        shade(colour, 1.05),
    )
    pen.ellipse(0.40, head_y - 0.105, 0.072, 0.056, _PINK, -0.5)
    pen.disc(0.415, head_y - 0.10, 0.014, (120, 60, 60))
    pen.disc(0.325, head_y + 0.025, 0.024, (20, 18, 20) if light else _WHITE)
    pen.disc(0.33, head_y + 0.022, 0.014, (16, 14, 16))


def dog(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    ear = shade(colour, 0.55) if max(colour) > 80 else shade(colour, 1.2)
    pale = shade(colour, 1.35) if max(colour) < 200 else shade(colour, 0.9)
    leg = rng.uniform(0.17, 0.26)
    wag = rng.uniform(-0.05, 0.04)
    collar: RGB = ((214, 40, 44), (40, 90, 210))[int(rng.integers(2))]
    pen.stroke([(-0.24, leg + 0.16), (-0.33, leg + 0.25), (-0.36 + wag, leg + 0.40)], 0.055, shade(colour, 0.85))
    _legs(pen, (-0.20, 0.13), (-0.12, 0.06), leg + 0.08, 0.076, colour, pale)
    for x in (-0.19, 0.14):
        pen.ellipse(x + 0.02, 0.024, 0.06, 0.028, pale)
    pen.blob(
        [
            (-0.28, leg + 0.13),
            (-0.22, leg + 0.22),
            (0.0, leg + 0.20),
            (0.16, leg + 0.26),
            (0.22, leg + 0.14),
            (0.16, leg + 0.01),
            (-0.02, leg + 0.04),
            (-0.22, leg + 0.02),
        ],
        colour,
    )
    if rng.random() < 0.5:
        pen.ellipse(-0.08, leg + 0.14, 0.10, 0.06, ear)
    pen.polygon([(0.06, leg + 0.20), (0.22, leg + 0.10), (0.30, leg + 0.30), (0.14, leg + 0.36)], colour)
    head_y = leg + 0.37
    pen.stroke([(0.10, leg + 0.26), (0.27, leg + 0.20)], 0.042, collar, round_ends=False)
    pen.box(0.24, head_y - 0.095, 0.43, head_y + 0.015, pale, 0.05)
    pen.disc(0.21, head_y, 0.125, colour)
    pen.box(0.24, head_y - 0.03, 0.40, head_y + 0.03, colour, 0.028)
    pen.ellipse(0.425, head_y - 0.005, 0.035, 0.03, (20, 18, 20))
    pen.stroke([(0.30, head_y - 0.065), (0.40, head_y - 0.06)], 0.016, (60, 30, 30))
    pen.disc(0.262, head_y + 0.045, 0.03, _WHITE)
    pen.disc(0.268, head_y + 0.045, 0.02, (16, 14, 16))
    pen.ellipse(0.125, head_y - 0.03, 0.06, 0.12, ear, 0.12)


def horse(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    mane = (_DARK, shade(colour, 0.5))[int(rng.integers(2))]
    if max(colour) < 80:
        mane = (92, 90, 100)
    leg = rng.uniform(0.26, 0.32)
    arch = rng.uniform(-0.02, 0.02)
    blaze = rng.random() < 0.4
    pen.stroke([(-0.25, leg + 0.20), (-0.33, leg + 0.14), (-0.34, leg - 0.02), (-0.36, leg - 0.12)], 0.068, mane)
    _legs(
        pen,
        (-0.22, 0.15),
        (-0.14, 0.07),
        leg + 0.06,
        0.066,
        colour,
        _DARK if max(colour) > 80 else (96, 94, 100),
    )
    pen.blob(
        [
            (-0.29, leg + 0.13),
            (-0.25, leg + 0.23),
            (-0.10, leg + 0.21),
            (0.08, leg + 0.21),
            (0.18, leg + 0.23),
            (0.22, leg + 0.12),
            (0.16, leg + 0.01),
            (-0.06, leg + 0.02),
            (-0.25, leg + 0.02),
        ],
        colour,
    )
    neck = [
        (0.02, leg + 0.20),
        (0.20, leg + 0.07),
        (0.27, leg + 0.25),
        (0.33, leg + 0.37),
        (0.22, leg + 0.45 + arch),
    ]
    pen.polygon(neck, colour)
    pen.polygon([(0.215, leg + 0.43), (0.275, leg + 0.43), (0.255, leg + 0.53)], shade(colour, 0.8))
    pen.blob(
        [
            (0.20, leg + 0.43),
            (0.27, leg + 0.465),
            (0.34, leg + 0.40),
            (0.45, leg + 0.30),
            (0.455, leg + 0.235),
            (0.38, leg + 0.215),
            (0.28, leg + 0.29),
        ],
        shade(colour, 1.04),
    )
    pen.ellipse(0.42, leg + 0.255, 0.046, 0.042, shade(colour, 0.72) if max(colour) > 80 else (88, 84, 88), -0.5)
    if blaze:
        pen.stroke([(0.33, leg + 0.405), (0.42, leg + 0.32)], 0.026, _WHITE)
    pen.disc(0.425, leg + 0.26, 0.012, (16, 14, 16))
    pen.disc(0.30, leg + 0.395, 0.02, (16, 14, 16) if max(colour) > 80 else _WHITE)
    pen.stroke([(0.25, leg + 0.49), (0.18, leg + 0.42), (0.10, leg + 0.32), (0.02, leg + 0.21)], 0.062, mane)
    pen.stroke([(0.25, leg + 0.48), (0.29, leg + 0.44)], 0.03, mane)


def sheep(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    face = ((40, 38, 42), (70, 56, 50), (212, 186, 164))[int(rng.integers(3))]
    if max(colour) < 80:
        face = (150, 130, 116)
    leg = rng.uniform(0.14, 0.19)
    _legs(pen, (-0.18, 0.12), (-0.10, 0.05), leg + 0.08, 0.066, face, shade(face, 0.6))
    y = leg + 0.18
    pen.ellipse(-0.04, y, 0.28, 0.18, shade(colour, 0.88))
    for k in range(15):
        angle = 2 * np.pi * k / 15
        curl = shade(colour, 1.0 if np.sin(angle) > -0.3 else 0.82)
        pen.disc(
            -0.04 + 0.265 * float(np.cos(angle)),
            y + 0.155 * float(np.sin(angle)),
            float(rng.uniform(0.062, 0.085)),
            curl,
        )
    pen.ellipse(-0.04, y + 0.02, 0.25, 0.14, colour)
    for k in range(9):
        x, up = -0.22 + 0.045 * k, y - 0.06 + 0.15 * float(rng.random())
        pen.ring(x, up, 0.042, 0.016, shade(colour, 0.8))
    head_y = y + rng.uniform(0.04, 0.12)
    pen.ellipse(0.20, head_y + 0.06, 0.075, 0.03, shade(face, 0.75), 0.45)
    pen.ellipse(0.30, head_y, 0.082, 0.125, face, 0.42)
    for x, up in ((0.23, 0.10), (0.29, 0.115), (0.19, 0.05)):
        pen.disc(x, head_y + up, 0.052, shade(colour, 1.02))
    pen.disc(0.295, head_y + 0.035, 0.027, _WHITE)
    pen.disc(0.30, head_y + 0.033, 0.016, (14, 14, 16))
    pen.ellipse(0.365, head_y - 0.085, 0.02, 0.012, (20, 16, 18) if max(face) > 80 else (150, 120, 120))


def person(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    skin: RGB = ((246, 208, 176), (224, 172, 130), (168, 112, 76), (112, 74, 52))[int(rng.integers(4))]
    hair: RGB = ((40, 28, 24), (104, 64, 32), (214, 172, 84), (150, 60, 30))[int(rng.integers(4))]
    trousers: RGB = ((44, 54, 96), (70, 72, 80), (104, 78, 54), (36, 36, 42))[int(rng.integers(4))]
    spread = rng.uniform(0.0, 0.04)
    lift = rng.uniform(0.0, 0.16) * (1 if rng.random() < 0.6 else 0)
    long_hair = rng.random() < 0.35
    cap = rng.random() < 0.25
    hip, shoulder, head_y = 0.38, 0.66, 0.785
    for side in (-1, 1):
        foot = side * (0.075 + spread)
        pen.polygon(
            [
                (side * 0.005, hip + 0.02),
                (side * 0.125, hip + 0.02),
                (foot + side * 0.055, 0.03),
                (foot - side * 0.045, 0.03),
            ],
            shade(trousers, 1.0 if side > 0 else 0.85),
        )
        pen.ellipse(foot + side * 0.012, 0.025, 0.07, 0.03, (38, 30, 30))
        raised = lift if side > 0 else 0.0
        hand = (side * (0.235 + spread + raised * 0.5), 0.37 + raised * 1.4)
        pen.stroke(
            [(side * 0.125, shoulder - 0.045), (side * (0.20 + raised * 0.3), 0.51 + raised * 0.2), hand],
            0.085,
            shade(colour, 0.86),
        )
        pen.disc(hand[0], hand[1] - 0.01, 0.048, skin)
    if long_hair:
        pen.box(-0.115, 0.63, 0.115, 0.82, hair, 0.05)
    pen.box(-0.04, shoulder - 0.02, 0.04, shoulder + 0.06, shade(skin, 0.82))
    pen.blob(
        [
            (-0.15, shoulder - 0.03),
            (-0.06, shoulder + 0.015),
            (0.06, shoulder + 0.015),
            (0.15, shoulder - 0.03),
            (0.135, 0.48),
            (0.13, hip),
            (-0.13, hip),
            (-0.135, 0.48),
        ],
        colour,
    )
    pen.stroke([(0, shoulder), (0, hip + 0.02)], 0.018, shade(colour, 0.72), round_ends=False)
    pen.ellipse(0, head_y + 0.02, 0.112, 0.122, hair)
    pen.ellipse(0, head_y - 0.015, 0.094, 0.105, skin)
    if cap:
        pen.polygon(
            [
                (-0.112, head_y + 0.05),
                (0.112, head_y + 0.05),
                (0.085, head_y + 0.13),
                (-0.085, head_y + 0.13),
            ],
            shade(colour, 0.8),
        )
    for x in (-0.04, 0.04):
        pen.disc(x, head_y + 0.005, 0.018, (22, 20, 24))
    pen.stroke([(-0.03, head_y - 0.062), (0.03, head_y - 0.062)], 0.018, (170, 60, 60))
