"""How released text-to-image models are sampled, and what they cost: the entries of diffusion_models.yaml."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from segkit.documents import read_yaml
from synthgen.backends import Licence
from synthgen.errors import InputError
from synthgen.models.licences import APACHE, STABILITY
from synthgen.models.weights import HUB_PREFIX

_TABLE = Path(__file__).with_name("diffusion_models.yaml")
LICENCES = {
    "apache-2.0": APACHE,
    "openrail++": Licence(
        "CreativeML Open RAIL++-M", "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0", "openrail++"
    ),
    "stability": STABILITY,
    "flux-dev": Licence(
        "FLUX Non-Commercial License",
        "https://huggingface.co/black-forest-labs/FLUX.2-dev",
        "flux-dev-non-commercial-license",
    ),
}


class SkipLayers(BaseModel):
    """Skip-layer guidance: a third pass without some blocks, away from which the image is pushed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    layers: tuple[int, ...] = Field((), description="blocks that the third pass leaves out; empty = no such guidance")
    scale: float = Field(2.5, ge=0, le=20, description="its weight [code: Stability-AI/sd3.5]")
    start: float = Field(0.01, ge=0, le=1, description="share of the steps after which it begins [code]")
    stop: float = Field(0.2, ge=0, le=1, description="... and at which it ends [code]")

    def passes(self, steps: int) -> int:
        """How many of the steps have the third pass, as diffusers counts."""
        return sum(steps * self.start < step < steps * self.stop for step in range(steps)) if self.layers else 0


class AdvisedSkipLayers(SkipLayers):
    """With the guidance that goes with it."""

    guidance: float


class Default(BaseModel):
    """How a model that is not listed is sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int
    guidance: float


class DiffusionModel(Default):
    """An entry. What is None is not known."""

    ids: tuple[str, ...]
    pipeline: str
    guidance_argument: Literal["guidance_scale", "true_cfg_scale"] = "guidance_scale"
    guidance_is_embedded: bool = False
    distilled: bool = False
    skip_layers: AdvisedSkipLayers | None = None
    size_px: int
    parameters: float | None = None
    layers: int | None = None
    width: int | None = None
    operations: float | None = None
    text_parameters: float | None = None
    download_gb: float | None = None
    licence: str
    gated: bool
    source: str


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    default: Default
    models: tuple[DiffusionModel, ...]


@functools.cache
def _table() -> _Table:
    return _Table.model_validate(read_yaml(_TABLE, InputError))


def diffusion_models() -> tuple[DiffusionModel, ...]:
    """All entries, in the file's order."""
    return _table().models


def default_sampling() -> Default:
    """Of what is not listed."""
    return _table().default


def diffusion_model(model: str) -> DiffusionModel | None:
    """The entry of a model as recipes name it: a Hub id in any case, or a local folder of the repository's name."""
    plain = model.removeprefix(HUB_PREFIX).rstrip("/").lower()
    last = plain.rpartition("/")[2]
    is_local = Path(model).expanduser().is_dir()
    for entry in diffusion_models():
        known = [name.lower() for name in entry.ids]
        if plain in known or (is_local and last in [name.rpartition("/")[2] for name in known]):
            return entry
    return None


FEW_STEPS = 10  # a distilled model that takes more is not sampled as it was taught


def distilled_notes(model: str, steps: int, guidance: float) -> list[str]:
    """A line about a distilled model that is sampled as if it were none; none for all others."""
    entry = diffusion_model(model)
    if entry is None or not entry.distilled or (guidance <= max(entry.guidance, 0.0) and steps <= FEW_STEPS):
        return []
    return [
        f"{model} is distilled: its makers take {entry.steps} steps and no guidance ({entry.guidance:g}), the recipe "
        f"{steps} steps and guidance {guidance:g}, which spoils its images; leave render.renderer.steps and .guidance "
        "out"
    ]


def licences_of(model: str) -> dict[str, Licence]:
    """That of a listed model; nothing is known of others."""
    entry = diffusion_model(model)
    return {} if entry is None else {model: LICENCES[entry.licence]}
