"""CVAT's "Segmentation mask 1.1": colour PNGs in SegmentationClass/, and labelmap.txt with the colour of each class."""

from __future__ import annotations

from pathlib import Path

from segkit.errors import InputError
from segkit.printable import excerpt
from synthgen.sources.catalogue import ClassTable
from synthgen.sources.encodings import Decoder
from synthgen.sources.exports import Problems, picture_of
from synthgen.sources.folder import LabelledFile

_MAX_BYTES = 2**20


def list_files(root: Path, labels: str, label_map: str = "labelmap.txt") -> list[LabelledFile]:
    """One LabelledFile a PNG that matches the pattern `labels`, by path; [] if there is no labelmap.txt.

    Pictures are in JPEGImages/ under the same path. Raises InputError for a label map that cannot be read and for
    missing pictures.
    """
    path = root / label_map
    if not path.is_file():
        return []
    decode, problems, pairs = Decoder("colours", read_label_map(path)), Problems(), []
    top = root / labels.partition("/")[0]
    for mask in sorted(root.glob(labels)):
        inner = mask.relative_to(top).with_suffix("")
        with problems.noted(mask):
            picture = picture_of("", ((root / "JPEGImages" / inner).parent,), inner.name)
            pairs.append(LabelledFile(inner.as_posix(), picture, mask, decode, path))
    problems.tell()
    return pairs


def read_label_map(path: Path) -> ClassTable:
    """Colour "r,g,b" -> class name, from lines `name:r,g,b:parts:actions`.

    Raises InputError with the line.
    """
    names: dict[int | str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = line.rsplit(":", 3)
        parts = rest[0].split(",") if len(rest) == 3 else []
        if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) < 256 for part in parts):
            raise InputError(f"{path}:{number}: {excerpt(line)} must be name:r,g,b:parts:actions")
        colour = ",".join(str(int(part)) for part in parts)
        if names.setdefault(colour, name) != name:
            raise InputError(
                f"{path}:{number}: {excerpt(name)} has the colour {colour} of {excerpt(names[colour])}: their pixels "
                "cannot be told apart; give each class its own in CVAT and export again"
            )
    if not names:
        raise InputError(f"{path}: has no class; CVAT writes a line name:r,g,b:: for each")
    return ClassTable(names=names)
