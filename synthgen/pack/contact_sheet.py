"""The picture of a dataset: some samples of every class with their masks on top."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segkit.colours import colours_of, distinct_table
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from synthgen.images import png_bytes, read_image, read_mask
from synthgen.records import Sample

MAX_SAMPLES = 48
CELL_PX = 128  # shorter side of a picture on the sheet
MAX_CELL_PX = 256
SHEET_PX = 1200  # about the width of a page
GAP_PX = 10
FONT_PX = 14
OPACITY = 0.45
_PAPER = (255, 255, 255)
_INK = (32, 32, 32)


def choose(samples: Iterable[Sample], limit: int = MAX_SAMPLES) -> list[Sample]:
    """At most `limit` samples, equally many of each class as far as they go, by class id and key. Keys are
    hashes, so the lowest ones are a random draw that does not depend on the order of `samples`. Holds `limit`
    samples per class, however many there are.
    """
    lowest: dict[int, list[Sample]] = {}
    for sample in samples:
        kept = lowest.setdefault(sample.subject.class_id, [])
        kept.append(sample)
        if len(kept) >= 2 * limit:
            kept[:] = heapq.nsmallest(limit, kept, key=lambda row: row.key)
    groups = [sorted(kept, key=lambda row: row.key)[:limit] for _, kept in sorted(lowest.items())]
    rounds = (group[turn] for turn in range(limit) for group in groups if turn < len(group))
    chosen = [sample for sample, _ in zip(rounds, range(limit), strict=False)]
    return sorted(chosen, key=lambda row: (row.subject.class_id, row.key))


def contact_sheet(run: Path, samples: Iterable[Sample], labels: LabelSpace) -> bytes:
    """PNG of a grid: image, mask over it (background left clear, ignore hatched in white), class name below,
    colours at the foot. Pictures that have no label at all, none of them, are shown as they are.

    Raises InputError that names the file for a missing or damaged picture.
    """
    chosen = choose(samples)
    ids: set[int] = set()
    cells: list[tuple[Image.Image, np.ndarray, str]] = []
    for sample in chosen:
        image, mask = read_image(run / sample.picture.image), read_mask(run / sample.labelling.mask)
        present = np.bincount(mask.ravel(), minlength=256)
        ids.update(int(i) for i in np.flatnonzero(present))
        cells.append((*_sized(image, mask), _caption(sample, present, labels)))
    plain = ids == {IGNORE}
    shown = [(picture if plain else _tinted(picture, mask, labels), caption) for picture, mask, caption in cells]
    return png_bytes(np.asarray(_grid(shown, [("no labels", None)] if plain else _legend(ids, labels))))


def _sized(image: np.ndarray, mask: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Both as large as they are shown."""
    height, width = image.shape[:2]
    scale = min(CELL_PX / min(height, width), MAX_CELL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    ids = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return Image.fromarray(image).resize(size, resampling), ids


def _tinted(image: Image.Image, ids: np.ndarray, labels: LabelSpace) -> Image.Image:
    picture = np.asarray(image, dtype=np.float32)
    opacity = np.full(ids.shape, OPACITY, dtype=np.float32)
    if labels.background is not None:
        opacity[ids == labels.background] = 0
    colours = distinct_table(labels)[ids].astype(np.float32)
    down, across = np.indices(ids.shape)
    hatched = (ids == IGNORE) & ((down + across) % 6 < 2)
    opacity[ids == IGNORE] = 0
    opacity[hatched] = 0.8
    colours[hatched] = 255
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    opacity[edge & (opacity == np.float32(OPACITY))] = 1
    blended = picture * (1 - opacity[..., None]) + colours * opacity[..., None]
    return Image.fromarray(blended.round().astype(np.uint8))


def _caption(sample: Sample, present: np.ndarray, labels: LabelSpace) -> str:
    """The class that the image is for, or the three largest ones of a scene."""
    if sample.subject.class_name:
        return sample.subject.class_name
    largest = sorted(labels.ids, key=lambda i: (-int(present[i]), i))[:3]
    return ", ".join(labels.by_id(i).name for i in largest if present[i])


def _legend(ids: set[int], labels: LabelSpace) -> list[tuple[str, tuple[int, int, int] | None]]:
    colours = colours_of(labels)
    entries: list[tuple[str, tuple[int, int, int] | None]] = [
        (f"{label.name} (not tinted)", None) if label.id == labels.background else (label.name, colours[label.id])
        for label in labels.labels
        if label.id in ids
    ]
    if OUT_OF_DISTRIBUTION in ids:
        entries.append(("out of distribution", (255, 0, 255)))
    if IGNORE in ids:
        entries.append(("ignore (hatched)", None))
    return entries


def _grid(cells: list[tuple[Image.Image, str]], legend: list[tuple[str, tuple[int, int, int] | None]]) -> Image.Image:
    font = ImageFont.load_default(FONT_PX)
    line = FONT_PX + 6
    width = max((picture.width for picture, _ in cells), default=CELL_PX)
    height = max((picture.height for picture, _ in cells), default=CELL_PX)
    columns = max(1, min(len(cells), SHEET_PX // (width + GAP_PX)))
    rows = math.ceil(len(cells) / columns)
    sheet_width = max(columns * (width + GAP_PX) + GAP_PX, 4 * (CELL_PX + GAP_PX) + GAP_PX)
    places, foot = _flow([name for name, _ in legend], sheet_width, line, font)
    grid_height = rows * (height + line + GAP_PX) + GAP_PX
    sheet = Image.new("RGB", (sheet_width, grid_height + foot), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(cells):
        left = GAP_PX + number % columns * (width + GAP_PX)
        top = GAP_PX + number // columns * (height + line + GAP_PX)
        sheet.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
        draw.text((left + width / 2, top + height + 2), _fit(caption, width, font), _INK, font, anchor="ma")
    for (name, colour), (left, top) in zip(legend, places, strict=True):
        box = (left, grid_height + top + 2, left + FONT_PX, grid_height + top + 2 + FONT_PX)
        draw.rectangle(box, fill=colour or _PAPER, outline=_INK)
        if name.startswith("ignore"):
            draw.line((box[0], box[3], box[2], box[1]), fill=_INK)
        draw.text((left + FONT_PX + 5, grid_height + top), _fit(name, sheet_width - 3 * line, font), _INK, font)
    return sheet


def _flow(
    names: list[str], width: int, line: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> tuple[list[tuple[int, int]], int]:
    """Left and top of each legend entry, set like words in a paragraph, and the height of it all."""
    places, left, top = [], GAP_PX, 0
    for name in names:
        needed = FONT_PX + 5 + math.ceil(font.getlength(name)) + 14
        if left > GAP_PX and left + needed > width:
            left, top = GAP_PX, top + line
        places.append((left, top))
        left += needed
    return places, top + line + GAP_PX if names else 0


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
