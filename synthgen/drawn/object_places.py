"""The six backgrounds of the objects world, and what the time of day and the weather do to light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from synthgen.drawn.object_pen import RGB, SCENERY, Pen, new_canvas, shade

_TILE_SEED = 7_301
_OVERSAMPLING = 3
# (vertical, horizontal) correlation lengths in pixels of a 64-pixel image, and the spectrum's fall-off.
_TEXTURES = {
    "cloud": (7.0, 15.0, 1.5),
    "soft": (4.0, 4.0, 1.2),
    "blade": (1.3, 0.9, 1.0),
    "ripple": (0.9, 5.0, 1.2),
    "grain": (0.8, 0.8, 1.0),
}
_WALLS: tuple[RGB, ...] = ((232, 214, 182), (206, 218, 224), (226, 202, 198), (208, 222, 198))
_FLOOR: RGB = (150, 100, 64)


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A lit, still dry and clear background."""

    image: np.ndarray  # (H, W, 3) float32, 0..255
    object_light: np.ndarray  # (H, W, 3) or (3,) float32 factors for what stands in it


@cache
def noise_tile(kind: str, size_px: int) -> np.ndarray:
    """(3 * size, 3 * size) float32 periodic noise of mean 0 and standard deviation 1."""
    side = 3 * size_px
    high, wide, fall = _TEXTURES[kind]
    zoom = size_px / 64
    rng = np.random.default_rng([_TILE_SEED, sorted(_TEXTURES).index(kind)])
    v, u = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    radius = (v * high * zoom * 2 * math.pi) ** 2 + (u * wide * zoom * 2 * math.pi) ** 2
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / (1 + radius) ** fall
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum, (side, side))
    return (tile / tile.std()).astype(np.float32)


def noise(kind: str, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) float32 window at a random place of the tile (a view: do not write into it)."""
    y, x = rng.integers(0, 2 * size_px, 2)
    return noise_tile(kind, size_px)[y : y + size_px, x : x + size_px]


@cache
def _rows(size_px: int) -> np.ndarray:
    """(size, 1, 1) heights of the pixel rows: 0 at the top, 1 at the bottom."""
    return ((np.arange(size_px, dtype=np.float32) + 0.5) / size_px)[:, None, None]


def _colour(*rgb: float) -> np.ndarray:
    return np.array(rgb, np.float32)


def _sky(size_px: int, horizon: float, time: str, weather: str, rng: np.random.Generator) -> np.ndarray:
    clouds = noise("cloud", size_px, rng)[..., None]
    stars = rng.random((26, 2))
    moon_x, moon_y = rng.uniform(0.12, 0.88), rng.uniform(0.08, 0.17)
    if time == "day":
        top, low, cloud = ((84, 150, 222), (186, 218, 242), (255, 255, 255))
        if weather == "rain":
            top, low, cloud = ((112, 120, 132), (160, 168, 176), (92, 98, 108))
    else:
        top, low, cloud = ((12, 16, 46), (36, 44, 88), (34, 40, 74))
        if weather == "rain":
            top, low, cloud = ((20, 24, 36), (42, 48, 62), (52, 56, 70))
    share = np.clip(_rows(size_px) / horizon, 0, 1)
    sky = _colour(*top) + (_colour(*low) - _colour(*top)) * share
    sky = sky + (_colour(*cloud) - sky) * np.clip(clouds * 0.5 - 0.1, 0, 0.85)
    if time == "night" and weather != "rain":
        places = (stars * [horizon * size_px, size_px]).astype(int)
        sky[places[:, 0], places[:, 1]] += 90 + 80 * (stars[:, :1] > 0.5)
        # The moon's distance field gives it a soft rim and a halo at any image size.
        y, x = _rows(size_px)[..., 0] - moon_y, _rows(size_px)[:, 0].T - moon_x
        distance = np.sqrt(y * y + x * x)[..., None]
        disc = np.clip((0.062 - distance) * size_px + 0.5, 0, 1)
        sky += 42 * np.exp(-distance / 0.07)
        sky += (_colour(250, 244, 212) - sky) * disc
    return sky


def _land_colours(place: str) -> tuple[RGB, tuple[str, float], tuple[str, float]]:
    """Ground colour, then its fine and coarse texture with their strengths."""
    return {
        "grass": ((84, 154, 56), ("blade", 0.13), ("soft", 0.08)),
        "road": ((110, 112, 118), ("grain", 0.07), ("soft", 0.04)),
        "sand": ((226, 196, 134), ("ripple", 0.05), ("soft", 0.04)),
        "sea": ((36, 104, 168), ("ripple", 0.17), ("cloud", 0.08)),
        "snow": ((232, 238, 246), ("soft", 0.035), ("grain", 0.012)),
    }[place]


def _paint_land(pen: Pen, place: str, rng: np.random.Generator) -> float:
    """Paints what is not sky; returns the horizon as a share of the height from the top."""
    base = _land_colours(place)[0]
    horizon = float(rng.uniform(0.42, 0.56))
    level = 1 - horizon
    waves, amount = rng.uniform(0, 2 * math.pi, 3), rng.uniform(0.4, 1.0)
    crest = {"grass": 0.035, "sand": 0.022, "snow": 0.03}.get(place, 0.0) * float(amount)

    def ridge(height: float, bend: float, phase: float, frequency: float, colour: RGB) -> None:
        top = [(k / 20, height + bend * math.sin(frequency * k / 20 + phase)) for k in range(21)]
        pen.polygon([*top, (1.02, -0.02), (-0.02, -0.02)], colour)

    trees = rng.random((5, 2))
    count = int(rng.integers(2, 6))
    if place == "snow":
        for x, size in trees[:count].tolist():
            tall = 0.10 + 0.10 * size
            pen.box(x - 0.012, level - 0.02, x + 0.012, level + 0.03, (92, 70, 54))
            for step in (0.0, 0.3):
                pen.polygon(
                    [
                        (x - tall * (0.42 - step * 0.5), level + 0.02 + step * tall),
                        (x + tall * (0.42 - step * 0.5), level + 0.02 + step * tall),
                        (x, level + 0.02 + tall * (0.7 + step)),
                    ],
                    (58, 100, 84),
                )
            pen.polygon(
                [
                    (x - tall * 0.12, level + 0.02 + tall * 0.74),
                    (x + tall * 0.12, level + 0.02 + tall * 0.74),
                    (x, level + 0.02 + tall),
                ],
                (236, 242, 248),
            )
    if place in ("grass", "sand", "snow"):
        ridge(level + 0.012, crest, waves[0], 5.0, shade(base, 0.86))
    if place == "road":
        pen.box(-0.02, -0.02, 1.02, level, (88, 146, 66))
        middle = float(rng.uniform(0.42, 0.58))
        edge = float(rng.uniform(0.62, 0.78))

        def lane(offset: float, half_near: float, y0: float, y1: float, colour: RGB) -> None:
            """A strip from height y0 to y1 (shares of the ground) of a road that narrows to the horizon."""
            w0, w1 = 1 - y0 * 0.93, 1 - y1 * 0.93
            centre, at0, at1 = middle + offset, level * y0, level * y1
            pen.polygon(
                [
                    (middle + (centre - middle - half_near) * w0, at0),
                    (middle + (centre - middle + half_near) * w0, at0),
                    (middle + (centre - middle + half_near) * w1, at1),
                    (middle + (centre - middle - half_near) * w1, at1),
                ],
                colour,
            )

        lane(0.0, edge, -0.05, 1.0, base)
        for side in (-1, 1):
            lane(side * (edge - 0.07), 0.02, -0.05, 1.0, (214, 214, 208))
        dash = float(rng.uniform(0.0, 0.12))
        for y0, y1 in ((0.0, 0.16), (0.30, 0.46), (0.58, 0.70), (0.78, 0.87)):
            lane(0.0, 0.035, max(y0 + dash - 0.1, -0.02), y1 + dash - 0.05, (240, 240, 234))
    else:
        ridge(level - 0.035 if crest else level, crest * 0.7, waves[1], 4.0, base)
    if place == "grass":
        for x, y in rng.random((7, 2)).tolist():
            pen.disc(x, y * level * 0.8, 0.012, ((250, 240, 120), (250, 250, 250))[int(y * 20) % 2])
    elif place == "sand":
        for x, y in rng.random((5, 2)).tolist():
            pen.ellipse(x, y * level * 0.8, 0.018, 0.011, (176, 146, 98))
    elif place == "sea":
        for x, y in rng.random((9, 2)).tolist():
            width = 0.03 + 0.06 * (1 - y)
            pen.box(x - width, y * level * 0.94, x + width, y * level * 0.94 + 0.016, (170, 212, 236), 0.007)
    return horizon


def _land(place: str, time: str, weather: str, size_px: int, rng: np.random.Generator) -> Backdrop:
    canvas = new_canvas(size_px * _OVERSAMPLING)
    side = canvas.width
    horizon = _paint_land(Pen(canvas, 0, side, side), place, rng)
    layers = np.asarray(canvas.reduce(_OVERSAMPLING)).astype(np.float32)
    _, (fine, fine_amount), (coarse, coarse_amount) = _land_colours(place)
    texture = 1 + noise(fine, size_px, rng) * fine_amount + noise(coarse, size_px, rng) * coarse_amount
    depth = 0.86 + 0.22 * np.clip((_rows(size_px) - horizon) / (1 - horizon), 0, 1)
    land = layers[..., :3] * texture[..., None] * depth
    sky = _sky(size_px, horizon, time, weather, rng)
    light = object_light = _colour(1, 1, 1)
    if time == "night":
        light, object_light = _colour(0.32, 0.37, 0.56), _colour(0.72, 0.74, 0.88)
    if weather == "rain":
        light = light * _colour(0.74, 0.77, 0.82)
        object_light = object_light * _colour(0.84, 0.86, 0.90)
    # Paint carries the owner code SCENERY in the fourth channel, so that value means fully covered.
    cover = layers[..., 3:] / SCENERY
    return Backdrop(land * light + sky * (1 - np.minimum(cover, 1)), object_light)


def _room(time: str, weather: str, size_px: int, rng: np.random.Generator) -> Backdrop:
    canvas = new_canvas(size_px * _OVERSAMPLING)
    side = canvas.width
    pen = Pen(canvas, 0, side, side)
    wall = _WALLS[int(rng.integers(len(_WALLS)))]
    floor_y = float(rng.uniform(0.26, 0.36))
    window_x = float(rng.choice([rng.uniform(0.05, 0.2), rng.uniform(0.56, 0.7)]))
    window_y, picture = float(rng.uniform(0.62, 0.68)), rng.random() < 0.5
    pen.box(-0.02, floor_y, 1.02, 1.02, wall)
    pen.box(-0.02, -0.02, 1.02, floor_y, _FLOOR)
    for k in range(-9, 10):
        pen.stroke([(0.5 + k * 0.10, floor_y), (0.5 + k * 0.2, -0.01)], 0.008, shade(_FLOOR, 0.76), round_ends=False)
    pen.box(-0.02, floor_y - 0.012, 1.02, floor_y + 0.022, shade(wall, 0.72))
    pane: RGB = (150, 204, 246)
    if time == "night":
        pane = (26, 34, 76)
    elif weather != "clear":
        pane = (206, 212, 216) if weather == "fog" else (138, 148, 160)
    x0, x1, y0, y1 = window_x, window_x + 0.25, window_y, window_y + 0.28
    pen.box(x0 - 0.03, y0 - 0.03, x1 + 0.03, y1 + 0.03, (246, 244, 238))
    pen.box(x0, y0, x1, y1, pane)
    if time == "night" and weather == "clear":
        pen.disc(x0 + 0.06, y1 - 0.07, 0.028, (250, 244, 212))
    elif time == "day" and weather == "clear":
        pen.ellipse(x0 + 0.08, y0 + 0.08, 0.055, 0.026, (250, 252, 255))
        pen.ellipse(x0 + 0.18, y0 + 0.20, 0.05, 0.022, (250, 252, 255))
    pen.box((x0 + x1) / 2 - 0.012, y0, (x0 + x1) / 2 + 0.012, y1, (246, 244, 238))
    pen.box(x0, (y0 + y1) / 2 - 0.012, x1, (y0 + y1) / 2 + 0.012, (246, 244, 238))
    pen.box(x0 - 0.045, y0 - 0.05, x1 + 0.045, y0 - 0.025, (226, 222, 212))
    other_x = 0.70 if window_x < 0.4 else 0.12
    if picture:
        pen.box(other_x, 0.70, other_x + 0.18, 0.86, (120, 84, 52))
        pen.box(other_x + 0.02, 0.72, other_x + 0.16, 0.84, (196, 214, 190))
        pen.polygon([(other_x + 0.02, 0.72), (other_x + 0.08, 0.80), (other_x + 0.16, 0.72)], (108, 140, 110))
    image = np.asarray(canvas.reduce(_OVERSAMPLING))[..., :3].astype(np.float32)
    texture = 1 + noise("soft", size_px, rng) * 0.022 + noise("ripple", size_px, rng) * 0.018
    lit: np.ndarray = image * texture[..., None]
    lamp_x = 0.5 + 0.35 * math.copysign(1, 0.4 - window_x)
    if time == "day":
        light = _colour(1, 1, 1) if weather == "clear" else _colour(0.84, 0.87, 0.90)
        return Backdrop(lit * light, light)
    y, x = _rows(size_px)[..., 0] - 0.12, _rows(size_px)[:, 0].T - lamp_x
    glow = np.exp(-(x * x + y * y) / 0.30)[..., None]
    light = _colour(0.44, 0.34, 0.27) + _colour(0.62, 0.46, 0.22) * glow
    # A pane is a hole into the night, not a lit surface: it keeps its own colour.
    outside = np.zeros((size_px, size_px, 1), np.float32)
    rows = slice(round((1 - y1) * size_px), round((1 - y0) * size_px))
    outside[rows, round(x0 * size_px) : round(x1 * size_px)] = 0.6
    return Backdrop(lit * (light + (1 - light) * outside), _colour(0.70, 0.62, 0.52) + 0.25 * glow)


def backdrop(place: str, time: str, weather: str, size_px: int, rng: np.random.Generator) -> Backdrop:
    """The background. Its geometry uses `rng` alike at every time and in every weather."""
    if place == "room":
        return _room(time, weather, size_px, rng)
    return _land(place, time, weather, size_px, rng)


def add_weather(
    image: np.ndarray, cover: np.ndarray, place: str, time: str, weather: str, rng: np.random.Generator
) -> np.ndarray:
    """`image` behind its weather; `cover` (H, W, 1) in 0..1 is where an object stands in front, so nearer."""
    size_px = image.shape[0]
    if weather == "fog":
        pale = _colour(206, 211, 216) if time == "day" else _colour(84, 92, 116)
        strength = np.clip(0.86 - 0.42 * _rows(size_px), 0.4, 0.8) + 0.05 * noise("cloud", size_px, rng)[..., None]
        if place == "room":
            strength = strength * 0.72
        strength = strength * (1 - cover) + 0.40 * cover
        return image + (pale - image) * strength
    if weather == "rain":
        grey = image.mean(axis=2, keepdims=True)
        image = image + (grey - image) * (0.30 - 0.18 * cover)
        streaks = Image.new("L", (2 * size_px, 2 * size_px))
        pen = _StreakPen(streaks)
        drops = rng.random((30, 3))
        for x, y, length in drops.tolist():
            pen.streak(x * 1.1 - 0.05, y * 1.1 - 0.05, 0.07 + 0.07 * length)
        alpha = np.asarray(streaks.reduce(2)).astype(np.float32)[..., None] * ((0.62 if place != "room" else 0.5) / 255)
        tone = _colour(222, 230, 240) if time == "day" else _colour(140, 152, 184)
        return image + (tone - image) * alpha
    return image


class _StreakPen:
    """Slanted rain streaks on a one-channel canvas."""

    def __init__(self, canvas: Image.Image) -> None:
        self._draw, self._side = ImageDraw.Draw(canvas), canvas.width

    def streak(self, x: float, y: float, length: float) -> None:
        side = self._side
        ends = (x * side, y * side, (x - 0.28 * length) * side, (y + length) * side)
        self._draw.line(ends, fill=255, width=max(1, side // 100))
