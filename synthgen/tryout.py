"""`synthgen doctor --try RECIPE`: three units of work through the recipe's own stages, up to the scores: seconds and
memory. A unit is one image where a large model renders, else a batch.

The first unit carries what loading and warming up take, the last one tells what an image takes. The same classes,
files and checks are at work as in a run, so what would fail after hours fails now.
"""

from __future__ import annotations

import collections
import datetime
import sys
import tempfile
from pathlib import Path
from typing import Any

from segkit.memory import peak_bytes
from synthgen import pipeline, stages
from synthgen.classes import wanted_classes
from synthgen.engines import events
from synthgen.errors import RunError
from synthgen.labels import read_label_space
from synthgen.models.used import generates
from synthgen.planning import measured
from synthgen.planning.estimate import estimate
from synthgen.planning.machine import Machine
from synthgen.planning.measured import BY_IMAGE, Measured
from synthgen.recipe import Recipe

UNITS = 3  # the first warms up, and one may be refused


def try_recipe(recipe: Recipe, here: Machine) -> tuple[Measured, list[str]]:
    """Make a few images in a temporary folder that stays, keep what was measured for later plans, and tell it in lines.

    Raises what a run would raise.
    """
    if not generates(recipe):
        raise RunError(f"--try {recipe.name}: renders nothing, so there is no image to be tried; run it")
    folder = Path(tempfile.mkdtemp(prefix="synthgen-try-")) / recipe.name
    # a large model renders an image a call; small ones put several in a call, and one alone would cost as much
    rows = 1 if estimate(recipe).needs_gpu else recipe.execution.batch_size
    small, _ = pipeline.begin(_small(recipe, rows), folder)
    peaks: dict[str, float] = {}
    for name in ("prompts", *BY_IMAGE):
        _forget_peak()
        for _ in pipeline.run_stage(small, folder, name, log=True):
            pass
        peaks[name] = events.gpu_memory_gb()
        if name == "prompts":  # the bank may have stayed short
            there = stages.stages(folder)["prompts"].num_rows()
            small = _with_rows(small, max(1, min(rows, there // 2)))
    units: dict[str, list[tuple[float, int]]] = collections.defaultdict(list)  # (seconds, rows)
    for event in events.read_events(folder):
        if event["event"] == "unit":
            units[event["stage"]].append((float(event["seconds"]), max(1, event["made"] + event["refused"])))
    found = Measured(
        at=datetime.datetime.now(datetime.UTC).date().isoformat(),
        device=measured.device_name(recipe, here),
        seconds={name: _each(units[name]) for name in BY_IMAGE if len(units[name]) > 1},
        loading_s={name: _loading(units[name]) for name in ("prompts", *BY_IMAGE)},
        gpu_gb={name: size for name, size in peaks.items() if size},
        memory_gb=round(peak_bytes() / 2**30, 2),
    )
    measured.save(found, recipe, here)
    return found, _lines(found, folder, recipe)


def _each(units: list[tuple[float, int]]) -> float:
    """Seconds of a row of the last unit."""
    seconds, rows = units[-1]
    return round(seconds / rows, 4)


def _loading(units: list[tuple[float, int]]) -> float:
    """What the first unit took beside its rows; all of it where there is no other."""
    seconds, rows = units[0]
    return round(max(0.0, seconds - (rows * _each(units) if len(units) > 1 else 0.0)), 3)


def _with_rows(recipe: Recipe, rows: int) -> Recipe:
    return recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"unit_rows": rows})})


def _small(recipe: Recipe, rows: int) -> Recipe:
    """UNITS x `rows` prompts of the first class that any are asked for, an image each, `rows` to a unit."""
    space = read_label_space(recipe.labels.space)
    source: dict[str, Any] = recipe.prompts.source.model_dump()
    if source["name"] == "layouts":
        source["limit"] = UNITS * rows
        if source.get("windows"):
            source["windows"] = {**source["windows"], "count": UNITS * rows}
    raw = recipe.model_dump(mode="json")
    wanted = wanted_classes(recipe, space)
    label = next((one for one in wanted if recipe.prompts.quota(one.name)), wanted[0])
    raw["labels"]["classes"] = [label.name]
    # quotas and earlier sentences name the other classes too
    raw["prompts"] |= {"per_class": UNITS * rows, "quotas": {}, "apart_from": "", "source": source}
    raw["render"]["images_per_prompt"] = 1
    raw["execution"] |= {"unit_rows": rows, "workers": 1, "retries": 0, "engine": "local"}
    return Recipe.model_validate(raw)


def _forget_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _lines(found: Measured, folder: Path, recipe: Recipe) -> list[str]:
    lines = [f"tried {recipe.name} on {found.device}"]
    for name in ("prompts", *BY_IMAGE):
        each = f"{found.seconds[name]:.3g} s an image, " if name in found.seconds else ""
        gpu = f", {found.gpu_gb[name]:.1f} GiB of the GPU" if name in found.gpu_gb else ""
        lines.append(f"  {name:8} {each}{found.loading_s[name]:.3g} s to load and warm up{gpu}")
    lines.append(f"  memory   {found.memory_gb:.1f} GiB of the machine's")
    run = stages.stages(folder)
    for row in run["render"].rows():
        lines.append(f"  image    {folder / row.picture.image}")
    for row in run["refine"].rows():
        lines.append(f"  mask     {folder / row.labelling.mask}")
    for name in ("render", "refine"):
        for reason, count in run[name].reasons().items():
            lines.append(f"  refused  {count} in {name}: {reason}")
    if not found.is_whole:
        lines.append("  note     fewer than two images came to their scores, so plans do not use these seconds")
    return lines
