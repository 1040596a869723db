"""Whether labelled images can be read and label anything: told before a training or a score is made of nothing."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segkit.masks import ids_in, only_unlabelled
from segtrain.data.folders import PairSource
from segtrain.data.source import Source
from segtrain.errors import DataError


def require_readable(sources: Sequence[Source]) -> None:
    """Raise DataError for a picture or a mask of a folder that its header tells to be of no use: one that a training
    finds on its way costs the steps before, since what is mended is other data, which it cannot go on with."""
    for source in sources:
        if isinstance(source, PairSource):
            source.require_readable()


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
