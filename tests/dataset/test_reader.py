"""Reading a finished dataset: every pixel, one sample in memory, and nothing dangerous accepted."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DatasetError, InputError
from segkit.headers import jpeg_header
from segkit.index import read_index
from segkit.metadata import MEMBERS, ORIGINAL_MEMBERS
from segkit.shards import Dataset
from segkit.stored import decode_jpeg, decode_png
from segkit.ustar import MAX_MEMBER_BYTES, member_header, padding, read_members
from synthgen.images import jpeg_bytes, png_bytes
from synthgen.pack.index import index_bytes


def test_every_pixel_comes_back(made: Any) -> None:
    dataset = Dataset(made.folder)
    samples = list(dataset)
    assert len(samples) == len(dataset) == 6
    assert [sample.key for sample in samples] == sorted(made.arrays)
    for sample in samples:
        image, mask, confidence = made.arrays[sample.key]
        np.testing.assert_array_equal(sample.image, np.asarray(Image.open(io.BytesIO(jpeg_bytes(image)))))
        np.testing.assert_array_equal(sample.mask, mask)
        np.testing.assert_array_equal(sample.confidence, confidence)
        assert sample.meta["key"] == sample.key and sample.meta["attributes"] == ("a=b", "c=d")


def test_splits_and_labels(made: Any) -> None:
    dataset = Dataset(made.folder)
    assert [sample.key for sample in dataset.samples("validation")] == ["s004", "s005"]
    assert [sample.key for sample in dataset.shard_samples(1)] == ["s003"]
    assert (dataset.labels.ids, dataset.labels.background) == ((0, 1, 3), 0)
    with pytest.raises(DatasetError, match="no split 'test'; there are: train, validation"):
        next(dataset.samples("test"))


def test_samples_are_read_one_at_a_time(made: Any) -> None:
    """A damaged third sample does not stop the first two."""
    made.replace("s002.png", b"no png")
    samples = Dataset(made.folder).samples()
    assert [next(samples).key, next(samples).key] == ["s000", "s001"]
    with pytest.raises(DatasetError, match=r"train-000000\.tar: s002\.png: not a PNG"):
        next(samples)


def test_index_bytes_read_back_equal(made: Any) -> None:
    index = read_index(made.folder)
    data = (made.folder / "index.json").read_bytes()
    assert index_bytes(index) == data
    assert json.loads(data)["samples"][0] == {
        "key": "s000",
        "shard": 0,
        "class_id": 1,
        "pixels": json.loads(data)["samples"][0]["pixels"],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format: Input should be 'synthgen-shards'"),
        ({"version": 3}, "version: Input should be 1 or 2"),
        ({"members": ["png", "jpg", "conf.png", "json"]}, "members must be jpg, png, conf.png, json or jpg, png"),
        ({"version": 1, "members": [*MEMBERS, *ORIGINAL_MEMBERS]}, "members must be jpg, png, conf.png, json$"),
        ({"num_samples": "6"}, "num_samples"),
        ({"classes": [{"id": 255, "name": "x", "colour": [0, 0, 0]}]}, r"classes\.0\.id"),
        ({"classes": [{"id": 1, "name": name, "colour": [0, 0, 0]} for name in "ab"]}, "must be unique"),
        ({"shards": None}, "shards"),
    ],
)
def test_an_index_of_another_form_is_refused(made: Any, change: dict[str, Any], message: str) -> None:
    made.write_index({**made.index(), **change})
    with pytest.raises(DatasetError, match=message) as caught:
        Dataset(made.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file", ["../train-000000.tar", "/etc/train-000000.tar", "a/train-000000.tar", "train.tar", "train-000000.tar\n"]
)
def test_an_index_cannot_point_out_of_its_folder(made: Any, file: str) -> None:
    index = made.index()
    index["shards"][0]["file"] = file
    made.write_index(index)
    with pytest.raises(DatasetError, match=r"shards\.0\.file"):
        Dataset(made.folder)


def test_a_sample_of_a_shard_that_is_not_there(made: Any) -> None:
    index = made.index()
    index["samples"][0]["shard"] = 9
    made.write_index(index)
    with pytest.raises(DatasetError, match="'s000' names shard 9, there are 3"):
        Dataset(made.folder)


def test_missing_files_are_named(made: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere/index\.json: no such file"):
        Dataset(tmp_path / "nowhere")
    (made.folder / "train-000001.tar").unlink()
    with pytest.raises(DatasetError, match=r"train-000001\.tar: no such file"):
        list(Dataset(made.folder))


def test_a_shard_with_other_samples_than_the_index_says(made: Any) -> None:
    members = made.members["train-000000.tar"]
    for changed in (
        members[4:],
        members[:-4],
        members[:-1],
        [*members, ("s009.jpg", b"")],
        members[4:8] + members[:4] + members[8:],
    ):
        made.rewrite("train-000000.tar", changed)
        with pytest.raises(DatasetError, match=r"expected the 4 members|not in the index"):
            list(Dataset(made.folder))


def test_pictures_of_different_sizes(made: Any) -> None:
    made.replace("s001.conf.png", png_bytes(np.zeros((3, 4), dtype=np.uint8)))
    with pytest.raises(DatasetError, match=r"s001: .*differ in size"):
        list(Dataset(made.folder))


def _header(name: bytes = b"s1.jpg", kind: bytes = b"0", size: bytes = b"00000000003\0", prefix: bytes = b"") -> bytes:
    plain = member_header("s1.jpg", 3)
    changed = (
        name.ljust(100, b"\0")
        + plain[100:124]
        + size
        + plain[136:148]
        + b" " * 8
        + kind
        + plain[157:345]
        + prefix.ljust(155, b"\0")
    )
    changed = changed.ljust(512, b"\0")
    return changed[:148] + b"%06o\0 " % sum(changed) + changed[156:]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (_header(name=b"../s1.jpg"), "folder in its name"),
        (_header(name=b"/etc/passwd"), "folder in its name"),
        (_header(name=b"..\\s1.jpg"), "folder in its name"),
        (_header(name=b".."), "folder in its name"),
        (_header(name=b""), "folder in its name"),
        (_header(prefix=b"../.."), "folder in its name"),
        (_header(name=b"s\xc3\xa9.jpg"), "not plain ASCII"),
        (_header(name=b"s\x1b[2J.jpg"), "not plain ASCII"),
        (_header(kind=b"1"), "a hard link"),
        (_header(kind=b"2"), "a symbolic link"),
        (_header(kind=b"5"), "a folder"),
        (_header(kind=b"3"), "only plain files"),
        (_header(kind=b"x"), "only plain files"),
        (_header(kind=b"L"), "only plain files"),
        (_header(kind=b"S"), "only plain files"),
        (_header(size=b"77777777777\0"), f"claims {8**11 - 1} bytes"),
        (_header(size=b"%011o\0" % (MAX_MEMBER_BYTES + 1)), "claims"),
        (_header(size=b"\x80" + bytes(10) + b"\x03"), "no valid size"),
        (_header(size=b"-0000000003\0"), "no valid size"),
        (_header(size=b"0_000000003\0"), "no valid size"),
        (b"\xff" + _header()[1:], "damaged tar header"),
        (_header()[:148] + b"no sum\0 " + _header()[156:], "damaged tar header"),
        (b"s" * 512, "damaged tar header"),
        (_header()[:300], "ends early"),
        (b"", "ends early"),
    ],
)
def test_dangerous_or_damaged_headers_are_refused(header: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        list(read_members(io.BytesIO(header + b"abc"), "x.tar"))
    assert str(caught.value).startswith("x.tar: ")


def test_sizes_in_a_header_allocate_nothing() -> None:
    """A member may claim up to MAX_MEMBER_BYTES; a short file then ends early instead."""
    with pytest.raises(DatasetError, match="ends early, inside member"):
        list(read_members(io.BytesIO(_header(size=b"%011o\0" % MAX_MEMBER_BYTES) + b"abc"), "x.tar"))


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(1024) + b"x" + bytes(8191), bytes(10240 + 9216)])
def test_the_end_of_a_tar(end: bytes) -> None:
    body = member_header("s1.jpg", 3) + b"abc" + padding(3)
    with pytest.raises(DatasetError, match=r"ends early|does not end"):
        list(read_members(io.BytesIO(body + end), "x.tar"))
    assert [m.name for m in read_members(io.BytesIO(body + bytes(9216)), "x.tar")] == ["s1.jpg"]


def test_pax_headers_are_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x" * 200))
    buffer.seek(0)
    with pytest.raises(DatasetError, match="only plain files"):
        list(read_members(buffer, "x.tar"))


def _png(height: int, width: int, pixels: bytes, kind: int = 0, depth: int = 8) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def test_bombs_are_refused_by_their_header() -> None:
    """60 kB that would be 100 000 x 100 000 pixels, and a JPEG whose frame claims 65 535 x 65 535."""
    with pytest.raises(InputError, match="claims 100000 x 100000 pixels"):
        decode_png(_png(100_000, 100_000, bytes(60_000_000)), "x.png")
    with pytest.raises(InputError, match="claims 0 x 5 pixels"):
        decode_png(_png(0, 5, b""), "x.png")
    jpeg = bytearray(jpeg_bytes(np.zeros((8, 8, 3), dtype=np.uint8)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(InputError, match="claims 65535 x 65535 pixels"):
        decode_jpeg(bytes(jpeg), "x.jpg")


@pytest.mark.parametrize("mode", ["P", "1", "RGB", "LA", "I;16"])
def test_masks_of_another_kind_are_refused(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (4, 3)).save(buffer, "PNG")
    with pytest.raises(InputError, match="must be an 8-bit L PNG"):
        decode_png(buffer.getvalue(), "x.png")


def test_grey_and_progressive_jpeg() -> None:
    grey, progressive = io.BytesIO(), io.BytesIO()
    Image.new("L", (4, 3)).save(grey, "JPEG")
    with pytest.raises(InputError, match="must be 3 x 4 RGB"):
        decode_jpeg(grey.getvalue(), "x.jpg")
    Image.new("RGB", (4, 3)).save(progressive, "JPEG", progressive=True)
    header = jpeg_header(progressive.getvalue(), "x.jpg")
    assert (header.size, header.subsampling) == ((3, 4), ((2, 2), (1, 1), (1, 1)))
    assert decode_jpeg(progressive.getvalue(), "x.jpg").shape == (3, 4, 3)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x00", b"\xff\xd8\xff\xc0\x00\x04\x08\x00", b"GIF89a"]
)
def test_what_is_no_jpeg(data: bytes) -> None:
    with pytest.raises(InputError, match="not a JPEG"):
        decode_jpeg(data, "x.jpg")
