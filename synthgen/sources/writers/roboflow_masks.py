"""Roboflow's "Semantic Segmentation Masks": train/NAME.jpg, train/NAME_mask.png of ids, train/_classes.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from synthgen.sources.objects import Area
from synthgen.sources.writing import LabelledPicture, name_of, write_file, write_mask

OBJECTS = False
USE = "upload the folder to Roboflow; a mask's value is the id in _classes.csv, 255 is unlabelled"


def build(out: Path, space: LabelSpace) -> RoboflowMasks:
    return RoboflowMasks(out, space)


class RoboflowMasks:
    pictures = "train"

    def __init__(self, out: Path, space: LabelSpace) -> None:
        self._folder, self._space = out / self.pictures, space
        self._ids = set(space.ids)

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """Masks have none."""
        return list(areas)

    def add(self, picture: LabelledPicture) -> None:
        if (picture.mask == OUT_OF_DISTRIBUTION).any():
            self._ids.add(OUT_OF_DISTRIBUTION)
        write_mask(picture.mask, self._folder / f"{picture.stem}_mask.png")

    def close(self) -> None:
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["Pixel Value", "Class"])
        writer.writerows([class_id, name_of(class_id, self._space, "")] for class_id in sorted(self._ids))
        write_file(table.getvalue().encode(), self._folder / "_classes.csv")
