"""The register of the 20 classes: how each is painted, how large it is and where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthgen.drawn import object_animals as animals
from synthgen.drawn import object_furniture as furniture
from synthgen.drawn import object_vehicles as vehicles
from synthgen.drawn.object_pen import RGB, Pen


@dataclass(frozen=True, slots=True)
class Shape:
    """How one class is painted and placed."""

    paint: Callable[[Pen, np.random.Generator, RGB], None]
    faces: bool  # seen from the side, so "facing left" and "facing right" differ
    scale: float  # image widths per unit of the shape's own coordinates
    half_width: float  # of its ground shadow, in its own units
    flies: bool = False  # (0, 0) is its middle, not its foot


SHAPES: dict[str, Shape] = {
    "aeroplane": Shape(vehicles.aeroplane, True, 0.93, 0.36, flies=True),
    "bicycle": Shape(vehicles.bicycle, True, 1.0, 0.40),
    "bird": Shape(animals.bird, True, 1.02, 0.26),
    "boat": Shape(vehicles.boat, True, 0.95, 0.38),
    "bottle": Shape(furniture.bottle, False, 1.0, 0.17),
    "bus": Shape(vehicles.bus, True, 0.92, 0.45),
    "car": Shape(vehicles.car, True, 0.97, 0.46),
    "cat": Shape(animals.cat, True, 0.95, 0.26),
    "chair": Shape(furniture.chair, True, 0.98, 0.24),
    "cow": Shape(animals.cow, True, 1.02, 0.34),
    "diningtable": Shape(furniture.diningtable, False, 0.92, 0.44),
    "dog": Shape(animals.dog, True, 1.02, 0.30),
    "horse": Shape(animals.horse, True, 0.98, 0.32),
    "motorbike": Shape(vehicles.motorbike, True, 0.98, 0.44),
    "person": Shape(animals.person, False, 0.92, 0.18),
    "pottedplant": Shape(furniture.pottedplant, False, 1.02, 0.18),
    "sheep": Shape(animals.sheep, True, 1.02, 0.32),
    "sofa": Shape(furniture.sofa, False, 0.93, 0.46),
    "train": Shape(vehicles.train, True, 0.92, 0.44),
    "tvmonitor": Shape(furniture.tvmonitor, False, 0.89, 0.24),
}
