"""A labelled folder: `images/` and `labels/` with the same stems.

support/images/0001.jpg     any of synthgen.images.IMAGE_SUFFIXES
support/labels/0001.png     8-bit ids of the label space, 255 = unlabelled, same size as the image
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synthgen.errors import InputError
from synthgen.images import IMAGE_SUFFIXES, image_size, read_image, read_mask
from synthgen.labels import LabelSpace


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledFile:
    """An image file and its label file. `decode` reads a label file of another dataset;

    None for masks of the label space itself.
    """

    stem: str
    image: Path
    label: Path
    decode: Callable[[Path, LabelSpace], np.ndarray] | None = None


def list_labelled(folder: Path) -> list[LabelledFile]:
    """The pairs of a folder, by stem. Reads no pixel.

    Raises InputError if the folder or one of its two parts is missing, holds no image, or if an image and a label lack
    each other.
    """
    images = _by_stem(folder / "images", IMAGE_SUFFIXES)
    labels = _by_stem(folder / "labels", (".png",))
    if not images:
        raise InputError(f"{folder / 'images'}: no image in it; known kinds are {', '.join(IMAGE_SUFFIXES)}")
    for one, other, part, kind in ((images, labels, "labels", ".png"), (labels, images, "images", "")):
        alone = [one[stem] for stem in sorted(one) if stem not in other]
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise InputError(
                f"{alone[0]}{more}: has no partner {part}/{alone[0].stem}{kind or '.*'}; add it or remove the file"
            )
    return [LabelledFile(stem, images[stem], labels[stem]) for stem in sorted(images)]


def read_labelled(pair: LabelledFile, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and mask (H, W) uint8.

    Raises InputError if a file is damaged or their sizes differ, LabelError if an id is not in the label space.
    """
    image = read_image(pair.image)
    return image, read_label(pair, space)


def read_label(pair: LabelledFile, space: LabelSpace) -> np.ndarray:
    """The mask (H, W) uint8 alone; checks it as `read_labelled` does, from the image's header."""
    mask = read_mask(pair.label) if pair.decode is None else pair.decode(pair.label, space)
    height, width = image_size(pair.image)
    if mask.shape != (height, width):
        raise InputError(
            f"{pair.label}: is {mask.shape[0]} x {mask.shape[1]} px (H x W), its image {height} x {width}; "
            "resize the label by nearest neighbour"
        )
    space.check(mask, pair.label)
    return mask


def content_hash(folder: Path) -> str:
    """32 hex digits over the names and bytes of all pairs: it changes if a file does, and not if the folder moves."""
    digest = hashlib.blake2b(digest_size=16)
    for pair in list_labelled(folder):
        for path in (pair.image, pair.label):
            digest.update(f"{path.parent.name}/{path.name}\0".encode())
            digest.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
    return digest.hexdigest()


def names_hash(pairs: Sequence[LabelledFile], folder: Path) -> str:
    """32 hex digits over the names and sizes in bytes of all pairs: no file is read."""
    digest = hashlib.blake2b(digest_size=16)
    for pair in pairs:
        for path in (pair.image, pair.label):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a labelled folder has images/ and labels/ with the same stems")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise InputError(
                f"{path}: the stem {path.stem!r} is taken by {found[path.stem].name}; rename or remove one of them"
            )
        found[path.stem] = path
    return found
