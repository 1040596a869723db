"""The object bank of CG-Aug: shapes of instances of any labelled source, with the names of their classes.

Of COCO's instance files the instances, of all other labelled sources the connected parts (8 neighbours) of a class. A
source of any size serves: its files are only read when an object is drawn from them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

import segkit.labels
from segkit.labels import IGNORE, Label, LabelSpace
from segkit.regions import connected_components
from segkit.spelling import same_name
from synthgen.errors import InputError, RecipeError
from synthgen.labels import read_label_space
from synthgen.settings import ObjectBank as Settings
from synthgen.sources.catalogue import FOLDER, read_source
from synthgen.sources.coco_instances import InstanceDecoder
from synthgen.sources.coco_shapes import drawn
from synthgen.sources.encodings import ids_of
from synthgen.sources.folder import LabelledFile, read_label
from synthgen.sources.listing import list_source

FILES_IN_MEMORY = 64  # whose shapes are kept


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One instance, cut to its bounding box."""

    name: str  # of its class
    spoken: str  # the word for it in a sentence
    mask: np.ndarray  # (h, w) bool; each side has a pixel of it


class ObjectBank:
    """Gives a random object: a file is drawn, then an instance of it."""

    def __init__(self, files: Sequence[LabelledFile], space: LabelSpace, wanted: Collection[str], min_px: int) -> None:
        """`wanted` are names of classes of `space`. Raises InputError if no file has an instance of them."""
        self._files = list(files)
        self._space = space
        self._words = {label.name: label.spoken for label in space.labels if label.name in wanted}
        self._min_px = min_px
        self._shapes = functools.lru_cache(maxsize=FILES_IN_MEMORY)(self._shapes_of)
        if not self._words or not any(self._shapes(number) for number in range(len(self._files))):
            where = self._files[0].label.parent if self._files else "no file"
            raise InputError(
                f"render.object_bank: {where} has no instance of {', '.join(self._words) or 'any class'} of at least "
                f"{min_px} px; name other classes (render.object_bank.classes) or another folder"
            )

    def draw(self, rng: np.random.Generator) -> Shape:
        """An instance; where the drawn file has none, of the next one that has."""
        first = int(rng.integers(len(self._files)))
        for step in range(len(self._files)):
            shapes = self._shapes((first + step) % len(self._files))
            if shapes:
                return shapes[int(rng.integers(len(shapes)))]
        raise InputError("render.object_bank: its files have changed since they were looked through; run again")

    def _shapes_of(self, number: int) -> tuple[Shape, ...]:
        file = self._files[number]
        decode = file.decode
        found: list[tuple[str, np.ndarray]] = []
        if isinstance(decode, InstanceDecoder):
            id_of = ids_of(decode.names, self._space, file.label, decode.aliases)
            name_of = {label.id: label.name for label in self._space.labels}
            for instance in decode.instances:
                name = name_of.get(id_of.get(instance.category, IGNORE), "")  # a crowd has no name
                if name in self._words:
                    found.append((name, drawn(instance.shape, decode.size)))
        else:
            ids = read_label(file, self._space)
            names = {self._space.by_name(name).id: name for name in self._words}
            parts = connected_components(np.where(np.isin(ids, list(names)), ids, IGNORE))
            found = [(names[int(part)], parts.index == n) for n, part in enumerate(parts.class_ids, start=1)]
            found.sort(key=lambda shape: list(self._words).index(shape[0]))
        return tuple(
            Shape(name, self._words[name], cut_out(mask)) for name, mask in found if mask.sum() >= self._min_px
        )


def cut_out(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) bool with a pixel, cut to its bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()


def read_object_bank(settings: Settings, known: LabelSpace, wanted: Collection[str],
                     paints: Callable[[str], bool]) -> ObjectBank:  # fmt: skip
    """The bank of a recipe. `known` is the label space of the maps, `wanted` the classes of it that samples are made
    for, which cannot be unknown objects; `paints` says of a class name whether the renderer has a colour for it.

    Raises InputError or RecipeError in one line for a source that cannot be read, a class that it or the renderer does
    not have, that is a known class, and for a bank without objects.
    """
    folder = Path(settings.folder).expanduser()
    files = list_source(settings.source, folder, settings.split)
    space = _space_of(settings, folder)
    words = {word for name in wanted for word in _words(known.by_name(name))}
    for name in settings.classes:
        label = space.by_name(name)
        if words & _words(label):
            raise RecipeError(f"render.object_bank.classes: {name!r} is a known class (labels.classes)")
        if not paints(label.name):
            raise RecipeError(f"render.object_bank.classes: the renderer's ControlNet has no class {name!r}")
    chosen = [space.by_name(name) for name in settings.classes] or [
        label
        for label in space.labels
        if label.id != space.background and not words & _words(label) and paints(label.name)
    ]
    return ObjectBank(files, space, [label.name for label in chosen], settings.min_px)


def _words(label: Label) -> set[str]:
    return set(map(same_name, (label.name, *label.synonyms)))


def _space_of(settings: Settings, folder: Path) -> LabelSpace:
    if settings.space:
        return read_label_space(settings.space)
    if settings.source != FOLDER:
        theirs = read_source(settings.source).space
        if not theirs:
            raise RecipeError(f"render.object_bank.space: {settings.source} has classes of its own; name a labels.yaml")
        return read_label_space(theirs)
    own = folder / "labels.yaml"
    if not own.is_file():
        raise InputError(f"{own}: no such file; write one, or set render.object_bank.space to a label space")
    return segkit.labels.read_label_space(own)
