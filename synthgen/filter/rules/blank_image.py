"""Rule `blank_image`: an image of one grey is a failed rendering, or a safety checker's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthgen.filter.verdict import Verdict, at_least
from synthgen.records import ScoredRecord

ORDER = 10
SETTING = "min_pixel_std"
VALUE = Annotated[float, Field(ge=0, le=255)]
DEFAULT, DESCRIPTION = 2.0, "standard deviation of grey values; below = blank image"
NEEDS = ("pixel_std",)


def decide(row: ScoredRecord, threshold: float) -> Verdict | None:
    """Asks every row."""
    return at_least(row.scores.pixel_std, threshold)
