"""What the stages of a run would take: units, rows, disk, operations, memory. Nothing is written, downloaded or loaded.

Counts of rows are the most that there can be: the bank may stay short of its quota, and what a stage refuses does not
reach the next. What models take is what their backends say (`cost`); a backend that says nothing makes its stage's
operations and memory None, unknown. Bytes of images are those of photographs; a confidence map and the masks together
take about 0.4 byte a pixel [guess].

Where gates judge pasted objects, an image takes several attempts: as many as follow if a quarter of them passes [of 36
first attempts of cgaug-mini 9 did; a guess for all others], and render.attempts at the most.
"""

from __future__ import annotations

import dataclasses
import math

from synthgen.backends import Cost, cost, statement
from synthgen.classes import wanted_classes
from synthgen.errors import SynthgenError
from synthgen.labels import read_label_space
from synthgen.models.costs import SMALL
from synthgen.models.sizes import GB
from synthgen.models.used import used_backends
from synthgen.recipe import Recipe, gate_backends

TRIED = 2.0  # candidates for each prompt that is accepted: 50 % should pass
PNG, JPEG, MASKS = 1.6, 0.45, 0.4  # bytes a pixel: photographs losslessly, at quality 95, and a sample's masks
PASSES = 0.25  # share of the attempts that the gates let pass
SCORES, DECISION = 4096.0, 1024.0  # bytes of a row of `score` and of `filter`
_ROLES = {
    "prompts": ("prompt_source", "text_encoder"),
    "render": ("composer", "renderer"),
    "refine": ("feature_extractor", "proposer", "mask_decoder"),
    "score": ("image_scorer",),
    "filter": (),
    "pack": (),
}


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptPlan:
    """Attempts for one image with a pasted object."""

    expected: float
    worst: int


@dataclasses.dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage. None is unknown: what cannot be counted, or what a backend does not say."""

    name: str
    units: int | None  # at most
    rows: int | None  # at most
    disk_gb: float | None
    operations: float | None  # of the expected attempts
    gpu_memory_gb: float | None  # of the models' weights and their work
    units_done: int = 0  # in the run folder
    worst_operations: float | None = None  # of all attempts; None where there is one, too


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """All stages of a run."""

    num_classes: int | None
    num_prompts: int | None
    problem: str  # why nothing can be counted; "" = it can
    stages: tuple[StagePlan, ...]
    needs_gpu: bool  # of the backends that say what they take
    unknown: tuple[str, ...]  # backends that do not: "renderer my_backends.dots"
    downloads_gb: dict[str, float]  # Hub id -> 10^9 bytes, cached or not
    attempts: AttemptPlan | None = None  # None where each image is made once

    @property
    def operations(self) -> float | None:
        values = [stage.operations for stage in self.stages]
        return None if None in values else sum(value for value in values if value is not None)

    @property
    def worst_operations(self) -> float | None:
        """If every image took all its attempts; None if unknown, or if there is only one."""
        more = [stage.worst_operations - (stage.operations or 0) for stage in self.stages if stage.worst_operations]
        return self.operations + sum(more) if more and self.operations is not None else None

    @property
    def disk_gb(self) -> float | None:
        values = [stage.disk_gb for stage in self.stages]
        return None if None in values else sum(value for value in values if value is not None)

    @property
    def gpu_memory_gb(self) -> float | None:
        """Of the stage that needs most: stages run one after the other."""
        values = [stage.gpu_memory_gb for stage in self.stages]
        return None if None in values else max(value for value in values if value is not None)


def estimate(recipe: Recipe) -> Estimate:
    """What can be said of a recipe. What is wrong with it becomes `problem`, never an error."""
    num_classes, num_prompts, problem = None, None, ""
    try:
        wanted = wanted_classes(recipe, read_label_space(recipe.labels.space))
        num_classes = len(wanted)
        given = statement("prompt_source", recipe.prompts.source.model_dump(), "num_given", None)
        num_prompts = sum(recipe.prompts.quota(c.name) for c in wanted) if given is None else int(given)
    except SynthgenError as error:
        problem = str(error)
    costs, unknown = _costs(recipe)
    attempts, roles = _attempts(recipe), _roles(recipe)
    return Estimate(
        num_classes,
        num_prompts,
        problem,
        tuple(
            _stage(recipe, name, num_prompts, [costs[r] for r in roles[name] if r in costs], attempts) for name in roles
        ),
        any(one is not None and one.parameters > SMALL for one in costs.values()),
        tuple(unknown),
        {model: size for one in costs.values() if one is not None for model, size in one.downloads_gb.items()},
        attempts,
    )


def _attempts(recipe: Recipe) -> AttemptPlan | None:
    """None without gates, or if an image is tried once."""
    most = recipe.render.attempts
    if most == 1 or not (recipe.render.gates.sam_agreement.enabled or gate_backends(recipe)):
        return None
    return AttemptPlan((1 - (1 - PASSES) ** most) / PASSES, most)


def _roles(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """stage -> keys of `_costs`: gates work while images are rendered."""
    refine = tuple(role for role in _ROLES["refine"] if role != "mask_decoder" or recipe.refine.sabr.enabled)
    gates = (*(("mask_decoder",) if recipe.render.gates.sam_agreement.enabled else ()), *gate_backends(recipe))
    return {**_ROLES, "render": (*_ROLES["render"], *gates), "refine": refine}


def _costs(recipe: Recipe) -> tuple[dict[str, Cost | None], list[str]]:
    """role or gate -> cost of every backend that takes part; the names of those that say none, or cannot be asked. A
    gate that does not say its operations is named, and counts as none: it looks at an image once, beside rendering.
    """
    costs: dict[str, Cost | None] = {}
    unknown = []
    size = (recipe.render.height_px, recipe.render.width_px)
    try:
        used = used_backends(recipe)
    except SynthgenError:  # a backend that cannot be found: listed as missing
        return dict.fromkeys((role for roles in _ROLES.values() for role in roles), None), []
    for role, config in used.items():
        try:
            costs[role] = cost(role, config, size, recipe.execution)
        except SynthgenError:  # listed as missing
            costs[role] = None
        answer = costs[role]
        if answer is None or answer.operations is None:
            unknown.append(f"{role} {config['name']}")
    for gate, (role, config) in gate_backends(recipe).items():
        try:
            answer = cost(role, config, size, recipe.execution)
        except SynthgenError:  # listed as missing
            answer = None
        if answer is None or answer.operations is None:
            unknown.append(f"gate {gate} {config['name']}")
        costs[gate] = dataclasses.replace(answer, operations=answer.operations or 0.0) if answer else Cost()
    return costs, unknown


def _stage(
    recipe: Recipe, name: str, num_prompts: int | None, own: list[Cost | None], attempts: AttemptPlan | None
) -> StagePlan:
    """`own` are the costs of what works in the stage."""
    known = [one for one in own if one is not None]
    memory_gb = sum(one.memory_gb for one in known) if len(known) == len(own) else None
    if num_prompts is None:
        return StagePlan(name, None, None, None, None, memory_gb)
    images = num_prompts * recipe.render.images_per_prompt
    items = num_prompts * (1 if recipe.prompts.lambda_div == 1 else TRIED) if name == "prompts" else images
    operations = [one.operations for one in known]
    each = None
    if len(known) == len(own) and None not in operations:
        each = items * sum(value for value in operations if value is not None)
    tries = attempts if name == "render" else None
    units, rows, row_bytes = _rows(recipe, name, num_prompts, images)
    return StagePlan(
        name,
        units,
        rows,
        rows * (row_bytes + sum(one.item_bytes for one in known)) / GB,
        each * tries.expected if each is not None and tries else each,
        memory_gb,
        worst_operations=each * tries.worst if each is not None and tries else None,
    )


def _rows(recipe: Recipe, name: str, num_prompts: int, images: int) -> tuple[int, int, float]:
    """(units, rows, bytes of a row on the disk) of a stage."""
    pixels = recipe.render.height_px * recipe.render.width_px
    units = max(1, math.ceil(images / recipe.execution.unit_rows))
    shards = max(1, math.ceil(images / recipe.pack.samples_per_shard)) + (recipe.pack.validation_fraction > 0)
    return {
        "prompts": (1, num_prompts, 0.0),
        "render": (units, images, pixels * PNG),
        "refine": (units, images, pixels * MASKS),
        "score": (units, images, SCORES),
        "filter": (1, images, DECISION),
        # each shard is written in its unit and linked into dataset/
        "pack": (shards, images, pixels * (JPEG + MASKS)),
    }[name]
