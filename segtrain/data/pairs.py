"""Batches of pairs: an augmented picture and the original that it was made from, cropped as one.

An epoch shows every original once. Which of its augmented variants is seen with it is drawn anew in each epoch, so a
training sees them all; which files they lie in plays no part: originals go by their content.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segtrain.config import LoopConfig
from segtrain.data.batches import Batch, Draft, Reading, Recent, StepBatches
from segtrain.data.formats import open_dataset
from segtrain.data.labelled import require_labels, require_readable
from segtrain.data.sample import Sample
from segtrain.data.source import PairedSource, Source
from segtrain.errors import DataError

# Tags that keep the random streams of one seed apart.
_ORDER, _VARIANT, _AUGMENTATION, _MIX = 21, 22, 23, 24
_READERS = 4


def open_pairs(paths: Sequence[str], label_space: LabelSpace) -> list[PairedSource]:
    """The sources, in the order given; folders without classes take those of `label_space`, the model's.

    Raises DataError for one that holds no pairs, or a class that `label_space` has not, and if no pixel of any, of its
    originals neither, shows a class.
    """
    sources = []
    for path in paths:
        source: Source = open_dataset(path, "train", label_space)
        if not getattr(source, "has_originals", False):
            raise DataError(
                f"{path}: holds no pairs: this training needs the original of each picture (orig.jpg and orig.png in "
                "the shards, orig_images/ and orig_labels/ in a folder)"
            )
        source.label_space.require_within(label_space, path)
        sources.append(cast(PairedSource, source))
    require_readable(sources)
    try:
        require_labels(sources, label_space, background_counts=True)
    except DataError:
        if not any(map(_originals_label_something, sources)):
            raise
    return sources


def _originals_label_something(source: PairedSource) -> bool:
    rows = range(sum(source.group_sizes))
    originals = (source.read(row, original=True).original for row in rows)
    return any(pair is not None and bool((pair[1] < OUT_OF_DISTRIBUTION).any()) for pair in originals)


def variants_of_originals(sources: Sequence[PairedSource]) -> list[list[tuple[int, int]]]:
    """For each original the (number of source, row) of the samples that were made from it.

    Both levels are in the order of what they hold, whatever the sources are called; reads the originals' bytes once.
    """
    by_digest: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for number, source in enumerate(sources):
        rows = range(sum(source.group_sizes))
        with ThreadPoolExecutor(_READERS) as pool:
            for row, digest in zip(rows, pool.map(source.original_digest, rows), strict=True):
                by_digest[digest].append((source.name(row), number, row))
    return [[(number, row) for _, number, row in sorted(by_digest[digest])] for digest in sorted(by_digest)]


class PairBatches(StepBatches):
    """Item `step` has `config.batch_size` pairs: `Batch.images` are the augmented pictures, `originals` the others.

    Before cropping an augmented picture takes a share p = min(U(0, 1), `most_original`) of its original:
    x_a <- p x_o + (1 - p) x_a, with the labels of x_a.
    """

    def __init__(
        self, sources: Sequence[PairedSource], label_space: LabelSpace, config: LoopConfig, most_original: float
    ) -> None:
        self._sources, self._config, self._most_original = sources, config, most_original
        self._variants = variants_of_originals(sources)
        self._reading = Reading(sources, label_space, config, originals=True, prepare=self._mixed)
        self._epoch = Recent(self._epoch_places, 4)

    def __len__(self) -> int:
        return self._config.steps

    @property
    def num_originals(self) -> int:
        return len(self._variants)

    @property
    def planned_counts(self) -> list[int]:
        draws = self._config.steps * self._config.batch_size
        numbers = [self._place(draw)[0] for draw in range(draws)]
        return np.bincount(numbers, minlength=len(self._sources)).tolist()

    def batch(self, step: int) -> Batch:
        pairs = self._config.batch_size
        drafts = []
        for slot in range(pairs):
            source, row = self._place(step * pairs + slot)
            drafts.append(Draft(source, row, (self._config.seed, _AUGMENTATION, step, slot)))
        return self._reading.batch(drafts)

    def _place(self, draw: int) -> tuple[int, int]:
        """Source and row of the n-th pair of the training."""
        epoch, position = divmod(draw, len(self._variants))
        return self._epoch(epoch)[position]

    def _epoch_places(self, epoch: int) -> list[tuple[int, int]]:
        seed = self._config.seed
        order = np.random.default_rng((seed, _ORDER, epoch)).permutation(len(self._variants))
        choice = np.random.default_rng((seed, _VARIANT, epoch)).random(len(self._variants))
        return [self._variants[n][int(choice[n] * len(self._variants[n]))] for n in order.tolist()]

    def _mixed(self, sample: Sample, draft: Draft) -> Sample:
        if sample.original is None or not self._most_original:
            return sample
        share = min(np.random.default_rng((_MIX, *draft.random_key)).random(), self._most_original)
        mixture = share * sample.original[0].astype(np.float32) + (1 - share) * sample.image.astype(np.float32)
        return dataclasses.replace(sample, image=np.rint(mixture).astype(np.uint8))
