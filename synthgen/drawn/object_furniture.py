"""The indoor classes of the objects world; the chair faces +x, the others face the viewer."""

from __future__ import annotations

import math

import numpy as np

from synthgen.drawn.object_pen import RGB, Pen, shade

_WHITE: RGB = (240, 240, 238)


def bottle(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    half = rng.uniform(0.125, 0.15)
    body = rng.uniform(0.42, 0.50)
    neck = rng.uniform(0.042, 0.055)
    pen.blob(
        [
            (-half, 0.03),
            (-half, body * 0.5),
            (-half, body),
            (-half * 0.75, body + 0.08),
            (-neck, body + 0.15),
            (-neck, body + 0.28),
            (neck, body + 0.28),
            (neck, body + 0.15),
            (half * 0.75, body + 0.08),
            (half, body),
            (half, body * 0.5),
            (half, 0.03),
            (half * 0.7, 0.0),
            (-half * 0.7, 0.0),
        ],
        colour,
    )
    pen.box(half * 0.45, 0.03, half * 0.94, body, shade(colour, 0.76), 0.02)
    pen.stroke([(-half * 0.66, 0.06), (-half * 0.66, body - 0.01)], 0.034, shade(colour, 1.5))
    pen.stroke([(-neck * 0.4, body + 0.13), (-neck * 0.4, body + 0.22)], 0.022, shade(colour, 1.5))
    pen.box(-half, 0.13, half, 0.13 + body * 0.48, (244, 234, 206))
    pen.box(
        -half * 0.62,
        0.19,
        half * 0.62,
        0.13 + body * 0.30,
        ((170, 48, 44), (56, 92, 60))[int(rng.integers(2))],
    )
    pen.box(
        -neck - 0.014,
        body + 0.225,
        neck + 0.014,
        body + 0.31,
        ((200, 164, 70), (60, 44, 40))[int(rng.integers(2))],
    )


def chair(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    back = rng.uniform(0.72, 0.82)
    slats = int(rng.integers(2, 4))
    seat = rng.uniform(0.33, 0.38)
    dark = shade(colour, 0.68)
    far, near, front, far_front = (
        (-0.08, seat + 0.07),
        (-0.22, seat - 0.03),
        (0.14, seat - 0.03),
        (0.25, seat + 0.07),
    )
    for x, y in ((far[0], 0.10), (far_front[0] - 0.02, 0.10)):
        pen.stroke([(x, seat), (x, y)], 0.052, shade(colour, 0.55), round_ends=False)
    pen.stroke([far, (far[0] - 0.03, back + 0.03)], 0.055, dark)
    for k in range(slats):
        y = back - 0.01 - k * 0.30 / slats
        pen.polygon(
            [
                (near[0] - 0.03, y - 0.055),
                (far[0] - 0.03, y - 0.02),
                (far[0] - 0.03, y + 0.05),
                (near[0] - 0.03, y + 0.02),
            ],
            shade(colour, 0.84),
        )
    pen.polygon([near, front, far_front, far], shade(colour, 1.18))
    pen.polygon(
        [
            (near[0] - 0.02, seat - 0.09),
            (front[0] + 0.01, seat - 0.09),
            (front[0] + 0.01, seat - 0.025),
            (near[0] - 0.02, seat - 0.025),
        ],
        colour,
    )
    pen.polygon(
        [
            (front[0], seat - 0.09),
            (far_front[0], seat + 0.015),
            (far_front[0], seat + 0.07),
            (front[0], seat - 0.025),
        ],
        dark,
    )
    pen.stroke([(near[0], 0.0), (near[0], seat), (near[0] - 0.035, back - 0.03)], 0.062, colour)
    pen.stroke([(front[0] - 0.02, 0.0), (front[0] - 0.02, seat - 0.06)], 0.062, colour, round_ends=False)


def diningtable(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    top = rng.uniform(0.38, 0.44)
    leg = rng.uniform(0.055, 0.075)
    dish = int(rng.integers(3))
    for x in (-0.25, 0.25):
        pen.box(x - leg * 0.4, 0.09, x + leg * 0.4, top, shade(colour, 0.52))
    for x in (-0.35, 0.35):
        pen.box(x - leg / 2, 0.0, x + leg / 2, top, shade(colour, 0.82))
    pen.box(-0.38, top - 0.085, 0.38, top, shade(colour, 0.7))
    pen.polygon([(-0.45, top), (0.45, top), (0.34, top + 0.15), (-0.34, top + 0.15)], shade(colour, 1.12))
    pen.box(-0.45, top - 0.04, 0.45, top + 0.004, colour)
    pen.stroke([(-0.36, top + 0.05), (0.36, top + 0.05)], 0.01, shade(colour, 0.9), round_ends=False)
    if dish != 1:
        for x in (-0.2, 0.2):
            pen.ellipse(x, top + 0.075, 0.095, 0.036, _WHITE)
            pen.ellipse(x, top + 0.077, 0.055, 0.018, (206, 206, 210))
    if dish != 0:
        pen.ellipse(0.0, top + 0.12, 0.035, 0.05, (228, 110, 40))
        pen.disc(-0.05, top + 0.12, 0.043, (206, 40, 40))
        pen.disc(0.05, top + 0.12, 0.043, (120, 180, 50))
        pen.blob(
            [(-0.12, top + 0.115), (0.12, top + 0.115), (0.06, top + 0.05), (-0.06, top + 0.05)],
            (96, 130, 186),
        )


def pottedplant(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    half = rng.uniform(0.135, 0.165)
    rim = rng.uniform(0.26, 0.31)
    flower: RGB | None = ((236, 70, 90), (250, 210, 70), (236, 130, 210))[int(rng.integers(3))]
    if rng.random() < 0.6:
        flower = None
    leaves = int(rng.integers(7, 10))
    pen.stroke([(0, rim), (0, rim + 0.2)], 0.04, (60, 110, 44))
    order = np.argsort(np.abs(np.linspace(-1, 1, leaves)))[::-1]
    for rank, k in enumerate(order):
        spread = float(-1 + 2 * k / (leaves - 1))
        angle = math.pi / 2 - spread * 1.35 + float(rng.uniform(-0.1, 0.1))
        length = float(rng.uniform(0.15, 0.19)) * (1.08 - 0.2 * abs(spread))
        x, y = math.cos(angle) * length * 1.05, rim + 0.09 + math.sin(angle) * length
        green = shade((62, 148, 58), (0.74, 1.0, 1.14)[rank % 3])
        pen.ellipse(x, y, length * 0.94, 0.058, green, angle)
        pen.stroke(
            [(x * 0.5, rim + 0.09 + (y - rim - 0.09) * 0.5), (x * 1.5, rim + 0.09 + (y - rim - 0.09) * 1.5)],
            0.012,
            shade(green, 0.72),
            round_ends=False,
        )
    if flower:
        for x, y in ((-0.15, 0.30), (0.02, 0.37), (0.16, 0.27)):
            pen.disc(x, rim + y, 0.052, flower)
            pen.disc(x, rim + y, 0.022, (250, 236, 160))
    pen.polygon([(-half, rim), (half, rim), (half * 0.7, 0.0), (-half * 0.7, 0.0)], colour)
    pen.polygon([(half * 0.35, rim), (half, rim), (half * 0.7, 0.0), (half * 0.25, 0.0)], shade(colour, 0.76))
    pen.box(-half - 0.03, rim - 0.055, half + 0.03, rim + 0.025, shade(colour, 1.12), 0.012)
    pen.box(-half, rim - 0.075, half, rim - 0.055, shade(colour, 0.6))


def sofa(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    back = rng.uniform(0.42, 0.50)
    seats = int(rng.integers(2, 4))
    arm = rng.uniform(0.29, 0.34)
    for x in (-0.36, 0.36):
        pen.box(x - 0.032, 0.0, x + 0.032, 0.08, (84, 54, 34))
    pen.box(-0.38, 0.10, 0.38, back, shade(colour, 0.84), 0.06)
    width = 0.66 / seats
    for k in range(seats):
        x = -0.33 + k * width
        pen.box(x + 0.008, 0.22, x + width - 0.008, back - 0.03, shade(colour, 0.98), 0.04)
    pen.box(-0.40, 0.05, 0.40, 0.17, shade(colour, 0.66), 0.02)
    for k in range(seats):
        x = -0.33 + k * width
        pen.box(x + 0.006, 0.14, x + width - 0.006, 0.255, shade(colour, 1.16), 0.03)
    for side in (-1, 1):
        x = side * 0.385
        pen.box(x - 0.07, 0.05, x + 0.07, arm, shade(colour, 0.92), 0.055)
        pen.ellipse(x, arm - 0.055, 0.046, 0.036, shade(colour, 1.18))
    if rng.random() < 0.5:
        x = 0.2 if rng.random() < 0.5 else -0.2
        pen.box(x - 0.075, 0.235, x + 0.075, 0.375, ((246, 226, 180), (90, 110, 150))[int(rng.integers(2))], 0.025)


def tvmonitor(pen: Pen, rng: np.random.Generator, colour: RGB) -> None:
    half = rng.uniform(0.33, 0.39)
    low, high = 0.16, rng.uniform(0.60, 0.68)
    edge = rng.uniform(0.045, 0.06)
    show = int(rng.integers(3))
    pen.polygon([(-0.045, 0.03), (0.045, 0.03), (0.035, low + 0.02), (-0.035, low + 0.02)], (72, 74, 80))
    pen.blob([(-0.20, 0.01), (-0.1, 0.05), (0.1, 0.05), (0.20, 0.01), (0.0, 0.0)], (56, 58, 64))
    pen.box(-half, low, half, high, colour, 0.03)
    x0, y0, x1, y1 = -half + edge, low + edge + 0.015, half - edge, high - edge
    if show == 0:
        pen.box(x0, y0, x1, y1, (34, 40, 52))
        pen.polygon([(x0, y1), (x0 + 0.20, y1), (x0 + 0.04, y0), (x0, y0)], (66, 76, 94))
        pen.polygon([(x0 + 0.27, y1), (x0 + 0.34, y1), (x0 + 0.18, y0), (x0 + 0.11, y0)], (58, 68, 86))
    elif show == 1:
        pen.box(x0, y0, x1, y1, (112, 186, 236))
        pen.disc(x1 - 0.11, y1 - 0.09, 0.05, (255, 226, 110))
        pen.polygon(
            [(x0, y0), (x0, y0 + 0.10), (x0 + 0.20, y0 + 0.20), (0.06, y0 + 0.08), (x1, y0 + 0.16), (x1, y0)],
            (70, 140, 74),
        )
    else:
        pen.box(x0, y0, x1, y1, (38, 70, 150))
        for k in range(4):
            pen.stroke(
                [(x0 + 0.06, y1 - 0.06 - 0.072 * k), (x1 - 0.08 - 0.09 * (k % 2), y1 - 0.06 - 0.072 * k)],
                0.026,
                (210, 226, 250),
                round_ends=False,
            )
    pen.disc(half - 0.06, low + edge * 0.55, 0.014, (80, 220, 110))
