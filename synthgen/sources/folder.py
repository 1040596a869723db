"""A labelled image of any source, and the project's own layout: the labelled folder of segkit.folders."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segkit.errors import DataError
from segkit.folders import list_pairs
from segkit.labels import LabelSpace, read_label_space
from segkit.masks import read_mask
from segkit.pictures import read_image, require_same_size
from segkit.spelling import same_name
from synthgen.files import file_digest

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledFile:
    """An image file and its label file. `decode` reads a label file of another dataset;

    None for masks of the label space itself.
    """

    stem: str
    image: Path
    label: Path
    decode: Callable[[Path, LabelSpace], np.ndarray] | None = None
    annotations: Path | None = None  # a file about many pairs (COCO's JSON) that their masks follow from


def list_labelled(folder: Path) -> list[LabelledFile]:
    """The pairs of a folder, by stem. Reads no pixel. Raises InputError as segkit.folders.list_pairs does."""
    return [LabelledFile(pair.stem, pair.image, pair.mask) for pair in list_pairs(folder)]


@functools.lru_cache(maxsize=64)
def warn_of_another_space(folder: Path, space: LabelSpace) -> None:
    """Log a warning if the folder's own labels.yaml gives an id another name than the label space in which its masks
    are read. One that cannot be read says nothing."""
    try:
        own = read_label_space(folder / "labels.yaml")
    except DataError:
        return
    for label in own.labels:
        other = space.by_id(label.id) if label.id in space.ids else None
        if other and same_name(label.name) not in map(same_name, (other.name, *other.synonyms)):
            _log.warning(
                "%s: calls id %d %r, which is %r in label space %r, in which the masks are read: if that is wrong, "
                "name the folder's own as labels.space",
                folder / "labels.yaml", label.id, label.name, other.name, space.name,
            )  # fmt: skip
            return


def read_labelled(pair: LabelledFile, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and mask (H, W) uint8.

    Raises InputError if a file is damaged or their sizes differ, LabelError if an id is not in the label space.
    """
    return read_image(pair.image), read_label(pair, space)


def read_label(pair: LabelledFile, space: LabelSpace) -> np.ndarray:
    """The mask (H, W) uint8 alone; checks it as `read_labelled` does, from the image's header."""
    mask = read_mask(pair.label, space) if pair.decode is None else pair.decode(pair.label, space)
    require_same_size(mask.shape, pair.label, pair.image)
    space.check(mask, pair.label)
    return mask


def content_hash(folder: Path) -> str:
    """32 hex digits over the names and bytes of all pairs: it changes if a file does, and not if the folder moves."""
    digest = hashlib.blake2b(digest_size=16)
    for pair in list_labelled(folder):
        for path in (pair.image, pair.label):
            digest.update(f"{path.parent.name}/{path.name}\0".encode())
            digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def names_hash(pairs: Sequence[LabelledFile], folder: Path, read_labels: bool = False) -> str:
    """32 hex digits over the names and sizes in bytes of all pairs, and over the bytes of the files that describe many
    of them: an `iscrowd` of 0 instead of 1 leaves the size as it was. With `read_labels` over those of all labels too;
    no other file is read."""
    digest = hashlib.blake2b(digest_size=16)
    for pair in pairs:
        for path in (pair.image, pair.label):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
    read = {pair.annotations for pair in pairs if pair.annotations is not None}
    for path in sorted(read | {pair.label for pair in pairs if read_labels}):
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()
