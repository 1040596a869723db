"""Settings of `segtrain multi-shift`.

Tags in descriptions: [paper], [code] read in MultiShiftSeg's paper or released code (pixel model if the mask model is
not named), [guess] a guess about it, [ours] chosen here.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from segtrain.config import LoopConfig

Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclasses.dataclass(frozen=True, slots=True)
class Stage2:
    """What stage 2 has by default, of the pixel model and of the mask model, and where it begins [code]."""

    learning_rate: float
    weight_decay: float
    original_weight: float
    clip: float | None  # largest norm of the gradient
    stage1_share: float  # of the steps, before it


PIXEL_MODEL = Stage2(1e-6, 1e-4, 50.0, None, 9 / 50)
MASK_MODEL = Stage2(1e-5, 0.05, 20.0, 0.01, 4 / 50)


class Config(LoopConfig):
    """Teach a trained segmenter to tell unknown objects from bad weather, on pairs; a killed training is continued.

    segtrain multi-shift --data runs/cgaug/dataset --base model --out model2
    """

    data: tuple[str, ...] = Field(
        min_length=1,
        max_length=255,
        description="a finished dataset of pairs (orig.jpg, orig.png), or a folder of pairs (orig_images/, "
        "orig_labels/ beside images/, labels/); repeat it for more variants of the same originals",
    )
    base: Path = Field(
        description="folder of the model to begin with, as `segtrain train` writes it; or of a Mask2Former, as "
        "save_pretrained of transformers writes it"
    )
    objects: tuple[str, ...] = Field(
        (),
        description="dataset or labelled folder whose objects AnomalyMix pastes into the originals; default: the "
        "unknown objects (254) of --data [code: COCO; ours]",
    )
    object_classes: tuple[str, ...] = Field(
        (),
        description="classes of --objects that are objects; default: those that the base model does not know [code: "
        "pictures without street classes; ours: by name]",
    )
    min_object_px: int = Field(
        32, ge=1, description="pixels of an object at the least, in its source and as it is pasted [guess]"
    )
    anomaly_mix: Fraction = Field(1.0, description="share of the originals with a pasted object, 0 = none [code: 1]")
    object_scale_min: float = Field(
        0.1, ge=0.1, le=2, description="size of a pasted object, at the least; none is below --min-object-px [code]"
    )
    object_scale_max: float = Field(1.0, ge=0.1, le=2, description="at the most, in steps of 0.1 [code]")
    most_original: Fraction = Field(
        0.3, description="share p of its original in an augmented picture: min(U(0, 1), this); 0 = none [code: 0.3]"
    )
    contrast: Literal["relative", "pooled", "originals"] = Field(
        "relative",
        description="relative = the three hinges [paper, eq. 4]; pooled = known pixels of both pictures as one kind "
        "(the loss before, on pairs); originals = the same without the augmented pictures [ours: baselines]",
    )
    margins: str = Field(
        "auto",
        description="l1,l2,l3 with l1 = l2 + l3 [paper: 10,5,5 for DeepLabV3+]; auto = measured on pasted objects "
        "before the first step [paper: the principle; ours: bounds]",
    )
    margin_batches: int = Field(8, ge=1, description="batches that `--margins auto` looks at [guess]")
    relative_weight: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="weight of the third hinge; 0 = without it [paper: 1]"
    )
    learn_head: bool = Field(
        True, description="no = the uncertainty stays the energy of the classifier, needs --stage1-share 0 [paper: yes]"
    )
    keep: float = Field(
        0.8,
        gt=0,
        le=1,
        description="share of the augmented pixels, those of smallest loss, that are learnt from [paper: 0.8]; of the "
        "mask model's points [code: 0.76]; 1 = all",
    )
    original_weight: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="weight of the originals' cross-entropy in stage 2, of the mask model's mask and dice losses; "
        "default: 50, mask model 20 [code]",
    )
    augmented_weight: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="that of the augmented pictures [code: 10, mask model too]"
    )
    class_weight: float = Field(
        5.0, ge=0, allow_inf_nan=False, description="mask model: weight of its class losses in stage 2 [code: 5]"
    )
    mask_points: int = Field(
        12_544, ge=16, description="mask model: points of each mask that are learnt from [code: 12544]"
    )
    stage1_share: Fraction | None = Field(
        None,
        description="share of the steps that learn the uncertainty head alone; default: 0.18, mask model 0.08 [code: 9 "
        "and 4 of 50 epochs]",
    )
    stage2_learning_rate: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="peak learning rate of stage 2; default: 1e-6, mask model 1e-5 [code]",
    )
    stage2_weight_decay: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="weight decay of stage 2; default: 1e-4, mask model 0.05 [code, with Adam]",
    )
    freeze: tuple[str, ...] = Field(
        (),
        description="parts of the decoder that stay in stage 2 beside encoder and classifier, as name patterns; "
        "default: its last projection [code, for DeepLabV3+: decoder.block2.*; ours for others]; of the mask model "
        "nothing but the backbone stays [paper]",
    )
    learning_rate: float = Field(
        1e-4, gt=0, allow_inf_nan=False, description="peak learning rate of AdamW in stage 1 [code: 1e-4, Adam]"
    )
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="weight decay of AdamW in stage 1 [code: none]"
    )
    schedule: Literal["poly", "cosine", "constant"] = Field(
        "constant", description="how the learning rate falls over both stages together [guess]"
    )
    batch_size: int = Field(8, ge=1, description="pairs a step, so twice as many pictures [code: 8]")
    scale_min: float = Field(1.0, gt=0, le=16, description="random scale, at the least [code: 1]")
    scale_max: float = Field(1.0, gt=0, le=16, description="random scale, at the most [code: 1]")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a left-right flip [code: 0]")
    jitter: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="brightness, contrast and saturation of a pair change by a factor of 1 +- this; 0 = off [code: 0]",
    )

    def weight_settings(self) -> dict[str, Any]:
        """Without folders: what lies in them counts, not what they are called."""
        return {key: value for key, value in super().weight_settings().items() if key not in ("base", "objects")}

    def stage1_steps(self, is_mask_model: bool) -> int:
        """How many steps come before stage 2."""
        return round(self.stage2(is_mask_model).stage1_share * self.steps)

    def stage2(self, is_mask_model: bool) -> Stage2:
        """What was set, and for the rest the defaults of that model."""
        default = MASK_MODEL if is_mask_model else PIXEL_MODEL
        set_here = {
            "learning_rate": self.stage2_learning_rate,
            "weight_decay": self.stage2_weight_decay,
            "original_weight": self.original_weight,
            "stage1_share": self.stage1_share,
        }
        return dataclasses.replace(default, **{name: value for name, value in set_here.items() if value is not None})

    @property
    def fixed_margins(self) -> tuple[float, ...] | None:
        """l1, l2, l3; None if they are measured."""
        return None if self.margins == "auto" else tuple(float(part) for part in self.margins.split(","))

    @field_validator("margins")
    @classmethod
    def _margins_agree(cls, value: str) -> str:
        if value == "auto":
            return value
        try:
            l1, l2, l3 = (float(part) for part in value.split(","))
        except ValueError as error:
            raise ValueError(f"{value!r} is neither auto nor three numbers l1,l2,l3") from error
        if not (all(map(math.isfinite, (l1, l2, l3))) and l1 > 0 and l2 >= 0 and l3 >= 0):
            raise ValueError(f"{value!r}: margins are sizes, of which none is negative and the first is not 0")
        if not math.isclose(l1, l2 + l3, rel_tol=1e-6):
            raise ValueError(f"{value!r}: l1 must be l2 + l3, here {l2 + l3:g}, or the three hinges do not go together")
        return value

    @model_validator(mode="after")
    def _settings_agree(self) -> Config:
        if self.object_scale_min > self.object_scale_max:
            raise ValueError(
                f"object_scale_min {self.object_scale_min} is above object_scale_max {self.object_scale_max}"
            )
        if not self.learn_head and self.stage1_steps(is_mask_model=False):
            raise ValueError("stage 1 learns the uncertainty head alone: with --no-learn-head set --stage1-share 0")
        if self.object_classes and not self.objects:
            raise ValueError("object_classes are those of --objects: give one")
        return self
