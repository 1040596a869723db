"""What number format a training multiplies in: bfloat16 only where the processor has it."""

from __future__ import annotations

from typing import Literal

import torch


def mixed_precision(device: torch.device | str) -> Literal["bf16", "no"]:
    """Accelerate's word for autocast on `device`: "bf16" where that is arithmetic of the chip, else "no".

    A processor without it emulates bfloat16, at up to a hundredth of the speed of float32.
    """
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # torch.cpu tells them by private names only; on an ARM processor both say no, which is slower and right
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "no"
