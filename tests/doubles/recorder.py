"""A renderer that notes its jobs, a recipe for it, and rows of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from synthgen.labels import LabelSpace
from synthgen.models import Rendered, Renderer, RenderJob
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord, from_flat

SIZE = (24, 32)


class Recorder(Renderer):
    """A renderer that notes its jobs and paints each seed in a colour of its own."""

    id, revision = "recorder", "r7"

    def __init__(self) -> None:
        self.batches: list[list[RenderJob]] = []
        self.space: LabelSpace | None = None

    def expect_labels(self, space: LabelSpace) -> None:
        assert not self.batches, "told before the first job"
        self.space = space

    @property
    def jobs(self) -> list[RenderJob]:
        return [job for batch in self.batches for job in batch]

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        self.batches.append(list(jobs))
        return [self._rendered(job) for job in jobs]

    def _rendered(self, job: RenderJob) -> Rendered:
        if "fails" in job.prompt:
            return Rendered(None, "too_dark", f"no light in {job.prompt!r}")
        image = np.full((job.height_px, job.width_px, 3), job.seed % 251, np.uint8)
        return Rendered(image, steps=3, guidance=1.5, denoiser_runs=6)


def recipe_of(**changes: Any) -> Recipe:
    raw: dict[str, Any] = {
        "name": "test",
        "seed": 3,
        "labels": {"space": "objects"},
        "prompts": {"embedder": {"name": "sd3", "model": "some/model"}},
        "render": {
            "renderer": {"name": "sd3", "model": "some/model"},
            "height_px": SIZE[0],
            "width_px": SIZE[1],
            "negative": "blur",
        },
        "execution": {"device": "cpu", "batch_size": 2},
    }
    for dotted, value in changes.items():
        section, _, key = dotted.partition("__")
        raw[section] = raw[section] | {key: value} if key else value
    return Recipe.model_validate(raw)


def row_of(number: int, **changes: Any) -> PromptRecord:
    plain: dict[str, Any] = {
        "key": f"p{number:015x}",
        "parent": "",
        "class_name": "car",
        "class_id": 3,
        "prompt": f"a car, number {number}",
        "attributes": ("time=night",),
        "source": "grammar",
        "order": number,
        "similarity": -1.0,
        "nearest": "",
        "embedder": "e",
        "embedding_file": "",
        "photograph": "",
        "layout": "",
    }
    return cast(PromptRecord, from_flat(PromptRecord, plain | {"origin": ""} | changes))
