"""The one opener of masks that people bring: a PNG of class ids, read sample by sample as it is stored.

grey, 1 to 8 bits     the samples are the ids, never scaled to 0..255
grey, 16 bits         the same, if they fit 8 bits
palette               the indices are the ids, unless the palette has the label space's colours at other places: then
                      the colours tell (optimisers and editors sort palettes anew)
RGB                   by the label space's colours, every one of which must be known
alpha, RGB of 16 bits, and every other container (JPEG changes ids at every edge): refused
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.errors import InputError, LabelError
from segkit.files import open_regular, read_regular
from segkit.headers import (
    DECODER_ERRORS,
    GREY,
    PALETTE,
    PNG_SIGNATURE,
    RGB,
    PngHeader,
    container,
    png_chunks,
    png_header,
)
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from segkit.printable import in_one_line

MAX_FILE_BYTES = 2**29
_HEAD_BYTES = 256
_SCALE = {2: 85, 4: 17}  # by which Pillow multiplies grey samples of so many bits; one bit it reads as bool
_MODES = {(1, GREY): "1", (16, GREY): "I;16", (8, RGB): "RGB"}


def read_mask(path: Path, space: LabelSpace | None = None) -> np.ndarray:
    """(H, W) uint8 ids. Raises as `decode_mask` does, and for a file that is missing or no regular file."""
    return decode_mask(read_regular(path, MAX_FILE_BYTES, InputError), str(path), space)


def mask_size(path: Path) -> tuple[int, int]:
    """(H, W) of a mask, from the file's header. Raises InputError for what `decode_mask` would refuse by its header."""
    with open_regular(path, InputError) as file:
        return _mask_header(file.read(_HEAD_BYTES), str(path)).size


def decode_mask(data: bytes, where: str, space: LabelSpace | None = None) -> np.ndarray:
    """(H, W) uint8 ids of a PNG; without `space`, palettes are passed over and RGB is refused.

    Raises InputError for a damaged file, another container, alpha, and ids above 255; LabelError for a colour that is
    of no class, and, with `space`, for an id that is of none.
    """
    samples, palette = decode_samples(data, where)
    if samples.ndim == 3:
        if space is None:
            raise InputError(
                f"{where}: a mask must hold one class id a pixel (grey or palette), this is an RGB image; convert "
                "colours to ids first"
            )
        mask = _ids_of_colours(samples, space, where)
    elif palette is not None and space is not None:
        mask = _ids_of_palette(samples, palette, space, where)
    else:
        mask = samples
    if space is not None:
        space.check(mask, where)
    return mask


def decode_samples(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The stored samples of a PNG, (H, W) uint8 grey or palette indices or (H, W, 3) uint8 RGB, and the palette
    (N, 3) uint8 if it has one. Raises InputError as `decode_mask` does."""
    header = _mask_header(data, where)
    essential, palette = _essential(data, header, where)
    mode = _MODES.get((header.depth, header.colour_type), "P" if header.colour_type == PALETTE else "L")
    try:
        with Image.open(io.BytesIO(essential), formats=("PNG",)) as image:
            if image.mode != mode or (image.height, image.width) != header.size:
                raise InputError(f"{where}: must be read as {mode}, the decoder finds {image.mode}")
            samples = np.asarray(image)
    except DECODER_ERRORS as error:
        raise InputError(
            f"{where}: cannot be read as an image ({in_one_line(error)}); remove or replace the file"
        ) from error
    if header.colour_type == GREY:
        samples = samples // _SCALE[header.depth] if header.depth in _SCALE else samples
        if samples.size and int(samples.max()) > IGNORE:
            raise InputError(f"{where}: id {int(samples.max())} does not fit 8 bits; ids must be 0..254, 255 = ignore")
    return samples.astype(np.uint8), palette


def _mask_header(data: bytes, where: str) -> PngHeader:
    kind = container(data)
    if kind != "PNG":
        why = ": JPEG changes ids at every edge" if kind == "JPEG" else ""
        raise InputError(f"{where}: is {kind} inside, a mask must be a PNG{why}; export the masks as PNG")
    header = png_header(data, where)
    if header.colour_type not in (GREY, RGB, PALETTE) or (header.depth, header.colour_type) == (16, RGB):
        names = {2: "RGB image of 16 bits", 4: "LA image (grey with alpha)", 6: "RGBA image"}
        name = names.get(header.colour_type, f"image of colour type {header.colour_type}")
        raise InputError(
            f"{where}: a mask must hold one class id a pixel (grey or palette), this is an "
            f"{name}; save it without an alpha channel, 8 bits a channel"
        )
    return header


def read_colours(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of a label file that stores a colour a pixel: a PNG, RGB or with a palette. Raises InputError."""
    samples, palette = decode_samples(read_regular(path, MAX_FILE_BYTES, InputError), str(path))
    if palette is not None:
        if samples.max(initial=0) >= len(palette):
            raise InputError(f"{path}: has a palette of {len(palette)} colours and the index {samples.max()}")
        return palette[samples]
    if samples.ndim == 2:
        raise InputError(f"{path}: must store a colour a pixel (RGB or palette), this is grey")
    return samples


def ids_in(mask: np.ndarray) -> set[int]:
    """The ids that occur in a mask (H, W) uint8."""
    return set(map(int, np.flatnonzero(np.bincount(mask.ravel(), minlength=256))))


def only_unlabelled(ids: set[int], space: LabelSpace) -> str:
    """What to say of masks that label nothing, by the ids that occur in all of them; "" if they do label something.

    Tools write the one object of a binary mask as 255, which here is ignore.
    """
    is_binary = ids == {0, IGNORE} and len(space.labels) > 1  # whether 0 is called the background or not
    if not ids or (ids - {IGNORE, space.background} and not is_binary):
        return ""
    if ids == {IGNORE}:
        return "every pixel of the masks is 255, which means unlabelled"
    if IGNORE in ids:
        return (
            f"the masks have only {min(ids)} and 255, and 255 means unlabelled: store the object's id "
            "(1, 2, ...) instead of 255"
        )
    return f"the masks have only {space.background}, which is the background"


def _essential(data: bytes, header: PngHeader, where: str) -> tuple[bytes, np.ndarray | None]:
    """The PNG without its ancillary chunks, which may hold megabytes of text, and its palette."""
    parts, palette = [PNG_SIGNATURE], None
    for kind, content in png_chunks(data, where):
        if kind == b"eXIf" and _turned(content):
            raise InputError(
                f"{where}: has an EXIF orientation, so its pixels may lie another way than its image's; save it anew "
                "without EXIF"
            )
        if kind == b"PLTE" and header.colour_type == PALETTE:
            palette = np.frombuffer(content[: len(content) // 3 * 3], np.uint8).reshape(-1, 3)
        if kind in (b"IHDR", b"IDAT", b"IEND") or (kind == b"PLTE" and header.colour_type == PALETTE):
            parts.append(struct.pack(">I", len(content)) + kind + content)
            parts.append(struct.pack(">I", zlib.crc32(kind + content)))
    if header.colour_type == PALETTE and (palette is None or not len(palette)):
        raise InputError(f"{where}: the PNG is damaged: it has no palette")
    return b"".join(parts), palette


def _turned(exif: bytes) -> bool:
    """Whether an eXIf chunk has an orientation other than upright; one that cannot be read turns nothing."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        return tags.get(0x0112, 1) not in (0, 1)
    except DECODER_ERRORS:
        return False


def _ids_of_palette(indices: np.ndarray, palette: np.ndarray, space: LabelSpace, where: str) -> np.ndarray:
    """Ids of indices: themselves, unless an index has the colour of another class."""
    present = [int(i) for i in np.flatnonzero(np.bincount(indices.ravel(), minlength=256))]
    colours = {i: _rgb(palette[i]) for i in present if i < len(palette)}
    own = {label.id: label.colour for label in space.labels}
    sorted_anew = [
        i
        for i, colour in colours.items()
        if i < OUT_OF_DISTRIBUTION and colour in own.values() and own.get(i) != colour
    ]
    if not sorted_anew:
        return indices
    first = sorted_anew[0]
    contradiction = (
        f"{where}: its palette contradicts label space {space.name!r}: index {first} has the colour "
        f"{list(colours[first])} of class {space.labels[list(own.values()).index(colours[first])].name!r}"
    )
    if len(set(colours.values())) < len(present):
        raise LabelError(f"{contradiction}, and several indices have one colour; store ids as 8-bit grey")
    table = np.arange(256, dtype=np.uint8)
    for i in present:
        class_id = space.by_colour(colours[i], where) if i in colours else None
        if class_id is None:
            raise LabelError(
                f"{contradiction}, but index {i} has {list(colours.get(i, ()))}, the colour of no class; store ids as "
                "8-bit grey, or colours of the label space alone"
            )
        table[i] = class_id
    return table[indices]


def _ids_of_colours(image: np.ndarray, space: LabelSpace, where: str) -> np.ndarray:
    """Ids of an (H, W, 3) image by the label space's colours."""
    channels = image.astype(np.uint32)
    packed = (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
    present, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    if len(present) > 256:
        raise LabelError(
            f"{where}: has {len(present)} colours, a mask in colours has one a class; it was smoothed, scaled or "
            "stored as JPEG: export it again as PNG without anti-aliasing"
        )
    colours = [_rgb(value) for value in np.stack([present >> 16, (present >> 8) & 255, present & 255], axis=1)]
    ids = [space.by_colour(colour, where) for colour in colours]
    unknown = [
        f"{list(colour)} ({count} px)" for colour, i, count in zip(colours, ids, counts, strict=True) if i is None
    ]
    if unknown:
        more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        grey = all(red == green == blue for red, green, blue in colours)
        way_out = "store one channel as 8-bit grey if they are ids" if grey else "mend the mask or add them there"
        raise LabelError(
            f"{where}: colours {', '.join(unknown[:4])}{more} are not in label space {space.name!r}; {way_out}"
        )
    return np.array(ids, dtype=np.uint8)[inverse].reshape(packed.shape)


def _rgb(value: np.ndarray) -> tuple[int, int, int]:
    return int(value[0]), int(value[1]), int(value[2])
