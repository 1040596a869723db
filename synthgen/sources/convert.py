"""Writes a split of a public dataset as a plain labelled folder, for whatever reads only those:

layouts to render from, `segtrain eval`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from segkit.labels import LabelSpace
from synthgen.errors import StorageError
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
    try:
        for part in ("images", "labels"):
            (out / part).mkdir(parents=True, exist_ok=True)
        for done, pair in enumerate(pairs, start=1):
            stem = pair.stem.replace("/", "_")
            write_image(read_label(pair, space), out / "labels" / f"{stem}.png")
            shutil.copyfile(pair.image, out / "images" / f"{stem}{pair.image.suffix}")
            yield done, len(pairs)
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written ({error.strerror or error}); free the space or mend the permissions, then "
            "use a new folder"
        ) from error
