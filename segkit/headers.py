"""Sizes and kinds of JPEG and PNG, from their header bytes: known before a decoder sees them.

So a file of some kilobytes that claims gigapixels is refused without allocating a pixel, and what Pillow would quietly
turn into something else (a cut sample, a scaled one, a flipped bit) is seen.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from segkit.errors import InputError, UserError

MAX_PIXELS = 2**26  # 8192 x 8192, four times the largest image that a recipe may ask for
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types
DECODER_ERRORS = (  # what Pillow's decoders raise for damaged or hostile bytes
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_CONTAINERS = (
    (b"\xff\xd8\xff", "JPEG"),
    (PNG_SIGNATURE, "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WebP"),
)
_BRANDS = {  # of an ISO media file, which begins with the length of its `ftyp` box
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class JpegHeader:
    """Of the frame. `subsampling` is (horizontal, vertical) per component: equal ones are 4:4:4."""

    size: tuple[int, int]  # (H, W)
    subsampling: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class PngHeader:
    """Of IHDR. `depth` is bits a channel, `colour_type` one of GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA."""

    size: tuple[int, int]  # (H, W)
    depth: int
    colour_type: int
    interlaced: bool


def container(data: bytes) -> str:
    """What the first bytes are of: "JPEG", "PNG", ... or "no picture"."""
    if data[4:8] == b"ftyp":
        # AVIF files may call themselves mif1 first, and themselves among the brands that follow
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4], "big"), 128), 4))]
        kinds = {_BRANDS.get(brand, "no picture") for brand in brands}
        return next((kind for kind in ("AVIF", "HEIC") if kind in kinds), "no picture")
    return next((kind for start, kind in _CONTAINERS if data.startswith(start)), "no picture")


def require_size(size: tuple[int, int], where: object, error: type[UserError] = InputError) -> None:
    """Raise `error` unless (H, W) is of a picture that is decoded here: 1..MAX_PIXELS."""
    if not (size[0] > 0 and size[1] > 0 and size[0] * size[1] <= MAX_PIXELS):
        raise error(f"{where}: claims {size[0]} x {size[1]} pixels; 1..{MAX_PIXELS} are read")


def jpeg_header(data: bytes, where: object, error: type[UserError] = InputError) -> JpegHeader:
    """Size (H, W) and components from the first frame header. Raises `error` if there is none or the size is absurd."""
    header = find_jpeg_header(data)
    if header is None:
        raise error(f"{where}: not a JPEG")
    require_size(header.size, where, error)
    return header


def find_jpeg_header(data: bytes) -> JpegHeader | None:
    """The first frame header; None if these bytes have none, or have what only a tolerant decoder finds its way in."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker in _SOF_MARKERS and len(segment) >= 6 and len(segment) >= 6 + 3 * segment[5]:
            _, height, width, count = struct.unpack(">BHHB", segment[:6])
            factors = tuple((segment[7 + 3 * i] >> 4, segment[7 + 3 * i] & 15) for i in range(count))
            return JpegHeader((height, width), factors)
        at += 2 + length
    return None


def png_header(data: bytes, where: object, error: type[UserError] = InputError) -> PngHeader:
    """Size and kind. Raises `error` for what is no PNG or of an absurd size."""
    if len(data) < 33 or not data.startswith(PNG_SIGNATURE + b"\0\0\0\rIHDR"):
        raise error(f"{where}: not a PNG")
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    require_size((height, width), where, error)
    return PngHeader((height, width), depth, colour_type, bool(interlace))


def png_chunks(
    data: bytes, where: object, error: type[UserError] = InputError, nothing_follows: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of every chunk up to IEND. Raises `error` for one that is cut short or whose check sum is
    another, and, with `nothing_follows`, for bytes after IEND; Pillow lets much of that pass."""
    at, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise error(f"{where}: the PNG is cut short or damaged, in chunk {kind!r}")
        yield kind, data[at + 8 : end - 4]
        at = end
    if nothing_follows and at != len(data):
        raise error(f"{where}: {len(data) - at} bytes follow the end of the PNG")


def require_whole_png(data: bytes, where: object, error: type[UserError] = InputError) -> None:
    """Raise `error` unless every chunk is whole, with its check sum, and IEND is the last byte."""
    for _ in png_chunks(data, where, error, nothing_follows=True):
        pass
