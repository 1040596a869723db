"""Scores of a model on labelled images: IoU of each class, mIoU, boundary F, few-shot scores, scores by domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.documents import read_json
from segkit.labels import LabelSpace
from segkit.printable import excerpt, printable
from segtrain.bands import band, widths_px
from segtrain.data.formats import open_to_score
from segtrain.data.labelled import require_labels
from segtrain.data.sample import Sample
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError, RunError
from segtrain.metrics import boundary, iou
from segtrain.metrics.by_domain import DomainScore, DomainScores, averages
from segtrain.metrics.few_shot import MEANING, FewShotScores, few_shot_lines, few_shot_scores
from segtrain.segmenter import Segmenter, load_model
from segtrain.tiles import OVERLAP_PX, TILE_PX, predict_each, require_tiles

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
    """All in 0..1, None where there is nothing to score: means of classes and of boundaries need a pixel of the truth
    that is not background. `foreground_miou` leaves the background out."""

    classes: tuple[ClassScore, ...]
    miou: float | None
    foreground_miou: float | None
    pixel_accuracy: float | None
    boundary_f: float | None
    num_images: int
    split: str
    few_shot: tuple[FewShotScores, ...] = ()
    domains: tuple[DomainScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    """Pixels: a row a true class, a column a predicted one, in the order of `classes`; the last column is no class."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `few_shot` has the scores of each convention under its name, with what it means."""
        few_shot = {s.convention: {**dataclasses.asdict(s), "meaning": MEANING[s.convention]} for s in self.few_shot}
        return {
            "format": FORMAT,
            **dataclasses.asdict(self),
            "few_shot": few_shot,
            "averages": averages({d.name: d.miou for d in self.domains}),
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
        if self.domains:
            width = max(6, *(len(printable(d.name, 40)) for d in self.domains))
            lines.append(f"{'domain':<{width}}   mIoU  boundary error  interior error  images")
            lines += [
                f"{printable(d.name, 40):<{width}}  {_percent(d.miou):>5}  {_percent(d.boundary_error):>14}  "
                f"{_percent(d.interior_error):>14}  {d.num_images:>6}"
                for d in self.domains
            ]
            means = averages({d.name: d.miou for d in self.domains})
            lines.append("mIoU over domains: " + ", ".join(f"{k} {_percent(v)}" for k, v in means.items()))
        return "\n".join([*lines, f"{self.num_images} images of split {printable(self.split)}"])


def evaluate(
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    split: str = "",
    device: str = "auto",
    novel: tuple[str, ...] = (),
    by_domain: bool = False,
    domains: Sequence[str] = (),
    tile_px: int = TILE_PX,
    overlap_px: int = OVERLAP_PX,
) -> Scores:
    """Score a model folder on finished datasets and labelled folders, taken together. Raises SegtrainError.

    `split` empty = `validation` if the dataset has one, else `train`. `novel` names the novel classes;
    a model of `segtrain few-shot novel` knows its own. With `by_domain` each domain is scored too; `domains` names that
    of each of the data, where its samples do not say theirs. A picture larger than a tile is scored by its tiles, as
    `segtrain predict` answers it; `tile_px` 0 = always as a whole.
    """
    require_tiles(tile_px, overlap_px)
    paths = [data] if isinstance(data, str | Path) else list(data)
    if domains and (not by_domain or len(domains) != len(paths)):
        raise ConfigError(
            f"domain: {len(domains)} names for {len(paths)} sources: give one for each --data, in the same order, and "
            "--by-domain"
        )
    segmenter = load_model(model, device)
    if novel:
        space = segmenter.label_space
        unknown = [name for name in novel if name not in {c.name for c in space.labels if c.id != space.background}]
        if unknown:
            known = ", ".join(c.name for c in space.labels if c.id != space.background)
            raise ConfigError(f"novel: {excerpt(unknown[0])} is not a class of the model; classes: {known}")
        segmenter.novel = novel
    sources = [open_validation(path, segmenter.label_space, split) for path in paths]
    domain_of = None
    if by_domain:
        names = domains or [""] * len(sources)
        declared = [_domains_of(source, name) for source, name in zip(sources, names, strict=True)]

        def domain_of(number: int, row: int) -> str:
            return declared[number][row]

    require_labels(sources, segmenter.label_space, background_counts=True)
    return score(segmenter, *sources, domain_of=domain_of, tile_px=tile_px, overlap_px=overlap_px)


def _domains_of(source: Source, name: str) -> Sequence[str]:
    """The domain of each sample: `name`, or what the source declares. Raises DataError if it declares none."""
    num_images = sum(source.group_sizes)
    if name:
        return [name] * num_images
    domains = [source.domain(row) for row in range(num_images)]
    if "" in domains:
        raise DataError(
            f"{source.path}: {domains.count('')} of {num_images} samples declare no domain, the first is "
            f"{excerpt(source.name(domains.index('')))}: add domains.txt (stem<TAB>domain), or name one with --domain"
        )
    return domains


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
    source = open_to_score(path, split, label_space)
    source.label_space.require_within(label_space, str(path))
    return source


def score(
    segmenter: Segmenter,
    *sources: Source,
    domain_of: Callable[[int, int], str] | None = None,
    seen: Callable[[Sample, np.ndarray], None] | None = None,
    tile_px: int = TILE_PX,
    overlap_px: int = OVERLAP_PX,
) -> Scores:
    """Score a network as it stands on all sources together, in the few-shot conventions too if it has novel classes.

    `domain_of` the number of a source and a row there asks for the scores of each domain too; `seen` is told each
    sample and its prediction (H, W) uint8 ids. Memory does not grow with the images. Novel classes that occur neither
    in ground truth nor in prediction do not count; where the truth shows no novel class at all, or no base class, there
    are no few-shot scores. Raises DataError.
    """
    space = segmenter.label_space
    ids = [c.id for c in space.labels]
    matrix = iou.ConfusionMatrix(ids, space.background)
    boundary_scores: list[float | None] = []
    by_domain = DomainScores(ids, space.background)
    for number, rows in _chunks(sources):
        samples = [sources[number].read(row) for row in rows]
        predictions = predict_each(segmenter, [one.image for one in samples], _BATCH_SIZE, tile_px, overlap_px)
        for row, prediction, sample in zip(rows, predictions, samples, strict=True):
            space.to_channels(sample.mask, sample.where)  # raises at an id that the model has no class for
            matrix.add(prediction, sample.mask)
            if seen is not None:
                seen(sample, prediction)
            tolerance = boundary.tolerance_px(sample.mask.shape)
            boundary_scores.append(boundary.boundary_f(prediction, sample.mask, ids, tolerance))
            if domain_of is not None:
                by_domain.add(domain_of(number, row), prediction, sample.mask, full_band(sample.mask))
    num_images = len(boundary_scores)
    if not num_images:
        raise DataError(f"{', '.join(str(source.path) for source in sources)}: no images to score")
    by_id, pixels = matrix.iou, matrix.pixels
    background = next((c.name for c in space.labels if c.id == space.background), None)
    scores = Scores(
        tuple(ClassScore(c.id, c.name, by_id[c.id], pixels[c.id]) for c in space.labels),
        matrix.mean_iou(),
        None if space.background is None else matrix.mean_iou(without=[space.background]),
        matrix.pixel_accuracy,
        boundary.mean_of_images(boundary_scores) if matrix.shows_foreground else None,
        num_images,
        ", ".join(dict.fromkeys(source.split for source in sources)),
        domains=by_domain.scores(),
        confusion=tuple(tuple(row) for row in matrix.counts.tolist()),
    )
    present = {c.name: c.iou for c in scores.classes if c.iou is not None}
    novel = [name for name in segmenter.novel if name in present]
    labelled = {c.name for c in scores.classes if c.pixels}
    if not labelled & set(novel) or labelled <= {*novel, background}:  # one of the two means would be of false alarms
        return scores
    return dataclasses.replace(scores, few_shot=few_shot_scores(present, novel, background))


def full_band(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 mask to bool: the thickest boundary band, of a window that is a share of the picture's height."""
    width = widths_px(mask.shape[0])[-1]
    in_band: np.ndarray = band(torch.from_numpy(mask)[None], width)[0].numpy()
    return in_band


def _chunks(sources: Sequence[Source]) -> Iterator[tuple[int, range]]:
    """Number of a source and some rows of it, over all of all sources."""
    for number, source in enumerate(sources):
        num_images = sum(source.group_sizes)
        for start in range(0, num_images, _BATCH_SIZE):
            yield number, range(start, min(start + _BATCH_SIZE, num_images))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
