"""The drawn objects world: one object of 20 classes in one of six places, with an exact mask and a caption.

Every drawing is a pure function of its arguments. The choices (class, place, ...) all come from
`default_rng(seed)` before any of them is overridden; shape, place and weather have streams of their own, so
that the time of day and the weather never move an edge of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from synthgen.drawn.drawing import Drawing
from synthgen.drawn.object_pen import SCENERY
from synthgen.drawn.object_places import add_weather, backdrop, noise
from synthgen.drawn.object_shapes import SHAPES
from synthgen.drawn.object_staging import Actor, Spot, colours_of, paint_objects, paint_occluder
from synthgen.errors import RecipeError

CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The PASCAL VOC classes in VOC order: class k of a mask is CLASSES[k - 1]."""

_TWO_WORDS = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
SPOKEN: dict[str, str] = {name: _TWO_WORDS.get(name, name) for name in CLASSES}
"""The words that name a class in a caption."""

PLACES: tuple[str, ...] = ("grass", "road", "sand", "sea", "room", "snow")
TIMES: tuple[str, ...] = ("day", "night")
WEATHERS: tuple[str, ...] = ("clear", "fog", "rain")
FACINGS: tuple[str, ...] = ("left", "right")

_PLACE_PHRASES = {
    "grass": "on grass", "road": "on the road", "sand": "on sand", "sea": "on the sea",
    "room": "in a room", "snow": "on snow",
}  # fmt: skip
_SKY_WORDS = {
    ("day", "clear"): "clear day", ("day", "fog"): "foggy day", ("day", "rain"): "rainy day",
    ("night", "clear"): "night", ("night", "fog"): "foggy night", ("night", "rain"): "rainy night",
}  # fmt: skip

_OVERSAMPLING = 4
_OCCLUDED = 0.12  # chance of something small in front


@dataclass(frozen=True, slots=True)
class _Choices:
    """What one drawing shows, before its shapes are drawn."""

    class_name: str
    place: str
    time: str
    weather: str
    colour: str
    facing: str
    template: int
    second: str | None
    second_facing: str
    second_colour: str
    occluded: bool


def _known(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise RecipeError(f"unknown {what} {value!r} in the objects world; choose one of {', '.join(allowed)}")
    return value


def _choose(
    seed: int,
    class_name: str | None,
    place: str | None,
    time: str | None,
    weather: str | None,
    colour: str | None,
    facing: str | None,
    pair_probability: float,
) -> _Choices:
    u = np.random.default_rng(seed).random(12).tolist()

    def pick(share: float, options: tuple[str, ...]) -> str:
        return options[int(share * len(options))]

    name = pick(u[0], CLASSES) if class_name is None else _known(class_name, CLASSES, "class")
    colours = colours_of(name)
    others = tuple(c for c in CLASSES if c != name)
    side = pick(u[5], FACINGS) if facing is None else _known(facing, FACINGS, "facing")
    second = pick(u[7], others) if u[8] < pair_probability else None
    drawn_weather = "clear" if u[3] < 0.5 else "fog" if u[3] < 0.75 else "rain"
    return _Choices(
        class_name=name,
        place=pick(u[1], PLACES) if place is None else _known(place, PLACES, "place"),
        time=("day" if u[2] < 0.6 else "night") if time is None else _known(time, TIMES, "time"),
        weather=drawn_weather if weather is None else _known(weather, WEATHERS, "weather"),
        colour=pick(u[4], colours) if colour is None else _known(colour, colours, f"colour of a {SPOKEN[name]}"),
        facing=side if SHAPES[name].faces else "front",
        template=int(u[6] * 4),
        second=second,
        second_colour=pick(u[11], colours_of(second)) if second else "",
        second_facing=pick(u[10], FACINGS) if second and SHAPES[second].faces else "front",
        occluded=u[9] < _OCCLUDED,
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _caption(choices: _Choices) -> str:
    thing = f"{choices.colour} {SPOKEN[choices.class_name]}"
    facing = "" if choices.facing == "front" else f" facing {choices.facing}"
    second = f" and {_article(choices.second)} {SPOKEN[choices.second]}" if choices.second else ""
    article = _article(choices.colour)
    sky = _SKY_WORDS[choices.time, choices.weather]
    when = "at night" if sky == "night" else f"on a {sky}"
    where = _PLACE_PHRASES[choices.place]
    whole = f"{article} {thing}{facing}{second} {where}"
    # With a second object the long openings would pass 16 words.
    template = choices.template if not second else 2 + choices.template % 2
    if template == 0:
        return f"a photo of {whole} {when}"
    if template == 1:
        return f"a picture of {article} {thing}{facing} {where}, {sky}"
    if template == 2:
        return f"{whole}, {sky}"
    return f"{article} {thing}{facing}{second}, {choices.place}, {sky}"


def _cast_shadow(image: np.ndarray, name: str, spot: Spot) -> None:
    """Darkens the ground under an object in place."""
    size_px = image.shape[0]
    shape = SHAPES[name]
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    y = spot.y if not shape.flies else 0.92
    x_share = (axis - spot.x) / (shape.half_width * spot.scale)
    y_share = (axis - y) / (0.045 if not shape.flies else 0.035)
    depth = np.exp(-(y_share**2))[:, None] * np.exp(-(x_share**4))[None, :]
    image *= 1 - (0.5 if not shape.flies else 0.25) * depth[..., None]


def _light_objects(
    layer: np.ndarray, cover: np.ndarray, light: np.ndarray, texture: np.ndarray, moonlit: bool
) -> np.ndarray:
    """(H, W, 3) premultiplied paint with soft texture, a light upper and a dark lower rim."""
    size_px = cover.shape[0]
    blur = ImageFilter.BoxBlur(max(1, round(size_px / 40)))
    soft = np.asarray(Image.fromarray((cover * 255).astype(np.uint8)).filter(blur)).astype(np.float32) / 255
    step = max(1, size_px // 64)
    relief = np.zeros_like(soft)
    relief[step:-step] = soft[2 * step :] - soft[: -2 * step]
    rim = cover * (1 - soft)
    factor = 1 + 0.28 * relief - 0.42 * rim + 0.045 * texture
    lifted = layer * light * factor[..., None]
    # Light from above also reaches black paint, which a factor alone would leave without form (or, at night,
    # would leave as dark as the ground).
    gloss = cover * (np.clip(relief, 0, 1) * (60 if moonlit else 34) + (16 if moonlit else 0))
    return lifted + gloss[..., None] * light


def draw(
    seed: int,
    size_px: int = 64,
    *,
    class_name: str | None = None,
    place: str | None = None,
    time: str | None = None,
    weather: str | None = None,
    colour: str | None = None,
    facing: str | None = None,
    pair_probability: float = 0.0,
) -> Drawing:
    """One drawing; equal arguments give equal bytes.

    Whatever is not given is drawn from `default_rng(seed)` (seed >= 0); giving one choice leaves the others
    as they were. Frontal classes ignore `facing` (their attribute is "front"). With `pair_probability` a
    second, smaller object of another class stands beside the first. Mask ids: 0 background, k is
    CLASSES[k - 1]; instances: 1 the first object, 2 the second.

    Raises RecipeError for a word the world does not know and for a size below 16 px.
    """
    if size_px < 16:
        raise RecipeError(f"size_px = {size_px} is too small for the objects world; use 16 or more")
    choices = _choose(seed, class_name, place, time, weather, colour, facing, pair_probability)
    first, second = Actor(choices.class_name, choices.facing, choices.colour), None
    if choices.second:
        second = Actor(choices.second, choices.second_facing, choices.second_colour)
    canvas, placed = paint_objects(first, second, size_px * _OVERSAMPLING, seed)
    if len(placed) == 1:
        choices = replace(choices, second=None)
    if choices.occluded:
        shape = SHAPES[choices.class_name]
        spot = placed[0][1] if not shape.flies else replace(placed[0][1], y=0.9)
        paint_occluder(canvas, spot, shape.half_width, choices.place, np.random.default_rng([seed, 3]))

    layers = np.asarray(canvas.reduce(_OVERSAMPLING))
    # The share of each pixel that each object shows; scenery in front counts as background, and the largest
    # share names the pixel.
    owner = canvas.getchannel(3)
    shares = [
        np.asarray(owner.point([255 if code == k else 0 for code in range(256)]).reduce(_OVERSAMPLING))
        for k in (*range(1, len(placed) + 1), SCENERY)
    ]
    stack = np.stack(shares).astype(np.int32)
    cover = np.minimum(stack.sum(axis=0), 255)
    background = 255 - cover + stack[-1]
    instances = np.argmax(np.concatenate([background[None], stack[:-1]]), axis=0).astype(np.uint16)
    class_ids = np.array([0, *(CLASSES.index(actor.class_name) + 1 for actor, _ in placed)], np.uint8)
    mask = class_ids[instances]

    scene = backdrop(choices.place, choices.time, choices.weather, size_px, np.random.default_rng([seed, 4]))
    image = scene.image
    for actor, spot in placed:
        _cast_shadow(image, actor.class_name, spot)
    rng_light = np.random.default_rng([seed, 5])
    alpha = cover.astype(np.float32) / 255
    texture = noise("soft", size_px, rng_light) * 0.8 + noise("grain", size_px, rng_light) * 0.5
    moonlit = choices.time == "night" and choices.place != "room"
    objects = _light_objects(layers[..., :3].astype(np.float32), alpha, scene.object_light, texture, moonlit)
    image = image * (1 - alpha[..., None]) + objects
    image = add_weather(image, alpha[..., None], choices.place, choices.time, choices.weather, rng_light)
    attributes = {
        "class": choices.class_name,
        "place": choices.place,
        "time": choices.time,
        "weather": choices.weather,
        "colour": choices.colour,
        "facing": choices.facing,
    }
    return Drawing(
        image=np.clip(image + 0.5, 0, 255).astype(np.uint8),
        mask=mask,
        instances=instances,
        caption=_caption(choices),
        attributes=tuple(sorted(attributes.items())),
    )
