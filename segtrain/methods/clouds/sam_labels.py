"""SAM's masks as pseudo-labels: overlaps out, the rest united by class (CLOUDS).

A class whose masks lose all of their pixels has no target at all, and a mask may be asked to agree with the component
that it was asked about: the released code has an empty target there, and no such question.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.networks.sam import MaskPrompts, SamDecoder
from segkit.regions import Components
from segtrain.methods.clouds.points import large_components, prompts_of

NONE_OF_THESE = OUT_OF_DISTRIBUTION
"""Channel of a pixel that is of none of the classes which have a mask in its crop."""


@dataclasses.dataclass(frozen=True, slots=True)
class Redrawn:
    """What became of one crop (H, W)."""

    components: Components
    prompts: MaskPrompts | None  # None if there was no component to ask about
    masks: np.ndarray  # (N, H, W) bool, SAM's answer to each component
    channels: np.ndarray  # (H, W) uint8: the new labels; 255 = none, 254 = NONE_OF_THESE


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """How SAM is asked and heard."""

    prompts: Literal["points", "boxes"]
    points: int
    min_area: float
    min_agreement: float
    uncovered: Literal["ignore", "negative", "teacher"]


def redraw(
    image: np.ndarray, channels: np.ndarray, decoder: SamDecoder, rules: Rules, rng: np.random.Generator
) -> Redrawn:
    """`image` (H, W, 3) uint8, the teacher's `channels` (H, W) uint8 with 255 outside the picture."""
    components = large_components(channels, rules.min_area)
    if not len(components):
        return Redrawn(components, None, np.zeros((0, *channels.shape), bool), channels)
    prompts = prompts_of(components, rules.prompts, rules.points, rng)
    [(masks, _)] = decoder.decode([image], [prompts])
    return Redrawn(components, prompts, masks, united(masks, components, channels, rules))


def united(masks: np.ndarray, components: Components, teacher: np.ndarray, rules: Rules) -> np.ndarray:
    """New labels (H, W) uint8 of N masks (N, H, W) bool of the components.

    A pixel has the class of the one mask that covers it. Those that none or several cover are `rules.uncovered`, and
    what is not in the picture has no label. If no pixel is left, the teacher's answer stays.
    """
    agree = agreement(masks, components) >= rules.min_agreement
    heard, classes = masks[agree], components.class_ids[agree]
    alone = (heard.sum(axis=0) == 1) & (teacher != IGNORE)
    if not alone.any():
        return teacher
    rest: Any = {"ignore": IGNORE, "negative": NONE_OF_THESE, "teacher": teacher}[rules.uncovered]
    labels = np.where(alone, classes[heard.argmax(axis=0)], rest).astype(np.uint8)
    labels[teacher == IGNORE] = IGNORE
    return labels


def agreement(masks: np.ndarray, components: Components) -> np.ndarray:
    """(N,) float64: IoU of each mask with its component."""
    numbers = np.arange(1, len(masks) + 1)[:, None, None]
    common = np.count_nonzero(masks & (components.index == numbers), axis=(1, 2))
    return common / np.maximum(np.count_nonzero(masks, axis=(1, 2)) + components.areas_px - common, 1)
