"""`synthgen run RECIPE --dry-run`: what a run would be before it begins: units, rows, time, disk, memory, and what is
missing.

Nothing is written, downloaded or loaded. Counts and what models take are those of synthgen/planning/estimate.py, what
is missing that of synthgen/planning/readiness.py, which `synthgen doctor` asks too. Times are those that `synthgen
doctor --try` has measured on this machine. Without them they are operations over speed: at 25 to 40 % of a GPU's peak
in bfloat16 (synthgen/planning/speeds.py), or at what a core of a CPU reaches with the minis [measured: a 64 px image in
0.375 s]. What nobody says is called unknown.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from synthgen import lock, pipeline, stages
from synthgen.errors import SynthgenError
from synthgen.models.provenance import unasked
from synthgen.models.sizes import GB
from synthgen.planning import measured
from synthgen.planning.estimate import PASSES, AttemptPlan, Estimate, StagePlan, estimate
from synthgen.planning.machine import Machine
from synthgen.planning.measured import Measured
from synthgen.planning.readiness import check_recipe, download_gb, free_gb
from synthgen.planning.speeds import CORE, PROCESS_GB, REACHED, gpu_hours
from synthgen.progress import duration
from synthgen.recipe import Recipe

UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. GB are 10^9 bytes; None is unknown."""

    recipe: str
    run: str
    what: str  # one line: classes, prompts, images
    stages: tuple[StagePlan, ...]
    needs_gpu: bool
    gpu_hours: dict[str, float]  # GPU -> hours; empty if unknown
    core_hours: float | None  # of one CPU core
    disk_gb: float | None
    download_gb: float
    free_disk_gb: float
    gpu_memory_gb: float | None
    memory_gb: float | None  # of the machine
    unknown: tuple[str, ...]  # backends that do not say what they take
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    attempts: AttemptPlan | None = None  # for an image that gates judge; hours are of the expected ones
    longest: float | None = None  # times the hours, if every image took all its attempts; None = as long, or unknown
    measured: Measured | None = None  # by `synthgen doctor --try` on this machine
    measured_hours: float | None = None  # of one worker, by what was measured


def dry_run(recipe: Recipe, run: Path, here: Machine) -> Plan:
    """The plan of `synthgen run`.

    What is wrong with the recipe, its files, the machine or the run folder is listed as missing, not raised.
    """
    check, sizes = check_recipe(recipe, here), estimate(recipe)
    tried = measured.find(recipe, here)
    missing = dict.fromkeys(check.missing)
    done = _units_done(recipe, run, missing)
    operations, memory_gb = sizes.operations, sizes.gpu_memory_gb
    if tried is not None and tried.gpu_gb:
        memory_gb = max(tried.gpu_gb.values()) * 2**30 / GB
    return Plan(
        recipe=recipe.name,
        run=str(run),
        what=_what(recipe, sizes),
        stages=tuple(dataclasses.replace(stage, units_done=done.get(stage.name, 0)) for stage in sizes.stages),
        needs_gpu=sizes.needs_gpu,
        gpu_hours=gpu_hours(operations) if operations and sizes.needs_gpu else {},
        core_hours=None if operations is None else operations / CORE / 3600,
        disk_gb=sizes.disk_gb,
        download_gb=download_gb(sizes, here),
        free_disk_gb=free_gb(here),
        gpu_memory_gb=memory_gb,
        # weights pass through the machine's memory, or stay there
        memory_gb=None if memory_gb is None else recipe.execution.workers * (memory_gb + PROCESS_GB),
        unknown=sizes.unknown,
        missing=tuple(missing),
        notes=check.notes,
        attempts=sizes.attempts,
        longest=sizes.worst_operations / operations if sizes.worst_operations and operations else None,
        measured=tried,
        measured_hours=_measured_hours(sizes, tried),
    )


def _measured_hours(sizes: Estimate, tried: Measured | None) -> float | None:
    rows = next((stage.rows for stage in sizes.stages if stage.name == "render"), None)
    if tried is None or not tried.is_whole or rows is None:
        return None
    attempts = sizes.attempts.expected if sizes.attempts is not None else 1.0
    seconds = rows * (tried.image_s + (attempts - 1) * tried.seconds["render"])
    return (seconds + sum(tried.loading_s.values())) / 3600


def _units_done(recipe: Recipe, run: Path, missing: dict[str, None]) -> dict[str, int]:
    """stage -> units that the run folder already holds."""
    try:
        locked = lock.read_lock(run)
        if locked is not None:
            lock.refuse_other(locked, recipe, run)
        with unasked((locked or recipe).models):
            pipeline.check_claim(recipe, run)
        return {
            name: len(stage.units()) - len(stage.missing())
            for name, stage in stages.stages(run).items()
            if stage.is_claimed()
        }
    except SynthgenError as error:
        missing[str(error)] = None
        return {}


def _what(recipe: Recipe, sizes: Estimate) -> str:
    images = f"{recipe.render.images_per_prompt} image(s) each, {recipe.render.height_px} x {recipe.render.width_px} px"
    if sizes.num_prompts is None or sizes.num_classes is None:
        return f"an unknown number of prompts, {images}"
    quota = sizes.num_classes * recipe.prompts.per_class
    origin = "as the source gives them"
    if sizes.num_prompts == quota:
        origin = f"{sizes.num_classes} classes x {recipe.prompts.per_class} prompts"
    elif recipe.prompts.quotas:
        origin = "by prompts.quotas"
    return f"at most {sizes.num_prompts:,} prompts ({origin}), {images}"


def plan_text(plan: Plan) -> str:
    """The plan as plain text."""
    lines = [f"dry run of {plan.recipe} in {plan.run}: nothing was made", f"{plan.what}", ""]
    lines.append(f"{'stage':8} {'units':>8} {'done':>6} {'rows':>10} {'disk':>10} {'GPU memory':>12}")
    for stage in plan.stages:
        on_cpu = stage.gpu_memory_gb is not None and (not plan.needs_gpu or not stage.gpu_memory_gb)
        memory = "-" if on_cpu else _gb(stage.gpu_memory_gb)
        lines.append(
            f"{stage.name:8} {_number(stage.units):>8} {stage.units_done:6,} {_number(stage.rows):>10} "
            f"{_gb(stage.disk_gb):>10} {memory:>12}"
        )
    lines += ["", f"time      {_time(plan)}"]
    if plan.attempts is not None:
        longest = "" if plan.longest is None else f"; the whole run then takes {plan.longest:.2g} times as long"
        lines.append(
            f"attempts  {plan.attempts.expected:.2g} an image if the gates let {PASSES:.0%} of them pass (a guess), "
            f"{plan.attempts.worst} at the most{longest}"
        )
    more = f", and what {', '.join(plan.unknown)} needs" if plan.unknown else ""
    lines.append(
        f"disk      {_gb(plan.disk_gb)} in the run folder, {_gb(plan.download_gb)} to download{more}; "
        f"{_gb(plan.free_disk_gb)} are free"
    )
    if plan.gpu_memory_gb is not None and plan.memory_gb is not None:
        gpu = f"about {plan.gpu_memory_gb:.0f} GB on the GPU, " if plan.needs_gpu else ""
        lines.append(f"memory    {gpu}{plan.memory_gb:.0f} GB of the machine's")
    else:
        lines.append(f"memory    {UNKNOWN}")
    lines += [f"missing   {line}" for line in plan.missing] or ["missing   nothing"]
    lines += [f"note      {line}" for line in plan.notes]
    return "\n".join(lines)


def _time(plan: Plan) -> str:
    if plan.measured is not None and plan.measured_hours is not None:
        each = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in plan.measured.seconds.items())
        return (
            f"about {duration(plan.measured_hours * 3600)} with one worker (measured here on {plan.measured.device}, "
            f"{plan.measured.at}: {each} an image)"
        )
    if plan.core_hours is None:
        return f"{UNKNOWN}: " + (
            f"{', '.join(plan.unknown)} does not say what it takes" if plan.unknown else "see what is missing"
        )
    if plan.gpu_hours:
        hours = ", ".join(f"{gpu} {hours:.2g} h" for gpu, hours in plan.gpu_hours.items())
        shares = ", ".join(f"{REACHED[gpu]:.0%}" for gpu in plan.gpu_hours)
        return f"{hours} (operations at {shares} of the peak: an estimate, not a measurement; doctor --try measures it)"
    core = duration(plan.core_hours * 3600)
    return f"about {core} of one CPU core for the images (operations over speed: an estimate, not a measurement)"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _gb(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.3g} GB" if value >= 1 else f"{value * 1000:.3g} MB"
