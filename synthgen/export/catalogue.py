"""What a format is, and how it is found: a format is a file.

`--to coco-panoptic` is `synthgen/export/formats/coco_panoptic.py`; a name with a dot is somebody else's module. A
format file has three public names: `LOSS` (what of the masks does not survive, "" for nothing), `USE` (how the result
is opened) and `build(dataset)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

from segkit.shards import StoredSample
from synthgen import plugins
from synthgen.errors import InputError
from synthgen.export import formats


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """What one sample gives:

    whole files by path below the export folder, and rows (JSON values) for the tables that are written at the end.
    """

    files: Mapping[str, bytes]
    rows: tuple[tuple[str, Any], ...] = ()  # (table, value)


Rows = Callable[[str], Iterator[str]]  # table -> its rows as JSON texts, in dataset order


class Format(Protocol):
    """One layout, for one dataset."""

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        """Files and rows of the sample at place `number` (from 0) of the dataset.

        They depend on the arguments alone, so a kill costs nothing.
        """
        ...

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        """(path, pieces of text) of every file that is about more than one sample;

        streamed, so tables of any length fit.
        """
        ...


def available() -> list[str]:
    """Names of the formats that ship, as the command line takes them, sorted."""
    return [name.replace("_", "-") for name in plugins.available(formats.__name__)]


def find(name: str) -> ModuleType:
    """The module of a format. Raises InputError that lists the known names if there is none."""
    return plugins.find(
        formats.__name__,
        name,
        kind="export format",
        public=("LOSS", "USE", "build"),
        document="synthgen/export/catalogue.py",
        error=InputError,
        known=available(),
    )
