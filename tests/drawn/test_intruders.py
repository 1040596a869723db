"""Objects that no street has, painted into one before the weather."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segkit import labels
from segtrain.data.domains import read_domains
from synthgen.drawn import objects, street_intruders, streets
from synthgen.drawn.split import write_split
from synthgen.errors import RecipeError
from synthgen.labels import read_label_space

FIRST = len(streets.CLASSES)


def ids_of(name: str) -> int:
    return FIRST + streets.INTRUDERS.index(name)


def test_they_are_the_objects_that_no_street_has_in_two_kinds_that_never_meet() -> None:
    street_things = {"bicycle", "bus", "car", "motorbike", "person", "train"}
    assert sorted((*street_intruders.TRAINING, *street_intruders.HELD_OUT)) == sorted(
        set(objects.CLASSES) - street_things
    )
    assert not set(street_intruders.TRAINING) & set(street_intruders.HELD_OUT)
    assert streets.INTRUDERS[: len(street_intruders.TRAINING)] == street_intruders.TRAINING


@pytest.mark.parametrize("name", streets.INTRUDERS)
def test_it_stands_in_the_street_that_the_seed_draws_without_it(name: str) -> None:
    shown, sizes = 0, []
    for seed in range(12):
        plain, drawing = streets.draw(seed, domain="day"), streets.draw(seed, domain="day", intruder=name)
        own = drawing.mask == ids_of(name)
        assert set(np.unique(drawing.mask)) <= {*streets.DRAWN, ids_of(name)}
        if not own.any():
            continue
        shown += 1
        assert objects.SPOKEN[name] in drawing.caption
        assert name in dict(drawing.attributes)["things"].split(",")
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        sizes.append(max(np.ptp(rows), np.ptp(columns)) + 1)
        # what it hides may vanish as a whole; most of the street stays what it was
        assert ((plain.mask != drawing.mask) & ~own).mean() < 0.12
        assert drawing.instances[own].min() > 0
    assert shown >= 10
    assert 8 <= np.median(sizes) <= 32  # of 64 px


def test_weather_moves_no_edge_and_covers_the_object_too() -> None:
    for seed in range(6):
        day, fog, night = (streets.draw(seed, domain=d, intruder="chair") for d in ("day", "fog", "night"))
        assert np.array_equal(day.mask, fog.mask)
        assert np.array_equal(day.instances, night.instances)
        own = day.mask == ids_of("chair")
        if own.any():
            assert night.image[own].mean() < 0.9 * day.image[own].mean()
            assert np.ptp(fog.image[own].astype(int), axis=0).max() <= np.ptp(day.image[own].astype(int), axis=0).max()


def test_the_same_call_gives_the_same_bytes_and_other_seeds_other_places() -> None:
    one, again = (streets.draw(3, intruder="cat") for _ in range(2))
    assert np.array_equal(one.image, again.image)
    places = set()
    for seed in range(10):
        own = streets.draw(seed, intruder="cat").mask == ids_of("cat")
        if own.any():
            places.add((int(np.flatnonzero(own.any(0))[0]), int(np.flatnonzero(own.any(1))[-1])))
    assert len(places) > 6


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(RecipeError, match="intruder 'car' is not one of bird, boat"):
        streets.draw(0, intruder="car")


def test_the_share_of_streets_with_one_is_the_one_that_was_asked_for() -> None:
    for held_out, names in ((False, street_intruders.TRAINING), (True, street_intruders.HELD_OUT)):
        chosen = [street_intruders.chosen(seed, 0.4, held_out) for seed in range(600)]
        assert np.mean([name is not None for name in chosen]) == pytest.approx(0.4, abs=0.06)
        assert {name for name in chosen if name} == set(names)
    assert {street_intruders.chosen(seed, 0.0) for seed in range(50)} == {None}


def test_a_split_with_them_has_their_label_space(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_split(tmp_path / "s", "streets", 3, 0, domain="night", intruders=1.0)
    space = yaml.safe_load((tmp_path / "s" / "labels.yaml").read_text(encoding="utf-8"))
    assert space["name"] == "streets"
    assert len(space["labels"]) == FIRST + len(streets.INTRUDERS)
    for wrong in ({"size_px": 32}, {"domain": "mist"}):
        with pytest.raises(RecipeError):
            write_split(tmp_path / "o", "streets", 1, 0, **wrong)  # type: ignore[arg-type]
        assert not (tmp_path / "o").exists(), "the mended command would be refused"
    with pytest.raises(RecipeError, match="has no domains and no intruders"):
        write_split(tmp_path / "o", "objects", 1, 0, domain="night")


def test_a_split_may_have_them_as_unknown(tmp_path: Path) -> None:
    for name in ("named", "unknown"):
        write_split(tmp_path / name, "streets", 3, 0, intruders=1.0, held_out=True, unknown=name == "unknown")
    assert labels.read_label_space(tmp_path / "unknown" / "labels.yaml") == read_label_space("cityscapes")
    for path in sorted((tmp_path / "named" / "labels").iterdir()):
        named, unknown = (
            np.asarray(Image.open(tmp_path / name / "labels" / path.name)) for name in ("named", "unknown")
        )
        assert (named >= FIRST).any() and np.array_equal(unknown == 254, named >= FIRST)
        assert np.array_equal(unknown[named < FIRST], named[named < FIRST])
    for options in ({"held_out": True}, {"unknown": True}):
        with pytest.raises(RecipeError, match="--held-out and --unknown say something of the objects of --intruders"):
            write_split(tmp_path / "other", "streets", 1, 0, **options)  # type: ignore[arg-type]


def test_a_split_of_streets_declares_the_weather_of_each_scene_and_the_words_of_its_classes(tmp_path: Path) -> None:
    write_split(tmp_path / "s", "streets", 6, 0)
    assert read_domains(tmp_path / "s") == {
        f"streets_{seed:08d}": dict(streets.draw(seed).attributes)["domain"] for seed in range(6)
    }
    assert labels.read_label_space(tmp_path / "s" / "labels.yaml") == read_label_space("cityscapes")
    write_split(tmp_path / "o", "objects", 1, 0)
    assert not (tmp_path / "o" / "domains.txt").exists()


def test_the_shipped_label_space_names_them_with_colours_of_their_own() -> None:
    space, cityscapes = read_label_space("streets"), read_label_space("cityscapes")
    assert tuple(label.name for label in space.labels) == (*streets.CLASSES, *streets.INTRUDERS)
    cityscapes.require_within(space, "here")
    colours = [label.colour for label in space.labels]
    assert len(set(colours)) == len(colours)
    for k in range(FIRST, len(colours)):
        nearest = min(np.linalg.norm(np.subtract(colours[k], other)) for n, other in enumerate(colours) if n != k)
        assert nearest > 80  # the VAE blurs them
