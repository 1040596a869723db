"""Scores of a model where pictures show what it does not know: pooled AUROC, AP, FPR at 95 % recall, mIoU without the
unknown pixels, scores of whole objects, and maps of the uncertainty."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import LabelSpace
from segkit.printable import excerpt, printable
from segtrain.data.formats import open_to_score
from segtrain.data.sample import Sample
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError, ModelError
from segtrain.evaluate import FORMAT
from segtrain.metrics import anomaly, components, iou
from segtrain.metrics.anomaly import AnomalyScores, Rule, ScoreHistogram
from segtrain.metrics.components import Components, ComponentScores
from segtrain.segmenter import Segmenter, load_model
from segtrain.uncertainty_maps import require_new, write_map

_BATCH_SIZE = 4
_MAP_RANGE = (0.001, 0.999)  # of all labelled pixels' uncertainties: black and white of the maps

_ANOMALY = "anomaly"  # the label space of sets that only say what is unknown


@dataclasses.dataclass(frozen=True, slots=True)
class AnomalyOptions:
    """`maps` is a new or empty folder for one grey PNG a picture, white = uncertain, on one scale for all of them;
    `alarm_threshold` an uncertainty at or above which known pixels are counted; `components` asks for the scores of
    whole objects, without segments and objects below the two sizes."""

    rule: Rule = "first"
    maps: Path | None = None
    alarm_threshold: float | None = None
    components: bool = False
    min_segment_px: int = 0
    min_object_px: int = 0


def anomaly_options(
    wanted: bool,
    rule: str,
    maps: Path | None,
    alarm_threshold: float | None,
    without: Mapping[str, bool],
    *,
    wants_components: bool = False,
    min_segment_px: int = 0,
    min_object_px: int = 0,
) -> AnomalyOptions | None:
    """The options of `eval --anomaly`, None without it. Raises ConfigError for an unknown rule, for options of the one
    kind of scores with the other, and for those of `without` that are given."""
    if rule not in anomaly.RULES:
        raise ConfigError(f"rule {excerpt(rule)}: there are: {', '.join(anomaly.RULES)}")
    options = AnomalyOptions(
        "first" if rule == "first" else "nearest", maps, alarm_threshold, wants_components, min_segment_px,
        min_object_px,
    )  # fmt: skip
    if not wanted and options != AnomalyOptions():
        raise ConfigError(
            "--rule, --alarm-threshold and --components belong to --anomaly, --maps to it or to --samples: add it, or "
            "leave them out"
        )
    if (min_segment_px or min_object_px) and not wants_components:
        raise ConfigError("--min-segment and --min-object are sizes of --components: add it, or leave them out")
    other = [name for name, given in without.items() if given]
    if wanted and other:
        raise ConfigError(f"{other[0]} has no meaning with --anomaly: leave one of them out")
    return options if wanted else None


@dataclasses.dataclass(frozen=True, slots=True)
class AnomalyReport:
    """`miou` and `pixel_accuracy` (the paper's mAcc) are over the known pixels, in 0..1, None if the set does not say
    which class they have. `alarms` is the share of known pixels at or above a threshold that was given."""

    unknown: AnomalyScores
    miou: float | None
    pixel_accuracy: float | None
    num_images: int
    split: str
    alarm_threshold: float | None = None
    alarms: float | None = None
    maps: tuple[float, float] | None = None  # the uncertainties that are black and white
    components: ComponentScores | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": FORMAT,
            "anomaly": dataclasses.asdict(self),
            "convention": anomaly.CONVENTION,
            "components_convention": components.CONVENTION,
            "miou_convention": iou.CONVENTION,
        }

    def table(self) -> str:
        """For people, percent; `-` where there is nothing to score."""
        scores = self.unknown
        threshold = "-" if scores.threshold is None else f"{scores.threshold:.6g}"
        lines = [
            f"AUROC            {_percent(scores.auroc):>6}  ({anomaly.CONVENTION})",
            f"AP               {_percent(scores.ap):>6}",
            f"FPR at 95 % TPR  {_percent(scores.fpr95):>6}  (rule {scores.rule}, threshold {threshold})",
            f"mIoU             {_percent(self.miou):>6}  (known pixels alone)",
            f"pixel accuracy   {_percent(self.pixel_accuracy):>6}  (mAcc of the paper; known pixels alone)",
        ]
        if self.alarm_threshold is not None:
            lines.append(
                f"alarms           {_percent(self.alarms):>6}  (known pixels at {self.alarm_threshold:.6g} or above)"
            )
        if self.components is not None:
            found = self.components
            lines += [
                f"sIoU             {_percent(found.siou):>6}  (components, {components.CONVENTION})",
                f"PPV              {_percent(found.ppv):>6}  ({found.segments} segments of {found.min_segment_px} px "
                f"or more, {found.objects} objects of {found.min_object_px} px or more)",
                f"F1 of components {_percent(found.f1):>6}  (threshold {found.threshold:.6g})",
            ]
        lines.append(
            f"{scores.unknown_pixels} unknown and {scores.known_pixels} known pixels in {self.num_images} images of "
            f"split {printable(self.split)}"
        )
        return "\n".join(lines)


def evaluate_anomaly(
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    split: str = "",
    device: str = "auto",
    options: AnomalyOptions | None = None,
) -> AnomalyReport:
    """Score a model folder on datasets and labelled folders whose unknown pixels are 254, all pooled.

    A set without unknown pixels (bad weather alone) has no AUROC, AP and FPR; with the `threshold` of another set as
    `alarm_threshold` it has a share of false alarms. A set in label space `anomaly`, which says of a pixel only whether
    it is known, has no mIoU. Maps and scores of whole objects need a second pass. Raises SegtrainError.
    """
    options = options or AnomalyOptions()
    maps = options.maps
    paths = [data] if isinstance(data, str | Path) else list(data)
    segmenter = load_model(model, device)
    sources = [_open(path, segmenter.label_space, split) for path in paths]
    if maps:
        require_new(maps)
    space = segmenter.label_space
    histogram, matrix = ScoreHistogram(), iou.ConfusionMatrix([c.id for c in space.labels], space.background)
    num_images = 0
    for source, row, sample, prediction, uncertainty in _answers(segmenter, sources):
        num_images += 1
        if not np.isfinite(uncertainty).all():
            raise ModelError(f"{model}: its uncertainty of {source.name(row)} is not finite: train the model again")
        histogram.add(uncertainty, sample.mask)
        if source.label_space.name != _ANOMALY:
            matrix.add(prediction, sample.mask)
    scores = histogram.scores(options.rule)
    if not scores.unknown_pixels + scores.known_pixels:
        where = ", ".join(map(str, paths))
        raise DataError(
            f"{where}: every pixel of its {num_images} images is 255 (unlabelled): there is nothing to score"
        )
    black, white = (histogram.quantile(share) for share in _MAP_RANGE)
    counted = None
    if options.components and scores.unknown_pixels:
        counted = Components(histogram.best_f1_threshold(), options.min_segment_px, options.min_object_px)
    if maps or counted:
        for source, row, sample, _, uncertainty in _answers(segmenter, sources):
            if maps:
                write_map(maps / f"{Path(source.name(row)).stem}.png", uncertainty, black, white)
            if counted:
                counted.add(uncertainty, sample.mask)
    return AnomalyReport(
        scores,
        matrix.mean_iou(),
        matrix.pixel_accuracy,
        num_images,
        ", ".join(dict.fromkeys(source.split for source in sources)),
        options.alarm_threshold,
        None if options.alarm_threshold is None else histogram.alarm_share(options.alarm_threshold),
        (black, white) if maps else None,
        counted.scores() if counted else None,
    )


def _open(path: str | Path, space: LabelSpace, split: str) -> Source:
    source = open_to_score(path, split, space)
    if source.label_space.name != _ANOMALY:
        source.label_space.require_within(space, str(path))
    if not sum(source.group_sizes):
        raise DataError(f"{source.path}: no images to score")
    return source


def _answers(
    segmenter: Segmenter, sources: Sequence[Source]
) -> Iterator[tuple[Source, int, Sample, np.ndarray, np.ndarray]]:
    """Every picture with what the model says of it, a few at a time."""
    for source in sources:
        num_images = sum(source.group_sizes)
        for start in range(0, num_images, _BATCH_SIZE):
            rows = range(start, min(start + _BATCH_SIZE, num_images))
            samples = [source.read(row) for row in rows]
            answers = segmenter.predict_with_uncertainty([sample.image for sample in samples], _BATCH_SIZE)
            for row, sample, (prediction, uncertainty) in zip(rows, samples, answers, strict=True):
                yield source, row, sample, prediction, uncertainty


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
