"""Segment Anything (Kirillov et al., ICCV 2023) through the authors' package `segment_anything`: prompts to masks.

Its weights are a model folder with `config.json` (see MINI) and `model.safetensors`, or an official checkpoint file.
The classes are the same for both. torch is imported in the functions: importing this is for planning too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit.documents import read_json
from segkit.errors import ModelError
from segkit.printable import excerpt

if TYPE_CHECKING:
    import torch

MINI: dict[str, Any] = {
    "image_size": 128,
    "patch_size": 8,
    "encoder_dim": 96,
    "encoder_depth": 4,
    "encoder_heads": 4,
    "window_size": 8,
    "global_attention": [1, 3],
    "prompt_dim": 64,
    "decoder_depth": 2,
    "decoder_heads": 4,
    "decoder_mlp": 256,
    "iou_hidden": 256,
}
"""The configuration of mini/sam; every key of `config.json`, with its default."""

CHUNK = 32  # prompts that are decoded at once
_KIND = re.compile(r"vit_[hlb]")
_SAM2 = re.compile(r"sam2(\.1)?_")  # as Meta names the files


@dataclasses.dataclass(frozen=True, slots=True)
class MaskPrompts:
    """What a mask decoder is asked about in one image: N objects, each by a box, by points, or by both.

    Raises ValueError if the parts are not about the same N objects, or if there is neither.
    """

    boxes: np.ndarray | None = None  # (N, 4) float32 XYXY pixels
    points: np.ndarray | None = None  # (N, P, 2) float32 (x, y) pixels
    point_labels: np.ndarray | None = None  # (N, P) int: 1 = on the object, 0 = beside it; None = all on it

    def __post_init__(self) -> None:
        counts = {len(part) for part in (self.boxes, self.points, self.point_labels) if part is not None}
        if len(counts) != 1 or (self.boxes is None and self.points is None):
            raise ValueError("mask prompts need boxes or points, one for each object")

    def __len__(self) -> int:
        given = self.boxes if self.boxes is not None else self.points
        assert given is not None
        return len(given)


def construct(config: dict[str, Any]) -> Any:
    """A `segment_anything.modeling.Sam` with random weights, in evaluation mode.

    Keys missing in `config` have the values of MINI.

    Raises ModelError for an unknown key or sizes that do not fit together.
    """
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    unknown = sorted(set(config) - set(MINI))
    if unknown:
        raise ModelError(f"SAM config: no such key: {', '.join(unknown)}; its keys are: {', '.join(MINI)}")
    c = {**MINI, **config}
    for whole, part in (
        ("image_size", "patch_size"),
        ("encoder_dim", "encoder_heads"),
        ("prompt_dim", "decoder_heads"),
    ):
        if c[whole] % c[part]:
            raise ModelError(f"SAM config: {whole} {c[whole]} is not a multiple of {part} {c[part]}")
    if c["prompt_dim"] % 8 or c["prompt_dim"] // 2 % c["decoder_heads"]:
        raise ModelError(f"SAM config: prompt_dim {c['prompt_dim']} must be a multiple of 8 and of twice decoder_heads")
    grid = c["image_size"] // c["patch_size"]
    encoder = ImageEncoderViT(
        img_size=c["image_size"],
        patch_size=c["patch_size"],
        embed_dim=c["encoder_dim"],
        depth=c["encoder_depth"],
        num_heads=c["encoder_heads"],
        out_chans=c["prompt_dim"],
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=c["window_size"],
        global_attn_indexes=tuple(c["global_attention"]),
    )
    prompts = PromptEncoder(
        embed_dim=c["prompt_dim"],
        image_embedding_size=(grid, grid),
        input_image_size=(c["image_size"], c["image_size"]),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(
            depth=c["decoder_depth"],
            embedding_dim=c["prompt_dim"],
            num_heads=c["decoder_heads"],
            mlp_dim=c["decoder_mlp"],
        ),
        transformer_dim=c["prompt_dim"],
        iou_head_hidden_dim=c["iou_hidden"],
    )
    return Sam(encoder, prompts, decoder).eval()


def read_sam(path: Path, kind: str = "") -> Any:
    """A `Sam` in float32 on the CPU, frozen, in evaluation mode, of a model folder or of an official checkpoint file.

    `kind` (vit_h, vit_l, vit_b) is that of a file; empty = as its name says. Raises ModelError if there is nothing, or
    if it is not a SAM of this shape.
    """
    sam = _from_folder(path) if path.is_dir() else _from_checkpoint(path, kind)
    return sam.float().eval().requires_grad_(False)


class SamDecoder:
    """`SamPredictor`: each image is encoded once, its prompts are decoded CHUNK at a time. Images do not share a batch.

    A chunk bounds the memory: 200 masks of 1024 x 2048 pixels are 1.7 GB of logits at once, 32 are 0.27 GB.
    """

    def __init__(self, sam: Any, device: torch.device, dtype: torch.dtype, multimask: bool) -> None:
        """`multimask` = decode three masks a prompt and keep the one of the highest predicted IoU; `dtype` is that of
        the image encoder."""
        from segment_anything import SamPredictor

        self._device, self._dtype, self._multimask = device, dtype, multimask
        self._predictor = SamPredictor(sam.to(device))

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each image (H, W, 3) uint8 and its N prompts ((N, H, W) bool masks, (N,) float32 predicted IoU 0..1)."""
        return [self._decode(image, asked) for image, asked in zip(images, prompts, strict=True)]

    def _decode(self, image: np.ndarray, prompts: MaskPrompts) -> tuple[np.ndarray, np.ndarray]:
        import torch

        height, width = image.shape[:2]
        masks, ious = np.zeros((len(prompts), height, width), bool), np.zeros(len(prompts), np.float32)
        scale = self._predictor.transform.target_length / max(height, width)
        if not len(prompts) or int(min(height, width) * scale + 0.5) < 1:
            return masks, ious  # nothing asked, or an image so flat that SAM's own resizing leaves no row of it
        half = self._dtype != torch.float32
        with torch.inference_mode():
            with torch.autocast(self._device.type, self._dtype, enabled=half):
                self._predictor.set_image(np.array(image))
            # The decoder costs little, and half-precision coordinates would move its boxes: it always runs in float32.
            self._predictor.features = self._predictor.features.float()
            boxes, points, labels = self._tensors(prompts, (height, width))
            for start in range(0, len(prompts), CHUNK):
                part = slice(start, start + CHUNK)
                masks[part], ious[part] = self._best(
                    *(None if tensor is None else tensor[part] for tensor in (points, labels, boxes))
                )
            self._predictor.reset_image()
        return masks, ious

    def _tensors(self, prompts: MaskPrompts, size: tuple[int, int]) -> tuple[Any, Any, Any]:
        """Boxes, points and their labels in the frame of SAM's resized image; None for what is not given."""
        import torch

        transform = self._predictor.transform
        boxes = points = labels = None
        if prompts.boxes is not None:
            boxes = torch.as_tensor(
                transform.apply_boxes(np.asarray(prompts.boxes, np.float32), size), dtype=torch.float32
            ).to(self._device)
        if prompts.points is not None:
            given = np.asarray(prompts.points, np.float32)
            points = torch.as_tensor(transform.apply_coords(given, size), dtype=torch.float32).to(self._device)
            on = np.ones(given.shape[:2]) if prompts.point_labels is None else prompts.point_labels
            labels = torch.as_tensor(np.asarray(on), dtype=torch.int).to(self._device)
        return boxes, points, labels

    def _best(self, points: Any, labels: Any, boxes: Any) -> tuple[np.ndarray, np.ndarray]:
        """(n, H, W) bool and (n,): of each prompt the mask with the highest predicted IoU."""
        import torch

        masks, ious, _ = self._predictor.predict_torch(points, labels, boxes, multimask_output=self._multimask)
        scores = ious.float().clamp(0, 1).cpu().numpy()
        best, row = scores.argmax(axis=1), np.arange(len(scores))
        return masks[torch.as_tensor(row), torch.as_tensor(best)].cpu().numpy(), scores[row, best]


def _from_folder(folder: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if not (folder / "config.json").is_file():
            raise FileNotFoundError("config.json")
        config = read_json(folder / "config.json", ModelError)
        if not isinstance(config, dict):
            raise TypeError("config.json holds no mapping")
        if "model_type" in config:
            raise ModelError(
                f"{folder}: is a {excerpt(config['model_type'], 60)} in transformers' layout, not in that of "
                "segment_anything; synthgen reads it with refine.mask_decoder.name=sam_transformers"
            )
        sam = construct(config)
        sam.load_state_dict(load_file(folder / "model.safetensors"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: is no SAM folder; it needs config.json and model.safetensors") from error
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: config.json and model.safetensors do not give a SAM: {_first_line(error)}"
        ) from error
    return sam


def _from_checkpoint(path: Path, kind: str) -> Any:
    import pickle

    import torch
    from segment_anything import sam_model_registry

    if _SAM2.match(path.name):
        raise ModelError(
            f"{path}: is a checkpoint of SAM 2, which this one does not read; synthgen has it as refine.mask_decoder="
            "{name: sam_transformers, model: facebook/sam2.1-hiera-large}"
        )
    named = _KIND.search(path.name)
    kind = kind or (named.group() if named else "")
    if not kind:
        raise ModelError(f"{path}: its name does not say which SAM it is; set kind to vit_h, vit_l or vit_b")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        sam = sam_model_registry[kind]()
        sam.load_state_dict(state)
    except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: is not a checkpoint of SAM {kind}: {_first_line(error)}") from error
    return sam


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # load_state_dict says what is wrong on its second line.
    return (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__)[:200]
