"""Several extractors as one: their features side by side, on the finest of their grids.

    features: {name: concat, parts: [{name: segment_anything}, {name: open_clip, weight: 2}]}

Each part is scaled by sqrt(weight / sum of weights), so that where all parts keep their own grid the cosine of two
cells is the weighted mean of the parts' cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from synthgen.backends import Cost, Licence, load
from synthgen.models import FeatureExtractor
from synthgen.models.composed import (
    check_parts,
    cost_of_parts,
    licences_of_parts,
    packages_of_parts,
    weights_of_parts,
)
from synthgen.models.cosine_maps import resize_bilinear


class Part(BaseModel):
    """One extractor: its name, its weight, and its own options beside them."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="a file of models/feature_extractors, or a module path with dots")
    weight: float = Field(1.0, gt=0, description="its share of the joint cosine")

    @property
    def backend(self) -> dict[str, Any]:
        return self.model_dump(exclude={"weight"})


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    parts: tuple[Part, ...] = Field(min_length=1, description="the extractors")

    @field_validator("parts")
    @classmethod
    def _known_parts(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        check_parts("feature_extractor", [part.backend for part in parts])
        return parts


def build(options: Options, execution: Any) -> Concat:
    return Concat(
        [load("feature_extractor", part.backend, execution) for part in options.parts],
        [part.weight for part in options.parts],
    )


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """All parts, one after the other; unknown if that of one is."""
    return cost_of_parts("feature_extractor", _parts(options), size, execution)


def weights(options: Options) -> list[tuple[str, str]]:
    """Those of the parts."""
    return weights_of_parts("feature_extractor", _parts(options))


def packages(options: Options) -> list[str]:
    """Those of the parts."""
    return packages_of_parts("feature_extractor", _parts(options))


def licences(options: Options) -> dict[str, Licence]:
    """Those of the parts."""
    return licences_of_parts("feature_extractor", _parts(options))


def _parts(options: Options) -> list[dict[str, Any]]:
    return [part.backend for part in options.parts]


class Concat:
    """(h, w, sum of D): parts resized bilinearly to the largest h and the largest w among them."""

    def __init__(self, parts: Sequence[FeatureExtractor], weights: Sequence[float]) -> None:
        self._parts = list(parts)
        self._scales = [float(np.sqrt(weight / sum(weights))) for weight in weights]
        self.id = "+".join(f"{part.id}*{weight:g}" for part, weight in zip(parts, weights, strict=True))

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        of_parts = [part.features(images) for part in self._parts]
        return [self._join(grids) for grids in zip(*of_parts, strict=True)]

    def _join(self, grids: Sequence[np.ndarray]) -> np.ndarray:
        size = max(grid.shape[0] for grid in grids), max(grid.shape[1] for grid in grids)
        scaled = [_unit(_resized(grid, size)) * scale for grid, scale in zip(grids, self._scales, strict=True)]
        return _unit(np.concatenate(scaled, axis=-1))


def _resized(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return grid if grid.shape[:2] == size else resize_bilinear(grid.transpose(2, 0, 1), size).transpose(1, 2, 0)


def _unit(grid: np.ndarray) -> np.ndarray:
    return np.asarray(grid / np.maximum(np.linalg.norm(grid, axis=-1, keepdims=True), 1e-12), np.float32)
