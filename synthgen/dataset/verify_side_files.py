"""What is broken in the files beside the shards; those that are not there are not missed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segkit.documents import parse_yaml, read_json
from segkit.errors import DatasetError
from segkit.files import open_regular, read_regular
from segkit.headers import png_header, require_whole_png
from segkit.index import Index, SampleEntry
from segkit.metadata import kinds_of
from synthgen.dataset.side_files import (
    CROISSANT_FILE,
    most_bytes,
    read_table,
    table_file,
    table_rows,
    wids_bytes,
    wids_file,
)

CARD, CONTACT_SHEET = "README.md", "contact_sheet.png"
_MAX_LIST_BYTES = 2**28


def broken_in_lists(folder: Path, index: Index) -> Iterator[tuple[str, str]]:
    """(file, what) for the wids lists and the Croissant document."""
    for split in sorted({entry.name for entry in index.splits}):
        path = folder / wids_file(split)
        try:
            if path.exists() and read_regular(path, _MAX_LIST_BYTES, DatasetError) != wids_bytes(index, split):
                yield path.name, "is not the list of shards that the index gives"
        except DatasetError as error:
            yield path.name, str(error).removeprefix(f"{path}: ")
    named = {table_file(shard.file) for shard in index.shards}
    for path in sorted(folder.glob("*.parquet")):
        if path.name not in named:
            yield path.name, "is the table of no shard, but readers that take *.parquet would read it"
    path = folder / CROISSANT_FILE
    if path.exists():
        yield from ((path.name, what) for what in _broken_in_croissant(path, folder, index))


def broken_in_pages(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, what) for what people look at: the contact sheet, by its check sums, and the head of the data card. What a
    card says in prose is said nowhere else, so it is compared with nothing."""
    path = folder / CONTACT_SHEET
    try:
        if path.exists() or path.is_symlink():
            data = read_regular(path, _MAX_LIST_BYTES, DatasetError)
            png_header(data, path, DatasetError)
            require_whole_png(data, path, DatasetError)
    except DatasetError as error:
        yield path.name, str(error).removeprefix(f"{path}: ")
    path = folder / CARD
    try:
        if path.exists() or path.is_symlink():
            text = read_regular(path, _MAX_LIST_BYTES, DatasetError).decode()
            _, mark, rest = text.partition("---\n")
            head, end, _ = rest.partition("\n---\n")
            if not (mark and end and isinstance(parse_yaml(head, str(path), DatasetError), dict)):
                yield path.name, "has no head (YAML between two lines of ---), which the Hub reads"
    except UnicodeDecodeError:
        yield path.name, "is not UTF-8"
    except DatasetError as error:
        yield path.name, str(error).removeprefix(f"{path}: ")


def broken_in_table(
    folder: Path, shard: str, metadata: Sequence[Mapping[str, Any]], rows: Sequence[SampleEntry]
) -> Iterator[tuple[str, str]]:
    """(key, what) for the table of one shard, against the JSON of its samples as they were read."""
    path = folder / table_file(shard)
    # samples that could not be read, or whose fields are not those of the others, are told already
    if not path.exists() or not metadata or len(metadata) != len(rows):
        return
    kinds = kinds_of(metadata[0])
    if any(kinds_of(values) != kinds for values in metadata):
        return
    right = table_rows(shard, metadata, rows)
    try:
        stored = read_table(path, len(rows), kinds, most_bytes(right, kinds))
    except DatasetError as error:
        yield "", f"{path.name}: {error}"
        return
    for here, wanted in zip(stored, right, strict=True):
        differ = [name for name, value in wanted.items() if here[name] != value]
        if differ:
            yield wanted["key"], f"{path.name}: {', '.join(differ)} differ from the sample's JSON and the index"


def _broken_in_croissant(path: Path, folder: Path, index: Index) -> Iterator[str]:
    wanted = {shard.file: shard.sha256 for shard in index.shards}
    for shard in index.shards:
        table = folder / table_file(shard.file)
        try:
            if table.exists():
                with open_regular(table, DatasetError) as file:
                    wanted[table.name] = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, DatasetError) as error:
            yield f"{table.name} cannot be read ({error})"
    try:
        files = read_json(path, DatasetError, _MAX_LIST_BYTES)["distribution"]
        listed = {entry["contentUrl"]: entry["sha256"] for entry in files if "sha256" in entry}
    except (DatasetError, LookupError, TypeError, AttributeError) as error:
        yield f"cannot be read ({type(error).__name__}: {error})"
        return
    for name in sorted(wanted.keys() | listed.keys(), key=str):
        if wanted.get(name) != listed.get(name):
            yield (
                f"sha256 of {name} is {listed.get(name, 'not given')}, must be "
                f"{wanted.get(name, 'left out: it is no file of this dataset')}"
            )
