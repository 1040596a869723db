"""Manifests of any length: the same bytes, the same rows, whatever is in memory at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doubles.rows import row as row_of
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import rows as rows_file
from synthgen.errors import RunError
from synthgen.records import PromptRecord, Rejected, ShardRecord, flat, schema_of
from synthgen.rows import GROUP_ROWS, Picked, RowWriter, StoredRows, column, group_sizes, take, write_rows


def made(count: int, start: int = 0) -> list[Rejected]:
    return [Rejected(f"k{n:06d}", f"p{n}", "s", "r" * (n % 3), "d", n / 7) for n in range(start, start + count)]


def written(rows: list[Rejected], path: Path) -> Path:
    with RowWriter(Rejected, path) as writer:
        for row in rows:
            writer.add(row)
    assert writer.num_rows == len(rows)
    return path


@pytest.mark.parametrize("count", [0, 1, 700, GROUP_ROWS])
def test_a_group_of_rows_has_the_bytes_of_a_file_written_at_once(tmp_path: Path, count: int) -> None:
    write_rows(made(count), Rejected, tmp_path / "once")
    assert written(made(count), tmp_path / "rows").read_bytes() == (tmp_path / "once").read_bytes()


def test_many_rows_are_groups(tmp_path: Path) -> None:
    path = written(made(2 * GROUP_ROWS + 3), tmp_path / "rows")
    assert group_sizes(path) == [GROUP_ROWS, GROUP_ROWS, 3]
    assert path.read_bytes() == written(made(2 * GROUP_ROWS + 3), tmp_path / "again").read_bytes()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredRows, list[Rejected]]:
    """Files of several groups, of few rows and of none."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_file, "GROUP_ROWS", 50)
        paths = [written(made(count, start), folder / str(start)) for count, start in ((120, 0), (7, 120), (50, 127))]
        paths.insert(1, written([], folder / "none"))
    return StoredRows(paths, Rejected), made(177)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 176), max_size=40), st.integers(0, 180), st.integers(0, 180))
def test_rows_are_found_wherever_they_lie(
    stored: tuple[StoredRows, list[Rejected]], places: list[int], start: int, stop: int
) -> None:
    found, rows = stored
    positions = np.array(places, dtype=np.uint32)
    assert (
        found.take(positions)
        == take(rows, positions)
        == [rows[place] for place in places]
        == list(Picked(found, positions))
    )
    assert found.rows(start, stop) == rows[start:stop]


def test_all_rows_and_columns(stored: tuple[StoredRows, list[Rejected]]) -> None:
    found, rows = stored
    assert len(found) == len(rows) and list(found) == rows == list(found)
    assert column(found, "parent").to_pylist() == column(rows, "parent").to_pylist() == [row.parent for row in rows]
    assert len(Picked(found, np.arange(3))) == 3


def test_what_is_no_such_file_is_one_line(tmp_path: Path) -> None:
    path = written(made(3), tmp_path / "rows")
    with pytest.raises(RunError, match=r"rows: is damaged \(columns are not those of ShardRecord"):
        list(StoredRows([path], ShardRecord))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"rows: is damaged"):
        StoredRows([path], Rejected)


def test_a_unit_that_is_given_up_leaves_no_whole_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RowWriter(Rejected, tmp_path / "rows") as writer:
        writer.add(made(1)[0])
        raise KeyError
    assert not (tmp_path / "rows").exists()


@dataclasses.dataclass(frozen=True, slots=True)
class Early:
    """A record as an earlier version wrote it."""

    key: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    height_px: int = 3
    words: tuple[str, ...] = ("a", "b")


@dataclasses.dataclass(frozen=True, slots=True)
class Later:
    """The same with what came later."""

    key: str
    count: int
    cut: str = "none"
    size: Size = Size()


def test_columns_that_came_later_have_their_default_in_files_from_before(tmp_path: Path) -> None:
    write_rows([Early("a", 1), Early("b", 2)], Early, tmp_path / "early")
    write_rows([Later("c", 3, "cut", Size(9, ()))], Later, tmp_path / "later")
    found = StoredRows([tmp_path / "early", tmp_path / "later"], Later)
    rows = [Later("a", 1), Later("b", 2), Later("c", 3, "cut", Size(9, ()))]
    assert list(found) == found.rows(0, 3) == found.take(np.arange(3)) == rows
    assert found.column("cut").to_pylist() == ["none", "none", "cut"]
    assert found.column("words").to_pylist() == [["a", "b"], ["a", "b"], []]
    with pytest.raises(RunError, match="columns are not those of Early"):  # a file of a later version
        list(StoredRows([tmp_path / "later"], Early))


def test_prompts_from_before_the_column_cut_are_read(tmp_path: Path) -> None:
    whole = row_of(PromptRecord, key="p1", prompt="a cat", cut="")
    table = pa.Table.from_pylist([{**flat(whole), "attributes": []}], schema_of(PromptRecord)).drop_columns(["cut"])
    pq.write_table(table, tmp_path / "manifest")
    assert list(StoredRows([tmp_path / "manifest"], PromptRecord)) == [whole]
