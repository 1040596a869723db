"""Settings that every method of self-training has; a method's own Config may change their defaults.

Tags in descriptions: [CLOUDS], [UniMatch], [SENSE], [DACS], [ClassMix] read in that paper or its code, [guess] a guess
about one of them, [ours] chosen here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from segtrain.config import NetworkSettings, Settings, TrainConfig
from segtrain.data.rare_classes import RareClassSettings, without_unused_rcs

Share = Annotated[float, Field(ge=0, le=1)]


class SelfTrainingSettings(Settings):
    """What is learnt of pictures without labels."""

    panel: ClassVar[str] = "Self-training"

    unlabelled: tuple[str, ...] = Field(
        min_length=1,
        max_length=127,
        description="a folder of photographs, or a finished dataset or labelled folder whose masks are not read; "
        "repeat it for more",
    )
    base: Path | None = Field(
        None,
        description="folder of a model to begin with, its network and its classes; --arch and --encoder then say "
        "nothing; default: a new network",
    )
    source_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, the first ones, that learn from --data alone (the warm-up) [ours: 0]",
    )
    unlabelled_share: float = Field(
        0.5, gt=0, lt=1, description="share of the crops of a step that are unlabelled [UniMatch: half]"
    )
    unlabelled_repeat: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="in place of --unlabelled-share: how often an unlabelled picture counts beside a labelled one "
        "(repeat factor) [CLOUDS: 2 on GTA5, 0.7 on SYNTHIA, 0.2 on Cityscapes]",
    )
    unlabelled_weight: float = Field(
        1.0,
        ge=0,
        le=1e3,
        description="weight of an unlabelled crop's loss beside a labelled one's [CLOUDS, UniMatch: 1]",
    )
    teacher_decay: float = Field(
        0.999, ge=0, lt=1, description="share of itself that the teacher keeps at an update [CLOUDS, DACS: 0.999]"
    )
    teacher_every: int = Field(1, ge=1, description="steps between updates of the teacher [DACS, UniMatch: 1]")
    teacher_ramp: bool = Field(
        True,
        description="the first updates keep less: 1 - 1 / (updates + 1), until that is above --teacher-decay [DACS]",
    )
    teacher_flips: bool = Field(
        False, description="the teacher's answer is the mean over the picture and its mirror image [SENSE: on]"
    )
    student_view: Literal["same", "photometric", "strong"] = Field(
        "strong",
        description="what the student sees: what the teacher sees, in other colours (PhotoMetricDistortion) [CLOUDS], "
        "or also grey and blurred at times [UniMatch; ours: its colour jitter is PhotoMetricDistortion]",
    )
    cut_mix: Share = Field(
        0.0,
        description="probability that a box of another unlabelled crop is pasted into the student's [UniMatch: 0.5]",
    )
    class_mix: Share = Field(
        0.0,
        description="probability that half of the classes of a labelled crop are pasted into the student's [ClassMix, "
        "DACS: 1]",
    )
    confidence: Literal["none", "threshold", "share"] = Field(
        "none",
        description="weight of a pseudo-label: 1, 1 only if the teacher's probability is at least --threshold "
        "[UniMatch], or for all pixels of a crop the share of those that are [DACS]",
    )
    threshold: Share = Field(0.968, description="of the teacher's probability [DACS: 0.968; UniMatch: 0.95]")
    sinkhorn: bool = Field(
        False,
        description="pseudo-labels by a Sinkhorn assignment that gives every class as many pixels of a batch [SENSE]",
    )
    sinkhorn_temperature: float = Field(
        0.05, gt=0, le=100, description="of the logits before the assignment [SENSE: 0.05]"
    )
    sinkhorn_iterations: int = Field(3, ge=1, le=1000, description="rescalings of classes and pixels [SENSE: 3]")
    freeze_encoder: bool = Field(
        False, description="the encoder stays as it is, batch norm included [CLOUDS: on, with CLIP's; ours: off]"
    )
    pictures_every: int = Field(
        0,
        ge=0,
        description="steps between pictures of what the teacher says and the student is to learn, in TensorBoard and "
        "in pictures/ of --out; 0 = none",
    )
    pictures_count: int = Field(4, ge=1, le=64, description="crops in such a picture, at the most")


class SelfTrainingConfig(SelfTrainingSettings, RareClassSettings, TrainConfig):
    """A training on labelled and unlabelled pictures."""

    def weight_settings(self) -> dict[str, Any]:
        """Without folders, whose content counts and not what they are called, and without what is reported only; of a
        base model's network nothing is chosen."""
        free = {"base", "unlabelled", "pictures_every", "pictures_count"}
        if self.base is not None:
            free |= NetworkSettings.model_fields.keys()
        settings = without_unused_rcs(super().weight_settings())
        return {key: value for key, value in settings.items() if key not in free}

    @property
    def first_joint_step(self) -> int:
        return round(self.source_share * self.steps)

    @property
    def labelled_alone_steps(self) -> int:
        """In so many steps, the first ones, the network sees labelled crops alone."""
        return self.first_joint_step

    @model_validator(mode="after")
    def _something_is_joint(self) -> SelfTrainingConfig:
        if self.first_joint_step >= self.steps:
            raise ValueError(
                f"source_share {self.source_share} of {self.steps} steps leaves none for the unlabelled pictures: "
                "raise steps, or lower it"
            )
        if self.base is not None and self.init_from is not None:
            raise ValueError("base and init_from: both say which weights are the start: leave one of them out")
        if self.freeze_encoder and self.base is None and self.init_from is None and self.encoder_weights == "none":
            raise ValueError(
                "freeze_encoder: random weights that never learn see nothing: set encoder_weights, or base"
            )
        return self
