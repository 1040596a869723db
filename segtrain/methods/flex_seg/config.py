"""Settings of `segtrain flex-seg`.

Tags in descriptions: [paper] the paper's constant as two full notes on it give it, [page] the authors' project page,
[code] read in released code of the trainer that it extends (DGInStyle, HRDA), [guess] found nowhere, [ours] ours.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from segtrain.config import BAND_FRACTIONS, Settings, TrainConfig
from segtrain.data.rare_classes import RareClassSettings

Fraction = Annotated[float, Field(gt=0, le=1)]


class BoundarySettings(Settings):
    """What the loss does at boundaries, and where those are."""

    panel: ClassVar[str] = "Boundaries"

    boundary_strategy: Literal["none", "ignore", "reduce", "clip", "enhance", "ube"] = Field(
        "ube",
        description="what a boundary pixel's loss is: as it is, nothing, less, at most so much, more, or more where "
        "the prediction is uncertain (UBE) [page: all six]",
    )
    ube_alpha: float = Field(3.0, ge=0, le=100, description="a weight of UBE is 1 + this * sigmoid [paper: 3]")
    boundary_reduce: float = Field(0.5, ge=0, le=1, description="weight of `reduce` [page: below 1; guess: 0.5]")
    boundary_enhance: float = Field(
        2.5, ge=1, le=100, description="weight of `enhance` [page: above 1; ours: 2.5, what UBE is on average]"
    )
    boundary_clip: float = Field(1.0, gt=0, le=100, description="largest loss of `clip`, in nats [guess]")
    band_fractions: tuple[Fraction, ...] = Field(
        BAND_FRACTIONS,
        min_length=1,
        max_length=8,
        description="window side of each granularity as a share of the height of the crop, at least 3, 5, 7 px "
        "[guess: 3, 5, 7 px at stride 4 and 720 rows]",
    )
    band_px: tuple[int, ...] = Field(
        (), description="comma list: odd window sides in pixels of the features, in place of the fractions"
    )

    @field_validator("band_px", mode="before")
    @classmethod
    def _split_band_px(cls, value: Any) -> Any:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _bands_grow(self) -> BoundarySettings:
        px, fractions = self.band_px, self.band_fractions
        if any(width % 2 == 0 or width < 3 for width in px) or list(px) != sorted(set(px)):
            raise ValueError(f"band_px {','.join(map(str, px))}: needs odd numbers from 3 on that grow, as 3,5,7")
        if list(fractions) != sorted(set(fractions)):
            raise ValueError(f"band_fractions {' '.join(map(str, fractions))}: must grow")
        return self


class PrototypeSettings(Settings):
    """GAP: prototypes of boundaries."""

    panel: ClassVar[str] = "GAP"

    gap: bool = Field(True, description="learn granular adaptive prototypes")
    gap_weight: float = Field(0.5, ge=0, le=100, description="weight of the loss, lambda_gap [paper: 0.5]")
    gap_temperature: float = Field(0.07, gt=0, le=10, description="tau of InfoNCE [paper: 0.07]")
    gap_width: int = Field(256, ge=1, le=4096, description="numbers of a prototype [page: 256; at 64 px 64 do]")
    gap_momentum: float = Field(
        0.999, ge=0, lt=1, description="m of the bank [guess: 0.999; 0.99 for less than about 10,000 steps]"
    )
    gap_stride: int = Field(
        0, ge=0, le=32, description="pixels a feature; 0 = as the decoder gives them [guess: 4, as DAFormer's decoder]"
    )
    gap_tokens: int = Field(
        4096, ge=1, le=2**20, description="boundary features a picture, at most [guess: 4096; at 64 px 512 do]"
    )
    gap_warm_start: int = Field(
        200, ge=0, description="steps that fill the bank before its loss counts [ours: early features move too much]"
    )
    gap_rarity: float = Field(
        0.5,
        ge=0,
        le=4,
        description="cells updated n times weigh (mean n / (n + 1)) to this power [page: rare cells weigh more; guess: "
        "the formula]",
    )
    gap_weight_min: float = Field(0.5, ge=0, le=1, description="smallest weight of a cell [guess]")
    gap_weight_max: float = Field(3.0, ge=1, le=100, description="largest weight of a cell [guess]")


class HardnessSettings(Settings):
    """HAS: hard images come more often."""

    panel: ClassVar[str] = "HAS"

    has: bool = Field(True, description="sample by hardness")
    has_schedule: Literal["sigmoid", "linear", "none", "always"] = Field(
        "sigmoid",
        description="how the share of hard batches grows; none = never any (not what the paper calls so), always = all "
        "[page: sigmoid]",
    )
    has_within: Literal["set", "class"] = Field(
        "set",
        description="among what a hard image is drawn: the whole merged set [guess], or what --ratio and --rcs leave: "
        "images of the source whose turn it is that show the class drawn for it, cropped around that [ours]",
    )
    has_temperature: float = Field(1.0, gt=0, le=1000, description="tau of softmax(h / tau) [paper: 1]")
    has_k: float = Field(0.05, gt=0, le=100, description="steepness of the sigmoid over t [paper: 0.05]")
    has_midpoint: float = Field(50.0, ge=0, le=1e9, description="t at which half of the batches are hard [guess: 50]")
    has_t_steps: int = Field(
        0, ge=0, description="steps that are one unit of t; 0 = t is the percentage that is done [guess: percent]"
    )
    has_ema: float = Field(0.9, ge=0, lt=1, description="what a fold keeps of the old hardness [page: EMA; guess: 0.9]")
    has_update_every: int = Field(
        100, ge=1, description="steps between folds; they are used one such chunk later [page: periodic; guess: 100]"
    )
    has_standardise: bool = Field(
        False, description="draw from (h - mean) / std in place of h [ours: off; it makes few images very frequent]"
    )


class FeatureDistanceSettings(Settings):
    """Thing-class feature distance to the ImageNet encoder (DAFormer)."""

    panel: ClassVar[str] = "Feature distance"

    fd: bool = Field(False, description="keep the encoder near its ImageNet features; needs --encoder-weights")
    fd_weight: float = Field(0.005, ge=0, le=100, description="weight of the distance [code: 0.005]")
    fd_classes: tuple[str, ...] = Field(
        (
            "traffic light",
            "traffic sign",
            "person",
            "rider",
            "car",
            "truck",
            "bus",
            "train",
            "motorcycle",
            "bicycle",
        ),
        description="things, by name; those that the label space has count [code: these]; repeat it for more",
    )
    fd_majority: float = Field(
        0.75, gt=0, le=1, description="a feature is of a class that covers this share of its pixels [code: 0.75]"
    )


class Config(
    FeatureDistanceSettings, RareClassSettings, HardnessSettings, PrototypeSettings, BoundarySettings, TrainConfig
):
    """Learn from a labelled source and from generated pictures whose objects do not fit their masks exactly (FLEX-Seg).

    Masks stay as they are. A killed training is continued. GAP, UBE and HAS are switches: without them it is the plain
    training of DGInStyle.

    segtrain flex-seg --data labelled --data runs/generated/dataset --out model
    """

    rcs: Literal["none", "first", "all"] = Field(
        "first",
        description="images of which --data are drawn by rare class: of none, the first, all [code: the labelled "
        "source, the first here]",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        if self.fd and self.encoder_weights == "none":
            raise ValueError(
                "fd: the feature distance needs an encoder with ImageNet weights, encoder_weights is none: set "
                "--encoder-weights, or leave out --fd"
            )
        if self.has and self.has_update_every < 2 * self.num_workers:
            raise ValueError(
                f"has_update_every {self.has_update_every}: {self.num_workers} workers read {2 * self.num_workers} "
                "batches ahead, more than a chunk: raise it or lower --num-workers"
            )
        return self
