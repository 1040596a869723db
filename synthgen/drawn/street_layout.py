"""Where everything in a drawn street stands: a camera, a road, its two sides and a few large things.

Frame: metres, X to the right of the camera, Y up from the ground, z away from the camera.
A point projects to x = vanish_x + f X / z, y = horizon_y - f (Y - camera height) / z, in output pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAR_M = 60.0
BACKDROP_M = 34.0
MIN_PERSON_PX = 15.0  # at a picture 64 px high
LOOKS = 12  # uniform numbers carried by each thing, so that painters need no generator

CAR_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (198, 34, 36),
    "blue": (36, 78, 190),
    "white": (236, 236, 232),
    "yellow": (240, 196, 30),
    "green": (34, 132, 72),
    "black": (40, 42, 48),
    "silver": (164, 170, 178),
    "orange": (234, 116, 26),
}
BUS_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (204, 40, 40),
    "yellow": (244, 190, 36),
    "blue": (40, 96, 196),
    "green": (44, 140, 84),
    "white": (238, 238, 234),
}
FACADES: tuple[tuple[int, int, int], ...] = (
    (182, 84, 62),
    (206, 130, 84),
    (224, 196, 142),
    (170, 158, 146),
    (206, 204, 196),
    (146, 94, 78),
    (190, 172, 116),
    (150, 162, 170),
    (222, 168, 130),
    (134, 128, 134),
)


@dataclass(frozen=True, slots=True)
class Camera:
    """A level pinhole camera; sizes in output pixels, lengths in metres."""

    height_px: int
    width_px: int
    focal_px: float
    vanish_x: float
    horizon_y: float
    eye_m: float

    def at(self, x_m: float, y_m: float, z_m: float) -> tuple[float, float]:
        """The pixel that shows a point."""
        k = self.focal_px / z_m
        return self.vanish_x + k * x_m, self.horizon_y + k * (self.eye_m - y_m)

    def nearest_m(self, x_m: float, share: float = 1.0) -> float:
        """The smallest z at which lateral position `x_m` lies inside `share` of that half of the picture."""
        room = (self.width_px - self.vanish_x) if x_m > 0 else self.vanish_x
        return self.focal_px * abs(x_m) / (room * share)

    @property
    def ground_m(self) -> float:
        """The z of the ground just below the lower picture edge."""
        return self.focal_px * self.eye_m / (self.height_px * 1.04 - self.horizon_y)


@dataclass(frozen=True, slots=True)
class Building:
    near_m: float
    far_m: float
    height_m: float
    colour: tuple[int, int, int]
    look: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the road; lateral positions are signed, outward from `kerb` to `front`."""

    sign: int
    kind: str  # "row" houses at the walk, "yard" houses behind grass, "park" no houses
    kerb: float
    outer: float
    front: float
    barrier: str  # "", "wall" or "fence"
    barrier_height_m: float
    buildings: tuple[Building, ...]
    look: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Thing:
    """One placed object; `x` is its centre, `z` its front, both in metres."""

    kind: str
    x: float
    z: float
    look: tuple[float, ...]
    colour: str = ""
    view: str = ""  # vehicles: "rear", "front" or "side"
    behind: int = 0  # -1 or 1: stands behind the barrier of that side
    name: str = ""  # of an intruder: its class in the objects world


@dataclass(frozen=True, slots=True)
class Street:
    camera: Camera
    sides: tuple[Side, Side]
    things: tuple[Thing, ...]
    crossing_m: float  # near edge of a zebra crossing, 0 for none
    backdrop: str  # "buildings" or "trees"
    place: str
    template: int
    look: tuple[float, ...]


def _look(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(rng.random(LOOKS).tolist())


def _pick(rng: np.random.Generator, names: tuple[str, ...], weights: tuple[float, ...]) -> str:
    ladder = np.cumsum(weights)
    return names[min(int(np.searchsorted(ladder, rng.random() * ladder[-1], side="right")), len(names) - 1)]


def _buildings(rng: np.random.Generator) -> tuple[Building, ...]:
    rows: list[Building] = []
    z, last = 1.2 + 3.0 * rng.random(), -1
    tall = rng.uniform(5.0, 9.5)
    while z < BACKDROP_M - 3.0:
        length = rng.uniform(4.5, 9.0) * (1.0 + z / 40.0)
        tint = int(rng.integers(len(FACADES)))
        if tint == last:
            tint = (tint + 3) % len(FACADES)
        last = tint
        shade = rng.uniform(-14, 14, 3)
        red, green, blue = (int(c) for c in np.clip(np.array(FACADES[tint]) + shade, 30, 250))
        height = float(np.clip(tall * rng.uniform(0.6, 1.45), 3.6, 12.5))
        rows.append(Building(z, z + length, height, (red, green, blue), _look(rng)))
        z += length + (rng.uniform(1.2, 3.0) if rng.random() < 0.3 else 0.0)
    return tuple(rows)


def _side(rng: np.random.Generator, sign: int, half: float, shift: float) -> Side:
    kind = _pick(rng, ("row", "yard", "park"), (0.5, 0.28, 0.22))
    walk = rng.uniform(1.3, 2.2)
    strip = {"row": 0.0, "yard": rng.uniform(1.6, 3.2), "park": 12.0}[kind]
    barrier = _pick(rng, ("", "wall", "fence"), (0.46, 0.26, 0.28)) if kind != "row" else ""
    height = rng.uniform(0.9, 1.7)
    houses = _buildings(rng)
    kerb = sign * half - shift
    outer = kerb + sign * walk
    return Side(
        sign, kind, kerb, outer, outer + sign * strip, barrier, height, houses if kind != "park" else (), _look(rng)
    )


def _trees(rng: np.random.Generator, camera: Camera, side: Side) -> list[Thing]:
    most = {"row": (0.62, 0.30, 0.08, 0.0), "yard": (0.15, 0.45, 0.40, 0.0), "park": (0.0, 0.2, 0.45, 0.35)}[side.kind]
    count = int(_pick(rng, ("0", "1", "2", "3"), most))
    trees = []
    for _ in range(count):
        if side.kind == "row":
            lateral, behind = side.outer - side.sign * 0.45, 0
        else:
            reach = min(abs(side.front - side.outer), 5.0)
            lateral = side.outer + side.sign * rng.uniform(0.35, 0.9) * reach
            behind = side.sign if side.barrier else 0
        near = max(5.5, camera.nearest_m(lateral, 1.02))
        trees.append(Thing("tree", lateral, near + rng.uniform(0.0, 9.0), _look(rng), behind=behind))
    return trees


def _vehicles(rng: np.random.Generator, half: float, shift: float) -> list[Thing]:
    count = int(_pick(rng, ("0", "1", "2", "3"), (0.05, 0.43, 0.36, 0.16)))
    own, other = half * 0.5 - shift, -half * 0.5 - shift
    crossing = rng.random() < 0.22
    if crossing:
        slots = [
            (rng.uniform(-2.6, 2.6) - shift, rng.uniform(5.2, 7.6), "side"),
            (own, rng.uniform(11.0, 14.0), "rear"),
            (other, rng.uniform(10.5, 13.5), "front"),
        ]
    else:
        slots = [
            (own, rng.uniform(4.6, 7.6), "rear"),
            (other, rng.uniform(4.6, 7.6), "front"),
            (own, rng.uniform(11.0, 14.0), "rear"),
            (other, rng.uniform(10.5, 13.5), "front"),
        ]
        order = rng.permutation(4) if rng.random() < 0.5 else [*rng.permuted(np.array([0, 1])).tolist(), 2, 3]
        slots = [slots[int(i)] for i in order]
    vehicles = []
    for x, z, view in slots[:count]:
        kind = _pick(rng, ("car", "truck", "bus"), (0.72, 0.14, 0.14))
        names = tuple(CAR_COLOURS if kind == "car" else BUS_COLOURS)
        if kind != "car":
            z = z * 1.05 + (2.2 if view == "side" else 1.2)
        vehicles.append(
            Thing(kind, x + rng.uniform(-0.25, 0.25), z, _look(rng), names[int(rng.integers(len(names)))], view)
        )
    return vehicles


def _beside(
    rng: np.random.Generator, camera: Camera, side: Side, kind: str, tallest_m: float, least_px: float, widest_m: float
) -> Thing:
    """A thing on the walk, near enough that `tallest_m` covers `least_px`, and inside the picture."""
    room = (camera.width_px - camera.vanish_x) if side.sign > 0 else camera.vanish_x
    furthest = camera.focal_px * tallest_m / (least_px * camera.height_px / 64)
    lateral = side.kerb + (side.outer - side.kerb) * rng.uniform(0.1, 0.8)
    limit = abs(lateral) + widest_m / 2
    nearest = camera.focal_px * limit / room
    if nearest > furthest:
        z = furthest * rng.uniform(0.9, 1.0)
        lateral = side.sign * max(room * z / camera.focal_px - widest_m / 2, 0.5)
    else:
        z = rng.uniform(nearest, furthest)
    return Thing(kind, lateral, z, _look(rng))


def _free(camera: Camera, thing: Thing, width_m: float, taken: list[tuple[float, float]]) -> bool:
    """Claim the columns of a thing unless they overlap a claimed span."""
    k = camera.focal_px / thing.z
    middle = camera.vanish_x + k * thing.x
    left, right = middle - k * width_m / 2, middle + k * width_m / 2
    if any(left < b and a < right for a, b in taken):
        return False
    taken.append((left, right))
    return True


def _near_field(rng: np.random.Generator, camera: Camera, sides: tuple[Side, Side], crossing_m: float) -> list[Thing]:
    """People, two-wheelers and poles, each in picture columns of its own; what finds no room is left out."""
    found: list[Thing] = []
    taken: list[tuple[float, float]] = []
    if rng.random() < 0.44:
        kind = _pick(rng, ("bicycle", "motorcycle", "cyclist", "motorcyclist"), (0.28, 0.22, 0.28, 0.22))
        thing = _beside(rng, camera, sides[int(rng.integers(2))], kind, 1.15, 10.0, 2.2)
        if kind in ("cyclist", "motorcyclist"):
            thing = Thing(kind, thing.x * rng.uniform(0.3, 1.0), thing.z, thing.look)
        _free(camera, thing, 2.1, taken)
        found.append(thing)
    for _ in range(int(_pick(rng, ("0", "1", "2"), (0.34, 0.38, 0.28)))):
        for _ in range(3):
            person = _beside(rng, camera, sides[int(rng.integers(2))], "person", 1.85, MIN_PERSON_PX, 0.8)
            if crossing_m and rng.random() < 0.5:
                x = rng.uniform(sides[0].kerb, sides[1].kerb)
                person = Thing("person", x, crossing_m + 0.7, person.look)
            if _free(camera, person, 0.75, taken):
                found.append(person)
                break
    for side in sides:
        if rng.random() < 0.48:
            kind = _pick(rng, ("lamp", "traffic light", "traffic sign"), (0.24, 0.38, 0.38))
            pole = _beside(rng, camera, side, kind, 2.6, 20.0, 0.9)
            kerb = side.kerb + side.sign * 0.35
            z = max(pole.z, camera.nearest_m(kerb, 0.93))
            if camera.focal_px * 0.62 / z >= 4.6 * camera.height_px / 64:
                pole = Thing(kind, kerb, z, pole.look)
            if _free(camera, pole, 0.5, taken):
                found.append(pole)
    return found


def plan(rng: np.random.Generator, size_px: tuple[int, int]) -> Street:
    """Draw the layout of one street; the same generator state and size give the same street."""
    height, width = size_px
    focal = height * 0.86 * float(np.clip(width / height / 1.5, 0.78, 1.1))
    camera = Camera(
        height,
        width,
        focal,
        width * (0.5 + rng.uniform(-0.15, 0.15)),
        height * rng.uniform(0.41, 0.49),
        rng.uniform(1.45, 1.85),
    )
    half, shift = rng.uniform(2.7, 3.5), rng.uniform(-0.9, 0.9)
    sides = (_side(rng, -1, half, shift), _side(rng, 1, half, shift))
    crossing = rng.uniform(4.2, 5.6) if rng.random() < 0.35 else 0.0
    things = _vehicles(rng, half, shift) + _near_field(rng, camera, sides, crossing)
    for side in sides:
        things += _trees(rng, camera, side)
    kinds = {side.kind for side in sides}
    places = (
        ("park road", "country road")
        if kinds == {"park"}
        else ("city street", "city road", "street")
        if kinds == {"row"}
        else ("street", "road", "avenue")
    )
    return Street(
        camera,
        sides,
        tuple(sorted(things, key=lambda t: -t.z)),
        crossing,
        _pick(rng, ("buildings", "trees"), (0.5, 0.5)),
        places[int(rng.integers(len(places)))],
        int(rng.integers(4)),
        _look(rng),
    )
