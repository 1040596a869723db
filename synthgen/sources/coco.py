"""COCO's annotation files: panoptic PNGs with their JSON, and instances as polygons or run lengths.

Class names come from the file's own `categories`. An id image of the panoptic format holds R + 256 G + 65536 B, 0 is
void.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import IGNORE, LabelSpace
from segkit.masks import read_colours
from synthgen.errors import InputError
from synthgen.sources.encodings import ids_of, translate
from synthgen.sources.folder import LabelledFile

_CROWD = -1


def list_files(
    root: Path, images: str, labels: str, encoding: str, split: str, aliases: dict[str, str]
) -> list[LabelledFile]:
    """One LabelledFile an image that has annotations.

    Its label is the panoptic PNG, or the JSON that holds its instances.

    `labels` is the template of the JSON; empty list if it is not there. Raises InputError for a damaged JSON and for
    missing pictures.
    """
    path = root / labels.format(split=split)
    if not path.is_file():
        return []
    raw = _annotations(path)
    try:
        names = {int(item["id"]): str(item["name"]) for item in raw["categories"]}
        files = {int(item["id"]): str(item["file_name"]) for item in raw["images"]}
        sizes = {int(item["id"]): (int(item["height"]), int(item["width"])) for item in raw["images"]}
        grouped: dict[int, list[dict[str, Any]]] = {}
        for item in raw["annotations"]:
            grouped.setdefault(int(item["image_id"]), []).append(item)
        found = []
        for number, items in sorted(grouped.items(), key=lambda pair: files[pair[0]]):
            stem = Path(files[number]).stem
            decode: PanopticDecoder | InstanceDecoder
            if encoding == "coco_panoptic":
                label = path.with_suffix("") / items[0]["file_name"]
                decode = PanopticDecoder(
                    names, aliases, {int(part["id"]): int(part["category_id"]) for part in items[0]["segments_info"]}
                )
            else:
                label = path
                decode = InstanceDecoder(names, aliases, sizes[number], tuple(_instance(item) for item in items))
            found.append(LabelledFile(stem, root / images.format(split=split) / files[number], label, decode))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not a COCO annotation file ({type(error).__name__}: {error})") from error
    missing = next((each for pair in found for each in (pair.image, pair.label) if not each.is_file()), None)
    if missing is not None:
        raise InputError(
            f"{missing}: no such file, but {path.name} asks for it; the download or its unpacking is not complete"
        )
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class PanopticDecoder:
    """Reads one panoptic PNG."""

    names: dict[int, str]
    aliases: dict[str, str]
    segments: dict[int, int]  # segment id -> category id

    def __call__(self, path: Path, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8 ids of `space`; void and classes that it lacks are 255.

        Raises LabelError for a segment that the JSON does not list.
        """
        channels = read_colours(path).astype(np.int64)
        values = channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]
        of_category = ids_of(self.names, space, path, self.aliases)
        return translate(
            values,
            {0: IGNORE} | {segment: of_category.get(kind, IGNORE) for segment, kind in self.segments.items()},
            path,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceDecoder:
    """Draws the instances of one image, the largest first; pixels of none are background, crowds are 255."""

    names: dict[int, str]
    aliases: dict[str, str]
    size: tuple[int, int]  # (H, W)
    instances: tuple[tuple[int, float, Any], ...]  # (category id or -1 for a crowd, area, segmentation)

    def __call__(self, path: Path, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8 ids of `space`; classes that it lacks are 255 and not background.

        Raises LabelError if it has none of COCO's.
        """
        ids = ids_of(self.names, space, path, self.aliases)
        found = np.full(self.size, IGNORE if space.background is None else space.background, np.uint8)
        # crowds go first: a counted instance inside one keeps its label
        for category, _, shape in sorted(self.instances, key=lambda item: (item[0] != _CROWD, -item[1])):
            found[region(shape, self.size)] = IGNORE if category == _CROWD else ids.get(category, IGNORE)
        return found


def region(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a list of polygons [x0, y0, x1, y1 ...] or of run lengths {"size", "counts"}, counts as numbers or
    as COCO's string.

    Raises InputError for anything else.
    """
    if isinstance(segmentation, list):
        found = np.zeros(size, dtype=bool)
        for polygon in segmentation:
            if len(polygon) < 6:
                raise InputError(f"a polygon of {len(polygon)} numbers is no area; it needs three points or more")
            found |= inside(np.reshape(polygon, (-1, 2)).astype(np.float64), size)
        return found
    counts = segmentation["counts"]
    runs = run_lengths(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if tuple(segmentation["size"]) != size or min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise InputError(f"run lengths of {sum(runs)} px do not fit an image of {size[0]} x {size[1]} px")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size, order="F")


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels whose centre lies in the polygon (N, 2) of x, y, even-odd.

    Pixel (0, 0) covers 0..1, as COCO has it.
    """
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5))))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)] += 1
    return (np.cumsum(crossings, axis=1)[:, :width] % 2).astype(bool)


def run_lengths(text: str) -> list[int]:
    """The numbers of COCO's compressed string: five bits a character from 48 up, the sixth says that more follow, and
    from the third number on each is the difference to the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def _instance(item: dict[str, Any]) -> tuple[int, float, Any]:
    return _CROWD if item.get("iscrowd") else int(item["category_id"]), float(item["area"]), item["segmentation"]


@functools.lru_cache(maxsize=1)
def _annotations(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
