"""What the base stage sees of a source."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from segkit.labels import LabelSpace
from segtrain.data.class_pixels import class_pixels
from segtrain.data.formats import open_dataset
from segtrain.data.sample import Sample
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError


def split_classes(space: LabelSpace, novel: tuple[str, ...], where: str) -> tuple[LabelSpace, LabelSpace]:
    """Label spaces of the base stage (background, base) and of the whole model (background, base, novel), in the order
    of its channels.

    Raises ConfigError naming `where` if a novel class is unknown, or no base class or no background is left.
    """
    names = {c.name for c in space.labels}
    background = [c for c in space.labels if c.id == space.background]
    unknown = [name for name in novel if name not in names or name in {c.name for c in background}]
    if unknown:
        raise ConfigError(
            f"{where}: novel class {unknown[0]!r} is not in label space {space.name!r}, which has "
            f"{', '.join(sorted(names))}"
        )
    if not background:
        raise ConfigError(
            f"{where}: label space {space.name!r} has no background, which few-shot learning needs: name one in "
            "its labels.yaml"
        )
    base = [c for c in space.labels if c.name not in novel and c.id != space.background]
    if not base:
        raise ConfigError(
            f"{where}: every class of label space {space.name!r} is novel, none is left for the base stage"
        )
    by_name = {c.name: c for c in space.labels}
    ours = (*background, *base)
    return (
        LabelSpace(space.name, ours, space.background),
        LabelSpace(space.name, (*ours, *(by_name[name] for name in dict.fromkeys(novel))), space.background),
    )


class BaseView:
    """A source with the base classes only. Ids of novel classes become background or 255."""

    def __init__(self, source: Source, base_space: LabelSpace, novel_to: int, rows: np.ndarray | None = None) -> None:
        """`rows` are the samples to keep, in ascending order; None = all.

        `novel_to` is the id that all other ids of the source become.
        """
        self._source, self._novel_to = source, novel_to
        self.path, self.split, self.label_space = source.path, source.split, base_space
        self._rows = np.arange(sum(source.group_sizes)) if rows is None else rows
        ends = np.cumsum(source.group_sizes)
        self._group_sizes = tuple(np.diff(np.searchsorted(self._rows, [0, *ends])).tolist())
        self._id_of = np.arange(256, dtype=np.uint8)
        kept = {c.id for c in base_space.labels}
        self._id_of[[c.id for c in source.label_space.labels if c.id not in kept]] = novel_to

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return self._group_sizes

    @property
    def identity(self) -> dict[str, Any]:
        return {**self._source.identity, "novel_to": self._novel_to, "rows": len(self._rows)}

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        sample = self._source.read(int(self._rows[row]), confidence=confidence, original=original)
        pair = sample.original and (sample.original[0], self._id_of[sample.original[1]])
        return dataclasses.replace(sample, mask=self._id_of[sample.mask], original=pair)

    def read_mask(self, row: int) -> np.ndarray:
        return self._id_of[self._source.read_mask(int(self._rows[row]))]

    def name(self, row: int) -> str:
        return self._source.name(int(self._rows[row]))

    def domain(self, row: int) -> str:
        return self._source.domain(int(self._rows[row]))


def base_validation(path: str, whole_space: LabelSpace, base_space: LabelSpace) -> BaseView:
    """Held-out images as the base stage scores them: novel classes of `whole_space` are background.

    Raises DataError for data with a class that `whole_space` has not.
    """
    held_out = open_dataset(path, "", whole_space)
    held_out.label_space.require_within(whole_space, str(held_out.path))
    return BaseView(held_out, base_space, base_space.labels[0].id)


def base_rows(source: Source, base_space: LabelSpace, keep_novel: bool) -> np.ndarray:
    """Ascending rows of the images that show a base class and, unless `keep_novel`, no other one.

    Raises DataError if there is none.
    """
    pixels = class_pixels(source)
    base = [c.id for c in base_space.labels if c.id != base_space.background]
    novel = [c.id for c in source.label_space.labels if c.id not in base and c.id != base_space.background]
    shows = pixels[:, base].any(axis=1)
    if not keep_novel:
        shows &= ~pixels[:, novel].any(axis=1)
    if not shows.any():
        raise DataError(
            f"{source.path}: none of {len(pixels)} images shows a base "
            f"class{'' if keep_novel else ' without a novel one'}"
        )
    return np.flatnonzero(shows)
