"""Rule `low_region_similarity`: the labelled regions look unlike the support images of their classes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthgen.filter.verdict import Verdict, at_least
from synthgen.records import ScoredRecord

ORDER = 50
SETTING = "min_region_similarity"
VALUE = Annotated[float, Field(ge=-1, le=1)]
DEFAULT, DESCRIPTION = -1.0, "area-weighted cosine of kept regions to their prototype; -1 = off"
NEEDS = ("region_similarity",)


def decide(row: ScoredRecord, threshold: float) -> Verdict | None:
    """Asks every row, unless it is off."""
    return None if threshold == -1 else at_least(row.labelling.region_similarity, threshold)
