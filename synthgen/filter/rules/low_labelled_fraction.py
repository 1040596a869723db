"""Rule `low_labelled_fraction`: too little of the mask is labelled at all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthgen.filter.verdict import Verdict, at_least
from synthgen.records import ScoredRecord

ORDER = 40
SETTING = "min_labelled_fraction"
VALUE = Annotated[float, Field(ge=0, le=1)]
DEFAULT, DESCRIPTION = 0.5, "share of the final mask that is not 255"
NEEDS = ("labelled_fraction",)


def decide(row: ScoredRecord, threshold: float) -> Verdict | None:
    """Asks every row."""
    return at_least(row.labelling.labelled_fraction, threshold)
