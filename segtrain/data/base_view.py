"""A source as the base stage of few-shot learning sees it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from segkit.labels import LabelSpace
from segtrain.data.formats import open_dataset
from segtrain.data.sample import Sample
from segtrain.data.source import Source


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
