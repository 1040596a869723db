"""A network takes crops once, before a training begins with it."""

from __future__ import annotations

import torch

from segkit.printable import in_one_line
from segtrain.errors import ModelError
from segtrain.segmenter import Segmenter


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
