"""Settings of `segtrain multi-shift`.

Tags in descriptions: [paper], [code] read in MultiShiftSeg's paper or released code (pixel model), [guess] a guess
about it, [ours] chosen here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from segtrain.config import LoopConfig

Fraction = Annotated[float, Field(ge=0, le=1)]


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
    base: Path = Field(description="folder of the model to begin with, as `segtrain train` writes it")
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
    min_object_px: int = Field(32, ge=1, description="pixels of an object at the least [guess]")
    anomaly_mix: Fraction = Field(1.0, description="share of the originals with a pasted object, 0 = none [code: 1]")
    object_scale_min: float = Field(0.1, ge=0.1, le=2, description="size of a pasted object, at the least [code]")
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
    keep: Fraction = Field(
        0.8,
        description="share of the augmented pixels, those of smallest loss, that are learnt from [paper: 0.8]; 1 = all",
    )
    original_weight: float = Field(
        50.0, ge=0, allow_inf_nan=False, description="weight of the originals' cross-entropy in stage 2 [code: 50]"
    )
    augmented_weight: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="weight of the augmented pictures' cross-entropy [code: 10]"
    )
    stage1_share: Fraction = Field(
        0.18, description="share of the steps that learn the uncertainty head alone [code: 9 of 50 epochs]"
    )
    stage2_learning_rate: float = Field(
        1e-6, gt=0, allow_inf_nan=False, description="peak learning rate of stage 2 [code: 1e-6]"
    )
    stage2_weight_decay: float = Field(
        1e-4, ge=0, allow_inf_nan=False, description="weight decay of stage 2; stage 1 has none [code: 1e-4, with Adam]"
    )
    freeze: tuple[str, ...] = Field(
        (),
        description="parts of the decoder that stay in stage 2 beside encoder and classifier, as name patterns; "
        "default: its last projection [code, for DeepLabV3+: decoder.block2.*; ours for others]",
    )
    learning_rate: float = Field(
        1e-4, gt=0, allow_inf_nan=False, description="peak learning rate of AdamW in stage 1 [code: 1e-4, Adam]"
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

    @property
    def stage1_steps(self) -> int:
        return round(self.stage1_share * self.steps)

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
        if not self.learn_head and self.stage1_steps:
            raise ValueError("stage 1 learns the uncertainty head alone: with --no-learn-head set --stage1-share 0")
        if self.object_classes and not self.objects:
            raise ValueError("object_classes are those of --objects: give one")
        return self


COMMANDS = {"multi-shift": Config}
