"""The model card that a training leaves beside its weights."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCard, ModelCardData

from synthgen.files import write_bytes
from synthgen.images import write_image

GRID = "samples.png"


def write_model_card(
    folder: Path,
    title: str,
    what: str,
    data: str,
    facts: Mapping[str, Any],
    quality: Mapping[str, str],
    limits: str,
    grid: np.ndarray | None = None,
) -> None:
    """README.md (and samples.png) in `folder`. `facts` are train()'s: steps, samples, hours;

    `quality` is measure -> value in words.

    `grid` is an (H, W, 3) uint8 picture of samples.
    """
    data_fields = ModelCardData(license="apache-2.0", library_name="synthgen", tags=["synthgen", "mini"], language="en")
    lines = [f"# {title}", "", what, "", "## Training", "", f"- Data: {data}"]
    lines += [f"- {name.capitalize()}: {value}" for name, value in facts.items()]
    lines += [f"- Machine: {machine()}", "", "## Measured", "", "| measure | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in quality.items()]
    lines += ["", "## Limits", "", limits, ""]
    if grid is not None:
        write_image(grid, folder / GRID)
        lines += [f"![samples]({GRID})", ""]
    write_bytes(
        str(ModelCard(f"---\n{data_fields.to_yaml()}\n---\n\n" + "\n".join(lines))).encode(), folder / "README.md"
    )


def machine() -> str:
    """The machine in words: GPU if there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    for line in (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else ()
    ):
        if line.startswith("model name"):
            return f"{os.cpu_count()} vCPU {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} vCPU {platform.machine()}"


def tile(images: list[np.ndarray], columns: int) -> np.ndarray:
    """Images of one size side by side, `columns` a row; a rest that fills no row is left out."""
    rows = [
        np.concatenate(images[i : i + columns], axis=1) for i in range(0, len(images) // columns * columns, columns)
    ]
    return np.concatenate(rows)
