"""Writes embeddings.safetensors one prompt at a time.

A real encoder gives about 5 MB of tokens for a prompt, so a bank of 2000 prompts is 10 GB: it must never be in memory
as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from synthgen.errors import StorageError
from synthgen.files import temporary_beside
from synthgen.models import TextEmbedding

EMBEDDINGS = "embeddings.safetensors"


class EmbeddingWriter:
    """Tensors `{key}.tokens` (T, D) and `{key}.pooled` (P,), float32, in the order of `add`.

    The file appears when the `with` block ends without an error, and only if something was added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._body = path.with_name(f".{path.name}.{os.getpid()}.body")
        self._file: BinaryIO | None = None
        self._header: dict[str, object] = {}
        self._size = 0

    @property
    def empty(self) -> bool:
        return not self._header

    def __enter__(self) -> EmbeddingWriter:
        return self

    def add(self, key: str, embedding: TextEmbedding) -> None:
        """Raises StorageError if the disk is full."""
        try:
            if self._file is None:
                self._file = self._body.open("wb")
            self._append(self._file, key, embedding)
        except OSError as error:
            raise self._trouble(error) from error

    def _append(self, file: BinaryIO, key: str, embedding: TextEmbedding) -> None:
        for part, array in (("tokens", embedding.tokens), ("pooled", embedding.pooled)):
            data = np.ascontiguousarray(array, dtype="<f4")
            end = self._size + data.nbytes
            self._header[f"{key}.{part}"] = {
                "dtype": "F32",
                "shape": list(data.shape),
                "data_offsets": [self._size, end],
            }
            file.write(data.tobytes())
            self._size = end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            if kind is None:
                self._publish()
        except OSError as problem:
            raise self._trouble(problem) from problem
        finally:
            self._body.unlink(missing_ok=True)

    def _publish(self) -> None:
        header = json.dumps(self._header, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
        temporary = temporary_beside(self._path)
        try:
            # The header comes first and knows every offset, hence the copy.
            with temporary.open("wb") as whole, self._body.open("rb") as body:
                whole.write(len(header).to_bytes(8, "little") + header)
                shutil.copyfileobj(body, whole, 1 << 22)
                whole.flush()
                os.fsync(whole.fileno())
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)

    def _trouble(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path}: cannot be written ({error.strerror or error}); free the space or mend the "
            "permissions, then run the same command again"
        )
