"""Which classes are novel in which fold: the YAML files of `folds/`, by file name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from segkit.documents import read_yaml
from segkit.labels import LabelSpace
from segkit.printable import excerpt
from segtrain.data.source import benchmark_label_space
from segtrain.errors import ConfigError

_FOLDER = Path(__file__).parent / "folds"


@dataclasses.dataclass(frozen=True, slots=True)
class Folds:
    """`novel[k]` names the novel classes of fold k; all other classes but the background are its base classes."""

    label_space: LabelSpace
    novel: tuple[tuple[str, ...], ...]


def known_folds() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_folds(name: str) -> Folds:
    """Raises ConfigError that lists the known names."""
    path = _FOLDER / f"{name}.yaml"
    if name not in known_folds():
        raise ConfigError(f"folds {excerpt(name)}: not known; there are: {', '.join(known_folds())}")
    raw = read_yaml(path, ConfigError)
    return Folds(benchmark_label_space(raw["label_space"]), tuple(tuple(fold) for fold in raw["folds"]))


def novel_of_fold(name: str, fold: int) -> tuple[str, ...]:
    """Raises ConfigError if there is no such fold."""
    folds = read_folds(name).novel
    if not 0 <= fold < len(folds):
        raise ConfigError(f"fold {fold}: {name} has the folds 0 to {len(folds) - 1}")
    return folds[fold]
