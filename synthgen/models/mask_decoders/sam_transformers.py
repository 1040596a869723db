"""Segment Anything and Segment Anything 2 / 2.1 as transformers has them: by Hub id, without a file to be fetched by
hand.

    mask_decoder: {name: sam_transformers, model: facebook/sam2.1-hiera-large}    SAM 2.1, Apache-2.0, not gated
    mask_decoder: {name: sam_transformers, model: facebook/sam-vit-huge}          SAM ViT-H (Kirillov et al., ICCV 2023)

The weights of `segment_anything` (sam_vit_h_4b8939.pth) are the same network as facebook/sam-vit-huge; the backend
`segment_anything` reads that file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from segkit.networks.sam import CHUNK, MaskPrompts
from synthgen.backends import Cost, Licence
from synthgen.models.costs import sam_transformers_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.licences import APACHE
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network, model_config


class Options(BaseModel):
    """Which SAM."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("facebook/sam2.1-hiera-large", description="Hub id or local folder in transformers' layout")
    revision: str = Field("", description="Hub revision; empty = main")
    multimask: bool = Field(
        False, description="decode three masks a box and keep the one of the highest predicted IoU [guess: off]"
    )


def build(options: Options, execution: Any) -> SamTransformers:
    """Load the network and its image processor."""
    return SamTransformers(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image encoder; the decoder costs little beside it."""
    return sam_transformers_cost(options.model)


def licences(options: Options) -> dict[str, Licence]:
    """Meta publishes SAM and SAM 2 under Apache-2.0."""
    return {options.model: APACHE} if options.model.lower().startswith("facebook/sam") else {}


class SamTransformers:
    """Each image is encoded once, alone; its prompts are decoded CHUNK at a time."""

    def __init__(self, options: Options, execution: Any) -> None:
        import torch
        from transformers import Sam2Model, Sam2Processor, SamModel, SamProcessor

        place, revision = resolve(options.model), pinned_revision(options.model, options.revision)
        # Meta's SAM 2 repositories hold the video model, of which the image model is a part
        kinds = {"sam": (SamModel, SamProcessor), "sam2": (Sam2Model, Sam2Processor)}
        kinds["sam2_video"] = kinds["sam2"]
        way_out = (
            "a checkpoint of the package segment_anything goes to refine.mask_decoder.name=segment_anything, SAM 3 to "
            "refine.proposer.name=sam3"
        )
        kind = model_config(options.model, place, revision, kinds, way_out).model_type
        network, processor = kinds[kind]
        self._torch, self._options = torch, options
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        model = load_network(network, options.model, place, "", torch.float32, revision)
        self._model = model.requires_grad_(False).to(self._device)
        with loading(options.model):
            self._processor = processor.from_pretrained(place, **revision)
        self.id = f"sam_transformers:{options.model}@{revision_of(options.model, options.revision)}"

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each image (H, W, 3) uint8 and its N prompts ((N, H, W) bool masks, (N,) float32 predicted IoU 0..1)."""
        return [self._decode(image, asked) for image, asked in zip(images, prompts, strict=True)]

    def _decode(self, image: np.ndarray, prompts: MaskPrompts) -> tuple[np.ndarray, np.ndarray]:
        torch = self._torch
        height, width = image.shape[:2]
        masks, ious = np.zeros((len(prompts), height, width), bool), np.zeros(len(prompts), np.float32)
        if not len(prompts):
            return masks, ious
        inputs = self._processor(images=np.array(image), return_tensors="pt", **_nested(prompts))
        with torch.inference_mode():
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
                encoded = self._model.get_image_embeddings(inputs["pixel_values"].to(self._device))
            # The decoder costs little, and half-precision coordinates would move its boxes: it always runs in float32.
            is_list = isinstance(encoded, list)
            encoded = [level.float() for level in encoded] if is_list else encoded.float()
            for start in range(0, len(prompts), CHUNK):
                part = slice(start, start + CHUNK)
                asked = {
                    name: inputs[name][:, part].to(self._device, torch.int if name == "input_labels" else torch.float32)
                    for name in ("input_boxes", "input_points", "input_labels")
                    if name in inputs
                }
                found = self._model(image_embeddings=encoded, multimask_output=self._options.multimask, **asked)
                masks[part], ious[part] = self._best(found, inputs)
        return masks, ious

    def _best(self, found: Any, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """(n, H, W) bool and (n,): of each prompt the mask with the highest predicted IoU."""
        scores = found.iou_scores[0].float().clamp(0, 1).cpu().numpy()
        best, row = scores.argmax(axis=1), np.arange(len(scores))
        chosen = found.pred_masks[:, self._torch.as_tensor(row), self._torch.as_tensor(best)][:, None]
        sizes = {name: inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs}
        whole = self._processor.post_process_masks(chosen.transpose(1, 2).float().cpu(), **sizes)[0]
        return whole[:, 0].numpy(), scores[row, best]


def _nested(prompts: MaskPrompts) -> dict[str, Any]:
    """As the processors of transformers want prompts: lists over images, objects and points."""
    asked: dict[str, Any] = {}
    if prompts.boxes is not None:
        asked["input_boxes"] = [np.asarray(prompts.boxes, float).tolist()]
    if prompts.points is not None:
        points = np.asarray(prompts.points, float)
        on = np.ones(points.shape[:2], int) if prompts.point_labels is None else np.asarray(prompts.point_labels, int)
        asked |= {"input_points": [points.tolist()], "input_labels": [on.tolist()]}
    return asked
