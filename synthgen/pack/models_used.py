"""Which weights took part in a run, for the data card: the licence of a model may go over to what it made."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from synthgen.backends import Licence, statement, weights
from synthgen.models.licences import APACHE
from synthgen.models.provenance import revision_of
from synthgen.models.used import used_parts
from synthgen.models.weights import MINI_PREFIX
from synthgen.pack.counts import ModelUse
from synthgen.recipe import Recipe


def models_used(recipe: Recipe) -> tuple[ModelUse, ...]:
    """The weights of every backend that takes part, in the order of the stages; what is never built is not listed."""
    return tuple(
        dataclasses.replace(use, role=part)
        for part, role, config in used_parts(recipe)
        for use in models_of(role, config)
    )


def models_of(role: str, config: Mapping[str, Any]) -> list[ModelUse]:
    """The weights of one backend: those that it loads, and those that come inside a Python package."""
    licences: dict[str, Licence] = statement(role, config, "licences", {})
    packages = [(name, importlib.metadata.version(name)) for name in statement(role, config, "packages", ())]
    loaded = [(model, revision_of(model, revision)) for model, revision in weights(role, config)]
    return [
        _use(role, f"{config['name']}:{name}", revision, licences.get(name, _licence_of(name)))
        for name, revision in (*packages, *loaded)
    ]


def _use(role: str, id: str, revision: str, licence: Licence) -> ModelUse:
    goes_over = licence.hub_name if role == "renderer" else ""
    return ModelUse(role, id, revision, licence.name, licence.link, goes_over)


def _licence_of(model: str) -> Licence:
    """Of weights that no backend says anything of: those that ship are under the package's own."""
    return APACHE if model.startswith(MINI_PREFIX) else Licence()
