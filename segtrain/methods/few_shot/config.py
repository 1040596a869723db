"""Settings of `segtrain few-shot base` and `segtrain few-shot novel`.

Tags in descriptions: [code] read in POP's released code, [guess] a guess about Syn4Seg, [ours] chosen here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from segtrain.config import LoopConfig, TrainConfig
from segtrain.methods.few_shot.folds import known_folds


class BaseConfig(TrainConfig):
    """Stage 1: learn the base classes of a fold from all their images; a killed training is continued.

    segtrain few-shot base --data drawn --folds pascal-5i --fold 0 --out runs/base
    """

    folds: str = Field("", description=f"which protocol's folds: {', '.join(known_folds())}; classes go by name")
    fold: int = Field(0, ge=0, description="the fold whose classes are novel")
    novel: tuple[str, ...] = Field(
        (), description="novel classes by name, in place of --folds and --fold; repeat it for more"
    )
    novel_pixels: Literal["background", "ignore"] = Field(
        "background", description="what pixels of novel classes are in base training [code: background]"
    )
    novel_images: Literal["keep", "drop"] = Field(
        "keep",
        description="drop = leave out images that show a novel class too [code: keep]; images without a base "
        "class are always left out",
    )
    orthogonality: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="weight of the mean absolute cosine between prototypes [code: 10]"
    )
    arch: str = Field(
        "FPN",
        description="architecture of segmentation_models_pytorch; its decoder's channels bound the number of "
        "classes [code: PSPNet; ours: FPN]",
    )

    @model_validator(mode="after")
    def _one_choice_of_novel_classes(self) -> BaseConfig:
        if bool(self.folds) == bool(self.novel):
            raise ValueError("give either --folds (and --fold) or --novel, to say which classes are novel")
        return self


class NovelConfig(LoopConfig):
    """Stage 2: learn the novel classes from a few shots and, if there is one, a synthetic set, on the frozen network.

    A killed training is continued.

    segtrain few-shot novel --base-model base --data drawn --shots 1 --out novel
    """

    base_model: Path = Field(description="folder that `segtrain few-shot base` has written")
    shots: int = Field(1, ge=1, description="labelled images a novel class, and base images a class and epoch")
    shots_seed: int = Field(0, ge=0, lt=2**31, description="which images of --data are the shots (POP: 123, 234)")
    support: str | None = Field(
        None,
        description="labelled folder or dataset whose images are all the shots, instead of drawing some from --data",
    )
    min_shot_share: float = Field(
        0.02,
        ge=0,
        le=1,
        description="an image can be a shot of a class that covers at least this share of it [ours; code: 16,384 px]",
    )
    synthetic: tuple[str, ...] = Field(
        (), description="dataset or labelled folder of made images of the novel classes; repeat it for more"
    )
    synthetic_ratio: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="synthetic images for each real novel one [guess: 1]"
    )
    synthetic_first: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, at the beginning, whose novel images are synthetic ones alone; the rest are "
        "shots alone, which so have the last word, and --synthetic-ratio says nothing; 0 = mixed [ours]",
    )
    learn_decoder: bool = Field(
        False, description="adapt the decoder's weights as well [code: no; ours: for many synthetic images]"
    )
    redraw_base: bool = Field(True, description="draw other base images for each epoch [code: yes]")
    relabel_base: bool = Field(
        True,
        description="background of base images takes the label of the novel classes where the present network "
        "says so [code: yes]",
    )
    novel_start: Literal["orthogonal", "support"] = Field(
        "orthogonal",
        description="novel prototypes begin as random orthogonal vectors [code], or at the shots' mean features "
        "without the base part [ours]",
    )
    orthogonality: float = Field(
        10.0,
        ge=0,
        allow_inf_nan=False,
        description="weight of the mean absolute cosine to the other prototypes [code: 10]",
    )
    batch_size: int = Field(
        4, ge=1, description="pairs a step, each one image of novel and one of base classes [code: 1]"
    )
    steps: int = Field(
        500,
        ge=1,
        description="optimiser steps [code: up to 500 epochs, stopped early by looking at the test set; not done here]",
    )
    learning_rate: float = Field(
        1e-3, gt=0, allow_inf_nan=False, description="learning rate of AdamW [code: 1e-3 with SGD]"
    )
    schedule: Literal["poly", "cosine", "constant"] = Field(
        "constant", description="how the learning rate falls [code: constant]"
    )

    @model_validator(mode="after")
    def _something_to_begin_with(self) -> NovelConfig:
        if self.synthetic_first and not self.synthetic:
            raise ValueError("synthetic_first needs --synthetic, images to begin with")
        return self

    def weight_settings(self) -> dict[str, Any]:
        """Without what changes nothing as it is set."""
        settings = super().weight_settings()
        if not self.synthetic_first:
            del settings["synthetic_first"]
        return settings
