"""The files beside the shards say what the shards say, and `verify` finds it where they do not."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.drawn_dataset import drawn_dataset
from segkit.metadata import kinds_of
from segkit.shards import Dataset
from synthgen.dataset.side_files import read_table, table_bytes, table_schema
from synthgen.dataset.verify import verify
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
    with pytest.raises(DatasetError, match="claims to unpack to more"):
        read_table(path, 8)
