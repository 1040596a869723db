"""Every version of the shard format that was ever written is still verified, exported, reported and trained on.

tests/golden/version_1 is frozen: the tiny recipe as the first `synthgen pack` wrote it, without its contact sheet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.index import read_index
from segkit.shards import Dataset
from synthgen.dataset.verify import verify
from synthgen.export.catalogue import available
from synthgen.export.run import export

VERSION_1 = Path(__file__).resolve().parents[1] / "golden" / "version_1"


def test_the_frozen_set_has_not_been_touched() -> None:
    index = json.loads((VERSION_1 / "index.json").read_text())
    assert index["version"] == 1
    for shard in index["shards"]:
        assert hashlib.sha256((VERSION_1 / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]


def test_version_1_is_sound() -> None:
    assert verify(VERSION_1) == []
    assert len(Dataset(VERSION_1)) == read_index(VERSION_1).num_samples == 6


@pytest.mark.parametrize("name", [name for name in available() if name not in ("cityscapes", "photographs")])
def test_version_1_is_exported(name: str, tmp_path: Path) -> None:
    assert export(VERSION_1, name, tmp_path / "out").num_new == 6


def test_version_1_is_trained_on() -> None:
    from segtrain.data.shards import ShardSource

    source = ShardSource(VERSION_1, "train")
    assert source.label_space.name == "tiny"
    for row, sample in enumerate(Dataset(VERSION_1).samples("train")):
        trained = source.read(row)
        assert np.array_equal(trained.image, sample.image) and np.array_equal(trained.mask, sample.mask)


def test_version_1_is_reported(undisturbed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = shutil.copytree(undisturbed, tmp_path / "run")
    shutil.rmtree(run / "dataset")
    shutil.copytree(VERSION_1, run / "dataset")
    done = cli("report", run)
    assert done.exit_code == 0, done.output


def test_a_field_that_samples_gain_later_breaks_no_older_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.pack import fields

    monkeypatch.setattr(fields, "SAMPLE_FIELDS", {**fields.SAMPLE_FIELDS, "weather": str})
    assert verify(VERSION_1) == []
    for sample in Dataset(VERSION_1):
        assert dataclasses.asdict(sample)["meta"]["key"] == sample.key
