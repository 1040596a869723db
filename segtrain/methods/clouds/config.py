"""Settings of `segtrain clouds`. Defaults are the paper's, at the size that fits; tags as in `segtrain.self_training`:

[CLOUDS] is read in its released code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from segtrain.config import Settings
from segtrain.self_training.config import SelfTrainingConfig

Share = Annotated[float, Field(ge=0, le=1)]


class SamSettings(Settings):
    """What SAM is asked, and what comes of its answer."""

    panel: ClassVar[str] = "SAM"

    sam: Path | None = Field(
        None,
        description="weights of Segment Anything: an official checkpoint, or a folder with config.json and "
        "model.safetensors; default: no SAM, the teacher's answer is the pseudo-label",
    )
    sam_kind: Literal["", "vit_h", "vit_l", "vit_b"] = Field(
        "", description="of a checkpoint; empty = as its name says"
    )
    sam_when: Literal["online", "offline"] = Field(
        "online",
        description="online = each step, on what the teacher says by then [CLOUDS]; offline = once a picture, on what "
        "the warm-up says, and the teacher stays as that [ours: baseline]",
    )
    sam_prompts: Literal["points", "boxes"] = Field(
        "points", description="what a component is asked by [CLOUDS: points; ours: its box, for a SAM that knows boxes]"
    )
    points: int = Field(5, ge=1, le=256, description="random pixels of a component, all positive [CLOUDS: 5]")
    min_area: Share = Field(
        0.0085, description="a component of this share of the crop or less is dropped [CLOUDS: 5,000 px of 768 x 768]"
    )
    min_agreement: Share = Field(
        0.0,
        description="SAM's mask is taken only if its IoU with the component is at least this [CLOUDS: 0, all are; "
        "ours: 0.5 as Syn4Seg's SABR has]",
    )
    uncovered: Literal["ignore", "negative", "teacher"] = Field(
        "ignore",
        description="a pixel that no mask or more than one covers: has no label; is of none of the classes that have a "
        "mask in this crop [CLOUDS, for its mask model]; or keeps the teacher's class [ours]",
    )


class Config(SamSettings, SelfTrainingConfig):
    """Learn from labelled pictures, then also from a teacher's labels of unlabelled ones, which SAM redraws.

    segtrain clouds --data labelled --unlabelled photos --sam sam.pth --out model
    """

    source_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="share of the steps that learn from --data alone first [CLOUDS: 40k of 80k on GTA5]",
    )
    teacher_every: int = Field(100, ge=1, description="steps between updates of the teacher [CLOUDS: 100]")
    teacher_ramp: bool = Field(
        False, description="the first updates keep less: 1 - 1 / (updates + 1) [CLOUDS: no ramp]"
    )
    student_view: Literal["same", "photometric", "strong"] = Field(
        "photometric",
        description="what the student sees: what the teacher sees, in other colours (PhotoMetricDistortion) [CLOUDS], "
        "or also grey and blurred at times [UniMatch]",
    )

    def weight_settings(self) -> dict[str, Any]:
        """Without the place of SAM's weights: what they are counts."""
        return {key: value for key, value in super().weight_settings().items() if key != "sam"}

    @model_validator(mode="after")
    def _sam_settings_agree(self) -> Config:
        if self.sam is None and (self.sam_when == "offline" or self.uncovered != "ignore" or self.min_agreement):
            raise ValueError("sam_when, uncovered and min_agreement say what becomes of SAM's answer: give --sam")
        if self.sam_when == "offline" and (self.sinkhorn or self.teacher_flips):
            raise ValueError("sam_when offline: looks at one picture at a time: leave out --sinkhorn, --teacher-flips")
        return self
