"""The drawn street world: `draw` gives a small street scene with its exact Cityscapes-style label map.

Class ids, names and colours are the 19 evaluation classes of Cityscapes (Cordts et al., CVPR 2016). An intruder, an
object that no street has, has an id behind them: label space `streets`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synthgen.drawn import street_scenery as scenery
from synthgen.drawn.drawing import Drawing
from synthgen.drawn.objects import SPOKEN
from synthgen.drawn.street_canvas import Canvas
from synthgen.drawn.street_intruders import KIND, NAMES, paint_intruder, placed
from synthgen.drawn.street_layout import FAR_M, Street, plan
from synthgen.drawn.street_things import PAINTERS
from synthgen.drawn.street_weather import DOMAINS, TINTS, air, depth_map, sky, texture
from synthgen.errors import RecipeError

__all__ = ["CLASSES", "DOMAINS", "DRAWN", "INTRUDERS", "PALETTE", "draw"]

CLASSES: tuple[str, ...] = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
DRAWN: tuple[int, ...] = tuple(i for i, name in enumerate(CLASSES) if name != "train")
PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)

_SCALE = 4
_SPECK_PX = 12  # at a picture 64 px high; smaller remains of a thing are not drawn at all
_HIDDEN = 0.4  # a thing of which less than this share shows is not drawn
_WHEN = {"day": "by day", "night": "at night", "fog": "in fog", "rain": "in rain", "snow": "in snow"}
_ADJECTIVE = {"day": "daytime", "night": "night-time", "fog": "foggy", "rain": "rainy", "snow": "snowy"}
_COUNTS = ("no", "one", "two", "three")


INTRUDERS: tuple[str, ...] = NAMES
"""Objects of the objects world that no street has: intruder k has the id len(CLASSES) + k."""


def draw(
    seed: int, size_px: tuple[int, int] = (64, 96), *, domain: str | None = None, intruder: str | None = None
) -> Drawing:
    """Draw one street scene of size (H, W).

    `domain` overrides the drawn one and changes the image and the caption's words for it only: mask and
    instances stay byte-identical. `intruder`, one of INTRUDERS, stands in the street that the seed draws without it;
    where traffic hides it, it is left out as every hidden thing is. Instance ids count the classes from 11 on
    from 1, far to near.
    Raises RecipeError for an unknown domain or intruder, or a size under 48 px or outside H <= W <= 2 H.
    """
    height, width = size_px
    if not (48 <= height <= width <= 2 * height):
        raise RecipeError(f"size_px {size_px}: a street needs 48 <= H <= W <= 2 H pixels")
    if domain is not None and domain not in DOMAINS:
        raise RecipeError(f"domain {domain!r} is not one of {', '.join(DOMAINS)}")
    if intruder is not None and intruder not in INTRUDERS:
        raise RecipeError(f"intruder {intruder!r} is not one of {', '.join(INTRUDERS)}")
    rng = np.random.default_rng(seed)
    drawn = DOMAINS[int(rng.integers(len(DOMAINS)))]
    domain = drawn if domain is None else domain
    layout_rng, texture_rng, sky_rng, air_rng = rng.spawn(4)
    street = plan(layout_rng, (height, width))
    if intruder is not None:
        all_things = (*street.things, placed(rng.spawn(1)[0], street, intruder))
        street = replace(street, things=tuple(sorted(all_things, key=lambda thing: -thing.z)))
    camera = street.camera
    backdrop = sky(sky_rng, domain, (height * _SCALE, width * _SCALE), camera.horizon_y * _SCALE)

    kept = set(range(len(street.things)))
    while True:
        canvas = Canvas(backdrop.copy(), _SCALE, TINTS[domain])
        _paint(canvas, street, kept)
        index = np.asarray(canvas.index)[_SCALE // 2 :: _SCALE, _SCALE // 2 :: _SCALE]
        specks = _specks(canvas, index)
        if not specks:
            break
        kept -= specks

    class_ids = np.array([label.class_id for label in canvas.labels], np.uint8)
    mask = class_ids[index]
    countable = np.array([label.countable for label in canvas.labels])
    instances = (np.cumsum(countable) * countable).astype(np.uint16)[index]
    image = np.asarray(canvas.rgb.reduce(_SCALE), np.float32).copy()
    texture(texture_rng, image, mask)
    depth = depth_map(canvas, index, camera.focal_px, camera.eye_m, camera.vanish_x, camera.horizon_y, FAR_M)
    image = air(air_rng, domain, image, mask, index, depth, canvas.lights, camera.horizon_y)
    caption, things = _words(street, kept, mask, domain)
    return Drawing(
        np.clip(image + 0.5, 0, 255).astype(np.uint8),
        mask,
        instances,
        caption,
        (("domain", domain), ("things", ",".join(things))),
    )


def _paint(canvas: Canvas, street: Street, kept: set[int]) -> None:
    camera = street.camera
    canvas.begin(scenery.SKY, depth_m=FAR_M)
    scenery.ground(canvas, street)
    scenery.backdrop(canvas, street)
    for side in street.sides:
        if side.kind == "park":
            scenery.hedge(canvas, camera, side)
        scenery.houses(canvas, camera, side)
    for side in street.sides:
        for number, thing in enumerate(street.things):
            if thing.behind == side.sign and number in kept:
                scenery.tree(canvas, camera, thing, number)
        if side.barrier:
            scenery.barrier(canvas, camera, side)
    for number, thing in enumerate(street.things):
        if number in kept and not thing.behind:
            if thing.kind == "tree":
                scenery.tree(canvas, camera, thing, number)
            elif thing.kind == KIND:
                paint_intruder(canvas, camera, thing, number, len(CLASSES) + INTRUDERS.index(thing.name))
            else:
                PAINTERS[thing.kind](canvas, camera, thing, number)


def _specks(canvas: Canvas, index: np.ndarray) -> set[int]:
    """The things of which some part shows too little to be worth drawing."""
    areas = np.bincount(index.ravel(), minlength=len(canvas.labels)).tolist()
    least = _SPECK_PX * (index.shape[0] / 64) ** 2
    return {
        label.thing
        for label, area in zip(canvas.labels, areas, strict=True)
        if label.thing >= 0 and area < max(least, _HIDDEN * label.full_px)
    }


def _words(street: Street, kept: set[int], mask: np.ndarray, domain: str) -> tuple[str, list[str]]:
    shown = [street.things[i] for i in sorted(kept)]
    phrases: list[str] = []
    names: list[str] = []
    for thing in shown:
        if thing.kind == KIND:
            spoken = f"{thing.colour} {SPOKEN[thing.name]}"
            phrases.append(f"{'an' if spoken[0] in 'aeiou' else 'a'} {spoken}")
            names.append(thing.name)
    for kind, many in (
        ("car", "cars"),
        ("bus", "buses"),
        ("truck", "trucks"),
        ("person", "persons"),
        ("cyclist", "cyclists"),
        ("motorcyclist", "motorcyclists"),
        ("bicycle", "bicycles"),
        ("motorcycle", "motorcycles"),
        ("traffic light", "traffic lights"),
        ("traffic sign", "traffic signs"),
        ("lamp", "lamps"),
    ):
        same = [thing for thing in shown if thing.kind == kind]
        if same:
            colour = f"{same[0].colour} " if same[0].colour else ""
            one = f"{'an' if (colour + kind)[0] in 'aeiou' else 'a'} {colour}{kind}"
            phrases.append(one if len(same) == 1 else f"{_COUNTS[min(len(same), 3)]} {many}")
            names.append(kind)
    areas = np.bincount(mask.ravel(), minlength=len(CLASSES)) / mask.size
    trees = any(thing.kind == "tree" for thing in shown)
    for name, seen in (
        ("trees", trees),
        ("buildings", areas[2] > 0.04),
        ("a wall", areas[3] > 0.01),
        ("a fence", areas[4] > 0.01),
        ("grass", areas[9] > 0.02),
    ):
        if seen:
            phrases.append(name)
            names.append(name.split()[-1])
    said: list[str] = []
    for phrase in phrases:
        if sum(len(p.split()) for p in (*said, phrase)) <= 14:
            said.append(phrase)
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}" if said else "nobody"
    place, when = street.place, _WHEN[domain]
    caption = (
        f"a {place} with {listed} {when}",
        f"a {_ADJECTIVE[domain]} {place}, {listed}",
        f"{listed} on a {place} {when}",
        f"{when}, {listed} along a {place}",
    )[street.template]
    article = f"an {place}" if place[0] in "aeiou" else f"a {place}"
    return caption.replace(f"a {place}", article), names
