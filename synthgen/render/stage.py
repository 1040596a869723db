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

from synthgen.backends import check_options, find, load
from synthgen.errors import InputError
from synthgen.images import read_mask
from synthgen.models import RenderJob, TextEmbedding
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.models.sharing import shares_text
from synthgen.recipe import Recipe
from synthgen.records import Picture, PromptRecord, Rejected, RenderRecord, key_of, seed_of
from synthgen.render.writer import ImageWriter

GIVES = RenderRecord
SINGLE_UNIT = False


def settings(recipe: Recipe) -> dict[str, Any]:
    """The render section with every option of the renderer, the revisions of its weights and the run seed;

    quantised weights are other weights.
    """
    return {
        "seed": recipe.seed,
        "render": recipe.render.model_dump(mode="json")
        | {"renderer": chosen_options("renderer", recipe.render.renderer)},
        "revisions": revisions_of("renderer", recipe.render.renderer),
        "embedder": recipe.prompts.embedder.model_dump(mode="json"),
        **({"quantise": recipe.execution.quantise} if recipe.execution.quantise != "none" else {}),
    }


def build(recipe: Recipe, run: Path) -> RenderStage:
    """Load the renderer."""
    return RenderStage(recipe, run, load("renderer", recipe.render.renderer.model_dump(), recipe.execution))


class RenderStage:
    """Batches jobs and writes one lossless PNG an image."""

    def __init__(self, recipe: Recipe, run: Path, renderer: Any) -> None:
        self.batch_size = recipe.execution.batch_size
        self._recipe = recipe
        self._run = run
        self._renderer = renderer
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
                pictures = self._renderer.render([job for _, job in batch])
                runs = getattr(self._renderer, "denoiser_runs", [0] * len(batch))
                for (row, job), picture, denoiser_runs in zip(batch, pictures, runs, strict=True):
                    found = self._row(row, job, picture, unit, denoiser_runs)
                    yield from writer.write(found, picture, folder / f"{job.key}.png")
            yield from writer.rest()

    def _prepare(self, rows: Sequence[PromptRecord]) -> None:
        """Tell a renderer that wants to know which prompts it will have to encode itself, before the first image."""
        texts = [
            row.subject.prompt for row in rows if not (self._shares_text and row.embedding_file) and not row.photograph
        ]
        if texts and hasattr(self._renderer, "prepare"):
            self._renderer.prepare([*dict.fromkeys([*texts, self._recipe.render.negative])])

    def _row(
        self, row: PromptRecord, job: RenderJob, picture: np.ndarray | None, unit: str, denoiser_runs: int
    ) -> RenderRecord | Rejected:
        if picture is None:
            where = job.photograph or "the model's output is not finite"
            return Rejected(
                job.key, row.key, "render", "unreadable_image" if job.photograph else "not_finite", str(where), 0.0
            )
        made = Picture(
            image=f"render/{unit}/{job.key}.png",
            height_px=picture.shape[0],
            width_px=picture.shape[1],
            seed=job.seed,
            renderer=self._renderer.id,
            model_revision=self._renderer.revision,
            steps=self._renderer.steps,
            guidance=self._renderer.guidance,
            layout=row.layout,
            origin=row.origin,
        )
        return RenderRecord(job.key, row.key, row.subject, made, denoiser_runs)

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
    config = recipe.prompts.source.model_dump()
    root = getattr(find("prompt_source", config["name"]), "root", None)
    return Path(root(check_options("prompt_source", config))) if root else Path()


def _batches(
    jobs: Iterable[tuple[PromptRecord, RenderJob]], size: int
) -> Iterator[list[tuple[PromptRecord, RenderJob]]]:
    source = iter(jobs)
    while batch := list(itertools.islice(source, size)):
        yield batch
