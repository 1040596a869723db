"""Rule `class_absent`: too little of the mask is the class that the image was made for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from segkit.labels import IGNORE
from synthgen.filter.verdict import Verdict, at_least
from synthgen.records import ScoredRecord

ORDER = 20
SETTING = "min_class_fraction"
VALUE = Annotated[float, Field(ge=0, le=1)]
DEFAULT, DESCRIPTION = 0.01, "share of the final mask that has the wanted class"
NEEDS = ("class_id", "class_fraction")


def decide(row: ScoredRecord, threshold: float) -> Verdict | None:
    """Asks rows that are about a class."""
    return None if row.subject.class_id == IGNORE else at_least(row.labelling.class_fraction, threshold)
