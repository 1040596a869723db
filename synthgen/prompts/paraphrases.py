"""`prompts.lambda_div: auto`: the cosine that tells the embedder's paraphrases from sentences that say something else.

A grammar words one scene in several ways: sentences of one class with the same attributes are paraphrases, those with
other attributes are not. lambda_div is where the two kinds of pairs part best, by balanced accuracy (the mean of the
share of paraphrases at or above it and of the share of other pairs below it), in the middle of the widest gap where
several values part them as well. So a near-duplicate is what says the same in other words, on the embedder's own scale,
whatever that is. The rule is ours: Syn4Seg gives neither a number nor a rule.

Where a source words nothing twice, or the embedder cannot tell (LEAST_ACCURACY), the default holds and a line says so.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from segkit.labels import Label, LabelSpace
from synthgen.backends import statement
from synthgen.errors import RecipeError
from synthgen.models import TextEncoder
from synthgen.prompts.bank import BLOCK, Candidate, PromptSource, pooled_vectors
from synthgen.prompts.dedup import normalised
from synthgen.settings import AUTO, Prompts

log = logging.getLogger(__name__)

DEFAULT: float = Prompts.model_fields["lambda_div"].default
SENTENCES, LOOKED_AT, CLASSES = 512, 2000, 128
"""So many sentences are embedded at the most (about), of the first so many candidates of each of so many classes: less
than a run of a few classes embeds anyway [ours]."""
LEAST_PARAPHRASES = 8
LEAST_ACCURACY = 0.75
"""0.5 is what a coin reaches [ours]."""
_EQUAL = 9  # decimals of an accuracy: further ones are rounding


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The lambda_div that was chosen and how well it parts the pairs."""

    lambda_div: float
    num_paraphrases: int  # pairs
    num_others: int
    paraphrases_caught: float  # share of them at or above lambda_div
    others_kept: float  # share of them below it
    is_default: bool  # nothing could be chosen

    @property
    def text(self) -> str:
        """One line for people."""
        found = (
            f"{self.paraphrases_caught:.1%} of {self.num_paraphrases} paraphrases of the source are at least as alike, "
            f"{self.others_kept:.1%} of {self.num_others} pairs that say something else are less"
        )
        if not self.is_default:
            return f"prompts: by the embedder's own paraphrases lambda_div {self.lambda_div:.4g}: {found}"
        why = found if self.num_paraphrases >= LEAST_PARAPHRASES else f"the source gave {self.num_paraphrases} of them"
        return f"prompts: paraphrases cannot be told by the embedder ({why}): lambda_div {self.lambda_div:g} by default"


def refuse_auto_without_attributes(prompts: Prompts) -> None:
    """Raise RecipeError if lambda_div is to be found from a source whose file says no `gives_attributes(options)`."""
    source = prompts.source.model_dump()
    if prompts.lambda_div == AUTO and not statement("prompt_source", source, "gives_attributes", False):
        raise RecipeError(
            f"prompts.lambda_div is auto, but the source {source['name']!r} does not say which of its sentences say "
            "the same; give a number (`synthgen prompts --calibrate` helps), or take the source grammar"
        )


def choose(
    source: PromptSource, space: LabelSpace, wanted: Sequence[Label], seed: int, encoder: Callable[[], TextEncoder]
) -> Choice:
    """Choose lambda_div for a source whose candidates have attributes. A logged warning if the default has to do.

    What is chosen follows from source, classes, seed and embedder.
    """
    classes = wanted[:CLASSES]
    quota = max(2, SENTENCES // (2 * max(1, len(classes))))
    same, other = [np.zeros(0)], [np.zeros(0)]
    for label in classes:
        groups = paraphrases(itertools.islice(source.candidates(space, (label,), seed), LOOKED_AT), quota)
        sentences = [one for pair in groups for one in pair]
        if not sentences:
            continue
        parts = [sentences[start : start + BLOCK] for start in range(0, len(sentences), BLOCK)]
        vectors = normalised(
            np.concatenate(
                [pooled_vectors(part, encoder().encode([one.prompt for one in part]), encoder().id) for part in parts]
            )
        )
        rows, columns = np.triu_indices(len(sentences), 1)
        cosines = (vectors @ vectors.T)[rows, columns]
        alike = rows // 2 == columns // 2
        same.append(cosines[alike])
        other.append(cosines[~alike])
    found = parted(np.concatenate(same), np.concatenate(other))
    if found.is_default:
        log.warning("%s", found.text)
    return found


def paraphrases(candidates: Iterable[Candidate], quota: int) -> list[tuple[Candidate, Candidate]]:
    """The first `quota` pairs of different sentences with the same attributes, each set of attributes once; what has
    none is passed over."""
    first: dict[tuple[str, ...], Candidate] = {}
    pairs: dict[tuple[str, ...], tuple[Candidate, Candidate]] = {}
    for candidate in candidates:
        said = candidate.attributes
        before = first.setdefault(said, candidate) if said else candidate
        if before.prompt != candidate.prompt and said not in pairs:
            pairs[said] = before, candidate
            if len(pairs) == quota:
                break
    return list(pairs.values())


def parted(same: np.ndarray, other: np.ndarray) -> Choice:
    """The cosine that parts those of paraphrases (N,) from those of other pairs (M,); see the module."""
    if len(same) < LEAST_PARAPHRASES or not len(other):
        return Choice(DEFAULT, len(same), len(other), 0.0, 0.0, True)
    values = np.unique(np.concatenate([same, other]))
    caught = 1 - np.searchsorted(np.sort(same), values[1:], side="left") / len(same)
    kept = np.searchsorted(np.sort(other), values[1:], side="left") / len(other)
    accuracy = np.round((caught + kept) / 2, _EQUAL)
    best = np.flatnonzero(accuracy == accuracy.max(initial=0))
    if not len(best) or accuracy[best[0]] < LEAST_ACCURACY:
        shares = float((same >= DEFAULT).mean()), float((other < DEFAULT).mean())
        return Choice(DEFAULT, len(same), len(other), *shares, True)
    chosen = best[int(np.argmax((values[1:] - values[:-1])[best]))]
    middle = float(np.clip((values[chosen] + values[chosen + 1]) / 2, -1, 1))
    return Choice(middle, len(same), len(other), float(caught[chosen]), float(kept[chosen]), False)
