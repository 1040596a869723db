"""Traps of the loaders, against the loaders themselves:

what a first look at a shard must not decide for the samples that come later.

Hugging Face `datasets` takes the columns of a tar from its first five samples. A shard whose first samples are all
whole numbers, empty texts and empty lists must read as one whose samples are not.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.metadata import FIELDS
from synthgen.images import jpeg_bytes, png_bytes
from synthgen.pack.tar import PackedSample, write_shard

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's deprecations are not ours to fail on
EARLY: dict[Any, Any] = {float: 1.0, int: 0, str: "", tuple[str, ...]: ()}
LATE: dict[Any, Any] = {float: 0.5, int: 2**61 + 1, str: "r\u00e9vision", tuple[str, ...]: ("time=night", "place=sea")}


def sample(number: int) -> PackedSample:
    plain = EARLY if number < 8 else LATE
    facts = {name: plain[kind] for name, kind in FIELDS.items()}
    facts |= {"key": f"s{number:03d}", "split": "train", "height_px": 8, "width_px": 8, "class_id": number % 3}
    image = np.full((8, 8, 3), number, np.uint8)
    mask = np.full((8, 8), (0, 1, 2, 254, 255)[number % 5], np.uint8)
    return PackedSample(jpeg_bytes(image), png_bytes(mask), png_bytes(255 - mask), facts)


@pytest.fixture(scope="module")
def samples() -> list[PackedSample]:
    return [sample(number) for number in range(12)]


@pytest.fixture(scope="module")
def shard(samples: list[PackedSample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traps") / "train-000000.tar"
    write_shard(path, samples)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_the_first_five_samples_decide_nothing(
    shard: Path, samples: list[PackedSample], tmp_path: Path, streaming: bool
) -> None:
    datasets = pytest.importorskip(
        "datasets", reason="datasets is not installed (extra interop), its view of a shard is not checked"
    )
    datasets.disable_progress_bars()
    rows = list(
        datasets.load_dataset(
            "webdataset", data_files=str(shard), split="train", streaming=streaming, cache_dir=str(tmp_path)
        )
    )
    assert [row["__key__"] for row in rows] == [each.key for each in samples]
    for row, wanted in zip(rows, samples, strict=True):
        assert row.keys() == {"__key__", "__url__", "jpg", "png", "conf.png", "json"}
        found = {
            name: tuple(filter(None, value)) if isinstance(value, list) else value
            for name, value in row["json"].items()
        }
        assert found == dict(wanted.metadata)
        assert {name: type(value) for name, value in found.items()} == {
            name: type(value) for name, value in wanted.metadata.items()
        }
        np.testing.assert_array_equal(np.asarray(row["png"]), np.asarray(Image.open(io.BytesIO(wanted.png))))
