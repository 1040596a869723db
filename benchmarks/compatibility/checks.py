"""What a check is, what all of them open, and how they compare: every pixel and id, else an AssertionError."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drawn_dataset import drawn_dataset
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import available
from synthgen.export.run import export


@dataclasses.dataclass(frozen=True)
class Made:
    """What the checks open."""

    objects: Path  # a finished dataset with 254 and 255 in its masks
    streets: Path  # one with the classes of Cityscapes
    exports: Path  # a folder for each format; cityscapes is of `streets`

    def truth(self, dataset: Path | None = None, split: str | None = None) -> dict[str, StoredSample]:
        return {sample.key: sample for sample in Dataset(dataset or self.objects).samples(split)}


@dataclasses.dataclass(frozen=True)
class Check:
    tool: str
    package: str  # distribution
    module: str
    opened: str
    run: Callable[[Made], str]


CHECKS: dict[str, Check] = {}


def check(
    package: str, opened: str, module: str = "", tool: str = ""
) -> Callable[[Callable[[Made], str]], Callable[[Made], str]]:
    def add(function: Callable[[Made], str]) -> Callable[[Made], str]:
        CHECKS[function.__name__] = Check(
            tool or package, package, module or package.replace("-", "_"), opened, function
        )
        return function

    return add


def make(folder: Path) -> Made:
    """Both datasets and every export, below a new folder."""
    objects, streets = drawn_dataset(folder / "objects"), drawn_dataset(folder / "streets", "streets", 6)
    for name in available():
        if name == "photographs":  # of which no dataset here is made
            continue
        export(streets if name == "cityscapes" else objects, name, folder / "exports" / name)
    return Made(objects, streets, folder / "exports")


def same(found: Any, wanted: np.ndarray, what: str) -> None:
    found = np.asarray(found)
    assert found.shape == wanted.shape and (found == wanted).all(), (
        f"{what} differs: {found.shape} {found.dtype}, must be {wanted.shape}"
    )


def same_keys(found: Any, wanted: Any) -> None:
    assert sorted(found) == sorted(wanted), f"keys differ: {sorted(found)[:3]} ..., must be {sorted(wanted)[:3]} ..."
