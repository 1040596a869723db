from __future__ import annotations

import csv
import importlib

from benchmarks.run import BENCHMARKS, COLUMNS, RESULTS
from benchmarks.table import PAGE, README, Line, page, results, sections, table, with_table
from benchmarks.words import HEADLINES, MEANING, SECTIONS


def test_the_readme_says_what_was_measured() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, "run `python -m benchmarks.table`"
    assert PAGE.read_text(encoding="utf-8") == page(results()), "run `python -m benchmarks.table`"


def test_every_row_that_has_words_is_on_the_page_and_every_headline_has_words() -> None:
    text, rows = PAGE.read_text(encoding="utf-8"), results()
    assert all(f"| `{name}` | {words} |" in text for name, words in MEANING.items() if name in rows)
    assert set(MEANING) >= HEADLINES and {name.partition("/")[0] for name in MEANING} == set(SECTIONS)


def test_a_row_that_continues_another_stands_under_it() -> None:
    """`... words` go on with what the row above begins: the README must not tear them apart."""
    for shown in (list(MEANING), [name for name in MEANING if name in HEADLINES]):
        for number, name in enumerate(shown):
            if MEANING[name].startswith("..."):
                begun = max(n for n in range(number) if not MEANING[shown[n]].startswith("..."))
                whole = list(MEANING)
                beginning = whole[: whole.index(name)]
                assert shown[begun] == [n for n in beginning if not MEANING[n].startswith("...")][-1], name


def test_rows_come_in_the_order_of_their_words_and_what_is_not_measured_is_left_out() -> None:
    rows = {name: Line("1", "s", "", "1", "", "") for name in ("main/peak_rss_gb", "main/kept_samples")}
    lines = table(["main/peak_rss_gb", "main/dataset_minutes", "main/kept_samples"], rows).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == ["main/kept_samples", "main/peak_rss_gb"]


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


def test_each_section_has_its_title_and_its_rows_alone() -> None:
    rows = {name: Line("1", "s", "", "1", "", "") for name in ("verify/fuzz_found", "main/kept_samples")}
    parts = sections(rows, rows, "###").split("### ")
    assert [part.partition("\n")[0] for part in parts[1:]] == [SECTIONS["main"], SECTIONS["verify"]]
    assert [("main/" in part, "verify/" in part) for part in parts[1:]] == [(True, False), (False, True)]
