"""One measured figure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

SCRATCH = Path(__file__).parent / "scratch"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """`value` with its unit;

    `spread` is the standard deviation over `n` items or runs, in the same unit ("" where there is one only).
    """

    name: str
    value: float | str
    unit: str
    spread: float | str = ""
    n: int = 1
    device: str = ""  # "" = this machine
