"""The labelled pictures that a generator is adapted to: which, in which label space, and how often each class is
seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import segkit.labels
from segkit.labels import LabelSpace
from segkit.printable import excerpt
from synthgen.errors import InputError, RecipeError
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe
from synthgen.sources.catalogue import FOLDER
from synthgen.sources.folder import LabelledFile, read_label
from synthgen.sources.listing import list_source

SPACE_OF_FOLDER = "folder"
"""`labels.space` of a recipe that takes the label space from the folder's own labels.yaml."""
LABELS = "labels.yaml"


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures with their masks, in the order of their stems."""

    folder: Path
    space: LabelSpace
    pairs: Sequence[LabelledFile]


def labelled_pictures(recipe: Recipe) -> LabelledPictures:
    """List what `adapt.data` names. Reads no pixel.

    Raises RecipeError if nothing is named, InputError for a folder that is missing, malformed or, where nothing else
    names the label space, without labels.yaml.
    """
    data = recipe.adapt.data
    given = data.folder or (recipe.prompts.source.model_dump().get("folder") or "")
    if not isinstance(given, str) or not given:
        raise RecipeError("adapt.data.folder: is empty; name a labelled folder (--data FOLDER)")
    folder = Path(given).expanduser()
    pairs = list_source(data.source, folder, data.split)
    if 0 < data.limit < len(pairs):
        chosen = np.random.default_rng(recipe.seed).permutation(len(pairs))[: data.limit]
        pairs = [pairs[n] for n in sorted(chosen)]
    return LabelledPictures(folder, _space(recipe, folder), pairs)


def _space(recipe: Recipe, folder: Path) -> LabelSpace:
    """The folder's own label space, or the recipe's."""
    own = folder / LABELS
    if recipe.adapt.data.source == FOLDER and own.is_file():
        return segkit.labels.read_label_space(own)
    if recipe.labels.space == SPACE_OF_FOLDER:
        raise InputError(
            f"{own}: no such file, and nothing else says what the ids of the masks mean; write one (name, labels: "
            "[{id, name, colour}]), or name a shipped label space: --set labels.space=cityscapes"
        )
    return read_label_space(recipe.labels.space)


def pixel_counts(pictures: LabelledPictures) -> np.ndarray:
    """Pixels of each class in each picture: (pictures, classes) int64, classes in the label space's order.

    Raises InputError or LabelError for a mask that cannot be read, and for masks that show no class, or only one.
    """
    space = pictures.space
    counts = np.stack(
        [
            np.bincount(space.channel_of_id[read_label(pair, space)].ravel(), minlength=256)[: len(space.labels)]
            for pair in pictures.pairs
        ]
    )
    seen = [label.name for label, number in zip(space.labels, counts.sum(axis=0), strict=True) if number]
    if not seen:
        raise InputError(f"{pictures.folder}: no mask shows a class of label space {space.name!r} (all is 254 or 255)")
    if len(seen) == 1:
        raise InputError(
            f"{pictures.folder}: all masks show one class, {excerpt(seen[0])}: a map that never changes teaches "
            "nothing; check the ids of the masks"
        )
    return counts.astype(np.int64)
