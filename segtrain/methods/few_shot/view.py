"""Which classes and which images the base stage learns from."""

from __future__ import annotations

import numpy as np

from segkit.labels import LabelSpace
from segtrain.data.class_pixels import class_pixels
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError


def split_classes(space: LabelSpace, novel: tuple[str, ...], where: str) -> tuple[LabelSpace, LabelSpace]:
    """Label spaces of the base stage (background, base) and of the whole model (background, base, novel), in the order
    of its channels.

    Raises ConfigError naming `where` if a novel class is unknown, or no base class or no background is left.
    """
    names = {c.name for c in space.labels}
    background = [c for c in space.labels if c.id == space.background]
    unknown = [name for name in novel if name not in names or name in {c.name for c in background}]
    if unknown:
        raise ConfigError(
            f"{where}: novel class {unknown[0]!r} is not in label space {space.name!r}, which has "
            f"{', '.join(sorted(names))}"
        )
    if not background:
        raise ConfigError(
            f"{where}: label space {space.name!r} has no background, which few-shot learning needs: name one in "
            "its labels.yaml"
        )
    base = [c for c in space.labels if c.name not in novel and c.id != space.background]
    if not base:
        raise ConfigError(
            f"{where}: every class of label space {space.name!r} is novel, none is left for the base stage"
        )
    by_name = {c.name: c for c in space.labels}
    ours = (*background, *base)
    return (
        LabelSpace(space.name, ours, space.background),
        LabelSpace(space.name, (*ours, *(by_name[name] for name in dict.fromkeys(novel))), space.background),
    )


def base_rows(source: Source, base_space: LabelSpace, keep_novel: bool) -> np.ndarray:
    """Ascending rows of the images that show a base class and, unless `keep_novel`, no other one.

    Raises DataError if there is none.
    """
    pixels = class_pixels(source)
    base = [c.id for c in base_space.labels if c.id != base_space.background]
    novel = [c.id for c in source.label_space.labels if c.id not in base and c.id != base_space.background]
    shows = pixels[:, base].any(axis=1)
    if not keep_novel:
        shows &= ~pixels[:, novel].any(axis=1)
    if not shows.any():
        raise DataError(
            f"{source.path}: none of {len(pixels)} images shows a base "
            f"class{'' if keep_novel else ' without a novel one'}"
        )
    return np.flatnonzero(shows)
