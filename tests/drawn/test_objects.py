"""The objects world: exact masks, honest captions, and draws that do not disturb each other."""

from __future__ import annotations

import numpy as np
import pytest

from synthgen.drawn import objects
from synthgen.drawn.object_shapes import SHAPES
from synthgen.errors import RecipeError

SKY_WORDS = {
    ("day", "clear"): "clear day",
    ("day", "fog"): "foggy day",
    ("day", "rain"): "rainy day",
    ("night", "clear"): "night",
    ("night", "fog"): "foggy night",
    ("night", "rain"): "rainy night",
}


def test_classes_are_the_voc_classes_in_order() -> None:
    assert len(objects.CLASSES) == 20
    assert list(objects.CLASSES) == sorted(objects.CLASSES)
    assert set(SHAPES) == set(objects.CLASSES) == set(objects.SPOKEN)


@pytest.mark.parametrize("pair_probability", [0.0, 1.0])
def test_equal_arguments_give_equal_bytes(pair_probability: float) -> None:
    for seed in range(10):
        first = objects.draw(seed, pair_probability=pair_probability)
        # Another drawing in between must leave no trace.
        objects.draw(seed + 1)
        again = objects.draw(seed, pair_probability=pair_probability)
        assert first.image.tobytes() == again.image.tobytes()
        assert first.mask.tobytes() == again.mask.tobytes()
        assert first.instances.tobytes() == again.instances.tobytes()
        assert (first.caption, first.attributes) == (again.caption, again.attributes)


def test_seeds_differ() -> None:
    assert len({objects.draw(seed).image.tobytes() for seed in range(50)}) == 50


@pytest.mark.parametrize("class_name", objects.CLASSES)
@pytest.mark.parametrize("place", objects.PLACES)
def test_time_and_weather_change_the_image_but_not_the_mask(class_name: str, place: str) -> None:
    drawings = [
        objects.draw(7, class_name=class_name, place=place, time=time, weather=weather, pair_probability=0.5)
        for time in objects.TIMES
        for weather in objects.WEATHERS
    ]
    assert len({d.mask.tobytes() for d in drawings}) == 1
    assert len({d.instances.tobytes() for d in drawings}) == 1
    assert len({d.image.tobytes() for d in drawings}) == len(drawings)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("place", objects.PLACES),
        ("time", objects.TIMES),
        ("weather", objects.WEATHERS),
        ("facing", objects.FACINGS),
    ],
)
def test_giving_one_choice_leaves_the_others(name: str, values: tuple[str, ...]) -> None:
    for seed in range(12):
        free = dict(objects.draw(seed).attributes)
        for value in values:
            given = dict(objects.draw(seed, **{name: value}).attributes)  # type: ignore[arg-type]
            assert {k: v for k, v in given.items() if k != name} == {k: v for k, v in free.items() if k != name}
            if name != "facing":
                assert given[name] == value


def test_giving_what_was_drawn_anyway_changes_nothing() -> None:
    for seed in range(20):
        free = objects.draw(seed)
        chosen = dict(free.attributes)
        given = objects.draw(
            seed,
            class_name=chosen["class"],
            place=chosen["place"],
            time=chosen["time"],
            weather=chosen["weather"],
            colour=chosen["colour"],
        )
        assert given.image.tobytes() == free.image.tobytes()
        assert given.caption == free.caption


def test_giving_a_class_keeps_place_time_and_weather() -> None:
    for seed in range(12):
        free = dict(objects.draw(seed).attributes)
        given = dict(objects.draw(seed, class_name="horse").attributes)
        assert all(free[name] == given[name] for name in ("place", "time", "weather"))


def test_colour_changes_paint_and_not_geometry() -> None:
    red, blue = (objects.draw(3, class_name="car", colour=c, time="day", weather="clear") for c in ("red", "blue"))
    assert red.mask.tobytes() == blue.mask.tobytes()
    inside = red.mask > 0
    difference = red.image[inside].mean(axis=0) - blue.image[inside].mean(axis=0)
    assert difference[0] > 40 > -40 > difference[2]


def test_arrays_and_ids() -> None:
    for seed in range(60):
        drawing = objects.draw(seed, pair_probability=0.5)
        assert drawing.image.shape == (64, 64, 3) and drawing.image.dtype == np.uint8
        assert drawing.mask.shape == (64, 64) and drawing.mask.dtype == np.uint8
        assert drawing.instances.shape == (64, 64) and drawing.instances.dtype == np.uint16
        first = objects.CLASSES.index(dict(drawing.attributes)["class"]) + 1
        assert np.unique(drawing.mask[drawing.instances == 1]).tolist() == [first]
        assert ((drawing.mask > 0) == (drawing.instances > 0)).all()
        assert drawing.instances.max() <= 2


def test_a_lone_object_fills_a_readable_share_of_the_image() -> None:
    shares = []
    for seed in range(100):
        drawing = objects.draw(seed)
        assert np.unique(drawing.instances).tolist() == [0, 1]
        shares.append(float((drawing.mask > 0).mean()))
    assert min(shares) > 0.09
    assert max(shares) < 0.47
    assert 0.18 < float(np.mean(shares)) < 0.32


def test_an_object_keeps_off_the_border() -> None:
    touching = 0
    for seed in range(100):
        instances = objects.draw(seed).instances
        edge = np.concatenate([instances[0], instances[-1], instances[:, 0], instances[:, -1]])
        touching += bool(edge.any())
    assert touching <= 8


def test_the_caption_says_what_is_drawn() -> None:
    for seed in range(200):
        drawing = objects.draw(seed)
        chosen = dict(drawing.attributes)
        caption = drawing.caption
        assert list(drawing.attributes) == sorted(drawing.attributes)
        assert f"{chosen['colour']} {objects.SPOKEN[chosen['class']]}" in caption
        assert chosen["place"] in caption
        assert SKY_WORDS[chosen["time"], chosen["weather"]] in caption
        assert ("clear" in caption, "fogg" in caption, "rain" in caption.replace("train", "")) == (
            chosen["time"] == "day" and chosen["weather"] == "clear",
            chosen["weather"] == "fog",
            chosen["weather"] == "rain",
        )
        assert chosen["colour"] in objects.colours_of(chosen["class"])
        assert len(caption.split()) <= 16


@pytest.mark.parametrize("class_name", objects.CLASSES)
def test_facing_words_belong_to_side_views(class_name: str) -> None:
    left, right = (objects.draw(11, class_name=class_name, facing=facing) for facing in objects.FACINGS)
    if SHAPES[class_name].faces:
        assert "facing left" in left.caption and "facing right" in right.caption
        # The same object, mirrored: its mask flips up to where it stands.
        assert left.mask.tobytes() != right.mask.tobytes()
        counts = np.count_nonzero(left.mask), np.count_nonzero(right.mask)
        assert abs(counts[0] - counts[1]) < 0.06 * counts[0]
    else:
        assert "facing" not in left.caption
        assert left.image.tobytes() == right.image.tobytes()
        assert dict(left.attributes)["facing"] == "front"


def test_a_second_object_is_named_visible_and_beside_the_first() -> None:
    pairs = 0
    for seed in range(80):
        drawing = objects.draw(seed, pair_probability=1.0)
        assert len(drawing.caption.split()) <= 16
        second = np.unique(drawing.mask[drawing.instances == 2])
        if second.size:
            pairs += 1
            name = objects.SPOKEN[objects.CLASSES[int(second[0]) - 1]]
            assert f" and a {name}" in drawing.caption or f" and an {name}" in drawing.caption
            assert np.count_nonzero(drawing.instances == 2) < np.count_nonzero(drawing.instances == 1) * 1.5
        else:
            assert " and a" not in drawing.caption
    assert pairs > 70


def test_something_in_front_hides_a_small_part_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [objects.draw(seed) for seed in range(400)]
    monkeypatch.setattr(objects, "_OCCLUDED", 0.0)
    whole = [objects.draw(seed) for seed in range(400)]
    hidden = []
    for front, plain in zip(seen, whole, strict=True):
        assert not ((front.mask > 0) & (plain.mask == 0)).any()
        lost = (front.mask == 0) & (plain.mask > 0)
        if lost.any():
            hidden.append(np.count_nonzero(lost) / np.count_nonzero(plain.mask))
            assert (front.image[lost] != plain.image[lost]).any(axis=1).mean() > 0.95
    assert 0.05 < len(hidden) / 400 < 0.16
    assert max(hidden) < 0.35


@pytest.mark.parametrize("size_px", [32, 96, 128])
def test_other_sizes_show_the_same_picture(size_px: int) -> None:
    for seed in range(5):
        small, other = objects.draw(seed), objects.draw(seed, size_px)
        assert other.image.shape == (size_px, size_px, 3)
        assert other.caption == small.caption
        assert abs(float((small.mask > 0).mean()) - float((other.mask > 0).mean())) < 0.03


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_name": "dragon"},
        {"place": "moon"},
        {"time": "noon"},
        {"weather": "hail"},
        {"facing": "up"},
        {"class_name": "horse", "colour": "pink"},
    ],
)
def test_an_unknown_word_names_itself_and_the_way_out(wrong: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=f"{list(wrong.values())[-1]}.*choose one of"):
        objects.draw(0, **wrong)  # type: ignore[arg-type]


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(RecipeError, match="8"):
        objects.draw(0, 8)
