"""The damages of benchmarks/fuzz.py, a few of each: everything broken is found."""

from __future__ import annotations

from benchmarks.fuzz import DAMAGES, count


def test_every_damage_is_found() -> None:
    found, missed = count(3, seed=7)
    assert missed == {}
    assert set(DAMAGES) <= set(found) and min(found.values()) >= 3
