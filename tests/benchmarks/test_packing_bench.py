"""The benchmark of packing: both writers write the same samples, and the rows are there."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from benchmarks import packing, run
from benchmarks.drawn_dataset import drawn_dataset
from synthgen.pack.tar import write_shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_dataset(tmp_path_factory.mktemp("packing") / "run", "streets", 12, 48, 4)


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_both_writers_write_the_same_pictures(folder: Path, tmp_path: Path) -> None:
    samples = packing.packed(folder, 5)
    assert len(samples) == 5
    write_shard(tmp_path / "ours.tar", samples)
    ours, theirs = members(tmp_path / "ours.tar"), members(packing._tarwriter(tmp_path / "theirs.tar", samples))
    assert ours.keys() == theirs.keys() and len(ours) == 20
    assert all(theirs[name] == data for name, data in ours.items() if not name.endswith(".json"))


def test_what_is_packed_and_read_is_no_noise(tmp_path: Path) -> None:
    """Noise does not compress: it would be most of what is written, hashed and passed over."""
    made = drawn_dataset(tmp_path / "run", "streets", 3, 256, 3, noisy=False)
    for sample in packing.packed(made, 3):
        assert len(sample.conf_png) < len(sample.jpg) / 2


def test_decoding_decodes_what_verifying_does(folder: Path) -> None:
    shard = folder / "train-000000.tar"
    pictures = {name for name in members(shard) if not name.endswith(".json")}
    assert {name.partition(".")[2] for name in pictures} == {"jpg", "png", "conf.png"}
    assert packing._pixels(shard) == len(pictures) // 3 * 48 * 72 * (3 + 1 + 1)


def test_rows_of_writers_and_checks(folder: Path) -> None:
    made = [*packing.writer_rows(packing.packed(folder, 5), 64, rounds=2), *packing.check_rows(folder, 64, rounds=2)]
    wanted = (*packing.WRITERS, *packing.CHECKS)
    assert [row.name for row in made] == [f"pack/{name}_64" for name in wanted]
    assert all(row.n == 2 and float(row.value) > 0 and row.unit == "MB/s" for row in made)
    listed = {
        name for path, names in run.BENCHMARKS.items() if path.startswith("benchmarks.packing:") for name in names
    }
    assert listed == {*packing.WRITE_ROWS, *packing.CHECK_ROWS}


def test_a_dataset_that_is_broken_gives_no_row(folder: Path) -> None:
    shard = next(folder.glob("*.tar"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    try:
        with pytest.raises(RuntimeError, match=r"train-|validation-"):
            list(packing.check_rows(folder, 64, rounds=1))
    finally:
        shard.write_bytes(whole)
