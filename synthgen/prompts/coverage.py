"""What a prompt bank covers, and how many candidates would pass at another lambda_div."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segkit.documents import parse_json
from synthgen.prompts.bank import Entry
from synthgen.prompts.compared import Compared
from synthgen.prompts.dedup import greedy_dedup
from synthgen.prompts.paraphrases import Choice

COVERAGE = "coverage.json"  # of a unit
GRID = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0)
TARGET = (0.5, 0.7)  # share of candidates that should pass


@dataclasses.dataclass(frozen=True, slots=True)
class ClassCoverage:
    """One bank. Plain JSON values only."""

    class_name: str  # "" for what is about no single class
    class_id: int
    accepted: int
    tried: int
    pass_rate: float  # accepted / tried; 0 if none was tried
    stopped: str  # why no more were tried: quota, budget, exhausted
    mean_similarity: float  # of the accepted prompts to the nearest one before them; -1 if there are fewer than two
    refused: dict[str, int]  # reason -> number
    used: dict[str, dict[str, int]]  # attribute -> value -> number of accepted prompts
    missing: dict[str, list[str]]  # attribute -> values that no accepted prompt has
    replies: int = 0  # of a language model, bad ones included
    bad_replies: int = 0  # of them, those without a caption
    # way to spend as many prompts -> bank.Compared; {} without texts
    compared: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """All banks of a run."""

    source: str
    embedder: str  # "" if nothing was embedded
    lambda_div: float
    classes: tuple[ClassCoverage, ...]
    chosen: Choice | None = None  # how lambda_div was chosen; None = the recipe says it


@dataclasses.dataclass(frozen=True, slots=True)
class PassRate:
    """How many candidates would pass at one lambda_div."""

    lambda_div: float
    accepted: int
    rate: float  # over all classes together
    by_class: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """Pass rates over a grid of lambda_div, for one embedder and one number of candidates a class:

    the rate falls as more are tried.
    """

    embedder: str
    num_candidates: dict[str, int]
    rates: tuple[PassRate, ...]

    @property
    def suggested(self) -> float:
        """The lambda_div of the grid whose pass rate is nearest to the middle of TARGET; of equals the smaller."""
        middle = sum(TARGET) / 2
        return min(self.rates, key=lambda rate: (round(abs(rate.rate - middle), 9), rate.lambda_div)).lambda_div


class Tally:
    """Counts the entries of one bank as they come."""

    def __init__(self) -> None:
        self._tried = 0
        self._accepted = 0
        self._similarities: list[float] = []
        self._refused: Counter[str] = Counter()
        self._used: dict[str, Counter[str]] = {}
        self._known: dict[str, set[str]] = {}

    def add(self, entry: Entry) -> None:
        self._tried += 1
        if entry.refusal:
            self._refused[entry.refusal] += 1
        else:
            self._accepted += 1
            if entry.nearest is not None:
                self._similarities.append(entry.similarity)
        for attribute in entry.candidate.attributes:
            name, _, value = attribute.partition("=")
            self._known.setdefault(name, set()).add(value)
            if not entry.refusal:
                self._used.setdefault(name, Counter())[value] += 1

    def coverage(
        self,
        class_name: str,
        class_id: int,
        stopped: str,
        possible: Mapping[str, Iterable[str]],
        replies: int = 0,
        bad_replies: int = 0,
        compared: Mapping[str, Compared] | None = None,
    ) -> ClassCoverage:
        """`possible` are the values that the source could give; those of refused candidates count as possible too."""
        names = sorted({*self._known, *possible})
        used = {name: dict(sorted(self._used.get(name, Counter()).items())) for name in names}
        missing = {
            name: sorted({*self._known.get(name, ()), *possible.get(name, ())} - set(used[name])) for name in names
        }
        return ClassCoverage(
            class_name=class_name,
            class_id=class_id,
            accepted=self._accepted,
            tried=self._tried,
            pass_rate=round(self._accepted / self._tried, 6) if self._tried else 0.0,
            stopped=stopped,
            mean_similarity=round(float(np.mean(self._similarities)), 6) if self._similarities else -1.0,
            refused=dict(sorted(self._refused.items())),
            used=used,
            missing={name: values for name, values in missing.items() if values},
            replies=replies,
            bad_replies=bad_replies,
            compared={name: dataclasses.asdict(way) for name, way in (compared or {}).items()},
        )


def coverage_json(coverage: Coverage) -> str:
    """The text of coverage.json; the same coverage gives the same text."""
    body = dataclasses.asdict(coverage)
    if coverage.chosen is None:
        del body["chosen"]
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def coverage_of(text: str) -> Coverage:
    """Read back what `coverage_json` gave."""
    raw = parse_json(text, "coverage.json")
    classes = tuple(ClassCoverage(**item) for item in raw["classes"])
    chosen = Choice(**raw["chosen"]) if "chosen" in raw else None
    return Coverage(raw["source"], raw["embedder"], raw["lambda_div"], classes, chosen)


def chosen_lambda_div(stage: Path) -> Choice | None:
    """What the stage in a folder has chosen; None if the recipe gives a number, or no unit is made yet."""
    for path in sorted(stage.glob(f"[0-9]*/{COVERAGE}")):
        return coverage_of(path.read_text(encoding="utf-8")).chosen
    return None


def coverage_text(coverage: Coverage) -> str:
    """Plain text:

    one row a class, then for each attribute one row a class with the number of accepted prompts per value.

    A dot is a value that the class cannot have.
    """
    heads = ["class", "accepted", "tried", "pass", "stopped", "similarity", "missing"]
    rows = [
        [
            _name(item),
            str(item.accepted),
            str(item.tried),
            f"{item.pass_rate:.0%}" if item.tried else "-",
            item.stopped + (f" ({item.bad_replies} of {item.replies} replies bad)" if item.bad_replies else ""),
            f"{item.mean_similarity:.3f}" if item.mean_similarity > -1 else "-",
            ", ".join(f"{name}={value}" for name, values in item.missing.items() for value in values) or "-",
        ]
        for item in coverage.classes
    ]
    head = f"source {coverage.source}, embedder {coverage.embedder or 'none'}, lambda_div {coverage.lambda_div:g}"
    parts = [head, *([coverage.chosen.text] if coverage.chosen else []), "", *_table(heads, rows)]
    if any(item.compared for item in coverage.classes):
        parts += ["", *_compared_table(coverage.classes)]
    for attribute in sorted({name for item in coverage.classes for name in item.used}):
        parts += ["", *_attribute_table(attribute, coverage.classes)]
    return "\n".join(parts) + "\n"


def calibrate(vectors: Mapping[str, np.ndarray], embedder: str, grid: Sequence[float] = GRID) -> Calibration:
    """Judge each class's candidates (N, P), in order, at each lambda_div of the grid. Quotas play no part."""
    total = sum(map(len, vectors.values()))
    rates = []
    for lambda_div in sorted(grid):
        accepted = {name: int(greedy_dedup(rows, lambda_div).accepted.sum()) for name, rows in vectors.items()}
        by_class = {name: round(accepted[name] / len(rows), 6) if len(rows) else 0.0 for name, rows in vectors.items()}
        rates.append(
            PassRate(
                lambda_div, sum(accepted.values()), round(sum(accepted.values()) / total, 6) if total else 0.0, by_class
            )
        )
    return Calibration(embedder, {name: len(rows) for name, rows in vectors.items()}, tuple(rates))


def calibration_text(calibration: Calibration) -> str:
    """Plain text: one row a lambda_div, with the pass rate over all classes and the lowest and highest of a class."""
    heads = ["lambda_div", "pass", "lowest", "highest", ""]
    rows = []
    for rate in calibration.rates:
        each = rate.by_class.values() or (0.0,)
        mark = "<- suggested" if rate.lambda_div == calibration.suggested else ""
        rows.append([f"{rate.lambda_div:g}", f"{rate.rate:.0%}", f"{min(each):.0%}", f"{max(each):.0%}", mark])
    counts = sorted(set(calibration.num_candidates.values()))
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}" if counts else "0"
    classes = len(calibration.num_candidates)
    head = (
        f"embedder {calibration.embedder}, {classes} classes, {span} candidates each; "
        f"{TARGET[0]:.0%}-{TARGET[1]:.0%} should pass"
    )
    return "\n".join([head, "", *_table(heads, rows)]) + "\n"


def _attribute_table(attribute: str, classes: Sequence[ClassCoverage]) -> list[str]:
    values = sorted(
        {value for item in classes for value in (*item.used.get(attribute, {}), *item.missing.get(attribute, []))}
    )
    rows = []
    for item in classes:
        used, missing = item.used.get(attribute, {}), item.missing.get(attribute, [])
        rows.append(
            [
                _name(item),
                *(str(used[value]) if value in used else "0" if value in missing else "." for value in values),
            ]
        )
    return _table([attribute, *values], rows)


def _compared_table(classes: Sequence[ClassCoverage]) -> list[str]:
    """Over all classes: what other ways to spend as many prompts would have given."""
    ways = list(dict.fromkeys(name for item in classes for name in item.compared))
    rows = []
    for name in ways:
        found = [item.compared[name] for item in classes if name in item.compared]
        near = [way["nearest"] for way in found if way["nearest"] > -1]
        values = sum(way["values"] for way in found)
        prompts, distinct = (int(sum(way[key] for way in found)) for key in ("prompts", "distinct"))
        rows.append([name, str(prompts), str(distinct), f"{np.mean(near):.3f}" if near else "-", str(int(values))])
    return _table(["at equal budget", "prompts", "distinct", "nearest", "attribute values"], rows)


def _name(item: ClassCoverage) -> str:
    return item.class_name or "(none)"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)
    ]


def shortage_text(
    lambda_div: float, wanted: Mapping[str, int], higher: Mapping[str, tuple[int, dict[float, int]]]
) -> str:
    """What higher lambda_div would let pass, for the classes that near-duplicates have left short:

    up to the first at which all have enough. `wanted` says what enough is, by class.
    """
    grid = sorted({value for _, passing in higher.values() for value in passing})
    if not grid:
        return ""
    enough = next(
        (
            n
            for n, value in enumerate(grid)
            if all(passing[value] >= wanted[name] for name, (_, passing) in higher.items())
        ),
        len(grid) - 1,
    )
    shown = sorted({round(enough * part) for part in (1 / 3, 2 / 3, 1)})
    told = [
        f"{grid[n]:g} passes "
        + ", ".join(f"{name} {passing[grid[n]]} of {tried}" for name, (tried, passing) in higher.items())
        for n in shown
    ]
    return f" at lambda_div {lambda_div:g} (" + "; ".join(told) + ")"
