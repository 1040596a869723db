"""Every setting of a run, with its range, its default and where the number comes from.

Defaults here < the recipe's YAML < `--set a.b=value`. A misspelt key, a wrong type or a value out of range is refused
with its name. Tags in descriptions are told in synthgen/settings.py. A bare recipe name is a shipped one
(`pipelines/<name>.yaml`); a path has a `/` or ends in `.yaml`.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from segkit.documents import parse_yaml, read_yaml
from segkit.errors import InputError
from segkit.printable import excerpt
from synthgen.adapt_settings import Adapt
from synthgen.backends import check_options, statement
from synthgen.errors import RecipeError, did_you_mean
from synthgen.pack_settings import Pack
from synthgen.settings import Execution, Filter, Labels, Prompts, Refine, Render, Section, Support
from synthgen.shipped import shipped_folder

LOCK = "recipe.lock.yaml"  # of a run folder: the recipe as it was run
# options of sections and backends that name a file or folder, and those that may name what ships or lies on the Hub too
_PLACES = (
    *("folder", "path", "control_images", "control_translation", "denoiser_file", "certificate", "private_key"),
    "apart_from",
)
_NAMES_OR_PLACES = ("space", "vocabulary", "model", "controlnet", "lora", "control_palette", "card")


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="names the run folder")
    title: str = Field("", description="one line for the data card")
    seed: int = Field(0, ge=0, lt=2**31, description="run seed: sample keys, and so noise seeds, follow from it")
    labels: Labels
    support: Support = Support()
    prompts: Prompts = Prompts()
    render: Render = Render()
    refine: Refine = Refine()
    filter: Filter = Filter()
    pack: Pack = Pack()
    adapt: Adapt = Adapt()
    models: dict[str, str] = Field(
        {}, description="commit of each Hub model (`owner/name` or `owner/name@revision`), as a run has written it"
    )
    execution: Execution = Execution()

    @model_validator(mode="before")
    @classmethod
    def _embedder_of_the_renderer(cls, raw: Any) -> Any:
        """What `prompts.embedder: null` means, a recipe without it, and one that names some of its options only."""
        prompts = raw.get("prompts", {}) if isinstance(raw, dict) else None
        given = (prompts.get("embedder") or {}) if isinstance(prompts, dict) else None
        if not isinstance(prompts, dict) or not isinstance(given, dict) or "name" in given:
            return raw
        return {**raw, "prompts": {**prompts, "embedder": {**_own_text_encoder(raw), **given}}}

    @field_validator("support")
    @classmethod
    def _one_support(cls, value: Support) -> Support:
        if value.folder and value.drawn:
            raise ValueError(
                "give either support.folder or support.drawn, not both; `--set support.drawn=null` takes back "
                "the recipe's drawn ones"
            )
        return value


def _own_text_encoder(raw: dict[str, Any]) -> dict[str, Any]:
    """`{name, **options}` of the text encoder that the renderer of a raw recipe attends to: what its file's
    `text_encoder_of(options)` says."""
    render = raw.get("render", {})
    renderer = render.get("renderer", Render().renderer.model_dump()) if isinstance(render, dict) else None
    default = Prompts().embedder.model_dump()
    if not isinstance(renderer, dict) or "name" not in renderer:
        return default  # refused by name
    try:
        found: dict[str, Any] | None = statement("renderer", renderer, "text_encoder_of", None)
    except (RecipeError, TypeError):  # likewise: of the renderer
        return default
    return found or default


def read_recipe(name_or_path: str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Read, override (`a.b=value`, the value is YAML), validate. Raises RecipeError in one line."""
    path = recipe_path(name_or_path)
    raw = read_yaml(path, RecipeError)
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of settings, this is {type(raw).__name__}")
    if path.parent != shipped_folder("pipelines"):
        raw = _beside(raw, path.parent, written_here=path.name == LOCK)
    return recipe_of_sets(raw, overrides, str(path))


def _beside(node: Any, folder: Path, key: str = "", *, written_here: bool = False) -> Any:
    """A recipe's mapping in which each relative place that lies beside the recipe says where it is. Others stay: they
    are names of what ships, ids of the Hub, or places below the working directory, as those of `--set` are. So are
    those that a run has `written_here`: a run folder has a `dataset` of its own.
    """
    if isinstance(node, dict):
        return {name: _beside(value, folder, str(name), written_here=written_here) for name, value in node.items()}
    if isinstance(node, list):
        return [_beside(value, folder, key, written_here=written_here) for value in node]
    is_place = key in _PLACES or (key in _NAMES_OR_PLACES and ("/" in str(node) or Path(str(node)).suffix))
    if not isinstance(node, str) or not node or not is_place or Path(node).expanduser().is_absolute():
        return node
    try:
        stays = (written_here and Path(node).exists()) or not (folder / node).exists()
        return node if stays else str(folder / node)
    except OSError:  # too long for a name: told by whoever reads it
        return node


def recipe_of_sets(raw: dict[str, Any], overrides: Sequence[str], where: str) -> Recipe:
    """Put the `a.b=value` of `--set` into a mapping and validate it. Raises RecipeError in one line."""
    for override in overrides:
        _override(raw, override)
    return recipe_of(raw, where)


def recipe_of(raw: dict[str, Any], where: str) -> Recipe:
    """Validate a mapping, backend options included."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first_problem(error)}") from error
    for role, config in (*chosen_backends(recipe).items(), *gate_backends(recipe).values()):
        try:
            check_options(role, config)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error
    return recipe


def chosen_backends(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """role -> `{name, **options}` of every backend that the recipe uses."""
    return {
        "prompt_source": recipe.prompts.source.model_dump(),
        "text_encoder": recipe.prompts.embedder.model_dump(),
        "composer": recipe.render.compose.model_dump(),
        "renderer": recipe.render.renderer.model_dump(),
        "feature_extractor": recipe.refine.features.model_dump(),
        "proposer": recipe.refine.proposer.model_dump(),
        "mask_decoder": recipe.refine.mask_decoder.model_dump(),
        "image_scorer": recipe.filter.scorer.model_dump(),
    }


def gate_backends(recipe: Recipe) -> dict[str, tuple[str, dict[str, Any]]]:
    """gate -> (role, `{name, **options}`) of what gates ask beside those. SAM's gate asks refine.mask_decoder."""
    segmenter = recipe.render.gates.known_class.segmenter
    return {} if segmenter is None else {"known_class": ("proposer", segmenter.model_dump())}


def recipe_path(name_or_path: str) -> Path:
    """Where a recipe lies. Raises RecipeError that lists the shipped ones if there is none."""
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if path.is_file():
            return path
        raise RecipeError(
            f"recipe {name_or_path!r}: no such file; shipped recipes go by bare name: {', '.join(shipped_recipes())}"
        )
    path = shipped_folder("pipelines") / f"{name_or_path}.yaml"
    if not path.is_file():
        known = shipped_recipes()
        near = did_you_mean(name_or_path, known)
        raise RecipeError(
            f"recipe {name_or_path!r} is not shipped; there are: {', '.join(known)} (a path has a `/` or ends in "
            f".yaml){near}"
        )
    return path


def shipped_recipes() -> list[str]:
    """Names of the recipes that ship, sorted."""
    return sorted(path.stem for path in shipped_folder("pipelines").glob("*.yaml"))


def _override(raw: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise RecipeError(f"--set {override!r}: write it as a.b=value")
    try:
        value = parse_yaml(text, f"--set {excerpt(override)}", comment_after=False)
    except InputError as error:
        raise RecipeError(str(error)) from error
    *parents, last = dotted.strip().split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:  # a section that is off
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override!r}: {parent!r} is a value, not a section")
        node = child
    node[last] = value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"])) or "recipe"
    if problem["type"] == "extra_forbidden":
        section: Any = Recipe
        for part in problem["loc"][:-1]:
            kinds = typing.get_args(section.model_fields[part].annotation)  # `Section | None`
            section = next(
                (kind for kind in kinds if hasattr(kind, "model_fields")), section.model_fields[part].annotation
            )
        near = did_you_mean(str(problem["loc"][-1]), section.model_fields)
        return (
            f"{key}: no such setting; {'.'.join(map(str, problem['loc'][:-1])) or 'a recipe'} has: "
            f"{', '.join(section.model_fields)}{near}"
        )
    if problem["type"] == "missing":
        return f"{key}: is missing"
    said = problem["msg"].removeprefix("Value error, ")  # pydantic's word before what a validator of ours raises
    got = "" if isinstance(problem["input"], dict) else f" (got {excerpt(problem['input'])})"
    return f"{key}: {said}{got}"
