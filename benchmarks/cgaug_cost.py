"""What training on pairs and scoring anomalies cost: rows cgaug/steps_s_* and cgaug/metrics/*.

steps_s_*: one thread, 16 pictures a step: plain training, and the two stages of multi-shift over the same network;
those between a short and a long training, rounds of all in turn.

metrics/*: pooled AUROC, AP and FPR at 95 % recall of 100 pictures of 1024 x 2048 px with random scores, a process of
its own: its memory after 10 and after 100 pictures, and the largest difference to the exact values of 4 of them, by
sorting all scores, as scikit-learn defines them.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks import cgaug_data as data
from benchmarks.cgaug import Plan, base_training, bases, shifted_training
from benchmarks.row import Row, spread_of
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segtrain.metrics.anomaly import ScoreHistogram

STAGES = {"plain": "", "stage1": "--stage1-share 1", "stage2": "--stage1-share 0"}
STEP_ROWS = (*(f"cgaug/steps_s_{name}" for name in STAGES), *(f"cgaug/steps_ratio_{n}" for n in ("stage1", "stage2")))
METRIC_ROWS = tuple(f"cgaug/metrics/{what}" for what in ("mb_10", "mb_100", "seconds", "error"))
SIZE_PX = (1024, 2048)


def steps() -> Iterator[Row]:
    """cgaug/steps_s_*, cgaug/steps_ratio_*."""
    yield from step_rows(Plan())


def metrics() -> Iterator[Row]:
    """cgaug/metrics/*."""
    yield from metric_rows()


def step_rows(plan: Plan, lengths: tuple[int, int] = (20, 80), rounds: int = 3) -> Iterator[Row]:
    """Measure."""
    bases(dataclasses.replace(plan, seeds=plan.seeds[:1]))
    speeds: dict[str, list[float]] = {name: [] for name in STAGES}
    for _ in range(rounds):
        for name, of_name in speeds.items():
            short, long = (_seconds(plan, name, count) for count in lengths)
            of_name.append((lengths[1] - lengths[0]) / (long - short))
    for name, of_name in speeds.items():
        yield Row(f"cgaug/steps_s_{name}", float(np.mean(of_name)), "1/s", spread_of(of_name), rounds)
    for name in ("stage1", "stage2"):
        ratios = np.array(speeds[name]) / np.array(speeds["plain"])
        yield Row(f"cgaug/steps_ratio_{name}", float(ratios.mean()), "ratio", spread_of(ratios), rounds)


def _seconds(plan: Plan, name: str, count: int) -> float:
    """Wall time of a training of so many steps."""
    seed = plan.seeds[0]
    if name == "plain":
        words = base_training(plan, "jitter", seed).train
    else:
        pairs = data.pairs(plan.place, plan.pairs, faults=plan.faults)
        words = shifted_training(plan, name, f"{STAGES[name]} --margins 3,2,1", pairs, seed).train
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "segtrain", *words, "--steps", str(count), "--out", f"{place}/model"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


def metric_rows(pictures: int = 100, compared: int = 4, size_px: tuple[int, int] = SIZE_PX) -> Iterator[Row]:
    """Measure in a process of its own."""
    arguments = json.dumps([pictures, compared, *size_px])
    command = [sys.executable, "-m", "benchmarks.cgaug_cost", arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found = json.loads(done.stdout)
    units = {"mb_10": "MB", "mb_100": "MB", "seconds": "s", "error": "fraction"}
    for name, unit in units.items():
        yield Row(f"cgaug/metrics/{name}", found[name], unit)


def _picture(number: int, size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (H, W) float32 and truth (H, W) uint8: 3 % unknown with higher scores, a tenth void."""
    rng = np.random.default_rng(number)
    truth = rng.choice(np.array([0, OUT_OF_DISTRIBUTION, IGNORE], np.uint8), size_px, p=[0.87, 0.03, 0.1])
    scores = rng.standard_normal(size_px, dtype=np.float32) - 8
    return scores + 1.5 * (truth == OUT_OF_DISTRIBUTION), truth


def _scored(pictures: int, compared: int, height: int, width: int) -> dict[str, float]:
    process = psutil.Process()
    histogram, seconds, found = ScoreHistogram(), 0.0, {}
    for number in range(pictures):
        scores, truth = _picture(number, (height, width))
        began = time.perf_counter()
        histogram.add(scores, truth)
        seconds += time.perf_counter() - began
        if number + 1 in (min(10, pictures), pictures):
            found["mb_10" if "mb_10" not in found else "mb_100"] = process.memory_info().rss / 2**20
    began = time.perf_counter()
    histogram.scores()
    found["seconds"] = seconds + time.perf_counter() - began
    small, kept = ScoreHistogram(), []
    for number in range(compared):
        scores, truth = _picture(number, (height, width))
        small.add(scores, truth)
        kept.append((scores[truth != IGNORE], truth[truth != IGNORE] == OUT_OF_DISTRIBUTION))
    scores, unknown = (np.concatenate(part) for part in zip(*kept, strict=True))
    ours = small.scores()
    assert ours.auroc is not None and ours.ap is not None and ours.fpr95 is not None
    differences = np.array([ours.auroc, ours.ap, ours.fpr95]) - exact_scores(scores, unknown)
    found.setdefault("mb_100", found["mb_10"])
    return found | {"error": float(np.abs(differences).max())}


def exact_scores(scores: np.ndarray, unknown: np.ndarray) -> tuple[float, float, float]:
    """AUROC, AP and FPR at the first recall of 0.95 of (N,) scores, (N,) bool: one threshold at each score that
    occurs."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(unknown[order])[last_of_ties]
    alarms = last_of_ties + 1 - hits
    recall, false_rate = hits / hits[-1], alarms / alarms[-1]
    auroc = np.trapezoid(np.append(0.0, recall), np.append(0.0, false_rate))
    ap = np.sum(np.diff(recall, prepend=0.0) * hits / (hits + alarms))
    return float(auroc), float(ap), float(false_rate[np.argmax(recall >= 0.95)])


if __name__ == "__main__":
    print(json.dumps(_scored(*json.loads(sys.argv[1]))))
