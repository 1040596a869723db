"""Rule `low_class_rank`: other classes are more like the image than the wanted one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from segkit.labels import IGNORE
from synthgen.filter.verdict import Verdict, at_most
from synthgen.records import ScoredRecord

ORDER = 70
SETTING = "max_class_rank"
VALUE = Annotated[int, Field(ge=-1)]
DEFAULT, DESCRIPTION = -1, "the wanted class is among the best 0..n by image-text similarity; -1 = off"
NEEDS = ("class_id", "class_rank")


def decide(row: ScoredRecord, threshold: int) -> Verdict | None:
    """Asks rows that are about a class and have a rank (-1 = there was none to rank), unless it is off."""
    if row.subject.class_id == IGNORE or row.scores.class_rank == -1 or threshold == -1:
        return None
    return at_most(row.scores.class_rank, threshold)
