"""Engine `ray`: the dataset of the local engine to the byte, though a worker is lost;

every test that needs Ray says so if it is not there.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.processes import UNITS, work
from doubles.runs import digest, whole_run

from synthgen import pipeline, stages
from synthgen.engines import ray
from synthgen.engines.events import read_events
from synthgen.errors import RecipeError
from synthgen.recipe import read_recipe
from synthgen.settings import Ray

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray: the package is not installed; pip install 'synthgen-seg[ray]'"
)


@needs_ray
@pytest.mark.slow
def test_ray_makes_the_same_units_though_a_worker_is_killed(
    tiny: Callable[..., Path], tmp_path: Path, process: Callable[..., Any]
) -> None:
    deaths = tmp_path / "deaths"
    options = {"name": "doubles.faulty_painter", "not_finite_in": 7, "blank_in": 6, "kills": 1, "deaths": str(deaths)}
    recipe = tiny(render__renderer=options)
    deaths.write_text("1\n")
    local = whole_run(recipe, tmp_path / "local")
    deaths.unlink()
    run = tmp_path / "ray"
    for _ in pipeline.run_stage(read_recipe(str(recipe)), run, "prompts"):
        pass
    by_ray = ("--set", "execution.engine=ray", "--set", "execution.ray.workers=2")
    done = process("-m", "synthgen", "render", recipe, "--runs", tmp_path, "--run", "ray", *by_ray)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert len(deaths.read_text().split()) == 1
    assert digest(run / "render") == digest(local / "render")
    units = [event["unit"] for event in read_events(run) if event["event"] == "unit"]
    assert sorted(units) == [unit.name for unit in stages.stages(run)["render"].units()], "each was done once"
    assert digest(whole_run(recipe, run) / "dataset") == digest(local / "dataset"), "another engine finishes it"


def test_without_ray_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"^execution\.engine ray: the package 'ray' is not installed; pip install"):
        list(ray.run_units(lambda unit: work(tmp_path, unit), UNITS, Ray()))
    assert list(ray.run_units(lambda unit: work(tmp_path, unit), [], Ray())) == []


class Cluster:
    """A Ray with some resources, all of it in this process;

    `lost` names the units whose worker dies, as often as they are in it.
    """

    class exceptions:  # noqa: N801
        class RayTaskError(Exception):
            cause: Exception

        class RayActorError(Exception): ...

        class ObjectLostError(Exception): ...

    def __init__(self, resources: dict[str, float], lost: list[str]) -> None:
        self.resources, self.lost = resources, lost
        self.alive: list[Any] = []
        self.most = 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **needs: Any) -> Any:
        self.needs = needs
        cluster = self

        class Actor:
            def __init__(self) -> None:
                cluster.alive.append(self)
                cluster.most = max(cluster.most, len(cluster.alive))
                self.do = self

            def remote(self, job: Any, unit: Any) -> Any:
                return (self, job, unit)

        class Kind:
            @staticmethod
            def remote(folder: str) -> Actor:
                return Actor()

        return lambda worker: Kind

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return tasks[-1:], tasks[:-1]

    def get(self, task: Any) -> Any:
        actor, job, unit = task
        if unit.name in self.lost:
            self.lost.remove(unit.name)
            self.alive.remove(actor)
            raise self.exceptions.RayActorError
        return job(unit)

    def kill(self, actor: Any) -> None:
        self.alive.remove(actor)


@pytest.mark.parametrize(
    ("resources", "options", "device", "most", "gpus"),
    [
        ({"CPU": 3.0}, Ray(), "auto", 3, 0.0),
        ({"CPU": 16.0, "GPU": 2.0}, Ray(), "auto", 2, 1.0),
        ({"CPU": 16.0, "GPU": 1.0}, Ray(gpus_per_worker=0.5), "auto", 2, 0.5),
        ({"CPU": 2.0, "GPU": 8.0}, Ray(), "cpu", 2, 0.0),
        ({"CPU": 64.0}, Ray(), "cpu", 4, 0.0),
        ({"CPU": 1.0}, Ray(workers=3), "cpu", 3, 0.0),
        ({}, Ray(), "auto", 1, 0.0),
    ],
)
def test_workers_fill_the_cluster_and_lost_units_are_done_again(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    resources: dict[str, float],
    options: Ray,
    device: str,
    most: int,
    gpus: float,
) -> None:
    cluster = Cluster(resources, ["00000", "00002", "00002"])
    monkeypatch.setitem(sys.modules, "ray", cluster)
    done = list(ray.run_units(lambda unit: work(tmp_path, unit), UNITS, options, device))
    assert sorted(unit.name for unit, *_ in done) == [unit.name for unit in UNITS]
    assert (cluster.most, cluster.needs["num_gpus"]) == (most, gpus)
    assert cluster.alive == [], "no worker holds a GPU when the stage is over"


def test_a_unit_that_kills_every_worker_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cluster = Cluster({"CPU": 2.0}, ["00001"] * 5)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    with pytest.raises(Exception, match=r"^unit 00001: its Ray worker was lost 3 times, .*lower execution\.batch_size"):
        list(ray.run_units(lambda unit: work(tmp_path, unit), UNITS, Ray(), "cpu"))
    assert cluster.alive == []


def test_engine_is_no_part_of_the_fingerprint(tiny: Callable[..., Path]) -> None:
    one, other = (read_recipe(str(tiny()), [f"execution.engine={engine}"]) for engine in ("local", "ray"))
    assert [stages.settings(one, name) for name in stages.names()] == [
        stages.settings(other, name) for name in stages.names()
    ]
