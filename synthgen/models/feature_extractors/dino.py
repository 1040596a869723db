"""Patch features of DINOv2 (Oquab et al., 2023) and DINOv3 (Siméoni et al., 2025) through transformers.

    features: {name: dino}                                                           DINOv2 ViT-L/14, Apache-2.0
    features: {name: dino, model: facebook/dinov3-vitl16-pretrain-lvd1689m}          gated, DINOv3 License

Class prototypes on such features need no training (FSSDINO, arXiv 2602.07550, does so on DINOv3's last layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost, Licence
from synthgen.models.costs import dino_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.feature_extractors.segment_anything import grid_of
from synthgen.models.licences import APACHE
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network, model_config

_KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
_DINOV3 = Licence("DINOv3 License", "https://ai.meta.com/resources/models-and-libraries/dinov3-license/")


class Options(BaseModel):
    """Which DINO, and how finely it looks."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("facebook/dinov2-large", description="Hub id or local folder in transformers' layout")
    revision: str = Field("", description="Hub revision; empty = main")
    longest_side_px: int = Field(
        518, ge=32, le=4096, description="of the resized image; a cell is a patch of 14 or 16 px of it [DINOv2: 518]"
    )


def build(options: Options, execution: Any) -> DinoFeatures:
    """Load the network."""
    return DinoFeatures(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass, if the model is listed or local."""
    return dino_cost(options.model, options.longest_side_px)


def licences(options: Options) -> dict[str, Licence]:
    """Meta's: DINOv2 is free, DINOv3 has a licence of its own."""
    name = options.model.lower()
    if name.startswith("facebook/dinov2"):
        return {options.model: APACHE}
    return {options.model: _DINOV3} if name.startswith("facebook/dinov3") else {}


class DinoFeatures:
    """(h, w, D) patch tokens of the last layer after its norm, every cell L2-normalised. Images go one by one: rounding
    may follow the batch's size, and batch_size must not change a pixel.
    """

    def __init__(self, options: Options, execution: Any) -> None:
        from transformers import AutoImageProcessor, AutoModel

        place, revision = resolve(options.model), pinned_revision(options.model, options.revision)
        way_out = "CLIPs go to refine.features.name=open_clip"
        config = model_config(options.model, place, revision, _KINDS, way_out)
        import torch

        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        model = load_network(AutoModel, options.model, place, "", torch.float32, revision)
        self._model = model.requires_grad_(False).to(self._device)
        with loading(options.model):
            processor = AutoImageProcessor.from_pretrained(place, **revision)
        self._mean, self._std = list(processor.image_mean), list(processor.image_std)
        self._patch_px = int(config.patch_size)
        self._first = 1 + int(getattr(config, "num_register_tokens", 0))  # the class token and the registers
        self._longest_px = options.longest_side_px
        commit = revision_of(options.model, options.revision)
        self.id = f"dino:{options.model}@{commit}@{options.longest_side_px}"

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._features(image) for image in images]

    def _features(self, image: np.ndarray) -> np.ndarray:
        import torch
        from PIL import Image
        from torch.nn import functional

        patch = self._patch_px
        rows, columns = grid_of((image.shape[0], image.shape[1]), max(1, self._longest_px // patch))
        resized = Image.fromarray(image).resize((columns * patch, rows * patch), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).to(self._device).float() / 255
        pixels = (pixels - torch.tensor(self._mean, device=self._device)) / torch.tensor(self._std, device=self._device)
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            tokens = self._model(pixels.permute(2, 0, 1)[None]).last_hidden_state[0, self._first :]
        grid = functional.normalize(tokens.float(), dim=-1).reshape(rows, columns, -1)
        return np.ascontiguousarray(grid.cpu().numpy())
