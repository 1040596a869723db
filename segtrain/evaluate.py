"""Scores of a model on labelled images: IoU of each class, mIoU, boundary F.

Pixels whose true id is 254 or 255 are left out of everything. A class counts in the mIoU if it occurs in the ground
truth or in the prediction of any image; counts are summed over the whole dataset before dividing.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from segtrain.errors import ConfigError, DataError
from segtrain.few_shot.scores import MEANING, FewShotScores, few_shot_lines, few_shot_scores
from segtrain.labels import IGNORE, LabelSpace
from segtrain.model import Segmenter, load_model
from segtrain.open_source import open_source
from segtrain.sources import Source

CONVENTION = "mIoU over classes present in ground truth or prediction; pixels with id 254 or 255 excluded"
BOUNDARY_CONVENTION = "boundary F: label edges of all classes together, matched within 0.75 % of the image diagonal"
_BATCH_SIZE = 8
_BOUNDARY_FRACTION = 0.0075


@dataclasses.dataclass(frozen=True, slots=True)
class ClassScore:
    """`iou` is None if the class occurs neither in ground truth nor in prediction; `pixels` counts ground truth."""

    id: int
    name: str
    iou: float | None
    pixels: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """All in 0..1. `foreground_miou` leaves the background out and is None if there is none."""

    classes: tuple[ClassScore, ...]
    miou: float
    foreground_miou: float | None
    pixel_accuracy: float
    boundary_f: float
    num_images: int
    split: str
    few_shot: tuple[FewShotScores, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """`few_shot` has the scores of each convention under its name, with what it means."""
        few_shot = {s.convention: {**dataclasses.asdict(s), "meaning": MEANING[s.convention]} for s in self.few_shot}
        return {
            **dataclasses.asdict(self),
            "few_shot": few_shot,
            "convention": CONVENTION,
            "boundary_convention": BOUNDARY_CONVENTION,
        }

    def table(self) -> str:
        """For people, percent."""
        width = max(len(c.name) for c in self.classes)
        lines = [f"{'class':<{width}}    IoU      pixels"]
        lines += [
            f"{c.name:<{width}}  {'  -  ' if c.iou is None else f'{100 * c.iou:5.2f}'}  {c.pixels:>10}"
            for c in self.classes
        ]
        lines += [f"mIoU {100 * self.miou:.2f}  ({CONVENTION})"]
        if self.foreground_miou is not None:
            lines += [f"foreground mIoU {100 * self.foreground_miou:.2f}  (the same without the background)"]
        lines += [
            f"pixel accuracy {100 * self.pixel_accuracy:.2f}",
            f"boundary F {100 * self.boundary_f:.2f}  ({BOUNDARY_CONVENTION})",
        ]
        lines += few_shot_lines(self.few_shot)
        return "\n".join([*lines, f"{self.num_images} images of split {self.split}"])


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str = "",
    device: str = "auto",
    novel: tuple[str, ...] = (),
) -> Scores:
    """Score a model folder on a finished dataset or a labelled folder. Raises SegtrainError.

    `split` empty = `validation` if the dataset has one, else `train`. `novel` names the novel classes;
    a model of `segtrain few-shot novel` knows its own.
    """
    segmenter = load_model(model, device)
    if novel:
        space = segmenter.label_space
        unknown = [name for name in novel if name not in {c.name for c in space.classes if c.id != space.background}]
        if unknown:
            known = ", ".join(c.name for c in space.classes if c.id != space.background)
            raise ConfigError(f"novel: {unknown[0]!r} is not a class of the model; classes: {known}")
        segmenter.novel = novel
    return score(segmenter, open_validation(data, segmenter.label_space, split))


def open_validation(path: str | Path, label_space: LabelSpace, split: str = "") -> Source:
    """Raises DataError if the data has a class that `label_space`, the model's, has not."""
    source = open_source(path, split, label_space)
    source.label_space.require_within(label_space, str(path))
    return source


def score(segmenter: Segmenter, source: Source) -> Scores:
    """Score a network as it stands, in the few-shot conventions too if it has novel classes.

    Memory does not grow with the dataset.

    Novel classes that occur neither in ground truth nor in prediction do not count. Raises DataError.
    """
    space = segmenter.label_space
    # torchmetrics wants two classes at the least.
    counts = MulticlassConfusionMatrix(max(2, len(space.classes)), ignore_index=IGNORE, validate_args=False)
    boundary = np.zeros(4, dtype=np.int64)
    num_images = sum(source.group_sizes)
    for start in range(0, num_images, _BATCH_SIZE):
        samples = [source.read(row) for row in range(start, min(start + _BATCH_SIZE, num_images))]
        for predicted, (_, mask, where) in zip(
            segmenter.predict([image for image, _, _ in samples], _BATCH_SIZE), samples, strict=True
        ):
            truth = torch.from_numpy(space.to_channels(mask, where).astype(np.int64))
            guess = torch.from_numpy(space.channel_of_id[predicted].astype(np.int64))
            counts.update(guess.flatten(), truth.flatten())
            boundary += boundary_counts(guess, truth)
    if not num_images:
        raise DataError(f"{source.path}: no images to score")
    scores = _scores(counts.compute().numpy(), boundary, space, num_images, source.split)
    background = next((c.name for c in scores.classes if c.id == space.background), None)
    iou = {c.name: c.iou for c in scores.classes if c.iou is not None}
    novel = [name for name in segmenter.novel if name in iou]
    if not novel or set(iou) <= {*novel, background}:
        return scores
    return dataclasses.replace(scores, few_shot=few_shot_scores(iou, novel, background))


def boundary_counts(guess: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """(4,) int64: predicted edge pixels, those near a true edge, true edge pixels, those near a predicted edge.

    `guess` and `truth` are (H, W) channels. An edge pixel differs from its right or lower neighbour, where neither is
    ignored. Near = within a square of max(1, round(0.75 % of the diagonal)) px to each side.
    """
    valid = truth != IGNORE
    radius = max(1, round(_BOUNDARY_FRACTION * math.hypot(*truth.shape)))
    edges = []
    for labels in (guess, truth):
        edge = torch.zeros_like(valid)
        edge[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & valid[:, :-1] & valid[:, 1:]
        edge[:-1] |= (labels[:-1] != labels[1:]) & valid[:-1] & valid[1:]
        edges.append(edge)
    near = [
        torch.nn.functional.max_pool2d(edge[None, None].float(), 2 * radius + 1, 1, radius)[0, 0] > 0 for edge in edges
    ]
    predicted, true = edges
    return np.array([predicted.sum(), (predicted & near[1]).sum(), true.sum(), (true & near[0]).sum()], dtype=np.int64)


def _scores(counts: np.ndarray, boundary: np.ndarray, space: LabelSpace, num_images: int, split: str) -> Scores:
    """`counts` (C, C): pixels by true channel (rows) and predicted channel (columns)."""
    hits, true, guessed = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    union = true + guessed - hits
    classes = tuple(
        ClassScore(c.id, c.name, float(hits[n] / union[n]) if union[n] else None, int(true[n]))
        for n, c in enumerate(space.classes)
    )
    foreground = None if space.background is None else _mean([c.iou for c in classes if c.id != space.background])
    predicted_edges, predicted_near, true_edges, true_near = boundary.tolist()
    # No edges on either side is agreement.
    precision = predicted_near / predicted_edges if predicted_edges else float(not true_edges)
    recall = true_near / true_edges if true_edges else float(not predicted_edges)
    boundary_f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    accuracy = float(hits.sum() / max(1, counts.sum()))
    return Scores(classes, _mean([c.iou for c in classes]), foreground, accuracy, boundary_f, num_images, split)


def _mean(values: list[float | None]) -> float:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else 0.0
