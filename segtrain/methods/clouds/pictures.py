"""Columns for the pictures of a training: the components with their points or boxes, and SAM's answer to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from segtrain.methods.clouds.sam_labels import Redrawn

_POINT = (255, 255, 255)
_OVERLAP = (255, 255, 255)


def columns(answers: Sequence[Redrawn]) -> Mapping[str, np.ndarray]:
    """(n, H, W, 3) uint8 each: a colour a component, its prompts in white; SAM's masks in the same colours, pixels in
    several of them white."""
    return {
        "components": np.stack([_components(answer) for answer in answers]),
        "SAM": np.stack([_masks(answer) for answer in answers]),
    }


def _colours(number: int) -> np.ndarray:
    """(number + 1, 3) uint8, black first; far apart for neighbours."""
    hues = (np.arange(number) * 0.618033988749895) % 1  # the golden ratio
    wheel = np.clip(np.abs((hues[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return np.concatenate([np.zeros((1, 3)), 40 + 180 * wheel]).astype(np.uint8)


def _components(answer: Redrawn) -> np.ndarray:
    picture = Image.fromarray(_colours(len(answer.components))[answer.components.index])
    if answer.prompts is not None:
        pen = ImageDraw.Draw(picture)
        if answer.prompts.points is not None:
            pen.point([tuple(point) for point in answer.prompts.points.reshape(-1, 2).tolist()], fill=_POINT)
        elif answer.prompts.boxes is not None:
            for x0, y0, x1, y1 in answer.prompts.boxes.tolist():
                pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_POINT)
    return np.asarray(picture)


def _masks(answer: Redrawn) -> np.ndarray:
    colours = _colours(len(answer.masks))
    covered = answer.masks.sum(axis=0)
    number = np.where(covered > 0, answer.masks.argmax(axis=0) + 1, 0) if len(answer.masks) else covered
    return np.where((covered > 1)[..., None], np.array(_OVERLAP, np.uint8), colours[number])
