"""Engine `ray`: units as calls of Ray actors, on this machine or on a cluster that shares the run folder.

Needs the package `ray`.

An actor is a worker with its GPU and its models, kept for a whole stage: a plain Ray task that uses a GPU gets a new
process each time (Ray lets no GPU process be used again), and would load its models for every unit. A free worker takes
the next unit, so slow units hold up nobody. Workers are added while the cluster grows; the unit of a worker that is
lost goes to another one.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from synthgen.errors import RecipeError, RunError, in_one_line
from synthgen.runner import Unit

LOOK_S = 5.0  # how often the size of the cluster is looked at


class Options(Protocol):
    """`execution.ray` of the recipe."""

    @property
    def address(self) -> str: ...
    @property
    def workers(self) -> int: ...
    @property
    def gpus_per_worker(self) -> float: ...


class Worker:
    """What runs in an actor: its process keeps the models between units."""

    def __init__(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # another machine may lack it; then paths in the recipe must be absolute
            os.chdir(folder)

    def do(self, work: Callable[[Unit], tuple[int, int]], unit: Unit) -> tuple[int, int]:
        return work(unit)


def run_units(
    work: Callable[[Unit], tuple[int, int]],
    units: Sequence[Unit],
    options: Options,
    device: str = "auto",
    retries: int = 2,
) -> Iterator[tuple[Unit, int, int]]:
    """Do every unit with the picklable `work(unit) -> (made, refused)`; yields (unit, made, refused) as they finish.

    The first error that `work` raises is raised here, as it is. Raises RecipeError without Ray, and RunError if a
    unit's worker is lost more than `retries` times.
    """
    if not units:
        return
    ray = _started(options)
    need = {"CPU": 1.0, "GPU": _gpus(ray, options, device)}
    actor = ray.remote(num_cpus=1, num_gpus=need["GPU"], max_restarts=0)(Worker)
    job = ray.put(work)
    waiting = collections.deque(units)
    losses: collections.Counter[str] = collections.Counter()
    idle: list[Any] = []
    busy: dict[Any, tuple[Any, Unit]] = {}
    try:
        while waiting or busy:
            room = options.workers or _room(ray, need)
            while len(busy) + len(idle) < min(room, len(waiting) + len(busy)):
                idle.append(actor.remote(str(Path.cwd())))
            while idle and waiting:
                worker, unit = idle.pop(), waiting.popleft()
                busy[worker.do.remote(job, unit)] = worker, unit
            done, _ = ray.wait(list(busy), timeout=LOOK_S)
            for task in done:
                worker, unit = busy.pop(task)
                try:
                    counts = ray.get(task)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # what the unit raised, without Ray's own story around it
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                    losses[unit.name] += 1
                    if losses[unit.name] > retries:
                        raise RunError(
                            f"unit {unit.name}: its Ray worker was lost {losses[unit.name]} times, most likely "
                            "for want of memory; lower "
                            "execution.batch_size or execution.ray.workers, then run the same command again"
                        ) from error
                    waiting.append(unit)
                    continue
                idle.append(worker)
                yield (unit, *counts)
    finally:
        for worker in (*idle, *(worker for worker, _ in busy.values())):
            ray.kill(worker)  # the next stage's models need the memory


def _started(options: Options) -> Any:
    """The module `ray`, connected; one connection serves all stages."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run tells nobody that it runs
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise RecipeError(
            "execution.engine ray: the package 'ray' is not installed; pip install 'synthgen-seg[ray]'"
        ) from error
    if not ray.is_initialized():
        local: dict[str, Any] = (
            {} if options.address else {"include_dashboard": False, "num_cpus": options.workers or None}
        )
        try:
            ray.init(address=options.address or "local", log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = in_one_line(error, 160)
            raise RunError(
                f"execution.ray.address {options.address!r}: no Ray there ({why}); start one with `ray start --head`"
            ) from error
    return ray


def _gpus(ray: Any, options: Options, device: str) -> float:
    if options.gpus_per_worker >= 0:
        return options.gpus_per_worker
    return 1.0 if device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def _room(ray: Any, need: dict[str, float]) -> int:
    """Workers that the cluster has room for now, at least one:

    a single pending worker is what an autoscaler needs to see.
    """
    there = ray.cluster_resources()
    return max(1, min(int(there.get(kind, 0) // amount) for kind, amount in need.items() if amount))
