"""Writes the text embeddings of a prompt bank, one prompt at a time.

A real encoder gives about 3 MB of tokens for a prompt in bfloat16, so a bank of 2000 prompts is 6 GB: it must never be
in memory as a whole, and whoever renders some of the prompts should not have to hold the file of all.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from synthgen.errors import StorageError
from synthgen.files import temporary_beside
from synthgen.models import TextEmbedding

EMBEDDINGS = "embeddings-{:05d}.safetensors"
NEGATIVE = "negative"  # the key of the negative prompt, of which every file has a copy


class EmbeddingWriter:
    """Files `embeddings-00000.safetensors`, ... of `prompts_per_file` prompts each, in the order of `add`: tensors
    `{key}.tokens` (T, D) and `{key}.pooled` (P,) in the encoder's own dtype, float32 where that would lose a bit.

    A file appears when it is full, the last one when the `with` block ends without an error, and none if nothing was
    added. `negative` is asked once, if at all; its embedding stands in every file.
    """

    def __init__(
        self, folder: Path, prompts_per_file: int = 64, negative: Callable[[], TextEmbedding] | None = None
    ) -> None:
        self._folder, self._prompts_per_file = folder, prompts_per_file
        self._negative = functools.cache(negative) if negative is not None else None
        self._number = 0
        self._file: _File | None = None

    def __enter__(self) -> EmbeddingWriter:
        return self

    def add(self, key: str, embedding: TextEmbedding) -> str:
        """The name of the file that it goes to. Raises StorageError if the disk is full."""
        if self._file is not None and self._file.prompts >= self._prompts_per_file:
            self._close()
        if self._file is None:
            self._file = _File(self._folder / EMBEDDINGS.format(self._number))
        self._file.add(key, embedding)
        self._file.prompts += 1
        return self._file.path.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and kind is None:
            self._close()
        elif self._file is not None:
            self._file.drop()

    def _close(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        try:
            if self._negative is not None:
                file.add(NEGATIVE, self._negative())
            file.publish()
        finally:
            file.drop()
        self._number += 1


class _File:
    """One file. Its body is written first: the header comes before it and knows every offset."""

    def __init__(self, path: Path) -> None:
        self.path, self.prompts = path, 0
        self._body = path.with_name(f".{path.name}.{os.getpid()}.body")
        self._header: dict[str, object] = {}
        self._size = 0
        self._file: BinaryIO | None = None

    def add(self, key: str, embedding: TextEmbedding) -> None:
        try:
            if self._file is None:
                self._file = self._body.open("wb")
            for part, array in (("tokens", embedding.tokens), ("pooled", embedding.pooled)):
                dtype, data = _packed(array, embedding.dtype)
                end = self._size + data.nbytes
                offsets = [self._size, end]
                self._header[f"{key}.{part}"] = {"dtype": dtype, "shape": list(data.shape), "data_offsets": offsets}
                self._file.write(data.tobytes())
                self._size = end
        except OSError as error:
            raise self._trouble(error) from error

    def publish(self) -> None:
        header = json.dumps(self._header, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
        temporary = temporary_beside(self.path)
        try:
            assert self._file is not None
            self._file.close()
            with temporary.open("wb") as whole, self._body.open("rb") as body:
                whole.write(len(header).to_bytes(8, "little") + header)
                shutil.copyfileobj(body, whole, 1 << 22)
                whole.flush()
                os.fsync(whole.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise self._trouble(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def drop(self) -> None:
        """Leave nothing beside the published file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk has been told already
                self._file.close()
        self._body.unlink(missing_ok=True)

    def _trouble(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path}: cannot be written ({error.strerror or error}); free the space or mend the "
            "permissions, then run the same command again"
        )


def _packed(array: np.ndarray, dtype: str) -> tuple[str, np.ndarray]:
    """(safetensors' name of the dtype, the array as it is stored). bfloat16 is the upper half of a float32."""
    whole = np.ascontiguousarray(array, dtype="<f4")
    bits = whole.view("<u4")
    if dtype == "bfloat16" and not (bits & 0xFFFF).any():
        return "BF16", (bits >> 16).astype("<u2")
    if dtype == "float16":
        with np.errstate(over="ignore"):
            half = whole.astype("<f2")
        if np.array_equal(half.astype("<f4"), whole, equal_nan=True):
            return "F16", half
    return "F32", whole
