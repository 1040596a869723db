"""The first step of `segtrain iccld`."""

from __future__ import annotations

from typing import Any

import torch

from segtrain.data.joint import JointBatch
from segtrain.methods.iccld.config import Config
from segtrain.methods.iccld.method import Iccld
from segtrain.self_training.method import opened

CPU = torch.device("cpu")


def begun(config: Config) -> tuple[Iccld, Any, JointBatch]:
    """A method, its new student, and the batch of the first step."""
    method = Iccld(opened(config), config)
    segmenter = method.build(CPU)
    batch = next(iter(method.batches(0)))
    assert isinstance(batch, JointBatch)
    return method, segmenter, batch
