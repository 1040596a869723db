"""Peak memory does not grow with the number of samples; `make bench ROWS=engine/rss` is the long version."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stage_memory import peak_rss_mb


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["refine", "filter", "pack"])
def test_peak_memory_is_flat(tmp_path: Path, stage: str) -> None:
    for size in (1000, 4000):
        (tmp_path / str(size)).mkdir()
    small, large = (peak_rss_mb(tmp_path / str(size), stage, size) for size in (1000, 4000))
    assert large <= 1.1 * small
