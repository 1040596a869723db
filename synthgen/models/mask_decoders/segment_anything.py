"""Segment Anything (Kirillov et al., ICCV 2023) through the authors' package `segment_anything`: boxes to masks.

    mask_decoder: {name: segment_anything}                                                the mini that ships
    mask_decoder: {name: segment_anything, model: ./sam_vit_h_4b8939.pth, kind: vit_h}    an official checkpoint
    mask_decoder: {name: segment_anything, model: "hf-hub:owner/repository/sam_vit_h_4b8939.pth"}

A model folder holds `config.json` and `model.safetensors`; the network itself is `segkit.networks.sam`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from segkit.networks.sam import SamDecoder, read_sam
from synthgen.backends import Cost
from synthgen.errors import ModelError
from synthgen.models.costs import sam_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import HUB_PREFIX, MINI_PREFIX, loading, resolve


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field(
        "mini/sam", description="a model folder, an official checkpoint file, or hf-hub:owner/repository[/file.pth]"
    )
    kind: Literal["", "vit_h", "vit_l", "vit_b"] = Field(
        "", description="of a checkpoint file; empty = as its name says"
    )
    multimask: bool = Field(
        False, description="decode three masks a box and keep the one of the highest predicted IoU [guess: off]"
    )


def load_sam(model: str, kind: str = "") -> Any:
    """A `Sam` in float32 on the CPU, frozen, in evaluation mode. `model` and `kind` as in Options.

    Raises ModelError if the weights are missing, or are not those of a SAM of this shape.
    """
    path = _on_hub(model) if model.startswith(HUB_PREFIX) else resolve(model)
    if isinstance(path, str):
        path = _on_hub(HUB_PREFIX + path)
    return read_sam(path, kind)


def build(options: Options, execution: Any) -> SegmentAnything:
    return SegmentAnything(load_sam(options.model, options.kind), options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image encoder; the decoder costs little beside it."""
    return sam_cost(options.model, options.kind)


def trained_on(options: Options) -> str:
    """The mini has seen the drawn worlds alone; what others have seen is theirs to say."""
    return "drawings" if options.model.startswith(MINI_PREFIX) else ""


class SegmentAnything(SamDecoder):
    """With the device and the precision of the recipe."""

    def __init__(self, sam: Any, options: Options, execution: Any) -> None:
        device = torch_device(execution)
        super().__init__(sam, device, torch_dtype(execution, device), options.multimask)
        self.id = f"segment_anything:{options.model}"


def _on_hub(model: str) -> Path:
    """Download `hf-hub:owner/repository` (config.json and model.safetensors) or one file of it."""
    from huggingface_hub import hf_hub_download

    parts = model.removeprefix(HUB_PREFIX).split("/", 2)
    if len(parts) < 2:
        raise ModelError(f"model {model!r}: a Hub id is owner/name")
    repository = "/".join(parts[:2])
    revision = pinned_revision(HUB_PREFIX + repository)["revision"]
    with loading(model):
        if len(parts) == 3:
            return Path(hf_hub_download(repository, parts[2], revision=revision))
        hf_hub_download(repository, "config.json", revision=revision)
        return Path(hf_hub_download(repository, "model.safetensors", revision=revision)).parent
