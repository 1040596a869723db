"""Small pictures as `data:` addresses: photographs as WebP, masks as palette PNGs that lie over them.

Palette images are for looking at only; datasets hold ids (synthgen.images).
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from segkit.colours import distinct_table
from segkit.labels import IGNORE, LabelSpace

LONGEST_PX = 208
FILL_ALPHA = 150
SCENE_ALPHA = 110
"""Where every pixel has a class, a strong tint would hide the photograph."""
HATCH = (255, 255, 255, 200)


def photograph(image: np.ndarray, longest_px: int = LONGEST_PX) -> str:
    """(H, W, 3) uint8 -> data address of a WebP picture, never larger than the original."""
    picture = Image.fromarray(image)
    picture.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return _address(picture, "webp", quality=82, method=3)


def grey(values: np.ndarray, longest_px: int = LONGEST_PX) -> str:
    """(H, W) uint8 -> data address of a grey WebP picture: a confidence map."""
    picture = Image.fromarray(values)
    picture.thumbnail((longest_px, longest_px), Image.Resampling.BILINEAR)
    return _address(picture.convert("RGB"), "webp", quality=70, method=3)


def overlay(mask: np.ndarray, space: LabelSpace, longest_px: int = LONGEST_PX) -> str:
    """(H, W) uint8 ids -> data address of a half-transparent PNG.

    Classes are filled with their colour (PASCAL VOC's where two have one) and edged solidly, the background is left
    clear, ignore is hatched in white.
    """
    picture = Image.fromarray(mask)
    scale = min(1.0, longest_px / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    ids = np.asarray(picture.resize(size, Image.Resampling.NEAREST))
    colours = distinct_table(space)
    present = [int(i) for i in np.unique(ids) if i not in (space.background, IGNORE)]
    edge = np.zeros(ids.shape, dtype=bool)
    for ahead, behind in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differs = ids[ahead] != ids[behind]
        edge[ahead] |= differs
        edge[behind] |= differs
    palette = [(0, 0, 0, 0), HATCH]
    indices = np.zeros(ids.shape, dtype=np.uint8)
    down, across = np.indices(ids.shape)
    indices[(ids == IGNORE) & ((down + across) % 5 < 2)] = 1
    for i in present:
        red, green, blue = (int(v) for v in colours[i])
        of_class = ids == i
        indices[of_class] = len(palette)
        palette.append((red, green, blue, SCENE_ALPHA if space.background is None else FILL_ALPHA))
        if len(palette) + len(present) < 256:
            indices[of_class & edge] = len(palette)
            palette.append((red, green, blue, 255))
    small = Image.fromarray(indices)
    small.putpalette([v for colour in palette for v in colour[:3]])
    return _address(small, "png", transparency=bytes(colour[3] for colour in palette), optimize=True)


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
