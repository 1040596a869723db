"""Renderer `images`:

takes the photographs that the prompt source found, so that people can label what they already have.

Nothing is generated. Use it with the prompt source `images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from segkit.pictures import read_image
from synthgen.errors import InputError
from synthgen.models import RenderJob


class Options(BaseModel):
    """How photographs are taken over."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    longest_side_px: int = Field(
        0, ge=0, description="make larger photographs smaller (area average, aspect kept); 0 = as they are"
    )


def build(options: Options, execution: Any) -> ImageFolder:
    """No weights."""
    return ImageFolder(options)


class ImageFolder:
    """Reads the photograph of each job."""

    id = "images"
    revision = ""
    steps = 0
    guidance = 0.0

    def __init__(self, options: Options) -> None:
        self._longest = options.longest_side_px

    def render(self, jobs: Sequence[RenderJob]) -> list[np.ndarray | None]:
        """(H, W, 3) uint8; None where the file cannot be read as an image."""
        return [self._read(job) for job in jobs]

    def _read(self, job: RenderJob) -> np.ndarray | None:
        if job.photograph is None:
            raise InputError(
                f"renderer `images`: {job.key} has no photograph; use it with prompts.source: {{name: images, "
                f"folder: ...}}"
            )
        try:
            image = read_image(job.photograph)
        except InputError:
            return None
        longest = max(image.shape[:2])
        if self._longest and longest > self._longest:
            height, width = (max(1, round(side * self._longest / longest)) for side in image.shape[:2])
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
        return image
