"""The run engine under SIGKILL: rows engine/kills*. Doubles stand for the models.

`python -m benchmarks.engine 200` is the durability harness alone, `... 30 ray` under one engine; it ends with a line of
JSON.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from benchmarks.row import Row

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the doubles

NUM_KILLS = 200
# of the kills; `pool` is the local engine with two workers
SHARES = {"local": 0.5, "accelerate": 0.2, "pool": 0.15, "ray": 0.15}
KILLS_A_RUN = 10  # then it is left to finish
# file operations until a death, at the most; an undisturbed run makes about 1,400, a worker of several fewer
MOST = (60, 300, 1400)
PATIENCE_S = 600


@dataclasses.dataclass
class Toll:
    """What the harness has done."""

    # engine/stage -> processes killed
    kills: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    runs: int = 0
    identical: int = 0

    def of(self, engine: str) -> int:
        return sum(count for name, count in self.kills.items() if name.startswith(f"{engine}/"))


def kills() -> Iterator[Row]:
    """Runs of the tiny recipe, killed 200 times in all stages under all engines, each started again until its dataset
    is whole.
    """
    with tempfile.TemporaryDirectory() as place:
        toll = harness(Path(place), NUM_KILLS)
    yield Row("engine/kills", sum(toll.kills.values()), "kills", n=toll.runs)
    yield Row("engine/kills_identical", toll.identical / toll.runs, "fraction", n=toll.runs)


def harness(place: Path, number: int, seed: int = 0, engines: Collection[str] = tuple(SHARES)) -> Toll:
    """Kill `number` times; Ray's share goes to the others where it is not installed.

    A run that ended otherwise stays at its place.
    """
    from doubles.world import write_recipe, write_world

    write_world(place / "world")
    recipe = write_recipe(place / "world", place / "tiny.yaml")
    whole = _finished(recipe, place / "whole")
    rng, toll = random.Random(seed), Toll()
    shares = {name: share for name, share in SHARES.items() if name in engines}
    if "ray" in shares and importlib.util.find_spec("ray") is None:
        shares.pop("ray")
        print("ray is not installed: its share of the kills goes to the other engines", flush=True)
    for engine, share in shares.items():
        wanted = round(number * share / sum(shares.values()))
        while toll.of(engine) < wanted:
            run = place / f"{engine}-{toll.runs}"
            launch = _one_process if engine == "local" else _two_ranks if engine == "accelerate" else _workers
            before = toll.of(engine)
            while launch(
                recipe, run, engine, min(wanted - toll.of(engine), before + KILLS_A_RUN - toll.of(engine)), rng, toll
            ):
                pass
            toll.runs += 1
            same = _digest(run / "dataset") == whole
            toll.identical += same
            if same:
                shutil.rmtree(run)
            print(f"{engine}: {toll.of(engine)} kills, {toll.runs} runs, {toll.identical} identical", flush=True)
    return toll


def _one_process(recipe: Path, run: Path, engine: str, wanted: int, rng: random.Random, toll: Toll) -> bool:
    """One launch of the local engine; every other one dies at a random time instead of at a file operation.

    Whether it was killed.
    """
    by_time = wanted > 0 and rng.random() < 0.3
    with _deaths(run, 0 if by_time else min(wanted, 1), rng, toll, engine) as mortal:
        child = _forked(lambda: _command(recipe, run), mortal)
        if by_time:
            time.sleep(rng.uniform(0, 1.5))
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return _died(status)
            os.kill(child, signal.SIGKILL)
            toll.kills[f"{engine}/{_stage_now(run)}"] += 1
        return _died(os.waitpid(child, 0)[1])


def _two_ranks(recipe: Path, run: Path, engine: str, wanted: int, rng: random.Random, toll: Toll) -> bool:
    """Two ranks of accelerate; one dies and its launcher, here this process, ends the other. Whether one was killed."""
    import accelerate  # noqa: F401  # before the fork: both ranks have it then
    import torch  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    victim = rng.randrange(2)
    with _deaths(run, min(wanted, 1), rng, toll, engine) as mortal:
        ranks = {}
        for rank in range(2):
            found = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
            ranks[_forked(lambda: _command(recipe, run), mortal if rank == victim else "", found)] = rank
        ended = []
        while ranks:
            pid, status = os.waitpid(-1, 0)
            ranks.pop(pid)
            ended.append(status)
            if status:  # a rank that misses the other at a barrier may end before it is ended
                for other in ranks:
                    os.kill(other, signal.SIGKILL)
        if mortal and os.listdir(run.with_name(f"{run.name}.deaths") / "tokens") and any(ended):  # noqa: PTH208
            raise RuntimeError(f"a rank ended by itself (status {ended}); ENGINE_VERBOSE=1 shows why")
        return any(_died(status) for status in sorted(ended, key=lambda status: not os.WIFSIGNALED(status)))


def _workers(recipe: Path, run: Path, engine: str, wanted: int, rng: random.Random, toll: Toll) -> bool:
    """A launch whose workers die while it goes on. False: it has finished."""
    settings = ["execution.workers=2"]
    if engine == "ray":
        settings = ["execution.engine=ray", "execution.ray.workers=2", "execution.ray.gpus_per_worker=0"]
    command = [sys.executable, "-m", "synthgen", *_arguments(recipe, run), "--set", "execution.retries=100"]
    for setting in settings:
        command += ["--set", setting]
    with _deaths(run, wanted, rng, toll, engine) as mortal:
        # the launch itself has no hook: it reads the variable only in the workers that it starts
        script = (
            "import os, sys; os.environ['MORTAL'] = sys.argv.pop(1); import runpy; "
            "runpy.run_module('synthgen', run_name='__main__')"
        )
        command = [sys.executable, "-c", script, mortal, *command[3:]]
        path = os.pathsep.join((str(TESTS / "doubles" / "site"), str(TESTS)))
        environment = {**os.environ, "PYTHONPATH": path, "MORTAL": ""}
        done = subprocess.run(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{engine}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return False


class _deaths:  # noqa: N801
    """The tokens of a launch; counts at the end who has died where."""

    def __init__(self, run: Path, number: int, rng: random.Random, toll: Toll, engine: str) -> None:
        self._place = run.with_name(f"{run.name}.deaths")
        self._most = MOST[0] if engine in ("pool", "ray") else rng.choice(MOST)
        self._run, self._number, self._seed, self._toll, self._engine = run, number, rng.randrange(2**31), toll, engine

    def __enter__(self) -> str:
        from doubles.mortal import plan

        (self._place / "tokens").mkdir(parents=True)
        for number in range(self._number):
            (self._place / "tokens" / str(number)).touch()
        return (
            plan(str(self._run), self._most, str(self._place / "tokens"), str(self._place / "log"), self._seed)
            if self._number
            else ""
        )

    def __exit__(self, *_: object) -> None:
        log = self._place / "log"
        for line in log.read_text().splitlines() if log.exists() else ():
            self._toll.kills[f"{self._engine}/{line.split()[0]}"] += 1
        shutil.rmtree(self._place)


def _forked(work: Callable[[], None], mortal: str = "", environment: dict[str, str] | None = None) -> int:
    """Do `work` in a child that has everything imported already; quiet. Returns its process id."""
    _import_everything()

    child = os.fork()
    if child:
        return child
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        if not os.environ.get("ENGINE_VERBOSE"):
            os.dup2(silence, 2)
        os.environ.update(environment or {})
        if mortal:
            from doubles.mortal import install

            install(mortal)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(code)


def _import_everything() -> None:
    """What a run imports, before the fork: a child then begins at once."""
    for name in (
        "synthgen.cli",
        "synthgen.progress",
        "synthgen.pack.finish",
        "scipy.ndimage",
        "doubles.word_bag",
        "doubles.painter",
    ):
        importlib.import_module(name)
    from synthgen.stages import stages

    stages(Path())


def _arguments(recipe: Path, run: Path) -> list[str]:
    return ["run", str(recipe), "--runs", str(run.parent), "--run", run.name]


def _command(recipe: Path, run: Path) -> None:
    from synthgen.cli import app

    app(_arguments(recipe, run))


def _finished(recipe: Path, run: Path) -> dict[str, str]:
    """Digests of an undisturbed dataset."""
    if _died(os.waitpid(_forked(lambda: _command(recipe, run)), 0)[1]):
        raise RuntimeError("the undisturbed run was killed")
    return _digest(run / "dataset")


def _digest(folder: Path) -> dict[str, str]:
    from doubles.runs import digest

    return digest(folder)


def _died(status: int) -> bool:
    """Whether a child was killed. Raises RuntimeError if it ended with an error of its own."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"a launch ended with status {status}; ENGINE_VERBOSE=1 shows why")
    return False


def _stage_now(run: Path) -> str:
    from synthgen.stages import names

    begun = [name for name in names() if (run / name).is_dir()]
    return begun[-1] if begun else "start"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        counted = harness(
            Path(scratch), int(sys.argv[1]) if len(sys.argv) > 1 else NUM_KILLS, engines=sys.argv[2:] or tuple(SHARES)
        )
    print(json.dumps({"kills": dict(counted.kills), "runs": counted.runs, "identical": counted.identical}))
