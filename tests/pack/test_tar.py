"""Shards: tar bytes, the rules for keys and JSON, what an error leaves behind."""

from __future__ import annotations

import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.metadata import FIELDS, kinds_of, metadata_bytes, read_metadata
from segkit.ustar import member_header, read_members
from synthgen.errors import DatasetError, InputError, StorageError
from synthgen.pack.fields import SAMPLE_FIELDS
from synthgen.pack.tar import PackedSample, write_shard

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(-(2**63), 2**63 - 1),
    str: TEXT,
    tuple[str, ...]: st.lists(TEXT.filter(bool), max_size=4).map(tuple),
}
METADATA = st.fixed_dictionaries({name: VALUES[kind] for name, kind in FIELDS.items()})


def _metadata(**changed: Any) -> dict[str, Any]:
    plain: dict[Any, Any] = {float: 0.5, int: 3, str: "x", tuple[str, ...]: ("a=b",)}
    return {**{name: plain[kind] for name, kind in FIELDS.items()}, "key": "s1", **changed}


def _sample(key: str = "s1", payload: bytes = b"jpg") -> PackedSample:
    return PackedSample(payload, b"png", b"confidence", _metadata(key=key))


def test_tarfile_reads_what_was_written(tmp_path: Path) -> None:
    payloads = {f"s{number}": bytes(number * 171) for number in range(1, 8)}
    written = write_shard(tmp_path / "a.tar", (_sample(key, data) for key, data in payloads.items()))
    assert (written.num_samples, written.num_bytes) == (7, (tmp_path / "a.tar").stat().st_size)
    assert written.num_bytes % 10240 == 0
    with tarfile.open(tmp_path / "a.tar", "r:") as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:4]] == ["s1.jpg", "s1.png", "s1.conf.png", "s1.json"]
        assert all((m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) == (0, 0, 0, "", "", 0o644) for m in members)
        assert all(m.isreg() for m in members)
        for key, data in payloads.items():
            extracted = tar.extractfile(f"{key}.jpg")
            assert extracted is not None and extracted.read() == data


@given(name=st.from_regex(r"[a-z0-9_]{1,80}\.(jpg|conf\.png)", fullmatch=True), size=st.integers(0, 8**11 - 1))
def test_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    parsed = tarfile.TarInfo.frombuf(member_header(name, size), "ascii", "strict")
    assert (parsed.name, parsed.size, parsed.mode, parsed.mtime) == (name, size, 0o644, 0)
    theirs, ours = info.tobuf(tarfile.USTAR_FORMAT), member_header(name, size)
    ignored = slice(329, 345)  # device numbers: python versions differ, ours are zeros as in GNU tar
    assert theirs[:148] == ours[:148] and theirs[156:329] == ours[156:329] and theirs[345:] == ours[345:]
    assert ours[ignored] == b"0000000\0" * 2


def test_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_shard(tmp_path / "a.tar", [_sample("s1"), _sample("s2")])
    second = write_shard(tmp_path / "b.tar", [_sample("s1"), _sample("s2")])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert first == second


def test_no_samples_give_an_empty_tar(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [])
    with tarfile.open(tmp_path / "a.tar", "r:") as tar:
        assert tar.getnames() == []
    with (tmp_path / "a.tar").open("rb") as file:
        assert list(read_members(file, "a.tar")) == []


def test_one_sample_at_a_time(tmp_path: Path) -> None:
    """Each sample is on its way to disk before the next one is asked for."""

    def samples() -> Iterator[PackedSample]:
        for number in range(1, 5):
            partial = next(tmp_path.glob(".a.tar.*.tmp"))
            sizes.append(partial.stat().st_size)
            yield _sample(f"s{number}", bytes(2**21))

    sizes: list[int] = []
    write_shard(tmp_path / "a.tar", samples())
    assert sizes[0] == 0 and all(after - before >= 2**20 for before, after in itertools.pairwise(sizes))


@pytest.mark.parametrize("key", ["s0.95_1", "000000001", "", "a/b", "..", "a b", "\u0661", "-x", "x" * 81, "s\n"])
def test_keys_that_loaders_split_or_renumber_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=r"key .* must be"):
        write_shard(tmp_path / "a.tar", [_sample(key)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", [["s2", "s1"], ["s1", "s1"]])
def test_keys_must_ascend(tmp_path: Path, keys: list[str]) -> None:
    with pytest.raises(InputError, match="ascend"):
        write_shard(tmp_path / "a.tar", [_sample(key) for key in keys])
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_middle_leaves_the_old_shard_and_nothing_else(tmp_path: Path) -> None:
    def broken() -> Iterator[PackedSample]:
        yield _sample("s1")
        raise InputError("gone")

    write_shard(tmp_path / "a.tar", [_sample("s9")])
    before = (tmp_path / "a.tar").read_bytes()
    with pytest.raises(InputError, match="gone"):
        write_shard(tmp_path / "a.tar", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    assert (tmp_path / "a.tar").read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone/a\.tar: not written"):
        write_shard(tmp_path / "gone" / "a.tar", [_sample()])


@settings(max_examples=200)
@given(values=METADATA)
def test_json_reads_back_equal_and_floats_stay_floats(values: dict[str, Any]) -> None:
    text = metadata_bytes(values).decode()
    loaded = json.loads(text)
    assert list(loaded) == sorted(loaded) == list(FIELDS)
    for name, kind in FIELDS.items():
        assert type(loaded[name]) is (list if kind == tuple[str, ...] else kind), name
    assert read_metadata(text.encode(), "x") == values


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1.0"), (1.0, "1.0"), (-0.0, "-0.0"), (1e-07, "1.0e-07"), (1.5e300, "1.5e+300"), (1e22, "1.0e+22")],
)
def test_every_float_has_a_fraction(value: float, text: str) -> None:
    assert f'"guidance": {text},' in metadata_bytes(_metadata(guidance=value)).decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("guidance", True),
        ("guidance", "1.0"),
        ("guidance", 10**400),
        ("steps", 3.0),
        ("steps", None),
        ("prompt", None),
        ("prompt", "\ud800"),
        ("attributes", "a=b"),
        ("attributes", (1,)),
        ("attributes", ("",)),
        ("attributes", None),
    ],
)
def test_values_that_json_or_a_loader_would_bend_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"sample 's1': field '{field}'"):
        metadata_bytes(_metadata(**{field: value}))


def test_fields_are_the_same_in_every_sample() -> None:
    short = _metadata()
    del short["prompt"]
    with pytest.raises(InputError, match=r"missing: \['prompt'\]"):
        metadata_bytes(short)


def test_a_field_that_no_version_names_is_written_and_read_and_refused_in_version_1() -> None:
    more = _metadata(extra=1, ratio=2.0, words=("a", "b"), none=(), name="x")
    data = metadata_bytes(more)
    assert b'"extra": 1, ' in data and b'"ratio": 2.0' in data and b'"words": ["a", "b"]' in data
    assert read_metadata(data, "t.tar: s1.json") == more
    assert list(kinds_of(more)) == sorted(more) and kinds_of(more)["words"] == tuple[str, ...]
    with pytest.raises(DatasetError, match=r"unknown: \['extra', 'name', 'none', 'ratio', 'words'\]"):
        read_metadata(data, "t.tar: s1.json", more=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("extra", None), ("extra", True), ("extra", {"a": 1}), ("extra", (1,)), ("Extra", 1), ("a.b", 1), ("shard", 1)],
)
def test_a_field_that_no_loader_could_take_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"sample 's1': field '{name}' cannot be written"):
        metadata_bytes(_metadata(**{name: value}))
    text = metadata_bytes(_metadata()).decode().replace('"split"', f'"{name}": {json.dumps(value)}, "split"')
    with pytest.raises(DatasetError, match="must be a"):
        read_metadata(text.encode(), "t.tar: s1.json")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"steps": 3', '"steps": 3.0', "'steps' must be a whole number"),
        ('"guidance": 0.5', '"guidance": 1', "'guidance' must be a finite number with a fraction"),
        ('"guidance": 0.5', '"guidance": 1e999', "not a finite number"),
        ('"guidance": 0.5', '"guidance": NaN', "NaN is not JSON"),
        ('"prompt": "x"', '"prompt": null', "'prompt' must be a text"),
        ('"prompt": "x"', '"prompt": "\\ud800"', "'prompt' must be a text"),
        ('"prompt": "x"', '"prompt": "x", "prompt": "y"', "key 'prompt' occurs twice"),
        ('"prompt": "x"', '"prompt": {"a": 1}', "'prompt' must be a text, not dict"),
        ('"attributes": ["a=b"]', '"attributes": {}', "'attributes' must be a list of texts"),
        ('"prompt": "x", ', "", r"missing: \['prompt'\]"),
        ('"prompt": "x"', '"prompt": ' + "[" * 100_000, "nested more than 64 levels"),
        ('"prompt": "x"', f'"prompt": "{"x" * 2**20}"', "bytes of JSON"),
    ],
)
def test_reading_refuses_json_that_breaks_a_rule(old: str, new: str, message: str) -> None:
    text = metadata_bytes(_metadata()).decode()
    assert old in text
    with pytest.raises(DatasetError, match=message):
        read_metadata(text.replace(old, new).encode(), "t.tar: s1.json")


def test_the_format_page_lists_the_fields() -> None:
    page = (Path(__file__).parents[2] / "docs" / "SHARD_FORMAT.md").read_text()
    listed = page.split("JSON keys: ")[1].split("\n\n")[0]
    assert sorted(set(re.findall(r"`(\w+)`", listed))) == list(SAMPLE_FIELDS)


def test_every_sample_has_the_fields_of_every_version() -> None:
    assert {name: SAMPLE_FIELDS[name] for name in FIELDS} == FIELDS


def test_reading_a_tar_of_another_maker() -> None:
    """GNU headers are read; that they are not canonical is for `verify` to say."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("s1.jpg")
        info.size, info.mtime = 3, 1_700_000_000
        tar.addfile(info, io.BytesIO(b"abc"))
    buffer.seek(0)
    (member,) = read_members(buffer, "x.tar")
    assert (member.name, member.data, member.canonical) == ("s1.jpg", b"abc", False)
