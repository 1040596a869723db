"""What readers of labelling tools' exports share: problems told together, pictures found beside their labels."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs

from segkit.errors import InputError
from segkit.pictures import WRITTEN_SUFFIXES
from segkit.printable import excerpt
from synthgen.sources.coco_fields import LONGEST_NAME
from synthgen.sources.coco_instances import MOST_PROBLEMS

_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the name of an uploaded file
_log = logging.getLogger(__name__)


class Problems:
    """Gathers what is wrong with an export, so that all of it is told at once."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @contextlib.contextmanager
    def noted(self, where: object) -> Iterator[None]:
        """Note an InputError of the block, with its place if it does not say it itself."""
        try:
            yield
        except InputError as error:
            self._lines.append(str(error) if str(error).startswith(str(where)) else f"{where}: {error}")

    def tell(self) -> None:
        """Raise InputError for the first one, after a logged line for each of the others."""
        if self._lines:
            for line in self._lines[1:MOST_PROBLEMS]:
                _log.error("%s", line)
            more = f" (and {len(self._lines) - 1} more problems)" if len(self._lines) > 1 else ""
            raise InputError(f"{self._lines[0]}{more}")


def label_files(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that match the pattern, or one of several with | between them, by path. Hidden ones are
    none: macOS puts a `._NAME` of other bytes beside each file."""
    found = {path for each in pattern.split("|") for path in root.glob(each)}
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def path_of(name: str) -> str:
    """A path or link without what follows a `?`; of Label Studio's links to a local storage
    (`/data/local-files/?d=a/b.jpg`) the file that it stands for."""
    place, _, query = name.replace("\\", "/").partition("?")
    local = parse_qs(query).get("d", [""])[0] if place.endswith("/local-files/") else ""
    return local or place


def picture_of(name: str, folders: tuple[Path, ...], stem: str = "") -> Path:
    """The picture that a label file calls `name`: a file of that name, or else of the stem, in one of the folders.

    Of a path on somebody's machine, or a link, only the last part counts. Raises InputError without a place.
    """
    last = PurePosixPath(path_of(name)).name
    names = [last, _UPLOAD.sub("", last, count=1)] if last else []
    stems = dict.fromkeys(filter(None, (stem, *(PurePosixPath(each).stem for each in names))))
    names += [each + suffix for each in stems for suffix in WRITTEN_SUFFIXES]
    possible = [each for each in dict.fromkeys(names) if len(each.encode("utf-8", "replace")) <= LONGEST_NAME]
    for folder in folders:
        for each in possible:
            if (folder / each).is_file():
                return folder / each
    looked = " or ".join(str(folder) for folder in folders)
    raise InputError(f"its picture {excerpt(last or stem)} is not in {looked}: put it there, or remove the label")
