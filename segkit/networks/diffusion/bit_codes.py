"""Label maps as bits: class c is the number c + 1 in binary, a pixel without a class is 0, a code of its own.

Each bit is a channel of -1 or +1 (Chen et al., Analog Bits, ICLR 2023; LDMSeg and DDP code label maps so). What a
denoiser gives is read back as the class whose code is nearest.
"""

from __future__ import annotations

import torch

from segkit.errors import ModelError
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION

MOST_BITS = 8


def bits_for(num_classes: int) -> int:
    """The fewest bits that tell so many classes, and no class, apart."""
    return num_classes.bit_length()


class BitCode:
    """Between channels of a network, 0..C-1 and 254 or 255 for none, and codes of `bits` numbers."""

    def __init__(self, num_classes: int, bits: int) -> None:
        """Raises ModelError for more classes than so many bits tell apart."""
        if not 1 <= bits <= MOST_BITS:
            raise ModelError(f"bits {bits}: a label code has 1 to {MOST_BITS}")
        if num_classes > 2**bits - 1:
            raise ModelError(
                f"bits {bits}: tell {2**bits - 1} classes from one another and from none, there are {num_classes}: "
                f"take {bits_for(num_classes)}"
            )
        self.num_classes, self.bits = num_classes, bits

    def encode(self, channels: torch.Tensor) -> torch.Tensor:
        """(B, h, w) integers to (B, bits, h, w) float32 of -1 and +1, the lowest bit first."""
        labelled = channels < OUT_OF_DISTRIBUTION
        numbers = torch.where(labelled, channels.long() + 1, 0)
        return 2 * self._bits(numbers, dim=1) - 1

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """(B, bits, h, w) to (B, h, w) int64: the channel whose code is nearest, IGNORE where that of none is."""
        numbers = torch.arange(self.num_classes + 1, device=codes.device)
        known = 2 * self._bits(numbers, dim=1) - 1  # (classes + 1, bits), all of one length: the nearest points alike
        nearest = torch.einsum("bnhw,cn->bchw", codes.float(), known).argmax(dim=1)
        return torch.where(nearest == 0, IGNORE, nearest - 1)

    def _bits(self, numbers: torch.Tensor, dim: int) -> torch.Tensor:
        return torch.stack([(numbers >> bit) & 1 for bit in range(self.bits)], dim=dim).float()
