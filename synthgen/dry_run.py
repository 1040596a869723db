"""What a run would be before it begins: units, rows, time, disk, memory, and what is missing.

Nothing is written, downloaded or loaded.

Counts of rows are the most that there can be: the bank may stay short of its quota, and what a stage refuses does not
reach the next.

Times are operations over speed, not measurements: operations of the denoiser (all steps, twice with guidance), the text
encoders, SAM and CLIP as synthgen/models/sizes.py has them, at 40 % of a GPU's peak in bfloat16 [guess], or at what a
core of a CPU reaches with the minis [measured: a 64 px image in 0.375 s]. Bytes of images are those of photographs; a
confidence map and the masks together take about 0.4 byte a pixel [guess].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from synthgen import lock, pipeline, stages
from synthgen.backends import check_options, load
from synthgen.doctor import Machine, check_recipe
from synthgen.errors import SynthgenError
from synthgen.labels import read_label_space
from synthgen.models.provenance import unasked
from synthgen.models.sizes import GB, TEXT_TOKENS, Denoiser, Encoder, clip_of, denoiser_of, sam_of
from synthgen.progress import duration
from synthgen.prompts.stage import wanted_classes
from synthgen.recipe import Recipe, chosen_backends

GPUS = {"H100": 989e12, "A100": 312e12, "RTX 4090": 165e12}  # dense bfloat16, from the makers' data sheets
REACHED = 0.4
CORE = 8e10  # operations a second of one core
TRIED = 2.0  # candidates for each prompt that is accepted: 50 % should pass
PNG, JPEG, MASKS = 1.6, 0.45, 0.4  # bytes a pixel: photographs losslessly, at quality 95, and a sample's masks
PROCESS_GB = 1.4  # Python with torch and the libraries [measured: main/peak_rss_gb]
SMALL = 100e6  # parameters: what is smaller needs no GPU
WORK_GB = 2.5  # activations for one megapixel with guidance [guess]
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
QUANTISED = {"none": 1.0, "bnb-nf4": 0.28}  # of 16 bits; the others store 8


@runtime_checkable
class GivesFiles(Protocol):
    """What a prompt source may also have: the number of the user's files that it gives, all of which are accepted."""

    def num_given(self) -> int: ...


@dataclasses.dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage. Estimates are None where a model's size is not known."""

    name: str
    units: int  # at most
    units_done: int  # in the run folder
    rows: int  # at most
    disk_gb: float
    operations: float | None
    gpu_memory_gb: float | None  # of the models' weights and their work


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. GB are 10^9 bytes."""

    recipe: str
    run: str
    what: str  # one line: classes, prompts, images
    stages: tuple[StagePlan, ...]
    needs_gpu: bool
    gpu_hours: dict[str, float]  # GPU -> hours; empty if unknown
    core_hours: float | None  # of one CPU core
    disk_gb: float
    download_gb: float
    free_disk_gb: float
    gpu_memory_gb: float | None
    memory_gb: float | None  # of the machine
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def dry_run(recipe: Recipe, run: Path, here: Machine) -> Plan:
    """The plan of `synthgen run`.

    What is wrong with the recipe, its files or the machine is listed as missing, not raised.
    """
    check = check_recipe(recipe, here)
    missing = dict.fromkeys(check.missing)
    done = _done(recipe, run, missing)
    try:
        classes = [label.name for label in wanted_classes(recipe, read_label_space(recipe.labels.space))]
        num_prompts = _num_prompts(recipe, len(classes))
    except SynthgenError as error:
        missing[str(error)] = None
        classes, num_prompts = [], 0
    models = _Models(recipe)
    stages = tuple(_stages(recipe, num_prompts, done, models))
    known = [stage.operations for stage in stages]
    operations = sum(value for value in known if value is not None) if None not in known else None
    disk_gb = sum(stage.disk_gb for stage in stages)
    memories = [stage.gpu_memory_gb for stage in stages]
    gpu_memory_gb = max(value for value in memories if value is not None) if None not in memories else None
    download_gb = models.download_gb(here)
    _check_machine(here, models.needs_gpu, gpu_memory_gb, disk_gb + download_gb, missing)
    size = f"{recipe.render.height_px} x {recipe.render.width_px} px"
    given = (
        f"{len(classes)} classes x {recipe.prompts.per_class} prompts"
        if num_prompts == len(classes) * recipe.prompts.per_class
        else "as the source gives them"
    )
    return Plan(
        recipe=recipe.name,
        run=str(run),
        what=f"at most {num_prompts:,} prompts ({given}), {recipe.render.images_per_prompt} image(s) each, {size}",
        stages=stages,
        needs_gpu=models.needs_gpu,
        gpu_hours={gpu: operations / (REACHED * peak) / 3600 for gpu, peak in GPUS.items()}
        if operations and models.needs_gpu
        else {},
        core_hours=None if operations is None else operations / CORE / 3600,
        disk_gb=disk_gb,
        download_gb=download_gb,
        free_disk_gb=here.free_disk_gib * 2**30 / GB,
        gpu_memory_gb=gpu_memory_gb,
        # weights pass through the machine's memory, or stay there
        memory_gb=None if gpu_memory_gb is None else recipe.execution.workers * (gpu_memory_gb + PROCESS_GB),
        missing=tuple(missing),
        # missing, then
        notes=tuple(note for note in check.notes if not (models.needs_gpu and note.startswith("no GPU"))),
    )


def _done(recipe: Recipe, run: Path, missing: dict[str, None]) -> dict[str, int]:
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


def _num_prompts(recipe: Recipe, num_classes: int) -> int:
    """At most: quotas, or the files and lines that a source gives."""
    if recipe.prompts.source.name in ("grammar", "llm"):
        return num_classes * recipe.prompts.per_class
    source = load("prompt_source", recipe.prompts.source.model_dump(), recipe.execution)
    return source.num_given() if isinstance(source, GivesFiles) else num_classes * recipe.prompts.per_class


class _Models:
    """Sizes of the models that a recipe names; None for one that is not known."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.options: dict[str, Any] = {}
        for role, config in chosen_backends(recipe).items():
            try:
                self.options[role] = check_options(role, config)
            except SynthgenError:  # told by the doctor
                continue
        self.names = {role: config["name"] for role, config in chosen_backends(recipe).items()}

    def denoiser(self, role: str) -> Denoiser | None:
        """Of the text encoder or the renderer, if it is of the kind `sd3`; photographs have no text to encode."""
        if role == "text_encoder" and self.names["prompt_source"] == "images":
            return None
        return denoiser_of(self.options[role].model) if self.names[role] == "sd3" and role in self.options else None

    def encoders(self, *roles: str) -> list[Encoder]:
        """Of those of the roles that are SAM or CLIP and known; backends without a `model` are small."""
        found = []
        for role in roles:
            model = getattr(self.options.get(role), "model", "")
            if role == "mask_decoder" and not self._recipe.refine.sabr.enabled:
                continue
            name = self.names[role]
            size = (
                sam_of(model, getattr(self.options.get(role), "kind", ""))
                if name == "segment_anything" and model
                else None
            )
            size = clip_of(model) if name in ("open_clip", "dense_clip", "clip") and model else size
            found += [size] if size else []
        return found

    @property
    def renders(self) -> bool:
        """Whether there is anything to render: photographs are only taken over."""
        return self.names["renderer"] != "images"

    def _all(self) -> Iterator[tuple[str, Denoiser | Encoder]]:
        for role in ("text_encoder", "renderer"):
            denoiser = self.denoiser(role)
            if denoiser:
                yield self.options[role].model, denoiser
        for role in ("feature_extractor", "proposer", "mask_decoder", "image_scorer"):
            for size in self.encoders(role):
                yield self.options[role].model, size

    @property
    def needs_gpu(self) -> bool:
        """Whether any model is one that a CPU is too slow for."""
        return any(
            (size.transformer if isinstance(size, Denoiser) else size.parameters) > SMALL for _, size in self._all()
        )

    def download_gb(self, here: Machine) -> float:
        """Of models that are neither local nor in the Hub's cache."""
        wanted = {model.removeprefix("hf-hub:"): size.download_gb for model, size in self._all()}
        return sum(size for model, size in wanted.items() if model not in here.hub_models)


def _stages(recipe: Recipe, num_prompts: int, done: dict[str, int], models: _Models) -> Iterator[StagePlan]:
    render, execution = recipe.render, recipe.execution
    images = num_prompts * render.images_per_prompt
    pixels = render.height_px * render.width_px
    size = execution.unit_rows
    number = BYTES[
        "bfloat16"
        if execution.dtype == "auto" and models.needs_gpu
        else "float32"
        if execution.dtype == "auto"
        else execution.dtype
    ]
    texts, painter = models.denoiser("text_encoder"), models.denoiser("renderer")
    unknown = models.renders and painter is None and models.names["renderer"] == "sd3"

    def stage(
        name: str, units: int, rows: int, disk: float, operations: float | None, memory: float | None
    ) -> StagePlan:
        return StagePlan(name, units, done.get(name, 0), rows, disk / GB, operations, memory)

    tokens = TEXT_TOKENS + (_t5_length(models.options.get("text_encoder")) if texts and texts.t5 else 0)
    kept = num_prompts * tokens * texts.text_width * 4.0 if texts else 0.0
    tried = num_prompts * (TRIED if recipe.prompts.lambda_div < 1 else 1)
    yield stage(
        "prompts",
        1,
        num_prompts,
        kept,
        tried * 2 * texts.texts * tokens if texts else 0.0,
        number * texts.texts / GB if texts else 0.0,
    )
    operations, memory = 0.0, 0.0
    if painter:
        options = models.options["renderer"]
        forwards = options.steps * (2 if options.guidance > 1 else 1)
        operations = images * forwards * painter.operations(render.height_px, render.width_px, tokens)
        weights = painter.transformer * number * QUANTISED.get(execution.quantise, 0.5) / GB
        parts = (weights, painter.vae * number / GB)
        held = {"none": sum(parts), "model": max(parts), "sequential": weights / painter.layers}[execution.offload]
        memory = held + WORK_GB * pixels / 2**20
    units = max(1, math.ceil(images / size))
    yield stage(
        "render", units, images, images * pixels * PNG, None if unknown else operations, None if unknown else memory
    )
    looking = models.encoders("feature_extractor", "proposer", "mask_decoder")
    weights = sum(encoder.parameters for encoder in looking) * 4 / GB  # these stay in float32
    yield stage(
        "refine",
        units,
        images,
        images * pixels * MASKS,
        images * sum(encoder.operations for encoder in looking),
        weights + (1 if weights > 1 else 0),
    )
    scoring = models.encoders("image_scorer")
    yield stage(
        "score",
        units,
        images,
        images * 4096.0,
        images * sum(e.operations for e in scoring),
        sum(e.parameters for e in scoring) * 4 / GB,
    )
    yield stage("filter", 1, images, images * 1024.0, 0.0, 0.0)
    shards = max(1, math.ceil(images / recipe.pack.samples_per_shard)) + (recipe.pack.validation_fraction > 0)
    # each shard is written in its unit and linked into dataset/
    yield stage("pack", shards, images, images * pixels * (JPEG + MASKS), 0.0, 0.0)


def _t5_length(options: Any) -> int:
    if options is None or not getattr(options, "t5", False):
        return 0
    return int(options.max_sequence_length) if options.max_sequence_length >= 0 else 256


def _check_machine(
    here: Machine, needs_gpu: bool, gpu_memory_gb: float | None, disk_gb: float, missing: dict[str, None]
) -> None:
    free_gb = here.free_disk_gib * 2**30 / GB
    if needs_gpu and not here.gpus:
        missing["no GPU here: the models of this recipe need one"] = None
    largest_gb = max((gpu.memory_gib * 2**30 / GB for gpu in here.gpus), default=0.0)
    if needs_gpu and gpu_memory_gb and 0 < largest_gb < gpu_memory_gb:
        missing[
            f"{here.gpus[0].name} has {largest_gb:.0f} GB, about {gpu_memory_gb:.0f} GB are needed: --set "
            "execution.offload=model or "
            "execution.quantise=fp8 need less"
        ] = None
    if disk_gb > free_gb:
        missing[
            f"disk: about {disk_gb:.3g} GB are needed, {free_gb:.3g} GB are free here; choose another place with --runs"
        ] = None


def plan_text(plan: Plan) -> str:
    """The plan as plain text."""
    lines = [f"dry run of {plan.recipe} in {plan.run}: nothing was made", f"{plan.what}", ""]
    lines.append(f"{'stage':8} {'units':>8} {'done':>6} {'rows':>10} {'disk':>10} {'GPU memory':>12}")
    for stage in plan.stages:
        memory = (
            "unknown"
            if stage.gpu_memory_gb is None
            else f"{stage.gpu_memory_gb:.1f} GB"
            if plan.needs_gpu and stage.gpu_memory_gb
            else "-"
        )
        lines.append(
            f"{stage.name:8} {stage.units:8,} {stage.units_done:6,} {stage.rows:10,} {_gb(stage.disk_gb):>10} "
            f"{memory:>12}"
        )
    lines.append("")
    if plan.gpu_hours:
        each = ", ".join(f"{gpu} {hours:.2g} h" for gpu, hours in plan.gpu_hours.items())
        lines.append(f"time      {each} (operations at {REACHED:.0%} of the peak: an estimate, not a measurement)")
    elif plan.core_hours is None:
        lines.append("time      unknown: the renderer's model is neither local nor known")
    else:
        core = duration(plan.core_hours * 3600)
        lines.append(
            f"time      about {core} of one CPU core for the images (operations over speed: an estimate, not a "
            "measurement)"
        )
    lines.append(
        f"disk      {_gb(plan.disk_gb)} in the run folder, {_gb(plan.download_gb)} to download; "
        f"{_gb(plan.free_disk_gb)} are free"
    )
    if plan.gpu_memory_gb is not None and plan.memory_gb is not None:
        gpu = f"about {plan.gpu_memory_gb:.0f} GB on the GPU, " if plan.needs_gpu else ""
        lines.append(f"memory    {gpu}{plan.memory_gb:.0f} GB of the machine's")
    lines += [f"missing   {each}" for each in plan.missing] or ["missing   nothing"]
    lines += [f"note      {each}" for each in plan.notes]
    return "\n".join(lines)


def _gb(value: float) -> str:
    return f"{value:.3g} GB" if value >= 1 else f"{value * 1000:.3g} MB"
