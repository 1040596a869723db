"""Batches of labelled and unlabelled crops, the latter in two views, as a function of (seed, step).

The teacher sees the plain view. The student sees the same crop with a part of another picture pasted into it (CutMix,
ClassMix) and in other colours. What was pasted depends on geometry and on true labels alone, so all of it is made where
pictures are read; only the pseudo-labels have to follow.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from segtrain.config import TrainConfig
from segtrain.data.augment import Draw, draw
from segtrain.data.batches import Batch, Draft, StepBatches
from segtrain.data.mixture import Mixture, mix, shares
from segtrain.data.samplers import RareClassSampler
from segtrain.data.source import Source
from segtrain.data.strong import StrongView, StudentView
from segtrain.errors import ConfigError

# Tags that keep the random streams of one seed apart.
_VIEW, _CUT, _CLASSES, _COLOURS = 31, 32, 33, 34
OWN, UNLABELLED, LABELLED = 0, 1, 2
"""Where a pixel of a student's view is from: its own picture, another unlabelled crop, a labelled crop."""


@dataclasses.dataclass(frozen=True, slots=True)
class ViewSettings:
    """How the two views of an unlabelled crop differ."""

    student_view: StudentView = "same"
    cut_mix: float = 0.0  # probability
    class_mix: float = 0.0  # probability


@dataclasses.dataclass(frozen=True, slots=True)
class Views:
    """U unlabelled crops. All tensors but `partner` are uint8."""

    teacher: torch.Tensor  # (U, 3, crop, crop)
    student: torch.Tensor  # (U, 3, crop, crop)
    inside: torch.Tensor  # (U, crop, crop): 1 = of the teacher's picture, 0 = padding around it
    origin: torch.Tensor  # (U, crop, crop): OWN, UNLABELLED or LABELLED, of the student's pixels
    partner: torch.Tensor  # (U,) int64: whose crop the pixels of UNLABELLED are from
    pasted: torch.Tensor  # (U, crop, crop): the channels of the pixels of LABELLED; 255 elsewhere
    said: torch.Tensor  # (U, crop, crop): channels of the teacher's pixels in masks of their own; 255 = none is read


@dataclasses.dataclass(frozen=True, slots=True)
class JointBatch(Batch):
    """B labelled crops, as ever, and U unlabelled ones; `sources` and `rows` (B + U,) list the labelled ones first."""

    views: Views | None = None  # None in a step without unlabelled crops
    drafts: tuple[Draft, ...] = ()  # of the unlabelled crops


def joint_mix(labelled: np.ndarray, unlabelled: np.ndarray, first_joint_step: int, config: TrainConfig) -> np.ndarray:
    """(steps, batch) numbers of sources: before `first_joint_step` of the labelled ones alone, by their shares.

    `labelled` sums to 1 and has the shares among the labelled sources; `unlabelled` those of the unlabelled ones of all
    draws of a joint step, so that the labelled ones have what is left.
    """
    alone = mix(labelled, first_joint_step, config.batch_size)
    together = np.concatenate([labelled * (1 - unlabelled.sum()), unlabelled])
    return np.concatenate([alone, mix(together, config.steps - first_joint_step, config.batch_size)])


def share_by_repeat(labelled: Sequence[Source], unlabelled: Sequence[Source], repeat: float) -> float:
    """Of the unlabelled pictures, if each counts `repeat` times and each labelled one once (repeat factors)."""
    ours, theirs = (sum(sum(source.group_sizes) for source in sources) for sources in (labelled, unlabelled))
    return theirs * repeat / (ours + theirs * repeat)


class JointBatches(StepBatches):
    """Item `step` has `batch_size` crops, some labelled and some not."""

    def __init__(
        self,
        labelled: Sequence[Source],
        unlabelled: Sequence[Source],
        label_space: LabelSpace,
        config: TrainConfig,
        views: ViewSettings,
        *,
        unlabelled_share: float,
        first_joint_step: int = 0,
        masks: bool = False,
        rare: Mapping[int, RareClassSampler] = types.MappingProxyType({}),
    ) -> None:
        """`unlabelled_share` of the crops of a step from `first_joint_step` on are unlabelled; with `masks` what their
        own masks say is in the batch all the same.

        Raises ConfigError if a source would give no sample at all, or if a step would have less than one labelled crop
        on average; of about one, some steps have none and others two.
        """
        sizes = np.array([sum(source.group_sizes) for source in unlabelled], dtype=np.float64)
        if round((1 - unlabelled_share) * config.batch_size, 6) < 1:
            raise ConfigError(
                f"batch_size {config.batch_size}: {unlabelled_share:.1%} of it are unlabelled crops, which leaves no "
                "labelled one: raise --batch-size, or lower --unlabelled-share or --unlabelled-repeat"
            )
        mixed = joint_mix(shares(labelled, config), unlabelled_share * sizes / sizes.sum(), first_joint_step, config)
        self._all = Mixture([*labelled, *unlabelled], label_space, config, rare=rare, mixed=mixed)
        self._labelled_counts = (mixed < len(labelled)).sum(axis=1)
        self._num_labelled, self._config, self._settings = len(labelled), config, views
        self._space, self._masks = label_space, masks
        self._sources = [*labelled, *unlabelled]

    def __len__(self) -> int:
        return self._config.steps

    @property
    def planned_counts(self) -> list[int]:
        return self._all.planned_counts

    def fewest_labelled(self, steps: int) -> int:
        """Labelled crops of that one of the first `steps` steps which has the fewest; `batch_size` of no steps."""
        return int(self._labelled_counts[:steps].min(initial=self._config.batch_size))

    def batch(self, step: int) -> JointBatch:
        drafts = self._all.drafts(step)
        ours = [draft for draft in drafts if draft.source < self._num_labelled]
        theirs = [draft for draft in drafts if draft.source >= self._num_labelled]
        labelled = self._all.reading.batch(ours) if ours else self._empty()
        return JointBatch(
            labelled.images,
            labelled.targets,
            np.array([draft.source for draft in (*ours, *theirs)], dtype=np.uint8),
            np.array([draft.row for draft in (*ours, *theirs)], dtype=np.int64),
            views=self._views(theirs, labelled, step) if theirs else None,
            drafts=tuple(theirs),
        )

    def geometry(self, draft: Draft, shape: tuple[int, ...]) -> Draw:
        """How the crop of an unlabelled draft lies in its picture (H, W, ...); the colours are the picture's."""
        drawn = draw(shape[:2], np.random.default_rng((_VIEW, *draft.random_key)), self._config)
        return dataclasses.replace(drawn, colours=None)

    def picture(self, source: int, row: int) -> np.ndarray:
        """(H, W, 3) uint8: a whole picture. Raises DataError."""
        return self._sources[source].read(row).image

    def _empty(self) -> Batch:
        side, none = self._config.crop_px, np.zeros(0, np.int64)
        empty = torch.zeros((0, side, side), dtype=torch.uint8)
        return Batch(empty[:, None].expand(0, 3, side, side), empty, none, none)

    def _views(self, drafts: Sequence[Draft], labelled: Batch, step: int) -> Views:
        plain, inside, said = [], [], []
        for draft in drafts:
            sample = self._sources[draft.source].read(draft.row)
            drawn = self.geometry(draft, sample.image.shape)
            plain.append(drawn.picture(sample.image))
            inside.append(drawn.map(np.ones(sample.image.shape[:2], np.uint8), 0))
            if self._masks:
                said.append(drawn.map(self._space.to_channels(sample.mask, sample.where), IGNORE))
        teacher, keys = torch.stack(plain), [draft.random_key for draft in drafts]
        student, origin, partner = _cut_mixed(teacher, keys, self._settings.cut_mix)
        student, origin, pasted = _class_mixed(student, origin, labelled, keys, self._settings.class_mix)
        for place, key in enumerate(keys):
            rng = np.random.default_rng((_COLOURS, *key))
            student[place] = StrongView.draw(self._settings.student_view, rng).apply(student[place])
        own = torch.stack(said) if said else torch.full_like(origin, IGNORE)
        return Views(teacher, student, torch.stack(inside), origin, partner, pasted, own)


def cut_mix_box(side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a box inside a square: 2 to 40 % of its area, sides in a ratio of 0.3 to 1 / 0.3.

    The box of UniMatch's code, where a ratio that does not fit is drawn again.
    """
    while True:
        area = side * side * rng.uniform(0.02, 0.4)
        ratio = rng.uniform(0.3, 1 / 0.3)
        width, height = int(np.sqrt(area / ratio)), int(np.sqrt(area * ratio))
        if 0 < width <= side and 0 < height <= side:
            left, top = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
            return slice(top, top + height), slice(left, left + width)


def class_mix_mask(target: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(h, w) bool: the pixels of half of the classes of a labelled crop (h, w), rounded up (ClassMix, algorithm 1).

    Nothing of 254 and 255; all False if the crop has no class.
    """
    present = [channel for channel in target.unique().tolist() if channel < OUT_OF_DISTRIBUTION]
    chosen = rng.permutation(len(present))[: (len(present) + 1) // 2]
    return torch.isin(target, torch.tensor([present[n] for n in chosen], dtype=target.dtype))


def _cut_mixed(
    teacher: torch.Tensor, keys: Sequence[tuple[int, ...]], probability: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crops with a box of the next one in the batch pasted in; what is from where, and from whom."""
    student, count, side = teacher.clone(), len(teacher), teacher.shape[-1]
    origin = torch.full((count, side, side), OWN, dtype=torch.uint8)
    partner = torch.arange(1, count + 1) % count
    for place, key in enumerate(keys):
        rng = np.random.default_rng((_CUT, *key))
        if count > 1 and rng.random() < probability:
            rows, columns = cut_mix_box(side, rng)
            student[place, :, rows, columns] = teacher[partner[place], :, rows, columns]
            origin[place, rows, columns] = UNLABELLED
    return student, origin, partner


def _class_mixed(
    student: torch.Tensor,
    origin: torch.Tensor,
    labelled: Batch,
    keys: Sequence[tuple[int, ...]],
    probability: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crops with half of the classes of a labelled crop pasted in; what is from where, and the pasted labels."""
    pasted = torch.full_like(origin, IGNORE)
    for place, key in enumerate(keys):
        rng = np.random.default_rng((_CLASSES, *key))
        if not len(labelled.targets) or rng.random() >= probability:
            continue
        giver = place % len(labelled.targets)
        mask = class_mix_mask(labelled.targets[giver], rng)
        student[place][:, mask] = labelled.images[giver][:, mask]
        origin[place][mask] = LABELLED
        pasted[place][mask] = labelled.targets[giver][mask]
    return student, origin, pasted
