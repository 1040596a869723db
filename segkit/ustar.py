"""The tar container, byte by byte: one header form and a streaming reader that trusts nothing.

Python's tarfile would also accept links, sparse files and pax headers, keeps every member in memory, and has
changed header bytes between versions. A shard holds plain files only, so both directions fit on this page
(POSIX.1-1988 ustar).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Protocol

from segkit.errors import DatasetError

BLOCK = 512
RECORD = 20 * BLOCK  # the whole file is padded to this, as tar and tarfile do
MAX_MEMBER_BYTES = 256 * 2**20  # no sane image comes near; beyond it a size field is damage or an attack
_OCTAL = re.compile(rb"[0-7]{11}\x00")


class ByteReader(Protocol):
    """What `read_members` needs of a file."""

    def read(self, size: int, /) -> bytes: ...


class SeekableReader(ByteReader, Protocol):
    """What `walk_members` needs of a file."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar. `canonical`: header and padding are the bytes that this package writes."""

    name: str
    data: bytes
    canonical: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of one file of a tar lie."""

    name: str
    offset: int
    size: int


def member_header(name: str, size: int) -> bytes:
    """The 512 header bytes of a plain file: mode 0644, uid = gid = 0, mtime 0, no user or group name.

    Raises ValueError if the name is not ASCII or longer than 100 characters.
    """
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= 100:
        raise ValueError(f"member name {name!r} must have 1..100 characters")
    front = encoded.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" + b"0000000\0" + b"%011o\0" % size + b"%011o\0" % 0
    back = (b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" + b"0000000\0").ljust(356, b"\0")
    return front + b"%06o\0 " % _checksum(front + b" " * 8 + back) + back


def padding(size: int, unit: int = BLOCK) -> bytes:
    """The zeros that fill `size` up to a multiple of `unit`."""
    return bytes(-size % unit)


def read_members(file: ByteReader, where: str) -> Iterator[Member]:
    """The members of a tar in order, one in memory at a time.

    Raises DatasetError, with `where` and the offset, for a header that is damaged, a link or any other kind
    that is no plain file, a name with a folder in it, a size above MAX_MEMBER_BYTES, a file that ends early,
    or bytes after the end mark.
    """
    offset = 0
    while True:
        header = file.read(BLOCK)
        if len(header) < BLOCK:
            raise DatasetError(f"{where}: the tar ends early, at byte {offset + len(header)} without an end mark")
        if header == bytes(BLOCK):
            break
        name, size = _parse_header(header, f"{where}: byte {offset}")
        data = file.read(size)
        filler = file.read(-size % BLOCK)
        if len(data) < size or len(filler) < -size % BLOCK:
            raise DatasetError(f"{where}: the tar ends early, inside member {name!r}")
        offset += BLOCK + size + len(filler)
        yield Member(name, data, header == member_header(name, size) and not any(filler))
    _require_end(file, offset, where)


def walk_members(file: SeekableReader, where: str) -> Iterator[Place]:
    """Where the members of a tar lie, in order; only headers are read. Raises DatasetError as `read_members` does."""
    end = file.seek(0, 2)
    offset = file.seek(0)
    while (header := file.read(BLOCK)) != bytes(BLOCK):
        if len(header) < BLOCK:
            raise DatasetError(f"{where}: the tar ends early, at byte {offset + len(header)} without an end mark")
        name, size = _parse_header(header, f"{where}: byte {offset}")
        yield Place(name, offset + BLOCK, size)
        offset += BLOCK + size + -size % BLOCK
        if offset > end:
            raise DatasetError(f"{where}: the tar ends early, inside member {name!r}")
        file.seek(offset)
    _require_end(file, offset, where)


def _require_end(file: ByteReader, offset: int, where: str) -> None:
    """After the first zero block, at `offset`, only zeros may follow: a second block of them, up to a whole record."""
    rest = file.read(RECORD + 1)
    if len(rest) < BLOCK or len(rest) > RECORD or any(rest) or (offset + BLOCK + len(rest)) % RECORD:
        raise DatasetError(
            f"{where}: the tar does not end with two zero blocks and zeros up to a multiple of {RECORD} bytes"
        )


def _parse_header(header: bytes, where: str) -> tuple[str, int]:
    stored = re.match(rb"[ \x00]*([0-7]{1,8})", header[148:156])
    if stored is None or int(stored[1], 8) != _checksum(header[:148] + b" " * 8 + header[156:]):
        raise DatasetError(f"{where}: damaged tar header (its checksum does not match)")
    raw = header[:100].split(b"\0")[0]
    if not raw.isascii() or not raw.decode("ascii").isprintable():
        raise DatasetError(f"{where}: member name {raw!r} is not plain ASCII")
    name = raw.decode("ascii")
    kind = header[156:157]
    if kind not in (b"0", b"\0"):
        what = {b"1": "a hard link", b"2": "a symbolic link", b"5": "a folder"}.get(kind, f"of kind {kind!r}")
        raise DatasetError(f"{where}: member {name!r} is {what}; only plain files are read")
    prefix = header[345:500] if header[257:263] == b"ustar\0" else b""  # a folder to put before the name
    if any(prefix) or not name or "/" in name or "\\" in name or name in (".", ".."):
        raise DatasetError(f"{where}: member {name!r} has a folder in its name; names must be flat")
    if _OCTAL.fullmatch(header[124:136]) is None:
        raise DatasetError(f"{where}: member {name!r} has no valid size")
    size = int(header[124:135], 8)
    if size > MAX_MEMBER_BYTES:
        raise DatasetError(f"{where}: member {name!r} claims {size} bytes; the most that is read is {MAX_MEMBER_BYTES}")
    return name, size


def _checksum(header: bytes) -> int:
    return sum(header)
