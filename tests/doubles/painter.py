"""Renderer: paints the shape that the prompt names, at a place that follows from the job's seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from doubles.calls import note
from doubles.world import COLOURS, paint
from synthgen.models import Rendered, Renderer, RenderJob


class Options(BaseModel, extra="forbid"):
    contrast: float = 1.0
    not_finite_in: int = 0  # one in so many images is not finite; 0 = none
    blank_in: int = 0  # one in so many images is uniform grey


def build(options: Options, execution: object) -> Painter:
    note("build renderer")
    return Painter(options)


class Painter(Renderer):
    id = "painter"
    revision = "r1"

    def __init__(self, options: Options) -> None:
        self._options = options

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        note("renderer")
        return [self._rendered(self._one(job)) for job in jobs]

    def _rendered(self, image: np.ndarray | None) -> Rendered:
        return Rendered(image, "" if image is not None else "not_finite", steps=3, guidance=1.5)

    def _one(self, job: RenderJob) -> np.ndarray | None:
        options = self._options
        if options.not_finite_in and job.seed % options.not_finite_in == 0:
            return None
        if options.blank_in and job.seed // 7 % options.blank_in == 0:
            return np.full((job.height_px, job.width_px, 3), 90, np.uint8)
        name = next(name for name in COLOURS if name in job.prompt or (name == "disc" and "coin" in job.prompt))
        image = paint(name, job.seed, job.height_px)[0].astype(np.float32)
        return np.clip((image - 120) * options.contrast + 120, 0, 255).astype(np.uint8)
