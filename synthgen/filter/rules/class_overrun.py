"""Rule `class_overrun`: so much of the mask is the class that it has run over into the background."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from segkit.labels import IGNORE
from synthgen.filter.verdict import Verdict, at_most
from synthgen.records import ScoredRecord

ORDER = 30
SETTING = "max_class_fraction"
VALUE = Annotated[float, Field(ge=0, le=1)]
DEFAULT, DESCRIPTION = 1.0, "share of the final mask that has the wanted class, at the most: more has run over"
NEEDS = ("class_id", "class_fraction")


def decide(row: ScoredRecord, threshold: float) -> Verdict | None:
    """Asks rows that are about a class."""
    return None if row.subject.class_id == IGNORE else at_most(row.labelling.class_fraction, threshold)
