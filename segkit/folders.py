"""A labelled folder: `images/` and `labels/` with the same stems.

    images/0001.jpg     any of segkit.pictures.IMAGE_SUFFIXES
    labels/0001.png     a mask as segkit.masks reads it, of the same size
    labels.yaml         the label space, where nothing else names it

Stems are compared after Unicode's NFC: a file system or an archive may have taken accents apart.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import unicodedata
from pathlib import Path

from segkit.errors import InputError
from segkit.pictures import IMAGE_SUFFIXES

MASK_SUFFIXES = (".png",)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its mask."""

    stem: str
    image: Path
    mask: Path


def list_pairs(folder: Path, parts: tuple[str, str] = ("images", "labels")) -> list[Pair]:
    """The pairs of a folder, by stem; `parts` are its subfolders of images and of masks. Reads no pixel.

    Raises InputError if the folder or one of its two parts is missing, holds no image, if two files have one stem, or
    if an image and a mask lack each other; it says what lies there instead. Pictures in subfolders are logged.
    """
    images, masks = (folder / part for part in parts)
    what = "a labelled folder has images/ and labels/ with the same stems"
    image_of, mask_of = files_by_stem(images, IMAGE_SUFFIXES, what), files_by_stem(masks, MASK_SUFFIXES, what)
    image_kinds = f"known kinds are {', '.join(IMAGE_SUFFIXES)}"
    if not image_of:
        other = next((f" (there is {path.name})" for path in _visible(images) if path.is_file()), "")
        raise InputError(f"{images}: no image in it; {image_kinds}{_below(images, IMAGE_SUFFIXES) or other}")
    for here, there, part, suffix, kinds in (
        (image_of, mask_of, masks, ".png", "a mask must be a PNG"),
        (mask_of, image_of, images, ".*", image_kinds),
    ):
        alone = [here[stem] for stem in sorted(here) if stem not in there]
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            wanted = f"{part.name}/{alone[0].stem}{suffix}{_instead(alone[0].stem, part, kinds)}"
            raise InputError(f"{alone[0]}{more}: has no partner {wanted}; add it or remove the file")
    warn_of_subfolders(images)
    return [Pair(image_of[stem].stem, image_of[stem], mask_of[stem]) for stem in sorted(image_of)]


def files_by_stem(folder: Path, suffixes: tuple[str, ...], what: str) -> dict[str, Path]:
    """The files of a folder with one of `suffixes`, by `normal_stem`, in the order of their names.

    Raises InputError for a folder that is missing, with `what` it should be, and for two files of one stem.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {what}")
    files: dict[str, Path] = {}
    for path in _visible(folder):
        if path.suffix.lower() in suffixes:
            first = files.setdefault(normal_stem(path), path)
            if first is not path:
                raise InputError(
                    f"{path}: the stem {path.stem!r} is taken by {first.name}; rename or remove one of them"
                )
    return files


@functools.lru_cache(maxsize=256)
def warn_of_subfolders(folder: Path) -> None:
    """Log, once a process, how many pictures lie in subfolders of a folder of pictures: they are not read."""
    nested = sorted(
        path
        for path in folder.glob("*/*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if nested:
        _log.warning(
            "%s: %d pictures in subfolders are not read, the first %s",
            folder, len(nested), nested[0].relative_to(folder),
        )  # fmt: skip


def normal_stem(path: Path) -> str:
    """What a file's stem is compared by."""
    return normal_name(path.stem)


def _instead(stem: str, part: Path, kinds: str) -> str:
    """What lies in the other folder that may be meant; `kinds` is what is read there."""
    names = [path.name for path in _visible(part)]
    wanted = normal_name(stem)
    for name in names:
        other = normal_name(Path(name).stem)
        if other == wanted:
            return f" (there is {part.name}/{name}: {kinds})"
        if other.casefold() == wanted.casefold():
            return f" (there is {part.name}/{name}: upper and lower case must be the same)"
    similar = next(
        (name for name in names if wanted in normal_name(name) or normal_name(Path(name).stem) in wanted), None
    )
    if similar is not None:
        return f" (there is {part.name}/{similar}: both must have the same name up to the last dot)"
    return _below(part, (*IMAGE_SUFFIXES, *MASK_SUFFIXES))


def _below(folder: Path, suffixes: tuple[str, ...]) -> str:
    nested = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in suffixes)
    return f" (there is {nested[0].relative_to(folder)}, but subfolders are not read)" if nested else ""


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def normal_name(name: str) -> str:
    """What a stem that stands in a list is compared by."""
    return unicodedata.normalize("NFC", name)
