"""The domains of the street world: sky, tint of the paint, and what the air does to the finished picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from synthgen.drawn.street_canvas import Canvas, Light, Tint

DOMAINS = ("day", "night", "fog", "rain", "snow")

TINTS: dict[str, Tint] = {
    "day": Tint(),
    "night": Tint(grey=0.25, gain=(0.39, 0.42, 0.55), lift=2.0, lamps=True, windows=True),
    "fog": Tint(grey=0.2, gain=(0.92, 0.93, 0.95), lift=6.0),
    "rain": Tint(grey=0.35, gain=(0.70, 0.74, 0.80), lift=4.0, lamps=True),
    "snow": Tint(grey=0.15, gain=(0.95, 0.96, 1.0), lift=4.0, snow=True),
}

# Strength of the surface texture by class id; smooth sky, leafy vegetation.
_ROUGH = np.full(256, 0.07, np.float32)
_ROUGH[[0, 1, 2, 8, 9, 10]] = (0.06, 0.06, 0.08, 0.16, 0.15, 0.02)
_ROUGH[11:16] = 0.03
_ROUGH[19:] = 0.03
_FOG = np.array((206, 210, 213), np.float32)


def _vertical(top: tuple[float, ...], bottom: tuple[float, ...], size: tuple[int, int], horizon: float) -> Image.Image:
    height, width = size
    share = np.clip(np.arange(height, dtype=np.float32) / max(horizon, 1.0), 0, 1)[:, None]
    column = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
    return Image.fromarray(column[:, None].astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def sky(rng: np.random.Generator, domain: str, size: tuple[int, int], horizon: float) -> Image.Image:
    """The picture's first layer at canvas scale; `size` (H, W) and `horizon` in canvas pixels."""
    height, width = size
    wobble = rng.uniform(-10, 10, 3)
    spots = rng.random((16, 3))
    if domain == "day":
        warm = spots[15, 2] < 0.15
        top, bottom = ((84, 126, 200), (250, 208, 160)) if warm else ((66, 138, 222), (192, 224, 246))
    elif domain == "night":
        top, bottom = (8, 10, 30), (34, 38, 70)
    elif domain == "fog":
        top, bottom = (196, 200, 204), (208, 211, 213)
    elif domain == "rain":
        top, bottom = (104, 112, 122), (160, 167, 174)
    else:
        top, bottom = (178, 190, 206), (220, 225, 232)
    scale = 0.4 if domain == "night" else 1.0
    image = _vertical(
        tuple(np.clip(np.array(top) + wobble * scale, 0, 255)),
        tuple(np.clip(np.array(bottom) + wobble * scale, 0, 255)),
        size,
        horizon,
    )
    pen = ImageDraw.Draw(image)
    if domain == "day":
        if spots[0, 0] < 0.6:
            _disc(
                pen,
                spots[0, 1] * width,
                (0.1 + 0.25 * spots[0, 2]) * horizon,
                height * 0.045,
                (255, 246, 190),
            )
        for x, y, big in spots[1 : 2 + int(spots[14, 0] * 4)]:
            _cloud(pen, x * width, (0.08 + 0.5 * y) * horizon, height * (0.045 + 0.04 * big), (250, 251, 253))
    elif domain == "night":
        for x, y, _ in spots[2:12]:
            _disc(pen, x * width, y * horizon * 0.7, height / 200, (190, 196, 214))
        _disc(
            pen,
            (0.15 + 0.7 * spots[0, 1]) * width,
            (0.14 + 0.22 * spots[0, 2]) * horizon,
            height * 0.05,
            (246, 242, 214),
        )
    elif domain == "rain":
        for x, y, big in spots[1:6]:
            shade = int(120 + 30 * big)
            _cloud(
                pen,
                x * width,
                y * 0.6 * horizon,
                height * (0.07 + 0.05 * big),
                (shade, shade + 6, shade + 12),
            )
    return image


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: tuple[int, int, int]) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _cloud(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: tuple[int, int, int]) -> None:
    for dx, dy, k in ((-1.5, 0.2, 0.7), (-0.6, -0.2, 1.0), (0.5, -0.1, 0.9), (1.4, 0.25, 0.6)):
        pen.ellipse(
            (
                x + (dx - k * 1.2) * r,
                y + (dy - k * 0.62) * r,
                x + (dx + k * 1.2) * r,
                y + (dy + k * 0.62) * r,
            ),
            fill=colour,
        )


def depth_map(
    canvas: Canvas, index: np.ndarray, focal: float, eye_m: float, vanish_x: float, horizon: float, far_m: float
) -> np.ndarray:
    """(H, W) float32 metres from the labels' surfaces; the sky lies at `far_m`."""
    height, width = index.shape
    rows = np.maximum(np.arange(height, dtype=np.float32) + 0.5 - horizon, 0.2)[:, None]
    columns = np.maximum(np.abs(np.arange(width, dtype=np.float32) + 0.5 - vanish_x), 0.2)[None]
    lateral = np.array([abs(label.depth_m) * focal for label in canvas.labels], np.float32)
    flat = np.array([label.depth_m for label in canvas.labels], np.float32)
    surface = np.array([("flat", "ground", "facade").index(label.surface) for label in canvas.labels], np.uint8)
    kind = surface[index]
    depth = np.where(kind == 1, focal * eye_m / rows, flat[index])
    depth = np.where(kind == 2, lateral[index] / columns, depth)
    return np.minimum(depth, far_m).astype(np.float32)


def texture(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """Multiply soft two-scale noise into `image` (H, W, 3) float32, in place."""
    height, width = mask.shape
    noise = np.zeros((height, width), np.float32)
    for cell, weight in ((height // 22, 0.65), (height // 8, 0.5)):
        small = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
        noise += weight * np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    image *= (1.0 + _ROUGH[mask] * np.clip(noise, -1.6, 1.6))[..., None]


def _glow(image: np.ndarray, light: Light, gain: float) -> None:
    height, width = image.shape[:2]
    reach = light.radius_px * 3.2 + 1
    x0, x1 = max(0, int(light.x - reach)), min(width, int(light.x + reach) + 1)
    y0, y1 = max(0, int(light.y - reach)), min(height, int(light.y + reach) + 1)
    if x0 >= x1 or y0 >= y1:
        return
    dx = np.arange(x0, x1, dtype=np.float32) + 0.5 - light.x
    dy = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - light.y
    fall = np.exp(-(dx * dx + dy * dy) / (2 * light.radius_px**2 + 0.5)) * (light.strength * gain)
    colour = np.asarray(light.colour, np.float32)
    patch = image[y0:y1, x0:x1]
    patch += fall[..., None] * np.maximum(colour - patch * 0.55, 0)


def air(
    rng: np.random.Generator,
    domain: str,
    image: np.ndarray,
    mask: np.ndarray,
    index: np.ndarray,
    depth: np.ndarray,
    lights: list[Light],
    horizon: float,
) -> np.ndarray:
    """What stands between the scene and the eye; `image` (H, W, 3) float32 0-255, returned changed."""
    height, width = mask.shape
    if domain == "fog":
        veil = 1 - np.exp(-np.maximum(depth - 3.0, 0) / rng.uniform(7.0, 11.0))
        veil = np.where(mask == 10, 0.97, veil)[..., None]
        image = image * (1 - veil) + _FOG * veil
    elif domain == "night":
        across = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
        beam = np.exp(-((across / 0.34) ** 2))[None] * np.exp(-depth / 7.0)
        image = image * (1 + 1.15 * beam * (mask != 10))[..., None]
    elif domain == "rain":
        image = _wet(image, mask)
    for light in lights:
        column, row = int(light.x), int(light.y)
        if 0 <= column < width and 0 <= row < height and index[row, column] == light.label:
            _glow(image, light, 0.85 if domain == "night" else 0.4)
            if domain == "night" and light.y < horizon and light.strength >= 1.0:
                pool = Light(light.x, horizon + (height - horizon) * 0.5, light.radius_px * 1.4, light.colour, 0.3, 0)
                _glow(image, pool, 1.0)
    if domain == "rain":
        image = _streaks(rng, image)
    elif domain == "snow":
        veil = ((1 - np.exp(-np.maximum(depth - 4.0, 0) / 45.0)) * (mask != 10))[..., None]
        image = image * (1 - veil) + np.array((216, 221, 229), np.float32) * veil
        image = _flakes(rng, image)
    return image


def _wet(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Road and walk mirror what stands above them, smeared downwards."""
    wet = (mask == 0) * np.float32(0.5) + (mask == 1) * np.float32(0.28)
    trail = image[0].copy()
    smear = np.empty_like(image)
    for row in range(image.shape[0]):
        held = np.where(wet[row] > 0, 0.035, 0.6).astype(np.float32)[:, None]
        trail = trail * (1 - held) + image[row] * held
        smear[row] = trail
    return image * (1 - wet[..., None]) + (smear * 1.12 - 6) * wet[..., None]


def _streaks(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = 3
    sheet = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(sheet)
    unit = height * scale / 64
    lean = rng.uniform(-0.35, 0.35)
    for x, y, size in rng.random((34, 3)):
        long = (4.0 + 5.0 * size) * unit
        x0, y0 = x * width * scale, (y * 1.1 - 0.1) * height * scale
        pen.line((x0, y0, x0 + lean * long, y0 + long), fill=int(80 + 70 * size), width=max(1, round(unit * 0.7)))
    cover = np.asarray(sheet.reduce(scale), np.float32)[..., None] / 255
    return image * (1 - cover) + np.array((206, 214, 224), np.float32) * cover


def _flakes(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = 3
    sheet = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(sheet)
    unit = height * scale / 64
    for x, y, size in rng.random((52, 3)):
        _disc_l(pen, x * width * scale, y * height * scale, (0.45 + 0.65 * size**2) * unit)
    cover = np.asarray(sheet.reduce(scale), np.float32)[..., None] / 255
    return image * (1 - cover) + 255.0 * cover


def _disc_l(pen: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=235)
