"""Boxes and boundary bands of regions, for SABR: it works in a band around their edges (step 1).

Everything here is a pure function over arrays.
"""

from __future__ import annotations

import numpy as np

# scipy.ndimage is imported in the functions: planning a run imports this module, and the import takes longer than the
# plan.


def band_radius(size: tuple[int, int], band_fraction: float, min_band_px: int) -> int:
    """Radius of SABR's boundary band: max(min_band_px, round(band_fraction * min(H, W)))."""
    return max(min_band_px, round(band_fraction * min(size)))


def edge_of(region: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of a region that have a 4-neighbour outside it. The image border is no edge."""
    from scipy import ndimage

    return region & ~ndimage.binary_erosion(region, border_value=1)


def boundary_band(region: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) bool: dilate(edge, radius), i.e.

    pixels within `radius` (Chebyshev) of the edge of a region, on both sides (SABR, step 1).
    """
    from scipy import ndimage

    return ndimage.maximum_filter(edge_of(region), size=2 * radius + 1, mode="constant", cval=False)


def padded_boxes(boxes: np.ndarray, padding: float, size: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32 XYXY:

    every side moved outwards by `padding` times the box's width or height, clipped to the image (SABR, step 1).
    """
    grown = np.asarray(boxes, np.float32).reshape(-1, 4).copy()
    width, height = grown[:, 2] - grown[:, 0], grown[:, 3] - grown[:, 1]
    grown += padding * np.stack([-width, -height, width, height], axis=1)
    rows, columns = size
    return np.clip(grown, 0, np.asarray([columns, rows, columns, rows], np.float32))


def box_window(box: np.ndarray) -> tuple[slice, slice]:
    """The (rows, columns) of the pixels that a box XYXY touches."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return slice(int(np.floor(y0)), int(np.ceil(y1))), slice(int(np.floor(x0)), int(np.ceil(x1)))
