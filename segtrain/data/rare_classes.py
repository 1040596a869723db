"""Rare class sampling as a setting of a training: whose images are drawn so, and by what."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segtrain.config import Settings
from segtrain.data.class_pixels import class_pixels
from segtrain.data.samplers import RareClassSampler
from segtrain.data.source import Source

_log = logging.getLogger(__name__)
_MAX_WARNINGS = 5


class RareClassSettings(Settings):
    """Rare class sampling (DAFormer, DGInStyle): who asks for it is a method's affair."""

    panel: ClassVar[str] = "Rare classes"

    rcs: Literal["none", "first", "all"] = Field(
        "none",
        description="images of which --data are drawn by rare class: of none, the first, all [DAFormer: the labelled "
        "source]",
    )
    rcs_temperature: float = Field(
        0.01, gt=0, le=100, description="T of P(c) = softmax((1 - frequency of c) / T) [DGInStyle's code: 0.01]"
    )
    rcs_min_share: float = Field(
        0.0015,
        ge=0,
        lt=1,
        description="an image shows c on more than this share [DGInStyle: 3,000 px of 1914 x 1052]",
    )
    rcs_min_crop_share: float = Field(
        0.0057,
        ge=0,
        lt=1,
        description="a crop shows c on more than this share [DGInStyle: 1,500 px of 512 x 512]",
    )
    rcs_attempts: int = Field(10, ge=1, le=1000, description="crops that are tried for that [DGInStyle's code: 10]")


def without_unused_rcs(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the weights without what says nothing where no image is drawn by rare class."""
    unused = settings["rcs"] == "none"
    return {key: value for key, value in settings.items() if not (unused and key in RareClassSettings.model_fields)}


def rare_classes(
    sources: Sequence[Source], space: LabelSpace, settings: RareClassSettings
) -> dict[int, RareClassSampler]:
    """A sampler for each of the labelled `sources` whose images are drawn by rare class, by the source's number.

    Reads every mask of those once. Raises DataError for one that shows no class often enough.
    """
    number = {"none": 0, "first": 1, "all": len(sources)}[settings.rcs]
    return {place: _of_source(source, space, settings) for place, source in enumerate(sources[:number])}


def _of_source(source: Source, space: LabelSpace, settings: RareClassSettings) -> RareClassSampler:
    _log.info("%s: counting the classes of %d masks", source.path, sum(source.group_sizes))
    pixels = class_pixels(source)
    for row in np.flatnonzero(~pixels[:, :OUT_OF_DISTRIBUTION].any(axis=1))[:_MAX_WARNINGS]:
        warn_of_void_image(source, int(row))
    sampler = RareClassSampler(
        pixels,
        space,
        str(source.path),
        settings.rcs_temperature,
        settings.rcs_min_share,
        settings.rcs_min_crop_share,
        settings.rcs_attempts,
    )
    if sampler.missing:
        _log.info("%s: too little of %s for rare class sampling", source.path, ", ".join(sampler.missing))
    return sampler


def warn_of_void_image(source: Source, row: int) -> None:
    """A line on an image whose mask says nothing."""
    name = source.name(row)
    _log.warning("%s: %s has no labelled pixel (all 254 or 255): nothing is learnt from it", source.path, name)
