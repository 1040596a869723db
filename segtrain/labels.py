"""Class ids of masks and channels of the network.

A mask holds ids 0..253, which may have gaps; 254 (out of distribution) and 255 (unlabelled) are never trained on and
never scored. The network has one channel a class, in the order of the label space's class list. Nothing but this file
converts between the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segtrain.errors import DataError

IGNORE = 255
OUT_OF_DISTRIBUTION = 254


@dataclasses.dataclass(frozen=True, slots=True)
class LabelClass:
    """One class; `colour` is RGB and serves pictures only."""

    id: int
    name: str
    colour: tuple[int, int, int] = (0, 0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class LabelSpace:
    """The classes of a dataset or a model. `background` is the id left out of the foreground mIoU, or None."""

    name: str
    classes: tuple[LabelClass, ...]
    background: int | None = None

    def __post_init__(self) -> None:
        ids = [c.id for c in self.classes]
        names = [c.name for c in self.classes]
        if not ids:
            raise DataError(f"label space {self.name!r}: it has no classes")
        if len(set(ids)) != len(ids) or len(set(names)) != len(names):
            raise DataError(f"label space {self.name!r}: ids and names must be unique")
        if any(not 0 <= i < OUT_OF_DISTRIBUTION for i in ids):
            raise DataError(
                f"label space {self.name!r}: ids must be in 0..253 (254 = out of distribution, 255 = ignore)"
            )
        if self.background is not None and self.background not in ids:
            raise DataError(f"label space {self.name!r}: background {self.background} is not one of its ids")

    @property
    def channel_of_id(self) -> np.ndarray:
        """(256,) uint8: channel of each id; 255 for every id that is not a class."""
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[[c.id for c in self.classes]] = np.arange(len(self.classes))
        return table

    @property
    def id_of_channel(self) -> np.ndarray:
        """(number of classes,) uint8: id of each channel."""
        return np.array([c.id for c in self.classes], dtype=np.uint8)

    def to_channels(self, mask: np.ndarray, where: str) -> np.ndarray:
        """(H, W) uint8 ids -> (H, W) uint8 channels; 254 (out of distribution) and 255 (unlabelled) stay as they are.

        Raises DataError naming `where` at an id that is not a class.
        """
        channels = self.channel_of_id[mask]
        strange = np.unique(mask[(channels == IGNORE) & (mask < OUT_OF_DISTRIBUTION)])
        if strange.size:
            raise DataError(
                f"{where}: id {', '.join(map(str, strange))} is not in label space {self.name!r}, which has "
                f"{', '.join(str(c.id) for c in self.classes)} (254 and 255 = ignored): correct the mask or the "
                "label space"
            )
        channels[mask == OUT_OF_DISTRIBUTION] = OUT_OF_DISTRIBUTION
        return channels

    def require_within(self, other: LabelSpace, where: str) -> None:
        """Raise DataError naming `where` unless every class of `self` has the same id and name in `other`."""
        theirs = {c.id: c.name for c in other.classes}
        for c in self.classes:
            if theirs.get(c.id) != c.name:
                has = f"there id {c.id} is {theirs[c.id]!r}" if c.id in theirs else f"it has no id {c.id}"
                raise DataError(
                    f"{where}: class {c.name!r} (id {c.id}) does not go with label space {other.name!r}: {has}"
                )

    def to_json(self) -> dict[str, Any]:
        """The form that `label_space_of` reads."""
        labels = [{"id": c.id, "name": c.name, "colour": list(c.colour)} for c in self.classes]
        return {"name": self.name, "background": self.background, "labels": labels}


def label_space_of(raw: Any, where: str) -> LabelSpace:
    """From `{name, background, labels: [{id, name, colour}]}`; other keys are left alone.

    Raises DataError naming `where`.
    """
    try:
        classes = tuple(
            LabelClass(_integer(item["id"]), str(item["name"]), _colour(item.get("colour"))) for item in raw["labels"]
        )
        background = raw.get("background")
        return LabelSpace(str(raw["name"]), classes, None if background is None else _integer(background))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where}: not a label space ({type(error).__name__}: {error}); needs name and labels: [{{id, name, "
            f"colour}}]"
        ) from error


def read_label_space(path: Path) -> LabelSpace:
    """A `labels.yaml`. Raises DataError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, Mapping):
        raise DataError(f"{path}: a label space is a mapping with name and labels, this is {type(raw).__name__}")
    return label_space_of(raw, str(path))


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not an id")
    return value


def _colour(value: object) -> tuple[int, int, int]:
    if value is None:
        return 0, 0, 0
    if (
        not isinstance(value, list)
        or len(value) != 3
        or any(not isinstance(v, int) or not 0 <= v <= 255 for v in value)
    ):
        raise ValueError(f"colour {value!r} is not [r, g, b] with 0..255")
    return value[0], value[1], value[2]
