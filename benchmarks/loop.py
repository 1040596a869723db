"""What the closed loop is worth: rows loop/*.

For each seed: 5 labelled drawings a class and the set that the default recipe makes from them train a segmenter. Then
one round of `synthgen improve` with as many images again: aimed at the classes that are weak on 100 labelled drawings
(closed), or all classes alike (uniform: --power 0). Both are trained anew with the steps of the first; scores are those
on 300 other drawings, which chose nothing.

The generator has seen many drawn scenes without masks. Spread is over seeds; a gain is the mean of the differences seed
by seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import use
from benchmarks.row import SCRATCH, Row, row_of_seeds
from synthgen.drawn.split import write_split

SEEDS = (0, 1, 2)
STEPS = 1_200
CHOOSE_SEED, CHOOSE, TEST_SEED, TEST = 5_000, 100, 6_000, 300
POWERS = {"uniform": 0.0, "closed": 1.0}
ROWS = ("loop/before_miou", "loop/uniform_miou", "loop/closed_miou", "loop/gain_over_before", "loop/gain_over_uniform")


def objects() -> Iterator[Row]:
    """loop/*."""
    yield from rows_of(SEEDS, STEPS)


def rows_of(
    seeds: tuple[int, ...], steps: int, choose: int = CHOOSE, test: int = TEST, images: int = 0
) -> Iterator[Row]:
    """Measure. `images` a round; 0 = as many as the first run has prompts."""
    choosing, testing = _drawings("choose", CHOOSE_SEED, choose), _drawings("test", TEST_SEED, test)
    found: dict[str, list[float]] = {name: [] for name in ("before", *POWERS)}
    for seed in seeds:
        few = use.few(use.Plan(), 5, seed)
        run = use.made(use.Plan(), "", seed).parent
        model = SCRATCH / "loop" / f"before-{seed}-{steps}"
        data = ["--data", str(few), "--data", str(run / "dataset"), "--ratio", "1", "--ratio", "1"]
        _call(
            "segtrain",
            "train",
            *data,
            *use.Plan().network.split(),
            f"--steps={steps}",
            f"--seed={seed}",
            "--num-threads=1",
            f"--out={model}",
        )
        found["before"].append(_score(model, testing))
        for name, power in POWERS.items():
            out = SCRATCH / "loop" / f"{name}-{seed}-{steps}"
            words = ["--model", str(model), "--validation", str(choosing), "--beside", str(few), "--out", str(out)]
            words += [
                "--rounds",
                "1",
                "--images",
                str(images),
                "--power",
                str(power),
                "--train=--num-threads",
                "--train=1",
            ]
            _call("synthgen", "improve", str(run), *words)
            found[name].append(_score(out / "model-1", testing))
            print(f"  {name} seed {seed}: {found[name][-1]:.3f} (before {found['before'][-1]:.3f})", flush=True)
    scores = {name: np.array(values) for name, values in found.items()}
    for name, values in scores.items():
        yield row_of_seeds(f"loop/{name}_miou", values)
    for name in ("before", "uniform"):
        yield row_of_seeds(f"loop/gain_over_{name}", scores["closed"] - scores[name])


def _drawings(name: str, seed: int, count: int) -> Path:
    folder = SCRATCH / "loop" / f"{name}-{count}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_split(folder, "objects", count, seed)
    return folder


def _score(model: Path, testing: Path) -> float:
    told = SCRATCH / "loop" / "score.json"
    told.unlink(missing_ok=True)
    _call("segtrain", "eval", "--model", str(model), "--data", str(testing), "--json", str(told))
    return float(json.loads(told.read_text(encoding="utf-8"))["miou"])


def _call(*words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], check=True)
