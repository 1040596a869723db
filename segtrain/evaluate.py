"""Scores of a model on labelled images: IoU of each class, mIoU, boundary F, few-shot scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from segkit.documents import read_json
from segkit.labels import LabelSpace
from segkit.printable import excerpt, printable
from segtrain.data.formats import open_dataset
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError, RunError
from segtrain.metrics import boundary, iou
from segtrain.metrics.few_shot import MEANING, FewShotScores, few_shot_lines, few_shot_scores
from segtrain.segmenter import Segmenter, load_model

FORMAT = "segtrain-scores"
_BATCH_SIZE = 8


@dataclasses.dataclass(frozen=True, slots=True)
class ClassScore:
    """`iou` is None if the class occurs neither in ground truth nor in prediction; `pixels` counts ground truth."""

    id: int
    name: str
    iou: float | None
    pixels: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """All in 0..1, None where there is nothing to score. `foreground_miou` leaves the background out."""

    classes: tuple[ClassScore, ...]
    miou: float | None
    foreground_miou: float | None
    pixel_accuracy: float | None
    boundary_f: float | None
    num_images: int
    split: str
    few_shot: tuple[FewShotScores, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `few_shot` has the scores of each convention under its name, with what it means."""
        few_shot = {s.convention: {**dataclasses.asdict(s), "meaning": MEANING[s.convention]} for s in self.few_shot}
        return {
            "format": FORMAT,
            **dataclasses.asdict(self),
            "few_shot": few_shot,
            "convention": iou.CONVENTION,
            "boundary_convention": boundary.CONVENTION,
        }

    def table(self) -> str:
        """For people, percent; `-` where there is nothing to score."""
        names = [printable(c.name, 40) for c in self.classes]
        width = max(5, *map(len, names))
        lines = [f"{'class':<{width}}    IoU      pixels"]
        lines += [
            f"{name:<{width}}  {_percent(c.iou):>5}  {c.pixels:>10}"
            for name, c in zip(names, self.classes, strict=True)
        ]
        lines += [
            f"mIoU {_percent(self.miou)}  ({iou.CONVENTION})",
            f"foreground mIoU {_percent(self.foreground_miou)}  (the same without the background)",
            f"pixel accuracy {_percent(self.pixel_accuracy)}",
            f"boundary F {_percent(self.boundary_f)}  ({boundary.CONVENTION})",
        ]
        lines += few_shot_lines(self.few_shot)
        return "\n".join([*lines, f"{self.num_images} images of split {printable(self.split)}"])


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
        unknown = [name for name in novel if name not in {c.name for c in space.labels if c.id != space.background}]
        if unknown:
            known = ", ".join(c.name for c in space.labels if c.id != space.background)
            raise ConfigError(f"novel: {excerpt(unknown[0])} is not a class of the model; classes: {known}")
        segmenter.novel = novel
    source = open_validation(data, segmenter.label_space, split)
    scores = score(segmenter, source)
    if scores.miou is None:
        raise DataError(
            f"{source.path}: no pixel of its {scores.num_images} images is labelled (all are 254 or 255), so there is "
            "nothing to score"
        )
    return scores


def require_replaceable(path: Path) -> None:
    """Raise RunError if something is there that `eval` has not written: scores replace scores, nothing else."""
    if not path.is_symlink() and not path.exists():
        return
    try:
        content = read_json(path, RunError)
    except RunError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError(f"{path}: is there already and holds no scores of `segtrain eval`: name another file")


def open_validation(path: str | Path, label_space: LabelSpace, split: str = "") -> Source:
    """Raises DataError if the data has a class that `label_space`, the model's, has not."""
    source = open_dataset(path, split, label_space)
    source.label_space.require_within(label_space, str(path))
    return source


def score(segmenter: Segmenter, source: Source) -> Scores:
    """Score a network as it stands, in the few-shot conventions too if it has novel classes.

    Memory does not grow with the dataset. Novel classes that occur neither in ground truth nor in prediction do not
    count. Raises DataError.
    """
    space = segmenter.label_space
    ids = [c.id for c in space.labels]
    matrix = iou.ConfusionMatrix(ids)
    boundary_scores: list[float | None] = []
    num_images = sum(source.group_sizes)
    for start in range(0, num_images, _BATCH_SIZE):
        samples = [source.read(row) for row in range(start, min(start + _BATCH_SIZE, num_images))]
        predictions = segmenter.predict([sample.image for sample in samples], _BATCH_SIZE)
        for prediction, sample in zip(predictions, samples, strict=True):
            space.to_channels(sample.mask, sample.where)  # raises at an id that the model has no class for
            matrix.add(prediction, sample.mask)
            tolerance = boundary.tolerance_px(sample.mask.shape)
            boundary_scores.append(boundary.boundary_f(prediction, sample.mask, ids, tolerance))
    if not num_images:
        raise DataError(f"{source.path}: no images to score")
    by_id, pixels = matrix.iou, matrix.pixels
    background = next((c.name for c in space.labels if c.id == space.background), None)
    scores = Scores(
        tuple(ClassScore(c.id, c.name, by_id[c.id], pixels[c.id]) for c in space.labels),
        matrix.mean_iou(),
        None if space.background is None else matrix.mean_iou(without=[space.background]),
        matrix.pixel_accuracy,
        boundary.mean_of_images(boundary_scores),
        num_images,
        source.split,
    )
    present = {c.name: c.iou for c in scores.classes if c.iou is not None}
    novel = [name for name in segmenter.novel if name in present]
    if not novel or set(present) <= {*novel, background}:
        return scores
    return dataclasses.replace(scores, few_shot=few_shot_scores(present, novel, background))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
