"""CVAT's "Segmentation mask 1.1": JPEGImages/, colour PNGs in SegmentationClass/, labelmap.txt, ImageSets/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segkit.colours import colours_of
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from synthgen.errors import LabelError
from synthgen.sources.objects import Area
from synthgen.sources.writing import LabelledPicture, name_of, write_file, write_mask

OBJECTS = False
USE = 'CVAT: upload annotations, format "Segmentation mask 1.1"; datumaro reads it as VOC'
_UNLABELLED = "ignored"


def build(out: Path, space: LabelSpace) -> CvatMasks:
    """Raises LabelError for a class name that labelmap.txt cannot hold."""
    unfit = next((label.name for label in space.labels if ":" in label.name or label.name.startswith("#")), None)
    if unfit is not None:
        raise LabelError(
            f"class {unfit!r}: labelmap.txt parts its fields with colons and comments begin with #; rename the class"
        )
    return CvatMasks(out, space)


class CvatMasks:
    pictures = "JPEGImages"

    def __init__(self, out: Path, space: LabelSpace) -> None:
        self._out, self._space, self._colours = out, space, colours_of(space)
        self._table = np.zeros((256, 3), np.uint8)
        self._table[list(self._colours)] = list(self._colours.values())
        self._used = set(space.ids)
        self._stems: list[str] = []

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """Masks have none."""
        return list(areas)

    def add(self, picture: LabelledPicture) -> None:
        self._stems.append(picture.stem)
        self._used |= {special for special in (OUT_OF_DISTRIBUTION, IGNORE) if (picture.mask == special).any()}
        write_mask(self._table[picture.mask], self._out / "SegmentationClass" / f"{picture.stem}.png")

    def close(self) -> None:
        lines = [
            f"{name_of(class_id, self._space, _UNLABELLED)}:{','.join(map(str, colour))}::\n"
            for class_id, colour in self._colours.items()
            if class_id in self._used
        ]
        head = "# label:color_rgb:parts:actions\n"
        write_file((head + "".join(lines)).encode(), self._out / "labelmap.txt")
        listed = "".join(f"{stem}\n" for stem in self._stems)
        write_file(listed.encode(), self._out / "ImageSets" / "Segmentation" / "default.txt")
