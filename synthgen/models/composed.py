"""What a backend that is made of others says of itself: the sum of what its parts say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.backends import Cost, Licence, check_options, statement
from synthgen.backends import cost as cost_of
from synthgen.backends import weights as weights_of
from synthgen.errors import RecipeError

Configs = Sequence[Mapping[str, Any]]  # `{name, **options}` of each part


def check_parts(role: str, configs: Configs) -> None:
    """Raise ValueError, for a pydantic validator, if a part is not known or has an option that is wrong."""
    for config in configs:
        try:
            check_options(role, dict(config))
        except RecipeError as error:
            raise ValueError(str(error)) from error


def cost_of_parts(role: str, configs: Configs, size: tuple[int, int], execution: Any) -> Cost | None:
    """All parts, one after the other; unknown if that of one is."""
    costs = [cost_of(role, config, size, execution) for config in configs]
    known = [part for part in costs if part is not None]
    if len(known) < len(costs):
        return None
    operations = [part.operations for part in known]
    return Cost(
        max(part.parameters for part in known),
        None if None in operations else sum(value for value in operations if value is not None),
        sum(part.memory_gb for part in known),
        downloads_gb={model: size_gb for part in known for model, size_gb in part.downloads_gb.items()},
    )


def weights_of_parts(role: str, configs: Configs) -> list[tuple[str, str]]:
    """(model, revision) of everything that any part loads."""
    return [model for config in configs for model in weights_of(role, config)]


def packages_of_parts(role: str, configs: Configs) -> list[str]:
    """Python packages that bring weights."""
    return [name for config in configs for name in statement(role, config, "packages", [])]


def licences_of_parts(role: str, configs: Configs) -> dict[str, Licence]:
    """Model or package -> licence."""
    return {model: licence for config in configs for model, licence in statement(role, config, "licences", {}).items()}


def any_part(role: str, configs: Configs, name: str, default: bool) -> bool:
    """Whether the function `name(options)` of any part's file says true; `default` for a file without it."""
    return any(bool(statement(role, config, name, default)) for config in configs)
