"""Label Studio's JSON export: brush masks as its run lengths, polygons, rectangles and ellipses in percent.

Regions are drawn in their order, the later ones on top; results that are no areas are passed over. Tasks without an
annotation are left out; of several annotations of one task the first that was not skipped counts.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.headers import require_size
from segkit.pictures import IMAGE_SUFFIXES, require_same_size
from segkit.printable import excerpt
from synthgen.sources.coco_fields import list_field, whole_field
from synthgen.sources.coco_instances import Instance, InstanceDecoder
from synthgen.sources.coco_shapes import Polygons, box_of, run_lengths_of, shape_of
from synthgen.sources.exports import Problems, label_files, path_of, picture_of
from synthgen.sources.folder import LabelledFile

_MAX_JSON_BYTES = 2**31  # brush masks are lists of numbers
_NAMES = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
_WITHOUT_AREA = {  # types of results that are about the whole picture, a point or two regions
    **dict.fromkeys(("choices", "taxonomy", "rating", "textarea", "number", "datetime", "pairwise"), "answers"),
    "keypointlabels": "key points",
    "relation": "relations",
}
_ELLIPSE_POINTS = 64
_log = logging.getLogger(__name__)

Shape = Polygons | np.ndarray


def list_files(root: Path, labels: str) -> list[LabelledFile]:
    """One LabelledFile an annotated task of the JSON files that match the pattern `labels`; [] if no file matches it.

    Pictures are looked for by name in images/ and beside the JSON. Raises InputError with task and region for what is
    malformed, if none of the files is an export and if no task has an annotation.
    """
    problems, num_tasks, left_out, several = Problems(), 0, 0, 0
    read: dict[Path, tuple[Path, tuple[int, int], list[tuple[str, Shape]], Counter[str]]] = {}
    paths = label_files(root, labels)
    for path in paths:
        raw = read_json(path, max_bytes=_MAX_JSON_BYTES, finite=False)
        if not isinstance(raw, list) or not all(isinstance(task, dict) and "annotations" in task for task in raw):
            continue
        num_tasks += len(raw)
        for task in raw:
            where = f"{path}: task {excerpt(task.get('id'))}"
            with problems.noted(where):
                done = [one for one in list_field(task, "annotations", where) if not one.get("was_cancelled")]
                several += len(done) > 1
                results = list_field(done[0], "result", where) if done else []
                kinds = [_WITHOUT_AREA.get(str(one.get("type"))) for one in results]
                regions = [one for one, kind in zip(results, kinds, strict=True) if kind is None]
                extras = Counter(kind for kind in kinds if kind is not None)
                extras["notes"] += sum(bool(one.get("meta")) for one in regions)
                if not regions:
                    left_out += 1
                    continue
                picture = picture_of(_picture_name(task), (root / "images", root))
                if picture in read:
                    raise InputError(f"{picture} is the picture of another task as well")
                read[picture] = (path, *_regions(regions, where, picture, problems), +extras)
    problems.tell()
    if paths and not num_tasks:
        raise InputError(
            f"{paths[0]}: is no list of tasks with `annotations`, and no other JSON of {root} is one: export the "
            "project as JSON, not as JSON-MIN"
        )
    if num_tasks and not read:
        raise InputError(
            f"{root}: none of its {num_tasks} tasks has an area that somebody has drawn: predictions and skipped tasks "
            "do not count"
        )
    if left_out or several:
        _log.warning(
            "%s: %d tasks without an annotation are left out; of %d with several the first one counts",
            root, left_out, several,
        )  # fmt: skip
    names = dict(enumerate(sorted({name for *_, shapes, _ in read.values() for name, _ in shapes})))
    number_of = {name: number for number, name in names.items()}
    return [
        LabelledFile(
            picture.stem,
            picture,
            path,
            InstanceDecoder(
                names,
                {},
                size,
                tuple(Instance(number_of[name], shape) for name, shape in shapes),
                as_listed=True,
                extras=tuple(extras.items()),
            ),
            path,
        )
        for picture, (path, size, shapes, extras) in sorted(read.items(), key=lambda one: one[0])
    ]


def _picture_name(task: dict[str, Any]) -> str:
    """Of the task's data the first that looks like a picture's path or link."""
    data = task.get("data")
    texts = [text for text in (data.values() if isinstance(data, dict) else ()) if isinstance(text, str)]
    names = [text for text in texts if PurePosixPath(path_of(text)).suffix.lower() in IMAGE_SUFFIXES]
    if not names:
        raise InputError(f"its data {excerpt(data)} names no picture")
    return names[0]


def _regions(
    regions: list[dict[str, Any]], where: str, picture: Path, problems: Problems
) -> tuple[tuple[int, int], list[tuple[str, Shape]]]:
    """(H, W) of the picture, and (class name, shape) of each region."""
    size = whole_field(regions[0], "original_height", where), whole_field(regions[0], "original_width", where)
    require_size(size, where)
    require_same_size(size, where, picture)
    shapes = []
    for region in regions:
        with problems.noted(f"{where}: region {excerpt(region.get('id'))}"):
            value = region.get("value")
            if not isinstance(value, dict):
                raise InputError(f"`value` must be an object, not {excerpt(value)}")
            names = next((value[kind] for kind in _NAMES if kind in value), None)
            if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
                raise InputError(f"must have one label of {', '.join(_NAMES)}, has {excerpt(names)}")
            if region.get("image_rotation") or value.get("rotation"):
                raise InputError("is rotated: turn the picture or draw the region upright, and export again")
            shapes.append((names[0], _shape(value, size)))
    return size, shapes


def _shape(value: dict[str, Any], size: tuple[int, int]) -> Shape:
    height, width = size
    if "rle" in value:
        return run_lengths_of(decode_brush(value["rle"], size))
    if "points" in value:
        points = value["points"]
        if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
            raise InputError(f"points {excerpt(points)} must be a list of [x, y]")
        polygons, _ = shape_of([[number for point in points for number in point]], size)
        if not len(polygons):
            raise InputError("a polygon of fewer than three points is no area")
        return tuple(points * (width / 100, height / 100) for points in polygons if isinstance(points, np.ndarray))
    x, y, *sides = (value.get(key) for key in ("x", "y", "width", "height"))
    if "radiusX" in value:
        sides = [value.get("radiusX"), value.get("radiusY")]
    corners = box_of([x, y, *sides])[0] * (width / 100, height / 100)
    if "radiusX" not in value:
        return (corners,)
    turns = np.arange(_ELLIPSE_POINTS) * (2 * np.pi / _ELLIPSE_POINTS)
    return (corners[0] + (corners[2] - corners[0]) * np.stack([np.cos(turns), np.sin(turns)], axis=1),)


def decode_brush(values: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of Label Studio's run lengths of an RGBA picture, of which the alpha channel is the mask.

    A stream of bits: 32 for the number of values, 5 for the bits of a value, 4 for each of four run sizes; then blocks
    of one bit (the same value, or one after the other), two that choose the run size, the length, the values. Raises
    InputError.
    """
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 256 for value in values):
        raise InputError("`rle` must be a list of bytes")
    bits, at = "".join(f"{value:08b}" for value in values), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise InputError("the run lengths of `rle` end too early")
        return int(bits[at - count : at], 2)

    total, width = read(32), read(5) + 1
    run_sizes = [read(4) + 1 for _ in range(4)]
    if total != size[0] * size[1] * 4 or width != 8:
        raise InputError(f"`rle` holds {total} values of {width} bits, not the RGBA of {size[0]} x {size[1]} px")
    pixels, start = np.zeros(total, np.uint8), 0
    while start < total:
        is_run = read(1)
        stop = start + 1 + read(run_sizes[read(2)])
        if stop > total:
            raise InputError("the run lengths of `rle` are longer than the picture")
        pixels[start:stop] = read(8) if is_run else [read(8) for _ in range(stop - start)]
        start = stop
    return pixels.reshape(*size, 4)[..., 3] > 0
