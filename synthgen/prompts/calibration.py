"""`synthgen prompts RECIPE --calibrate`: how many candidates pass at which `lambda_div`; nothing is made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from synthgen.classes import wanted_classes
from synthgen.errors import InputError
from synthgen.labels import read_label_space
from synthgen.models.devices import use_threads
from synthgen.prompts.abilities import GivesFiles
from synthgen.prompts.bank import BLOCK, is_given, pooled_vectors
from synthgen.prompts.coverage import GRID, Calibration, calibrate, calibration_text
from synthgen.prompts.stage import encoder_of, source_of
from synthgen.recipe import Recipe


def calibrate_recipe(recipe: Recipe, num_candidates: int = 200, grid: Sequence[float] = GRID) -> Calibration:
    """Pass rates of the first `num_candidates` candidates of each class at each lambda_div of the grid;

    nothing is written.

    Raises InputError if the source proposes no text to embed.
    """
    use_threads(recipe.execution)
    space = read_label_space(recipe.labels.space)
    source = source_of(recipe)
    encoder = encoder_of(recipe)
    vectors = {}
    asked = () if isinstance(source, GivesFiles) and source.only_files else (*wanted_classes(recipe, space), None)
    for label in asked:
        candidates = source.candidates(space, (label,) if label else (), recipe.seed)
        texts = (candidate for candidate in candidates if not is_given(candidate))
        blocks = []
        for start in range(0, num_candidates, BLOCK):
            block = list(islice(texts, min(BLOCK, num_candidates - start)))
            if not block:
                break
            blocks.append(
                pooled_vectors(block, encoder().encode([candidate.prompt for candidate in block]), encoder().id)
            )
        if blocks:
            vectors[label.name if label else ""] = np.concatenate(blocks)
    if not vectors:
        raise InputError(
            f"prompts.source {recipe.prompts.source.name!r} proposes no text, so there is nothing to calibrate"
        )
    return calibrate(vectors, encoder().id, grid)


def calibration(recipe: Recipe) -> str:
    """`synthgen prompts --calibrate`: what `calibrate_recipe` finds, as plain text."""
    return calibration_text(calibrate_recipe(recipe))
