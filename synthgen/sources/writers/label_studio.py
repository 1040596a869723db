"""Label Studio's JSON: images/, project.json with a task a picture, labelling_config.xml with the classes.

A polygon stays one where its points in percent give the same pixels; everything else is a brush mask. Unlabelled pixels
are brush masks of the class `ignored`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from segkit.colours import colours_of
from segkit.labels import LabelSpace
from synthgen.sources.coco_shapes import drawn
from synthgen.sources.objects import Area
from synthgen.sources.writing import LabelledPicture, name_of, write_file, write_json

OBJECTS = True
USE = (
    "Label Studio: a project with labelling_config.xml, the folder above images/ as its local storage "
    "(LOCAL_FILES_DOCUMENT_ROOT), then import project.json"
)
_UNLABELLED = "ignored"
_RUN_SIZES = (3, 4, 8, 16)  # bits of a run's length, as Label Studio's own writer chooses them
_LONGEST_RUN = 2 ** _RUN_SIZES[-1]


def build(out: Path, space: LabelSpace) -> LabelStudio:
    return LabelStudio(out, space)


class LabelStudio:
    pictures = "images"

    def __init__(self, out: Path, space: LabelSpace) -> None:
        self._out, self._space = out, space
        self._tasks: list[dict[str, Any]] = []
        self._ids = {label.id for label in space.foreground}

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """As they are listed, the later ones on top."""
        return list(areas)

    def add(self, picture: LabelledPicture) -> None:
        height, width = picture.mask.shape
        regions = []
        for number, area in enumerate(picture.areas):
            self._ids.add(area.class_id)
            kind, value = _value(area, (height, width))
            name = name_of(area.class_id, self._space, _UNLABELLED)
            regions.append(
                {
                    "id": f"r{number}",
                    "type": kind,
                    "from_name": kind.removesuffix("labels"),
                    "to_name": "image",
                    "original_height": height,
                    "original_width": width,
                    "image_rotation": 0,
                    "value": {kind: [name], **value},
                }
            )
        link = f"/data/local-files/?d={quote(f'{self.pictures}/{picture.file}')}"
        done = {"result": regions, "was_cancelled": False}
        self._tasks.append({"id": len(self._tasks) + 1, "data": {"image": link}, "annotations": [done]})

    def close(self) -> None:
        write_json(self._tasks, self._out / "project.json")
        colours = colours_of(self._space)
        labels = "".join(
            f"    <Label value={quoteattr(name_of(class_id, self._space, _UNLABELLED))} "
            f'background="#{bytes(colours[class_id]).hex()}"/>\n'
            for class_id in sorted(self._ids)
        )
        tags = "".join(
            f'  <{tag} name="{name}" toName="image">\n{labels}  </{tag}>\n'
            for tag, name in (("BrushLabels", "brush"), ("PolygonLabels", "polygon"))
        )
        config = f'<View>\n  <Image name="image" value="$image"/>\n{tags}</View>\n'
        write_file(config.encode(), self._out / "labelling_config.xml")


def _value(area: Area, size: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    """Type and value of a region."""
    whole = drawn(area.shape, size)
    if not isinstance(area.shape, np.ndarray) and len(area.shape) == 1:
        scale = np.array([size[1] / 100, size[0] / 100])
        percent = area.shape[0] / scale
        if np.array_equal(drawn((percent * scale,), size), whole):
            return "polygonlabels", {"points": percent.tolist(), "closed": True}
    return "brushlabels", {"format": "rle", "rle": encode_brush(whole)}


def encode_brush(mask: np.ndarray) -> list[int]:
    """Bytes of the run lengths that `label_studio.decode_brush` reads, of an (H, W) bool mask: an RGBA picture in which
    all four channels are 255 inside."""
    flat = mask.ravel()
    bounds = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    bits = [f"{4 * mask.size:032b}{7:05b}", *(f"{size - 1:04b}" for size in _RUN_SIZES)]
    inside = bool(flat[0])
    for length in (4 * np.diff(bounds)).tolist():
        while length:
            run = min(length, _LONGEST_RUN)
            place = next(n for n, size in enumerate(_RUN_SIZES) if run <= 2**size)
            bits.append(f"1{place:02b}{run - 1:0{_RUN_SIZES[place]}b}{255 * inside:08b}")
            length -= run
        inside = not inside
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
