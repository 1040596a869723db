"""labelmap.txt, strictly and not."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.errors import InputError
from segkit.label_map import read_label_map


def written(folder: Path, data: bytes) -> Path:
    (folder / "labelmap.txt").write_bytes(data)
    return folder / "labelmap.txt"


@pytest.mark.parametrize("strict", [True, False])
def test_a_name_may_hold_colons_and_a_colour_blanks(tmp_path: Path, strict: bool) -> None:
    lines = "\ufeff# label:color_rgb:parts:actions\n\nrail: left:1, 2 ,3:a,b:c\r\n v\u00e9lo:255,0,0::\n"
    assert list(read_label_map(written(tmp_path, lines.encode()), strict)) == [
        (3, "rail: left", (1, 2, 3)),
        (4, "v\u00e9lo", (255, 0, 0)),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"tank;1,2,3", r":1: 'tank;1,2,3' must be name:r,g,b:parts:actions"),
        (b"tank:1,2,3:", r":1: .* must be name"),
        (b"tank:1,2,256::", r":1: .* must be name"),
        (b"tank:" + b"1" * 5000 + b",2,3::", r":1: .* must be name"),
        (b"t\xe4nk:1,2,3::", r": cannot be read"),
        (b"#" * 2**21, "bytes; at most"),
    ],
)
def test_what_is_no_class_is_refused_where_every_line_counts(tmp_path: Path, line: bytes, told: str) -> None:
    path = written(tmp_path, line + b"\n")
    with pytest.raises(InputError, match=r"labelmap\.txt" + f".*{told}"):
        list(read_label_map(path, strict=True))
    if len(line) < 2**20:
        assert all(name != "tank" or max(colour) > 255 for _, name, colour in read_label_map(path, strict=False))
