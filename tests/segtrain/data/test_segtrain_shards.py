from __future__ import annotations

import ast
import gc
import io
import json
import os
import runpy
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

import segtrain
from segkit.labels import label_space_of
from segtrain.data.folders import FolderSource
from segtrain.data.formats import open_dataset
from segtrain.data.shards import ShardSource
from segtrain.data.source import Source
from segtrain.errors import DataError

MEMBERS = ["jpg", "png", "conf.png", "json"]


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def pair_of(source: Source, row: int) -> tuple[np.ndarray, np.ndarray]:
    sample = source.read(row)
    return sample.image, sample.mask


def by_tarfile(golden: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The plain reading that the others are held against."""
    samples = []
    for path in sorted(golden.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            names = tar.getnames()
            for start in range(0, len(names), len(MEMBERS)):
                files = [tar.extractfile(name) for name in names[start : start + 2]]
                image, mask = (np.asarray(Image.open(file)) for file in files if file)
                samples.append((image, mask))
    return samples


def same(left: list[tuple[np.ndarray, np.ndarray]], right: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize(("split", "count"), [("train", 8), ("validation", 4)])
def test_the_golden_shards_read_the_same_by_row_and_by_plain_tarfile(golden: Path, split: str, count: int) -> None:
    source = ShardSource(golden, split)
    read = [pair_of(source, row) for row in range(count)]
    assert same(read, by_tarfile(golden, split))
    assert sum(source.group_sizes) == count
    assert {mask.shape for _, mask in read} == {(48, 64), (64, 48), (40, 40)}
    assert [c.id for c in source.label_space.labels] == [0, 3, 7]


def test_the_golden_shards_read_the_same_as_a_webdataset_stream(golden: Path) -> None:
    urls = [str(path) for path in sorted(golden.glob("train-*.tar"))]
    with warnings.catch_warnings():
        # webdataset leaves closing its files to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        stream = iter(webdataset.WebDataset(urls, shardshuffle=False))
        streamed = [
            tuple(np.asarray(Image.open(io.BytesIO(sample[suffix]))) for suffix in ("jpg", "png")) for sample in stream
        ]
        del stream
        gc.collect()
    assert same(streamed, by_tarfile(golden, "train"))


def test_the_golden_shards_read_the_same_from_an_unpacked_folder(golden: Path, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for path in golden.glob("train-*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                folder = {"jpg": "images", "png": "labels"}.get(suffix)
                file = tar.extractfile(member)
                if folder and file:
                    (tmp_path / folder / f"{key}.{suffix}").write_bytes(file.read())
    source = FolderSource(tmp_path, ShardSource(golden, "train").label_space)
    assert same([pair_of(source, row) for row in range(8)], by_tarfile(golden, "train"))


def test_the_golden_shards_keep_the_contract(golden: Path) -> None:
    """Members, order and header fields of docs/SHARD_FORMAT.md; the index tells the truth about the tars."""
    index = json.loads((golden / "index.json").read_text())
    keys = []
    for shard in index["shards"]:
        path = golden / shard["file"]
        assert path.stat().st_size == shard["num_bytes"]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert [m.name.partition(".")[2] for m in members] == MEMBERS * shard["num_samples"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
        keys += [m.name.partition(".")[0] for m in members[:: len(MEMBERS)]]
    assert keys == [sample["key"] for sample in index["samples"]] == sorted(keys)
    masks = [mask for split in ("train", "validation") for _, mask in by_tarfile(golden, split)]
    for mask, sample in zip(masks, index["samples"], strict=True):
        assert np.stack(np.unique(mask, return_counts=True), axis=1).tolist() == sample["pixels"]


def test_the_golden_script_makes_the_committed_masks(golden: Path, tmp_path: Path) -> None:
    runpy.run_path(str(golden.parent / "make_shards.py"))["main"](tmp_path)
    for split in ("train", "validation"):
        for (_, made), (_, kept) in zip(by_tarfile(tmp_path, split), by_tarfile(golden, split), strict=True):
            assert np.array_equal(made, kept)


def test_validation_is_the_default_split_where_there_is_one(golden: Path, tmp_path: Path, write_shards, pairs) -> None:
    assert ShardSource(golden, "").split == "validation"
    assert ShardSource(write_shards(tmp_path / "d", pairs(2)), "").split == "train"
    with pytest.raises(DataError, match="no samples in split 'test'; it has: train, validation"):
        ShardSource(golden, "test")


def change_index(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**index, **changes}))

    return change


def change_shard(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        index["shards"][0].update(changes)
        (folder / "index.json").write_text(json.dumps(index))

    return change


def cut(folder: Path) -> None:
    path = folder / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:2000])


def cut_and_say_so(folder: Path) -> None:
    """The index agrees with the cut file: only the walk over the headers can find it."""
    cut(folder)
    change_shard(num_bytes=2000)(folder)


def rewrite_shard(
    change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]],
    form: int = tarfile.USTAR_FORMAT,
) -> Callable[[Path], None]:
    """Write the first shard anew with other members, and let the index agree with its size."""

    def spoil(folder: Path) -> None:
        path = folder / "train-000000.tar"
        with tarfile.open(path) as tar:
            members = [(info, file.read()) for info in tar if (file := tar.extractfile(info))]
        with tarfile.open(path, "w", format=form) as tar:
            for info, data in change(members):
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        change_shard(num_bytes=path.stat().st_size)(folder)

    return spoil


def replace_member(number: int, data: bytes) -> Callable[[Path], None]:
    return rewrite_shard(lambda members: [*members[:number], (members[number][0], data), *members[number + 1 :]])


def twice(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The first image comes again at the end: tarfile would take the last one."""
    return [*members, members[0]]


def renamed(name: str) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        members[0][0].name = name
        return members

    return change


def sparse(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Headers that tarfile trips over."""
    members[0][0].pax_headers = {"GNU.sparse.size": "x", "GNU.sparse.numblocks": "y"}
    return members


def zipped_text(png: bytes) -> bytes:
    """The PNG with a zTXt chunk whose text unpacks to megabytes, before its pixels."""
    body = b"zTXtk\0\0" + zlib.compress(b"a" * 2**23)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


def as_gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32)).save(buffer, "GIF")
    return buffer.getvalue()


def flipped_bit(png: bytes) -> bytes:
    place = png.index(b"IDAT") + 8
    return png[:place] + bytes([png[place] ^ 1]) + png[place + 1 :]


MASK = png(np.zeros((32, 32), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "index.json").unlink(), "neither a finished dataset .no index.json"),
        (lambda folder: (folder / "index.json").write_text("{"), "index.json"),
        (lambda folder: (folder / "index.json").write_text("[]"), "index.json"),
        (lambda folder: (folder / "index.json").write_text("[" * 100_000), "index.json"),
        (change_index(format="other"), "format"),
        (change_index(version=9), "version"),
        (change_index(classes=[{"id": 254, "name": "x", "colour": [0, 0, 0]}]), r"classes\.0\.id"),
        (change_index(classes=[{"id": 1, "name": "a\nb", "colour": [0, 0, 0]}]), "control characters or line breaks"),
        (change_index(ignore=0), "ignore"),
        (change_index(shards=None), "shards"),
        (change_shard(file="pipe:cat x.tar"), r"shards\.0\.file"),
        (change_shard(file="../x.tar"), r"shards\.0\.file"),
        (change_shard(file="/etc/passwd"), r"shards\.0\.file"),
        (change_shard(split="other"), "split 'other' of a shard is not listed"),
        (change_shard(num_samples="4"), "num_samples"),
        (change_shard(num_samples=10**12), "cannot hold 1000000000000 samples"),
        (change_shard(num_samples=2**63), "num_samples"),
        (change_shard(num_samples=10**30), "num_samples"),
        (change_shard(num_samples=float("nan")), "num_samples|JSON"),
        (change_shard(num_samples=3), "the index says 3 samples of 4"),
        (lambda folder: (folder / "train-000000.tar").unlink(), "train-000000.tar.*missing"),
        (cut, "train-000000.tar: 2000 bytes, the index says .*truncated"),
        (cut_and_say_so, "train-000000.tar: "),
        (rewrite_shard(twice), "train-000000.tar: "),
        (rewrite_shard(renamed("/s0000.jpg")), "train-000000.tar: "),
        (rewrite_shard(renamed("a/s0000.jpg")), "train-000000.tar: "),
        (rewrite_shard(renamed("s" * 200 + ".jpg"), tarfile.PAX_FORMAT), "train-000000.tar: "),
        (rewrite_shard(sparse, tarfile.PAX_FORMAT), "train-000000.tar: "),
        (replace_member(0, as_gif()), r"image of .*sample 0: .*JPEG"),
        (replace_member(0, b""), r"image of .*sample 0"),
        (replace_member(1, as_gif()), r"mask of .*sample 0: .*PNG"),
        (replace_member(1, flipped_bit(MASK)), r"mask of .*sample 0"),
        (replace_member(1, MASK[:60]), r"mask of .*sample 0"),
        (replace_member(1, png(np.zeros((32, 32, 3), np.uint8))), r"mask of .*sample 0: must be an 8-bit L PNG"),
    ],
)
def test_a_broken_dataset_gives_one_line(
    tmp_path: Path, write_shards, pairs, spoil: Callable[[Path], None], says: str
) -> None:
    folder = write_shards(tmp_path / "d", pairs(4))
    spoil(folder)
    with pytest.raises(DataError, match=says) as caught:
        open_dataset(folder, "train", None).read(0)
    assert "\n" not in str(caught.value)


def test_text_that_unpacks_to_megabytes_is_passed_over(tmp_path: Path, write_shards, pairs) -> None:
    folder = write_shards(tmp_path / "d", pairs(4))
    replace_member(1, zipped_text(MASK))(folder)
    try:
        assert not open_dataset(folder, "train", None).read(0).mask.any()
    except DataError as error:
        assert "\n" not in str(error)


def test_a_run_folder_is_told_from_its_dataset(tmp_path: Path, write_shards, pairs) -> None:
    write_shards(tmp_path / "run" / "dataset", pairs(2))
    with pytest.raises(DataError, match=r"run: is a run of synthgen, its dataset is .*run/dataset: name that"):
        open_dataset(tmp_path / "run", "train", None)


def test_an_index_that_is_no_file_is_one_line(tmp_path: Path) -> None:
    """A pipe would hang, a link to a device would never end."""
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(DataError, match="neither a finished dataset"):
        open_dataset(tmp_path, "train", None)
    (tmp_path / "index.json").unlink()
    (tmp_path / "index.json").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="neither a finished dataset"):
        open_dataset(tmp_path, "train", None)


@pytest.mark.parametrize("path", ["pipe:cat x.tar", "http://host/set", "s3://bucket/set"])
def test_urls_and_pipes_are_refused(path: str) -> None:
    with pytest.raises(DataError, match="only local folders are read"):
        open_dataset(path, "train", None)


def test_an_image_and_a_mask_of_different_size_are_named(tmp_path: Path, write_shards, write_folder) -> None:
    pair = (np.zeros((20, 30, 3), np.uint8), np.zeros((20, 31), np.uint8))
    with pytest.raises(DataError, match=r"train-000000.tar: sample 0: the image is 30 x 20 px, its mask 31 x 20"):
        open_dataset(write_shards(tmp_path / "s", [pair]), "train", None).read(0)
    with pytest.raises(DataError, match=r"f0000.png: is 20 x 31 px \(H x W\), its image 20 x 30"):
        open_dataset(write_folder(tmp_path / "f", [pair]), "", None).read(0)


def test_a_colour_mask_and_a_broken_picture_are_named(tmp_path: Path, write_folder) -> None:
    mask = np.full((8, 8, 3), (0, 0, 1), np.uint8)
    folder = write_folder(tmp_path / "f", [(np.zeros((8, 8, 3), np.uint8), mask)] * 2)
    with pytest.raises(DataError, match=r"labels/f0000.png: colours \[0, 0, 1\]"):
        open_dataset(folder, "", None).read(0)
    (folder / "images" / "f0001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"images/f0001.png: cannot be read as an image"):
        open_dataset(folder, "", None).read(1)


def test_a_palette_mask_gives_its_indices(tmp_path: Path, write_folder, pairs) -> None:
    folder = write_folder(tmp_path / "f", pairs(1))
    mask = Image.open(folder / "labels" / "f0000.png").copy()
    mask.putpalette([(37 * i) % 256 for i in range(768)])
    mask.save(folder / "labels" / "f0000.png")
    assert np.array_equal(open_dataset(folder, "", None).read(0).mask, pairs(1)[0][1])


def test_every_image_of_a_folder_needs_its_mask(tmp_path: Path, write_folder, pairs) -> None:
    folder = write_folder(tmp_path / "f", pairs(3))
    (folder / "labels" / "f0001.png").unlink()
    with pytest.raises(DataError, match=r"f0001.png: has no partner labels/f0001.png"):
        open_dataset(folder, "", None)


def test_an_empty_folder_and_one_without_classes_are_refused(tmp_path: Path, write_folder, pairs) -> None:
    with pytest.raises(DataError, match="images: no image in it"):
        open_dataset(write_folder(tmp_path / "empty", []), "", None)
    with pytest.raises(DataError, match=r"no labels.yaml beside images/"):
        open_dataset(write_folder(tmp_path / "unnamed", pairs(1), label_space=False), "", None)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "nowhere", "", None)


def test_identity_follows_the_content_and_not_the_place(tmp_path: Path, write_shards, write_folder, pairs) -> None:
    for write in (write_shards, write_folder):
        here, there = (
            open_dataset(write(tmp_path / write.__qualname__[:12] / name, pairs(3)), "", None) for name in "ab"
        )
        other = open_dataset(write(tmp_path / write.__qualname__[:12] / "c", pairs(4)), "", None)
        assert here.identity == there.identity != other.identity


def test_the_trainer_knows_nothing_of_the_generator() -> None:
    for path in Path(segtrain.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "synthgen" for name in names), path


def test_the_index_gives_the_label_space(golden: Path) -> None:
    raw = json.loads((golden / "index.json").read_text())
    expected = label_space_of({"name": raw["name"], "background": raw["background"], "labels": raw["classes"]}, "index")
    assert ShardSource(golden, "train").label_space == expected
