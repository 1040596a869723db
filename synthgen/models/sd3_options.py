"""Options of the renderer `sd3`, and what the model's makers advise where the recipe leaves it open."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segkit.documents import MAX_YAML_BYTES
from segkit.files import read_regular
from synthgen.errors import LabelError, ModelError
from synthgen.models.diffusion_models import SkipLayers, default_sampling, diffusion_model, distilled_notes
from synthgen.models.provenance import digest_of_weights
from synthgen.models.step_cache import StepCacheOptions
from synthgen.records import digest_of
from synthgen.settings import Fraction


class Options(BaseModel):
    """Which model and how it samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("stabilityai/stable-diffusion-3.5-large", description="Hub id, local folder or mini/<name>")
    revision: str = Field("", description="Hub revision; empty = main")
    variant: str = Field(
        "", description="of the weights' file names, as fp16; empty = plain ones, or the only variant that is there"
    )
    denoiser_file: str = Field(
        "",
        description="denoiser from one .safetensors file (Stability's own, ComfyUI's); all else comes from `model`; "
        "empty = the model's own",
    )
    controlnet: str = Field(
        "",
        description="ControlNet for layouts: Hub id, folder of `synthgen adapt` or of a ControlNet, mini/...; "
        "empty = text only",
    )
    controlnet_revision: str = Field("", description="Hub revision of the ControlNet; empty = main")
    controlnet_subfolder: str = Field("", description="folder of the network in it; empty = found by its files")
    control: Literal["auto", "palette", "onehot", "edges", "depth", "image"] = Field(
        "auto", description="what the ControlNet is fed; auto = what its folder or the list of published ones says"
    )
    control_scale: float = Field(1.0, ge=0, le=4, description="weight of the ControlNet's residuals")
    control_range: tuple[Fraction, Fraction] = Field(
        (0.0, 1.0), description="shares of the steps between which the ControlNet is heard; all with a step cache"
    )
    control_palette: str = Field(
        "", description="label space whose colours the ControlNet has learnt; empty = what its folder says"
    )
    control_translation: str = Field(
        "", description="file of `class: class` lines from the maps' labels to the ControlNet's; empty = a shipped one"
    )
    lora: str = Field(
        "",
        description="look of labelled pictures that `synthgen adapt` has learnt: its folder, or any LoRA of diffusers' "
        "form; empty = the model's own look (style swap)",
    )
    steps: int | None = Field(
        None, ge=1, le=1000, description="denoiser steps; null = as the model's makers advise, 28 for others"
    )
    guidance: float | None = Field(
        None, ge=0, le=30, description="classifier-free guidance, 1 = none; null = as the makers advise, 4.5 for others"
    )
    skip_layers: SkipLayers | None = Field(
        None,
        description="skip-layer guidance, without a ControlNet and a step cache only; null = as the makers advise "
        "(SD3.5-Medium) where guidance is null, too",
    )
    t5: bool = Field(True, description="use the T5 encoder if the model has one")
    max_sequence_length: int = Field(
        -1, ge=-1, le=512, description="T5 tokens; -1 = what the model folder says, else 256"
    )
    group: int = Field(
        0,
        ge=0,
        le=64,
        description="images of one call of the model, whatever the batch size; 0 = 4 for small models (8 with a "
        "step cache), else 1",
    )
    step_cache: StepCacheOptions = Field(
        StepCacheOptions(), description="skip the denoiser's blocks where its input hardly moves; off by default"
    )

    @model_validator(mode="after")
    def _heard(self) -> Options:
        start, end = self.control_range
        if start >= end:
            raise ValueError(f"control_range is [start, end], the first below the second (got {[start, end]})")
        if self.step_cache.threshold and (start, end) != (0, 1):
            raise ValueError("control_range: a step cache does not see where a ControlNet ends; leave one of them out")
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """What is done for one image."""

    steps: int
    guidance: float
    skip_layers: SkipLayers  # without layers: no such guidance

    @property
    def passes(self) -> int:
        """Runs of the denoiser, over steps, guidance branches and skip-layer guidance."""
        guided = self.guidance > 1
        return self.steps * (2 if guided else 1) + (self.skip_layers.passes(self.steps) if guided else 0)


def sampling_of(options: Options) -> Sampling:
    """The options, with what the makers advise (diffusion_models.yaml) where they are null.

    Raises ModelError for skip-layer guidance that is asked for where it cannot be had.
    """
    entry, plain = diffusion_model(options.model), default_sampling()
    excludes = "a ControlNet" if options.controlnet else "a step cache" if options.step_cache.threshold else ""
    skip, guidance = options.skip_layers, options.guidance
    if skip is not None and skip.layers and excludes:
        raise ModelError(
            f"render.renderer.skip_layers: skip-layer guidance is not to be had with {excludes}; leave one of them out"
        )
    advised = entry.skip_layers if entry is not None and not excludes else None
    if skip is None and guidance is None and advised is not None:  # the two go together
        skip, guidance = SkipLayers(**advised.model_dump(exclude={"guidance"})), advised.guidance
    if guidance is None:
        guidance = entry.guidance if entry is not None else plain.guidance
    steps = options.steps or (entry.steps if entry is not None else plain.steps)
    return Sampling(steps, guidance, skip or SkipLayers())


def fingerprint(options: Options) -> dict[str, str]:
    """Hash of each file that an option names, so that a changed one is noticed, and what was left to the makers."""
    files = {"control_translation": options.control_translation}
    if options.control_palette.endswith((".yaml", ".yml")):
        files["control_palette"] = options.control_palette
    found = {
        key: digest_of(read_regular(Path(path), MAX_YAML_BYTES, LabelError)) for key, path in files.items() if path
    }
    if options.denoiser_file:
        path = Path(options.denoiser_file).expanduser()
        found["denoiser_file"] = digest_of_weights(path) if path.is_file() else ""
    if options.steps is None or options.guidance is None or options.skip_layers is None:
        sampling = sampling_of(options)
        skipped = sampling.skip_layers.model_dump(mode="json") if sampling.skip_layers.layers else "none"
        found["sampling"] = f"{sampling.steps} steps, guidance {sampling.guidance:g}, skip layers {skipped}"
    return found


def notes(options: Options) -> list[str]:
    """What is worth knowing before a run: a distilled model that is sampled as if it were none."""
    sampling = sampling_of(options)
    return distilled_notes(options.model, sampling.steps, sampling.guidance)
