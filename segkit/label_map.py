"""labelmap.txt: which colours stand for which classes in a folder that is laid out as PASCAL VOC's.

CVAT, datumaro and `synthgen export --to voc` write it, a line `name:r,g,b:parts:actions` for each class. PASCAL VOC
itself has none.
"""

from __future__ import annotations

import re
from pathlib import Path

from segkit.errors import LabelError
from segkit.files import read_regular
from segkit.labels import LabelSpace
from segkit.printable import excerpt

LABEL_MAP = "labelmap.txt"
ANOMALY_NAME, IGNORED_NAME = "out_of_distribution", "ignored"
"""What `synthgen export --to voc` calls 254 and 255 there."""
_LINE = re.compile(r"(?P<name>[^#].*?):(?P<colour>\d+,\s*\d+,\s*\d+):[^:]*:[^:]*")
_MAX_BYTES = 2**20


def require_classes_of(folder: Path, space: LabelSpace) -> None:
    """Raise LabelError if the folder's labelmap.txt gives a class that `space` does not have, or not in that colour:
    the ids of its masks are those of other classes then. A folder without one passes."""
    path = folder / LABEL_MAP
    if not path.is_file():
        return
    known = {(label.name, label.colour) for label in space.labels}
    for line in read_regular(path, _MAX_BYTES).decode("utf-8-sig", "replace").splitlines():
        found = _LINE.fullmatch(line.strip())
        if found is None or found["name"] in (ANOMALY_NAME, IGNORED_NAME):
            continue
        red, green, blue = (int(part) for part in found["colour"].split(","))
        if (found["name"], (red, green, blue)) not in known:
            raise LabelError(
                f"{path}: {excerpt(found['name'])} ({red},{green},{blue}) is no class of {space.name!r}, so the masks' "
                "ids are not those of PASCAL VOC, whose layout the folder has; `synthgen convert cvat_masks` makes a "
                "labelled folder of it"
            )
