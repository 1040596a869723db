from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthgen.errors import InputError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.prompts.bank import Candidate
from synthgen.prompts.sources import file
from synthgen.records import digest_of, ids_digest
from synthgen.sources.label_maps import LabelMap

SPACE = read_label_space("objects")


def candidates(path: Path, *classes: str) -> list[Candidate]:
    source = file.build(file.Options(path=str(path)), None)
    return list(source.candidates(SPACE, [SPACE.by_name(name) for name in classes], 0))


def test_plain_lines_find_their_class(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(
        "\ufeff# a comment\na  red\tcar\r\n\ntwo dogs on grass\nan empty street\na motorcycle beside a car\n".encode()
    )
    assert [c.prompt for c in candidates(path, "car")] == ["a red car"]
    assert [(c.prompt, c.class_name, c.class_id) for c in candidates(path, "motorbike", "dog")] == [
        ("a motorcycle beside a car", "motorbike", 14),
        ("two dogs on grass", "dog", 12),
    ]
    assert candidates(path) == [Candidate("an empty street", "", 255, ())]


def test_json_lines_say_class_attributes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "prompts.JSONL"
    (tmp_path / "photo.png").write_bytes(b"not looked at here")
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_image(ids, tmp_path / "layout.png")
    lines = [
        {"prompt": "a pet by night", "class_name": "cat", "attributes": {"time": "night", "place": "room"}},
        {"prompt": "a kitten", "layout": "layout.png"},
        {"photograph": "photo.png"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert candidates(path, "cat") == [
        Candidate(
            "a kitten",
            "cat",
            8,
            (),
            layout=LabelMap(tmp_path / "layout.png"),
            content=ids_digest(ids),
            origin="layout.png",
        ),
        Candidate("a pet by night", "cat", 8, ("place=room", "time=night")),
    ]
    photograph, content = tmp_path / "photo.png", digest_of(b"not looked at here")
    assert candidates(path) == [Candidate("", "", 255, (), photograph, content=content, origin="photo.png")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "a car"', "cannot be read as JSON"),
        (b'["a car"]', "must be an object"),
        (b'{"prompt": "  "}', "has no prompt"),
        (b'{"class_name": "car"}', "has no prompt"),
        (b'{"prompt": "a car", "colour": "red"}', "key 'colour' is not known"),
        (b'{"prompt": 3}', "'prompt' must be a text"),
        (b'{"prompt": "a car", "attributes": ["time"]}', "'attributes' must be an object"),
        (b'{"prompt": "a car", "attributes": {"time": 3}}', "'attributes' must be an object"),
        (b'{"prompt": "a car", "layout": "none.png"}', "no file"),
        (b'{"prompt": "a car", "layout": "/etc/none.png"}', "is an absolute path; write it relative to"),
        (b'{"prompt": "a carpet", "class_name": "carpet"}', "class 'carpet' is not in label space"),
        (b'{"prompt": "a \\u0007 car"}', "control character"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8"),
        (b'{"prompt": "' + b"a car " * 700 + b'"}', "a line of 4200 characters; a prompt has at most 4000"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"prompt": "a car"}\n\n' + line + b"\n")
    with pytest.raises(InputError) as caught:
        candidates(path, "car")
    assert str(caught.value).startswith(f"{path}:3: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(InputError, match=r"empty\.txt: holds no prompt"):
        candidates(tmp_path / "empty.txt", "car")
    with pytest.raises(InputError, match=r"absent\.txt: cannot be read"):
        candidates(tmp_path / "absent.txt", "car")
