"""Reads the text embeddings that `synthgen prompts` has stored: one prompt's tensors, nothing else of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from synthgen.models import TextEmbedding


def read_embedding(path: Path, key: str) -> TextEmbedding:
    """`{key}.tokens` and `{key}.pooled` as float32, whatever they are stored in.

    Raises OSError or SafetensorError for a file that is not there, is damaged, or lacks the key.
    """
    tokens, pooled = read_tensors(path, [f"{key}.tokens", f"{key}.pooled"])
    return TextEmbedding(tokens, pooled)


def read_tensors(path: Path, names: list[str]) -> list[np.ndarray]:
    """Float32 arrays in the order of `names`. Raises as `read_embedding` does."""
    from safetensors import safe_open

    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    found = []
    with safe_open(path, framework="np") as file:
        kinds = {file.get_slice(name).get_dtype() for name in names}
        if "BF16" not in kinds:
            return [np.asarray(file.get_tensor(name), np.float32) for name in names]
    with safe_open(path, framework="pt") as tensors:  # numpy has no bfloat16
        for name in names:
            tensor: Any = tensors.get_tensor(name)
            found.append(tensor.float().numpy())
    return found
