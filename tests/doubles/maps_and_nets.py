"""What recipes over label maps need, small: drawn folders, and a narrow family with a ControlNet of random weights."""

from __future__ import annotations

from pathlib import Path

from doubles.mini_family import write_controlnet, write_family
from synthgen.drawn.split import write_split
from synthgen.labels import read_label_space
from synthgen.models.control import Control
from synthgen.models.model_facts import ModelFacts, write_model_facts

SPEED = ("execution.device=cpu", "execution.workers=1", "execution.unit_rows=8", "execution.num_threads=1")


def write_adapted(folder: Path, space: str) -> tuple[Path, Path]:
    """(family, adaptation): the second as `synthgen adapt` leaves it, for maps of the label space `space`."""
    family = write_family(folder / "family")
    adapted = folder / "adapted"
    write_controlnet(adapted / "controlnet", family, extra_conditioning_channels=0,
                     force_zeros_for_pooled_projection=False)  # fmt: skip
    write_model_facts(ModelFacts(control=Control("palette", read_label_space(space))), adapted)
    return family, adapted


def sets_of(folder: Path, space: str, num_maps: int = 6) -> tuple[str, ...]:
    """`--set`s that put these weights and a drawn folder of maps into a recipe over maps."""
    family, adapted = write_adapted(folder, space)
    write_split(folder / "day", "streets", num_maps, 0, domain="day")
    return (
        f"prompts.source.folder={folder / 'day'}",
        f"prompts.embedder.model={family}",
        f"render.renderer.model={family}",
        f"render.renderer.controlnet={adapted}",
        "render.renderer.steps=1",
        *SPEED,
    )
