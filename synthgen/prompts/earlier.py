"""Sentences that earlier banks hold, in a file: what a further bank keeps away from (prompts.apart_from).

CLASS<TAB>SENTENCE a line, UTF-8, in the order in which they were proposed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from segkit.files import read_regular
from segkit.labels import Label
from segkit.printable import excerpt
from synthgen.errors import InputError

MAX_BYTES = 256 * 2**20


def read_earlier(path: str, wanted: Sequence[Label]) -> dict[str, tuple[str, ...]]:
    """Class name -> its sentences, each once. Raises InputError for a line that is none, or names no wanted class."""
    names = {label.name for label in wanted}
    found: dict[str, dict[str, None]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        name, tab, sentence = line.partition("\t")
        if not tab or not sentence.strip():
            raise InputError(f"{path}: line {number}: {excerpt(line)} is not CLASS<TAB>SENTENCE (prompts.apart_from)")
        if name not in names:
            raise InputError(f"{path}: line {number}: {excerpt(name)} is no class of labels.classes")
        found.setdefault(name, {})[sentence.strip()] = None
    return {name: tuple(sentences) for name, sentences in found.items()}


def earlier_text(sentences: Iterable[tuple[str, str]]) -> str:
    """What `read_earlier` reads, of (class, sentence)."""
    return "".join(f"{name}\t{' '.join(sentence.split())}\n" for name, sentence in sentences)


def earlier_digest(path: str) -> str:
    """A checksum of what the file holds."""
    return hashlib.sha256(_text(path).encode()).hexdigest()


def _text(path: str) -> str:
    try:
        return read_regular(Path(path).expanduser(), MAX_BYTES, InputError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 (prompts.apart_from)") from error
