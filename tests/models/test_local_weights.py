"""Local weights are told apart by what they hold, whatever their size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synthgen.models import provenance


@pytest.mark.parametrize("most", [provenance._WHOLE_BYTES, 0])
@pytest.mark.parametrize("size", [10, 5 * 2**20])
def test_weights_that_were_trained_again_in_their_place_are_others(
    size: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_WHOLE_BYTES", most)
    file = tmp_path / "model" / "weights.safetensors"
    file.parent.mkdir()
    header, found = b"{}", set()
    for number in range(2):
        file.write_bytes(header + bytes([number]) * size)
        os.utime(file, (number, number))
        found.add(provenance.revision_of(str(file.parent)))
    moved = tmp_path / "elsewhere"
    file.parent.rename(moved)
    assert len(found) == 2
    assert provenance.revision_of(str(moved)) in found, "where they lie does not matter"
