"""Replies are data: what is read out of them, and how they are kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.errors import InputError
from synthgen.prompts.replies import MAX_CHARS, Replies, captions_of, clean, schema


@pytest.mark.parametrize(
    "reply",
    [
        '{"captions": ["a cat", "a dog"]}',
        '["a cat", "a dog"]',
        '[{"prompt": "a cat", "photograph": "/etc/passwd", "class_name": "bus"}, {"prompt": "a dog"}]',
        'Of course [as you asked]!\n```json\n{"captions": ["a cat", "a dog"]}\n```\nAnything else?',
        '<think>{"plan": 1}</think> {"captions": ["  a\\n cat ", "a dog", "a cat"]}',
        '{"captions": ["a cat", 7, null, ["nested"], {"prompt": 3}, "a dog"]}',
    ],
)
def test_forms_that_are_understood(reply: str) -> None:
    assert captions_of(reply, 10) == ["a cat", "a dog"]


@pytest.mark.parametrize(
    "reply", ["", "no", "{}", "[]", '{"captions": "a cat"}', "[1, 2]", '{"captions": ["a cat"', "null", "[" * 90_000]
)
def test_anything_else_holds_no_caption(reply: str) -> None:
    began = time.monotonic()
    assert captions_of(reply, 10) == []
    assert time.monotonic() - began < 5


def test_a_reply_of_many_captions_takes_no_longer_than_those_that_are_wanted() -> None:
    reply = "\n".join(f"a cat of number {number}" for number in range(150_000))
    began = time.monotonic()
    assert captions_of(reply, 3, as_lines=True) == ["a cat of number 0", "a cat of number 1", "a cat of number 2"]
    assert len(captions_of(reply, 20_000, as_lines=True)) == 20_000
    assert time.monotonic() - began < 10


def test_lines_with_and_without_bullets() -> None:
    assert captions_of('1. a cat\n2) "a dog"\n- a bus\n\n* a car\n4x4 on sand', 9, as_lines=True) == [
        "a cat",
        "a dog",
        "a bus",
        "a car",
        "4x4 on sand",
    ]


def test_only_so_many_and_only_so_long() -> None:
    assert captions_of(json.dumps(["a cat", "b" * (MAX_CHARS + 1), "c" * MAX_CHARS, "d"]), 2) == [
        "a cat",
        "c" * MAX_CHARS,
    ]


def test_invisible_and_control_characters_are_dropped() -> None:
    assert clean("a\x1b[31m cat\x00 \u202eon\u200b sand\ufeff\r\nby\u2028night\ue000") == "a[31m cat on sand by night"


@given(st.text(max_size=400), st.integers(0, 5), st.booleans())
def test_whatever_comes_captions_are_short_printable_lines(reply: str, limit: int, as_lines: bool) -> None:
    found = captions_of(reply, limit, as_lines) + captions_of(json.dumps([reply, reply]), limit)
    assert len(found) <= 2 * limit
    assert all(
        caption and caption.isprintable() and caption == caption.strip() and len(caption) <= MAX_CHARS
        for caption in found
    )


def test_the_schema_says_what_is_understood() -> None:
    assert schema(3)["properties"]["captions"]["maxItems"] == 3
    assert captions_of(json.dumps({key: ["a cat"] for key in schema(3)["required"]}), 3) == ["a cat"]


def test_a_reply_is_found_again_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / ".replies.jsonl"
    first = Replies()
    first.keep_in(path)
    first.add({"seed": 1}, "one\n\u2028two é")
    first.add({"seed": 2}, "three")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"asked": "12')
    again = Replies()
    again.keep_in(path)
    assert (again.get({"seed": 1}), again.get({"seed": 2}), again.get({"seed": 3})) == (
        "one\n\u2028two é",
        "three",
        None,
    )
    again.add({"seed": 3}, "four")
    third = Replies()
    third.read(path)
    assert third.get({"seed": 3}) == "four"


def test_what_is_stored_is_what_was_used_in_the_order_of_asking(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    old = Replies()
    for seed in range(3):
        old.add({"seed": seed}, f"reply {seed}")
    path.write_text(old.used_text())
    new = Replies()
    new.read(path)
    new.add({"seed": 9}, "nine")
    new.get({"seed": 1})
    assert [json.loads(line)["reply"] for line in new.used_text().splitlines()] == ["nine", "reply 1"]


@pytest.mark.parametrize("line", ["{", "[]", '{"asked": 1, "reply": "x"}', '{"reply": "x"}'])
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text('{"asked": "a", "reply": "b"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"replies\.jsonl:2: is no stored reply"):
        Replies().read(path)


def test_a_number_of_thousands_of_digits_is_no_end_of_a_run() -> None:
    digits = "9" * 5000
    assert captions_of(f'[{digits}] then {{"captions": ["a cat"]}}', 5) == ["a cat"]
    assert captions_of(f"[{digits}]", 5) == []
