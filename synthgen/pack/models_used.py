"""Which models took part in a run, for the data card: the licence of a model goes over to what it made."""

from __future__ import annotations

from typing import Any

from synthgen.backends import check_options
from synthgen.models.provenance import revision_of
from synthgen.models.weights import MINI_PREFIX
from synthgen.pack.counts import ModelUse


def model_use(role: str, config: dict[str, Any]) -> ModelUse:
    """What the data card says of one backend. `revision` is empty for backends without weights of their own."""
    options = check_options(role, config)
    model = getattr(options, "model", "")
    if not model:
        return ModelUse(role, str(config["name"]))
    license_id = "apache-2.0" if model.startswith(MINI_PREFIX) else ""
    return ModelUse(role, f"{config['name']}:{model}", revision_of(model, getattr(options, "revision", "")), license_id)
