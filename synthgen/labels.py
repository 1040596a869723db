"""Label spaces: class names, synonyms, ids, palette.

255 is always ignore (unlabelled) and 254 is reserved for out-of-distribution objects (CG-Aug). Colours serve pictures
and colour-conditioned models only; inside the pipeline a mask is always a map of ids.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import yaml

from synthgen.errors import LabelError, did_you_mean
from synthgen.shipped import shipped_folder

IGNORE = 255
OUT_OF_DISTRIBUTION = 254


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One class. `synonyms` are other words for it in prompts; `colour` is RGB."""

    id: int
    name: str
    colour: tuple[int, int, int]
    synonyms: tuple[str, ...] = ()

    @property
    def spoken(self) -> str:
        """The word for it in a sentence: the first synonym, or the name."""
        return self.synonyms[0] if self.synonyms else self.name


@dataclasses.dataclass(frozen=True, slots=True)
class LabelSpace:
    """A named set of classes. Ids are unique and in 0..253; `background` is the id that no prompt asks for, or None."""

    name: str
    labels: tuple[Label, ...]
    background: int | None = None

    def __post_init__(self) -> None:
        ids = [label.id for label in self.labels]
        names = [label.name for label in self.labels]
        if len(set(ids)) != len(ids) or len(set(names)) != len(names):
            raise LabelError(f"label space {self.name!r}: ids and names must be unique")
        if not ids:
            raise LabelError(f"label space {self.name!r}: has no labels")
        if self.background is not None and self.background not in ids:
            raise LabelError(
                f"label space {self.name!r}: background {self.background} is not the id of a label; ids are "
                f"{', '.join(map(str, ids))}"
            )
        if any(not 0 <= i < OUT_OF_DISTRIBUTION for i in ids):
            raise LabelError(
                f"label space {self.name!r}: ids must be in 0..253 (254 = out of distribution, 255 = ignore)"
            )

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(label.id for label in self.labels)

    @property
    def foreground(self) -> tuple[Label, ...]:
        """Every class but the background."""
        return tuple(label for label in self.labels if label.id != self.background)

    def by_name(self, name: str) -> Label:
        """The class of that name or synonym. Raises LabelError that lists the known names."""
        for label in self.labels:
            if name == label.name or name in label.synonyms:
                return label
        known = [label.name for label in self.labels]
        raise LabelError(
            f"class {name!r} is not in label space {self.name!r}; it has: {', '.join(known)}{did_you_mean(name, known)}"
        )

    def by_id(self, class_id: int) -> Label:
        for label in self.labels:
            if label.id == class_id:
                return label
        raise LabelError(f"id {class_id} is not in label space {self.name!r}; it has: {', '.join(map(str, self.ids))}")

    def check(self, mask: np.ndarray, where: object) -> None:
        """Raise LabelError naming `where` if a mask (H, W) uint8 holds an id that is neither a class nor 254 nor 255."""
        known = np.zeros(256, dtype=bool)
        known[[*self.ids, OUT_OF_DISTRIBUTION, IGNORE]] = True
        strange = np.flatnonzero(np.bincount(mask.ravel(), minlength=256).astype(bool) & ~known)
        if strange.size:
            ids = ", ".join(map(str, strange))
            raise LabelError(
                f"{where}: ids {ids} are not in label space {self.name!r} (ids {min(self.ids)}..{max(self.ids)}, "
                "255 = ignore)"
            )

    def colour_table(self) -> np.ndarray:
        """(256, 3) uint8: colour of each id; ignore is black, out of distribution is magenta."""
        table = np.zeros((256, 3), dtype=np.uint8)
        for label in self.labels:
            table[label.id] = label.colour
        table[OUT_OF_DISTRIBUTION] = (255, 0, 255)
        return table

    def paint(self, mask: np.ndarray) -> np.ndarray:
        """(H, W) ids -> (H, W, 3) uint8 colours."""
        return self.colour_table()[mask]


def read_label_space(name_or_path: str) -> LabelSpace:
    """A shipped label space by name (`prompts/<name>/labels.yaml`), or the YAML file at a path with a `/` or `.yaml`.

    The file has `name`, optional `background`, and `labels`: a list of {id, name, colour: [r, g, b], synonyms: [...]}.
    Raises LabelError if it is missing or malformed.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    else:
        path = shipped_folder("prompts") / name_or_path / "labels.yaml"
    if not path.is_file():
        known = sorted(p.parent.name for p in shipped_folder("prompts").glob("*/labels.yaml"))
        raise LabelError(f"label space {name_or_path!r}: no file {path}; shipped ones: {', '.join(known)}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        labels = tuple(
            Label(_whole(item["id"]), str(item["name"]), _colour(item["colour"]), _words(item.get("synonyms", [])))
            for item in raw["labels"]
        )
        background = raw.get("background")
        return LabelSpace(str(raw["name"]), labels, None if background is None else _whole(background))
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, UnicodeDecodeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise LabelError(f"{path}: not a label space ({why}); needs name and labels: [{{id, name, colour}}]") from error


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"id {value!r} is not a whole number")
    return value


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"synonyms {value!r} are not a list of words")
    return tuple(map(str, value))


def _colour(value: object) -> tuple[int, int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or any(not isinstance(v, int) or not 0 <= v <= 255 for v in value)
    ):
        raise ValueError(f"colour {value!r} is not [r, g, b] with 0..255")
    return value[0], value[1], value[2]
