"""Polygons through the centres of a mask's boundary pixels:

drawn and filled with 8-connected lines, they are the mask, no more and no less.

That is how OpenCV's `findContours` and `fillPoly` see a polygon, and so every trainer that reads YOLO labels. A hole is
cut in by a seam: the line goes there and back over the same pixels, so that one closed line is enough.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Point = tuple[int, int]  # x, y


def outlines(mask: np.ndarray) -> list[list[Point]]:
    """One polygon of pixels (x, y) for each 4-connected part of an (H, W) bool mask, in order of the first pixel by
    rows. A part of one or two pixels has as many points."""
    parts, _ = ndimage.label(mask)
    polygons = []
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        top, left = box[0].start, box[1].start
        polygons.append([(x + left, y + top) for x, y in _outline(parts[box] == number)])
    return polygons


def _outline(part: np.ndarray) -> list[Point]:
    # a hole's seam goes straight up, so what it meets has begun higher and is there already
    loops = sorted(_loops(part), key=lambda loop: min(y for _, y in loop))
    merged, *holes = map(_pixels, loops)
    for hole in holes:
        merged = _with_hole(merged, hole)
    return _corners(merged)


def _loops(part: np.ndarray) -> list[list[Point]]:
    """The closed lines around the set pixels along their edges, in unit steps, the pixels on the right hand:

    the outer one and one a hole.
    """
    padded = np.pad(part, 1)
    inside = padded[1:-1, 1:-1]
    steps: dict[Point, list[Point]] = {}
    sides = (  # of a pixel at (x, y): the neighbour that must be empty, where the side starts and where it ends
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for beside, start, end in sides:
        ys, xs = np.nonzero(inside & ~beside)
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
            steps.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    loops = []
    while steps:
        first = next(iter(steps))
        at, before = first, first
        loop = []
        while True:
            ways = steps[at]
            way = ways[0] if len(ways) == 1 else _to_the_right(before, at, ways)
            ways.remove(way)
            if not ways:
                del steps[at]
            loop.append(at)
            before, at = at, way
            if at == first and (at not in steps or len(loop) > 1):
                break
        loops.append(loop)
    return loops


def _to_the_right(before: Point, at: Point, ways: list[Point]) -> Point:
    """Where two pixels touch by a corner: the way that stays on the side of the same pixel."""
    dx, dy = at[0] - before[0], at[1] - before[1]
    right = (at[0] - dy, at[1] + dx)
    return right if right in ways else ways[0]


def _pixels(loop: list[Point]) -> list[Point]:
    """The pixels on the right hand of a closed line of edges, each once in a row."""
    path: list[Point] = []
    for number, (x, y) in enumerate(loop):
        to_x, to_y = loop[(number + 1) % len(loop)]
        pixel = (min(x, to_x) - (to_y > y), min(y, to_y) - (to_x < x))
        if not path or path[-1] != pixel:
            path.append(pixel)
    return path[:-1] if len(path) > 1 and path[0] == path[-1] else path


def _with_hole(line: list[Point], hole: list[Point]) -> list[Point]:
    place = {point: number for number, point in enumerate(line)}
    start = min(range(len(hole)), key=lambda number: (hole[number][1], hole[number][0]))
    seam = [hole[start]]
    while seam[-1] not in place:
        seam.append((seam[-1][0], seam[-1][1] - 1))
    at = place[seam[-1]]
    return line[:at] + seam[::-1] + hole[start + 1 :] + hole[:start] + seam + line[at + 1 :]


def _corners(line: list[Point]) -> list[Point]:
    """Without the points in the middle of a straight run."""
    kept = []
    for number, (x, y) in enumerate(line):
        (px, py), (nx, ny) = line[number - 1], line[(number + 1) % len(line)]
        if (x - px, y - py) != (nx - x, ny - y):
            kept.append((x, y))
    return kept or line
