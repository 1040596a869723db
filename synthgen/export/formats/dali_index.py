"""NVIDIA DALI's index of each shard, `{shard}.idx` (version 1.2):

for `fn.readers.webdataset(paths=..., index_paths=...)`.

The first line has the version and the number of samples; each sample is a line of `extension offset size name`, four
words a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from segkit.errors import DatasetError
from segkit.files import open_regular
from segkit.shards import Dataset, StoredSample
from segkit.ustar import BLOCK, padding, read_members
from synthgen.export.catalogue import Exported, Rows

LOSS = ""
USE = (
    "fn.readers.webdataset(paths=[the shards of the dataset], index_paths=[OUT/train-000000.idx, ...], "
    "ext=['jpg', 'png'])"
)


def build(dataset: Dataset) -> DaliIndex:
    return DaliIndex(dataset)


class DaliIndex:
    def __init__(self, dataset: Dataset) -> None:
        self._folder = dataset.folder
        self._shards = dataset.index.shards
        self._num_members = len(dataset.index.members)

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        return Exported({})

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        for shard in self._shards:
            lines = _lines(self._folder / shard.file, shard.num_samples, self._num_members)
            yield f"{Path(shard.file).stem}.idx", lines


def _lines(path: Path, num_samples: int, num_members: int) -> Iterator[str]:
    yield f"v1.2 {num_samples}\n"
    offset = 0
    with open_regular(path, DatasetError) as file:
        words: list[str] = []
        for member in read_members(file, str(path)):
            size = len(member.data)
            words.append(f"{member.name.partition('.')[2]} {offset + BLOCK} {size} {member.name}")
            offset += BLOCK + size + len(padding(size))
            if len(words) == num_members:
                yield " ".join(words) + "\n"
                words = []
