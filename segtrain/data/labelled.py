"""Whether labelled images can be read and label anything: told before a training or a score is made of nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segkit.masks import ids_in, only_unlabelled
from segtrain.data.folders import PairSource
from segtrain.data.source import Source
from segtrain.errors import DataError

_LOOKED_AT = 64
_log = logging.getLogger(__name__)


def require_readable(sources: Sequence[Source]) -> None:
    """Raise DataError for a picture or a mask of a folder that its header tells to be of no use: one that a training
    finds on its way costs the steps before, since what is mended is other data, which it cannot go on with."""
    for source in sources:
        if isinstance(source, PairSource):
            source.require_readable()


def tell_of_void(sources: Sequence[Source]) -> None:
    """A warning for each source of which no pixel has a class, in masks spread over it: its draws teach nothing."""
    for source in sources:
        num_images = sum(source.group_sizes)
        rows = np.unique(np.linspace(0, num_images - 1, min(num_images, _LOOKED_AT)).round().astype(int)).tolist()
        if all((source.read_mask(row) >= OUT_OF_DISTRIBUTION).all() for row in rows):
            _log.warning(
                "%s: none of %d masks that were looked at has a labelled pixel (all 254 or 255): what is drawn of it "
                "teaches nothing; give it less --ratio or leave it out, or as --unlabelled to `segtrain unimatch`",
                *(source.path, len(rows)),
            )


def require_labels(sources: Sequence[Source], space: LabelSpace, *, background_counts: bool = False) -> None:
    """Raise DataError unless some pixel of the sources, taken together, is of a class other than the background.

    With `background_counts` the background alone is enough, if nothing is unlabelled beside it: pictures without any
    object show false alarms. Masks are read up to the first that labels something.
    """
    seen: set[int] = set()
    for source in sources:
        for row in range(sum(source.group_sizes)):
            seen |= ids_in(source.read_mask(row)) - {OUT_OF_DISTRIBUTION}
            if seen and not only_unlabelled(seen, space):
                return
    if background_counts and seen == {space.background}:
        return
    where = ", ".join(str(source.path) for source in sources)
    num_images = sum(sum(source.group_sizes) for source in sources)
    why = only_unlabelled(seen, space) or "every pixel of the masks is 254, which is no class"
    raise DataError(f"{where}: no pixel of the {num_images} images shows a class of {space.name!r}: {why}")
