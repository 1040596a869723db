"""CVAT's "Segmentation mask 1.1": colour PNGs in SegmentationClass/, and labelmap.txt with the colour of each class."""

from __future__ import annotations

from pathlib import Path

from segkit.errors import InputError
from segkit.label_map import LABEL_MAP, read_label_map
from segkit.printable import excerpt
from synthgen.sources.catalogue import ClassTable
from synthgen.sources.encodings import Decoder
from synthgen.sources.exports import Problems, label_files, picture_of
from synthgen.sources.folder import LabelledFile


def list_files(root: Path, labels: str, label_map: str = LABEL_MAP) -> list[LabelledFile]:
    """One LabelledFile a PNG that matches the pattern `labels`, by path; [] if there is no labelmap.txt.

    Pictures are in JPEGImages/ under the same path. Raises InputError for a label map that cannot be read and for
    missing pictures.
    """
    path = root / label_map
    if not path.is_file():
        return []
    decode, problems, pairs = Decoder("colours", read_classes(path)), Problems(), []
    top = root / labels.partition("/")[0]
    for mask in label_files(root, labels):
        inner = mask.relative_to(top).with_suffix("")
        with problems.noted(mask):
            picture = picture_of("", ((root / "JPEGImages" / inner).parent,), inner.name)
            pairs.append(LabelledFile(inner.as_posix(), picture, mask, decode, path))
    problems.tell()
    return pairs


def read_classes(path: Path) -> ClassTable:
    """Colour "r,g,b" -> class name. Raises InputError with the line."""
    names: dict[int | str, str] = {}
    for number, name, channels in read_label_map(path, strict=True):
        colour = ",".join(map(str, channels))
        if names.setdefault(colour, name) != name:
            raise InputError(
                f"{path}:{number}: {excerpt(name)} has the colour {colour} of {excerpt(names[colour])}: their pixels "
                "cannot be told apart; give each class its own in CVAT and export again"
            )
    if not names:
        raise InputError(f"{path}: has no class; CVAT writes a line name:r,g,b:: for each")
    return ClassTable(names=names)
