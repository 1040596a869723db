"""Where the engine's own cost lies and how schedulers end: rows scale/*, the figures of docs/SCALE.md.

Costs are CPU time of one process, so a busy machine does not change them; the disk's own waiting is not in them. The
schedulers are simulated with fake unit times: the code of the engines decides who does what in the same order.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Row, spread_of
from synthgen import claims, runner
from synthgen.filter.duplicates import nearest_kept
from synthgen.records import Picture, RenderRecord, Subject
from synthgen.runner import StageRun, Unit

UNIT_S = 64 * 7.0  # 64 images of SD3.5-Large at 1024 px, 7 s each
SPREAD = 0.1  # of unit times, lognormal: prompts are alike, disks are not
SLOW_SHARE, SLOWNESS = 0.02, 2.0  # GPUs that throttle
# a worker is lost in the middle of one unit in a thousand; a new one has to load its models
LOSS_PER_UNIT, RESTART_S = 0.001, 600.0
UNITS_PER_GPU = (8, 64)
GPUS = (1, 8, 1000)


# what a unit costs


class Nothing:
    """A stage that copies its rows."""

    def process(self, rows: Sequence[Any], folder: Path, unit: str) -> Iterator[Any]:
        yield from rows


def costs(num_units: int = 400, rows: int = 64) -> Iterator[Row]:
    """Milliseconds of CPU of the engine's own work, for each unit or row that it is about."""
    with tempfile.TemporaryDirectory() as place:
        stage = StageRun("render", Path(place) / "render", RenderRecord, None)
        units = [Unit(f"{number:05d}", number * rows, (number + 1) * rows) for number in range(num_units)]
        claims.claim(stage, {}, lambda: units)
        made = [[_row(unit.start + number) for number in range(rows)] for unit in units]
        commit = _cpu_ms(
            lambda: [runner.run_unit(stage, unit, Nothing(), made[place]) for place, unit in enumerate(units)]
        )
        yield Row("scale/commit_ms", commit / num_units, "ms a unit of 64 rows", n=num_units)
        yield Row("scale/plan_ms", _cpu_ms(stage.units) / num_units, "ms a unit, reading stage.json", n=num_units)
        yield Row(
            "scale/missing_ms", _cpu_ms(stage.missing) / num_units, "ms a unit, looking what is done", n=num_units
        )
        yield Row(
            "scale/footers_ms",
            _cpu_ms(lambda: stage.stored()) / num_units,
            "ms a unit, counting rows once a worker",
            n=num_units,
        )
        positions = stage.stored()
        yield Row(
            "scale/rows_ms",
            _cpu_ms(lambda: [positions.rows(unit.start, unit.stop) for unit in units]) / num_units,
            "ms a unit, its rows",
            n=num_units,
        )
        yield Row(
            "scale/listing_ms",
            _cpu_ms(lambda: [entry.name for entry in os.scandir(stage.folder)]) / num_units,
            "ms a unit, listing",
            n=num_units,
        )
        size = sum(path.stat().st_size for path in stage.folder.rglob("*") if path.is_file()) / num_units / rows
        yield Row("scale/manifest_bytes", size, "bytes a row, manifests and plan", n=num_units * rows)
        yield Row(
            "scale/plan_bytes",
            (stage.folder / runner.CLAIM).stat().st_size / num_units,
            "bytes of stage.json a unit",
            n=num_units,
        )


def dedup(sizes: Sequence[int] = (2000, 4000, 8000), dim: int = 512) -> Iterator[Row]:
    """CPU seconds of the near-duplicate check, the one unit that sees all rows;

    it grows with the square of the kept rows.
    """
    rng = np.random.default_rng(0)
    for size in sizes:
        vectors = rng.standard_normal((size, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        seconds = _cpu_ms(lambda found=vectors: nearest_kept(found, lambda *_: True)) / 1000  # type: ignore[misc]
        yield Row(f"scale/dedup_s_{size}", seconds, "s of CPU")


def _row(number: int) -> RenderRecord:
    key = f"s{number:015x}"
    prompt = f"a photo of a red bicycle on a wet street at night, number {number}"
    subject = Subject("bicycle", 3, prompt, ("place=street", "time=night"))
    model = "sd3:stabilityai/stable-diffusion-3.5-large"
    picture = Picture(f"render/00000/{key}.png", 1024, 1024, number, model, "main", 28, 4.5, "", "")
    return RenderRecord(key, f"p{number:015x}", subject, picture)


def _cpu_ms(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


# how schedulers end


@dataclasses.dataclass(frozen=True)
class World:
    """One draw of unit times and machines."""

    seconds: np.ndarray  # (U,) of each unit on a sound GPU
    speed: np.ndarray  # (W,) 1 = sound
    lost: np.ndarray  # (U,) bool: the worker dies halfway through the unit's first try

    @property
    def ideal_s(self) -> float:
        """All units shared out without a remainder, nothing lost."""
        return float(self.seconds.sum() / (1 / self.speed).sum())


def draw(gpus: int, units_per_gpu: int, seed: int) -> World:
    """Reproducible: lognormal unit times, a share of slow GPUs, some lost workers."""
    rng = np.random.default_rng([seed, gpus, units_per_gpu])
    num_units = gpus * units_per_gpu
    speed = np.where(rng.random(gpus) < SLOW_SHARE, SLOWNESS, 1.0)
    return World(UNIT_S * rng.lognormal(0, SPREAD, num_units), speed, rng.random(num_units) < LOSS_PER_UNIT)


def by_rank(world: World) -> float:
    """Engine accelerate: unit u belongs to rank u mod W;

    a lost rank ends the launch, and the launcher starts all ranks again.

    Units that were under way are lost then; each rank goes on with what is missing of the shares that are dealt out
    anew.
    """
    left, now = list(range(len(world.seconds))), 0.0
    lost = world.lost.copy()
    while left:
        shares = [left[rank :: len(world.speed)] for rank in range(len(world.speed))]
        ends = [
            np.cumsum(world.seconds[share]) * speed if share else np.zeros(0)
            for share, speed in zip(shares, world.speed, strict=True)
        ]
        deaths = [
            (end[place] - world.seconds[unit] * world.speed[rank] / 2, unit)
            for rank, (share, end) in enumerate(zip(shares, ends, strict=True))
            for place, unit in enumerate(share)
            if lost[unit]
        ]
        if not deaths:
            return now + max(float(end[-1]) for end in ends if len(end))
        stop, unit = min(deaths)
        lost[unit] = False
        now += stop + RESTART_S
        done = {
            u for share, end in zip(shares, ends, strict=True) for u, at in zip(share, end, strict=True) if at <= stop
        }
        left = [u for u in left if u not in done]
    return now


def by_queue(world: World) -> float:
    """Engines ray and local, and several launches that leave what others have taken: a free worker takes the next unit;

    a lost unit goes last.
    """
    waiting = list(range(len(world.seconds)))[::-1]
    again: list[int] = []
    lost = world.lost.copy()
    free = [(0.0, worker) for worker in range(len(world.speed))]
    heapq.heapify(free)
    end = 0.0
    while waiting or again:
        at, worker = heapq.heappop(free)
        unit = waiting.pop() if waiting else again.pop()
        seconds = float(world.seconds[unit] * world.speed[worker])
        if lost[unit]:
            lost[unit] = False
            again.append(unit)
            heapq.heappush(free, (at + seconds / 2 + RESTART_S, worker))
            continue
        end = max(end, at + seconds)
        heapq.heappush(free, (at + seconds, worker))
    return end


SCHEDULERS: dict[str, Callable[[World], float]] = {"rank": by_rank, "queue": by_queue}


def tails(seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Iterator[Row]:
    """Time to the last unit over the ideal, for each scheduler, number of GPUs and number of units a GPU."""
    for gpus in GPUS:
        for units_per_gpu in UNITS_PER_GPU:
            worlds = [draw(gpus, units_per_gpu, seed) for seed in seeds]
            for name, scheduler in SCHEDULERS.items():
                over = [scheduler(world) / world.ideal_s for world in worlds]
                yield Row(
                    f"scale/tail_{name}_{gpus}x{units_per_gpu}",
                    float(np.mean(over)),
                    "of the ideal time",
                    spread_of(over),
                    len(over),
                )


if __name__ == "__main__":
    for function in (costs, dedup, tails):
        for row in function():
            print(json.dumps(dataclasses.asdict(row)))
