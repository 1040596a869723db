"""Several sources in a fixed mix: which source and which sample each draw takes, as a function of (seed, step)."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence

import numpy as np

from segkit.labels import LabelSpace, read_label_space
from segtrain.config import TrainConfig
from segtrain.data.batches import Batch, Draft, Reading, Recent, StepBatches
from segtrain.data.formats import brings_label_space, open_dataset
from segtrain.data.labelled import require_labels, require_readable, tell_of_void
from segtrain.data.samplers import RareClassSampler
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError

# Tags that keep the random streams of one seed apart.
_ORDER, _AUGMENTATION = 1, 2
_MOST_SOURCES = 256  # their numbers are uint8
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def space_of_folders(config: TrainConfig) -> LabelSpace | None:
    """The classes of a folder that brings none: those of `config.classes`, or else of the first source that brings
    some, wherever that stands in the list; None if none does. Raises DataError."""
    if config.classes:
        return read_label_space(config.classes)
    lender = next((path for path in config.data if brings_label_space(path)), None)
    return open_dataset(lender, "train", None).label_space if lender else None


def open_sources(config: TrainConfig, folder_space: LabelSpace | None = None) -> tuple[list[Source], LabelSpace]:
    """The sources in the order given, and the label space of the model: that of the first source.

    A folder that brings no classes takes those of `folder_space`, by default `space_of_folders`. Raises DataError if a
    source has a class that the first one has not, or if no pixel of any shows a class; ConfigError if `config.classes`
    are others than those of the model and no source takes them.
    """
    folder_space = folder_space or space_of_folders(config)
    sources = [open_dataset(path, "train", folder_space) for path in config.data]
    space = sources[0].label_space
    for source in sources[1:]:
        try:
            source.label_space.require_within(space, str(source.path))
        except DataError as error:
            raise DataError(
                f"{error}; the classes are those of the first --data, {sources[0].path}: name first what has them all, "
                "or write the masks anew (`synthgen convert --space`)"
            ) from error
    if config.classes and all(map(brings_label_space, config.data)):
        theirs, ours = (
            [(label.id, label.name) for label in labels]
            for labels in (read_label_space(config.classes).labels, space.labels)
        )
        if theirs != ours:
            raise ConfigError(
                f"classes {config.classes}: {len(theirs)} classes, and no source takes them: {config.data[0]} brings "
                f"{len(ours)} of its own: leave it out, or write the masks anew in these classes (`synthgen convert "
                "--space`)"
            )
    require_readable(sources)
    require_labels(sources, space)
    if len(sources) > 1:
        tell_of_void(sources)
    return sources, space


def shares(sources: Sequence[Source], config: TrainConfig) -> np.ndarray:
    """Share of each source in the mix, in 0..1; proportional to the sizes if no ratio is set.

    Raises ConfigError at a wrong number of ratios.
    """
    if not config.ratio:
        weights = np.array([sum(source.group_sizes) for source in sources], dtype=np.float64)
    elif len(config.ratio) == len(sources):
        weights = np.array(config.ratio, dtype=np.float64)
    else:
        raise ConfigError(
            f"ratio: {len(config.ratio)} numbers for {len(sources)} sources: give one for each --data, in the "
            "same order"
        )
    return weights / weights.sum()


def mix(share: np.ndarray, steps: int, batch_size: int) -> np.ndarray:
    """(steps, batch_size) uint8: the number of the source of each draw.

    Draw t takes the source in whose part of [0, 1) the number frac(t * golden ratio) falls. The realised counts stay
    within a few draws of the wanted ones over any stretch, which independent draws do not.
    """
    position = np.modf(np.arange(steps * batch_size) * _GOLDEN_RATIO)[0]
    return np.searchsorted(np.cumsum(share)[:-1], position, side="right").astype(np.uint8).reshape(steps, batch_size)


def in_turn(parts: Sequence[tuple[np.ndarray, int]], batch_size: int) -> np.ndarray:
    """(steps, batch_size) uint8 as of `mix`, one part after another: each the shares of the sources and its steps."""
    return np.concatenate([mix(share, steps, batch_size) for share, steps in parts])


def first_steps(share: float, steps: int) -> int:
    """How many steps a part has that begins with a share in (0, 1) of them: both parts have one at least."""
    return min(max(1, round(share * steps)), steps - 1)


def epoch_order(group_sizes: tuple[int, ...], window: int, key: tuple[int, ...]) -> np.ndarray:
    """Every row once, as a function of `key`:

    groups (shards) in random order, then shuffled within windows of `window` consecutive rows.

    The same trade as a shuffle buffer of that size: reading stays within a few shards at a time. One group alone, a
    folder, is shuffled as a whole: there a window would go through the files by name, in each epoch anew.
    """
    rng = np.random.default_rng(key)
    window = window if len(group_sizes) > 1 else max(1, *group_sizes)
    ends = np.cumsum(group_sizes)
    groups = rng.permutation(len(group_sizes))
    order = np.concatenate([np.arange(ends[g] - group_sizes[g], ends[g]) for g in groups])
    return np.concatenate([rng.permutation(order[start : start + window]) for start in range(0, len(order), window)])


def drawn_before(mixed: np.ndarray, num_sources: int) -> np.ndarray:
    """(steps, batch) source numbers -> (steps + 1, num_sources): how many samples each source has given before a step;

    the last row is the total.
    """
    per_step = np.stack([(mixed == number).sum(axis=1) for number in range(num_sources)], axis=1)
    return np.concatenate([np.zeros((1, num_sources), dtype=np.int64), np.cumsum(per_step, axis=0)])


class Mixture(StepBatches):
    """Batches of several sources in a fixed mix."""

    def __init__(
        self,
        sources: Sequence[Source],
        label_space: LabelSpace,
        config: TrainConfig,
        confidence: bool = False,
        originals: bool = False,
        rare: Mapping[int, RareClassSampler] = types.MappingProxyType({}),
        mixed: np.ndarray | None = None,
    ) -> None:
        """`confidence` and `originals` say whether the batches have them; `rare` draws the samples of some sources, by
        number, in place of an order that gives each sample once an epoch; `mixed` (steps, batch) uint8 stands for the
        fixed mix and has the number of the source of each draw.

        Raises ConfigError if a source would give no sample at all, or for more than 256 of them.
        """
        if len(sources) > _MOST_SOURCES:
            raise ConfigError(
                f"{len(sources)} sources: a training takes {_MOST_SOURCES}, labelled and unlabelled ones together: "
                "join some in one folder"
            )
        self._sources, self._config, self._rare = sources, config, dict(rare)
        self._reading = Reading(sources, label_space, config, confidence, originals)
        self._mix = mix(shares(sources, config), config.steps, config.batch_size) if mixed is None else mixed
        self._before = drawn_before(self._mix, len(sources))
        self._order = Recent(self._epoch_order, 4 * len(sources))
        self._all_rows = Recent(self._rows_of, len(sources))
        for source, count in zip(sources, self.planned_counts, strict=True):
            if not count:
                raise ConfigError(
                    f"{source.path}: gives none of the {self._mix.size} samples of {config.steps} steps x "
                    f"{config.batch_size}: raise its --ratio or --steps, or leave the source out"
                )

    def __len__(self) -> int:
        return self._config.steps

    @property
    def planned_counts(self) -> list[int]:
        return self._before[-1].tolist()

    @property
    def reading(self) -> Reading:
        """What makes batches of drafts."""
        return self._reading

    def batch(self, step: int) -> Batch:
        return self._reading.batch(self.drafts(step))

    def drafts(self, step: int) -> list[Draft]:
        """What the batch of a step is made of: a function of (seed, step)."""
        drafts = []
        position = self._before[step].copy()
        for slot, number in enumerate(self._mix[step].tolist()):
            epoch, place = divmod(int(position[number]), sum(self._sources[number].group_sizes))
            position[number] += 1
            if number in self._rare:
                row, wanted = self._rare[number].draw((self._config.seed, number, step, slot))
            else:
                row, wanted = int(self._order(number, epoch)[place]), None
            drafts.append(Draft(number, row, self.crop_key(step, slot), wanted))
        return drafts

    def rows_like(self, draft: Draft) -> np.ndarray:
        """(N,) int64, ascending: the rows among which that of a draft was drawn, all of its source if by no class."""
        if draft.wanted is None:
            return np.asarray(self._all_rows(draft.source))
        return self._rare[draft.source].rows_that_show(draft.wanted.channel)

    def _rows_of(self, number: int) -> np.ndarray:
        return np.arange(sum(self._sources[number].group_sizes))

    def crop_key(self, step: int, slot: int) -> tuple[int, ...]:
        """Of the random numbers that crop a sample of a batch."""
        return (self._config.seed, _AUGMENTATION, step, slot)

    def _epoch_order(self, number: int, epoch: int) -> np.ndarray:
        return epoch_order(
            self._sources[number].group_sizes, self._config.shuffle_window, (self._config.seed, _ORDER, number, epoch)
        )
