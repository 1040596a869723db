"""The support set S = {(I_j, M_j)}:

the few labelled images that the whole run learns its classes from (Syn4Seg, setting).

Either chosen from a labelled folder or drawn by one of the built-in worlds. Which images are chosen follows from the
run seed and the class id alone, so that adding a class does not change the shots of the others.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segkit.labels import IGNORE, LabelSpace
from segkit.masks import ids_in, only_unlabelled
from segkit.printable import excerpt
from synthgen.classes import wanted_ids
from synthgen.errors import InputError, did_you_mean
from synthgen.models import SupportShot
from synthgen.recipe import Recipe
from synthgen.settings import DrawnSupport, Support
from synthgen.sources.catalogue import FOLDER, read_source
from synthgen.sources.coco import check_shown
from synthgen.sources.encodings import Decoder, ids_of
from synthgen.sources.folder import LabelledFile, list_labelled, read_label, read_labelled, warn_of_another_space
from synthgen.sources.listing import list_source

log = logging.getLogger(__name__)

LEAST_SHARE = 0.002
"""An image serves as a shot of a class only if the class covers at least this share of it (and 16 px)."""
_DRAWS_PER_SHOT = 100
_MOST_LOOKED_AT = 2000
"""Labels of a public dataset that a launch looks at before it begins: half a minute of Cityscapes' [ours]."""


def support_shots(recipe: Recipe, space: LabelSpace) -> list[SupportShot]:
    """`support.shots` images for each wanted class, class by class.

    The masks hold all classes of the space, not only the wanted one.

    Raises InputError or LabelError in one line if the folder is unusable or a class is not in it. Fewer images than
    asked for is a logged warning.
    """
    wanted = wanted_ids(recipe, space)
    if recipe.support.folder:
        folder, pairs = _pairs_of(recipe)
        return folder_shots(folder, space, wanted, recipe.support.shots, recipe.seed, pairs)
    return drawn_shots(_drawn(recipe), space, wanted, recipe.support.shots)


def check_support(recipe: Recipe, space: LabelSpace, digest: str) -> None:
    """Refuse now what `support_shots` would refuse after everything is rendered: a label folder in which a wanted class
    is not shown, or ids that the label space has not. `digest` stands for the folder's content: the same one is read
    once.

    What a labelling tool exports is read as a labelled folder is. Of COCO's formats the annotations and the pictures'
    sizes are looked at, no mask is drawn. Other public datasets are large: their table of classes is looked at, then
    labels until every class is seen, `_MOST_LOOKED_AT` of them at the most, after which what is not seen yet is a
    logged warning. Of a drawn world its classes are looked at. Raises as `support_shots` does.
    """
    chosen, wanted = recipe.support, wanted_ids(recipe, space)
    if chosen.folder and chosen.source == FOLDER:
        _check_folder(chosen.folder, digest, chosen.limit, recipe.seed, wanted, space)
    elif chosen.folder and read_source(chosen.source).is_export:
        _check_export(chosen, digest, recipe.seed, wanted, space)
    elif chosen.folder:
        _check_source(chosen, digest, recipe.seed, wanted, space)
    else:
        _, names = _world(_drawn(recipe))
        for k in wanted:
            _of_world(_drawn(recipe), names, space, k)


@functools.lru_cache(maxsize=8)
def _check_folder(folder: str, digest: str, limit: int, seed: int, wanted: tuple[int, ...], space: LabelSpace) -> None:
    warn_of_another_space(Path(folder).expanduser(), space)
    _require_shown(Path(folder), _limited(list_labelled(Path(folder).expanduser()), limit, seed), wanted, space)


@functools.lru_cache(maxsize=8)
def _check_export(support: Support, digest: str, seed: int, wanted: tuple[int, ...], space: LabelSpace) -> None:
    pairs = list_source(support.source, Path(support.folder).expanduser(), support.split)
    _require_shown(Path(support.folder), _limited(pairs, support.limit, seed), wanted, space)


def _require_shown(folder: Path, pairs: Sequence[LabelledFile], wanted: tuple[int, ...], space: LabelSpace) -> None:
    left, present = set(wanted), set()
    for pair in pairs:
        mask = read_label(pair, space)
        present |= ids_in(mask)
        left -= {k for k in left if _holds(mask, k)}
    for k in wanted:
        if k in left:
            raise _not_shown(folder, space, k, present)


@functools.lru_cache(maxsize=8)
def _check_source(support: Support, digest: str, seed: int, wanted: tuple[int, ...], space: LabelSpace) -> None:
    pairs = list_source(support.source, Path(support.folder).expanduser(), support.split)
    pairs = _limited(pairs, support.limit, seed)
    check_shown(pairs, space, wanted)
    decode = pairs[0].decode
    if not isinstance(decode, Decoder):
        return
    names = sorted(set(decode.table.names.values()))
    known = ids_of(dict(enumerate(names)), space, pairs[0].label.parent).values()
    for k in wanted:
        if k not in known:
            label = space.by_id(k)
            raise InputError(
                f"{support.folder}: {support.source} has no class {label.name!r} (id {k}); it has "
                f"{excerpt(', '.join(names), 160)}: make one a synonym of the class, take another source, or leave the "
                f"class out of labels.classes{did_you_mean(label.name, names)}"
            )
    left, present = set(wanted), set[int]()
    order = np.random.default_rng(seed).permutation(len(pairs))[:_MOST_LOOKED_AT]
    for n in order:
        mask = read_label(pairs[n], space)
        present |= ids_in(mask)
        left -= {k for k in left if _holds(mask, k)}
        if not left:
            return
    if len(order) == len(pairs):
        raise _not_shown(Path(support.folder), space, min(left), present)
    log.warning(
        "%s: none of %d labels of %s shows enough of %s; if the others do not either, the masks cannot be made",
        support.folder, len(order), support.source, ", ".join(repr(space.by_id(k).name) for k in sorted(left)),
    )  # fmt: skip


def _drawn(recipe: Recipe) -> DrawnSupport:
    return recipe.support.drawn or DrawnSupport.model_validate({})


def _of_world(drawn: DrawnSupport, names: dict[int, str], space: LabelSpace, class_id: int) -> list[str]:
    """The world's names of a class. Raises InputError if it has none."""
    found = [name for _, name in sorted(names.items()) if (label := space.find(name)) and label.id == class_id]
    if not found:
        raise InputError(
            f"support.drawn: the world {drawn.world!r} has no class {space.by_id(class_id).name!r}; it has: "
            f"{', '.join(names.values())}; give labelled images with support.folder, or leave it out of labels.classes"
        )
    return found


def _pairs_of(recipe: Recipe) -> tuple[Path, list[LabelledFile]]:
    folder = Path(recipe.support.folder).expanduser()
    return folder, _limited(
        list_source(recipe.support.source, folder, recipe.support.split), recipe.support.limit, recipe.seed
    )


def _limited(pairs: list[LabelledFile], limit: int, seed: int) -> list[LabelledFile]:
    if not 0 < limit < len(pairs):
        return pairs
    return [pairs[n] for n in sorted(np.random.default_rng(seed).permutation(len(pairs))[:limit])]


def _not_shown(folder: Path, space: LabelSpace, class_id: int, present: set[int]) -> InputError:
    name = space.by_id(class_id).name
    way_out = only_unlabelled(present, space) or "add one or leave it out of labels.classes"
    return InputError(f"{folder}: no image shows enough of class {name!r} (id {class_id}); {way_out}")


def folder_shots(
    folder: Path,
    space: LabelSpace,
    wanted: Sequence[int],
    shots: int,
    seed: int,
    pairs: Sequence[LabelledFile] | None = None,
) -> list[SupportShot]:
    """Of the images that hold enough of a class, `shots` in an order drawn from (seed, class id).

    Two classes may get the same image; their shots then share its arrays.
    """
    pairs = list_labelled(folder) if pairs is None else pairs
    holding: dict[int, list[LabelledFile]] = {k: [] for k in wanted}
    present: set[int] = set()
    for pair in pairs:
        mask = read_label(pair, space)
        present |= ids_in(mask)
        for k in wanted:
            if _holds(mask, k):
                holding[k].append(pair)
    read: dict[Path, tuple[np.ndarray, np.ndarray]] = {}
    chosen: list[SupportShot] = []
    for k in wanted:
        order = np.random.default_rng([seed, k]).permutation(len(holding[k]))[:shots]
        if not len(order):
            raise _not_shown(folder, space, k, present)
        if len(order) < shots:
            log.warning("%s: %d instead of %d images for class %r", folder, len(order), shots, space.by_id(k).name)
        for n in order:
            pair = holding[k][n]
            if pair.image not in read:
                read[pair.image] = read_labelled(pair, space)
            chosen.append(SupportShot(*read[pair.image], k))
    return chosen


def drawn_shots(drawn: DrawnSupport, space: LabelSpace, wanted: Sequence[int], shots: int) -> list[SupportShot]:
    """`shots` drawings for each class; which ones follows from (drawn.seed, class id).

    Streets are drawn until one shows the class.
    """
    draw, names = _world(drawn)
    id_of = np.full(256, IGNORE, np.uint8)
    for world_id, name in names.items():
        if label := space.find(name):
            id_of[world_id] = label.id
    if drawn.world == "objects" and space.background is not None:
        id_of[0] = space.background
    chosen: list[SupportShot] = []
    for k in wanted:
        worldly = _of_world(drawn, names, space, k)
        rng, made = np.random.default_rng([drawn.seed, k]), 0
        for _ in range(_DRAWS_PER_SHOT * shots):
            image, mask = draw(int(rng.integers(2**31)), worldly[0])
            if _holds(id_of[mask], k):
                chosen.append(SupportShot(image, id_of[mask], k))
                made += 1
            if made == shots:
                break
        else:
            raise InputError(
                f"support.drawn: the world {drawn.world!r} does not draw class {space.by_id(k).name!r} often "
                "enough; leave it out of labels.classes"
            )
    return chosen


def _holds(mask: np.ndarray, class_id: int) -> bool:
    return int(np.count_nonzero(mask == class_id)) >= max(16, LEAST_SHARE * mask.size)


def _world(drawn: DrawnSupport) -> tuple[Callable[[int, str], tuple[np.ndarray, np.ndarray]], dict[int, str]]:
    """A function (seed, class name) -> (image, mask in the world's ids), and the world's names by id."""
    if drawn.world == "objects":
        from synthgen.drawn import objects

        def draw(seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
            drawing = objects.draw(seed, drawn.size_px, class_name=name)
            return drawing.image, drawing.mask

        return draw, dict(enumerate(objects.CLASSES, start=1))
    from synthgen.drawn import streets

    def draw_street(seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        drawing = streets.draw(seed, (drawn.size_px, drawn.size_px * 3 // 2))
        return drawing.image, drawing.mask

    return draw_street, dict(enumerate(streets.CLASSES))
