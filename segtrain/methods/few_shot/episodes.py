"""Batches of the novel stage: pairs of a novel image, real or synthetic, and a base image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.labels import LabelSpace
from segtrain.data.batches import Batch, Draft, Reading, Recent, StepBatches
from segtrain.data.mixture import drawn_before, first_steps, in_turn
from segtrain.data.source import Source
from segtrain.errors import ConfigError
from segtrain.methods.few_shot.config import NovelConfig
from segtrain.methods.few_shot.shots import Place, base_shots

REAL, SYNTHETIC, BASE = 0, 1, 2
"""What the numbers in `Batch.sources` mean."""

# Tags that keep the random streams of one seed apart.
_ORDER, _AUGMENTATION = 5, 6


class Episodes(StepBatches):
    """Item `step` has the novel images of its pairs first and then their base images, so a batch is 2 * batch_size
    images.
    """

    def __init__(
        self,
        config: NovelConfig,
        label_space: LabelSpace,
        novel: tuple[Sequence[Source], Sequence[Place]],
        synthetic: tuple[Sequence[Source], Sequence[Place]],
        base: tuple[Sequence[Source], dict[int, list[Place]]],
    ) -> None:
        """Sources with the samples to use of them; `base` has those of each base class, and masks without novel ids.

        Raises ConfigError if the synthetic images would give no sample at all.
        """
        self._config = config
        sources = (novel[0], synthetic[0], base[0])
        self._first = np.cumsum([0, *map(len, sources)]).tolist()  # number of the first source of each kind
        self._reading = Reading([source for of_kind in sources for source in of_kind], label_space, config)
        self._novel, self._base = (novel[1], synthetic[1]), base[1]
        self._mix = in_turn(_parts(config, bool(synthetic[1])), config.batch_size)
        self._before = drawn_before(self._mix, len((REAL, SYNTHETIC)))
        # The very first draw of a mix is always a real one.
        if synthetic[1] and not self._before[-1, SYNTHETIC]:
            if config.synthetic_first:
                raise ConfigError(
                    "synthetic_first: needs two steps, one for the synthetic images and one for the shots"
                )
            raise ConfigError(
                f"synthetic_ratio {config.synthetic_ratio}: the synthetic images give none of {self._mix.size} "
                "novel images: raise it"
            )
        self._epoch = Recent(self._base_of_epoch, 4)
        self._order = Recent(self._novel_order, 8)

    def __len__(self) -> int:
        return self._config.steps

    @property
    def planned_counts(self) -> list[int]:
        return [*self._before[-1].tolist(), self._mix.size]

    def batch(self, step: int) -> Batch:
        places = [(int(kind), place) for kind, place in zip(self._mix[step], self._novel_places(step), strict=True)]
        pairs = self._config.batch_size
        per_epoch = len(self._epoch(0))
        for number in range(step * pairs, (step + 1) * pairs):
            epoch, position = divmod(number, per_epoch)
            places.append((BASE, self._epoch(epoch)[position]))
        drafts = [
            Draft(self._first[kind] + place.source, place.row, (self._config.seed, _AUGMENTATION, step, slot))
            for slot, (kind, place) in enumerate(places)
        ]
        return self._reading.batch(drafts, np.array([kind for kind, _ in places], dtype=np.uint8))

    def _novel_places(self, step: int) -> list[Place]:
        position = self._before[step].copy()
        places = []
        for kind in self._mix[step]:
            candidates = self._novel[kind]
            turn, place = divmod(int(position[kind]), len(candidates))
            position[kind] += 1
            places.append(candidates[self._order(int(kind), turn)[place]])
        return places

    def _novel_order(self, kind: int, turn: int) -> np.ndarray:
        return np.random.default_rng((self._config.seed, _ORDER, kind, turn)).permutation(len(self._novel[kind]))

    def _base_of_epoch(self, epoch: int) -> list[Place]:
        return base_shots(self._base, self._config.shots, self._config.seed, epoch if self._config.redraw_base else 0)


def _parts(config: NovelConfig, has_synthetic: bool) -> list[tuple[np.ndarray, int]]:
    """Shares of real and synthetic novel images, and for how many steps."""
    if not has_synthetic:
        return [(np.array([1.0]), config.steps)]
    if not config.synthetic_first:
        share = 1 / (1 + config.synthetic_ratio)
        return [(np.array([share, 1 - share]), config.steps)]
    begins = first_steps(config.synthetic_first, config.steps)
    return [(np.array([0.0, 1.0]), begins), (np.array([1.0, 0.0]), config.steps - begins)]
