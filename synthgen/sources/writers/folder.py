"""The project's labelled folder: images/, labels/ with PNGs of ids (255 = unlabelled), labels.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from segkit.labels import LabelSpace
from synthgen.sources.objects import Area
from synthgen.sources.writing import LabelledPicture, write_file, write_mask

OBJECTS = False
USE = "support.folder of a recipe, or --data of segtrain; labels.yaml has the classes"


def build(out: Path, space: LabelSpace) -> Folder:
    return Folder(out, space)


class Folder:
    pictures = "images"

    def __init__(self, out: Path, space: LabelSpace) -> None:
        self._out, self._space = out, space

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """Masks have none."""
        return list(areas)

    def add(self, picture: LabelledPicture) -> None:
        write_mask(picture.mask, self._out / "labels" / f"{picture.stem}.png")

    def close(self) -> None:
        text = yaml.safe_dump(self._space.to_json(), sort_keys=False, allow_unicode=True)
        write_file(text.encode(), self._out / "labels.yaml")
