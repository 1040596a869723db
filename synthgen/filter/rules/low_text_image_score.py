"""Rule `low_text_image_score`: the image does not show what its prompt says."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthgen.filter.verdict import Verdict, at_least
from synthgen.records import ScoredRecord

ORDER = 60
SETTING = "min_text_image_score"
VALUE = Annotated[float, Field(ge=-1, le=1)]
DEFAULT, DESCRIPTION = -1.0, "cosine of image and prompt in the scorer's space; -1 = off"
NEEDS = ("prompt", "text_image_score")


def decide(row: ScoredRecord, threshold: float) -> Verdict | None:
    """Asks rows that have a prompt, unless it is off."""
    if not row.subject.prompt or threshold == -1:
        return None
    return at_least(row.scores.text_image_score, threshold)
