"""Batches as a function of (seed, step): which samples, which crops.

Nothing here remembers what was drawn before. A killed training therefore goes on with exactly the batches that it would
have seen, and the number of workers changes the speed only.
"""

from __future__ import annotations

import dataclasses
import functools
import signal
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segtrain.config import DataSettings
from segtrain.data.augment import augment
from segtrain.data.sample import Sample
from segtrain.data.samplers import Wanted
from segtrain.data.source import Source
from segtrain.errors import DataError, SegtrainError


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """B crops. All tensors are uint8.

    `images` (B, 3, crop, crop); `targets` (B, crop, crop) channels, 254 = out of distribution, 255 = unlabelled;
    `sources` and `rows` (B,) the number of each sample's source and its row there. If they were asked for:
    `confidence` (B, crop, crop), 0..255 for 0..1; `originals` and `original_targets` of pairs, like images, targets.
    """

    images: torch.Tensor
    targets: torch.Tensor
    sources: np.ndarray
    rows: np.ndarray
    confidence: torch.Tensor | None = None
    originals: torch.Tensor | None = None
    original_targets: torch.Tensor | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A crop to be made: the sample, the key of the random numbers that crop it, and what the crop should show."""

    source: int
    row: int
    random_key: tuple[int, ...]
    wanted: Wanted | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """How the crops of a batch are made of the samples of several sources."""

    sources: Sequence[Source]
    label_space: LabelSpace
    config: DataSettings
    confidence: bool = False  # reading what no method looks at would cost time
    originals: bool = False
    prepare: Callable[[Sample, Draft], Sample] | None = None  # may change a pair's image before it is cropped

    def batch(self, drafts: Sequence[Draft], numbers: np.ndarray | None = None) -> Batch:
        """`numbers` (B,) stand for the sources in the batch, if not those of the drafts.

        A sample without a confidence is sure of its labels: 255 where it has one. Raises DataError, also at a sample
        without an original if originals are asked for.
        """
        crops = []
        for draft in drafts:
            source = self.sources[draft.source]
            sample = source.read(draft.row, confidence=self.confidence, original=self.originals)
            target = self.label_space.to_channels(sample.mask, sample.where)
            confidence, original = sample.confidence, None
            if self.confidence and confidence is None:
                confidence = np.where(target < OUT_OF_DISTRIBUTION, 255, 0).astype(np.uint8)
            if self.originals:
                if sample.original is None:
                    raise DataError(f"{sample.where}: has no original: this training learns from pairs, see its --help")
                image, mask = sample.original
                if mask.shape != target.shape:
                    raise DataError(
                        f"{sample.where}: its original is {mask.shape[1]} x {mask.shape[0]} px, it is "
                        f"{target.shape[1]} x {target.shape[0]}: they must be the same"
                    )
                if self.prepare:
                    sample = self.prepare(sample, draft)
                original = (image, self.label_space.to_channels(mask, f"original of {sample.where}"))
            rng = np.random.default_rng(draft.random_key)
            crops.append(augment(sample.image, target, rng, self.config, confidence, original, draft.wanted))
        originals = [crop.original for crop in crops if crop.original is not None]
        confidences = [crop.confidence for crop in crops if crop.confidence is not None]
        return Batch(
            torch.stack([crop.image for crop in crops]),
            torch.stack([crop.target for crop in crops]),
            np.array([draft.source for draft in drafts], dtype=np.uint8) if numbers is None else numbers,
            np.array([draft.row for draft in drafts], dtype=np.int64),
            torch.stack(confidences) if confidences else None,
            torch.stack([image for image, _ in originals]) if originals else None,
            torch.stack([target for _, target in originals]) if originals else None,
        )


class Recent:
    """The last `most` answers of a function of hashable arguments. What batches are made by is sent to the processes
    that read, where these start empty (macOS, and Linux from Python 3.14 on); a plain `lru_cache` cannot be sent."""

    def __init__(self, function: Callable[..., Any], most: int) -> None:
        self._function, self._most = function, most
        self._cached = functools.lru_cache(maxsize=most)(function)

    def __call__(self, *arguments: Hashable) -> Any:
        return self._cached(*arguments)

    def __reduce__(self) -> tuple[type[Recent], tuple[Callable[..., Any], int]]:
        return Recent, (self._function, self._most)


class StepBatches(Dataset):
    """Item `step` is the batch of that optimiser step, or the SegtrainError that making it met.

    One raised in a worker process would lose its one-line form.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, step: int) -> Batch | SegtrainError:
        try:
            return self.batch(step)
        except SegtrainError as error:
            return error

    def batch(self, step: int) -> Batch:
        """Raises SegtrainError."""
        raise NotImplementedError

    @property
    def planned_counts(self) -> list[int]:
        """Number of samples that each source gives over all steps."""
        raise NotImplementedError


class _Drafted(Dataset):
    """Item (drafts of a batch) is that batch, or the SegtrainError that making it met."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def __getitem__(self, drafts: Sequence[Draft]) -> Batch | SegtrainError:
        try:
            return self._reading.batch(drafts)
        except SegtrainError as error:
            return error


def drafted_batches(reading: Reading, drafts: Iterator[Sequence[Draft]], num_workers: int) -> Iterator[Batch]:
    """The batches of drafts that this process makes while workers read them; `2 * num_workers` are asked for ahead.

    Raises SegtrainError.
    """
    return _loaded(_Drafted(reading), drafts, num_workers)


def batches(data: StepBatches, first_step: int, num_workers: int) -> Iterator[Batch]:
    """The batches of the steps from `first_step` on. Raises SegtrainError."""
    return _loaded(data, range(first_step, len(data)), num_workers)


def _loaded(data: Dataset, sampler: Iterable[Any], num_workers: int) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        data,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        # Without a generator of its own the loader would draw a number from torch's global one.
        generator=torch.Generator(),
        worker_init_fn=_leave_interrupts_to_the_trainer,
    )
    for item in loader:
        if isinstance(item, SegtrainError):
            raise item
        yield item


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal: a worker that died of it would fail the step that is being taken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
