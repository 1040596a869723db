"""`python -m benchmarks.run verify/`: damages finished datasets in known ways and counts what `synthgen verify` finds.

Every case is a dataset that is broken (a flipped bit of JPEG pixels under a matching hash is left out: it is another
sound picture). A case counts as found if `verify` returns a problem, raises nothing, and leaves every file in and
around the dataset as it was. Half of the cases get true sizes and hashes put back into the index, so that the deeper
checks must speak.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import struct
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.drawn_dataset import drawn_dataset
from benchmarks.row import Row
from segkit.ustar import RECORD, member_header, padding
from synthgen.dataset.verify import verify

Members = list[tuple[str, bytes]]
CASES_PER_KIND = 40


@dataclasses.dataclass(frozen=True)
class Case:
    """One damage: what the file `file` holds instead. `sealed`:

    the index is given the sizes and hashes of what lies there.
    """

    kind: str
    file: str
    data: bytes | None  # None = the file is gone
    sealed: bool


def rows() -> Iterator[Row]:
    """verify/fuzz_cases, verify/fuzz_found; prints what was missed."""
    found, missed = count(CASES_PER_KIND)
    total = found.total() + missed.total()
    for kind in sorted(found | missed):
        print(f"  {kind:28} {found[kind]} of {found[kind] + missed[kind]}", flush=True)
    yield Row("verify/fuzz_cases", total, "broken datasets")
    yield Row("verify/fuzz_found", found.total(), "of them found", n=total)


def count(cases_per_kind: int, seed: int = 0) -> tuple[Counter[str], Counter[str]]:
    """(found, missed) by kind of damage."""
    found: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(scratch) / "run" / "dataset"
        drawn_dataset(dataset.parent, count=6, size_px=32)
        whole = {path.name: path.read_bytes() for path in dataset.iterdir()}
        if verify(dataset):
            raise RuntimeError("the dataset is broken before any damage")
        for case in cases(whole, cases_per_kind, seed):
            ok = _is_found(dataset, case, whole)
            (found if ok else missed)[case.kind] += 1
    return found, missed


def _is_found(dataset: Path, case: Case, whole: dict[str, bytes]) -> bool:
    for path in dataset.iterdir():
        if path.name not in whole:
            path.unlink()
    for name, data in whole.items():
        if not (dataset / name).is_file() or (dataset / name).read_bytes() != data:
            (dataset / name).write_bytes(data)
    if case.data is None:
        (dataset / case.file).unlink()
    else:
        (dataset / case.file).write_bytes(case.data)
    if case.sealed:
        _seal(dataset)
    before = _snapshot(dataset.parents[1])
    problems = verify(dataset)  # whatever it raises is a bug, and ends the count
    if _snapshot(dataset.parents[1]) != before:
        raise RuntimeError(f"{case.kind}: verify has changed a file")
    return bool(problems)


def _snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def _seal(dataset: Path) -> None:
    """Someone who damages with intent puts sizes and hashes right, everywhere."""
    index = json.loads((dataset / "index.json").read_bytes())
    for shard in index["shards"]:
        data = (dataset / shard["file"]).read_bytes()
        shard.update(num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (dataset / "index.json").write_text(json.dumps(index))
    for path in (*dataset.glob("wids-*.json"), dataset / "croissant.json"):
        path.unlink()


def cases(whole: dict[str, bytes], per_kind: int, seed: int) -> Iterator[Case]:
    """`per_kind` cases of each kind, the same for the same seed."""
    rng = np.random.default_rng(seed)
    shards = sorted(name for name in whole if name.endswith(".tar"))
    for kind, damage in DAMAGES.items():
        for number in range(per_kind):
            file = shards[int(rng.integers(len(shards)))]
            data = damage(whole[file], rng)
            sealed = kind not in UNSEALED and number % 2 == 1
            yield Case(kind, file, data, sealed)
    for number in range(per_kind):
        name = ("wids-train.json", "croissant.json", "train-000000.parquet")[number % 3]
        yield Case("side file: flipped bit", name, _flipped_where_it_matters(name, whole[name], rng), False)
    for _ in range(per_kind):
        yield Case(
            "index: cut short",
            "index.json",
            whole["index.json"][: int(rng.integers(len(whole["index.json"]) - 3))],
            False,
        )
    for _ in range(per_kind):
        yield Case("index: a number changed", "index.json", _other_number(whole["index.json"], rng), False)
    for name in (*shards, "index.json"):
        yield Case("file gone", name, None, False)
    for name in shards:
        yield Case("alien tar beside", "stray-" + name, whole[name], False)


def _members(data: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(entry.name, (tar.extractfile(entry) or io.BytesIO()).read()) for entry in tar]


def _tar(members: Members) -> bytes:
    body = b"".join(member_header(name, len(data)) + data + padding(len(data)) for name, data in members) + bytes(1024)
    return body + padding(len(body), RECORD)


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


def _flip_in_member(data: bytes, rng: np.random.Generator) -> bytes:
    """In the bytes of a PNG or JSON member, or in the headers of a JPEG:

    a flipped bit of JPEG pixels is another picture, not damage.
    """
    members = _members(data)
    number = int(rng.integers(len(members)))
    name, content = members[number]
    if name.endswith(".jpg"):
        return _tar([*members[:number], (name, content[: int(rng.integers(len(content) - 2))]), *members[number + 1 :]])
    # a digit of a free number may change unseen by hash-less checks; the table beside remembers it
    if name.endswith(".json"):
        at = int(rng.integers(len(content)))
        return _tar(
            [
                *members[:number],
                (name, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]),
                *members[number + 1 :],
            ]
        )
    return _tar([*members[:number], (name, _flip(content, rng)), *members[number + 1 :]])


def _with_more(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 700))) + data[at:]


def _missing(data: bytes, rng: np.random.Generator) -> bytes:
    members = _members(data)
    members.pop(int(rng.integers(len(members))))
    return _tar(members)


def _reordered(data: bytes, rng: np.random.Generator) -> bytes:
    members = _members(data)
    order = np.arange(len(members))
    while (order == np.arange(len(members))).all():
        order = rng.permutation(len(members))
    return _tar([members[i] for i in order])


def _renamed(data: bytes, rng: np.random.Generator) -> bytes:
    """Path traversal and other dangerous names, written as a hostile tool would."""
    names = (
        "../../escape.jpg",
        "/etc/escape.jpg",
        "a/../../escape.png",
        "..\\escape.jpg",
        "~/escape.jpg",
        "..",
        ".",
        "s1.\x1b[2J.png",
    )
    members = _members(data)
    number = int(rng.integers(len(members)))
    members[number] = (names[int(rng.integers(len(names)))], members[number][1])
    return _tar(members)


def _link(data: bytes, rng: np.random.Generator) -> bytes:
    """A symbolic or hard link, a device, a pipe or a folder among the members."""
    header = bytearray(member_header("s0000.jpg", 0))
    header[156:157] = (b"1", b"2", b"3", b"4", b"5", b"6")[int(rng.integers(6))]
    header[157:169] = b"/etc/passwd\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    members = _members(data)
    at = int(rng.integers(len(members)))
    return _tar(members[:at])[: -len(_tail(members[:at]))] + bytes(header) + _tar(members[at:])


def _tail(members: Members) -> bytes:
    body = sum(512 + len(data) + len(padding(len(data))) for _, data in members)
    return bytes(len(_tar(members)) - body)


def _alien(data: bytes, rng: np.random.Generator) -> bytes:
    """Tars of other writers: GNU and pax headers, gzip, other members, other keys."""
    members = _members(data)
    choice = int(rng.integers(4))
    if choice == 0:
        return zlib.compress(data)
    if choice == 1:
        return _tar([(f"x{number}.txt", bytes(number)) for number in range(int(rng.integers(1, 9)))])
    if choice == 2:
        return _tar([(name.replace(".", "x.", 1), content) for name, content in members])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(content), {"comment": str(rng.integers(99))}
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _bomb(data: bytes, rng: np.random.Generator) -> bytes:
    """A PNG of a few kB whose header claims up to gigapixels, a JPEG that does, or a header that claims gigabytes."""
    members = _members(data)
    side = int(rng.integers(9000, 60_000))
    choice = int(rng.integers(3))
    if choice == 0:
        number = next(i for i, (name, _) in enumerate(members) if name.endswith(".png"))
        body = zlib.compress(bytes(4_000_000), 1)
        members[number] = (members[number][0], _png(side, side, body))
    elif choice == 1:
        jpeg = bytearray(members[0][1])
        frame = next(i for i in range(len(jpeg)) if jpeg[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
        jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        members[0] = (members[0][0], bytes(jpeg))
    else:
        header = member_header("s0000.jpg", 2**33 - 1 - side)
        return header + _tar(members)
    return _tar(members)


def _png(height: int, width: int, body: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _flipped_where_it_matters(name: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Of the Croissant document only the part that says what the files are: nothing else says again what its prose
    is."""
    if name != "croissant.json":
        return _flip(data, rng)
    document = json.loads(data)
    entry = document["distribution"][int(rng.integers(4))]
    entry["sha256"] = _flip_hex(entry["sha256"], rng)
    return json.dumps(document).encode()


def _flip_hex(text: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(len(text)))
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


def _other_number(data: bytes, rng: np.random.Generator) -> bytes:
    """One count, id or hash of the index is another one; colours are left, for nothing says again what a colour is."""
    index = json.loads(data)
    choice = int(rng.integers(7))
    row = index["samples"][int(rng.integers(len(index["samples"])))]
    if choice == 0:
        index["num_samples"] += int(rng.integers(1, 9))
    elif choice == 1:
        index["splits"][0]["num_shards"] += 1
    elif choice == 2:
        row["pixels"][0][1] += int(rng.integers(1, 99))
    elif choice == 3:
        row["class_id"] = (row["class_id"] + 1) % 254
    elif choice == 4:
        index["shards"][0]["sha256"] = _flip_hex(index["shards"][0]["sha256"], rng)
    elif choice == 5:
        index["shards"][-1]["num_bytes"] += 512
    else:
        index["class_pixels"][int(rng.integers(len(index["class_pixels"])))]["samples"] += 1
    return json.dumps(index).encode()


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flipped bit": _flip,
    "flipped bit in a member": _flip_in_member,
    "cut short": lambda data, rng: data[: int(rng.integers(len(data)))],
    "bytes put in": _with_more,
    "member missing": _missing,
    "members in another order": _reordered,
    "dangerous name": _renamed,
    "link, device or folder": _link,
    "alien tar": _alien,
    "decompression bomb": _bomb,
    "noise": lambda data, rng: rng.bytes(int(rng.integers(0, 20_000))),
}
UNSEALED = ("flipped bit",)  # sealed, a bit of JPEG pixels would be another sound picture
