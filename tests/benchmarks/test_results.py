from __future__ import annotations

import csv
import importlib

from benchmarks.run import BENCHMARKS, COLUMNS, RESULTS
from benchmarks.table import README, with_table


def test_the_readme_says_what_was_measured() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, "run `python -m benchmarks.table`"


def test_every_row_has_a_benchmark_that_measures_it_again() -> None:
    with RESULTS.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        assert tuple(reader.fieldnames or ()) == COLUMNS
    known = {name for names in BENCHMARKS.values() for name in names}
    assert {row["name"] for row in rows} <= known
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    for path in BENCHMARKS:
        module, _, function = path.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
