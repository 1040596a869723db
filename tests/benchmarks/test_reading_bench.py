"""The benchmark of reading: all three readers see the same samples, and the rows are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import reading, run
from benchmarks.drawn_dataset import drawn_dataset

# webdataset leaves closing its files to the collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_dataset(tmp_path_factory.mktemp("reading") / "run", "streets", 54, 64, 12)


def samples(reader: str, folder: Path) -> set[tuple[bytes, bytes]]:
    found = [
        (image.numpy().tobytes(), mask.numpy().tobytes())
        for images, masks in reading.loader(reader, folder, 0)
        for image, mask in zip(images, masks, strict=True)
    ]
    assert len(found) == 36, "each of the split once"
    return set(found)


def test_all_readers_give_the_same_samples(folder: Path) -> None:
    ours = samples("ours", folder)
    assert len(ours) == 36
    assert samples("webdataset", folder) == ours
    assert samples("datasets", folder) == ours


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_speed_counts_what_follows_the_first_batch_of_each_worker(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many batches at once as there are workers, every two seconds, are eight samples a second and worker."""
    now = 10.0

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal now
        for number in range(3 * workers):
            now += 2.0 * (number % workers == 0)
            yield torch.zeros(16, 2, 3, 3), torch.zeros(16, 2, 3)

    monkeypatch.setattr(reading.time, "perf_counter", lambda: now)
    assert reading.samples_a_second(batches(), workers) == 8 * workers


def test_rows_of_readers_crops_and_loop(folder: Path) -> None:
    made = [*reading.reader_rows(folder, 64, 1, rounds=2), *reading.crop_rows(folder, 64, rounds=2, batches=1)]
    made += reading.loop_rows(folder, steps=(1, 3), rounds=2)
    assert {row.name for row in made} == {
        *(f"read/{reader}_64_1" for reader in reading.READERS),
        "read/crops_64",
        *reading.LOOP_ROWS,
    }
    assert all(row.n == 2 and np.isfinite(float(row.value)) for row in made)
    listed = {
        name for path, names in run.BENCHMARKS.items() if path.startswith("benchmarks.reading:") for name in names
    }
    assert listed == {*reading.READ_ROWS, *reading.CROP_ROWS, *reading.LOOP_ROWS}
