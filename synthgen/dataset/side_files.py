"""The files beside the shards that other tools read: a table of each shard, and the list of shards that `wids` opens.

Both say again what shards and index say; `verify` compares them. A dataset without them is whole too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segkit.index import Index, SampleEntry
from segkit.metadata import FIELDS, MAX_JSON_BYTES
from synthgen.dataset.parquet_pages import unpacked
from synthgen.errors import DatasetError, in_one_line

CROISSANT_FILE = "croissant.json"
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), tuple[str, ...]: pa.list_(pa.string())}
_SLACK_BYTES = 2**20
_PIXELS = pa.list_(
    pa.struct([pa.field("id", pa.int64(), nullable=False), pa.field("pixels", pa.int64(), nullable=False)])
)


def table_schema(kinds: Mapping[str, Any] = FIELDS) -> pa.Schema:
    """Columns of a shard's table, of whose samples' JSON the fields have these types."""
    return pa.schema(
        [
            *(pa.field(name, _ARROW[kind], nullable=False) for name, kind in kinds.items()),
            pa.field("shard", pa.string(), nullable=False),  # file name of the tar
            pa.field("row", pa.int64(), nullable=False),  # place of the sample in it, from 0
            pa.field("class_pixels", _PIXELS, nullable=False),  # the ids that occur in the mask, 255 too
        ]
    )


def table_file(shard: str) -> str:
    """`train-000000.parquet` for `train-000000.tar`."""
    return f"{Path(shard).stem}.parquet"


def wids_file(split: str) -> str:
    """wids knows no splits: one list each."""
    return f"wids-{split}.json"


def table_rows(
    shard: str, metadata: Sequence[Mapping[str, Any]], entries: Sequence[SampleEntry]
) -> list[dict[str, Any]]:
    """The rows of one shard's table: what each sample's JSON says, and where the sample lies."""
    return [
        {
            **{
                name: list(values[name]) if isinstance(values[name], tuple) else values[name] for name in sorted(values)
            },
            "shard": shard,
            "row": number,
            "class_pixels": [{"id": class_id, "pixels": count} for class_id, count in entry.pixels],
        }
        for number, (values, entry) in enumerate(zip(metadata, entries, strict=True))
    ]


def table_bytes(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Any] = FIELDS) -> bytes:
    """Parquet of the rows, whose fields have these types. The same rows give the same bytes with the same pyarrow."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), schema=table_schema(kinds))
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def most_bytes(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Any] = FIELDS) -> int:
    """What a table of these rows unpacks to, with room for other ways of storing them."""
    return 4 * int(pa.Table.from_pylist(list(rows), schema=table_schema(kinds)).nbytes) + _SLACK_BYTES


def read_table(
    path: Path, num_rows: int, kinds: Mapping[str, Any] = FIELDS, most: int | None = None
) -> list[dict[str, Any]]:
    """The rows of a shard's table.

    Raises DatasetError for a damaged file, one with other columns or another number of rows, and one that unpacks to
    more than `most` bytes, by default what so many JSON members may have: nothing is unpacked before, whatever the
    footer claims.
    """
    most = MAX_JSON_BYTES * (num_rows + 1) if most is None else most
    try:
        if not path.is_file():
            raise DatasetError("is no regular file")
        if path.stat().st_size > most:
            raise DatasetError(f"has {path.stat().st_size} bytes, more than a table of its samples could")
        facts = pq.read_metadata(path)
        schema = table_schema(kinds)
        if not facts.schema.to_arrow_schema().equals(schema):
            raise DatasetError("its columns are not those of a shard's table")
        if facts.num_rows != num_rows:
            raise DatasetError(f"has {facts.num_rows} rows, the shard {num_rows} samples")
        come = unpacked(path, facts)
        if max(come.num_bytes, come.num_values) > most:
            raise DatasetError("would unpack to more than its samples can hold")
        # texts stay in the dictionaries of the file: a long one that many rows share would be many
        table = pq.read_table(path, page_checksum_verification=True, read_dictionary=_texts(schema), use_threads=False)
        if sum(map(_num_text_bytes, table.columns)) > most:
            raise DatasetError("would unpack to more than its samples can hold")
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError) as error:
        raise DatasetError(f"cannot be read as parquet ({in_one_line(error)})") from error


def _texts(schema: pa.Schema) -> list[str]:
    """Paths in a parquet file of the columns of texts and of lists of texts."""
    nested = [f"{field.name}.list.element" for field in schema if field.type == pa.list_(pa.string())]
    return [field.name for field in schema if pa.types.is_string(field.type)] + nested


def _num_text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column of dictionaries, each as often as it occurs; 0 for other columns."""
    total = 0
    for chunk in column.chunks:
        values = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        if pa.types.is_dictionary(values.type):
            lengths = pc.binary_length(values.dictionary).cast(pa.int64())
            total += pc.sum(lengths.take(values.indices)).as_py() or 0
    return total


def wids_bytes(index: Index, split: str) -> bytes:
    """The list of one split's shards for `wids.ShardListDataset`; the tars are looked for beside it.

    It has no md5sum: wids does not ask for it, and index.json and croissant.json have the sha256.
    """
    shards = [
        {"url": shard.file, "nsamples": shard.num_samples, "filesize": shard.num_bytes, "sha256": shard.sha256}
        for shard in index.shards
        if shard.split == split
    ]
    document = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": f"{index.name}-{split}",
        "shardlist": shards,
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
