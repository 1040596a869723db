"""Rule `near_duplicate_image`: an image too much like one that is kept already."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthgen.filter.verdict import Verdict, at_most

ORDER = 80
SETTING = "max_image_similarity"
VALUE = Annotated[float, Field(ge=-1, le=1)]
DEFAULT, DESCRIPTION = 1.0, "near-duplicate image: cosine to a kept image above this is refused; 1 = off"
NEEDS = ("image_embedding",)


def compare(similarity: float, threshold: float) -> Verdict | None:
    """`similarity` is the highest cosine to the images kept before, -1 for none. Asks every image, unless it is off."""
    return None if threshold == 1 else at_most(similarity, threshold)
