"""The section `adapt` of a recipe: how a generator learns to follow the label maps of a labelled folder.

DGInStyle's recipe (Jia et al., ECCV 2024) for models of the SD3 kind. Tags in descriptions as in synthgen/settings.py;
[script] is diffusers' own training script for SD3 and its page.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthgen.settings import Fraction, Section

LORA_TARGETS = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
)  # fmt: skip
"""The attention of SD3's blocks as diffusers' own LoRA training names it; `attn2` of SD3.5-Medium is not among them."""


class LabelledSet(Section):
    """What is learnt from."""

    folder: str = Field("", description="labelled folder, or of `source`; empty = prompts.source.folder")
    source: str = Field("folder", description="what it holds: folder, or a public dataset of `synthgen sources`")
    split: str = Field("", description="split of a public dataset; empty = its first")
    limit: int = Field(0, ge=0, description="use so many of its images, chosen by the run seed; 0 = all")


class Crops(Section):
    """Windows of the labelled images, of the size of `render`. They are cut and encoded once."""

    per_image: int = Field(4, ge=1, le=1000, description="windows of an image [ours; DGInStyle cuts a new one a step]")
    window: tuple[Fraction, Fraction] = Field(
        (0.5, 1.0), description="range of a window's side, as a share of the largest one that fits [ours]"
    )
    temperature: float = Field(
        0.01, gt=0, description="T of rare class sampling, P(c) = softmax((1 - f_c) / T) [code: DAFormer, DGInStyle]"
    )
    min_share: Fraction = Field(
        0.011,
        description="a crop serves for a class that covers this share of it [ours; code: 3,000 px of the picture]",
    )
    flip: bool = Field(False, description="mirror every other window; wrong where text or the side of a road matters")


class Captions(Section):
    """What is said of a crop: the names of the classes that it shows."""

    sentence: str = Field("{things}", description="{things} = the names [code: nothing but the names]")
    min_share: Fraction = Field(
        0.01, description="a class is named if it covers this share of the crop [ours; code: any]"
    )
    unnamed: tuple[str, ...] = Field((), description="classes that go without saying")


class Training(Section):
    """One training: of the LoRA, or of the ControlNet."""

    steps: int = Field(15_000, ge=1, description="[script: 15k of 4; DGInStyle's code: 100 epochs of 8]")
    batch_size: int = Field(4, ge=1, description="samples a step and process")
    accumulate: int = Field(1, ge=1, le=1024, description="batches whose gradients make one step")
    learning_rate: float = Field(1e-5, gt=0, lt=1, description="[code: DGInStyle's ControlNet 1e-5]")
    warmup_steps: int = Field(500, ge=1, description="linear; then constant for the share `flat` [ours]")
    flat: Fraction = Field(1.0, description="share of the steps before the rate falls to zero; 1 = it never falls")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW [script]")
    clip: float = Field(1.0, gt=0, description="norm to which gradients are cut [script]")
    empty: Fraction = Field(
        0.3,
        description="share of windows without a caption: classifier-free guidance also carries the map [ours; code: 0]",
    )
    ema: Fraction = Field(0.0, description="decay of averaged weights, which are then what is saved; 0 = none [script]")
    uniform: Fraction = Field(0.0, description="share of uniform noise levels; the rest is logit-normal(0, 1) [script]")
    weighting: Literal["sigma", "none"] = Field(
        "sigma", description="sigma: error of the picture, sigma^2 |v - v'|^2 [script]; none: of the velocity [SD3]"
    )


class Lora(Training):
    """U_S: the look of the labelled pictures, as a low-rank change of the denoiser. `steps: 0` leaves it out."""

    steps: int = Field(2_000, ge=0, description="[ours; DGInStyle trains the whole denoiser for 30k steps at 2e-6]")
    learning_rate: float = Field(1e-4, gt=0, lt=1, description="[script]")
    empty: Fraction = Field(1.0, description="[code: DGInStyle's look is learnt without captions]")
    rank: int = Field(16, ge=1, le=1024, description="[ours; script 4]")
    alpha: int = Field(16, ge=1, le=1024, description="scale is alpha / rank [ours: 1]")
    targets: tuple[str, ...] = Field(LORA_TARGETS, min_length=1, description="layers, as peft names them [script]")


class ControlNet(Training):
    """The network that carries the label map, trained beside the frozen, adapted denoiser."""

    layers: int = Field(0, ge=0, description="blocks, copies of the denoiser's first; 0 = half of its [published: 12]")
    lora_rank: int = Field(
        0, ge=0, le=1024, description="train its blocks by low-rank changes of this rank, merged when saved; 0 = whole"
    )


class Adapt(Section):
    """`synthgen adapt`: base, size and label space are those of `render.renderer`, `render` and `labels`."""

    data: LabelledSet = LabelledSet()
    control: Literal["palette", "onehot"] = Field(
        "palette", description="palette runs in every stock pipeline; onehot (DGInStyle) with synthgen only"
    )
    crops: Crops = Crops()
    captions: Captions = Captions()
    lora: Lora = Lora.model_validate({})
    controlnet: ControlNet = ControlNet.model_validate({})
    gradient_checkpointing: bool = Field(False, description="compute activations twice and keep them once")
    eight_bit_adam: bool = Field(False, description="AdamW of bitsandbytes: 2 bytes a weight in place of 8; CUDA only")
    save_dtype: Literal["float16", "bfloat16", "float32"] = Field("bfloat16", description="of the ControlNet on disk")
    samples_every: Annotated[int, Field(ge=0)] = Field(500, description="steps between two sample grids; 0 = none")
    samples_steps: int = Field(20, ge=1, le=1000, description="denoiser steps of a sample grid")
    samples_guidance: float = Field(4.5, ge=0, le=30, description="guidance of a sample grid")
    checkpoint_s: float = Field(600.0, ge=0, description="seconds between two checkpoints, the most that a kill loses")

    @model_validator(mode="after")
    def _window_in_order(self) -> Adapt:
        low, high = self.crops.window
        if not 0 < low <= high:
            raise ValueError(f"crops.window {[low, high]}: give [smallest, largest], above 0")
        try:
            self.captions.sentence.format(things="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"captions.sentence {self.captions.sentence!r}: {{things}} is the only slot that it can have"
            ) from error
        return self
