"""`python -m benchmarks.table`: writes rows of results.csv in words into docs/RESULTS.md, those that say most into the
README between its two markers, and every method's into its page of docs/results/.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.run import RESULTS, TIMES
from benchmarks.words import HEADLINES, MEANING, SECTIONS

README = Path(__file__).parents[1] / "README.md"
PAGE = Path(__file__).parents[1] / "docs" / "RESULTS.md"
BEGIN = "<!-- results: written by `python -m benchmarks.table` -->\n"
END = "<!-- end of results -->"
PREAMBLE = """# Every measured figure in words

Written by `python -m benchmarks.table` from `benchmarks/results.csv`, which has machine, command and date of each, and
rows that no table needs. A spread is the sample standard deviation (ddof 1) over the n things in brackets. What the
measures are stands in the README; the tables of the methods, with all of their rows, in `docs/results/`.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line of results.csv, as it stands there."""

    value: str
    unit: str
    spread: str
    n: str
    device: str
    date: str

    @property
    def number(self) -> float | None:
        """None where the value says why nothing was measured."""
        try:
            return float(self.value)
        except ValueError:
            return None

    @property
    def shown(self) -> str:
        """Value ± spread; a spread of less than a ten thousandth of the value is none."""
        number = self.number
        if number is None or not self.spread or float(self.spread) <= 1e-4 * abs(number):
            return self.value
        return f"{self.value} ± {float(self.spread):.2g}"


def results() -> dict[str, Line]:
    """Every row of results.csv by its name."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return {
            row["name"]: Line(*(row[field.name] for field in dataclasses.fields(Line))) for row in csv.DictReader(file)
        }


def times() -> dict[str, str]:
    """benchmark -> how long its last run took, in words."""
    if not TIMES.is_file():
        return {}
    with TIMES.open(encoding="utf-8", newline="") as file:
        return {row["benchmark"]: f"{float(row['minutes']):.3g} min" for row in csv.DictReader(file)}


def table(names: Iterable[str], rows: Mapping[str, Line]) -> str:
    """Those of the rows that were measured, as Markdown in the order of MEANING."""
    wanted = set(names)
    lines = ["| row | what | value | spread (n) |", "|---|---|---|---|"]
    for name in (name for name in MEANING if name in wanted and name in rows):
        row = rows[name]
        spread = f"{row.spread} ({row.n})" if row.spread else f"({row.n})"
        lines.append(f"| `{name}` | {MEANING[name]} | {row.value} {row.unit} | {spread} |")
    return "\n".join(lines) + "\n"


def sections(names: Iterable[str], rows: Mapping[str, Line], heading: str) -> str:
    """A table for each of SECTIONS that has one of those rows, under its title."""
    wanted, parts = set(names) & rows.keys(), []
    for prefix, title in SECTIONS.items():
        mine = {name for name in wanted if name.partition("/")[0] == prefix}
        if mine:
            parts.append(f"\n{heading} {title}\n\n{table(mine, rows)}")
    return "".join(parts)


def with_table(text: str) -> str:
    """The README's text with fresh tables."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + sections(HEADLINES, results(), "###") + "\n" + END + rest.partition(END)[2]


def page(rows: Mapping[str, Line]) -> str:
    """Every row that MEANING explains, in sections."""
    return PREAMBLE + sections(MEANING, rows, "##")


if __name__ == "__main__":
    from benchmarks import claims_cgaug, claims_clouds, claims_flexseg, claims_iccld, claims_syn4seg

    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(results()), encoding="utf-8")
    for claims in (claims_syn4seg, claims_flexseg, claims_cgaug, claims_clouds, claims_iccld):
        claims.main(["--tables-only"])
