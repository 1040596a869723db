"""AnomalyMix: an object of no known class pasted into the original of a pair, labelled 254 (MultiShiftSeg, after
Meta-OoD and RPL).

Objects are the connected components of unknown pixels (254), and of the classes that the model does not know, in the
masks of an object source. The label is 254 whatever the source has.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segkit.printable import excerpt
from segkit.spelling import same_name
from segtrain.data.batches import Batch, StepBatches
from segtrain.data.pairs import PairBatches
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError
from segtrain.methods.multi_shift.config import Config

_PASTE = 25  # keeps the random streams of one seed apart
_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # 8-connected
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectPlace:
    """An object: where its source has it. `box` is its rows and columns, `seed` one of its `pixels` in the box."""

    source: int
    row: int
    class_id: int
    box: tuple[slice, slice]
    seed: tuple[int, int]
    pixels: int

    @property
    def longer_side(self) -> int:
        return max(part.stop - part.start for part in self.box)


class ObjectBank:
    """The objects of several sources that fit at one scale at least: no larger than the crop, and not so small that
    they are a speck. Holds their places, no pixel."""

    def __init__(self, sources: Sequence[Source], known: LabelSpace, config: Config) -> None:
        """`known` are the classes of the model. Reads every mask once.

        Raises ConfigError for an unknown name in `config.object_classes`, DataError if there is no object, or none
        that fits.
        """
        self._sources, self._config = sources, config
        self._scales = [
            tenths / 10
            for tenths in range(1, 21)
            if config.object_scale_min - 1e-9 <= tenths / 10 <= config.object_scale_max + 1e-9
        ]
        places = [
            place
            for number, source in enumerate(sources)
            for place in _objects_of(source, number, object_ids(source.label_space, known, config), config)
        ]
        where = ", ".join(str(source.path) for source in sources)
        if not places:
            raise DataError(
                f"{where}: no object of {config.min_object_px} px or more in it, so AnomalyMix has nothing to paste: "
                "give other --objects, or --anomaly-mix 0"
            )
        self.places = [place for place in places if self.fitting_scales(place)]
        scales = f"{config.object_scale_min:g} to {config.object_scale_max:g}"
        if not self.places:
            raise DataError(
                f"{where}: each of its {len(places)} objects is larger than the crop of {config.crop_px} px or smaller "
                f"than {config.min_object_px} px at every scale from {scales}: widen --object-scale-min and "
                "--object-scale-max, raise --crop or lower --min-object-px"
            )
        _log.info("%d objects to paste, of %s", len(self.places), ", ".join(self._names()))
        if len(self.places) < len(places):
            _log.warning(
                "%s: %d of %d objects are larger than the crop, or too small, at every scale from %s",
                *(where, len(places) - len(self.places), len(places), scales),
            )

    def _names(self) -> list[str]:
        """What is pasted, by name: a class that the model knows under another word is seen here."""
        kinds = sorted({(place.source, place.class_id) for place in self.places})
        names = [
            {label.id: label.name for label in self._sources[source].label_space.labels}.get(class_id, "no class (254)")
            for source, class_id in kinds
        ]
        return list(dict.fromkeys(names))

    def fitting_scales(self, place: ObjectPlace) -> list[float]:
        """Those of 0.1, 0.2, ... between the two settings at which the object is no larger than the crop and has
        `min_object_px` pixels. The paper's objects are cut from pictures of 480 px and more, where a tenth is a thing;
        a tenth of an object in a picture of 64 px is not.
        """
        return [
            scale
            for scale in self._scales
            if round(place.longer_side * scale) <= self._config.crop_px
            and place.pixels * scale**2 >= self._config.min_object_px
        ]

    def cut(self, place: ObjectPlace) -> tuple[np.ndarray, np.ndarray]:
        """Its pixels (h, w, 3) uint8 and its mask (h, w) bool. Raises DataError."""
        sample = self._sources[place.source].read(place.row)
        components, _ = ndimage.label(sample.mask[place.box] == place.class_id, _NEIGHBOURS)
        return sample.image[place.box], components == components[place.seed]

    def paste(
        self, image: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """New image (3, S, S) and target (S, S), uint8, with one object in a uniformly drawn place; the arguments stay
        as they are."""
        place = self.places[int(rng.integers(len(self.places)))]
        scale = float(rng.choice(self.fitting_scales(place)))
        pixels, mask = _resized(*self.cut(place), scale)
        height, width = mask.shape
        top, left = (int(rng.integers(target.shape[axis] - (height, width)[axis] + 1)) for axis in (0, 1))
        window = (slice(top, top + height), slice(left, left + width))
        image, target = image.clone(), target.clone()
        image[:, *window][:, mask] = pixels[:, mask]
        target[window][mask] = OUT_OF_DISTRIBUTION
        return image, target


class MixedBatches(StepBatches):
    """The pairs of each step, with objects pasted into a share of their originals."""

    def __init__(self, pairs: PairBatches, bank: ObjectBank | None, config: Config) -> None:
        """Without a bank nothing is pasted."""
        self._pairs, self._bank, self._config = pairs, bank, config

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def planned_counts(self) -> list[int]:
        return self._pairs.planned_counts

    def batch(self, step: int) -> Batch:
        batch = self._pairs.batch(step)
        if self._bank is None:
            return batch
        assert batch.originals is not None and batch.original_targets is not None
        mixed = []
        for slot, (image, target) in enumerate(zip(batch.originals, batch.original_targets, strict=True)):
            rng = np.random.default_rng((self._config.seed, _PASTE, step, slot))
            pasted = rng.random() < self._config.anomaly_mix
            mixed.append(self._bank.paste(image, target, rng) if pasted else (image, target))
        images, targets = (torch.stack(tensors) for tensors in zip(*mixed, strict=True))
        return dataclasses.replace(batch, originals=images, original_targets=targets)


def object_ids(space: LabelSpace, known: LabelSpace, config: Config) -> list[int]:
    """The ids of an object source that are objects: 254 and the named classes, or else those whose names and synonyms
    the model's classes do not have, without the background. Raises ConfigError for a name that `space` lacks."""
    if config.object_classes:
        ids = {label.name: label.id for label in space.labels}
        unknown = [name for name in config.object_classes if name not in ids]
        if unknown:
            raise ConfigError(
                f"object_classes {excerpt(unknown[0])}: no class of label space {space.name!r}; there are: "
                f"{', '.join(ids)}"
            )
        return [OUT_OF_DISTRIBUTION, *(ids[name] for name in config.object_classes)]
    words = {same_name(word) for label in known.labels for word in (label.name, *label.synonyms)}
    return [
        OUT_OF_DISTRIBUTION,
        *(
            label.id
            for label in space.labels
            if label.id != space.background and not words & set(map(same_name, (label.name, *label.synonyms)))
        ),
    ]


def _objects_of(source: Source, number: int, ids: Sequence[int], config: Config) -> list[ObjectPlace]:
    places = []
    for row in range(sum(source.group_sizes)):
        mask = source.read_mask(row)
        for class_id in sorted(set(ids) & set(np.unique(mask).tolist())):
            components, _ = ndimage.label(mask == class_id, _NEIGHBOURS)
            for label, box in enumerate(ndimage.find_objects(components), start=1):
                inside = components[box] == label
                if inside.sum() >= config.min_object_px:
                    seed = np.unravel_index(int(inside.argmax()), inside.shape)
                    places.append(
                        ObjectPlace(number, row, class_id, box, (int(seed[0]), int(seed[1])), int(inside.sum()))
                    )
    return places


def _resized(pixels: np.ndarray, mask: np.ndarray, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(3, h, w) uint8 and (h, w) bool, of a size of 1 at the least."""
    size = [max(1, round(length * scale)) for length in mask.shape]
    colours = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    inside = torch.from_numpy(mask.astype(np.uint8))[None]
    if size == list(mask.shape):
        return colours, inside[0].bool()
    # float: torch's kernel for uint8 fails on sizes of 1
    colours = functional.resize_image(colours.float(), size, InterpolationMode.BILINEAR, antialias=True)
    inside = functional.resize_image(inside, size, InterpolationMode.NEAREST_EXACT)
    return colours.round().clamp(0, 255).to(torch.uint8), inside[0].bool()
