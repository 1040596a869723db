"""Existing photographs instead of prompts: every image of a folder, sorted by name.

They get no text and are about no single class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from segkit.labels import IGNORE, Label, LabelSpace
from segkit.pictures import IMAGE_SUFFIXES
from synthgen.backends import Cost
from synthgen.errors import InputError
from synthgen.prompts.bank import Candidate, content_of


class Options(BaseModel, extra="forbid"):
    """Which photographs."""

    folder: str = Field(description="folder of images")
    recursive: bool = Field(False, description="take those of subfolders too")


def build(options: Options, execution: Any) -> Photographs:
    """List the folder. Raises InputError if it is missing or holds no image."""
    return Photographs(root(options), _photographs(options))


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

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self._folder, self._paths = folder, paths

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """All photographs if no class is wanted, else nothing: nobody has said what they show. `seed` is not used."""
        if not wanted:
            for path in self._paths:
                origin = path.relative_to(self._folder).as_posix()
                yield Candidate("", "", IGNORE, (), photograph=path, content=content_of(path), origin=origin)


def _photographs(options: Options) -> list[Path]:
    folder = root(options)
    if not folder.is_dir():
        raise InputError(f"prompts.source.folder {options.folder!r}: no such folder")
    paths = folder.rglob("*") if options.recursive else folder.iterdir()
    # Names that start with a dot are leftovers of file managers, not photographs.
    found = [
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise InputError(f"prompts.source.folder {options.folder!r}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())
