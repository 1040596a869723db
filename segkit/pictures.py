"""The one opener of photographs and drawings that people bring, and of a picture with its mask.

What a file is, its bytes say, not its name: JPEG, PNG, WebP, BMP, TIFF, or HEIC with the extra `heic`. EXIF
orientation is applied, so that a picture lies as people see it and as labelling tools show it. More than 8 bits a
channel and transparency are refused: Pillow would cut the one to white and show what the other hides.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from segkit.errors import InputError
from segkit.files import open_regular, read_regular
from segkit.headers import DECODER_ERRORS, container, find_jpeg_header, png_chunks, png_header, require_size
from segkit.heif import HEIF_SUFFIXES, heif_bits, open_heif, stored_orientation
from segkit.labels import LabelSpace
from segkit.masks import MAX_FILE_BYTES, mask_size, read_mask
from segkit.printable import in_one_line

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", *HEIF_SUFFIXES)
WRITTEN_SUFFIXES = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))
"""As names of files have them: cameras write .JPG."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_MODES = ("1", "L", "P", "RGB", "RGBX", "YCbCr", "CMYK")
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258
_SWAPS_SIDES = (5, 6, 7, 8)
_TURNS = {  # EXIF orientation -> what lays the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEAD_BYTES = 2**16
_FILTERS = threading.Lock()


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright. Raises InputError that names the file, in one line with the way out."""
    return decode_image(read_regular(path, MAX_FILE_BYTES, InputError), str(path))


def decode_image(data: bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture file's bytes, upright. Raises InputError naming `where`."""
    if container(data) == "PNG":
        for _ in png_chunks(data, where):  # Pillow would read a flipped bit as other pixels
            pass
    try:
        with _quiet_library(), _open(io.BytesIO(data), data, where) as image:
            image.load()
            turn = None if image.format == "HEIF" else _TURNS.get(_orientation(image))
            upright = image if turn is None else image.transpose(turn)
            return np.asarray(upright.convert("RGB"), dtype=np.uint8)
    except DECODER_ERRORS as error:
        raise _unreadable(where, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright picture, from the file's header. Raises InputError for what `read_image` would refuse by
    its header."""
    return _size_and_orientation(path)[0]


def read_pair(image: Path, mask: Path, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) uint8 RGB and mask (H, W) uint8 ids of `space`, of one size.

    Raises InputError for a file that cannot be read and for sizes that differ, LabelError for what is no class.
    """
    pixels, ids = read_image(image), read_mask(mask, space)
    if pixels.shape[:2] != ids.shape:
        require_same_size(ids.shape, mask, image)
    return pixels, ids


def require_pair(image: Path, mask: Path) -> None:
    """Raise InputError for a picture with its mask that `read_pair` would refuse by what their headers say."""
    require_same_size(mask_size(mask), mask, image)


def require_same_size(size_of_mask: tuple[int, ...], mask: object, image: Path) -> None:
    """Raise InputError unless a mask of that size (H, W) has the upright picture's: read from the picture's header.

    `mask` names the mask in the error.
    """
    size, orientation = _size_and_orientation(image)
    if size_of_mask == size:
        return
    if size_of_mask == size[::-1] and orientation in _SWAPS_SIDES:
        why = (
            f"the picture's EXIF orientation ({orientation}) turns it upright, the mask was drawn on the picture as it "
            "is stored: turn the mask in the same way, or store the picture upright without EXIF and draw on that"
        )
    elif size_of_mask == size[::-1]:
        why = (
            "one of the two lies on its side: an EXIF rotation was lost or applied once only; turn it by 90 degrees "
            "(resizing would distort it)"
        )
    else:
        why = "export the mask at the picture's size, or resize it by nearest neighbour"
    theirs = f"{size_of_mask[0]} x {size_of_mask[1]} px (H x W)"
    raise InputError(f"{mask}: is {theirs}, its image {size[0]} x {size[1]}; {why}")


def _size_and_orientation(path: Path) -> tuple[tuple[int, int], int]:
    """(H, W) of the upright picture, and the EXIF orientation 1..8 that it is stored with."""
    with open_regular(path) as file:
        try:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            with _quiet_library(), _open(file, head, str(path)) as image:
                size = image.height, image.width
                if image.format == "HEIF":
                    return size, stored_orientation(image)
                # a PNG may have its EXIF after the pixels: Pillow would decode it to look
                orientation = _orientation(image) if image.format != "PNG" or _has_exif(file, path) else 1
                if orientation in _SWAPS_SIDES and image.format != "TIFF":  # Pillow has turned that already
                    size = size[::-1]
                return size, orientation
        except DECODER_ERRORS as error:
            raise _unreadable(str(path), error) from error


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """Without Pillow's warnings of odd EXIF and of large pictures: what is amiss, the error says. The filters of
    warnings belong to the whole process, hence the lock."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _has_exif(file: BinaryIO, path: Path) -> bool:
    """Whether a PNG has a chunk in which Pillow looks for an orientation; from the heads of its chunks."""
    place = file.tell()
    try:
        at = 8
        while True:
            file.seek(at)
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return False
            if head[4:] in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            at += 12 + int.from_bytes(head[:4], "big")
    finally:
        file.seek(place)


def _open(file: BinaryIO, head: bytes, where: str) -> Image.Image:
    """The picture with its header read; `head` is how its bytes begin. Raises InputError for what is not read here."""
    kind = container(head)
    if kind == "JPEG" and (frame := find_jpeg_header(head)) is not None:
        require_size(frame.size, where)
    # Pillow opens colours of 16 bits as `RGB` and cuts them
    bits = png_header(head, where).depth if kind == "PNG" else 8
    try:
        image = open_heif(file, where) if kind == "HEIC" else Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise InputError(
            f"{where}: cannot be read as an image (inside it is no JPEG, PNG, WebP, BMP, TIFF or HEIC); remove or "
            "replace the file"
        ) from error
    require_size((image.height, image.width), where)
    if image.has_transparency_data:
        raise InputError(
            f"{where}: has an alpha channel or a transparent colour, under which other colours may hide; save it "
            "without transparency"
        )
    if max(bits, _tiff_bits(image), heif_bits(image)) > 8 or image.mode.startswith(
        ("I", "F")
    ):  # Pillow would cut the values
        raise InputError(f"{where}: has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits first")
    if image.mode not in _MODES:
        raise InputError(f"{where}: has the colour mode {image.mode}; convert it to RGB first")
    return image


def _tiff_bits(image: Image.Image) -> int:
    """Bits a channel of a TIFF; 8 for what is none."""
    stored = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
    return max((stored,) if isinstance(stored, int) else stored, default=8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8; EXIF that cannot be read turns nothing, as in every viewer."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _unreadable(where: str, error: BaseException) -> InputError:
    return InputError(f"{where}: cannot be read as an image ({in_one_line(error)}); remove or replace the file")


def find_picture(stem: Path) -> Path | None:
    """The picture of that path without its suffix; None where there is none."""
    candidates = (stem.with_name(stem.name + suffix) for suffix in WRITTEN_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)
