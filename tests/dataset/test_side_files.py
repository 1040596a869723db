"""The files beside the shards say what the shards say, and `verify` finds it where they do not."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.drawn_dataset import drawn_dataset
from segkit.metadata import kinds_of
from segkit.shards import Dataset
from synthgen.cli import app
from synthgen.dataset.parquet_pages import unpacked
from synthgen.dataset.side_files import most_bytes, read_table, table_bytes, table_schema
from synthgen.dataset.verify import NOT_CHECKED, verify
from synthgen.errors import DatasetError
from synthgen.pack.fields import SAMPLE_FIELDS

TABLE = "train-000000.parquet"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_dataset(tmp_path_factory.mktemp("packed") / "run", count=6)


@pytest.fixture
def dataset(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "dataset"))


def _what(folder: Path) -> str:
    return "\n".join(map(str, verify(folder)))


def test_the_table_has_the_json_of_every_sample_in_tar_order(dataset: Path) -> None:
    assert verify(dataset) == []
    source = Dataset(dataset)
    for number, shard in enumerate(source.index.shards):
        samples = list(source.shard_samples(number))
        kinds = kinds_of(samples[0].meta)
        rows = read_table(dataset / shard.file.replace(".tar", ".parquet"), len(samples), kinds)
        assert [(row["key"], row["shard"], row["row"]) for row in rows] == [
            (sample.key, shard.file, i) for i, sample in enumerate(samples)
        ]
        for row, sample in zip(rows, samples, strict=True):
            assert {
                name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in sample.meta
            } == sample.meta


def test_the_same_rows_give_the_same_bytes(dataset: Path) -> None:
    rows = read_table(dataset / TABLE, 3, SAMPLE_FIELDS)
    assert table_bytes(rows, SAMPLE_FIELDS) == (dataset / TABLE).read_bytes()


def test_files_that_are_not_there_are_not_missed(dataset: Path) -> None:
    for path in dataset.iterdir():
        if path.suffix not in (".tar",) and path.name != "index.json":
            path.unlink()
    assert verify(dataset) == []


def _edit_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return edit


def _edit_table(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        rows = read_table(folder / TABLE, 3, SAMPLE_FIELDS)
        change(rows)
        (folder / TABLE).write_bytes(table_bytes(rows, SAMPLE_FIELDS))

    return edit


def _other_columns(folder: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"key": ["a", "b", "c"]}), buffer)
    (folder / TABLE).write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            _edit_json("wids-train.json", lambda d: d["shardlist"][0].update(nsamples=9)),
            "wids-train.json: is not the list of shards",
        ),
        (
            _edit_json("wids-validation.json", lambda d: d["shardlist"][0].update(url="../x.tar")),
            "wids-validation.json: is not the list",
        ),
        (
            _edit_json("croissant.json", lambda d: d["distribution"][0].update(sha256="0" * 64)),
            "croissant.json: sha256 of train-000000.tar is 0000",
        ),
        (_edit_json("croissant.json", lambda d: d["distribution"].pop(0)), "sha256 of train-000000.tar is not given"),
        (_edit_json("croissant.json", lambda d: d.pop("distribution")), "croissant.json: cannot be read"),
        (lambda folder: (folder / "croissant.json").write_bytes(b"[" * 100_000), "croissant.json: cannot be read"),
        (_edit_table(lambda rows: rows[1].update(text_image_score=0.5)), f"{TABLE}: text_image_score differ"),
        (_edit_table(lambda rows: rows[1]["class_pixels"].pop()), f"{TABLE}: class_pixels differ"),
        (_edit_table(lambda rows: rows.reverse()), f"{TABLE}: "),
        (_edit_table(lambda rows: rows.pop()), f"{TABLE}: has 2 rows, the shard 3 samples"),
        (_other_columns, f"{TABLE}: its columns are not those"),
        (lambda folder: (folder / TABLE).write_bytes(b"PAR1"), f"{TABLE}: cannot be read as parquet"),
        (
            lambda folder: shutil.copy(folder / TABLE, folder / "train-000007.parquet"),
            "train-000007.parquet: is the table of no shard",
        ),
    ],
)
def test_what_differs_is_named(dataset: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(dataset)
    assert said in _what(dataset)


def test_a_table_that_would_unpack_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    """8 rows of one text of 4 MB each lie in a few kB."""
    schema = table_schema()
    blank = {name: [] if str(schema.field(name).type).startswith("list") else 0 for name in schema.names}
    texts = {name: "a" for name in schema.names if schema.field(name).type == pa.string()}
    rows = [{**blank, **texts, "prompt": f"{number}" * 4_000_000} for number in range(8)]
    path = tmp_path / "bomb.parquet"
    path.write_bytes(table_bytes(rows))
    assert path.stat().st_size < 200_000
    with pytest.raises(DatasetError, match="would unpack to more"):
        read_table(path, 8)


def _plain_rows(count: int, prompt: str) -> list[dict[str, Any]]:
    schema = table_schema()
    blank = {name: [] if str(schema.field(name).type).startswith("list") else 0 for name in schema.names}
    texts = {name: "a" for name in schema.names if schema.field(name).type == pa.string()}
    return [{**blank, **texts, "prompt": prompt, "attributes": [prompt, "b"]} for _ in range(count)]


def _varint(value: int, length: int = 0) -> bytes:
    """Zigzag of Thrift's compact protocol, with empty continuations up to a length."""
    value, out = 2 * value, bytearray()
    while value or not out or len(out) < length:
        out.append(value & 127 | 128)
        value >>= 7
    out[-1] &= 127
    return bytes(out)


def test_a_footer_that_lies_of_what_the_pages_hold_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    path.write_bytes(table_bytes(_plain_rows(8, "x" * 4_000_000)))
    group, data = pq.read_metadata(path).row_group(0), path.read_bytes()
    assert len(data) < 200_000 and group.total_byte_size > 8_000_000
    sizes = [group.total_byte_size, *(group.column(n).total_uncompressed_size for n in range(group.num_columns))]
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    tail = data[footer:]
    for size in (size for size in sizes if size > 2**20):
        tail = tail.replace(_varint(size), _varint(8, len(_varint(size))))
    path.write_bytes(data[:footer] + tail)
    assert pq.read_metadata(path).row_group(0).total_byte_size == 8
    tracemalloc.start()
    with pytest.raises(DatasetError, match="would unpack to more than its samples can hold"):
        read_table(path, 8)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_text_that_many_rows_share_is_counted_as_often_as_it_occurs(tmp_path: Path) -> None:
    path, rows = tmp_path / "shared.parquet", _plain_rows(300, "x" * 100_000)
    path.write_bytes(table_bytes(rows))
    assert unpacked(path, pq.read_metadata(path)).num_bytes < 500_000
    with pytest.raises(DatasetError, match="would unpack to more than its samples can hold"):
        read_table(path, 300, most=2**24)
    short = _plain_rows(300, "short")
    path.write_bytes(table_bytes(short))
    assert read_table(path, 300, most=most_bytes(short)) == short


def test_encodings_that_stand_for_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "delta.parquet"
    table = pa.Table.from_pylist(_plain_rows(50, "x" * 1000), schema=table_schema())
    encodings = {"prompt": "DELTA_BYTE_ARRAY"}
    pq.write_table(table, path, use_dictionary=False, column_encoding=encodings, write_page_checksum=True)
    with pytest.raises(DatasetError, match="encoded in a way that our tables are not"):
        read_table(path, 50)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_heads_of_pages_are_read_in_both_versions(tmp_path: Path, version: str) -> None:
    path = tmp_path / "table.parquet"
    rows = [{**row, "prompt": f"{number:03}" * 500} for number, row in enumerate(_plain_rows(40, "x"))]
    table = pa.Table.from_pylist(rows, schema=table_schema())
    pq.write_table(table, path, compression="zstd", data_page_version=version, data_page_size=512)
    facts = pq.read_metadata(path)
    group = facts.row_group(0)
    claimed = sum(group.column(n).total_uncompressed_size for n in range(group.num_columns))
    come = unpacked(path, facts)
    assert 0.8 * claimed < come.num_bytes <= claimed, "what is left are the heads themselves"
    assert come.num_values >= 40 * len(table.column_names)
    assert read_table(path, 40) == rows


def test_damage_of_a_table_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    whole = table_bytes(_plain_rows(5, "a cat"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with contextlib.suppress(DatasetError):
            read_table(path, 5)


def test_a_flipped_bit_in_the_contact_sheet_is_found(dataset: Path) -> None:
    path = dataset / "contact_sheet.png"
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(path)
    assert not _what(dataset)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        assert "contact_sheet.png: " in _what(dataset)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "contact_sheet.png: is a device, must be a regular file" in _what(dataset)


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (b"# no head", "README.md: has no head"),
        (b"---\nlicense: [\n---\n", "README.md: cannot be read as YAML"),
        (b"---\nlicense: \xff\n---\n", "README.md: is not UTF-8"),
        (b"---\nlicense: mit\n---\nprose that nothing else says", ""),
    ],
)
def test_the_head_of_the_card_is_read(dataset: Path, card: bytes, said: str) -> None:
    (dataset / "README.md").write_bytes(card)
    assert said in _what(dataset) if said else not _what(dataset)


def test_verify_says_what_it_does_not_look_at(dataset: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(dataset)])
    assert (result.stdout, result.stderr) == (f"{dataset}: whole\n", f"not looked at: {NOT_CHECKED}\n")
    told = json.loads(CliRunner().invoke(app, ["verify", str(dataset), "--json"]).stdout)
    assert told["whole"] and told["not_checked"] == NOT_CHECKED
