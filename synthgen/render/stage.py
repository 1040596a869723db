"""`render`:

prompts to images, each with a key and a noise seed of its own that follow from prompt, layout, run seed and number
alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.backends import load, statement
from synthgen.errors import InputError
from synthgen.images import read_image, read_mask
from synthgen.labels import read_label_space
from synthgen.models import Rendered, Renderer, RenderJob, TextEmbedding
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.models.sharing import shares_text
from synthgen.recipe import Recipe
from synthgen.records import Picture, PromptRecord, Rejected, RenderRecord, key_of, seed_of
from synthgen.render.writer import ImageWriter

NAME, VERB = "render", "render"
READS, GIVES = PromptRecord, RenderRecord
BY_ROW = True
SINGLE_UNIT = False


def settings(recipe: Recipe) -> dict[str, Any]:
    """The render section with every option of the renderer, the files that they name, the revisions of its weights and
    the run seed; quantised weights are other weights.
    """
    files = statement("renderer", recipe.render.renderer.model_dump(), "fingerprint", {})
    return {
        "seed": recipe.seed,
        "render": recipe.render.model_dump(mode="json")
        | {"renderer": chosen_options("renderer", recipe.render.renderer)},
        "revisions": revisions_of("renderer", recipe.render.renderer),
        "embedder": recipe.prompts.embedder.model_dump(mode="json"),
        **({"files": files} if files else {}),
        **({"quantise": recipe.execution.quantise} if recipe.execution.quantise != "none" else {}),
    }


def build(recipe: Recipe, run: Path) -> RenderStage:
    """Load the renderer."""
    return RenderStage(recipe, run, load("renderer", recipe.render.renderer.model_dump(), recipe.execution))


class RenderStage:
    """Batches jobs and writes one lossless PNG an image."""

    def __init__(self, recipe: Recipe, run: Path, renderer: Renderer) -> None:
        self.batch_size = recipe.execution.batch_size
        self._recipe = recipe
        self._run = run
        self._renderer = renderer
        renderer.expect_labels(read_label_space(recipe.labels.space))
        self._shares_text = shares_text(recipe)
        self._photographs = _root_of(recipe)

    def process(self, rows: Sequence[PromptRecord], folder: Path, unit: str) -> Iterator[RenderRecord | Rejected]:
        """One row or Rejected for every prompt and number."""
        self._prepare(rows)
        jobs = (
            (row, self._job(row, number)) for row in rows for number in range(self._recipe.render.images_per_prompt)
        )
        with ImageWriter() as writer:
            for batch in _batches(jobs, self.batch_size):
                rendered = self._renderer.render([job for _, job in batch])
                for (row, job), result in zip(batch, rendered, strict=True):
                    outcome = self._outcome(row, job, result, unit)
                    yield from writer.write(outcome, result.image, folder / f"{job.key}.png")
            yield from writer.rest()

    def _prepare(self, rows: Sequence[PromptRecord]) -> None:
        """Name the prompts that the renderer will have to encode itself, before the first image."""
        texts = [
            row.subject.prompt for row in rows if not (self._shares_text and row.embedding_file) and not row.photograph
        ]
        if texts:
            self._renderer.prepare([*dict.fromkeys([*texts, self._recipe.render.negative])])

    def _outcome(self, row: PromptRecord, job: RenderJob, result: Rendered, unit: str) -> RenderRecord | Rejected:
        if result.image is None:
            return Rejected(job.key, row.key, "render", result.reason or "no_image", result.detail, 0.0)
        picture = Picture(
            image=f"render/{unit}/{job.key}.png",
            height_px=result.image.shape[0],
            width_px=result.image.shape[1],
            seed=job.seed,
            renderer=self._renderer.id,
            model_revision=self._renderer.revision,
            steps=result.steps,
            guidance=result.guidance,
            layout=row.layout,
            origin=row.origin,
        )
        return RenderRecord(job.key, row.key, row.subject, picture, result.denoiser_runs)

    def _job(self, row: PromptRecord, number: int) -> RenderJob:
        # the row's key stands for its map too; the empty word keeps the keys of samples that have none as they were
        key = key_of("s", row.key, "", self._recipe.seed, number)
        layout: np.ndarray | None = read_mask(self._run / row.layout) if row.layout else None
        shares = self._shares_text and row.embedding_file
        return RenderJob(
            key=key,
            prompt=row.subject.prompt,
            negative=self._recipe.render.negative,
            seed=seed_of(key),
            height_px=self._recipe.render.height_px,
            width_px=self._recipe.render.width_px,
            embedding=self._embedding(row.embedding_file, row.key) if shares else None,
            negative_embedding=self._embedding(row.embedding_file, "negative") if shares else None,
            photograph=self._photographs / row.photograph if row.photograph else None,
            layout=layout,
            control_image=read_image(self._run / row.control_image) if row.control_image else None,
        )

    def _embedding(self, file: str, key: str) -> TextEmbedding:
        """One prompt's tensors; nothing else of the file is read."""
        from safetensors import SafetensorError, safe_open

        path = self._run / file
        try:
            with safe_open(path, framework="np") as bank:
                return TextEmbedding(bank.get_tensor(f"{key}.tokens"), bank.get_tensor(f"{key}.pooled"))
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path}: no embedding of {key} ({error}); run the stage prompts again with --redo prompts"
            ) from error


def _root_of(recipe: Recipe) -> Path:
    """The folder that the photographs of the prompts stage's rows lie below."""
    return Path(statement("prompt_source", recipe.prompts.source.model_dump(), "root", Path()))


def _batches(
    jobs: Iterable[tuple[PromptRecord, RenderJob]], size: int
) -> Iterator[list[tuple[PromptRecord, RenderJob]]]:
    source = iter(jobs)
    while batch := list(itertools.islice(source, size)):
        yield batch
