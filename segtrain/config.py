"""Every setting of a training, with its range and its default.

The help texts of the command line are the descriptions here, its panels are the classes that declare the settings. A
method's own Config adds to `TrainConfig` or, if it brings its batches itself, to `LoopConfig`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from segkit.files import open_regular
from segkit.urls import local_only
from segtrain.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)

# Settings that change speed or reports only, never a weight: they may differ between a killed training and its
# continuation.
FREE_SETTINGS = frozenset(
    {
        "data",
        "out",
        "classes",
        "validation",
        "validate_every",
        "checkpoint_every",
        "log_every",
        "num_workers",
        "num_threads",
        "device",
        "dry_run",
    }
)


# Windows of boundary bands as shares of a picture's height: 3, 5 and 7 px on features of stride 4, at the 720 rows of
# the GTA pictures of DGInStyle's trainer.
BAND_FRACTIONS = (12 / 720, 20 / 720, 28 / 720)


MASK_ARCH = "clip_masks"
"""The --arch that is no architecture of smp: `segkit.networks.clip_masks`."""


class Settings(BaseModel):
    """Unknown keys are refused, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    panel: ClassVar[str] = "Method"  # where the help lists the settings that a class declares


class DataSettings(Settings):
    """What is learnt from, and how it is augmented."""

    panel: ClassVar[str] = "Data"

    data: tuple[str, ...] = Field(
        min_length=1,
        max_length=255,
        description="a finished dataset (index.json, tars; split `train`) or a labelled folder (images/, "
        "labels/, same stems); repeat it for more",
    )
    crop_px: int = Field(
        64,
        ge=32,
        multiple_of=32,
        description="side of the square crop; smaller images are padded and the padding ignored",
    )
    scale_min: float = Field(0.75, gt=0, le=16, description="random scale, at the least")
    scale_max: float = Field(1.5, gt=0, le=16, description="random scale, at the most")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    jitter: float = Field(
        0.25, ge=0, lt=1, description="brightness, contrast and saturation change by a factor of 1 +- this; 0 = off"
    )

    photometric: bool = Field(
        False,
        description="strong jitter in place of --jitter: brightness +- 32, contrast and saturation x 0.5 to 1.5, hue "
        "+- 36 degrees, each in half of the crops (PhotoMetricDistortion of mmsegmentation)",
    )

    @model_validator(mode="after")
    def _scales_in_order(self) -> DataSettings:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min} is above scale_max {self.scale_max}")
        return self


class OptimiserSettings(Settings):
    """How it is learnt."""

    panel: ClassVar[str] = "Optimisation"

    steps: int = Field(2000, ge=1, description="optimiser steps")
    batch_size: int = Field(16, ge=2, description="crops a step")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False, description="weight decay of AdamW")
    schedule: Literal["poly", "cosine", "constant"] = Field(
        "poly",
        description="how the learning rate falls to 0: (1 - step/steps)^0.9, or half a cosine; constant = it does not",
    )
    warmup_steps: int = Field(0, ge=0, description="the learning rate rises linearly over this many steps first")
    seed: int = Field(0, ge=0, lt=2**31, description="the same seed and settings give the same weights on a CPU")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto = bfloat16 autocast on CUDA, float32 elsewhere"
    )


class ExecutionSettings(Settings):
    """Where it runs and what it reports."""

    panel: ClassVar[str] = "Execution"

    out: Path = Field(
        description="folder for the model; a killed training is continued there, that of another training is refused"
    )
    validation: str | None = Field(None, description="dataset or labelled folder to score during and after training")
    validate_every: int = Field(0, ge=0, description="steps between scores; 0 = only at the end")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints, the most that a kill can lose")
    log_every: int = Field(50, ge=1, description="steps between lines of the log and points in TensorBoard")
    num_workers: int = Field(
        0, ge=0, description="processes that read and augment; 0 = in this one; any number gives the same batches"
    )
    num_threads: int = Field(0, ge=0, description="CPU threads of torch; 0 = leave as is")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dry_run: bool = Field(
        False,
        description="open the data, build the network, take one step in memory, say what that took; write nothing",
    )

    @field_validator("out")
    @classmethod
    def _on_disk(cls, value: Path) -> Path:
        return local_only(value)


class LoopConfig(ExecutionSettings, OptimiserSettings, DataSettings):
    """What every training needs."""

    def weight_settings(self) -> dict[str, Any]:
        """The settings that change the weights, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(FREE_SETTINGS))


class MixtureSettings(Settings):
    """How several sources are mixed."""

    panel: ClassVar[str] = "Data"

    ratio: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        (),
        description="share of each --data in the mix, in the same order, e.g. 1 and 1 for half and half; "
        "default: by number of samples",
    )
    classes: Path | None = Field(
        None,
        description="labels.yaml for labelled folders that bring none; default: the classes of the first --data "
        "that has some",
    )
    shuffle_window: int = Field(
        4096,
        ge=1,
        description="samples are shuffled over this many consecutive ones (shards are shuffled as a whole, and so is a "
        "folder)",
    )


class NetworkSettings(Settings):
    """Which network of segmentation_models_pytorch learns."""

    panel: ClassVar[str] = "Network"

    arch: str = Field(
        "Unet",
        description="decoder architecture of segmentation_models_pytorch: Unet, FPN, DeepLabV3Plus, Segformer, ...; or "
        "clip_masks: Mask2Former's head on a frozen image tower of open_clip",
    )
    encoder: str = Field(
        "resnet18",
        description="encoder of segmentation_models_pytorch; timm models as tu-NAME; for clip_masks a model of "
        "open_clip, as RN50 or convnext_large_d_320",
    )
    encoder_weights: str = Field(
        "none",
        description="imagenet (downloaded), package (for tu-tf_efficientnet_lite0, from a Python package), none "
        "= random; for clip_masks a tag of open_clip (openai, laion2b_s29b_b131k_ft_soup; downloaded) or a file",
    )
    decoder_channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description="comma list, coarse to fine, for Unet, UnetPlusPlus and MAnet; default 128,64,64,32,32 "
        "(small, for CPUs)",
    )
    init_from: Path | None = Field(
        None,
        description="folder of a finished model of the same network and classes, whose weights are the start: so a "
        "finished training is made longer, in another --out",
    )
    mask_queries: int = Field(100, ge=1, le=65536, description="queries of clip_masks [Mask2Former: 100]")
    mask_width: int = Field(
        256, ge=32, le=65536, multiple_of=32, description="channels of the head of clip_masks [Mask2Former: 256]"
    )
    mask_layers: int = Field(9, ge=1, le=1000, description="decoder layers of clip_masks [Mask2Former: 9]")

    @field_validator("decoder_channels", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value


class TrainConfig(NetworkSettings, MixtureSettings, LoopConfig):
    """A training of one network on one mix of datasets: what most methods add their own settings to."""

    def weight_settings(self) -> dict[str, Any]:
        """Without what says nothing of the chosen network; a model to start from counts by its weights.

        Raises ConfigError if that cannot be read.
        """
        settings = super().weight_settings()
        settings["init_from"] = self.init_from and _digest(self.init_from / "model.safetensors")
        if self.arch != MASK_ARCH:
            for name in ("mask_queries", "mask_width", "mask_layers"):
                del settings[name]
        return settings


def _digest(weights: Path) -> str:
    try:
        with open_regular(weights, ConfigError) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ConfigError as error:
        raise ConfigError(f"init_from: {error}: name the folder of a finished model") from error


def train_config(**values: Any) -> TrainConfig:
    """Like the class, but raises ConfigError in one line."""
    return checked(TrainConfig, values)


def checked(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Settings of that kind. Raises ConfigError that names the first one that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "settings"
        if problem["type"] == "extra_forbidden":
            raise ConfigError(f"{key}: no such setting; there are: {', '.join(kind.model_fields)}") from error
        got = "" if problem["type"] in ("missing", "value_error") else f" (got {problem['input']!r})"
        raise ConfigError(f"{key}: {problem['msg'].removeprefix('Value error, ')}{got}") from error
