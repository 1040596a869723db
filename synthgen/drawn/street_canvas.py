"""The drawing surface of the street world: paint and labels laid down by the same strokes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from synthgen.drawn.street_layout import Camera, Thing

Colour = tuple[float, float, float]
Point = tuple[float, float]

FIRST_COUNTABLE = 11  # person; the classes from here on are told apart as instances


@dataclass(frozen=True, slots=True)
class Label:
    """What one index of the label canvas stands for."""

    class_id: int
    thing: int  # index of the placed thing, -1 for scenery
    surface: str  # "flat" at depth `depth_m`, "ground", or "facade" at lateral position `depth_m`
    depth_m: float
    countable: bool
    full_px: float  # rough area if nothing hid it, 0 = not judged


@dataclass(frozen=True, slots=True)
class Light:
    """A lamp that glows where its own label is visible; output pixels."""

    x: float
    y: float
    radius_px: float
    colour: Colour
    strength: float
    label: int


@dataclass(frozen=True, slots=True)
class Tint:
    """How a domain changes every painted colour: mix to grey, scale, lift; what is lit."""

    grey: float = 0.0
    gain: Colour = (1.0, 1.0, 1.0)
    lift: float = 0.0
    snow: bool = False
    lamps: bool = False  # vehicles and street lamps are on
    windows: bool = False  # houses are lit from inside


class Canvas:
    """An RGB and a label surface, `scale` times finer than the output; coordinates in output pixels."""

    def __init__(self, backdrop: Image.Image, scale: int, tint: Tint) -> None:
        self.rgb = backdrop
        self.index = Image.new("L", backdrop.size, 0)
        self.scale = scale
        self.tint = tint
        self.labels: list[Label] = []
        self.lights: list[Light] = []
        self._paint = ImageDraw.Draw(self.rgb)
        self._mark = ImageDraw.Draw(self.index)
        self._current = 0

    def begin(
        self,
        class_id: int,
        *,
        thing: int = -1,
        surface: str = "flat",
        depth_m: float = 0.0,
        countable: bool = False,
        full_px: float = 0.0,
    ) -> None:
        """Later strokes belong to this new label."""
        self._current = len(self.labels)
        self.labels.append(Label(class_id, thing, surface, depth_m, countable, full_px))

    def shade(self, colour: Colour) -> tuple[int, int, int]:
        tint = self.tint
        mean = (colour[0] + colour[1] + colour[2]) / 3 * tint.grey
        keep = 1 - tint.grey
        return (
            min(255, max(0, int((colour[0] * keep + mean) * tint.gain[0] + tint.lift))),
            min(255, max(0, int((colour[1] * keep + mean) * tint.gain[1] + tint.lift))),
            min(255, max(0, int((colour[2] * keep + mean) * tint.gain[2] + tint.lift))),
        )

    def poly(self, points: Iterable[Point], colour: Colour, *, inside: bool = False, glow: bool = False) -> None:
        """Fill a polygon; `inside` paints only (detail on the present label), `glow` skips the tint."""
        k = self.scale
        flat = [v * k for point in points for v in point]
        self._paint.polygon(flat, fill=(int(colour[0]), int(colour[1]), int(colour[2])) if glow else self.shade(colour))
        if not inside:
            self._mark.polygon(flat, fill=self._current)

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, *, inside: bool = False, glow: bool = False
    ) -> None:
        k = self.scale
        box = [(x - rx) * k, (y - ry) * k, (x + rx) * k, (y + ry) * k]
        self._paint.ellipse(box, fill=(int(colour[0]), int(colour[1]), int(colour[2])) if glow else self.shade(colour))
        if not inside:
            self._mark.ellipse(box, fill=self._current)

    def stamp(self, rgb: np.ndarray, cover: np.ndarray) -> None:
        """Paint `rgb` (h, w, 3) uint8, of the canvas' own size, where `cover` (h, w) bool says, tinted."""
        tint, colours = self.tint, rgb[cover].astype(np.float32)
        grey = colours.mean(axis=1, keepdims=True) * tint.grey
        tinted = (colours * (1 - tint.grey) + grey) * np.asarray(tint.gain, np.float32) + tint.lift
        painted = np.zeros_like(rgb)
        painted[cover] = np.clip(tinted, 0, 255).astype(np.uint8)
        where = Image.fromarray(cover)
        self.rgb.paste(Image.fromarray(painted), (0, 0), where)
        self.index.paste(self._current, (0, 0, *self.index.size), where)

    def light(self, x: float, y: float, radius_px: float, colour: Colour, strength: float = 0.9) -> None:
        self.lights.append(Light(x, y, radius_px, colour, strength, self._current))


class Stamp:
    """Strokes in metres about a foot point: X to the right (mirrored when `flip`), Y up."""

    def __init__(self, canvas: Canvas, foot: Point, px_per_m: float, flip: bool = False) -> None:
        self.canvas = canvas
        self.x, self.y = foot
        self.k = px_per_m
        self.turn = -px_per_m if flip else px_per_m

    def poly(self, points: Iterable[Point], colour: Colour, *, inside: bool = False, glow: bool = False) -> None:
        self.canvas.poly(
            [(self.x + self.turn * px, self.y - self.k * py) for px, py in points], colour, inside=inside, glow=glow
        )

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, *, inside: bool = False, glow: bool = False
    ) -> None:
        self.poly(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour, inside=inside, glow=glow)

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, *, inside: bool = False, glow: bool = False
    ) -> None:
        self.canvas.oval(
            self.x + self.turn * x, self.y - self.k * y, self.k * rx, self.k * ry, colour, inside=inside, glow=glow
        )

    def stroke(
        self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour, *, inside: bool = False
    ) -> None:
        """A straight bar of the given width in metres."""
        dx, dy = x1 - x0, y1 - y0
        norm = max((dx * dx + dy * dy) ** 0.5, 1e-6)
        nx, ny = -dy / norm * width / 2, dx / norm * width / 2
        self.poly(
            ((x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)), colour, inside=inside
        )

    def light(self, x: float, y: float, radius_m: float, colour: Colour, strength: float = 0.9) -> None:
        self.canvas.light(self.x + self.turn * x, self.y - self.k * y, radius_m * self.k, colour, strength)


def dim(colour: Colour, factor: float) -> Colour:
    """The colour scaled towards black."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def begin_thing(canvas: Canvas, thing: Thing, number: int, class_id: int, camera: Camera, area_m2: float = 0.0) -> None:
    """Start the label of a thing; `area_m2` is its silhouette, to tell later how much of it is hidden."""
    k = camera.focal_px / thing.z
    canvas.begin(
        class_id, thing=number, depth_m=thing.z, countable=class_id >= FIRST_COUNTABLE, full_px=area_m2 * k * k
    )


def ground_shadow(canvas: Canvas, camera: Camera, thing: Thing, half_m: float, length_m: float) -> None:
    """A dark patch on the ground; it takes no label, so it is painted before the thing begins."""
    x, near, far = thing.x, max(thing.z - 0.25, 0.8), thing.z + length_m
    canvas.poly(
        (
            camera.at(x - half_m, 0, near),
            camera.at(x + half_m, 0, near),
            camera.at(x + half_m, 0, far),
            camera.at(x - half_m, 0, far),
        ),
        (44, 44, 48),
        inside=True,
    )


def stamp_at(canvas: Canvas, camera: Camera, thing: Thing, flip: bool = False) -> Stamp:
    """Strokes about the foot point of a thing."""
    return Stamp(canvas, camera.at(thing.x, 0, thing.z), camera.focal_px / thing.z, flip)
