"""`recipe.lock.yaml`: the recipe as it was run, the commits of its Hub models, and the claim of a run folder.

The first launch writes it, before any stage begins; whoever comes later works by the same recipe or is refused. It is a
recipe itself: `synthgen run RUN/recipe.lock.yaml` repeats the run with the same weights.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from segkit.documents import MAX_YAML_BYTES, parse_yaml
from segkit.files import read_regular
from synthgen import claims, storage
from synthgen.backends import weights
from synthgen.errors import InputError, ModelError, RecipeError, RunError
from synthgen.files import write_first, write_text
from synthgen.models.provenance import pinned, revision_of
from synthgen.models.used import used_parts
from synthgen.models.weights import resolve
from synthgen.recipe import LOCK, Recipe, recipe_of

_FOREIGN = "is not a lock that synthgen has written; move it away or choose another run folder (--run)"
MARK = "# The recipe as it was run."  # the first words of a lock: what does not begin so is somebody else's file
VERSIONED = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "open_clip_torch",
    "segment-anything",
    "numpy",
    "pillow",
    "pyarrow",
    "scipy",
)
# what makes no sample: speed, words on the card, and where folders lie, whose content the stages fingerprint
_WORDS = ("card", "license", "license_name", "license_link", "creator", "url", "date_published")
_PLACES = ("folder", "path", "replies", "vocabulary", "control_images")


def read_lock(run: Path) -> Recipe | None:
    """The locked recipe; None if the folder has no lock, or one that was cut and binds nobody.

    Raises RunError for a file of this name that is not ours.
    """
    path = run / LOCK
    storage.refresh(path)
    if not os.path.lexists(path):
        return None
    data = read_regular(path, MAX_YAML_BYTES, RunError)
    if not data.startswith(MARK.encode()):
        raise RunError(f"{path}: {_FOREIGN}")
    try:
        return recipe_of(parse_yaml(data, str(path)), str(path))
    except (InputError, RecipeError):
        return None


def take(recipe: Recipe, run: Path, redo: str = "") -> Recipe:
    """Claim a run folder for a recipe, and give the recipe with its models pinned. Run again, it changes nothing.

    Raises RunError, naming the setting, if the folder was begun with another recipe and `redo` names no stage from
    which to begin again, and ModelError if a Hub id cannot be resolved.
    """
    locked = read_lock(run)
    if locked is not None:
        refuse_other(locked, recipe, run, redo)
    recipe = pin(recipe, locked)
    if locked is not None or (run / LOCK).exists():
        if locked is None or locked.model_dump(mode="json") != recipe.model_dump(mode="json"):
            write_text(_text(recipe), run / LOCK)
            storage.publish(run / LOCK)
        return recipe
    if write_first(_text(recipe), run / LOCK) and storage.publish_first(run / LOCK):
        return recipe
    first = read_lock(run)  # another launch was faster: its recipe holds
    if first is None:
        raise RunError(f"{run / LOCK}: another launch is writing it; run the same command again")
    refuse_other(first, recipe, run, redo)
    return pin(recipe, first)


def release(run: Path) -> None:
    """Take the claim back: for a launch that has failed before any stage came to anything."""
    if read_lock(run) is not None and storage.store_of(run) is None:
        (run / LOCK).unlink(missing_ok=True)


def pin(recipe: Recipe, locked: Recipe | None = None) -> Recipe:
    """The recipe with a commit for every Hub model that it loads: the locked ones, the recipe's own, else the Hub's
    answer.

    Raises ModelError if an id cannot be resolved.
    """
    with pinned({**recipe.models, **(locked.models if locked else {})}) as pins:
        for _, role, config in used_parts(recipe):
            for model, revision in weights(role, config):
                if model_is_on_hub(model):
                    revision_of(model, revision)
    return recipe.model_copy(update={"models": dict(sorted(pins.commits.items()))})


def model_is_on_hub(model: str) -> bool:
    """Whether a model name is an id of the Hub, and no local file or mini."""
    try:
        return isinstance(resolve(model), str)
    except ModelError:
        return False


def refuse_other(locked: Recipe, recipe: Recipe, run: Path, redo: str = "") -> None:
    """Raise RunError, naming what differs, if a run folder was begun with other settings or other weights."""
    moved = {
        name: (locked.models[name], new) for name, new in recipe.models.items() if locked.models.get(name, new) != new
    }
    for name, (commit, new) in moved.items():
        raise RunError(
            f"{run}: this run was made with {name} at commit {commit}, the recipe now says {new}; use another run "
            "folder (--run)"
        )
    before, now = identity(locked), identity(recipe)
    if before != now and not redo:
        name, old, new = claims.first_difference(before, now)
        raise RunError(
            f"{run}: this run was made with {name} = {old!r}, the recipe now says {new!r}; use another run folder "
            "(--run), or --redo STAGE to keep the old results aside and make them again"
        )


def identity(recipe: Recipe) -> dict[str, Any]:
    """The settings that tell one run from another: what makes samples, by value."""
    settings = recipe.model_dump(mode="json")
    execution = settings.pop("execution")
    settings["execution"] = {"quantise": execution["quantise"]}
    for name in ("models", "name", "title", "adapt"):
        del settings[name]
    for name in _WORDS:
        del settings["pack"][name]
    settings["labels"].pop("space")
    settings["prompts"].pop("apart_from")
    for section in (settings["support"], settings["prompts"]["source"], settings["render"]["object_bank"] or {}):
        for name in _PLACES:
            section.pop(name, None)
    return settings


def _text(recipe: Recipe) -> str:
    versions = {"python": platform.python_version()}
    for package in ("synthgen-seg", *VERSIONED):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    body = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    notes = "".join(f"# {package} {version}\n" for package, version in versions.items())
    return f"{MARK} `synthgen run {LOCK}` repeats it.\n{notes}{body}"
