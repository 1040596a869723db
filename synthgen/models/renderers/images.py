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
from synthgen.backends import Cost
from synthgen.errors import InputError
from synthgen.models import Rendered, Renderer, RenderJob


class Options(BaseModel):
    """How photographs are taken over."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    longest_side_px: int = Field(
        0, ge=0, description="make larger photographs smaller (area average, aspect kept); 0 = as they are"
    )


def build(options: Options, execution: Any) -> ImageFolder:
    """No weights."""
    return ImageFolder(options)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Files are read and made smaller."""
    return Cost()


def generates(options: Options) -> bool:
    """Photographs are taken over."""
    return False


class ImageFolder(Renderer):
    """Reads the photograph of each job."""

    id = "images"

    def __init__(self, options: Options) -> None:
        self._longest_px = options.longest_side_px

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        """The photographs; `unreadable_image` with what is wrong where a file cannot be read as an image."""
        return [self._read(job) for job in jobs]

    def _read(self, job: RenderJob) -> Rendered:
        if job.photograph is None:
            raise InputError(
                f"renderer `images`: {job.key} has no photograph; use it with prompts.source: {{name: images, "
                f"folder: ...}}"
            )
        try:
            image = read_image(job.photograph)
        except InputError as error:
            return Rendered(None, "unreadable_image", str(error))
        size = image.shape[0], image.shape[1]
        longest_px = max(size)
        if self._longest_px and longest_px > self._longest_px:
            height, width = (max(1, round(side * self._longest_px / longest_px)) for side in size)
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
        return Rendered(image, origin_size=size)
