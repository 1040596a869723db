"""One spelling: capitals, Unicode forms, blanks; and where a word stands in a sentence."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.spelling import find_wordings, folded, same_name, word_parts


def found(text: str, *wordings: str) -> list[str]:
    return [text[start:stop] for start, stop in find_wordings(text, frozenset(wordings))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straßenbahn", "STRASSENBAHN"),
        ("Ampel", "ａｍｐｅｌ"),
        ("fenêtre", unicodedata.normalize("NFD", "Fenêtre")),
        ("garage_door", "Garage-Door"),
        ("garage door", "garage\u00a0 door"),
        ("ﾄﾗｯｸ", "トラック"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("lamp\u200bpost", "lamp post"),
        ("foot\u00adpath", "footpath"),
        ("\ufeffroof", "roof"),
        ("cats\u2019 eyes", "cats' eyes"),
        ("도로", unicodedata.normalize("NFD", "도로")),
    ],
)
def test_what_spelling_alone_makes_different_is_one_name(one: str, other: str) -> None:
    assert same_name(one) == same_name(other)


def test_other_letters_are_other_names() -> None:
    assert same_name("Iğdır") != same_name("igdir")
    assert same_name("côte") != same_name("cote")
    assert same_name("ladder") != same_name("lad der")
    assert same_name("-") != same_name("")


def test_parts_of_a_compound() -> None:
    assert word_parts("Level_Crossing-Gate") == ("level", "crossing", "gate")
    assert word_parts(" - ") == ()


@given(st.text(), st.text())
def test_folding_is_done_once_and_keeps_places(one: str, other: str) -> None:
    assert folded(folded(one)) == folded(one)
    text = f"{one} zq {other}"
    places = list(find_wordings(text, frozenset(("zq",))))
    assert all(0 <= start < stop <= len(text) and "zq" in folded(text[start:stop]) for start, stop in places)


@pytest.mark.parametrize(
    ("text", "wordings", "spans"),
    [
        ("a ladder, LADDER; ladders", ("ladder",), ["ladder", "LADDER"]),
        ("a step-ladder and a ladder-like thing", ("ladder",), []),
        ("a step-ladder", ("step ladder",), ["step-ladder"]),
        ("a step_ladder", ("Step Ladder",), ["step_ladder"]),
        ("ein großer Kran", ("GROSSER",), ["großer"]),
        ("kra\u0308ne", ("kräne",), ["kra\u0308ne"]),
        ("ein kra\u0308n", ("kra",), []),
        ("两辆卡车停在雪地里", ("卡车",), ["卡车"]),
        ("雪の中のトラックと木", ("トラック", "木"), ["トラック", "木"]),
        ("ต้นไม้สูงริมถนน", ("ถนน",), ["ถนน"]),
        ("ม้าสองตัว", ("ม้า",), ["ม้า"]),
        ("กี่ตัว", ("ก",), []),
        ("눈 속의 트럭이 있다", ("트럭",), ["트럭"]),
        ("전기트럭", ("트럭",), []),
        ("一辆Truck停着", ("truck",), ["Truck"]),
        ("a ladder", ("", "\u200b"), []),
        ("one + two", ("+",), ["+"]),
        ("light and light pole", ("light", "light pole"), ["light", "light pole"]),
    ],
)
def test_where_a_word_stands(text: str, wordings: tuple[str, ...], spans: list[str]) -> None:
    assert found(text, *wordings) == spans
