"""Masks of pictures without labels, as a labelled folder.

out/predictions.json   which model and settings made it; the mark of the folder: without it the folder is refused
out/labels.yaml        the model's label space
out/labels/            masks of ids, 8-bit PNG, named after the pictures; subfolders are kept
out/images/            links to the pictures (copies where the disk knows no links)
out/overlays/          pictures under the colours of their masks, if wanted
out/confidence/        probability of each pixel's class, 0..255 for 0..1, 8-bit PNG, if wanted
"""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import io
import json
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from segkit.documents import read_json
from segkit.files import open_regular, read_regular
from segkit.index import is_finished
from segkit.masks import MAX_FILE_BYTES
from segkit.pictures import IMAGE_SUFFIXES, read_image
from segtrain.errors import DataError, RunError
from segtrain.files import make_folder, remove_leftovers, write_whole
from segtrain.lock import LOCK, only_process_in
from segtrain.overlay import overlay
from segtrain.progress import bar
from segtrain.segmenter import Segmenter, load_model
from segtrain.tiles import OVERLAP_PX, TILE_PX, predict_by_tiles, require_tiles

FORMAT = "segtrain-predictions"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Predicted:
    """What came of it, in pictures; `left` are files of the folders that are no pictures."""

    out: Path
    made: int
    there: int
    refused: tuple[str, ...]
    left: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"format": FORMAT, **dataclasses.asdict(self), "out": str(self.out)}

    def line(self) -> str:
        """For people."""
        parts = [f"{self.made} masks made"]
        parts += [f"{self.there} were there and are left as they are"] if self.there else []
        parts += [f"{len(self.refused)} pictures refused"] if self.refused else []
        parts += [f"{self.left} other files passed over"] if self.left else []
        return f"{self.out}: {', '.join(parts)}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Picture:
    source: Path
    name: Path  # of the picture in `out/images`


def predict(
    model: Path,
    images: Sequence[Path],
    out: Path,
    *,
    overlays: bool = False,
    confidence: bool = False,
    tile_px: int = TILE_PX,
    overlap_px: int = OVERLAP_PX,
    device: str = "auto",
) -> Predicted:
    """Write a mask for each picture of `images`, files and folders; what is there already is left alone. Of a labelled
    folder (`images/` and `labels/`) the pictures of `images/` are taken.

    A picture that cannot be read, or has the name of another one that `out` has a mask of, costs one line of the log
    and is counted. Each mask is written whole and last of what belongs to its picture, so the same call goes on after a
    kill. Raises SegtrainError: for a model that cannot be loaded, for `images` that name no picture or a finished
    dataset, for an `out` that is not empty and no folder of the same model and settings, or in which another process
    predicts, and for settings that cannot be.
    """
    require_tiles(tile_px, overlap_px)
    pictures, left = _listed(images, out)
    segmenter = load_model(model, device)
    with open_regular(model / "model.safetensors") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    _require_own(out, {"model": digest, "tile": tile_px, "overlap": overlap_px})
    with only_process_in(out, "predicting"):
        _claim(out, {"model": digest, "tile": tile_px, "overlap": overlap_px}, segmenter)
        return _predict(segmenter, pictures, left, out, overlays, confidence, tile_px, overlap_px)


def _predict(
    segmenter: Segmenter,
    pictures: Sequence[_Picture],
    left: int,
    out: Path,
    overlays: bool,
    confidence: bool,
    tile_px: int,
    overlap_px: int,
) -> Predicted:
    made = there = 0
    refused: list[str] = []
    taken: dict[Path, Path] = {}  # masks and the pictures they are of
    earlier = _pictures_of(out)
    with bar(len(pictures)) as shown:
        for number, picture in enumerate(pictures, 1):
            parts = _parts(out, picture.name, overlays, confidence)
            try:
                first = taken.setdefault(parts["labels"], picture.source)
                if first.resolve() != picture.source.resolve():
                    raise DataError(f"{picture.source}: its mask would have the name of that of {first}: rename one")
                before = earlier.get(parts["labels"])
                if before is not None and not _is_same(before, picture.source):
                    raise DataError(
                        f"{picture.source}: {out} has the mask of another picture of that name, {before.resolve()}: "
                        "choose another folder with --out, or rename one"
                    )
                if all(path.is_file() for path in parts.values()):
                    _link(picture.source, out / "images" / picture.name)
                    there += 1
                else:
                    _make(segmenter, picture, out, parts, tile_px, overlap_px)
                    made += 1
            except DataError as error:
                refused.append(str(error))
                _log.warning("%s", error)
            shown.show(number)
    return Predicted(out, made, there, tuple(refused), left)


def _make(
    segmenter: Segmenter, picture: _Picture, out: Path, parts: dict[str, Path], tile_px: int, overlap_px: int
) -> None:
    image = read_image(picture.source)
    try:
        mask, confidence = predict_by_tiles(segmenter, image, tile_px, overlap_px)
    except DataError as error:  # of a size that the network cannot take
        raise DataError(f"{picture.source}: {error}") from error
    _link(picture.source, out / "images" / picture.name)
    made: dict[str, Callable[[], bytes]] = {
        "overlays": lambda: _encoded(overlay(image, mask, segmenter.label_space), "JPEG", quality=90),
        "confidence": lambda: _encoded(np.rint(255 * confidence).astype(np.uint8), "PNG"),
        "labels": lambda: _encoded(mask, "PNG"),
    }
    for name, path in parts.items():
        if not path.is_file():
            make_folder(path.parent)
            write_whole(path, made[name]())


def _pictures_of(out: Path) -> dict[Path, Path]:
    """The pictures that an earlier call has left in the folder, by their masks; links that lead nowhere are none."""
    folder = out / "images"
    pictures = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {_parts(out, path.relative_to(folder), False, False)["labels"]: path for path in pictures}


def _is_same(one: Path, other: Path) -> bool:
    """Whether two files are one, or hold the same: a disk that knows no links has copies."""
    try:
        return one.resolve() == other.resolve() or filecmp.cmp(one, other, shallow=False)
    except OSError as error:
        raise DataError(f"{other}: cannot be compared with {one}: {error.strerror or error}") from error


def _parts(out: Path, name: Path, overlays: bool, confidence: bool) -> dict[str, Path]:
    """What belongs to a picture, the mask last."""
    wanted = {"overlays": ".jpg" if overlays else "", "confidence": ".png" if confidence else "", "labels": ".png"}
    return {part: out / part / name.with_suffix(suffix) for part, suffix in wanted.items() if suffix}


def _listed(images: Sequence[Path], out: Path) -> tuple[list[_Picture], int]:
    """The pictures, and how many other files lie in the folders. Raises DataError if there is none."""
    pictures, left = [], 0
    for given in images:
        if not given.is_dir():
            if not given.exists():
                raise DataError(f"{given}: no such file or folder")
            pictures.append(_Picture(given, Path(given.name)))
            continue
        folder = _folder_of_pictures(given)
        for path in _visible(folder, out.resolve()):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                pictures.append(_Picture(path, path.relative_to(folder)))
            else:
                left += 1
    inside = [given for given in images if given.resolve().is_relative_to(out.resolve())]
    if not pictures and inside:
        raise DataError(
            f"{inside[0]}: lies in the folder of --out, whose own pictures are left out: choose another --out"
        )
    if not pictures:
        where = ", ".join(map(str, images))
        raise DataError(f"{where}: no picture in it; known kinds are {', '.join(IMAGE_SUFFIXES)}")
    return pictures, left


def _folder_of_pictures(given: Path) -> Path:
    """`images/` of a labelled folder, whose masks are no pictures; else the folder itself. Raises DataError for a
    finished dataset and for a run: the pictures there that are files are not those of its samples."""
    for dataset in (given, given / "dataset"):
        if is_finished(dataset):
            raise DataError(
                f"{dataset}: is a finished dataset, whose pictures lie in shards: `synthgen export "
                f"{shlex.quote(str(dataset))} --to folder --out DIR` writes them as files"
            )
    images = given / "images"
    return images if images.is_dir() and (given / "labels").is_dir() else given


def _visible(folder: Path, without: Path) -> Iterator[Path]:
    """The files below a folder, but for hidden ones and those below `without`, which this command has written."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_symlink() and path.is_dir() and not hidden:
            _log.warning("%s: is a link to a folder, which is not followed: name that folder too", path)
        at = path.parent.resolve()
        if path.is_file() and not hidden and without not in (at, *at.parents):
            yield path


def _require_own(out: Path, settings: dict[str, Any]) -> None:
    """Raise RunError if the folder holds anything else than what the same model and settings have made. Writes
    nothing."""
    mark = out / "predictions.json"
    wanted = {"format": FORMAT, **settings}
    try:
        if mark.is_file():
            found = read_json(mark, RunError)
            differs = next((key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]), "")
            if differs:
                raise RunError(f"{out}: holds masks of another {differs}: choose another folder with --out")
        elif out.exists() and any(not _is_ours(path.name) for path in out.iterdir()):
            raise RunError(f"{out}: holds files, but no predictions.json of `segtrain predict`: choose a new folder")
    except OSError as error:
        raise RunError(f"{out}: cannot be used as a folder: {error.strerror}") from error


def _is_ours(name: str) -> bool:
    """What a kill may have left before the mark was there."""
    return name == LOCK or name.startswith(".predictions.json.")


def _claim(out: Path, settings: dict[str, Any], segmenter: Segmenter) -> None:
    """Leave the mark and the label space in the folder. Raises RunError as `_require_own` does: another process may
    have been here before this one held the lock."""
    _require_own(out, settings)
    mark = out / "predictions.json"
    wanted = {"format": FORMAT, **settings}
    for name in ("predictions.json", "labels.yaml"):
        remove_leftovers(out / name)
    write_whole(mark, json.dumps(wanted, indent=2).encode())
    labels = yaml.safe_dump(segmenter.label_space.to_json(), sort_keys=False, allow_unicode=True)
    write_whole(out / "labels.yaml", labels.encode())


def _link(source: Path, link: Path) -> None:
    if link.exists():
        return
    make_folder(link.parent)
    try:
        link.unlink(missing_ok=True)  # one that leads nowhere: the pictures have moved
        link.symlink_to(source.resolve())
    except OSError:
        write_whole(link, read_regular(source, MAX_FILE_BYTES))


def _encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
