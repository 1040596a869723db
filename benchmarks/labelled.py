"""Labelled folders of pictures that a benchmark draws."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import yaml

from synthgen.images import write_image
from synthgen.labels import read_label_space


class Shown(Protocol):
    """(H, W, 3) uint8, and (H, W) uint8 ids."""

    @property
    def image(self) -> np.ndarray: ...
    @property
    def mask(self) -> np.ndarray: ...


def write_labelled(
    out: Path,
    pictures: Iterable[tuple[str, Shown]],
    images: str = "images",
    labels: str = "labels",
    space: str = "cityscapes",
) -> None:
    """Pictures by stem into new folders of `out`, with the labels.yaml of a shipped label space."""
    (out / images).mkdir(parents=True)
    (out / labels).mkdir()
    (out / "labels.yaml").write_text(yaml.safe_dump(read_label_space(space).to_json()), encoding="utf-8")
    for stem, picture in pictures:
        write_image(picture.image, out / images / f"{stem}.png")
        write_image(picture.mask, out / labels / f"{stem}.png")
