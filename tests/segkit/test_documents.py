"""The one reader of JSON and YAML: what it reads, and that all else is one line and never a hang."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.documents import MAX_BYTES, MAX_DEPTH, MAX_YAML_BYTES, parse_json, parse_yaml, read_json, read_yaml
from segkit.errors import DatasetError, InputError, ModelError

ALIAS_BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_every_plain_value_comes_back_from_json(value: Any) -> None:
    assert parse_json(json.dumps(value), "here") == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "here") == value


@settings(deadline=None)
@given(values)
def test_every_plain_value_comes_back_from_yaml_as_the_library_writes_it(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value), "here") == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' occurs twice"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e400]", "'1e400' is not a finite number"),
        ("9" * 5000, "whole number of more than 64 bits"),
        (str(2**64), "more than 64 bits"),
        ("[" * 100_000, "nested more than 64 levels"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested more than 64 levels"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than 64 levels"),
        ("", "cannot be read as JSON"),
        ("{} {}", "cannot be read as JSON"),
        ('{"a": 1,}', "cannot be read as JSON"),
    ],
)
def test_json_that_is_no_plain_document_is_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_json(text, "x.json")
    assert str(caught.value).startswith("x.json: ") and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_json_of_the_greatest_depth_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ALIAS_BOMB, r"alias \*a in line 2: write the value out"),
        ("a: &x {b: 1}\nc: {<<: *x}", "alias"),
        ("seed: 1\nseed: 2", "key 'seed' occurs twice, again in line 2"),
        ("{1: a, 1: b}", "key 1 occurs twice"),
        ("no: 1", "key False in line 1 is no text: write it in quotes"),
        ("? [a]\n: b", "is no text"),
        ("? {a: 1}\n: b", "is no text"),
        ("a: 010", "'010' in line 1 is another number in YAML"),
        ("a: 1:30", "base 8 or 60"),
        ("a: 1:30.5", "base 60"),
        ("a: .inf", "not a finite number"),
        ("a: .NaN", "not a finite number"),
        ("a: 1.0e+999", "not a finite number"),
        (f"a: {'9' * 5000}", "more than 64 bits"),
        (f"a: 0x{'f' * 5000}", "more than 64 bits"),
        ("a: !!python/object/apply:os.system [id]", "without a tag"),
        ("a: !!bool maybe", "without a tag"),
        ("a: !!timestamp 2026-02-30", "without a tag"),
        ("[" * 3000, "nested more than 64 levels"),
        ("{a: " * 3000, "nested more than 64 levels"),
        ("- " * 3000 + "a", "nested more than 64 levels"),
        ("a: [", "cannot be read as YAML"),
        ("a: 1\n---\nb: 2", "cannot be read as YAML"),
        ("a: \x1b[31m", "cannot be read as YAML"),
        ("a\tb: [\x00]", "cannot be read as YAML"),
    ],
)
def test_yaml_that_is_no_plain_document_is_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_yaml(text, "x.yaml")
    assert str(caught.value).startswith("x.yaml: ") and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_yaml_dates_are_the_texts_that_they_are_written_as() -> None:
    raw = parse_yaml("a: 2026-11-21\nb: 2026-02-30\nc: 2026-11-21 10:00:00", "x.yaml")
    assert raw == {"a": "2026-11-21", "b": "2026-02-30", "c": "2026-11-21 10:00:00"}


def test_yaml_words_stay_the_callers_business() -> None:
    assert parse_yaml("[no, ~, on, 'no', 1.5, -3, 0, 1_000]", "x") == [False, None, True, "no", 1.5, -3, 0, 1000]
    assert parse_yaml("", "x") is None


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ab01:-[]{}&*!|>'\"#%@~?<=,.\n\t \\e", max_size=30))
def test_no_text_makes_more_than_one_line_of_yaml_or_json(text: str) -> None:
    for parse in (parse_yaml, parse_json):
        try:
            parse(text, "x")
        except InputError as error:
            assert "\n" not in str(error)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_make_a_traceback(data: bytes) -> None:
    for parse in (parse_yaml, parse_json):
        try:
            parse(data, "x")
        except InputError as error:
            assert "\n" not in str(error)


def test_only_regular_files_are_opened_and_none_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    said = {
        "pipe": "is a named pipe, must be a regular file",
        "endless": "is a device",
        "folder": "is a folder",
        "dangling": "no such file",
        "missing": "no such file",
    }
    for name, what in said.items():
        for read in (read_json, read_yaml):
            with pytest.raises(ModelError, match=what) as caught:
                read(tmp_path / name, ModelError)
            assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / "a\0b")


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for read, most in ((read_json, MAX_BYTES), (read_yaml, MAX_YAML_BYTES)):
        with (tmp_path / "large").open("wb") as file:
            file.truncate(most + 1)
        with pytest.raises(DatasetError, match=f"has {most + 1} bytes; at most {most} are read"):
            read(tmp_path / "large", DatasetError)
    (tmp_path / "ok").write_text("[1]")
    assert read_json(tmp_path / "ok", max_bytes=3) == [1]
    with pytest.raises(InputError, match="has 3 bytes; at most 2 are read"):
        read_json(tmp_path / "ok", max_bytes=2)


def test_a_file_that_does_not_tell_its_size_is_still_bounded() -> None:
    with pytest.raises(InputError, match="has more than 4 bytes"):
        read_json(Path("/proc/self/status"), max_bytes=4)


def test_utf_8_with_and_without_its_mark_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text('["ü"]', encoding=encoding)
        assert read_json(path) == read_yaml(path) == ["ü"]
    for encoding in ("latin-1", "utf-16"):
        path.write_text('["ü"]', encoding=encoding)
        for read in (read_json, read_yaml):
            with pytest.raises(InputError, match=r"byte \d is not UTF-8"):
                read(path)
