"""Which class a sentence names."""

from __future__ import annotations

import unicodedata

import pytest

from segkit.labels import Label, LabelSpace
from synthgen.prompts.words import first_mentioned, mentions

CAR = Label(0, "car", (1, 1, 1), ("car", "taxi"))
TABLE = Label(1, "diningtable", (2, 2, 2), ("dining table",))
PERSON = Label(2, "person", (3, 3, 3))
BICYCLE = Label(3, "bicycle", (4, 4, 4), ("bike",))
MOTORBIKE = Label(4, "motorbike", (5, 5, 5), ("motor bike",))
SPACE = LabelSpace("few", (CAR, TABLE, PERSON, BICYCLE, MOTORBIKE))


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


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("scarf", "scarves on a market stall"),
        ("ox", "two oxen in the rain"),
        ("volcano", "a row of volcanoes"),
        ("Trees", "one tree on a hill"),
        ("hedge_row", "a hedge row, in winter"),
        ("Bürgersteig", "ein nasser BÜRGERSTEIG"),
        ("Weiße Linie", "eine weisse linie"),
        ("forêt", unicodedata.normalize("NFD", "une forêt la nuit")),
        ("路灯", "夜里的路灯很亮"),
        ("ベンチ", "公園のﾍﾞﾝﾁに座る"),
        ("สะพาน", "ใต้สะพานตอนกลางคืน"),
        ("자전거", "길가에 자전거가 있다"),
        ("lamp post", "a lamp\u200bpost at dusk"),
        ("driver’s seat", "an empty driver's seat"),
    ],
)
def test_a_class_is_found_in_every_plural_spelling_and_script(name: str, prompt: str) -> None:
    assert mentions(prompt, Label(0, name))


def test_the_class_named_first_wins_and_of_two_at_one_place_the_longer() -> None:
    assert first_mentioned("a person beside a car", SPACE) == PERSON
    assert first_mentioned("a car beside a person", SPACE) == CAR
    assert first_mentioned("a motor bike and a bike", SPACE) == MOTORBIKE
    assert first_mentioned("an empty street", SPACE) is None
    car, station = Label(6, "车"), Label(7, "车站")
    assert first_mentioned("夜里的车站", LabelSpace("zh", (car, station))) == station
