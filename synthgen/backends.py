"""How a backend is found: a backend is a file.

`renderer: {name: sd3}` is `synthgen/models/renderers/sd3.py`; a name with a dot is somebody else's module. A backend
file has two public names: `class Options(BaseModel, extra="forbid")` and `def build(options, execution)`. torch is
imported inside `build`, never at the top. There is no list to edit: the folder is the list.

What else a file may say of itself are functions beside `build` (docs/ADD_A_BACKEND.md, "What a backend says of
itself"): `statement` calls one, or gives the default of a file that has none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from segkit.printable import excerpt
from synthgen import plugins
from synthgen.errors import RecipeError, did_you_mean

ROLES = {
    "prompt_source": "synthgen.prompts.sources",
    "text_encoder": "synthgen.models.text_encoders",
    "composer": "synthgen.render.compose",
    "renderer": "synthgen.models.renderers",
    "feature_extractor": "synthgen.models.feature_extractors",
    "proposer": "synthgen.models.proposers",
    "mask_decoder": "synthgen.models.mask_decoders",
    "image_scorer": "synthgen.models.image_scorers",
}

_MEMBERS = {
    "prompt_source": ("candidates",),
    "text_encoder": ("id", "encode"),
    "composer": ("prepare", "compose"),
    "renderer": ("id", "revision", "expect_labels", "prepare", "render"),
    "feature_extractor": ("id", "features"),
    "proposer": ("prepare", "propose"),
    "mask_decoder": ("id", "decode"),
    "image_scorer": ("id", "embed_images", "embed_texts"),
}  # of the object that `build` gives: what the protocol of the role has


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a backend takes, as far as it can be said without loading it. All zero: next to nothing."""

    parameters: float = 0.0  # of its largest network
    operations: float | None = 0.0  # multiplications and additions for one item (prompt or image); None = unknown
    memory_gb: float = 0.0  # of the device: weights, and what one call works with
    item_bytes: float = 0.0  # that stay in the run folder for each item
    downloads_gb: Mapping[str, float] = dataclasses.field(default_factory=dict)  # Hub id -> 10^9 bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Licence:
    """What some weights may be used for. Empty texts where nothing is known."""

    name: str = ""
    link: str = ""
    hub_name: str = ""  # `license_name` of a dataset card, for a licence that goes over to the pictures that are made


def available(role: str) -> list[str]:
    """Names of the backends that ship for a role, sorted. The folder is the list."""
    return list(plugins.available(ROLES[role]))


def find(role: str, name: str) -> ModuleType:
    """The module of a backend. Raises RecipeError that lists the known names if there is none."""
    return plugins.find(
        ROLES[role],
        name,
        kind=role,
        public=("Options", "build"),
        document="docs/ADD_A_BACKEND.md",
        error=RecipeError,
    )


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
            f"{role} {name!r}: {key}: {first['msg']} (got {excerpt(first.get('input'))}); its keys are: "
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


def statement(role: str, config: Mapping[str, Any], name: str, default: Any, *context: Any) -> Any:
    """What the function `name(options, *context)` of a backend's file says; `default` if the file has none.

    Raises RecipeError as `check_options` does.
    """
    options = check_options(role, dict(config))
    function = getattr(find(role, str(config["name"])), name, None)
    return default if function is None else function(options, *context)


def cost(role: str, config: Mapping[str, Any], size: tuple[int, int], execution: Any) -> Cost | None:
    """What the backend takes for images of `size` (H, W): its `cost(options, size, execution)`; None = unknown."""
    answer: Cost | None = statement(role, config, "cost", None, size, execution)
    return answer


def weights(role: str, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(model, revision asked for) of everything that the backend loads: its `weights(options)`, or else its options
    `model`, `controlnet` and `lora`, those of nested parts too.
    """
    options = check_options(role, dict(config))
    answer = statement(role, config, "weights", None)
    return list(_models_in(options.model_dump(mode="json"))) if answer is None else list(answer)


def _models_in(options: Any) -> Iterator[tuple[str, str]]:
    if isinstance(options, dict):
        for name in ("model", "controlnet", "lora"):
            if isinstance(options.get(name), str) and options[name]:
                revision = options.get("revision" if name == "model" else f"{name}_revision", "")
                yield options[name], revision if isinstance(revision, str) else ""
        options = list(options.values())
    if isinstance(options, (list, tuple)):
        for value in options:
            yield from _models_in(value)
