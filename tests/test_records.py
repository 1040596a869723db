"""Records: schema from type hints, parquet round trips, keys and seeds."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import records
from synthgen.errors import RunError
from synthgen.records import (
    Labelling,
    MaskRecord,
    Pair,
    Picture,
    PromptRecord,
    Rejected,
    RenderRecord,
    Sample,
    ScoredRecord,
    Scores,
    ShardRecord,
    Subject,
    columns_of,
    flat,
    from_flat,
    ids_digest,
    key_of,
    schema_of,
    seed_of,
)
from synthgen.rows import StoredRows, write_rows

KINDS = (PromptRecord, RenderRecord, MaskRecord, ScoredRecord, Sample, ShardRecord, Rejected)
PARTS = (Subject, Picture, Labelling, Scores, Pair)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    tuple[str, ...]: st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=3).map(tuple),
    tuple[float, ...]: st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(tuple),
}


def rows_of(kind: type) -> st.SearchStrategy[list[Any]]:
    columns = {name: VALUES[hint] for name, hint in columns_of(kind).items()}
    return st.lists(st.fixed_dictionaries(columns).map(lambda values: from_flat(kind, values)), max_size=3)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_rows_come_back_as_they_went(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    rows = data.draw(rows_of(kind))
    folder = tmp_path_factory.mktemp("rows")
    for name in ("a", "b"):
        write_rows(rows, kind, folder / name)
    assert list(StoredRows([folder / "a"], kind)) == rows
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_has_a_schema_without_nulls(kind: type) -> None:
    schema = schema_of(kind)
    assert schema.names == list(columns_of(kind))
    assert not any(field.nullable for field in schema)


def test_every_record_of_the_module_is_known_to_these_tests() -> None:
    found = {value for value in vars(records).values() if isinstance(value, type) and dataclasses.is_dataclass(value)}
    assert found == {*KINDS, *PARTS}


@pytest.mark.parametrize("kind", KINDS)
def test_records_name_what_they_were_made_from(kind: type) -> None:
    names = {field.name for field in dataclasses.fields(kind)}
    assert "key" in names and names & {"parent", "parents"}, "the runner accounts for rows by these"


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    write_rows([Rejected("a", "b", "c", "d", "e", 0.0)], Rejected, tmp_path / "rows")
    with pytest.raises(RunError, match="columns are not those of PromptRecord"):
        list(StoredRows([tmp_path / "rows"], PromptRecord))


def test_a_row_is_flat_in_a_table_and_nested_in_python() -> None:
    subject, picture = Subject("cat", 8, "a cat", ("time=night",)), Picture("i.png", 4, 6, 1, "r", "", 2, 3.0, "", "")
    row = RenderRecord("s1", "p1", subject, picture, 56)
    columns = flat(row)
    assert columns["prompt"] == "a cat" and columns["width_px"] == 6 and columns["denoiser_runs"] == 56
    assert from_flat(RenderRecord, columns) == row
    with pytest.raises(TypeError, match="colour"):
        from_flat(RenderRecord, columns | {"colour": 1})
    with pytest.raises(TypeError, match="width_px"):
        from_flat(RenderRecord, {name: value for name, value in columns.items() if name != "width_px"})


def test_a_column_may_stand_once_in_a_whole_row() -> None:
    @dataclasses.dataclass
    class Twice:
        key: str
        subject: Subject
        prompt: str

    Twice.__annotations__ = {"key": str, "subject": Subject, "prompt": str}
    with pytest.raises(TypeError, match="the column 'prompt' occurs twice"):
        columns_of(Twice)


def test_a_label_map_is_known_by_its_ids_and_its_shape() -> None:
    ids = np.arange(12, dtype=np.uint8)
    assert ids_digest(ids.reshape(3, 4)) == ids_digest(ids.reshape(3, 4).copy(order="F"))
    assert len({ids_digest(ids.reshape(3, 4)), ids_digest(ids.reshape(4, 3)), ids_digest(ids[::-1].reshape(3, 4))}) == 3


# U+001F separates
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=6)
contents = st.lists(texts | st.integers(), max_size=4)


@given(contents)
def test_a_key_is_safe_in_file_names_tars_and_tables(content: list[object]) -> None:
    key = key_of("s", *content)
    assert re.fullmatch(r"s[0-9a-f]{15}", key), "no dot, never all digits, never a hidden file"
    assert key == key_of("s", *content)


@given(contents, contents)
def test_different_content_different_key(one: list[object], other: list[object]) -> None:
    assert (key_of("s", *one) == key_of("s", *other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(("ab", "c"), ("a", "bc")), ((1,), ("1",)), ((), ("",)), (("a", ""), ("a",)), ((True,), (1,))]
)
def test_keys_of_look_alikes_differ(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert key_of("s", *one) != key_of("s", *other)


def test_kinds_differ_and_are_one_letter() -> None:
    assert key_of("p", "x")[1:] == key_of("s", "x")[1:]
    for bad in ("", "ab", "1", "."):
        with pytest.raises(ValueError, match="one letter"):
            key_of(bad, "x")


@given(st.text(max_size=20))
def test_seed_fits_every_generator_and_follows_from_the_key(key: str) -> None:
    assert 0 <= seed_of(key) < 2**62
    assert seed_of(key) == seed_of(key)


def test_seeds_spread() -> None:
    seeds = [seed_of(key_of("s", number)) for number in range(2000)]
    assert len(set(seeds)) == 2000
    assert 900 < sum(seed % 2 for seed in seeds) < 1100
    assert 900 < sum(seed >= 2**61 for seed in seeds) < 1100


def test_keys_and_seeds_are_the_same_in_every_process_and_version() -> None:
    """A run may be finished by another process: nothing may hang on hash randomisation.

    Changing these numbers changes every user's keys.
    """
    code = "from synthgen.records import *; k = key_of('s', 'a cow', 3); print(k, seed_of(k))"
    said = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    ).stdout
    key = key_of("s", "a cow", 3)
    assert said.split() == [key, str(seed_of(key))]
    assert (key, seed_of(key)) == ("sec826d23938f9c0", 4225512869255652221)
