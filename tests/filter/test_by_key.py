"""Rows sorted through files, and the near-duplicate check over them: the decisions of having all in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doubles.rows import changed
from doubles.rows import row as row_of
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.filter import by_key
from synthgen.filter.by_key import ByKey
from synthgen.filter.duplicates import Kept, nearest_kept
from synthgen.filter.stage import FilterStage
from synthgen.records import Rejected, Sample, ScoredRecord, key_of
from synthgen.rows import StoredRows, write_rows
from synthgen.settings import Rules
from synthgen.similarity import greedy, spool

SCORED: ScoredRecord = row_of(
    ScoredRecord,
    key="s0",
    parent="p0",
    class_name="cat",
    class_id=8,
    prompt="a cat",
    attributes=("place=sand",),
    seed=1,
    image="i.png",
    height_px=64,
    width_px=64,
    renderer="r",
    model_revision="",
    steps=20,
    guidance=3.0,
    layout="",
    mask="m.png",
    confidence="f.png",
    region_similarity=0.8,
    filled_fraction=1.0,
    labelled_fraction=0.9,
    class_fraction=0.3,
    sam_predicted_iou=0.9,
    text_image_score=0.4,
    class_rank=0,
    pixel_std=40.0,
    image_embedding=(1.0, 0.0),
)


def scored(count: int, seed: int = 0) -> list[ScoredRecord]:
    """Rows in an order that is not that of their keys; some are near each other, some break a rule."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 8)) * 0.2 + rng.standard_normal((9, 8))[rng.integers(0, 9, count)]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return [
        changed(
            SCORED,
            key=key_of("s", n),
            pixel_std=0.0 if n % 11 == 3 else 40.0,
            image_embedding=tuple(map(float, vectors[n])),
        )
        for n in range(count)
    ]


def stored(rows: list[ScoredRecord], folder: Path, unit_rows: int) -> StoredRows:
    folder.mkdir()
    paths = []
    for start in range(0, len(rows), unit_rows):
        paths.append(folder / f"{start}.parquet")
        write_rows(rows[start : start + unit_rows], ScoredRecord, paths[-1])
    return StoredRows(paths, ScoredRecord)


@pytest.mark.parametrize(("count", "unit_rows"), [(0, 5), (1, 5), (20, 7), (21, 50), (150, 7), (150, 64)])
def test_stored_rows_are_decided_as_rows_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, unit_rows: int
) -> None:
    rules = Rules(max_image_similarity=0.9, min_pixel_std=5, max_class_fraction=0.8)
    rows = scored(count)
    whole = list(FilterStage(rules, 0.2).process(rows, tmp_path, "00000"))
    if count == 150:
        assert {type(row) for row in whole} == {Sample, Rejected} and len(
            {row.reason for row in whole if isinstance(row, Rejected)}
        ) == 2
    monkeypatch.setattr(by_key, "BLOCK_ROWS", 20)
    monkeypatch.setattr(greedy, "WORK_ELEMENTS", 320)
    monkeypatch.setattr(greedy, "ROWS", 8)
    monkeypatch.setattr(spool, "IN_MEMORY", 64)
    assert list(FilterStage(rules, 0.2).process(stored(rows, tmp_path / "unit", unit_rows), tmp_path, "00000")) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["unit"], "what was sorted into files is gone"


def test_blocks_come_in_the_order_of_keys_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scored(60)
    monkeypatch.setattr(by_key, "BLOCK_ROWS", 16)
    ordered = sorted(rows, key=lambda row: row.key)
    with ByKey(stored(rows, tmp_path / "unit", 9), tmp_path) as blocks:
        for _ in range(2):
            found, vectors = zip(*blocks, strict=True)
            assert [row.key for block in found for row in block] == [row.key for row in ordered]
            np.testing.assert_array_equal(
                np.concatenate(vectors), np.array([row.image_embedding for row in ordered], np.float32)
            )
            assert max(map(len, found)) <= 16


def _float64(vectors: np.ndarray, threshold: float) -> list[float]:
    kept: list[np.ndarray] = []
    found = []
    for vector in vectors.astype(np.float64):
        found.append(round(min(1.0, max(-1.0, max((float(vector @ other) for other in kept), default=-1.0))), 6))
        if found[-1] <= threshold:
            kept.append(vector)
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 80),
    st.sampled_from([2, 5, 300]),
    st.sampled_from([0.0, 1e-7, 1e-5, 1e-3, 1.0]),
    st.booleans(),
)
def test_float32_first_gives_what_float64_gives(seed: int, count: int, width: int, apart: float, single: bool) -> None:
    """Also where vectors are nearer to each other than float32 can tell apart."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((3, width))[rng.integers(0, 3, count)] + apart * rng.standard_normal((count, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors.astype(np.float32 if single else np.float64)
    for threshold in (1.0, 0.999999, 0.9):
        with pytest.MonkeyPatch.context() as patch, Kept() as kept:
            patch.setattr(greedy, "WORK_ELEMENTS", 77)
            patch.setattr(greedy, "ROWS", 4)
            found = [
                value
                for start in range(0, count, 11)
                for value in kept.check(vectors[start : start + 11], lambda _, s, t=threshold: s <= t)
            ]
        assert found == pytest.approx(_float64(vectors, threshold), abs=1.1e-6)
        np.testing.assert_allclose(found, nearest_kept(vectors, lambda _, s, t=threshold: s <= t), atol=1.1e-6)
