"""Which models took part in a run, for the data card: the licence of a model goes over to what it made."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from synthgen.backends import check_options, find
from synthgen.models.provenance import revision_of
from synthgen.models.weights import MINI_PREFIX
from synthgen.pack.counts import ModelUse
from synthgen.recipe import Recipe, used_backends


def models_of(recipe: Recipe) -> tuple[ModelUse, ...]:
    """The weights that a run loads, in the order of the stages."""
    used = used_backends(recipe).items()
    return tuple(use for role, config in used if role != "prompt_source" and (use := model_use(role, config)))


def model_use(role: str, config: dict[str, Any]) -> ModelUse | None:
    """What the data card says of one backend: of its `model` key, or of the package that brings its weights. None:

    it has no weights.
    """
    options = check_options(role, config)
    model = getattr(options, "model", "")
    if not model:
        package, license_id = getattr(find(role, str(config["name"])), "WEIGHTS", ("", ""))
        if not package:
            return None
        return ModelUse(role, f"{config['name']}:{package}", importlib.metadata.version(package), license_id)
    license_id = "apache-2.0" if model.startswith(MINI_PREFIX) else ""
    return ModelUse(role, f"{config['name']}:{model}", revision_of(model, getattr(options, "revision", "")), license_id)
