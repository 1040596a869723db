"""Which classes are novel in which fold: the YAML files of `few_shot/folds/`, by file name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml

from segtrain.errors import ConfigError
from segtrain.labels import LabelSpace, label_space_of

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
        raise ConfigError(f"folds {name!r}: not known; there are: {', '.join(known_folds())}")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Folds(label_space_of(raw, str(path)), tuple(tuple(fold) for fold in raw["folds"]))


def novel_of_fold(name: str, fold: int) -> tuple[str, ...]:
    """Raises ConfigError if there is no such fold."""
    folds = read_folds(name).novel
    if not 0 <= fold < len(folds):
        raise ConfigError(f"fold {fold}: {name} has the folds 0 to {len(folds) - 1}")
    return folds[fold]
