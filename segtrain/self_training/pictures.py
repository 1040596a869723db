"""Pictures of what self-training does: crops as rows, what is known of them side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw

from segkit.labels import IGNORE, LabelSpace
from segtrain.overlay import colours

_GAP_PX = 2
_TITLE_PX = 12
_MIN_WIDTH_PX = 96  # of a column, so that its title can be read


def painted(channels: torch.Tensor, space: LabelSpace) -> np.ndarray:
    """Channels (n, h, w) to (n, h, w, 3) uint8 in `overlay.colours` of the label space; what has no label is black."""
    table = colours(space)
    table[IGNORE] = 0
    ids = np.full(256, IGNORE, np.uint8)
    ids[: len(space.labels)] = space.ids
    return table[ids[channels.cpu().numpy().astype(np.uint8)]]


def photographs(pixels: torch.Tensor) -> np.ndarray:
    """(n, 3, h, w) uint8 to (n, h, w, 3) uint8."""
    return pixels.cpu().permute(0, 2, 3, 1).numpy()


def side_by_side(columns: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """One picture (H, W, 3) uint8: a titled column for each entry (n, h, w, 3) uint8, of its first `count` rows."""
    shown = {title: stack[:count] for title, stack in columns.items()}
    number, height, width, _ = next(iter(shown.values())).shape
    times = max(1, -(-_MIN_WIDTH_PX // width))
    cell_h, cell_w = height * times + _GAP_PX, width * times + _GAP_PX
    sheet = Image.new("RGB", (cell_w * len(shown), _TITLE_PX + cell_h * number), "white")
    text = ImageDraw.Draw(sheet)
    for column, (title, stack) in enumerate(shown.items()):
        text.text((column * cell_w + 1, 0), title, fill="black")
        for row, pixels in enumerate(stack):
            enlarged = Image.fromarray(pixels).resize((width * times, height * times), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (column * cell_w, _TITLE_PX + row * cell_h))
    return np.asarray(sheet)
