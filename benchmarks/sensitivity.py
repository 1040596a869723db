"""`python -m benchmarks.sensitivity`:

how much the masks depend on beta, lambda_apf and the band, as in Syn4Seg's sensitivity study.

One setting at a time moves away from the default recipe, on held-out drawings with known truth, for two proposers:
`prototype`, whose coarse masks are good, and `attention`, whose coarse masks are rough. Prints the tables and writes
them to docs/results/syn4seg_sensitivity.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.masks import (
    WITHOUT_PROBABILITIES,
    Answers,
    class_ids_of,
    drawn_scenes,
    drawn_scores,
    refine,
    remembering,
)
from benchmarks.row import spread_of
from benchmarks.run import device
from synthgen.drawn.drawing import Drawing
from synthgen.recipe import read_recipe
from synthgen.refine import stage
from synthgen.refine.class_rates import ClassCounts, read_rates
from synthgen.settings import Refine

REPORT = Path(__file__).parents[1] / "docs" / "results" / "syn4seg_sensitivity.md"
COMMAND = "python -m benchmarks.sensitivity"
PROPOSERS = {"prototype": "{name: prototype}", "attention": "{name: attention, space: objects, model: mini/objects}"}
VALUES: dict[str, tuple[float, ...]] = {
    "apr.beta": (0.0, 0.25, 0.5, 0.8, 1.0),
    "apf.lambda_apf": (0.0, 0.2, 0.3, 0.4, 0.5, 0.6),
    "sabr.min_band_px": (1, 2, 3, 4, 6, 8),
}
Scores = dict[str, float]


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--per-class", type=int, default=5, help="drawings of each of the 20 classes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8], help="seeds of the drawn support set")
    parser.add_argument("--out", type=Path, default=REPORT)
    arguments = parser.parse_args(argv)
    began, cpu = time.monotonic(), time.process_time()
    scenes = drawn_scenes(arguments.per_class)
    tables = [_table(name, _sweep(options, arguments.seeds, scenes)) for name, options in PROPOSERS.items()]
    minutes, cpu_minutes = (time.monotonic() - began) / 60, (time.process_time() - cpu) / 60
    text = _page(tables, len(scenes), arguments.seeds, f"{minutes:.1f} min ({cpu_minutes:.1f} min of one core)")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = arguments.out.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(arguments.out)
    print(text)


def _sweep(proposer: str, seeds: Sequence[int], scenes: Sequence[Drawing]) -> dict[tuple[str, float], list[Scores]]:
    """(setting, value) -> the scores of each support seed. The recipe's own value of each setting is among them."""
    found: dict[tuple[str, float], list[Scores]] = {}
    answers: Answers = {}
    for seed in seeds:
        sets = [f"support.drawn.seed={seed}", *WITHOUT_PROBABILITIES, f"refine.proposer={proposer}"]
        recipe = read_recipe("syn4seg-mini", sets)
        with tempfile.TemporaryDirectory() as place:
            built = remembering(stage.build(recipe, Path(place)), answers)
            for setting, values in VALUES.items():
                section, key = setting.split(".")
                own = float(getattr(getattr(recipe.refine, section), key))
                for value in sorted({*values, own}):
                    built._settings = _changed(recipe.refine, section, key, value)
                    with tempfile.TemporaryDirectory(dir=place) as run:
                        built._run = Path(run)
                        masks = refine(built, Path(run), [scene.image for scene in scenes], class_ids_of(scenes))
                        rates = read_rates([Path(run) / "refine" / "0"])
                    total = ClassCounts()
                    for counts in rates.values():
                        total.add(counts)
                    scores = {
                        **drawn_scores(masks, scenes),
                        "kept": total.keep_rate,
                        "filled": total.fill_rate,
                        "own": float(value == own),
                    }
                    found.setdefault((setting, value), []).append(scores)
                    print(
                        f"  seed {seed} {setting} = {value:g}: {scores['coarse_miou']:.3f} -> "
                        f"{scores['sabr_miou']:.3f}",
                        flush=True,
                    )
    return found


def _changed(settings: Refine, section: str, key: str, value: float) -> Refine:
    part = getattr(settings, section)
    values: dict[str, Any] = {key: int(value) if key.endswith("_px") else value}
    if section == "sabr":
        values["band_fraction"] = 0.0  # the band is exactly as wide as said
    return settings.model_copy(update={section: part.model_copy(update=values)})


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    proposer: str
    coarse: Scores
    rows: dict[tuple[str, float], list[Scores]]


def _table(proposer: str, rows: dict[tuple[str, float], list[Scores]]) -> _Table:
    first = next(iter(rows.values()))
    return _Table(proposer, {name: float(np.mean([scores[name] for scores in first])) for name in first[0]}, rows)


def _page(tables: Sequence[_Table], num_scenes: int, seeds: Sequence[int], took: str) -> str:
    lines = [
        "# Sensitivity of the masks: beta, lambda_apf, band",
        "",
        f"Written by `{COMMAND}`. {num_scenes} held-out drawings, {len(seeds)} support sets (seeds "
        f"{', '.join(map(str, seeds))}), default recipe "
        "`syn4seg-mini` with one setting moved at a time (its own value in bold).",
        "mIoU over 20 classes and background, with the standard deviation over support sets; boundary F of the "
        "wanted class at 1 px; kept = share of "
        "regions that APF kept; filled = share of freed pixels that APR labelled again.",
        f"Machine: {device()}. Took {took}, {datetime.datetime.now(datetime.UTC).date().isoformat()}.",
        "",
    ]
    for table in tables:
        lines += [
            f"## Proposer `{table.proposer}`: coarse mIoU {table.coarse['coarse_miou']:.3f}, boundary F "
            f"{table.coarse['coarse_boundary_f']:.3f}",
            "",
            "| setting | value | kept | filled | mIoU APF | mIoU APR | mIoU SABR | boundary F SABR |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for (setting, value), runs in table.rows.items():
            mean = {name: float(np.mean([scores[name] for scores in runs])) for name in runs[0]}
            spread = spread_of([scores["sabr_miou"] for scores in runs])
            shown = f"**{value:g}**" if mean["own"] else f"{value:g}"
            lines.append(
                f"| {setting} | {shown} | {mean['kept']:.0%} | {mean['filled']:.0%} | {mean['apf_miou']:.3f} | "
                f"{mean['apr_miou']:.3f} | "
                f"{mean['sabr_miou']:.3f} +- {spread:.3f} | {mean['sabr_boundary_f']:.3f} |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
