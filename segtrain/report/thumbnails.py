"""Pictures that travel inside a page: made small, as `data:` addresses."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def smaller(pixels: np.ndarray, longest_px: int, how: Image.Resampling = Image.Resampling.LANCZOS) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8 with no side above `longest_px`; never enlarged."""
    picture = Image.fromarray(pixels)
    share = min(1.0, longest_px / max(picture.size))
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    return np.asarray(picture.resize(size, how))


def address(pixels: np.ndarray) -> str:
    """`data:image/webp;...` of (H, W, 3) uint8 RGB."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
