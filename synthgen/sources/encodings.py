"""Label files as datasets store them, turned into masks of a label space."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from segkit.label_map import ANOMALY_NAME
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from segkit.masks import read_colours, read_mask
from segkit.printable import printable
from segkit.spelling import same_name
from synthgen.errors import InputError, LabelError, did_you_mean
from synthgen.sources.catalogue import ClassTable
from synthgen.sources.png16 import read_png16

ANOMALY = "anomaly"
"""The class name that means 254 in a label space without a class of that name."""
BACKGROUND = "background"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Decoder:
    """Reads the label files of one layout. It can be sent to other processes."""

    encoding: str
    table: ClassTable

    def __call__(self, path: Path, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8 ids of `space`, 255 for what it has no class for.

        Raises InputError for a damaged file, LabelError for a stored value that the dataset does not have.
        """
        if self.encoding == "colours":
            values, names = (
                packed(read_colours(path)),
                {_packed_key(key): name for key, name in self.table.names.items()},
            )
            ignored = {_packed_key(key) for key in self.table.ignored}
        else:
            values, names = _stored(path, self.encoding), {int(key): name for key, name in self.table.names.items()}
            ignored = {IGNORE, *(int(key) for key in self.table.ignored)}
        shown = _colour if self.encoding == "colours" else str
        return translate(values, dict.fromkeys(ignored, IGNORE) | ids_of(names, space, path.parent), path, shown)


def translate(
    values: np.ndarray, ids: Mapping[int, int], where: object, shown: Callable[[int], str] = str
) -> np.ndarray:
    """(H, W) stored values -> (H, W) uint8 ids. Raises LabelError for a value that has none, with it as `shown`."""
    if values.dtype in (np.uint8, np.uint16):  # counting is several times faster than sorting
        present = np.flatnonzero(np.bincount(values.ravel()))
    else:
        present, inverse = np.unique(values, return_inverse=True)
    strange = [int(value) for value in present if int(value) not in ids]
    if strange:
        listed = ", ".join(map(shown, strange[:8]))
        raise LabelError(
            f"{where}: stored values {listed} are not of this dataset; check that support.source and its split "
            "are the right ones"
        )
    class_ids = np.array([ids[int(value)] for value in present], dtype=np.uint8)
    if values.dtype in (np.uint8, np.uint16):
        table = np.full(np.iinfo(values.dtype).max + 1, IGNORE, np.uint8)
        table[present] = class_ids
        return table[values]
    return class_ids[inverse].reshape(values.shape)


def ids_of(
    names: Mapping[int, str], space: LabelSpace, where: object, aliases: Mapping[str, str] | None = None
) -> dict[int, int]:
    """stored value -> id of the class with that name, its alias or synonym; 255 where the space has none. A name that
    differs in capitals, Unicode form, underscores or hyphens alone is that class.

    Raises LabelError if it has none at all; the names that it lacks are logged once a file, with the nearest known one.
    """
    known = {word: label.id for label in reversed(space.labels) for word in label.synonyms}
    known |= {label.name: label.id for label in space.labels}
    for word in (ANOMALY, ANOMALY_NAME):
        known.setdefault(word, OUT_OF_DISTRIBUTION)
    if space.background is not None:
        known.setdefault(BACKGROUND, space.background)
    words = tuple(known)
    known = {same_name(word): class_id for word, class_id in reversed(known.items())} | known
    other = aliases or {}
    ids = {
        value: next((known[word] for word in (name, same_name(name), other.get(name, name)) if word in known), IGNORE)
        for value, name in names.items()
    }
    lacking = sorted({name for value, name in names.items() if ids[value] == IGNORE})
    if len(lacking) == len(set(names.values())):
        raise LabelError(
            f"{where}: label space {space.name!r} has none of this dataset's classes ({_shown(lacking, words)})"
        )
    if lacking:
        _log_lacking(str(where), space.name, _shown(lacking, words))
    return ids


@functools.lru_cache(maxsize=64)
def _log_lacking(where: str, space: str, names: str) -> None:
    _log.warning("%s: not in label space %r and read as unlabelled (255): %s", where, space, names)


def _shown(names: list[str], known: tuple[str, ...]) -> str:
    """The first eight names, each with the known one that it may be meant for."""
    hints = [did_you_mean(name, known).removeprefix("; ") for name in names[:8]]
    shown = [name + (f" ({hint})" if hint else "") for name, hint in zip(names, hints, strict=False)]
    return printable(", ".join(shown)) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def packed(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint32: red, then green, then blue from the top."""
    channels = image.astype(np.uint32)
    return (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]


def _colour(value: int) -> str:
    """Of a packed colour."""
    return str([value >> 16, value >> 8 & 255, value & 255])


def _packed_key(key: int | str) -> int:
    red, green, blue = (int(part) for part in str(key).split(","))
    return red << 16 | green << 8 | blue


def _stored(path: Path, encoding: str) -> np.ndarray:
    if encoding == "ids":
        return read_mask(path)
    if encoding == "first_channel_16bit":
        return read_png16(path)[..., 0]
    return _sbd_mat(path)


def _sbd_mat(path: Path) -> np.ndarray:
    """(H, W) uint8: GTcls.Segmentation of a SBD file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        segmentation: np.ndarray = np.asarray(loadmat(path)["GTcls"]["Segmentation"][0, 0])
    except (OSError, MatReadError, KeyError, ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"{path}: is not a SBD class file ({type(error).__name__}: {error}); it needs GTcls.Segmentation"
        ) from error
    return segmentation
