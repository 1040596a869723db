"""Candidates from a file of prompts, in the order of the file; of a class, those with a photograph or a label map come
first: they are all taken, however many sentences the bank wants.

A `.jsonl` file has one object a line: {"prompt", "class_name", "attributes", "photograph", "layout"}, where everything
but the prompt may be left out (a line with a photograph needs no prompt); paths are relative to the file. Any other
file has one prompt a line; blank lines and lines that start with `#` are skipped.

A line without a class is about the class that it names first, by name or synonym. A line that names none is about no
single class.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, Field

from segkit.documents import parse_json
from segkit.labels import IGNORE, Label, LabelSpace
from segkit.masks import read_mask
from synthgen.backends import Cost
from synthgen.errors import InputError, LabelError
from synthgen.prompts.bank import Candidate, content_of
from synthgen.prompts.words import first_mentioned
from synthgen.records import ids_digest
from synthgen.sources.label_maps import LabelMap

MAX_CHARS = 4_000  # more than any text encoder reads: 512 tokens of T5 are about 2,000
_KEYS = ("prompt", "class_name", "attributes", "photograph", "layout")


class Options(BaseModel, extra="forbid"):
    """Which file."""

    path: str = Field(description="a text file with one prompt a line, or .jsonl")


def build(options: Options, execution: Any) -> PromptFile:
    """Read the whole file. Raises InputError that names the file, and the line if one is bad."""
    path = Path(options.path)
    lines = _bytes(path)
    try:
        text = lines.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = lines[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from error
    read = _read_json if path.suffix.lower() == ".jsonl" else _read_text
    found = tuple(
        line for number, raw in enumerate(text.split("\n"), 1) if (line := read(raw.strip(), number, path)) is not None
    )
    if not found:
        raise InputError(f"{path}: holds no prompt; write one a line")
    return PromptFile(path, found)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """The file is read."""
    return Cost()


def num_given(options: Options) -> int:
    """How many lines the file has; a class takes no more texts than its quota."""
    return len(build(options, None).lines)


def fingerprint(options: Options) -> dict[str, str]:
    """Content hash of the file."""
    return {"path": hashlib.sha256(_bytes(Path(options.path))).hexdigest()}


def root(options: Options) -> Path:
    """The folder that the photographs of the rows lie below (or beside: `../more/a.jpg` stays as it is written)."""
    return Path(options.path).parent


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of the file; `class_name` is "" where the line does not say it."""

    number: int
    prompt: str
    class_name: str
    attributes: tuple[str, ...]
    photograph: str  # as the line says it, relative to the file
    layout: str


class PromptFile:
    """A prompt source over the lines of one file."""

    def __init__(self, path: Path, lines: tuple[Line, ...]) -> None:
        self._path = path
        self.lines = lines

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """The lines about the wanted classes, class after class; with no wanted class those about no single class.

        `seed` is not used.

        Raises InputError that names the line if its class is not in the label space.
        """
        classes = [self._class_of(line, space) for line in self.lines]
        for label in wanted or (None,):
            name, class_id = (label.name, label.id) if label else ("", IGNORE)
            own = [line for line, about in zip(self.lines, classes, strict=True) if about == label]
            for line in sorted(own, key=lambda line: not (line.photograph or line.layout)):
                yield self._candidate(line, name, class_id, space)

    def _candidate(self, line: Line, class_name: str, class_id: int, space: LabelSpace) -> Candidate:
        plain = Candidate(line.prompt, class_name, class_id, line.attributes)
        folder = self._path.parent
        if line.photograph:
            path = folder / line.photograph
            return dataclasses.replace(plain, photograph=path, content=content_of(path), origin=line.photograph)
        if line.layout:
            path = folder / line.layout
            content = ids_digest(read_mask(path, space))
            return dataclasses.replace(plain, layout=LabelMap(path), content=content, origin=line.layout)
        return plain

    def _class_of(self, line: Line, space: LabelSpace) -> Label | None:
        if not line.class_name:
            return first_mentioned(line.prompt, space)
        try:
            return space.by_name(line.class_name)
        except LabelError as error:
            raise InputError(f"{self._path}:{line.number}: {error}") from error


def _read_text(raw: str, number: int, path: Path) -> Line | None:
    if not raw or raw.startswith("#"):
        return None
    return Line(number, _sentence(raw, number, path), "", (), "", "")


def _read_json(raw: str, number: int, path: Path) -> Line | None:
    if not raw:
        return None
    where = f"{path}:{number}"
    item = parse_json(raw, where)
    if not isinstance(item, dict):
        raise InputError(f"{where}: a line must be an object with the key 'prompt', this is {type(item).__name__}")
    for key, value in item.items():
        if key not in _KEYS:
            raise InputError(f"{where}: key {key!r} is not known; the keys are: {', '.join(_KEYS)}")
        if key != "attributes" and not isinstance(value, str):
            raise InputError(f"{where}: {key!r} must be a text, this is {type(value).__name__}")
    files = {key: _file(item.get(key, ""), key, where, path) for key in ("photograph", "layout")}
    if not item.get("prompt", "").strip() and not files["photograph"]:
        raise InputError(f'{where}: has no prompt; write {{"prompt": "..."}}')
    prompt = _sentence(item.get("prompt", ""), number, path)
    return Line(number, prompt, item.get("class_name", ""), _attributes(item.get("attributes", {}), where), **files)


def _sentence(raw: str, number: int, path: Path) -> str:
    if len(raw) > MAX_CHARS:
        raise InputError(f"{path}:{number}: a line of {len(raw)} characters; a prompt has at most {MAX_CHARS}")
    text = " ".join(raw.split())
    strange = next((character for character in text if not character.isprintable()), None)
    if strange is not None:
        raise InputError(f"{path}:{number}: holds the control character {strange!r}; remove it")
    return text


def _attributes(raw: Any, where: str) -> tuple[str, ...]:
    if (
        not isinstance(raw, dict)
        or not all(isinstance(value, str) for value in raw.values())
        or any("=" in name for name in raw)
    ):
        raise InputError(f'{where}: \'attributes\' must be an object of texts, for example {{"time": "night"}}')
    return tuple(sorted(f"{name}={value}" for name, value in raw.items()))


def _file(name: str, key: str, where: str, path: Path) -> str:
    if not name:
        return ""
    if PurePosixPath(name).is_absolute():
        raise InputError(f"{where}: {key} {name!r} is an absolute path; write it relative to {path.parent}")
    file = path.parent / name
    if not file.is_file():
        raise InputError(f"{where}: {key} {name!r}: no file {file}")
    return PurePosixPath(name).as_posix()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); prompts.source.path must be a file of prompts"
        ) from error
