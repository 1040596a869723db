"""`synthgen prompts`: fills the prompt bank of every wanted class, and writes the text embeddings of what it accepts.

Artefacts of a unit: `embeddings-00000.safetensors`, ... (`{key}.tokens` and `{key}.pooled` of `execution.unit_rows`
prompts each, and the negative prompt's under the key `negative`), unless the encoder only pools or nothing was
embedded; `coverage.json`; and `replies.jsonl` if a language model was asked. Until the unit is whole its replies are
kept beside it, so that an interrupted run does not ask again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.labels import Label, LabelSpace
from segkit.pictures import read_image
from synthgen.backends import load, statement
from synthgen.classes import wanted_classes
from synthgen.errors import InputError
from synthgen.files import write_bytes
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.models import TextEmbedding, TextEncoder
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.models.sharing import shares_text
from synthgen.models.used import used_backends
from synthgen.prompts.abilities import CountsReplies, KeepsReplies, ListsAttributes, TakesSize
from synthgen.prompts.bank import ClassBank, Entry, PromptSource
from synthgen.prompts.coverage import (
    COVERAGE,
    GRID,
    ClassCoverage,
    Coverage,
    Tally,
    chosen_lambda_div,
    coverage_json,
    coverage_of,
    coverage_text,
    shortage_text,
)
from synthgen.prompts.cut import Context
from synthgen.prompts.earlier import earlier_digest, read_earlier
from synthgen.prompts.paraphrases import Choice, choose, refuse_auto_without_attributes
from synthgen.prompts.store import EmbeddingWriter
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord, Rejected, Subject, key_of
from synthgen.runner import StageRun
from synthgen.settings import AUTO
from synthgen.sources.label_maps import LabelMap

NAME, VERB = "prompts", "prompts"
READS, GIVES = None, PromptRecord
BY_ROW = False
SINGLE_UNIT = True
REPLIES = "replies.jsonl"
_log = logging.getLogger(__name__)


def settings(recipe: Recipe) -> dict[str, Any]:
    """What changes the bank, the contents of the files it is made from included.

    Raises RecipeError for a lambda_div that is to be found from a source without attributes.
    """
    space = read_label_space(recipe.labels.space)
    refuse_auto_without_attributes(recipe.prompts)
    embedder: dict[str, Any] = {}
    if "text_encoder" in used_backends(recipe):
        embedder = chosen_options("text_encoder", recipe.prompts.embedder)
        embedder["revisions"] = revisions_of("text_encoder", recipe.prompts.embedder)
    prompts = recipe.prompts.model_dump(mode="json")
    for name in ("quotas", "apart_from"):  # the file counts by what is in it
        if not prompts[name]:
            del prompts[name]
    if recipe.prompts.apart_from:
        prompts["apart_from"] = earlier_digest(recipe.prompts.apart_from)
    source = recipe.prompts.source.model_dump()
    has_size = statement("prompt_source", source, "takes_size", False)
    return {
        **({"size_px": [recipe.render.height_px, recipe.render.width_px]} if has_size else {}),
        "classes": list(recipe.labels.classes),
        "label_space": hashlib.sha256(repr(space).encode()).hexdigest(),
        "prompts": prompts | {"source": _source_settings(recipe), "embedder": embedder},
        "negative": recipe.render.negative,
        "seed": recipe.seed,
    }


def source_of(recipe: Recipe) -> PromptSource:
    """The recipe's source of candidates, told the size of the images if it takes one."""
    source: PromptSource = load("prompt_source", recipe.prompts.source.model_dump(), recipe.execution)
    if isinstance(source, TakesSize):
        source.expect_size(recipe.render.height_px, recipe.render.width_px)
    return source


def build(recipe: Recipe, run: Path) -> PromptStage:
    """Read the label space and the source. The text encoder is loaded when the first text is to be embedded."""
    space = read_label_space(recipe.labels.space)
    source = source_of(recipe)
    if isinstance(source, KeepsReplies):
        (run / NAME).mkdir(parents=True, exist_ok=True)
        source.replies.keep_in(run / NAME / f".{REPLIES}")
    return PromptStage(recipe, space, wanted_classes(recipe, space), source, encoder_of(recipe))


def coverage_report(run: Path) -> str:
    """Of a run whose prompts are made:

    what its bank covers, as plain text, beside what class names alone and an uncompared list would cover.
    """
    texts = [
        coverage_text(coverage_of(path.read_text(encoding="utf-8")))
        for path in sorted((run / NAME).glob(f"[0-9]*/{COVERAGE}"))
    ]
    return "\n".join(texts)


def closing_lines(stage: StageRun) -> list[str]:
    """How lambda_div was chosen, if it was."""
    found = chosen_lambda_div(stage.folder)
    return [] if found is None else [found.text]


def card_facts(stage: StageRun) -> dict[str, object]:
    """What the data card tells of the bank: how many prompts its text encoder has cut, whether they were compared with
    each other, and by which cosine."""
    rows, found = stage.stored(), chosen_lambda_div(stage.folder)
    return {
        "cut_prompts": sum(1 for row in rows.column("cut").to_pylist() if row),
        "lambda_div": None if found is None else found.lambda_div,
        "compares_prompts": not all(rows.column("layout").to_pylist()),
    }


class PromptStage:
    """Makes PromptRecords out of nothing but the recipe."""

    def __init__(
        self,
        recipe: Recipe,
        space: LabelSpace,
        wanted: Sequence[Label],
        source: PromptSource,
        encoder: Callable[[], TextEncoder],
    ) -> None:
        self._recipe = recipe
        self._space = space
        self._wanted = wanted
        self._source = source
        self._earlier = read_earlier(recipe.prompts.apart_from, wanted) if recipe.prompts.apart_from else {}
        self._encoder = encoder
        self._context = Context(encoder, shares_text(recipe))
        self._said_unshared = False
        self._chosen: Choice | None = None
        self._lambda_div = 0.0 if recipe.prompts.lambda_div == AUTO else float(recipe.prompts.lambda_div)

    def process(self, rows: Sequence[object], folder: Path, unit: str) -> list[PromptRecord | Rejected]:
        """Fill the banks class after class; what is about no single class comes last. There are no input rows.

        Raises InputError if the source proposes nothing at all.
        """
        if self._recipe.prompts.lambda_div == AUTO:
            asked = [label for label in self._wanted if self._quota(label)]
            self._chosen = choose(self._source, self._space, asked, self._recipe.seed, self._encoder)
            self._lambda_div = self._chosen.lambda_div
        made: list[PromptRecord | Rejected] = []
        banks: list[ClassCoverage] = []
        higher: dict[str, tuple[int, dict[float, int]]] = {}  # of each class that near-duplicates have left short
        with EmbeddingWriter(folder, self._recipe.execution.unit_rows, self._negative) as writer:
            for label in (*(label for label in self._wanted if self._quota(label)), None):
                bank, tally = self._bank(label), Tally()
                candidates = self._source.candidates(self._space, (label,) if label else (), self._recipe.seed)
                for entry in bank.fill(candidates):
                    tally.add(entry)
                    made.append(self._row(entry, unit, folder, writer))
                possible = (
                    self._source.attribute_values(label) if label and isinstance(self._source, ListsAttributes) else {}
                )
                replies = (candidates.asked, candidates.bad_replies) if isinstance(candidates, CountsReplies) else ()
                coverage = tally.coverage(
                    bank.class_name, bank.class_id, bank.stopped, possible, *(replies or (0, 0)), bank.compared()
                )
                if label or coverage.tried:
                    banks.append(coverage)
                if label and coverage.accepted < self._quota(label) and "near_duplicate" in coverage.refused:
                    higher[label.name] = bank.would_pass([value for value in GRID if value > self._lambda_div])
        if not made:
            names = ", ".join(label.name for label in self._wanted)
            name = self._recipe.prompts.source.name
            raise InputError(
                f"prompts.source {name!r} proposes nothing for {names}; see labels.classes and the source's input"
            )
        self._tell_shortage(banks, higher)
        self._context.tell([row for row in made if isinstance(row, PromptRecord)])
        self._write_coverage(banks, made, folder)
        if isinstance(self._source, KeepsReplies):
            write_bytes(self._source.replies.used_text().encode(), folder / REPLIES)
        return made

    def _tell_shortage(
        self, banks: Sequence[ClassCoverage], higher: Mapping[str, tuple[int, dict[float, int]]]
    ) -> None:
        """Raises InputError if every candidate was refused; says in one line which classes have fewer prompts than were
        asked for, and how many each of a few higher lambda_div would let pass."""
        if not any(bank.accepted for bank in banks):
            reasons: Counter[str] = Counter()
            for bank in banks:
                reasons.update(bank.refused)
            told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            way_out = "loosen prompts.class_gate or prompts.min_class_similarity"
            if "near_duplicate" in reasons:
                way_out = "raise prompts.lambda_div, or give the source more words"
                way_out += " (prompts.apart_from counts too)" if self._recipe.prompts.apart_from else ""
            if "class_cut" in reasons:
                way_out = "name the class nearer to the beginning: the text encoder reads no further"
            raise InputError(f"prompts: every candidate was refused ({told}); {way_out}")
        # photographs and label maps are of no one class: nothing was asked for of a class that they were not tried for
        are_own = any(bank.accepted for bank in banks if not bank.class_name)
        short = [
            f"{bank.class_name} {bank.accepted} ({bank.stopped})"
            for bank in banks
            if bank.class_name
            and bank.accepted < self._recipe.prompts.quota(bank.class_name)
            and (bank.tried or not are_own)
        ]
        if short:
            prompts = self._recipe.prompts
            wanted = {name: prompts.quota(name) for name in higher}
            way_out = shortage_text(self._lambda_div, wanted, higher)
            asked = "their quotas" if prompts.quotas else str(prompts.per_class)
            _log.warning(
                "prompts: fewer than %s for %s%s; see `synthgen prompts --calibrate`", asked, ", ".join(short), way_out
            )

    def _quota(self, label: Label) -> int:
        return self._recipe.prompts.quota(label.name)

    def _bank(self, label: Label | None) -> ClassBank:
        prompts = self._recipe.prompts
        return ClassBank(
            label,
            self._encoder,
            lambda_div=self._lambda_div,
            quota=self._quota(label) if label else prompts.per_class,
            budget=prompts.budget_per_class,
            class_gate=prompts.class_gate,
            min_class_similarity=prompts.min_class_similarity,
            indexed=prompts.dedup == "indexed",
            rendered=self._context.rendered,
            earlier=self._earlier.get(label.name, ()) if label else (),
        )

    def _row(self, entry: Entry, unit: str, folder: Path, writer: EmbeddingWriter) -> PromptRecord | Rejected:
        candidate = entry.candidate
        key = candidate.key
        if entry.refusal:
            # The same text may be refused more than once, so its place is part of the key.
            rejected = key_of("r", key, entry.order)
            detail = f"{candidate.prompt!r} is too near to {entry.detail!r}" if entry.nearest else entry.detail
            has_score = entry.nearest or entry.refusal == "off_class"
            return Rejected(rejected, "", NAME, entry.refusal, detail, entry.similarity if has_score else 0.0)
        stored = ""
        embedder = ""
        if entry.embedding is not None:
            embedder = self._encoder().id
            if not self._said_unshared and not shares_text(self._recipe):
                self._said_unshared = True
                name = self._recipe.render.renderer.name
                _log.warning(
                    "prompts: %s only compares prompts; the renderer %r encodes each prompt itself", embedder, name
                )
            if entry.embedding.tokens.size:
                stored = f"{NAME}/{unit}/{writer.add(key, entry.embedding)}"
        layout = ""
        if candidate.layout is not None:
            name = f"layout_{candidate.content}.png"  # one file for all sentences about one map
            if not (folder / name).exists():
                write_image(candidate.layout.ids(self._space), folder / name)
            layout = f"{NAME}/{unit}/{name}"
        original = ""
        if candidate.layout is not None and candidate.has_original:
            name = f"original_{candidate.content}.png"
            if not (folder / name).exists():
                write_image(self._original(candidate.layout), folder / name)
            original = f"{NAME}/{unit}/{name}"
        control_image = ""
        if candidate.control_image is not None:
            name = f"control_{candidate.content}.png"
            if not (folder / name).exists():
                write_image(read_image(candidate.control_image), folder / name)
            control_image = f"{NAME}/{unit}/{name}"
        return PromptRecord(
            key=key,
            parent="",
            subject=Subject(candidate.class_name, candidate.class_id, candidate.prompt, candidate.attributes),
            source=self._recipe.prompts.source.name,
            order=entry.order,
            similarity=entry.similarity,
            nearest=entry.nearest.key if entry.nearest else "",
            embedder=embedder,
            embedding_file=stored,
            photograph=candidate.origin if candidate.photograph else "",
            layout=layout,
            origin=candidate.origin,
            control_image=control_image,
            original=original,
            cut=self._context.uncompared(candidate.prompt) if entry.embedding is not None else "",
        )

    def _negative(self) -> TextEmbedding:
        return self._encoder().encode([self._recipe.render.negative])[0]

    def _original(self, layout: LabelMap) -> np.ndarray:
        """(H, W, 3) uint8: the picture of a map at the size of the images that are rendered."""
        size = (self._recipe.render.width_px, self._recipe.render.height_px)
        return np.asarray(Image.fromarray(layout.picture(self._space)).resize(size, Image.Resampling.LANCZOS))

    def _write_coverage(self, banks: list[ClassCoverage], made: list[PromptRecord | Rejected], folder: Path) -> None:
        embedder = next((row.embedder for row in made if isinstance(row, PromptRecord) and row.embedder), "")
        coverage = Coverage(self._recipe.prompts.source.name, embedder, self._lambda_div, tuple(banks), self._chosen)
        write_bytes(coverage_json(coverage).encode(), folder / COVERAGE)


def encoder_of(recipe: Recipe) -> Callable[[], TextEncoder]:
    """A function that loads the text encoder when it is first called, and gives the same one ever after."""

    @functools.cache
    def encoder() -> TextEncoder:
        return load("text_encoder", recipe.prompts.embedder.model_dump(), recipe.execution)

    return encoder


def _source_settings(recipe: Recipe) -> dict[str, Any]:
    """Every option of the source; a file or folder counts by its content, not by where it lies."""
    return (
        chosen_options("prompt_source", recipe.prompts.source)
        | statement("prompt_source", recipe.prompts.source.model_dump(), "fingerprint", {})
        | {"revisions": revisions_of("prompt_source", recipe.prompts.source)}
    )
