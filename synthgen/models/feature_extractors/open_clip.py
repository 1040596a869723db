"""Dense features of a CLIP vision transformer through open_clip:

what each patch shows, in the space that CLIP shares with text.

The last layer's attention gathers the whole image into every token and so blurs patches. MaskCLIP (Zhou et al., ECCV
2022, sec. 3.2) takes each token's value instead of the attended mean; `tokens: value` does so, `tokens: plain` leaves
the layer as it is.

A model is a folder with `open_clip_config.json` and `open_clip_model.safetensors` (mini/clip is one) or a Hub id of the
same layout.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost
from synthgen.errors import ModelError
from synthgen.models.costs import clip_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.downloads import telling_downloads
from synthgen.models.feature_extractors.segment_anything import grid_of
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import HUB_ERRORS, hub_error, resolve

_SAFE, _PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("mini/clip", description="a folder of open_clip's Hub layout, or a Hub id")
    tokens: Literal["value", "plain"] = Field(
        "value", description="how the last layer treats patches: MaskCLIP's values, or attention as trained"
    )
    layer: int = Field(
        0,
        le=0,
        description="take the tokens so many layers before the last (0, -1, ...); only layer 0 is projected to "
        "CLIP's space",
    )
    longest_side_px: int = Field(
        0, ge=0, le=4096, description="of the resized image; 0 = the size that the model was trained with"
    )


def load_clip(model: str, execution: Any) -> tuple[Any, Any, Any]:
    """(open_clip model in float32, frozen, on the device; its preprocessing for PIL images; its tokenizer).

    Raises ModelError if the weights are missing or of another kind: a model without weights is never used.
    """
    import open_clip

    path = resolve(model)
    if isinstance(path, Path) and not (path / "open_clip_config.json").is_file():
        raise ModelError(
            f"{path}: is no open_clip folder; it needs open_clip_config.json and open_clip_model.safetensors"
        )
    try:
        if not isinstance(path, Path):
            with telling_downloads(path):
                path = _snapshot(path, model)
        name = f"local-dir:{path}"
        clip, preprocess = open_clip.create_model_from_pretrained(
            name, precision="fp32", device=torch_device(execution)
        )
        tokenizer = open_clip.get_tokenizer(name, **_tokenizer_file(path))
    except (*HUB_ERRORS, KeyError, TypeError, AttributeError) as error:
        raise hub_error(model, error) from error
    return clip.eval().requires_grad_(False), preprocess, tokenizer


def _snapshot(repository: str, model: str) -> Path:
    """The folder of the pinned commit: open_clip itself knows no revisions. Weights as safetensors where there are."""
    from huggingface_hub import snapshot_download

    revision = pinned_revision(model)["revision"]
    kinds = ["*.json", "*.txt", "*.model"]
    folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[*kinds, _SAFE]))
    if not any((folder / name).is_file() for name in (_SAFE, _PICKLED)):
        snapshot_download(repository, revision=revision, allow_patterns=[*kinds, _PICKLED])
    return folder


def build(options: Options, execution: Any) -> ClipFeatures:
    clip, preprocess, _ = load_clip(options.model, execution)
    return ClipFeatures(clip, preprocess, options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image tower."""
    return clip_cost(options.model)


class ClipFeatures:
    """(h, w, D) patch tokens after CLIP's final norm and projection.

    Raises ModelError for a vision tower that is no plain ViT.
    """

    def __init__(self, clip: Any, preprocess: Any, options: Options, execution: Any) -> None:
        from open_clip.transformer import VisionTransformer

        visual = clip.visual
        if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
            kind = type(visual).__name__
            raise ModelError(
                f"model {options.model!r}: dense features need open_clip's own ViT without attention pooling, "
                f"this is a {kind}"
            )
        depth = len(visual.transformer.resblocks)
        if -options.layer >= depth:
            raise ModelError(f"model {options.model!r}: layer {options.layer} does not exist; use {1 - depth}..0")
        self._visual = visual
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        self._options = options
        self._mean, self._std = _normalisation(preprocess)
        side_px = options.longest_side_px or max(visual.image_size)
        self.id = f"open_clip:{options.model}:{options.tokens}{options.layer or ''}@{side_px}"

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        # One by one: rounding may follow the batch's size, and batch_size must not change a pixel.
        return [self._features(image) for image in images]

    def _features(self, image: np.ndarray) -> np.ndarray:
        import torch
        from PIL import Image
        from torch.nn import functional

        visual = self._visual
        patch_px = visual.patch_size[0]
        longest_px = self._options.longest_side_px or max(visual.image_size)
        rows, columns = grid_of((image.shape[0], image.shape[1]), max(1, longest_px // patch_px))
        resized = Image.fromarray(image).resize((columns * patch_px, rows * patch_px), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).to(self._device).float() / 255
        pixels = (pixels - torch.tensor(self._mean, device=self._device)) / torch.tensor(self._std, device=self._device)
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            tokens = _tokens(visual, pixels.permute(2, 0, 1)[None], (rows, columns), self._options)[0]
            grid = functional.normalize(tokens.float(), dim=-1).reshape(rows, columns, -1)
        return np.ascontiguousarray(grid.cpu().numpy())


def _tokens(visual: Any, pixels: Any, grid: tuple[int, int], options: Options) -> Any:
    """(1, h * w, D) patch tokens of (1, 3, H, W) pixels."""
    import torch

    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(x.dtype).expand(1, 1, -1)
    x = torch.cat([first, x], dim=1) + _positions(visual, grid).to(x.dtype)
    x = visual.ln_pre(x)
    *blocks, last = list(visual.transformer.resblocks)[: len(visual.transformer.resblocks) + options.layer]
    for block in blocks:
        x = block(x)
    x = _value_tokens(last, x) if options.tokens == "value" else last(x)
    x = visual.ln_post(x[:, 1:])
    return x @ visual.proj if options.layer == 0 and visual.proj is not None else x


def _value_tokens(block: Any, x: Any) -> Any:
    """A transformer block whose attention is the identity: each token keeps its own value (MaskCLIP)."""
    from torch.nn import functional

    width = x.shape[-1]
    weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias
    value = functional.linear(block.ln_1(x), weight, None if bias is None else bias[2 * width :])
    x = x + block.ls_1(block.attn.out_proj(value))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _positions(visual: Any, grid: tuple[int, int]) -> Any:
    """(1 + h * w, width) position embeddings, resized bicubically if the grid is not the trained one."""
    import torch
    from torch.nn import functional

    positions = visual.positional_embedding
    if grid == tuple(visual.grid_size):
        return positions
    rows, columns = visual.grid_size
    patches = positions[1:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(patches, grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:1].float(), resized.flatten(2).transpose(1, 2)[0]])


def _normalisation(preprocess: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of open_clip's own preprocessing."""
    last = preprocess.transforms[-1]
    return list(last.mean), list(last.std)


def _tokenizer_file(path: Path | str) -> dict[str, str]:
    """A `bpe_path` of a model folder may be relative to it; open_clip takes it as relative to the working directory."""
    if isinstance(path, str):
        return {}
    try:
        config = json.loads((path / "open_clip_config.json").read_text(encoding="utf-8"))
        name = config["model_cfg"]["text_cfg"].get("tokenizer_kwargs", {}).get("bpe_path", "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path / 'open_clip_config.json'}: is no config of open_clip ({type(error).__name__}: {error})"
        ) from error
    return {"bpe_path": str(path / name)} if name else {}
