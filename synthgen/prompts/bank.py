"""The prompt bank of one class (Syn4Seg, HDIG).

    loop: take a candidate; refuse it if it does not name the class, if it means something else, or if its text
    embedding is too close to an
          accepted one; tell the source, if it listens
    until the quota is reached, the budget is spent or the source has nothing left

Candidates are embedded in blocks of a fixed size; neither that size nor what is wanted of other classes changes what is
accepted. An agent's blocks are its own rounds, since what it proposes next follows from what became of the last ones.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from segkit.labels import IGNORE, Label, LabelSpace
from segkit.pictures import image_size
from synthgen.errors import InputError, ModelError
from synthgen.models import TextEmbedding, TextEncoder
from synthgen.prompts.compared import Compared, compared
from synthgen.prompts.dedup import GreedyBank, normalised
from synthgen.prompts.indexed import IndexedBank
from synthgen.prompts.words import article, mentions
from synthgen.records import digest_of, key_of
from synthgen.sources.label_maps import LabelMap

# embeddings of candidates that are kept to tell what another lambda_div would have let pass: 16 MB at 2048 wide
REMEMBERED = 2000
BLOCK = 32  # candidates embedded at once: a real encoder gives about 5 MB of tokens for each


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """What a source proposes: a sentence to render, or an existing photograph to use as it is."""

    prompt: str
    class_name: str  # "" if it is not about one class
    class_id: int  # 255 if it is not about one class
    attributes: tuple[str, ...]  # "name=value", sorted
    photograph: Path | None = None
    layout: LabelMap | None = None  # a label map to render from
    control_image: Path | None = None  # a picture beside that map, which the ControlNet is fed instead
    has_original: bool = False  # the picture that the map is of goes along, as the original of a pair
    content: str = ""  # digest of these files: it stands for them in the key, a path never does
    origin: str = ""  # that file below the folder (or beside the list) that the user gave, with forward slashes
    copy: int = 0  # its number among the files of the same content and sentence

    @property
    def key(self) -> str:
        """The key of its PromptRecord."""
        files = ("", "") if not self.content else (self.content, "") if self.photograph else ("", self.content)
        return key_of("p", self.prompt, self.class_name, *files, *((self.copy,) if self.copy else ()))


class PromptSource(Protocol):
    """A backend file of prompts/sources gives this from `build(options, execution)`.

    It may also have a module function `fingerprint(options) -> dict[str, str]`, the content hash of each file that it
    reads.
    """

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """Candidates about the wanted classes, class after class;

        with no wanted class, those that are about no single class.

        The order within a class follows from `seed` and the class alone. The iterator may be endless.
        """
        ...


@runtime_checkable
class Agent(Protocol):
    """What the iterator that `candidates` gives may also be:

    one that hears what became of its candidates before it proposes others.
    """

    stopped: str  # why it has no more, in a snake_case word; "" = it has only come to an end

    def next_round(self, limit: int) -> Sequence[Candidate]:
        """At most `limit` candidates of one round; none = it has ended."""
        ...

    def hear(self, entries: Sequence[Entry]) -> None:
        """What became of the candidates of the last round, in order; fewer than were given if the bank was full
        before."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What became of one candidate."""

    candidate: Candidate
    order: int  # position among the candidates of its bank, from 0
    refusal: str  # "" if accepted; near_duplicate, class_missing, class_cut, off_class, repeated or unreadable_image
    detail: str
    # cosine to `nearest`, for off_class to the sentence that names the class alone; -1 where there is none
    similarity: float
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
        min_class_similarity: float = -1.0,
        indexed: bool = False,
        rendered: Callable[[str], str] = str,
        earlier: Sequence[str] = (),
    ) -> None:
        """`rendered` gives the beginning of a prompt that reaches the renderer: the class must stand in it. `earlier`
        are sentences that the bank keeps away from as if they had been proposed first; it never gives them."""
        self.class_name = label.name if label else ""
        self.class_id = label.id if label else IGNORE
        self.stopped = ""  # "quota", "budget", "exhausted" or an agent's own word once `fill` has ended
        self._label = label
        self._encoder = encoder  # called when the first text is there: photographs need no encoder
        self._lambda_div = lambda_div
        self._quota = quota
        self._budget = budget
        self._class_gate, self._rendered = class_gate, rendered
        self._min_class_similarity = min_class_similarity
        self._anchor: np.ndarray | None = None  # (P, 1) unit embedding of the sentence that names the class alone
        self._new_greedy = IndexedBank if indexed else GreedyBank
        self._seen: set[str] = set()
        self._copies: Counter[str] = Counter()
        self._greedy: GreedyBank | None = None
        self._earlier = [Candidate(prompt, self.class_name, self.class_id, ()) for prompt in earlier]
        self._earlier_vectors: list[np.ndarray] = []
        # in the order of the greedy bank's indices, which begin with the earlier ones
        self._judged: list[Candidate] = []
        self._vectors: list[np.ndarray] = []  # of the first REMEMBERED of them, float32, and whether each was accepted
        self._taken: list[np.ndarray] = []

    def fill(self, candidates: Iterator[Candidate]) -> Iterator[Entry]:
        """Yield what became of each candidate, in order, until the bank is full; `stopped` then says why it ended.

        Photographs and layouts are all accepted and count neither for the quota nor for the budget: they are the user's
        own list, and two label maps with one sentence are still two images. Raises ModelError if the encoder gives a
        vector that is zero or not finite.
        """
        order, tried, accepted = 0, 0, 0
        agent = candidates if isinstance(candidates, Agent) else None
        while True:
            size = min(BLOCK, self._budget - tried)
            if size == 0:
                self.stopped = "budget"
                return
            block = [self._numbered(c) for c in (agent.next_round(size) if agent else islice(candidates, size))]
            entries = []
            for entry in self._judge(block, order, self._quota - accepted):
                order += 1
                is_text = not is_given(entry.candidate)
                tried += is_text
                accepted += is_text and not entry.refusal
                if agent:
                    # 5 MB each: only the receiver may keep them
                    entries.append(dataclasses.replace(entry, embedding=None))
                yield entry
            if agent and block:
                agent.hear(entries)
            if accepted == self._quota:
                self.stopped = "quota"
                return
            if not block if agent else len(block) < size:
                self.stopped = (agent.stopped if agent else "") or "exhausted"
                return

    def compared(self) -> dict[str, Compared]:
        """What the accepted prompts, as many times the class's name alone, and the first so many candidates without any
        comparison would give.
        """
        if not self._vectors:
            return {}
        attributes = [candidate.attributes for candidate in self._judged]
        return compared(np.concatenate(self._vectors), np.concatenate(self._taken), attributes, self._lambda_div)

    def would_pass(self, grid: Sequence[float]) -> tuple[int, dict[float, int]]:
        """(candidates, lambda_div -> how many of them pass there) for those that were compared, the first 2000 at
        most."""
        if not self._vectors:
            return 0, dict.fromkeys(grid, 0)
        vectors = np.concatenate(self._vectors)

        def passed(value: float) -> int:
            greedy = GreedyBank(vectors.shape[1], value)
            for block in self._earlier_vectors:
                greedy.offer(block)
            return int(greedy.offer(vectors).accepted.sum())

        return len(vectors), {value: passed(value) for value in grid}

    def _judge(self, block: list[Candidate], order: int, limit: int) -> Iterator[Entry]:
        early = [self._refusal(candidate) for candidate in block]
        texts = [
            candidate
            for candidate, (reason, _) in zip(block, early, strict=True)
            if not reason and not is_given(candidate)
        ]
        judged = self._compare(texts, limit)
        for place, (candidate, (reason, detail)) in enumerate(zip(block, early, strict=True), start=order):
            if limit == 0:
                return
            if reason or is_given(candidate):
                embedding = self._encoder().encode([candidate.prompt])[0] if candidate.layout and not reason else None
                yield Entry(candidate, place, reason, detail, -1.0, None, embedding)
                continue
            refusal, similarity, nearest, embedding = next(judged)
            if not refusal:
                limit -= 1
                yield Entry(candidate, place, "", "", similarity, nearest, embedding)
            else:
                detail = nearest.prompt if nearest else candidate.prompt
                yield Entry(candidate, place, refusal, detail, similarity, nearest, None)

    def _compare(
        self, texts: list[Candidate], limit: int
    ) -> Iterator[tuple[str, float, Candidate | None, TextEmbedding]]:
        """(refusal, similarity, nearest, embedding) of each text up to the `limit`-th acceptance."""
        if not texts:
            return
        embeddings = self._encoder().encode([candidate.prompt for candidate in texts])
        pooled = pooled_vectors(texts, embeddings, self._encoder().id)
        to_class = self._class_similarity(pooled)
        meant = np.flatnonzero(to_class >= self._min_class_similarity)
        if self._greedy is None:
            self._greedy = self._new_greedy(pooled.shape[1], self._lambda_div)
            self._take_earlier(self._greedy)
        verdicts = self._greedy.offer(pooled[meant], limit)
        judged = meant[: len(verdicts.accepted)]
        if len(self._judged) < REMEMBERED:
            self._vectors.append(pooled[judged].astype(np.float32))
            self._taken.append(verdicts.accepted)
        self._judged.extend(texts[i] for i in judged)
        is_full = int(verdicts.accepted.sum()) == limit
        place = {int(i): n for n, i in enumerate(judged)}
        for i in range(int(judged[-1]) + 1 if is_full else len(texts)):
            if i not in place:
                yield "off_class", float(to_class[i]), None, embeddings[i]
                continue
            n = place[i]
            nearest = self._named(int(verdicts.nearest[n]))
            yield (
                "" if verdicts.accepted[n] else "near_duplicate",
                float(verdicts.similarity[n]),
                nearest,
                embeddings[i],
            )

    def _take_earlier(self, greedy: GreedyBank) -> None:
        for start in range(0, len(self._earlier), BLOCK):
            block = self._earlier[start : start + BLOCK]
            vectors = pooled_vectors(block, self._encoder().encode([c.prompt for c in block]), self._encoder().id)
            self._earlier_vectors.append(vectors.astype(np.float32))
            greedy.offer(vectors)

    def _named(self, number: int) -> Candidate | None:
        """The candidate of an index of the greedy bank; None for -1."""
        if number < 0:
            return None
        own = number - len(self._earlier)
        return self._judged[own] if own >= 0 else self._earlier[number]

    def _class_similarity(self, pooled: np.ndarray) -> np.ndarray:
        """(N,) cosines, rounded as the greedy comparison rounds, to "a photo of a <class>";

        all 1 where the floor is off or there is no class.
        """
        if self._label is None or self._min_class_similarity <= -1:
            return np.ones(len(pooled))
        if self._anchor is None:
            spoken = self._label.spoken
            self._anchor = normalised(
                self._encoder().encode([f"a photo of {article(spoken)} {spoken}"])[0].pooled[None]
            ).T
        return np.round((normalised(pooled) @ self._anchor)[:, 0], 6)

    def _numbered(self, candidate: Candidate) -> Candidate:
        """A user's file as itself; one whose very content has come before as the next copy of it, since it is kept too.

        An unreadable photograph has no content: its name stands for it in the reason of its refusal.
        """
        if not is_given(candidate):
            return candidate
        copies = self._copies[candidate.key]
        self._copies[candidate.key] += 1
        return dataclasses.replace(candidate, copy=copies) if copies else candidate

    def _refusal(self, candidate: Candidate) -> tuple[str, str]:
        """(reason, detail) for what needs no embedding; ("", "") to go on."""
        key = candidate.key
        if key in self._seen:
            return "repeated", candidate.prompt
        self._seen.add(key)
        if candidate.photograph:
            try:
                image_size(candidate.photograph)
            except InputError as error:
                return "unreadable_image", str(error)
        elif self._class_gate and not candidate.layout:
            if self._label is None or not mentions(candidate.prompt, self._label):
                return "class_missing", candidate.prompt
            if not mentions(self._rendered(candidate.prompt), self._label):
                return "class_cut", candidate.prompt
        return "", ""


def content_of(path: Path) -> str:
    """The digest of a file, or of its name where it cannot be read: the bank refuses it then, with the reason."""
    try:
        return digest_of(path.read_bytes())
    except OSError:
        return digest_of(path.name.encode(errors="surrogateescape"))


def is_given(candidate: Candidate) -> bool:
    """Whether the candidate stands for a file of the user's rather than for a sentence."""
    return bool(candidate.photograph or candidate.layout)


def pooled_vectors(texts: Sequence[Candidate], embeddings: Sequence[TextEmbedding], encoder_id: str) -> np.ndarray:
    """(N, P) pooled embeddings. Raises ModelError that names the prompt whose vector is zero or not finite."""
    for candidate, embedding in zip(texts, embeddings, strict=True):
        if not np.isfinite(embedding.pooled).all() or not embedding.pooled.any():
            raise ModelError(
                f"text encoder {encoder_id}: the embedding of {candidate.prompt!r} is zero or not finite; try "
                "execution.dtype=float32"
            )
    return np.stack([embedding.pooled for embedding in embeddings])
