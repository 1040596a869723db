"""`synthgen doctor`: what is installed, which weights and GPUs are there, and which recipes would run.

The judgement is that of `--dry-run` (synthgen/planning/readiness.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.errors import SynthgenError
from synthgen.planning.machine import Machine
from synthgen.planning.readiness import RecipeCheck, check_recipe
from synthgen.recipe import read_recipe, shipped_recipes


def check_recipes(here: Machine, names: tuple[str, ...] = (), sets: Sequence[str] = ()) -> list[RecipeCheck]:
    """Check the shipped recipes, or those that are named (paths too), with the `a.b=value` of `--set`.

    One that cannot be read is missing its own mending.
    """
    checks: list[RecipeCheck] = []
    for name in names or tuple(shipped_recipes()):
        try:
            checks.append(check_recipe(read_recipe(name, list(sets)), here, name))
        except SynthgenError as error:
            checks.append(RecipeCheck(name, (str(error),), ()))
    return checks


def _cached(here: Machine) -> str:
    names = (f"{name} (in part)" if name in here.hub_halves else name for name in here.hub_models)
    return ", ".join(names) or "no model"


def lines(here: Machine, checks: Sequence[RecipeCheck]) -> list[str]:
    """The whole as plain text."""
    gpus = ", ".join(f"{gpu.name} {gpu.memory_gib:g} GiB" if gpu.memory_gib else gpu.name for gpu in here.gpus)
    installed = ", ".join(f"{name} {version}" for name, version in here.packages.items() if version)
    absent = ", ".join(name for name, version in here.packages.items() if not version)
    minis = ", ".join(f"{name} {size:g} MiB" for name, size in here.minis.items())
    token, offline = "set" if here.hub_token else "not set", ", offline" if here.hub_offline else ""
    report = [
        f"machine     {here.system}, {here.cores} cores, {here.free_disk_gib:g} GiB of disk free, Python {here.python}",
        f"GPU         {gpus or 'none: the mini models run anyway, models of the Hub are slow'}",
        f"installed   {installed}",
        f"absent      {absent or 'nothing'}",
        f"minis       {minis or 'none: train them with python -m synthgen.minis.train'}",
        f"Hub         token {token}{offline}; cached: {_cached(here)}",
        "",
    ]
    for check in checks:
        report.append(
            f"{check.name}: {'would run' if check.would_run else f'would not run, {len(check.missing)} missing'}"
        )
        report += [f"  missing: {line}" for line in check.missing]
        report += [f"  note: {line}" for line in check.notes]
    return report
