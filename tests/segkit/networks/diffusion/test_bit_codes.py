"""Labels as bits and back."""

from __future__ import annotations

import pytest
import torch

from segkit.errors import ModelError
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.networks.diffusion.bit_codes import KINDS, BitCode, bits_for


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [1, 2, 3, 11, 18, 19, 31, 150, 253])
def test_every_class_and_none_come_back(num_classes: int, kind: str) -> None:
    bits = bits_for(num_classes)
    code = BitCode(num_classes, bits, kind)
    channels = torch.tensor([*range(num_classes), IGNORE]).view(1, 1, -1)
    codes = code.encode(channels)
    assert code.length == (bits if kind == "binary" else 2**bits - 1)
    assert codes.shape == (1, code.length, 1, num_classes + 1)
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


def test_codes_of_a_simplex_are_equally_far_apart_and_hold_the_binary_ones() -> None:
    channels = torch.tensor([[[*range(19), IGNORE]]])
    codes = BitCode(19, 5, "simplex").encode(channels)[0, :, 0].T
    apart = torch.cdist(codes, codes, p=1) / 2  # in how many channels any two differ
    assert torch.equal(apart, 16 * (1 - torch.eye(20)))
    assert torch.equal(codes[:, [2**bit - 1 for bit in range(5)]], BitCode(19, 5).encode(channels)[0, :, 0].T)


def test_a_mean_of_codes_is_the_least_likely_class_in_binary_and_says_how_likely_each_is_in_a_simplex() -> None:
    channels, likely = torch.tensor([[[0, 1, 2]]]), torch.tensor([0.4, 0.4, 0.2])
    for kind, nearest in (("binary", [0.0, 0.0, 0.4]), ("simplex", [0.6, 0.6, -0.2])):
        codes = BitCode(3, 2, kind).encode(channels)[0, :, 0].T
        assert torch.allclose(codes @ (likely @ codes), torch.tensor(nearest))


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="code 'gray': not known; there are: binary, simplex"):
        BitCode(3, 2, "gray")


def test_bits_are_as_few_as_tell_the_classes_and_none_apart() -> None:
    assert [bits_for(n) for n in (1, 2, 3, 4, 7, 8, 31, 32)] == [1, 2, 2, 3, 3, 4, 5, 6]
    BitCode(31, 5)
    with pytest.raises(
        ModelError, match="bits 5: tell 31 classes from one another and from none, there are 32: take 6"
    ):
        BitCode(32, 5)
    with pytest.raises(ModelError, match="1 to 8"):
        BitCode(1, 0)
