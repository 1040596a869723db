"""Whether a recipe would run on a machine: the one judgement of `synthgen doctor` and of `--dry-run`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgen import stages
from synthgen.backends import find, statement, weights
from synthgen.errors import SynthgenError
from synthgen.models.hub_cache import concerns
from synthgen.models.provenance import unasked
from synthgen.models.sharing import shares_text
from synthgen.models.sizes import GB
from synthgen.models.used import generates, used_backends, used_parts
from synthgen.models.weights import resolve
from synthgen.planning.estimate import Estimate, estimate
from synthgen.planning.machine import Machine
from synthgen.recipe import Recipe, chosen_backends, gate_backends


@dataclasses.dataclass(frozen=True, slots=True)
class RecipeCheck:
    """Whether a recipe would run here: it would if nothing is `missing`; `notes` are worth knowing."""

    name: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def would_run(self) -> bool:
        return not self.missing


def check_recipe(recipe: Recipe, here: Machine, name: str = "") -> RecipeCheck:
    """What a run would stumble over: backends, packages, weights, label space, support set, prompts, photographs, GPU,
    memory, disk. Everything at once; nothing is raised, downloaded or loaded.
    """
    missing: dict[str, None] = {}  # a set that keeps its order
    notes: dict[str, None] = {}
    _check_backends(recipe, here, missing, notes)
    with unasked(recipe.models):
        for module in stages.modules().values():
            try:
                module.settings(recipe)
            except SynthgenError as error:
                missing[str(error)] = None
    sizes = estimate(recipe)
    if sizes.problem:
        missing[sizes.problem] = None
    _check_machine(here, sizes, missing, notes)
    _check_domain(recipe, notes)
    _check_texts(recipe, notes)
    return RecipeCheck(name or recipe.name, tuple(missing), tuple(notes))


def download_gb(sizes: Estimate, here: Machine) -> float:
    """Of models that are neither local nor in the Hub's cache; 10^9 bytes."""
    halves = here.hub_halves
    return sum(
        max(0.0, size - halves[model].cached_gb) if model in halves else size
        for model, size in sizes.downloads_gb.items()
        if model not in here.hub_models or model in halves
    )


def free_gb(here: Machine) -> float:
    """Free disk in 10^9 bytes."""
    return here.free_disk_gib * 2**30 / GB


def _check_backends(recipe: Recipe, here: Machine, missing: dict[str, None], notes: dict[str, None]) -> None:
    try:
        parts = [(role, config) for _, role, config in used_parts(recipe)]
    except SynthgenError:  # one that cannot be found, and is listed below
        parts = [*chosen_backends(recipe).items(), *gate_backends(recipe).values()]
    for role, config in parts:
        try:
            find(role, str(config["name"]))
            models = [model for model, _ in weights(role, config)]
            loaded = tuple(statement(role, config, "parts", ()))
            sent = statement(role, config, "sends", [])
        except SynthgenError as error:
            missing[str(error)] = None
            continue
        for model in models:
            _check_model(model, loaded, here, missing, notes)
        for host, variable in sent:
            _check_key(host, variable, missing, notes)


def _check_key(host: str, variable: str, missing: dict[str, None], notes: dict[str, None]) -> None:
    key = f", with the key in ${variable}" if variable else ", without a key"
    notes[f"class names and prompts are sent to {host}{key}"] = None
    if variable and not os.environ.get(variable):
        missing[f"the environment has no {variable}; set it to the key of {host}"] = None


def _check_texts(recipe: Recipe, notes: dict[str, None]) -> None:
    """Two text encoders where one would do, and a model that is not sampled as it was taught."""
    try:
        used = used_backends(recipe)
        renderer, encoder = used["renderer"], used.get("text_encoder")
        for note in statement("renderer", renderer, "notes", []):
            notes[str(note)] = None
        own = statement("renderer", renderer, "text_encoder_of", None)
        if encoder is None or own is None or own["name"] != encoder["name"] or shares_text(recipe):
            return
        if own["name"] != renderer["name"]:  # a renderer takes no embeddings but those of its own kind
            return
        mine, its = (_model_of("text_encoder", config) for config in (encoder, own))
    except SynthgenError:  # listed as missing
        return
    notes[
        f"prompts.embedder is {mine}, and the renderer encodes each prompt again with {its}: both are loaded, and "
        "downloaded if they are on the Hub; leave prompts.embedder out to encode each prompt once"
    ] = None


def _model_of(role: str, config: Mapping[str, Any]) -> str:
    """The first model of a backend, as the recipe has it."""
    return next((model for model, _ in weights(role, config)), str(config["name"]))


def _check_domain(recipe: Recipe, notes: dict[str, None]) -> None:
    """A mask decoder that has only seen drawings redraws the boundaries of photographs worse than they were."""
    try:
        used = used_backends(recipe)
        if "mask_decoder" not in used or generates(recipe):
            return
        domain = statement("mask_decoder", used["mask_decoder"], "trained_on", "")
    except SynthgenError:  # listed as missing
        return
    if domain == "drawings":
        notes[
            "refine.mask_decoder has only seen drawings, and SABR lets it redraw the boundaries of photographs: name a "
            "decoder that has seen photographs, or set refine.sabr.enabled to false"
        ] = None


def _check_model(
    model: str, parts: tuple[str, ...], here: Machine, missing: dict[str, None], notes: dict[str, None]
) -> None:
    try:
        place = resolve(model)
    except SynthgenError as error:
        missing[str(error)] = None
        return
    if isinstance(place, Path):
        if place.is_file() and not place.stat().st_size:
            missing[f"{place}: is an empty file; copy the weights again"] = None
        return
    half = here.hub_halves.get(place)
    lacks = [what for what in half.missing if concerns(what, parts)] if half is not None else []
    if place in here.hub_models and not lacks:
        return
    told = "; ".join(what.strip(": ") for what in lacks[:3])
    if here.hub_offline:
        there = f"only a part of it is in the local cache ({told})" if lacks else "not in the local cache"
        missing[f"{place}: {there}, and HF_HUB_OFFLINE is set; download it once, or give a local folder"] = None
    else:
        gated = "" if here.hub_token else "; if it is gated, accept its licence on the Hub and set HF_TOKEN first"
        rest = f", the rest of it ({told})" if lacks else " from the Hub"
        here_not = "" if lacks else "no folder of that name here; "  # `models/mine` may be one that is not made yet
        notes[f"{place}: {here_not}will be downloaded{rest}{gated}"] = None


def _check_machine(here: Machine, sizes: Estimate, missing: dict[str, None], notes: dict[str, None]) -> None:
    if sizes.needs_gpu and not here.gpus:
        missing["no GPU here: the models of this recipe need one"] = None
    elif sizes.unknown and not here.gpus:
        notes[f"no GPU here: what {', '.join(sizes.unknown)} takes is not known"] = None
    largest_gb = max((gpu.memory_gib * 2**30 / GB for gpu in here.gpus), default=0.0)
    needed_gb = sizes.gpu_memory_gb
    if sizes.needs_gpu and needed_gb and 0 < largest_gb < needed_gb:
        missing[
            f"{here.gpus[0].name} has {largest_gb:.0f} GB, about {needed_gb:.0f} GB are needed: --set "
            "execution.offload=model or execution.quantise=fp8 need less"
        ] = None
    disk_gb = (sizes.disk_gb or 0.0) + download_gb(sizes, here)
    if disk_gb > free_gb(here):
        missing[
            f"disk: about {disk_gb:.3g} GB are needed, {free_gb(here):.3g} GB are free here; choose another place "
            "with --runs"
        ] = None
