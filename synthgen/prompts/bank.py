"""The prompt bank of one class (Syn4Seg, HDIG).

    loop: take a candidate; refuse it if it does not name the class, or if its text embedding is too close to an accepted one
    until the quota is reached, the budget is spent or the source has nothing left

Candidates are embedded in blocks of a fixed size; neither that size nor what is wanted of other classes changes what is accepted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from synthgen.errors import InputError, ModelError
from synthgen.images import IGNORE, image_size
from synthgen.labels import Label, LabelSpace
from synthgen.models import TextEmbedding, TextEncoder
from synthgen.prompts.dedup import GreedyBank
from synthgen.prompts.words import mentions
from synthgen.records import key_of

BLOCK = 32  # candidates embedded at once: a real encoder gives about 5 MB of tokens for each


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """What a source proposes: a sentence to render, or an existing photograph to use as it is."""

    prompt: str
    class_name: str  # "" if it is not about one class
    class_id: int  # 255 if it is not about one class
    attributes: tuple[str, ...]  # "name=value", sorted
    photograph: str = ""  # absolute path
    layout: str = ""  # absolute path of a label map to render from

    @property
    def key(self) -> str:
        """The key of its PromptRecord."""
        return key_of("p", self.prompt, self.class_name, self.photograph, self.layout)


class PromptSource(Protocol):
    """A backend file of prompts/sources gives this from `build(options, execution)`.

    It may also have a module function `fingerprint(options) -> dict[str, str]`, the content hash of each file that it reads.
    """

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """Candidates about the wanted classes, class after class; with no wanted class, those that are about no single class.

        The order within a class follows from `seed` and the class alone. The iterator may be endless.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What became of one candidate."""

    candidate: Candidate
    order: int  # position among the candidates of its bank, from 0
    refusal: str  # "" if accepted; near_duplicate, class_missing, repeated or unreadable_image
    detail: str
    similarity: float  # cosine to `nearest`; -1 where there is none
    nearest: Candidate | None  # the most similar one accepted before it
    embedding: TextEmbedding | None  # None for refused ones and for photographs


class ClassBank:
    """The accepted prompts of one class, or of no single class if `label` is None."""

    def __init__(
        self,
        label: Label | None,
        encoder: Callable[[], TextEncoder],
        *,
        lambda_div: float,
        quota: int,
        budget: int,
        class_gate: bool,
    ) -> None:
        self.class_name = label.name if label else ""
        self.class_id = label.id if label else IGNORE
        self.stopped = ""  # "quota", "budget" or "exhausted" once `fill` has ended
        self._label = label
        self._encoder = encoder  # called when the first text is there: photographs need no encoder
        self._lambda_div = lambda_div
        self._quota = quota
        self._budget = budget
        self._class_gate = class_gate
        self._seen: set[str] = set()
        self._greedy: GreedyBank | None = None
        self._judged: list[Candidate] = []  # in the order of the greedy bank's indices

    def fill(self, candidates: Iterator[Candidate]) -> Iterator[Entry]:
        """Yield what became of each candidate, in order, until the bank is full; `stopped` then says why it ended.

        Photographs and layouts are all accepted and count neither for the quota nor for the budget: they are the user's own list, and two
        label maps with one sentence are still two images.
        Raises ModelError if the encoder gives a vector that is zero or not finite.
        """
        order, tried, accepted = 0, 0, 0
        while True:
            size = min(BLOCK, self._budget - tried)
            if size == 0:
                self.stopped = "budget"
                return
            block = list(islice(candidates, size))
            for entry in self._judge(block, order, self._quota - accepted):
                order += 1
                is_text = not _is_given(entry.candidate)
                tried += is_text
                accepted += is_text and not entry.refusal
                yield entry
            if accepted == self._quota:
                self.stopped = "quota"
                return
            if len(block) < size:
                self.stopped = "exhausted"
                return

    def _judge(self, block: list[Candidate], order: int, limit: int) -> Iterator[Entry]:
        early = [self._refusal(candidate) for candidate in block]
        texts = [candidate for candidate, (reason, _) in zip(block, early, strict=True) if not reason and not _is_given(candidate)]
        judged = self._compare(texts, limit)
        for place, (candidate, (reason, detail)) in enumerate(zip(block, early, strict=True), start=order):
            if limit == 0:
                return
            if reason or _is_given(candidate):
                embedding = self._encoder().encode([candidate.prompt])[0] if candidate.layout and not reason else None
                yield Entry(candidate, place, reason, detail, -1.0, None, embedding)
                continue
            accepted, similarity, nearest, embedding = next(judged)
            if accepted:
                limit -= 1
                yield Entry(candidate, place, "", "", similarity, nearest, embedding)
            else:
                yield Entry(candidate, place, "near_duplicate", nearest.prompt if nearest else "", similarity, nearest, None)

    def _compare(self, texts: list[Candidate], limit: int) -> Iterator[tuple[bool, float, Candidate | None, TextEmbedding]]:
        """(accepted, similarity, nearest, embedding) of each text up to the `limit`-th acceptance."""
        if not texts:
            return
        embeddings = self._encoder().encode([candidate.prompt for candidate in texts])
        pooled = pooled_vectors(texts, embeddings, self._encoder().id)
        if self._greedy is None:
            self._greedy = GreedyBank(pooled.shape[1], self._lambda_div)
        verdicts = self._greedy.offer(pooled, limit)
        self._judged.extend(texts[: len(verdicts.accepted)])
        for i, accepted in enumerate(verdicts.accepted):
            nearest = self._judged[verdicts.nearest[i]] if verdicts.nearest[i] >= 0 else None
            yield bool(accepted), float(verdicts.similarity[i]), nearest, embeddings[i]

    def _refusal(self, candidate: Candidate) -> tuple[str, str]:
        """(reason, detail) for what needs no embedding; ("", "") to go on."""
        key = candidate.key
        if key in self._seen:
            return "repeated", candidate.prompt or candidate.photograph
        self._seen.add(key)
        if candidate.photograph:
            try:
                image_size(Path(candidate.photograph))
            except InputError as error:
                return "unreadable_image", str(error)
        elif self._class_gate and not candidate.layout and (self._label is None or not mentions(candidate.prompt, self._label)):
            return "class_missing", candidate.prompt
        return "", ""


def _is_given(candidate: Candidate) -> bool:
    """Whether the candidate stands for a file of the user's rather than for a sentence."""
    return bool(candidate.photograph or candidate.layout)


def pooled_vectors(texts: Sequence[Candidate], embeddings: Sequence[TextEmbedding], encoder_id: str) -> np.ndarray:
    """(N, P) pooled embeddings. Raises ModelError that names the prompt whose vector is zero or not finite."""
    for candidate, embedding in zip(texts, embeddings, strict=True):
        if not np.isfinite(embedding.pooled).all() or not embedding.pooled.any():
            raise ModelError(f"text encoder {encoder_id}: the embedding of {candidate.prompt!r} is zero or not finite; try execution.dtype=float32")
    return np.stack([embedding.pooled for embedding in embeddings])
