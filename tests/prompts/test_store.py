from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from synthgen.errors import StorageError
from synthgen.models import TextEmbedding
from synthgen.prompts.store import EmbeddingWriter


def test_any_shapes_can_be_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    rng = np.random.default_rng(0)
    written = {
        f"p{i}": TextEmbedding(rng.standard_normal((i, 3)).astype(np.float32), rng.standard_normal(5))
        for i in range(1, 12)
    }
    with EmbeddingWriter(path) as writer:
        for key, embedding in written.items():
            writer.add(key, embedding)
        assert not path.exists()
    with safe_open(path, framework="numpy") as file:
        for key, embedding in written.items():
            np.testing.assert_array_equal(file.get_tensor(f"{key}.tokens"), embedding.tokens)
            np.testing.assert_array_equal(file.get_tensor(f"{key}.pooled"), embedding.pooled.astype(np.float32))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nothing_is_left_after_an_error_or_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), EmbeddingWriter(tmp_path / "e.safetensors") as writer:
        writer.add("p", TextEmbedding(np.ones((2, 2), np.float32), np.ones(2, np.float32)))
        raise RuntimeError("stop")
    with EmbeddingWriter(tmp_path / "e.safetensors") as writer:
        assert writer.empty
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="cannot be written"),
        EmbeddingWriter(tmp_path / "absent" / "e.safetensors") as writer,
    ):
        writer.add("p", TextEmbedding(np.ones((2, 2), np.float32), np.ones(2, np.float32)))
