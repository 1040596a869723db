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

from synthgen.backends import Cost, Licence, check_options, load, statement
from synthgen.backends import cost as cost_of
from synthgen.backends import weights as weights_of
from synthgen.errors import RecipeError
from synthgen.models import FeatureExtractor
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
        for part in parts:
            try:
                check_options("feature_extractor", part.backend)
            except RecipeError as error:
                raise ValueError(str(error)) from error
        return parts


def build(options: Options, execution: Any) -> Concat:
    return Concat(
        [load("feature_extractor", part.backend, execution) for part in options.parts],
        [part.weight for part in options.parts],
    )


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """All parts, one after the other; unknown if that of one is."""
    costs = [cost_of("feature_extractor", part.backend, size, execution) for part in options.parts]
    known = [part for part in costs if part is not None]
    if len(known) < len(costs):
        return None
    operations = [part.operations for part in known]
    return Cost(
        max(part.parameters for part in known),
        None if None in operations else sum(value for value in operations if value is not None),
        sum(part.memory_gb for part in known),
        downloads_gb={model: size_gb for part in known for model, size_gb in part.downloads_gb.items()},
    )


def weights(options: Options) -> list[tuple[str, str]]:
    """Those of the parts."""
    return [model for part in options.parts for model in weights_of("feature_extractor", part.backend)]


def packages(options: Options) -> list[str]:
    """Those of the parts."""
    return [name for part in options.parts for name in statement("feature_extractor", part.backend, "packages", [])]


def licences(options: Options) -> dict[str, Licence]:
    """Those of the parts."""
    return {
        model: licence
        for part in options.parts
        for model, licence in statement("feature_extractor", part.backend, "licences", {}).items()
    }


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
