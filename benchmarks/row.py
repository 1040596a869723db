"""One measured figure."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SCRATCH = Path(__file__).parent / "scratch"


def spread_of(values: Sequence[float] | np.ndarray) -> float | str:
    """Sample standard deviation (ddof 1); "" of fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """`value` with its unit; `spread` is the standard deviation (ddof 1) over the `n` things that it is spread over, in
    the same unit: seeds, support sets, folds or images, as the benchmark's docstring says ("" where there is one only).
    """

    name: str
    value: float | str
    unit: str
    spread: float | str = ""
    n: int = 1
    device: str = ""  # "" = this machine


def row_of_seeds(name: str, by_seed: np.ndarray, unit: str = "fraction") -> Row:
    """Mean and spread of one value a seed."""
    return Row(name, float(by_seed.mean()), unit, spread_of(by_seed), len(by_seed))


def scored(value: float | None) -> float:
    """A score of images that are known to show something."""
    if value is None:
        raise ValueError("no pixel to score")
    return value


def device() -> str:
    """The machine in words."""
    for line in (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else ()
    ):
        if line.startswith("model name"):
            return f"{os.cpu_count()} vCPU {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} vCPU {platform.machine()}"
