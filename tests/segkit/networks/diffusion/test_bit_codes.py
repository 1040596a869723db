"""Labels as bits and back."""

from __future__ import annotations

import pytest
import torch

from segkit.errors import ModelError
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.networks.diffusion.bit_codes import BitCode, bits_for


@pytest.mark.parametrize("num_classes", [1, 2, 3, 11, 18, 19, 31, 150, 253])
def test_every_class_and_none_come_back(num_classes: int) -> None:
    bits = bits_for(num_classes)
    code = BitCode(num_classes, bits)
    channels = torch.tensor([*range(num_classes), IGNORE]).view(1, 1, -1)
    codes = code.encode(channels)
    assert codes.shape == (1, bits, 1, num_classes + 1)
    assert set(codes.unique().tolist()) <= {-1.0, 1.0}
    assert len({tuple(column) for column in codes[0, :, 0].T.tolist()}) == num_classes + 1
    assert torch.equal(code.decode(codes), channels)
    assert torch.equal(code.decode(0.1 * codes + 0.04), channels), "the nearest code, whatever the scale"


@pytest.mark.parametrize("none", [IGNORE, OUT_OF_DISTRIBUTION])
def test_a_pixel_without_a_class_is_all_bits_off(none: int) -> None:
    code = BitCode(19, 5)
    assert torch.equal(code.encode(torch.full((1, 2, 2), none)), torch.full((1, 5, 2, 2), -1.0))
    assert code.decode(torch.full((1, 5, 2, 2), -1.0)).unique().tolist() == [IGNORE]


def test_codes_are_binary_numbers_from_one() -> None:
    assert BitCode(19, 5).encode(torch.tensor([[[0, 1, 5]]]))[0, :, 0].T.tolist() == [
        [1, -1, -1, -1, -1],
        [-1, 1, -1, -1, -1],
        [-1, 1, 1, -1, -1],
    ]


def test_bits_are_as_few_as_tell_the_classes_and_none_apart() -> None:
    assert [bits_for(n) for n in (1, 2, 3, 4, 7, 8, 31, 32)] == [1, 2, 2, 3, 3, 4, 5, 6]
    BitCode(31, 5)
    with pytest.raises(
        ModelError, match="bits 5: tell 31 classes from one another and from none, there are 32: take 6"
    ):
        BitCode(32, 5)
    with pytest.raises(ModelError, match="1 to 8"):
        BitCode(1, 0)
