"""labelmap.txt: which colours stand for which classes in a folder that is laid out as PASCAL VOC's.

CVAT, datumaro and `synthgen export --to voc` write it, a line `name:r,g,b:parts:actions` for each class. PASCAL VOC
itself has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from segkit.errors import InputError, LabelError
from segkit.files import read_regular
from segkit.labels import LabelSpace
from segkit.printable import excerpt

LABEL_MAP = "labelmap.txt"
ANOMALY_NAME, IGNORED_NAME = "out_of_distribution", "ignored"
"""What `synthgen export --to voc` calls 254 and 255 there."""
_COLOUR = r"\s*\d{1,9}\s*,\s*\d{1,9}\s*,\s*\d{1,9}\s*"
_LINE = re.compile(rf"(?P<name>[^#].*?):(?P<colour>{_COLOUR}):[^:]*:[^:]*")
_MAX_BYTES = 2**20


def read_label_map(path: Path, strict: bool) -> Iterator[tuple[int, str, tuple[int, int, int]]]:
    """(line number, class name, its colour) of each class.

    With `strict` raises InputError for a line that is no class, no comment and not empty, for a colour above 255 and
    for what is not UTF-8; without it such lines are passed over, or given as they are. Raises InputError for a file
    that cannot be read.
    """
    try:
        text = read_regular(path, _MAX_BYTES, InputError).decode("utf-8-sig", "strict" if strict else "replace")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        found = _LINE.fullmatch(line)
        red, green, blue = (int(part) for part in found["colour"].split(",")) if found else (256, 256, 256)
        if strict and line and not line.startswith("#") and max(red, green, blue) > 255:
            raise InputError(f"{path}:{number}: {excerpt(line)} must be name:r,g,b:parts:actions")
        if found is not None:
            yield number, found["name"], (red, green, blue)


def require_classes_of(folder: Path, space: LabelSpace) -> None:
    """Raise LabelError if the folder's labelmap.txt gives a class that `space` does not have, or not in that colour:
    the ids of its masks are those of other classes then. A folder without one passes."""
    path = folder / LABEL_MAP
    if not path.is_file():
        return
    known = {(label.name, label.colour) for label in space.labels}
    for _, name, colour in read_label_map(path, strict=False):
        if name not in (ANOMALY_NAME, IGNORED_NAME) and (name, colour) not in known:
            raise LabelError(
                f"{path}: {excerpt(name)} ({','.join(map(str, colour))}) is no class of {space.name!r}, so the masks' "
                "ids are not those of PASCAL VOC, whose layout the folder has; `synthgen convert cvat_masks` makes a "
                "labelled folder of it"
            )
