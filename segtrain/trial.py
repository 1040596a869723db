"""A network takes crops and a whole picture once, before a training begins with it."""

from __future__ import annotations

import logging

import numpy as np
import torch

from segkit.networks.folder import STRIDE_PX
from segkit.printable import in_one_line
from segtrain.data.source import Source
from segtrain.errors import DataError, ModelError
from segtrain.segmenter import Segmenter

_log = logging.getLogger(__name__)


@torch.no_grad()
def require_learns(segmenter: Segmenter, crops: int, side: int) -> None:
    """Pass so many square crops of `side` px, as a training does; leaves weights, statistics and random numbers alone.

    Raises ModelError if they are too few or too small: batch norm wants two numbers a channel, some decoders more
    pixels than a deep encoder leaves.
    """
    network, arguments = segmenter.network, segmenter.spec.arguments
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.train()
    devices = [segmenter.device] if segmenter.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            segmenter.logits(torch.zeros((crops, 3, side, side), dtype=torch.uint8))
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError, ValueError) as error:  # torch, smp and timm each have their own
        raise ModelError(
            f"{arguments['_model_class']} with encoder {arguments['encoder_name']}: cannot learn from {crops} "
            f"crop{'s' * (crops > 1)} of {side} px at once: {in_one_line(error)}: raise --crop"
            f"{' or --batch-size' * (crops == 1)}"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
        for buffer, before in buffers:
            buffer.copy_(before)


def require_predicts(segmenter: Segmenter, side: int, validation: Source | None) -> None:
    """Predict the first picture of the validation set, as it will be scored: some encoders (vision transformers as
    Swin) take pictures of one size alone, and hours later no score and no model would come of the training. Without a
    set a blank picture larger than the crop of `side` px, whose refusal is a warning: tiles may serve.

    Leaves the network as it was. Raises ModelError, and DataError if the picture cannot be read.
    """
    if validation is not None:
        sample = validation.read(0)
        try:
            segmenter.predict([sample.image])
        except DataError as error:
            raise ModelError(f"validation {sample.where}: {error}") from error
        return
    try:
        segmenter.predict([np.zeros((side + STRIDE_PX, side + 2 * STRIDE_PX, 3), np.uint8)])
    except DataError as error:
        _log.warning("%s; `segtrain predict --tile %d` cuts larger ones into such squares", error, side)
