"""Finished datasets by row and in order: every version that ever was, the original of a pair, and hostile files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DatasetError
from segkit.metadata import MEMBERS, ORIGINAL_MEMBERS
from segkit.shards import Dataset, ShardRows, require_same_bytes
from segkit.ustar import RECORD, member_header, padding

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
VERSION_1 = (GOLDEN / "shards", GOLDEN / "version_1")  # made by hand; as `synthgen pack` wrote it


def by_tarfile(*paths: Path) -> list[dict[str, bytes]]:
    """The members of every sample, as Python's own tarfile reads them."""
    samples: dict[str, dict[str, bytes]] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, field = member.name.partition(".")
                samples.setdefault(key, {})[field] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return list(samples.values())


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    body = b"".join(member_header(name, len(data)) + data + padding(len(data)) for name, data in members) + bytes(1024)
    path.write_bytes(body + padding(len(body), RECORD))


def change_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    index = json.loads((folder / "index.json").read_text())
    change(index)
    for shard in index["shards"]:
        path = folder / shard["file"]
        if path.is_file() and shard["num_bytes"] != path.stat().st_size:
            shard["num_bytes"] = path.stat().st_size
            shard["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


def encoded(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "shards", tmp_path / "dataset"))


@pytest.fixture
def pairs(folder: Path) -> Path:
    """The golden set as version 2, each sample with an original that is its negative, and with one more JSON field."""
    for path in sorted(folder.glob("*.tar")):
        members = []
        for sample in by_tarfile(path):
            meta = json.loads(sample["json"])
            key, mask = meta["key"], np.asarray(Image.open(io.BytesIO(sample["png"])))
            image = np.asarray(Image.open(io.BytesIO(sample["jpg"])))
            sample["json"] = json.dumps({**meta, "weather": "fog"}, sort_keys=True).encode()
            sample["orig.jpg"] = encoded(255 - image, "JPEG")
            sample["orig.png"] = encoded(np.where(mask == 0, 0, 255).astype(np.uint8), "PNG")
            members += [(f"{key}.{field}", sample[field]) for field in MEMBERS + ORIGINAL_MEMBERS]
        write_tar(path, members)
    change_index(folder, lambda index: index.update(version=2, members=[*MEMBERS, *ORIGINAL_MEMBERS]))
    return folder


@pytest.mark.parametrize("folder_1", VERSION_1, ids=["by_hand", "by_pack"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_version_1_reads_the_same_by_row_in_order_and_by_plain_tarfile(folder_1: Path, split: str) -> None:
    rows, ordered = ShardRows(folder_1, split), Dataset(folder_1).samples(split)
    plain = by_tarfile(*sorted(folder_1.glob(f"{split}-*.tar")))
    assert len(rows) == len(plain) > 0 and not rows.has_originals
    for number, (sample, members) in reversed(list(enumerate(zip(ordered, plain, strict=True)))):
        assert rows.read(number, MEMBERS)[0] == members
        by_row = rows.read_sample(number)
        assert by_row.key == sample.key and by_row.meta == sample.meta and by_row.original is None
        for name, field in (("image", "jpg"), ("mask", "png"), ("confidence", "conf.png")):
            expected = np.asarray(Image.open(io.BytesIO(members[field])))
            assert np.array_equal(getattr(by_row, name), expected) and np.array_equal(getattr(sample, name), expected)


def test_version_2_gives_the_original_of_a_pair_and_lets_unknown_fields_pass(pairs: Path) -> None:
    rows = ShardRows(pairs, "train")
    assert rows.has_originals
    for number, sample in enumerate(Dataset(pairs).samples("train")):
        assert sample.meta["weather"] == "fog" and len(sample.encoded) == 6
        for found in (sample, rows.read_sample(number)):
            assert found.original is not None
            image, mask = found.original
            assert np.abs(image.astype(int) - (255 - found.image.astype(int))).mean() < 6
            assert np.array_equal(mask, np.where(found.mask == 0, 0, 255))
        contents, _ = rows.read(number, ("orig.png",))
        assert list(contents) == ["orig.png"]


def test_an_original_of_another_size_is_refused(pairs: Path) -> None:
    path = pairs / "train-000000.tar"
    samples = by_tarfile(path)
    samples[1]["orig.png"] = encoded(np.zeros((3, 4), np.uint8), "PNG")
    keys = [json.loads(sample["json"])["key"] for sample in samples]
    fields = MEMBERS + ORIGINAL_MEMBERS
    write_tar(
        path, [(f"{key}.{field}", sample[field]) for key, sample in zip(keys, samples, strict=True) for field in fields]
    )
    change_index(pairs, lambda index: None)
    rows = ShardRows(pairs, "train")
    rows.read_sample(0)
    with pytest.raises(DatasetError, match=r"image, mask, confidence and original differ in size: .*3 x 4"):
        rows.read_sample(1)


def test_rows_travel_to_other_processes(folder: Path) -> None:
    rows = ShardRows(folder, "train")
    rows.read(0)
    again = pickle.loads(pickle.dumps(rows))
    assert [again.read(row) for row in range(len(rows))] == [rows.read(row) for row in range(len(rows))]


def test_the_split_is_validation_where_none_is_named(folder: Path) -> None:
    assert ShardRows(folder).split == "validation"
    with pytest.raises(DatasetError, match="no samples in split 'test'; it has: train, validation"):
        ShardRows(folder, "test")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda index: index.update(version=3), "version: Input should be 1 or 2"),
        (lambda index: index.update(format="other"), "format: Input should be 'synthgen-shards'"),
        (lambda index: index["shards"][0].update(num_samples=10**12), "cannot hold 1000000000000 samples"),
        (lambda index: index["shards"][0].update(num_samples=2**63), r"shards\.0\.num_samples"),
        (lambda index: index["shards"][0].update(num_samples=10**30), r"shards\.0\.num_samples"),
        (lambda index: index["shards"][0].update(num_samples="3"), r"shards\.0\.num_samples"),
        (lambda index: index["shards"][0].update(num_samples=3), "16 members, the index says 3 samples"),
        (lambda index: index["shards"][0].update(num_samples=5), "16 members, the index says 5 samples"),
        (lambda index: index["shards"][0].update(split="other"), "split 'other' of a shard is not listed"),
        (lambda index: index["shards"][0].update(file="../a-000000.tar"), r"shards\.0\.file"),
        (lambda index: index["shards"][0].update(file="http://x/train-000000.tar"), r"shards\.0\.file"),
        (lambda index: index["shards"][0].update(file="train-000009.tar"), "the file is missing"),
        (lambda index: index["classes"][0].update(name="a\nb"), "has control characters"),
        (lambda index: index["classes"][0].update(id=255), r"classes\.0\.id"),
    ],
)
def test_an_index_that_lies_is_one_line(folder: Path, change: Callable[[dict[str, Any]], Any], says: str) -> None:
    change_index(folder, change)
    with pytest.raises(DatasetError, match=says) as caught:
        ShardRows(folder, "train").read(0)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"format": "synthgen-shards", "format": "synthgen-shards"}', "\xff", "", "9" * 5000, "[NaN]"],
)
def test_an_index_that_is_no_document_is_one_line(folder: Path, text: str) -> None:
    (folder / "index.json").write_text(text, encoding="latin-1")
    for read in (Dataset, ShardRows):
        with pytest.raises(DatasetError, match=r"index\.json: ") as caught:
            read(folder)
        assert "\n" not in str(caught.value)


def test_pipes_and_endless_devices_do_not_hang(folder: Path) -> None:
    for name in ("train-000000.tar", "index.json"):
        for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            (folder / name).unlink()
            make(folder / name)
            with pytest.raises(DatasetError, match="must be a regular file"):
                ShardRows(folder, "train")
            with pytest.raises(DatasetError, match="must be a regular file"):
                list(Dataset(folder))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a.jpg", "a.png", "a.conf.png", "a.json", "a.jpg"), "does not belong to this index"),
        (("b.jpg", "b.png", "b.conf.png", "b.json", "a.jpg", "a.png", "a.conf.png", "a.json"), "keys ascend"),
        (("a.jpg", "a.png", "a.conf.png", "a.json") * 2, "keys ascend"),
        (("a.png", "a.jpg", "a.conf.png", "a.json"), "expected the 4 members of sample 'a', there are: a.png, a.jpg"),
        (("a.jpg", "a.png", "b.conf.png", "a.json"), "expected the 4 members"),
        (("12.jpg", "12.png", "12.conf.png", "12.json"), "expected the 4 members"),
    ],
)
def test_members_in_another_order_are_refused_and_never_taken_for_others(
    folder: Path, names: tuple[str, ...], says: str
) -> None:
    path = folder / "train-000000.tar"
    content = by_tarfile(path)[0]
    write_tar(path, [(name, content[name.partition(".")[2]]) for name in names])
    change_index(folder, lambda index: index["shards"][0].update(num_samples=max(1, len(names) // 4), num_bytes=0))
    with pytest.raises(DatasetError, match=says):
        ShardRows(folder, "train").read(0)


def test_links_and_pax_headers_are_refused(folder: Path) -> None:
    path = folder / "train-000000.tar"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            info = tarfile.TarInfo("a.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        change_index(folder, lambda index: index["shards"][0].update(num_samples=1, num_bytes=0))
        with pytest.raises(DatasetError, match="only plain files are read"):
            ShardRows(folder, "train").read(0)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.pax_headers = {"GNU.sparse.size": "9", "path": "b.jpg"}
        tar.addfile(info)
    change_index(folder, lambda index: index["shards"][0].update(num_samples=1, num_bytes=0))
    with pytest.raises(DatasetError, match="of kind b'x'; only plain files are read"):
        ShardRows(folder, "train").read(0)


def test_every_truncation_is_found_before_the_first_sample(folder: Path) -> None:
    path = folder / "train-000001.tar"
    whole = path.read_bytes()
    for left in range(0, len(whole), 4001):
        path.write_bytes(whole[:left])
        with pytest.raises(DatasetError, match=f"{left} bytes, the index says {len(whole)}"):
            ShardRows(folder, "train")


def test_a_flipped_bit_is_found_by_the_checksum(folder: Path) -> None:
    path = folder / "train-000000.tar"
    sha256 = ShardRows(folder, "train").shards[0].sha256
    require_same_bytes(path, sha256)
    data = bytearray(path.read_bytes())
    data[900] ^= 16
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train-000000\.tar: is damaged: its sha256 is"):
        require_same_bytes(path, sha256)
