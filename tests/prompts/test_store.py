from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from synthgen.errors import StorageError
from synthgen.models import TextEmbedding
from synthgen.models.embedding_files import read_embedding
from synthgen.prompts.store import EMBEDDINGS, EmbeddingWriter


def embedding_of(number: int, dtype: str = "float32") -> TextEmbedding:
    """With values that the dtype holds."""
    generator = torch.Generator().manual_seed(number)
    tokens, pooled = (
        torch.randn(shape, generator=generator).to(getattr(torch, dtype)).float().numpy()
        for shape in ((number, 3), (5,))
    )
    return TextEmbedding(tokens, pooled, dtype)  # type: ignore[arg-type]


def dtypes(path: Path) -> set[str]:
    with safe_open(path, framework="pt") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_embeddings_come_back_bit_for_bit_and_are_stored_as_the_encoder_gave_them(
    tmp_path: Path, dtype: str, stored: str
) -> None:
    written = {f"p{i}": embedding_of(i, dtype) for i in range(1, 12)}
    with EmbeddingWriter(tmp_path) as writer:
        places = {key: writer.add(key, embedding) for key, embedding in written.items()}
        assert not list(tmp_path.glob("*.safetensors"))
    assert set(places.values()) == {EMBEDDINGS.format(0)}
    assert dtypes(tmp_path / EMBEDDINGS.format(0)) == {stored}
    for key, embedding in written.items():
        found = read_embedding(tmp_path / places[key], key)
        assert found.tokens.dtype == found.pooled.dtype == np.float32
        np.testing.assert_array_equal(found.tokens, embedding.tokens)
        np.testing.assert_array_equal(found.pooled, embedding.pooled)
    assert [path.name for path in tmp_path.iterdir()] == [EMBEDDINGS.format(0)]


def test_half_of_the_bytes_are_written_for_a_real_encoder(tmp_path: Path) -> None:
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        with EmbeddingWriter(tmp_path) as writer:
            name = writer.add("p", embedding_of(5000, dtype))
        sizes[dtype] = (tmp_path / name).stat().st_size
    assert sizes["bfloat16"] < 0.51 * sizes["float32"]


def test_what_the_dtype_would_round_is_stored_whole(tmp_path: Path) -> None:
    """An encoder that says bfloat16 and gives something finer loses nothing."""
    for dtype in ("bfloat16", "float16"):
        finer = TextEmbedding(np.full((2, 2), 1 / 3, np.float32), np.full(2, 1e30, np.float32), dtype)
        with EmbeddingWriter(tmp_path) as writer:
            name = writer.add("p", finer)
        np.testing.assert_array_equal(read_embedding(tmp_path / name, "p").tokens, finer.tokens)
        np.testing.assert_array_equal(read_embedding(tmp_path / name, "p").pooled, finer.pooled)


def test_files_hold_so_many_prompts_and_the_negative_one_each(tmp_path: Path) -> None:
    asked = []

    def negative() -> TextEmbedding:
        asked.append(1)
        return embedding_of(99)

    with EmbeddingWriter(tmp_path, 3, negative) as writer:
        places = [writer.add(f"p{i}", embedding_of(i + 1)) for i in range(7)]
    assert places == [EMBEDDINGS.format(number) for number in (0, 0, 0, 1, 1, 1, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(places))
    for number, place in enumerate(places):
        np.testing.assert_array_equal(
            read_embedding(tmp_path / place, f"p{number}").tokens, embedding_of(number + 1).tokens
        )
        np.testing.assert_array_equal(read_embedding(tmp_path / place, "negative").tokens, embedding_of(99).tokens)
    assert asked == [1]


def test_nothing_is_left_after_an_error_or_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), EmbeddingWriter(tmp_path) as writer:
        writer.add("p", embedding_of(2))
        raise RuntimeError("stop")
    with EmbeddingWriter(tmp_path, negative=lambda: pytest.fail("nobody needs it")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"), EmbeddingWriter(tmp_path / "absent") as writer:
        writer.add("p", embedding_of(2))
