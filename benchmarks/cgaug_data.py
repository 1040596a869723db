"""What benchmarks/cgaug.py learns from and is tested on: drawn pairs with faults, test sets, photographs."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.camvid import frames, photographs
from benchmarks.flexseg_data import ADVERSE, darkened, warped_image
from benchmarks.labelled import write_labelled
from benchmarks.trainings import whole
from segkit.labels import OUT_OF_DISTRIBUTION
from segkit.masks import read_mask
from segkit.pictures import read_image
from synthgen.drawn import objects, street_intruders, streets
from synthgen.render.compose.cut_and_paste import anchor_centres, pasted, scaled
from synthgen.render.object_bank import cut_out

SOURCE_SEED = 3_300_000
OBJECT_SEED = 3_400_000
DONORS = 500_000  # added to a seed: the street that a wrong region shows
WARP_PX = 1.5
REGION_PX = 12  # at the least, and
REGION_SHARE = 0.1  # of the picture at the most: what a generator leaves out or mistakes is a thing, not the sky
SIZE_PX = (64, 96)
CAMVID_SIZE_PX = (120, 160)
CAMVID_ROAD = 3
LONGER_SIDE = (200 / 1024, 500 / 1024)  # of an object, of the height: the paper's


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """(H, W, 3) uint8, and what is said of it: (H, W) uint8 train ids of Cityscapes, an object that no street has is
    254."""

    image: np.ndarray
    mask: np.ndarray


def day(place: Path, scenes: int) -> Path:
    """The labelled source: streets by day, without what no street has."""

    def pictures() -> Iterator[tuple[str, Picture]]:
        for seed in range(SOURCE_SEED, SOURCE_SEED + scenes):
            yield str(seed), street(seed, "day")

    return whole(place / "data" / f"day-{scenes}", lambda out: write_labelled(out, pictures()))


def all_weathers(place: Path, scenes: int) -> Path:
    """The same streets by day and in one of the four weathers each, with exact masks: of the ceiling."""

    def pictures() -> Iterator[tuple[str, Picture]]:
        for seed in range(SOURCE_SEED, SOURCE_SEED + scenes):
            yield f"{seed}_day", street(seed, "day")
            yield f"{seed}_weather", street(seed, weather_of(seed))

    return whole(place / "data" / f"all-{scenes}", lambda out: write_labelled(out, pictures()))


def pairs(place: Path, count: int, kind: str = "coherent", faults: float = 0.0, held_out: bool = False) -> Path:
    """A folder of pairs: the first streets of the source, each with itself in another weather and an object in it.

    `kind`: coherent = object and weather in one picture, painted before the weather; ds_and_ss = the object as it
    looks by day, put into the picture of the weather; ds_or_ss = every other picture has the weather alone, the rest
    the object alone. `faults`: see `faulty`. `held_out`: objects of the test kinds.
    """

    def make(out: Path) -> None:
        def made() -> Iterator[tuple[str, Picture]]:
            for seed in range(SOURCE_SEED, SOURCE_SEED + count):
                yield str(seed), augmented(seed, kind, faults, held_out)

        write_labelled(out, made())
        originals = ((str(seed), street(seed, "day")) for seed in range(SOURCE_SEED, SOURCE_SEED + count))
        write_labelled(out, originals, "orig_images", "orig_labels")

    name = f"pairs-{kind}-{faults:g}{'-held_out' if held_out else ''}-{count}"
    return whole(place / "data" / name, make)


def objects_of(place: Path, count: int) -> Path:
    """Drawn objects of the training kinds, what AnomalyMix pastes: the class of the objects world in the mask."""

    def make(out: Path) -> None:
        def made() -> Iterator[tuple[str, Picture]]:
            for number in range(count):
                name = street_intruders.TRAINING[number % len(street_intruders.TRAINING)]
                drawing = objects.draw(OBJECT_SEED + number, class_name=name)
                yield str(number), Picture(drawing.image, drawing.mask)

        write_labelled(out, made(), space="objects")

    return whole(place / "data" / f"objects-{count}", make)


def test_set(place: Path, which: str, count: int, first_seed: int) -> Path:
    """`t1` day with an object of the test kinds, `t2` weather without one, `t3` weather with one: the same streets, the
    first ones from `first_seed` on in which the object is to be seen.
    """

    def made() -> Iterator[tuple[str, Picture]]:
        left, seed = count, first_seed
        while left:
            shown = street(seed, "day" if which == "t1" else weather_of(seed), intruder(seed, held_out=True))
            if (shown.mask == OUT_OF_DISTRIBUTION).any():
                yield str(seed), street(seed, weather_of(seed)) if which == "t2" else shown
                left -= 1
            seed += 1

    return whole(place / "data" / f"{which}-{first_seed}-{count}", lambda out: write_labelled(out, made()))


def augmented(seed: int, kind: str, faults: float, held_out: bool = False) -> Picture:
    """The other picture of a pair."""
    weather, name = weather_of(seed), intruder(seed, held_out)
    if kind == "ds_or_ss":
        domain, shown = (weather, None) if seed % 2 else ("day", name)
        return faulty(seed, domain, street(seed, domain, shown), street(seed, domain), faults)
    if kind == "coherent":
        return faulty(seed, weather, street(seed, weather, name), street(seed, weather), faults)
    without, by_day = street(seed, weather), street(seed, "day", name)
    inside = by_day.mask == OUT_OF_DISTRIBUTION
    with_object = Picture(
        np.where(inside[..., None], by_day.image, without.image), np.where(inside, by_day.mask, without.mask)
    )
    return faulty(seed, weather, with_object, without, faults)


def faulty(seed: int, domain: str, exact: Picture, without: Picture, rate: float) -> Picture:
    """A picture that disobeys its mask as a generator does: in a share `rate` of them the object is missing, a share
    `rate` of the regions between REGION_PX and REGION_SHARE show another street, and all of it is warped by WARP_PX.

    The mask stays that of `exact`; `without` is the same street without the object. Nothing is done at rate 0.
    """
    if not rate:
        return exact
    rng = np.random.default_rng((seed, 78))
    image = (without if misses_object(seed, rate) else exact).image.copy()
    other = street(seed + DONORS, domain)
    for class_id in np.unique(exact.mask[exact.mask < OUT_OF_DISTRIBUTION]).tolist():
        parts, number = ndimage.label(exact.mask == class_id)
        for part in range(1, number + 1):
            inside = parts == part
            if REGION_PX <= inside.sum() <= REGION_SHARE * inside.size and rng.random() < rate:
                image[inside] = other.image[inside]
    return Picture(warped_image(image, WARP_PX, seed), exact.mask)


def misses_object(seed: int, rate: float) -> bool:
    """Whether the faulty picture of that rate has no object under its mask."""
    return bool(np.random.default_rng((seed, 79)).random() < rate)


def object_of(seed: int) -> np.ndarray:
    """(H, W) bool: the object of the training kinds in the street of a pair; traffic may hide it."""
    return street(seed, weather_of(seed), intruder(seed, False)).mask == OUT_OF_DISTRIBUTION


@functools.lru_cache(maxsize=8)
def street(seed: int, domain: str, name: str | None = None) -> Picture:
    """A drawn street whose mask says 254 of its object."""
    drawing = streets.draw(seed, SIZE_PX, domain=domain, intruder=name)
    mask = np.where(drawing.mask >= len(streets.CLASSES), OUT_OF_DISTRIBUTION, drawing.mask).astype(np.uint8)
    return Picture(drawing.image, mask)


def weather_of(seed: int) -> str:
    return ADVERSE[seed % len(ADVERSE)]


def intruder(seed: int, held_out: bool) -> str:
    """The kind of the object of a street."""
    name = street_intruders.chosen(seed, 1.0, held_out)
    assert name is not None, "a share of 1 is all"
    return name


def camvid(place: Path, which: str) -> Path:
    """Photographs of CamVid at 160 x 120: `day` the labelled source, `pairs` it with an object of the training kinds
    pasted and then darkened as at dusk, `t1` those of the val split with an object of the test kinds, `t2` a sequence
    at dusk, `t3` that with an object.
    """
    source = photographs(place / "data" / "camvid-day", frames("train", "0006R0", "0016E5"))
    if which == "day":
        return source
    dusk = photographs(place / "data" / "camvid-dusk", frames("train", "0001TP"))
    if which == "t2":
        return dusk
    if which == "t1":
        return _with_objects(
            place, "camvid-t1", photographs(place / "data" / "camvid-val", frames("val")), street_intruders.HELD_OUT
        )
    if which == "t3":
        return _with_objects(place, "camvid-t3", dusk, street_intruders.HELD_OUT)
    lit = _with_objects(place, "camvid-lit", source, street_intruders.TRAINING)

    def make(out: Path) -> None:
        shutil.copytree(darkened(place, lit), out)
        for part in ("images", "labels"):
            (out / f"orig_{part}").mkdir()
            for path in (out / part).iterdir():
                shutil.copy(source / part / path.name, out / f"orig_{part}")

    return whole(place / "data" / "camvid-pairs", make)


def _with_objects(place: Path, name: str, folder: Path, kinds: tuple[str, ...]) -> Path:
    """Photographs with a drawn object each, on the road by CG-Aug's own policy; exact masks, 254. Those without a road
    are left out."""

    def made() -> Iterator[tuple[str, Picture]]:
        for number, path in enumerate(sorted((folder / "images").iterdir())):
            found = _with_object(
                Picture(read_image(path), read_mask(folder / "labels" / f"{path.stem}.png")), kinds, number
            )
            if found is not None:
                yield path.stem, found

    return whole(place / "data" / name, lambda out: write_labelled(out, made(), space="camvid"))


def _with_object(photograph: Picture, kinds: tuple[str, ...], number: int) -> Picture | None:
    rng = np.random.default_rng((number, len(kinds)))
    height = photograph.mask.shape[0]
    lengths = [share * height for share in (150 / 1024, 10 / 1024, 10 / 1024)]
    centres = anchor_centres(photograph.mask == CAMVID_ROAD, lengths[0], lengths[1], lengths[2])
    if not len(centres):
        return None
    kind = kinds[int(rng.integers(len(kinds)))]
    drawing = objects.draw(OBJECT_SEED + 100_000 + number, class_name=kind)
    found = drawing.mask == objects.CLASSES.index(kind) + 1
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    pixels = drawing.image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer = float(np.clip(max(pixels.shape[:2]), LONGER_SIDE[0] * height, LONGER_SIDE[1] * height))
    shape = scaled(cut_out(found), longer)
    small = np.asarray(Image.fromarray(pixels).resize(shape.shape[::-1], Image.Resampling.BILINEAR))
    mask = pasted(shape, tuple(centres[int(rng.integers(len(centres)))].tolist()), photograph.mask.shape)
    image, label = photograph.image.copy(), photograph.mask.copy()
    image[mask] = small[shape]
    label[mask] = OUT_OF_DISTRIBUTION
    return Picture(image, label)
