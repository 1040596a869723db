"""The pictures that a model gets most wrong, small enough for a page."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from segkit.labels import LabelSpace
from segtrain.metrics.iou import mean_iou
from segtrain.overlay import overlay
from segtrain.report.thumbnails import address, smaller

LONGEST_PX = 320


@dataclasses.dataclass(frozen=True, slots=True)
class WorstPicture:
    """A picture alone, under its truth and under the prediction, as `data:` addresses; `miou` of it alone, in 0..1."""

    name: str
    miou: float
    image: str
    truth: str
    prediction: str


class Worst:
    """The pictures of the lowest mIoU of those that were added; keeps `number` of them and nothing else."""

    def __init__(self, number: int, space: LabelSpace) -> None:
        self._number, self._space = number, space
        self.pictures: list[WorstPicture] = []
        """The worst first; of equals the one that was added first."""

    def add(self, name: str, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB and two (H, W) uint8 masks of ids. A picture without a labelled pixel says nothing."""
        miou = mean_iou([prediction], [truth], self._space.ids)
        full = len(self.pictures) >= self._number
        if miou is None or not self._number or (full and miou >= self.pictures[-1].miou):
            return
        small = smaller(image, LONGEST_PX)
        masks = [smaller(mask, LONGEST_PX, Image.Resampling.NEAREST) for mask in (truth, prediction)]
        seen = [overlay(small, mask, self._space) for mask in masks]
        self.pictures.append(WorstPicture(name, miou, *map(address, (small, *seen))))
        self.pictures = sorted(self.pictures, key=lambda picture: picture.miou)[: self._number]
