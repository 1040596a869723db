"""SigLIP (Zhai et al., 2023), SigLIP 2 (Tschannen et al., 2025) and CLIP as transformers has them.

    scorer: {name: dual_encoder}                                            SigLIP 2 base, Apache-2.0, not gated
    scorer: {name: dual_encoder, model: openai/clip-vit-large-patch14}

The two towers meet in one space; a score is a cosine. SigLIP's cosines are small (0.05 to 0.2 for a good pair), so a
threshold of CLIP's is none for it; ranks of classes need no threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost, Licence
from synthgen.models.costs import dual_encoder_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.licences import APACHE
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network, model_config

_KINDS = ("siglip", "clip")  # SigLIP 2 of a fixed size has SigLIP's architecture, and says so


class Options(BaseModel):
    """Which model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("google/siglip2-base-patch16-256", description="Hub id or local folder in transformers' layout")
    revision: str = Field("", description="Hub revision; empty = main")


def build(options: Options, execution: Any) -> DualEncoder:
    """Load both towers."""
    return DualEncoder(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image tower, if the model is listed or local."""
    return dual_encoder_cost(options.model)


def licences(options: Options) -> dict[str, Licence]:
    """Google publishes SigLIP and SigLIP 2 under Apache-2.0."""
    return {options.model: APACHE} if options.model.lower().startswith("google/siglip") else {}


class DualEncoder:
    """Embeds items one by one: rounding may follow a batch's size, and the batch size must not change a score."""

    def __init__(self, options: Options, execution: Any) -> None:
        import torch
        from transformers import AutoModel, AutoProcessor

        place, revision = resolve(options.model), pinned_revision(options.model, options.revision)
        way_out = (
            "SigLIP 2 of a fixed size is `siglip`, NaFlex is not read; models of open_clip go to "
            "filter.scorer.name=open_clip"
        )
        kind = model_config(options.model, place, revision, _KINDS, way_out).model_type
        self._torch = torch
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        model = load_network(AutoModel, options.model, place, "", torch.float32, revision)
        self._model = model.requires_grad_(False).to(self._device)
        with loading(options.model):
            self._processor = AutoProcessor.from_pretrained(place, **revision)
        # SigLIP was trained with texts padded to its context, in lower case; CLIP with texts as they are
        self._is_siglip, self._length = kind == "siglip", int(model.config.text_config.max_position_embeddings)
        sizes = model.config if hasattr(model.config, "projection_dim") else model.config.vision_config
        self._width = int(getattr(sizes, "projection_dim", 0) or sizes.hidden_size)
        self.id = f"dual_encoder:{options.model}@{revision_of(options.model, options.revision)}"

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        from PIL import Image

        inputs = (self._processor(images=Image.fromarray(image), return_tensors="pt") for image in images)
        return self._embed(self._model.get_image_features, ({"pixel_values": i["pixel_values"]} for i in inputs))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts beyond the model's context are cut."""
        names = ("input_ids",) if self._is_siglip else ("input_ids", "attention_mask")
        inputs = (
            self._processor(
                text=[text.lower() if self._is_siglip else text],
                padding="max_length" if self._is_siglip else False,
                max_length=self._length,
                truncation=True,
                return_tensors="pt",
            )
            for text in texts
        )
        return self._embed(self._model.get_text_features, ({name: i[name] for name in names} for i in inputs))

    def _embed(self, encode: Callable[..., Any], inputs: Iterable[dict[str, Any]]) -> np.ndarray:
        torch, rows = self._torch, []
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            for given in inputs:
                found = encode(**{name: value.to(self._device) for name, value in given.items()})
                vector = getattr(found, "pooler_output", found)[0].float()
                rows.append(torch.nn.functional.normalize(vector, dim=-1).cpu().numpy())
        return np.stack(rows) if rows else np.zeros((0, self._width), np.float32)
