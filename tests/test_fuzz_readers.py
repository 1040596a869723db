"""A small part of `python -m benchmarks.run fuzz/`: no damage is a traceback, a hang, or read without a word."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import fuzz_documents, fuzz_files, fuzz_readers
from benchmarks.fuzz_readers import COUNTS, count

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "model_folder"])
def test_damage_is_refused_in_a_line_or_read_as_what_it_is(name: str) -> None:
    found = count(name, 90, seed=1)
    assert not {what: found[what] for what in ("tracebacks", "hangs", "silent") if found[what]}
    assert found["refused"] >= (0 if name == "event_log" else 20), "most of it is damage that must be seen"


def test_what_goes_wrong_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter itself: a reader that raises, one that never ends, one that takes everything."""

    def reader(read):
        return {"png": lambda scratch: (lambda rng: iter([1, 2, 3]), read, lambda case, value: True)}

    def never_ends(case: int) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzz_readers, "CPU_S", 0.2)
    for what, read in (("tracebacks", lambda case: 1 / 0), ("hangs", never_ends), ("silent", lambda case: case)):
        monkeypatch.setattr(fuzz_files, "READERS", reader(read))
        assert count("png", 3) == {what: 3}


def test_every_reader_has_rows_and_they_hold_no_fault() -> None:
    assert set(COUNTS) == set(fuzz_documents.READERS | fuzz_files.READERS) and sum(COUNTS.values()) >= 10_000
    with (ROOT / "benchmarks" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row["value"] for row in csv.DictReader(file) if row["name"].startswith("fuzz/")}
    for name, number in COUNTS.items():
        wanted = {"cases": str(number), "tracebacks": "0", "hangs": "0", "silent": "0"}
        assert {what: rows[f"fuzz/{name}_{what}"] for what in wanted} == wanted
