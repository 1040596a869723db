"""The samples that the page shows: chosen evenly, drawn small, with everything that the stages said of them.

The pictures are most of the page's bytes, so they are counted while they are made: a page stays under its limit
whatever the images are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from segkit.labels import IGNORE
from synthgen.errors import InputError
from synthgen.images import read_image, read_mask
from synthgen.report.run_rows import KEPT, PENDING, Row, RunRows
from synthgen.report.scores import SCORES, value_of
from synthgen.report.thumbnails import overlay, photograph

STEPS = (("coarse", "coarse"), ("filtered", "APF"), ("relabelled", "APR"), ("mask", "final"))
"""Column of each mask and the word for it on the page, in the order of making."""
MAX_REFUSED_SHARE = 0.25
PICTURE_BYTES = 13_000_000
"""What all pictures of the gallery may take: with scripts, charts and texts the page stays under 20 MB."""
MIN_SHOWN_SHARE = 0.005
"""A class counts as shown by a scene if it covers this share of its final mask."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gallery:
    """`cards` is what the page's script reads. `num_images` are all images of the run;

    `num_left_out` were chosen but did not fit.

    `class_pixels` counts the final masks of those cards that are not refused: id -> (pixels, images that show it).
    """

    cards: tuple[dict[str, Any], ...]
    num_images: int
    num_left_out: int
    unreadable: tuple[str, ...]
    class_pixels: Mapping[int, tuple[int, int]] = dataclasses.field(default_factory=dict)


def choose(images: Iterable[Row], limit: int) -> list[Row]:
    """At most `limit` images: refused ones up to a quarter, equally many of each reason;

    the rest kept ones, equally many of each class.

    Within a group the lowest keys: they are hashes, so that is a random draw which does not depend on the order of the
    rows.
    """
    rows = sorted(images, key=lambda row: row["key"])
    refused = [row for row in rows if row["outcome"] not in (KEPT, PENDING)]
    others = [row for row in rows if row["outcome"] in (KEPT, PENDING)]
    share = min(len(refused), max(limit - len(others), int(limit * MAX_REFUSED_SHARE)))
    chosen = list(_in_turns(refused, "outcome", share))
    return [*_in_turns(others, "class_id", limit - len(chosen)), *chosen]


def _in_turns(rows: list[Row], column: str, limit: int) -> Iterator[Row]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    ordered = [group for _, group in sorted(groups.items())]
    taken = 0
    for turn in range(max(map(len, ordered), default=0)):
        for group in ordered:
            if turn < len(group) and taken < limit:
                taken += 1
                yield group[turn]


def gallery(found: RunRows, limit: int, picture_bytes: int = PICTURE_BYTES) -> Gallery:
    """Draw the chosen images. One that is missing or damaged is left out and named, not fatal."""
    cards: list[dict[str, Any]] = []
    unreadable: list[str] = []
    used, chosen = 0, choose(found.images, limit)
    pixels, images = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    for row in chosen:
        try:
            made = card(found, row)
        except InputError as error:
            unreadable.append(str(error).replace(f"{found.run}/", ""))
            continue
        size = (
            len(made["image"])
            + len(made["original"])
            + sum(len(mask) for mask in made["masks"] if isinstance(mask, str))
        )
        if used + size > picture_bytes:
            break
        used += size
        counts = made.pop("pixels")
        if row["outcome"] in (KEPT, PENDING):
            pixels += counts
            images += counts > 0
        cards.append(made)
    cards.sort(key=lambda made: (made["outcome"] not in (KEPT, PENDING), made["key"]))
    counted = {int(i): (int(pixels[i]), int(images[i])) for i in np.flatnonzero(pixels)}
    if counted.keys() == {IGNORE}:  # pictures that are wanted without labels: hatching all over would hide them
        for made in cards:
            made["masks"] = []
    return Gallery(
        tuple(cards), len(found.images), len(chosen) - len(cards) - len(unreadable), tuple(unreadable), counted
    )


def card(found: RunRows, row: Row) -> dict[str, Any]:
    """One image as the page's script reads it, and `pixels`, the (256,) counts of its final mask. A mask that equals
    the step before it is the number of that step.

    Raises InputError that names a missing or damaged file.
    """
    masks: list[str | int] = []
    shown: list[int] = []
    pixels = np.zeros(256, dtype=np.int64)
    for number, (column, _) in enumerate(STEPS):
        if not row.get(column):
            continue
        mask = read_mask(found.run / row[column])
        drawn = overlay(mask, found.space)
        same = next((n for n, other in enumerate(masks) if other == drawn), None)
        masks.append(drawn if same is None else same)
        if number == len(STEPS) - 1:
            pixels = np.bincount(mask.ravel(), minlength=256)
            shown = [label.id for label in found.space.labels if pixels[label.id] / mask.size >= MIN_SHOWN_SHARE]
    return {
        "key": row["key"],
        "prompt_key": row["parent"],
        "class_id": row["class_id"] if row["class_id"] != IGNORE else -1,
        "shows": shown,
        "prompt": row["prompt"],
        "attributes": dict(text.partition("=")[::2] for text in row["attributes"]),
        "outcome": row["outcome"],
        "stage": row["stage"],
        "detail": row["detail"],
        "split": row.get("split", ""),
        "shard": row["shard"],
        "seed": str(row["seed"]),  # up to 62 bits: more than a JavaScript number holds
        "size": [row["height_px"], row["width_px"]],
        "scores": {score.key: value for score in SCORES if not math.isnan(value := value_of(score, row))},
        "image": photograph(read_image(found.run / row["image"])),
        "original": photograph(read_image(found.run / row["original"])) if row.get("original") else "",
        "attempts": row.get("attempts", 1),
        "masks": masks,
        "pixels": pixels,
    }


def attribute_values(cards: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """attribute -> the values that the cards have, sorted: the domains that one can filter by."""
    found: dict[str, set[str]] = {}
    for made in cards:
        for name, value in made["attributes"].items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in sorted(found.items())}
