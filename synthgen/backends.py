"""How a backend is found: a backend is a file.

`renderer: {name: sd3}` is `synthgen/models/renderers/sd3.py`; a name with a dot is somebody else's module. A backend
file has two public names: `class Options(BaseModel, extra="forbid")` and `def build(options, execution)`. torch is
imported inside `build`, never at the top. There is no list to edit: the folder is the list.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from synthgen.errors import RecipeError, did_you_mean

ROLES = {
    "prompt_source": "synthgen.prompts.sources",
    "text_encoder": "synthgen.models.text_encoders",
    "renderer": "synthgen.models.renderers",
    "feature_extractor": "synthgen.models.feature_extractors",
    "proposer": "synthgen.models.proposers",
    "mask_decoder": "synthgen.models.mask_decoders",
    "image_scorer": "synthgen.models.image_scorers",
}

_MEMBERS = {
    "prompt_source": ("candidates",),
    "text_encoder": ("id", "encode"),
    "renderer": ("id", "revision", "prepare", "render"),
    "feature_extractor": ("id", "features"),
    "proposer": ("prepare", "propose"),
    "mask_decoder": ("id", "decode"),
    "image_scorer": ("id", "embed_images", "embed_texts"),
}  # of the object that `build` gives: what the protocol of the role has


def available(role: str) -> list[str]:
    """Names of the backends that ship for a role, sorted. The folder is the list."""
    package = importlib.import_module(ROLES[role])
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def find(role: str, name: str) -> ModuleType:
    """The module of a backend. Raises RecipeError that lists the known names if there is none."""
    shipped = "." not in name
    if not all(part.isidentifier() for part in name.split(".")):
        raise RecipeError(
            f"{role} {name!r} is no module name; there are: {', '.join(available(role))} (a name with a dot is a "
            "module of your own)"
        )
    path = f"{ROLES[role]}.{name}" if shipped else name
    if shipped and name not in available(role):
        near = did_you_mean(name, available(role))
        raise RecipeError(
            f"{role} {name!r} is not known; there are: {', '.join(available(role))} (a name with a dot is a "
            f"module of your own){near}"
        )
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{path}.".startswith(f"{error.name}."):
            raise RecipeError(f"{role} {name!r} needs the package {error.name!r}, which is not installed") from error
        raise RecipeError(f"{role} {name!r}: no module of that name can be imported") from error
    for public in ("Options", "build"):
        if not hasattr(module, public):
            raise RecipeError(f"{role} {name!r}: {module.__name__} has no {public!r}; see docs/ADD_A_BACKEND.md")
    return module


def check_options(role: str, config: dict[str, Any]) -> Any:
    """The validated Options of a `{name: ..., **options}` mapping. Raises RecipeError with the key that is wrong."""
    settings = dict(config)
    name = str(settings.pop("name"))
    try:
        return find(role, name).Options(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = find(role, name).Options.model_fields
        near = did_you_mean(key, known) if first["type"] == "extra_forbidden" else ""
        raise RecipeError(
            f"{role} {name!r}: {key}: {first['msg']} (got {first.get('input')!r}); its keys are: "
            f"{', '.join(known)}{near}"
        ) from error


def load(role: str, config: dict[str, Any], execution: Any) -> Any:
    """Build the backend of a `{name: ..., **options}` mapping; this is where weights are read.

    Raises RecipeError for an object that lacks a member of its role's protocol.
    """
    name = str(config["name"])
    backend = find(role, name).build(check_options(role, config), execution)
    lacking = [member for member in _MEMBERS[role] if not hasattr(backend, member)]
    if lacking:
        raise RecipeError(
            f"{role} {name!r}: the {type(backend).__name__} that `build` gives lacks {', '.join(lacking)}; derive it "
            "from the protocol that docs/ADD_A_BACKEND.md names"
        )
    return backend
