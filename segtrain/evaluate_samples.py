"""Scores of a model that samples its answers: of the mean of several samples, and how much the samples differ."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.printable import printable
from segtrain.data.labelled import require_labels
from segtrain.data.source import Source
from segtrain.errors import ConfigError
from segtrain.evaluate import FORMAT, open_validation
from segtrain.metrics import iou
from segtrain.segmenter import Segmenter, load_model
from segtrain.uncertainty_maps import require_new, write_map

_BATCH_SIZE = 4
MOST = 100


@dataclasses.dataclass(frozen=True, slots=True)
class SampleReport:
    """mIoU of the mean of the samples and of each alone, in 0..1; `disagreement` is the share of labelled pixels of
    which the samples do not all say the same."""

    miou: float | None
    miou_of_samples: tuple[float | None, ...]
    spread: float | None  # sample standard deviation (ddof 1) of those, None of fewer than two
    disagreement: float
    num_images: int
    split: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"format": FORMAT, "samples": dataclasses.asdict(self), "convention": iou.CONVENTION}

    def table(self) -> str:
        """For people, percent."""
        each = ", ".join(_percent(value) for value in self.miou_of_samples)
        return "\n".join(
            [
                f"mIoU of the mean  {_percent(self.miou)}  ({iou.CONVENTION})",
                f"mIoU of a sample  {each}; spread {_percent(self.spread)} (ddof 1, n {len(self.miou_of_samples)})",
                f"disagreement      {_percent(self.disagreement)}  (labelled pixels on which the samples differ)",
                f"{self.num_images} images of split {printable(self.split)}",
            ]
        )


def evaluate_samples(
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    number: int,
    *,
    split: str = "",
    device: str = "auto",
    maps: Path | None = None,
    without: Mapping[str, bool] = types.MappingProxyType({}),
) -> SampleReport:
    """Score `number` samples of each image of finished datasets and labelled folders, taken together.

    `maps` is a new or empty folder for the entropy of the mean of each picture as a grey PNG, white = that of all
    classes alike. Memory does not grow with the images. `without` says which options are given that have no meaning
    here. Raises SegtrainError.
    """
    given = [name for name, is_given in without.items() if is_given]
    if given:
        raise ConfigError(f"{given[0]} has no meaning with --samples: leave one of them out")
    if not 1 <= number <= MOST:
        raise ConfigError(f"samples {number}: must be 1 to {MOST}")
    segmenter = load_model(model, device)
    space = segmenter.label_space
    paths = [data] if isinstance(data, str | Path) else list(data)
    sources = [open_validation(path, space, split) for path in paths]
    require_labels(sources, space, background_counts=True)
    if maps:
        require_new(maps)
    ids = [c.id for c in space.labels]
    of_mean, *of_each = (iou.ConfusionMatrix(ids, space.background) for _ in range(1 + number))
    num_images = differ = labelled = 0
    for source, row, mask, (prediction, entropy, samples) in _answers(segmenter, sources, number):
        num_images += 1
        of_mean.add(prediction, mask)
        for matrix, sample in zip(of_each, samples, strict=True):
            matrix.add(sample, mask)
        known = np.isin(mask, ids)
        labelled += int(known.sum())
        differ += int(((samples != samples[0]).any(axis=0) & known).sum())
        if maps:
            write_map(maps / f"{Path(source.name(row)).stem}.png", entropy, 0.0, math.log(len(ids)))
    each = tuple(matrix.mean_iou() for matrix in of_each)
    known_each = [value for value in each if value is not None]
    spread = float(np.std(known_each, ddof=1)) if len(known_each) > 1 else None
    splits = ", ".join(dict.fromkeys(source.split for source in sources))
    return SampleReport(of_mean.mean_iou(), each, spread, differ / labelled, num_images, splits)


def _answers(
    segmenter: Segmenter, sources: Sequence[Source], number: int
) -> Iterator[tuple[Source, int, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Every picture's mask with what the model says of it, a few at a time."""
    for source in sources:
        num_images = sum(source.group_sizes)
        for start in range(0, num_images, _BATCH_SIZE):
            rows = range(start, min(start + _BATCH_SIZE, num_images))
            read = [source.read(row) for row in rows]
            answers = segmenter.predict_samples([sample.image for sample in read], number, _BATCH_SIZE)
            for row, sample, answer in zip(rows, read, answers, strict=True):
                segmenter.label_space.to_channels(sample.mask, sample.where)  # raises at an id of no class
                yield source, row, sample.mask, answer


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
