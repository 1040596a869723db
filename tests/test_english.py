"""Articles, plurals and the wordings of a noun."""

from __future__ import annotations

import pytest

from segkit.labels import read_label_space
from synthgen.english import article, plural, wordings
from synthgen.shipped import shipped_folder


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
        ("salesperson", "salespeople"),
        ("sheep", "sheep"),
        ("spacecraft", "spacecraft"),
        ("craft", "crafts"),
        ("jellyfish", "jellyfish"),
        ("woman", "women"),
        ("fireman", "firemen"),
        ("human", "humans"),
        ("shaman", "shamans"),
        ("goose", "geese"),
        ("mongoose", "mongooses"),
        ("dormouse", "dormice"),
        ("blouse", "blouses"),
        ("bookshelf", "bookshelves"),
        ("roof", "roofs"),
        ("volcano", "volcanoes"),
        ("piano", "pianos"),
        ("cactus", "cacti"),
        ("dining table", "dining tables"),
        ("dining_table", "dining_tables"),
        ("piece of fruit", "pieces of fruit"),
        ("passer-by", "passers-by"),
        ("TV", "TVs"),
        ("Foot", "Feet"),
        ("stairs", "stairs"),
        ("glasses", "glasses"),
        ("trees", "trees"),
        ("lens", "lenses"),
        ("木", "木"),
        ("A4", "A4"),
    ],
)
def test_plural(word: str, expected: str) -> None:
    assert plural(word) == expected


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("wolf", {"wolf", "wolves"}),
        ("person", {"person", "people", "persons"}),
        ("wharf", {"wharves", "wharfs"}),
        ("hooves", {"hooves", "hoof"}),
        ("Benches", {"Benches", "bench"}),
        ("olives", {"olive"}),
        ("lorries", {"lorry"}),
        ("glass of milk", {"glasses of milk"}),
    ],
)
def test_wordings_are_every_plural_and_the_singular(name: str, also: set[str]) -> None:
    assert also <= wordings(name)


@pytest.mark.parametrize(
    ("name", "other"), [("news", "new"), ("goods", "good"), ("shorts", "short"), ("glass", "glas")]
)
def test_a_word_that_means_something_else_is_no_wording(name: str, other: str) -> None:
    assert other not in wordings(name)


def test_every_shipped_class_has_itself_and_its_plural() -> None:
    for path in shipped_folder("prompts").glob("*/labels.yaml"):
        for label in read_label_space(path).labels:
            assert {label.spoken, plural(label.spoken)} <= wordings(label.spoken)
            assert not plural(label.spoken).endswith("seses")
