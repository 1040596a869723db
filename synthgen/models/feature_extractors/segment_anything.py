"""Features of SAM's image encoder, with the weights that the mask decoder uses:

a fine grid that knows edges and texture better than names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost
from synthgen.models.costs import sam_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.mask_decoders.segment_anything import load_sam


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("mini/sam", description="as in mask_decoders/segment_anything")
    kind: Literal["", "vit_h", "vit_l", "vit_b"] = Field(
        "", description="of a checkpoint file; empty = as its name says"
    )


def build(options: Options, execution: Any) -> SamFeatures:
    return SamFeatures(load_sam(options.model, options.kind), options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image encoder."""
    return sam_cost(options.model, options.kind)


class SamFeatures:
    """(h, w, D): the part of the encoder's grid that the image fills.

    D is 256 for the official models, 64 for the mini.
    """

    def __init__(self, sam: Any, options: Options, execution: Any) -> None:
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        self._sam = sam.to(self._device)
        self._side_px = int(sam.image_encoder.img_size)
        self._patch_px = int(sam.image_encoder.patch_embed.proj.kernel_size[0])
        self.id = f"segment_anything:{options.model}"

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        # One by one: the encoder fills the device at batch 1, and batch_size must not change a pixel.
        return [self._features(image) for image in images]

    def _features(self, image: np.ndarray) -> np.ndarray:
        import torch
        from PIL import Image
        from torch.nn import functional

        rows, columns = grid_of((image.shape[0], image.shape[1]), self._side_px // self._patch_px)
        # Whole cells only, so that cell (i, j) covers the image's (i, j)-th part; sides change by less than half a
        # cell.
        resized = Image.fromarray(image).resize(
            (columns * self._patch_px, rows * self._patch_px), Image.Resampling.BILINEAR
        )
        pixels = torch.from_numpy(np.array(resized)).to(self._device).permute(2, 0, 1)[None].float()
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            grid = self._sam.image_encoder(self._sam.preprocess(pixels))[0, :, :rows, :columns].float()
            return np.ascontiguousarray(functional.normalize(grid, dim=0).permute(1, 2, 0).cpu().numpy())


def grid_of(size: tuple[int, int], cells: int) -> tuple[int, int]:
    """(h, w) cells for an image (H, W) whose longest side has `cells` of them; at least 1."""
    height, width = (max(1, round(side * cells / max(size))) for side in size)
    return height, width
