from __future__ import annotations

import pytest

from segkit.labels import Label, LabelSpace
from synthgen.prompts.words import article, first_mentioned, mentions, plural

CAR = Label(0, "car", (1, 1, 1), ("car", "taxi"))
TABLE = Label(1, "diningtable", (2, 2, 2), ("dining table",))
PERSON = Label(2, "person", (3, 3, 3))
BICYCLE = Label(3, "bicycle", (4, 4, 4), ("bike",))
MOTORBIKE = Label(4, "motorbike", (5, 5, 5), ("motor bike",))
SPACE = LabelSpace("few", (CAR, TABLE, PERSON, BICYCLE, MOTORBIKE))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("orange", "an"),
        ("red", "a"),
        ("hour", "an"),
        ("house", "a"),
        ("one-way", "a"),
        ("uniform", "a"),
        ("unlit", "an"),
        ("European", "a"),
        ("Old", "an"),
    ],
)
def test_article(word: str, expected: str) -> None:
    assert article(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("car", "cars"),
        ("bus", "buses"),
        ("city bus", "city buses"),
        ("bench", "benches"),
        ("lorry", "lorries"),
        ("railway", "railways"),
        ("person", "people"),
        ("sheep", "sheep"),
        ("woman", "women"),
        ("dining table", "dining tables"),
    ],
)
def test_plural(word: str, expected: str) -> None:
    assert plural(word) == expected


@pytest.mark.parametrize(
    ("prompt", "label", "expected"),
    [
        ("a red car at night", CAR, True),
        ("A CAR.", CAR, True),
        ("three cars, parked", CAR, True),
        ("a yellow taxi", CAR, True),
        ("a cartoon of a scar", CAR, False),
        ("a car-free street", CAR, False),
        ("a dining  table in a room", TABLE, True),
        ("a dining-table", TABLE, True),
        ("a table", TABLE, False),
        ("a crowd of people", PERSON, True),
        ("", CAR, False),
    ],
)
def test_a_class_is_named_by_a_whole_word(prompt: str, label: Label, expected: bool) -> None:
    assert mentions(prompt, label) is expected


def test_the_class_named_first_wins_and_of_two_at_one_place_the_longer() -> None:
    assert first_mentioned("a person beside a car", SPACE) == PERSON
    assert first_mentioned("a car beside a person", SPACE) == CAR
    assert first_mentioned("a motor bike and a bike", SPACE) == MOTORBIKE
    assert first_mentioned("an empty street", SPACE) is None
