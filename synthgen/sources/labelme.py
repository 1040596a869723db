"""LabelMe's files: one JSON a picture, with shapes in pixels.

Polygons, rectangles, circles and masks are drawn in their order, the later ones on top, as LabelMe draws them; points
and lines have no area and are counted.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.headers import require_size
from segkit.masks import decode_mask
from segkit.pictures import require_same_size
from segkit.printable import excerpt
from synthgen.sources.coco_fields import list_field, text_field, whole_field
from synthgen.sources.coco_instances import Instance, InstanceDecoder
from synthgen.sources.coco_shapes import Polygons, box_of, run_lengths_of, shape_of
from synthgen.sources.exports import Problems, label_files, picture_of
from synthgen.sources.folder import LabelledFile

_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_CIRCLE_POINTS = 64
_MAX_JSON_BYTES = 2**29  # the picture may be in it, in base64
_log = logging.getLogger(__name__)


def list_files(root: Path, labels: str) -> list[LabelledFile]:
    """One LabelledFile a JSON with `shapes` that matches the pattern `labels`, by path; [] if no JSON matches it.

    Every shape is checked. Raises InputError with picture and shape for what is malformed, for two files of one
    picture, and if there is no area at all.
    """
    problems, flat = Problems(), 0
    label_of: dict[Path, Path] = {}
    read: list[tuple[Path, Path, tuple[int, int], list[tuple[str, Polygons | np.ndarray]], Counter[str]]] = []
    paths = label_files(root, labels)
    for path in paths:
        raw = read_json(path, max_bytes=_MAX_JSON_BYTES, finite=False)
        if not isinstance(raw, dict) or "shapes" not in raw:
            continue
        with problems.noted(path):
            size = whole_field(raw, "imageHeight", path), whole_field(raw, "imageWidth", path)
            require_size(size, path)
            picture = picture_of(str(raw.get("imagePath") or ""), (path.parent, root, root / "images"), path.stem)
            require_same_size(size, path, picture)
            if label_of.setdefault(picture, path) != path:
                raise InputError(
                    f"{picture} is the picture of {label_of[picture]} as well: which labels are its is not known; mend "
                    "the imagePath of one, or remove one"
                )
            shapes, extras = [], Counter[str]()
            for number, item in enumerate(list_field(raw, "shapes", path)):
                where = f"{path}: shape {number} ({excerpt(item.get('label'), 40)})"
                with problems.noted(where):
                    shape = _shape(item, size)
                    flat += shape is None
                    extras += _extras(item, shape is None)
                    if shape is not None:
                        shapes.append((text_field(item, "label", where), shape))
            read.append((path, picture, size, shapes, extras))
    problems.tell()
    if paths and not read:
        raise InputError(f"{paths[0]}: is no file of LabelMe (it has no `shapes`), and no other JSON of {root} is one")
    if read and not any(shapes for *_, shapes, _ in read):
        raise InputError(f"{root}: none of its {len(read)} LabelMe files has an area: nothing is labelled")
    if flat:
        _log.warning(
            "%s: %d points, lines and polygons of fewer than three points have no area: passed over", root, flat
        )
    names = dict(enumerate(sorted({label for *_, shapes, _ in read for label, _ in shapes})))
    number_of = {name: number for number, name in names.items()}
    return [
        LabelledFile(
            path.relative_to(root).with_suffix("").as_posix(),
            picture,
            path,
            InstanceDecoder(
                names,
                {},
                size,
                tuple(Instance(number_of[each], shape) for each, shape in shapes),
                as_listed=True,
                extras=tuple(extras.items()),
            ),
            path,
        )
        for path, picture, size, shapes, extras in read
    ]


def _extras(item: dict[str, Any], is_flat: bool) -> Counter[str]:
    """What a shape says beside its area."""
    flags = item.get("flags")
    return +Counter(
        {
            "points, lines and shapes without area": int(is_flat),
            "flags": sum(map(bool, flags.values())) if isinstance(flags, dict) else 0,
            "descriptions": int(bool(item.get("description"))),
            "group numbers": int(item.get("group_id") is not None),
        }
    )


def _shape(item: dict[str, Any], size: tuple[int, int]) -> Polygons | np.ndarray | None:
    """Polygons or run lengths, as coco_shapes.drawn takes them; None for what has no area. Raises InputError."""
    kind = item.get("shape_type") or "polygon"
    if kind in _WITHOUT_AREA:
        return None
    points = item.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise InputError(f"points {excerpt(points)} must be a list of [x, y]")
    if kind == "polygon":
        shape, _ = shape_of([[value for point in points for value in point]], size)
        return shape if len(shape) else None
    if kind not in ("rectangle", "circle", "mask"):
        raise InputError(f"shape_type {excerpt(kind)} is not known; polygon, rectangle, circle and mask are")
    if len(points) != 2:
        raise InputError(f"a {kind} has two points, this has {len(points)}")
    # as a polygon of two points the numbers are checked
    (x0, y0), (x1, y1) = _numbers(points)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        turns = np.arange(_CIRCLE_POINTS) * (2 * np.pi / _CIRCLE_POINTS)
        return (np.stack([x0 + radius * np.cos(turns), y0 + radius * np.sin(turns)], axis=1),)
    if kind == "rectangle":
        return box_of([min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)])
    return _mask(item.get("mask"), round(min(x0, x1)), round(min(y0, y1)), size)


def _numbers(points: list[list[Any]]) -> np.ndarray:
    """(2, 2) float64."""
    return np.stack([box_of([*point, 0, 0])[0][0] for point in points])


def _mask(text: Any, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    """Run lengths of a PNG in base64 that lies at (left, top)."""
    try:
        data = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"mask {excerpt(text, 40)} is not base64") from error
    part = decode_mask(data, "its mask") > 0
    whole = np.zeros(size, dtype=bool)
    height, width = part.shape
    if left < 0 or top < 0 or top + height > size[0] or left + width > size[1]:
        raise InputError(f"a mask of {height} x {width} px at x {left}, y {top} leaves the picture")
    whole[top : top + height, left : left + width] = part
    return run_lengths_of(whole)
