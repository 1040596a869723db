"""Label maps as bits: class c is the number c + 1, a pixel without a class is 0, a number of its own.

    binary     the bits of the number (Chen et al., Analog Bits, ICLR 2023; LDMSeg codes label maps so)
    simplex    the parity of every choice of its bits: the code of binary's length n in 2^n - 1 channels, in which all
               numbers are equally far apart (the dual of Hamming's code)

Each channel is -1 or +1. What a denoiser gives is read back as the class whose code is nearest. Where it cannot tell
classes apart it gives a mean of their codes. In `simplex` that says how likely each is, like one channel a class; in
`binary` it may be the code of a third class, and what comes after cannot know.
"""

from __future__ import annotations

import torch

from segkit.errors import ModelError
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.printable import excerpt

MOST_BITS = 8
KINDS = ("binary", "simplex")


def bits_for(num_classes: int) -> int:
    """The fewest bits that tell so many classes, and no class, apart."""
    return num_classes.bit_length()


class BitCode:
    """Between channels of a network, 0..C-1 and 254 or 255 for none, and codes of `length` numbers."""

    def __init__(self, num_classes: int, bits: int, kind: str = "binary") -> None:
        """Raises ModelError for more classes than so many bits tell apart, and for a kind that is none of KINDS."""
        if kind not in KINDS:
            raise ModelError(f"code {excerpt(kind)}: not known; there are: {', '.join(KINDS)}")
        if not 1 <= bits <= MOST_BITS:
            raise ModelError(f"bits {bits}: a label code has 1 to {MOST_BITS}")
        if num_classes > 2**bits - 1:
            raise ModelError(
                f"bits {bits}: tell {2**bits - 1} classes from one another and from none, there are {num_classes}: "
                f"take {bits_for(num_classes)}"
            )
        self.num_classes, self.bits = num_classes, bits
        choices = [2**bit for bit in range(bits)] if kind == "binary" else range(1, 2**bits)
        self.length = len(choices)
        codes = [
            [2 * ((number & choice).bit_count() % 2) - 1 for choice in choices] for number in range(num_classes + 1)
        ]
        self._codes = torch.tensor(codes, dtype=torch.float32)  # (classes + 1, length): of none, then of the classes

    def encode(self, channels: torch.Tensor) -> torch.Tensor:
        """(B, h, w) integers to (B, length, h, w) float32 of -1 and +1, the lowest bit first."""
        numbers = torch.where(channels < OUT_OF_DISTRIBUTION, channels.long() + 1, 0)
        return self._codes.to(channels.device)[numbers].movedim(-1, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """(B, length, h, w) to (B, h, w) int64: the channel whose code is nearest, IGNORE where that of none is."""
        known = self._codes.to(codes.device)  # all of one norm: the nearest points alike
        nearest = torch.einsum("bnhw,cn->bchw", codes.float(), known).argmax(dim=1)
        return torch.where(nearest == 0, IGNORE, nearest - 1)
