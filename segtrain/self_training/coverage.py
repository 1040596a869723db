"""How many pixels of each class the teacher sees, and how many the student is to learn: rules of area, of confidence
and of agreement can take a thin class away altogether, and that is to be known."""

from __future__ import annotations

from typing import Any

import torch

from segkit.labels import LabelSpace
from segtrain.errors import RunError


class Coverage:
    """Counts over the whole training, those of earlier processes included."""

    def __init__(self, space: LabelSpace) -> None:
        self._space = space
        self._pixels = torch.zeros(2, len(space.labels), dtype=torch.int64)

    def see(self, teacher: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> None:
        """Channels (U, H, W) of both, 254 and 255 for none; a pixel of weight 0 is not learnt."""
        classes = self._pixels.shape[1]
        for row, channels in enumerate((teacher, target.masked_fill(weights == 0, 255))):
            self._pixels[row] += channels.flatten().bincount(minlength=256)[:classes].cpu()

    def missing(self) -> list[str]:
        """Classes that the teacher sees and the student is never to learn."""
        seen, learnt = self._pixels
        return [label.name for label, lost in zip(self._space.labels, (seen > 0) & (learnt == 0), strict=True) if lost]

    def to_json(self) -> dict[str, Any]:
        """By class: pixels of the teacher's answer, and the share of as many that came to the student."""
        return {
            label.name: {"teacher_px": seen, "learnt_share": round(learnt / seen, 4) if seen else None}
            for label, seen, learnt in zip(self._space.labels, *self._pixels.tolist(), strict=True)
        }

    def state(self) -> dict[str, torch.Tensor]:
        return {"pixels": self._pixels.clone()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Raises RunError for counts of other classes."""
        if "pixels" not in tensors or tensors["pixels"].shape != self._pixels.shape:
            raise RunError(
                "coverage of the checkpoint: is of other classes: remove checkpoint.pt to train from the start"
            )
        self._pixels = tensors["pixels"].cpu()
