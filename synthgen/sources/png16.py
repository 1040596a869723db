"""Reads colour PNGs of 16 bits a channel, which Pillow cuts to the upper 8:

SYNTHIA keeps its class ids in the lower ones.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from segkit.errors import InputError
from segkit.files import read_regular
from segkit.headers import RGB, RGB_ALPHA, png_chunks, png_header
from segkit.masks import MAX_FILE_BYTES
from segkit.printable import in_one_line


def read_png16(path: Path) -> np.ndarray:
    """(H, W, 3 or 4) uint16. Raises InputError for a damaged file, or one of another kind."""
    import torch
    from torchvision.io import decode_image

    data = read_regular(path, MAX_FILE_BYTES, InputError)
    header = png_header(data, path)
    if header.depth != 16 or header.colour_type not in (RGB, RGB_ALPHA):
        raise InputError(
            f"{path}: must be a 16-bit colour PNG, this has {header.depth} bits, type {header.colour_type}"
        )
    for _ in png_chunks(data, path):
        pass
    try:
        with warnings.catch_warnings():
            # deprecated since torchvision 0.29 in favour of torchcodec, which is no dependency yet
            warnings.simplefilter("ignore", DeprecationWarning)
            channels = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be decoded ({in_one_line(error)}); remove or replace the file") from error
    return channels.permute(1, 2, 0).numpy()
