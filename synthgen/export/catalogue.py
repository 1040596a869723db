"""What a format is, and how it is found: a format is a file.

`--to coco-panoptic` is `synthgen/export/formats/coco_panoptic.py`; a name with a dot is somebody else's module. A
format file has three public names: `LOSS` (what of the masks does not survive, "" for nothing), `USE` (how the result
is opened) and `build(dataset)`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

from segkit.shards import StoredSample
from synthgen.errors import InputError, did_you_mean
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
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(formats.__path__))


def find(name: str) -> ModuleType:
    """The module of a format. Raises InputError that lists the known names if there is none."""
    ways = f"there are: {', '.join(available())} (a name with a dot is a module of your own)"
    if (name not in available()) if "." not in name else not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"export format {name!r} is not known; {ways}{did_you_mean(name, available())}")
    try:
        module = importlib.import_module(name if "." in name else f"{formats.__name__}.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise InputError(f"export format {name!r}: {error}; {ways}") from error
    for public in ("LOSS", "USE", "build"):
        if not hasattr(module, public):
            raise InputError(
                f"export format {name!r}: {module.__name__} has no {public!r}; see synthgen/export/catalogue.py"
            )
    return module
