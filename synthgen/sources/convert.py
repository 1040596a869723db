"""Writes a split of a public dataset as a plain labelled folder, for whatever reads only those:

layouts to render from, `segtrain eval`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from segkit.labels import LabelSpace
from synthgen.errors import InputError, StorageError
from synthgen.images import write_image
from synthgen.sources.folder import read_label
from synthgen.sources.listing import list_source


def convert(name: str, folder: Path, split: str, space: LabelSpace, out: Path) -> Iterator[tuple[int, int]]:
    """Copy the images and write the masks in the ids of `space` to out/images and out/labels;

    yields (done, of how many).

    Raises StorageError if `out` is there and not empty, InputError and LabelError as reading does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out}: exists and is not empty; give a new folder")
    pairs = list_source(name, folder, split)
    names = [pair.stem.replace("/", "_") for pair in pairs]
    twice = next((stem for stem, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        both = " and ".join(str(pair.image) for stem, pair in zip(names, pairs, strict=True) if stem == twice)
        raise InputError(f"{both}: both would be {twice} in {out}; rename one of them")
    try:
        for part in ("images", "labels"):
            (out / part).mkdir(parents=True, exist_ok=True)
        for done, (stem, pair) in enumerate(zip(names, pairs, strict=True), start=1):
            write_image(read_label(pair, space), out / "labels" / f"{stem}.png")
            shutil.copyfile(pair.image, out / "images" / f"{stem}{pair.image.suffix}")
            yield done, len(pairs)
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written ({error.strerror or error}); free the space or mend the permissions, then "
            "use a new folder"
        ) from error
