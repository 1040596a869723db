"""Existing photographs instead of prompts: every image of a folder, sorted by name.

They get no text and are about no single class.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from segkit.heif import HEIF_SUFFIXES, MISSING, can_read_heif
from segkit.index import is_finished
from segkit.labels import IGNORE, Label, LabelSpace
from segkit.pictures import IMAGE_SUFFIXES
from segkit.printable import printable
from synthgen.backends import Cost
from synthgen.errors import InputError
from synthgen.prompts.bank import Candidate, content_of

_OTHER_PICTURES = (".avif", ".gif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf")
_log = logging.getLogger(__name__)


class Options(BaseModel, extra="forbid"):
    """Which photographs."""

    folder: str = Field(description="folder of images")
    recursive: bool = Field(False, description="take those of subfolders too; hidden ones are never taken")


def build(options: Options, execution: Any) -> Photographs:
    """List the folder, and log what in it is not taken. Raises InputError if it is missing, holds no image or
    is a finished dataset."""
    found = _photographs(options)
    for line in left_out(options):
        _log.warning("%s", line)
    return Photographs(root(options), found)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """The folder is listed."""
    return Cost()


def gives_text(options: Options) -> bool:
    """Photographs alone."""
    return False


def num_given(options: Options) -> int:
    """How many photographs there are."""
    return len(_photographs(options))


def fingerprint(options: Options) -> dict[str, str]:
    """Hash of the names and sizes in bytes; the images themselves are not read."""
    folder = root(options)
    listing = "\n".join(
        f"{path.relative_to(folder).as_posix()}\x1f{path.stat().st_size}" for path in _photographs(options)
    )
    return {"folder": hashlib.sha256(listing.encode()).hexdigest()}


def root(options: Options) -> Path:
    """The folder that the photographs of the rows lie below."""
    return Path(options.folder).expanduser()


class Photographs:
    """A prompt source that only gives photographs."""

    only_files = True

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self._folder, self._paths = folder, paths

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """All photographs if no class is wanted, else nothing: nobody has said what they show. `seed` is not used."""
        if not wanted:
            for path in self._paths:
                origin = path.relative_to(self._folder).as_posix()
                yield Candidate("", "", IGNORE, (), photograph=path, content=content_of(path), origin=origin)


def left_out(options: Options) -> list[str]:
    """What people may take for photographs of the folder and what is not taken, a line for each kind, with its count,
    the first one's name and the way out."""
    folder = root(options)
    kinds: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if reason := _reason_against(path, options):
            kinds.setdefault(reason, []).append(path)
    return [
        f"prompts.source.folder {printable(options.folder)}: {len(paths)} not taken, the first "
        f"{printable(paths[0].relative_to(folder))}, {kind}"
        for kind, paths in sorted(kinds.items())
    ]


def _reason_against(path: Path, options: Options) -> str | None:
    """Why a file of the folder is not taken; "" = it is, None = nobody would take it for a photograph."""
    inside, suffix = path.relative_to(root(options)).parts, path.suffix.lower()
    if path.is_symlink() and path.is_dir() and not any(part.startswith(".") for part in inside):
        return "links to folders, which are not followed: name the folder itself, or move its photographs here"
    if suffix not in (*IMAGE_SUFFIXES, *_OTHER_PICTURES):
        return None
    if any(part.startswith(".") for part in inside):  # leftovers of file managers
        return "hidden (the name or a folder's begins with a dot): rename it"
    if len(inside) > 1 and not options.recursive:
        return "in subfolders: prompts.source.recursive=true takes them"
    if path.is_symlink() and not path.exists():
        return "links to files that are not there"
    if not path.is_file():
        return "no regular files"
    if suffix in HEIF_SUFFIXES and not can_read_heif():
        return MISSING
    if suffix in _OTHER_PICTURES:
        return f"of other formats: save them as JPEG or PNG ({', '.join(IMAGE_SUFFIXES)} are read)"
    return ""


def _photographs(options: Options) -> list[Path]:
    folder = root(options)
    if not folder.is_dir():
        raise InputError(f"prompts.source.folder {options.folder!r}: no such folder")
    if is_finished(folder):  # its contact sheet would be taken
        raise InputError(
            f"prompts.source.folder {options.folder!r}: is a finished dataset, whose pictures lie in shards: `synthgen "
            f"export {printable(shlex.quote(options.folder))} --to folder --out DIR` writes them as files, in "
            "DIR/train/images"
        )
    paths = folder.rglob("*") if options.recursive else folder.iterdir()
    found = [path for path in paths if _reason_against(path, options) == ""]
    if not found:
        others = "".join(f"; {line.split(': ', 1)[1]}" for line in left_out(options))
        raise InputError(
            f"prompts.source.folder {options.folder!r}: holds no image ({', '.join(IMAGE_SUFFIXES)}){others}"
        )
    for path in found:
        try:
            str(path.relative_to(folder)).encode()
        except UnicodeEncodeError as error:  # names go into JSON and tables, which are UTF-8
            raise InputError(
                f"{printable(path)}: the file's name is not UTF-8 (an old archive or disk); rename it"
            ) from error
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())
