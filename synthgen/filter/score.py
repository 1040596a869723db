"""`score`: every number that a filter rule may ask for.

No decision is taken here, so thresholds change without scoring again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import Label
from segkit.printable import excerpt
from synthgen.backends import load
from synthgen.classes import wanted_classes
from synthgen.errors import InputError, ModelError
from synthgen.images import read_image
from synthgen.labels import read_label_space
from synthgen.models import ImageScorer, TellsCut
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.recipe import Recipe
from synthgen.records import MaskRecord, Rejected, ScoredRecord, Scores

NAME, VERB = "score", "filter"
READS, GIVES = MaskRecord, ScoredRecord
BY_ROW = True
SINGLE_UNIT = False

_log = logging.getLogger(__name__)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def settings(recipe: Recipe) -> dict[str, Any]:
    """The scorer with all its options and the revision of its weights, and the wanted classes with the words that are
    scored."""
    wanted = wanted_classes(recipe, read_label_space(recipe.labels.space))
    return {
        "scorer": chosen_options("image_scorer", recipe.filter.scorer),
        "revisions": revisions_of("image_scorer", recipe.filter.scorer),
        "classes": [[label.id, class_text(label)] for label in wanted],
    }


def build(recipe: Recipe, run: Path) -> ScoreStage:
    """Load the scorer and embed the wanted classes."""
    wanted = wanted_classes(recipe, read_label_space(recipe.labels.space))
    scorer: ImageScorer = load("image_scorer", recipe.filter.scorer.model_dump(), recipe.execution)
    return ScoreStage(run, scorer, wanted, recipe.execution.batch_size)


def class_text(label: Label) -> str:
    """What an image of a class is compared with."""
    return f"a photo of a {label.spoken}"


def pixel_std(image: np.ndarray) -> float:
    """Standard deviation of the luma of an (H, W, 3) uint8 image, 0..255."""
    return float((image @ _LUMA).std())


def class_rank(image: np.ndarray, class_vectors: np.ndarray, index: int) -> int:
    """How many classes (C, D) are more like the image (D,) than class `index`; 0 = it is the best.

    All rows have length 1. Raises ModelError if a scorer gave numbers that are none: they would be the best of all.
    """
    with np.errstate(invalid="ignore"):  # kernels of BLAS raise the flag over padding of their own, too
        similarity = class_vectors @ image
    if not np.isfinite(similarity).all():
        raise ModelError("filter.scorer: an embedding of it is not finite: take another scorer, or float32")
    return int(np.count_nonzero(similarity > similarity[index]))


class ScoreStage:
    """See the module."""

    def __init__(self, run: Path, scorer: ImageScorer, wanted: Sequence[Label], batch_size: int) -> None:
        self._run = run
        self._scorer = scorer
        self.batch_size = batch_size
        self._index = {label.id: index for index, label in enumerate(wanted)}
        self._has_told = False
        self._class_vectors = scorer.embed_texts([class_text(label) for label in wanted])

    def process(self, rows: Sequence[MaskRecord], folder: Path, unit: str) -> Iterator[ScoredRecord | Rejected]:
        """One ScoredRecord for each row, or a Rejected `blank_or_unreadable`."""
        for start in range(0, len(rows), self.batch_size):
            yield from self._batch(rows[start : start + self.batch_size])

    def _batch(self, rows: Sequence[MaskRecord]) -> Iterator[ScoredRecord | Rejected]:
        readable: list[tuple[MaskRecord, np.ndarray]] = []
        for row in rows:
            try:
                readable.append((row, read_image(self._run / row.picture.image)))
            except InputError as error:
                yield _unusable(row, str(error).replace(f"{self._run}/", ""))
        vectors = self._scorer.embed_images([image for _, image in readable])
        prompts = {
            prompt: n
            for n, prompt in enumerate(dict.fromkeys(row.subject.prompt for row, _ in readable if row.subject.prompt))
        }
        self._tell_cut(list(prompts))
        texts = self._scorer.embed_texts(list(prompts))
        for (row, image), vector in zip(readable, vectors, strict=True):
            if not np.isfinite(vector).all():
                yield _unusable(row, f"the embedding of {row.picture.image} is not finite")
                continue
            prompt = row.subject.prompt
            text_score = float(np.clip(texts[prompts[prompt]] @ vector, -1, 1)) if prompt else 0.0
            index = self._index.get(row.subject.class_id)
            rank = -1 if index is None else class_rank(vector, self._class_vectors, index)
            scores = Scores(text_score, rank, pixel_std(image))
            embedding = tuple(map(float, vector))
            yield ScoredRecord(
                row.key, row.parent, row.subject, row.picture, row.labelling, scores, embedding, row.pair
            )

    def _tell_cut(self, prompts: Sequence[str]) -> None:
        """One warning, at the first prompt that the scorer does not read to its end: it costs a score its meaning."""
        if self._has_told or not isinstance(self._scorer, TellsCut):
            return
        cut = next((prompt for prompt in prompts if self._scorer.cuts(prompt)), None)
        if cut is not None:
            self._has_told = True
            _log.warning(
                "filter: %s reads only the beginning of %s, so text_image_score compares the image with that alone, "
                "here and for other long prompts; write shorter ones",
                self._scorer.id, excerpt(cut, 160),
            )  # fmt: skip


def _unusable(row: MaskRecord, detail: str) -> Rejected:
    return Rejected(key=row.key, parent=row.key, stage="score", reason="blank_or_unreadable", detail=detail, score=0.0)
