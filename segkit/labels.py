"""Label spaces: class names, synonyms, ids, palette, and the channels of a network.

A mask holds ids 0..253, which may have gaps; 254 is out of distribution and 255 is ignore (unlabelled). A network has
one channel a class, in the order of the label space. Nothing but this file converts between ids, channels and colours.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from segkit.documents import read_yaml
from segkit.errors import LabelError, did_you_mean
from segkit.printable import excerpt
from segkit.spelling import same_name

IGNORE = 255
OUT_OF_DISTRIBUTION = 254
_UNFIT = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators
_OF_NO_CLASS = {  # colours that mean no class, where no class has them
    (255, 0, 255): OUT_OF_DISTRIBUTION,  # as `colour_table` paints it
    (0, 0, 0): IGNORE,  # as `colour_table`, Cityscapes and CamVid paint it
    (224, 224, 192): IGNORE,  # as PASCAL VOC does
}


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One class. `synonyms` are other words for it in prompts; `colour` is RGB, 0..255."""

    id: int
    name: str
    colour: tuple[int, int, int] = (0, 0, 0)
    synonyms: tuple[str, ...] = ()

    @property
    def spoken(self) -> str:
        """The word for it in a sentence: the first synonym, or the name."""
        return self.synonyms[0] if self.synonyms else self.name


@dataclasses.dataclass(frozen=True, slots=True)
class LabelSpace:
    """A named set of classes. Ids are unique and in 0..253, names are printable and unique after Unicode's NFC;
    `background` is the id that no prompt asks for and no foreground mean counts, or None."""

    name: str
    labels: tuple[Label, ...]
    background: int | None = None

    def __post_init__(self) -> None:
        here = f"label space {excerpt(self.name)}"
        for text in (self.name, *(word for label in self.labels for word in (label.name, *label.synonyms))):
            if not text.strip() or any(unicodedata.category(character) in _UNFIT for character in text):
                raise LabelError(f"{here}: {excerpt(text)} is empty or has control characters or line breaks")
        if not self.labels:
            raise LabelError(f"{here}: has no labels")
        counts: Counter[int | str] = Counter(self.ids)
        counts.update(_normal(label.name) for label in self.labels)
        repeated = next((value for value, count in counts.items() if count > 1), None)
        if repeated is not None:
            raise LabelError(f"{here}: ids and names must be unique; {excerpt(repeated)} occurs twice")
        if any(not 0 <= i < OUT_OF_DISTRIBUTION for i in self.ids):
            raise LabelError(f"{here}: ids must be in 0..253 (254 = out of distribution, 255 = ignore)")
        if self.background is not None and self.background not in self.ids:
            ids = ", ".join(map(str, self.ids))
            raise LabelError(f"{here}: background {self.background} is not the id of a label; ids are {ids}")

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(label.id for label in self.labels)

    @property
    def foreground(self) -> tuple[Label, ...]:
        """Every class but the background."""
        return tuple(label for label in self.labels if label.id != self.background)

    def by_name(self, name: str) -> Label:
        """The class of that name or synonym; else the one class whose name or synonym differs in spelling alone
        (`segkit.spelling`: capitals, underscores, hyphens, Unicode forms). Raises LabelError that lists the names."""
        if label := self.find(name):
            return label
        known = [one.name for one in self.labels]
        raise LabelError(
            f"class {name!r} is not in label space {self.name!r}; it has: {', '.join(known)}{did_you_mean(name, known)}"
        )

    def find(self, name: str) -> Label | None:
        """The class that `by_name` gives; None where there is none."""
        for alike in (_normal, same_name):
            wanted = alike(name)
            found = [one for one in self.labels if wanted in map(alike, (one.name, *one.synonyms))]
            if found and (alike is _normal or len(found) == 1):
                return found[0]
        return None

    def by_id(self, class_id: int) -> Label:
        for label in self.labels:
            if label.id == class_id:
                return label
        raise LabelError(f"id {class_id} is not in label space {self.name!r}; it has: {', '.join(map(str, self.ids))}")

    def by_colour(self, colour: tuple[int, int, int], where: object) -> int | None:
        """The id that an RGB colour stands for: of the class that has it, else 255 for black and VOC's void, 254 for
        magenta; None for a colour of nothing. Raises LabelError naming `where` if several classes have it."""
        owners = [label for label in self.labels if label.colour == colour]
        if len(owners) > 1:
            names = " and ".join(repr(label.name) for label in owners[:3])
            raise LabelError(
                f"{where}: colour {list(colour)} is that of {names} in label space {self.name!r}; a mask in colours "
                "can be read only if each class has its own: mend the label space, or store ids"
            )
        return owners[0].id if owners else _OF_NO_CLASS.get(colour)

    def check(self, mask: np.ndarray, where: object) -> None:
        """Raise LabelError naming `where` if a mask (H, W) uint8 holds an id that is no class, nor 254 or 255."""
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

    @property
    def channel_of_id(self) -> np.ndarray:
        """(256,) uint8: channel of each id; 254 stays 254, any other id that is no class is 255."""
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[list(self.ids)] = np.arange(len(self.labels))
        table[OUT_OF_DISTRIBUTION] = OUT_OF_DISTRIBUTION
        return table

    @property
    def id_of_channel(self) -> np.ndarray:
        """(number of classes,) uint8: id of each channel."""
        return np.array(self.ids, dtype=np.uint8)

    def to_channels(self, mask: np.ndarray, where: object) -> np.ndarray:
        """(H, W) uint8 ids -> (H, W) uint8 channels; 254 and 255 stay what they are, and no class has such a channel.

        Raises LabelError naming `where` at an id that is not a class.
        """
        self.check(mask, where)
        return self.channel_of_id[mask]

    def require_within(self, other: LabelSpace, where: object) -> None:
        """Raise LabelError naming `where` unless every class of `self` has the same id and name in `other`."""
        theirs = {label.id: label.name for label in other.labels}
        for label in self.labels:
            if same_name(theirs.get(label.id, "")) != same_name(label.name):
                has = (
                    f"there id {label.id} is {theirs[label.id]!r}" if label.id in theirs else f"it has no id {label.id}"
                )
                raise LabelError(
                    f"{where}: class {label.name!r} (id {label.id}) does not go with label space {other.name!r}: {has}"
                )

    def to_json(self) -> dict[str, Any]:
        """The form that `label_space_of` reads."""
        labels = [
            {"id": label.id, "name": label.name, "colour": list(label.colour)}
            | ({"synonyms": list(label.synonyms)} if label.synonyms else {})
            for label in self.labels
        ]
        return {"name": self.name, "background": self.background, "labels": labels}


def read_label_space(path: Path) -> LabelSpace:
    """A YAML or JSON file of `name`, optional `background`, and `labels`: a list of
    {id, name, colour: [r, g, b], synonyms: [...]}, the last two optional (black, none).

    Raises LabelError if it is missing or malformed.
    """
    return label_space_of(read_yaml(path, LabelError), str(path))  # JSON is YAML


def label_space_of(raw: Any, where: str) -> LabelSpace:
    """From plain data of the form that `read_label_space` describes; other keys are left alone.

    Raises LabelError naming `where`.
    """
    try:
        if not isinstance(raw, dict):
            raise TypeError(f"it is {type(raw).__name__}, not a mapping")
        labels = tuple(
            Label(
                _id(item["id"]),
                _word(item["name"], "name"),
                _colour(item.get("colour", [0, 0, 0])),
                tuple(_word(word, "synonym") for word in _list(item.get("synonyms", []))),
            )
            for item in _list(raw["labels"])
        )
        background = raw.get("background")
        return LabelSpace(_word(raw["name"], "name"), labels, None if background is None else _id(background))
    except KeyError as error:
        raise _no_label_space(where, f"{error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _no_label_space(where, str(error)) from error
    except LabelError as error:
        raise LabelError(f"{where}: {error}") from error


def _no_label_space(where: str, why: str) -> LabelError:
    return LabelError(f"{where}: not a label space ({why}); needs name and labels: [{{id, name, colour}}]")


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"id {excerpt(value)} is not a whole number")
    return value


def _word(value: object, kind: str) -> str:
    """YAML reads `no` as false, `~` as null and `1.5` as a number: a class would get another name than is written."""
    if not isinstance(value, str):
        raise ValueError(f"{kind} {excerpt(value)} is no text: write it in quotes")
    return _normal(value)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{excerpt(value)} is not a list")
    return value


def _colour(value: object) -> tuple[int, int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or any(not isinstance(v, int) or isinstance(v, bool) or not 0 <= v <= 255 for v in value)
    ):
        raise ValueError(f"colour {excerpt(value)} is not [r, g, b] with 0..255")
    return value[0], value[1], value[2]
