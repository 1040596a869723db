"""Roboflow's "Semantic Segmentation Masks": NAME.jpg and NAME_mask.png side by side, and _classes.csv with the name of
each pixel value."""

from __future__ import annotations

import csv
from pathlib import Path

from segkit.errors import InputError
from segkit.printable import excerpt
from synthgen.sources.catalogue import ClassTable
from synthgen.sources.encodings import Decoder
from synthgen.sources.exports import Problems, label_files, picture_of
from synthgen.sources.folder import LabelledFile

CLASSES = "_classes.csv"
_SUFFIX = "_mask"


def list_files(root: Path, labels: str) -> list[LabelledFile]:
    """One LabelledFile a PNG that matches the pattern `labels`, by path; [] if its folder has no _classes.csv.

    Raises InputError for a table of classes that cannot be read and for missing pictures.
    """
    folder = (root / labels).parent
    if not (folder / CLASSES).is_file():
        return []
    decode, problems, pairs = Decoder("ids", read_classes(folder / CLASSES)), Problems(), []
    for mask in label_files(root, labels):
        stem = mask.stem.removesuffix(_SUFFIX)
        with problems.noted(mask):
            pairs.append(LabelledFile(stem, picture_of("", (folder,), stem), mask, decode, folder / CLASSES))
    problems.tell()
    return pairs


def read_classes(path: Path) -> ClassTable:
    """Pixel value -> class name, from rows `value, name` with or without a head. Raises InputError with the line."""
    names: dict[int | str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    for number, row in enumerate(rows, start=1):
        is_head = number == 1 and not "".join(row[:1]).strip().isdecimal()
        if is_head or not any(cell.strip() for cell in row):
            continue
        value = row[0].strip()
        if len(row) != 2 or not value.isdecimal() or int(value) > 255 or not row[1].strip():
            raise InputError(f"{path}:{number}: {excerpt(', '.join(row))} must be a pixel value 0..255 and a name")
        if names.setdefault(int(value), row[1].strip()) != row[1].strip():
            raise InputError(f"{path}:{number}: the value {value} has two names")
    if not names:
        raise InputError(f"{path}: has no class below its head `Pixel Value, Class`")
    return ClassTable(names=names)
