"""`render`:

prompts to images, each with a key and a noise seed of its own that follow from prompt, layout, run seed and number
alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.backends import load, statement
from synthgen.classes import wanted_classes
from synthgen.errors import InputError, RecipeError
from synthgen.images import read_image, write_image
from synthgen.labels import read_label_space
from synthgen.models import Rendered, Renderer, RenderJob, TextEmbedding
from synthgen.models.embedding_files import read_embedding
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.models.sharing import shares_text
from synthgen.recipe import Recipe
from synthgen.records import Pair, Picture, PromptRecord, Rejected, RenderRecord, seed_of
from synthgen.render.attempts import Attempt, Attempts, Composed, Judgement, NotComposed, gates_of, label_with
from synthgen.render.composition import Composer
from synthgen.render.object_bank import read_object_bank
from synthgen.render.writer import ImageWriter
from synthgen.sources.listing import source_hash

NAME, VERB = "render", "render"
READS, GIVES = PromptRecord, RenderRecord
BY_ROW = True
SINGLE_UNIT = False


def settings(recipe: Recipe) -> dict[str, Any]:
    """The render section with every option of renderer, composer and gates, the files that they name, the revisions of
    their weights and the run seed; quantised weights are other weights.
    """
    files = statement("renderer", recipe.render.renderer.model_dump(), "fingerprint", {})
    render = recipe.render.model_dump(mode="json")
    render["renderer"] = chosen_options("renderer", recipe.render.renderer)
    render["compose"] = chosen_options("composer", recipe.render.compose)
    revisions = revisions_of("renderer", recipe.render.renderer)
    bank, gates = recipe.render.object_bank, recipe.render.gates
    if bank is not None:
        render["object_bank"]["folder"] = source_hash(bank.source, Path(bank.folder).expanduser(), bank.split)
    if gates.sam_agreement.enabled:
        render["gates"]["sam_agreement"]["mask_decoder"] = chosen_options("mask_decoder", recipe.refine.mask_decoder)
        revisions |= revisions_of("mask_decoder", recipe.refine.mask_decoder)
    if gates.known_class.segmenter is not None:
        render["gates"]["known_class"]["segmenter"] = chosen_options("proposer", gates.known_class.segmenter)
        revisions |= revisions_of("proposer", gates.known_class.segmenter)
    return {
        "seed": recipe.seed,
        "render": render,
        "revisions": revisions,
        "embedder": recipe.prompts.embedder.model_dump(mode="json"),
        **({"files": files} if files else {}),
        **({"quantise": recipe.execution.quantise} if recipe.execution.quantise != "none" else {}),
    }


def build(recipe: Recipe, run: Path) -> RenderStage:
    """Load the renderer, and what `stage_with` loads."""
    return stage_with(load("renderer", recipe.render.renderer.model_dump(), recipe.execution), recipe, run)


def stage_with(renderer: Renderer, recipe: Recipe, run: Path) -> RenderStage:
    """Load the gates and look through the object bank. Raises RecipeError or InputError, in one line, for gates without
    a composer that pastes something, and for a bank without objects.
    """
    space = read_label_space(recipe.labels.space)
    renderer.expect_labels(space)
    composer: Composer = load("composer", recipe.render.compose.model_dump(), recipe.execution)
    bank_of, bank = recipe.render.object_bank, None
    if bank_of is not None:
        wanted = [label.name for label in wanted_classes(recipe, space)]
        bank = read_object_bank(bank_of, space, wanted, renderer.knows_object)
    composer.prepare(space, bank)
    gates = gates_of(recipe)
    if gates and bank is None:
        name = next(iter(gates))
        raise RecipeError(f"render.gates.{name}: judges pasted objects; set render.object_bank, or disable the gate")
    return RenderStage(recipe, run, renderer, Attempts(recipe, run, composer, gates))


class RenderStage:
    """Batches jobs and writes one lossless PNG an image; of a pair, its label map and the pasted object too."""

    def __init__(self, recipe: Recipe, run: Path, renderer: Renderer, attempts: Attempts) -> None:
        self.batch_size = recipe.execution.batch_size
        self._recipe = recipe
        self._run = run
        self._renderer = renderer
        self._attempts = attempts
        self._shares_text = shares_text(recipe)
        self._photographs = _root_of(recipe)

    def process(self, rows: Sequence[PromptRecord], folder: Path, unit: str) -> Iterator[RenderRecord | Rejected]:
        """One row or Rejected for every prompt and number, and a Rejected for each attempt before it. Attempts are made
        in rounds, so that the sentences of a round are encoded together.
        """
        pending = [Attempt(row, number) for row in rows for number in range(self._recipe.render.images_per_prompt)]
        with ImageWriter() as writer:
            while pending:
                self._prepare(pending)
                again: list[Attempt] = []
                for some in _batches(pending, self.batch_size):
                    yield from self._batch(some, folder, unit, writer, again)
                pending = again
            yield from writer.rest()

    def _batch(
        self, attempts: Sequence[Attempt], folder: Path, unit: str, writer: ImageWriter, again: list[Attempt]
    ) -> Iterator[RenderRecord | Rejected]:
        """What comes of a batch; attempts that are to follow are put into `again`."""
        composed: list[Composed] = []
        for attempt in attempts:
            found = self._attempts.compose(attempt)
            if isinstance(found, NotComposed):
                yield from writer.write(found.rejected, None, folder)
                if not found.is_final and self._may_follow(attempt):
                    again.append(attempt.next)
            else:
                composed.append(found)
        jobs = [self._job(one) for one in composed]
        rendered = self._renderer.render(jobs) if jobs else []
        images = {number: result.image for number, result in enumerate(rendered) if result.image is not None}
        judgements = self._attempts.judge(list(images.values()), [composed[number] for number in images])
        judged = dict(zip(images, judgements, strict=True))
        for number, (one, result) in enumerate(zip(composed, rendered, strict=True)):
            judgement = judged.get(number, Judgement(None))
            outcome = self._outcome(one, result, judgement, folder, unit)
            is_kept = isinstance(outcome, RenderRecord)
            if not is_kept and one.composition.pasted is not None and self._may_follow(one.attempt):
                again.append(one.attempt.next)
            yield from writer.write(outcome, result.image if is_kept else None, folder / f"{one.key}.png")

    def _may_follow(self, attempt: Attempt) -> bool:
        return attempt.number + 1 < self._recipe.render.attempts

    def _prepare(self, attempts: Sequence[Attempt]) -> None:
        """Name the prompts that the renderer will have to encode itself, before the first image."""
        texts = [
            found.composition.prompt
            for found in map(self._attempts.compose, attempts)
            if isinstance(found, Composed) and not found.attempt.row.photograph and not self._is_stored(found)
        ]
        if texts:
            self._renderer.prepare([*dict.fromkeys([*texts, self._recipe.render.negative])])

    def _outcome(
        self, composed: Composed, result: Rendered, judgement: Judgement, folder: Path, unit: str
    ) -> RenderRecord | Rejected:
        row, key, pasted = composed.attempt.row, composed.key, composed.composition.pasted
        if result.image is None:
            return composed.rejected(result.reason or "no_image", result.detail)
        if judgement.verdict is not None and judgement.verdict.reason:
            return composed.rejected(judgement.verdict.reason, judgement.verdict.detail, judgement.verdict.score)
        layout, pasted_file = row.layout, ""
        if pasted is not None and composed.composition.layout is not None:
            mask = judgement.verdict.mask if judgement.verdict else pasted.mask
            write_image(label_with(composed.composition.layout, mask), folder / f"{key}_label.png")
            write_image(np.where(pasted.mask, 255, 0).astype(np.uint8), folder / f"{key}_pasted.png")
            layout, pasted_file = f"render/{unit}/{key}_label.png", f"render/{unit}/{key}_pasted.png"
        picture = Picture(
            image=f"render/{unit}/{key}.png",
            height_px=result.image.shape[0],
            width_px=result.image.shape[1],
            seed=seed_of(key),
            renderer=self._renderer.id,
            model_revision=self._renderer.revision,
            steps=result.steps,
            guidance=result.guidance,
            layout=layout,
            origin=row.origin,
            origin_height_px=result.origin_size[0],
            origin_width_px=result.origin_size[1],
        )
        pair = Pair(
            original=row.original,
            original_mask=row.layout if row.original else "",
            pasted=pasted_file,
            attempts=composed.attempt.number + 1,
            sam_agreement=judgement.sam_agreement,
            known_probability=judgement.known_probability,
        )
        about = tuple(sorted((*row.subject.attributes, *composed.composition.attributes)))
        subject = dataclasses.replace(row.subject, prompt=composed.composition.prompt, attributes=about)
        return RenderRecord(key, row.key, subject, picture, result.denoiser_runs, pair)

    def _is_stored(self, composed: Composed) -> bool:
        """Whether the prompt bank has the embedding of the sentence that is rendered."""
        row = composed.attempt.row
        return bool(self._shares_text and row.embedding_file and composed.composition.prompt == row.subject.prompt)

    def _job(self, composed: Composed) -> RenderJob:
        row, composition = composed.attempt.row, composed.composition
        shares = self._shares_text and row.embedding_file
        return RenderJob(
            key=composed.key,
            prompt=composition.prompt,
            negative=self._recipe.render.negative,
            seed=seed_of(composed.key),
            height_px=self._recipe.render.height_px,
            width_px=self._recipe.render.width_px,
            embedding=self._embedding(row.embedding_file, row.key) if self._is_stored(composed) else None,
            negative_embedding=self._embedding(row.embedding_file, "negative") if shares else None,
            photograph=self._photographs / row.photograph if row.photograph else None,
            layout=composition.layout,
            control_image=read_image(self._run / row.control_image) if row.control_image else None,
            pasted=composition.pasted,
        )

    def _embedding(self, file: str, key: str) -> TextEmbedding:
        """One prompt's tensors; nothing else of the file is read."""
        from safetensors import SafetensorError

        path = self._run / file
        try:
            return read_embedding(path, key)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path}: no embedding of {key} ({error}); run the stage prompts again with --redo prompts"
            ) from error


def _root_of(recipe: Recipe) -> Path:
    """The folder that the photographs of the prompts stage's rows lie below."""
    return Path(statement("prompt_source", recipe.prompts.source.model_dump(), "root", Path()))


def _batches(attempts: Sequence[Attempt], size: int) -> Iterator[Sequence[Attempt]]:
    for start in range(0, len(attempts), size):
        yield attempts[start : start + size]
