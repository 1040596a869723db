"""The grammar source, and the grammars that ship."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.labels import Label, LabelSpace
from synthgen.drawn import objects
from synthgen.errors import InputError, RecipeError
from synthgen.labels import read_label_space
from synthgen.prompts.bank import Candidate
from synthgen.prompts.sources import grammar
from synthgen.prompts.words import mentions

COW = Label(1, "cow", (1, 0, 0), ("cow", "dairy cow"))
SHEEP = Label(2, "sheep", (2, 0, 0))
BUS = Label(3, "bus", (3, 0, 0))
FARM = LabelSpace("farm", (COW, SHEEP, BUS))

FARM_GRAMMAR = """
name: farm
groups: {animals: [cow, sheep]}
class_words: {cow: [cow, dairy cow]}
plurals: {dairy cow: dairy cattle}
templates:
  - "a photo of {a} {colour} {class} {facing} {place.where}, {time}"
  - {text: "{count} {classes} {place}", classes: [animals]}
slots:
  colour: [orange, {value: brown, classes: [animals]}]
  facing: [{value: left, text: facing left, classes: [bus]}]
  place: [{value: field, forms: {where: [in a field, on the field]}}, {value: hill, forms: {where: on a hill}}]
  time: [{value: day, text: ""}, {value: night, text: at night}]
  count: [two, three]
forbid: [{place: hill, time: [night]}]
"""


@pytest.fixture
def grammar_of(tmp_path: Path) -> Callable[[str], grammar.Grammar]:
    def build(text: str) -> grammar.Grammar:
        path = tmp_path / "grammar.yaml"
        path.write_text(text, encoding="utf-8")
        return grammar.build(grammar.Options(vocabulary=str(path)), None)

    return build


def shipped(
    name: str, classes: tuple[str, ...] = (), seed: int = 0, count: int | None = None, space: str = ""
) -> dict[str, list[Candidate]]:
    labels = read_label_space(space or name)
    source = grammar.build(grammar.Options(vocabulary=name), None)
    wanted = [labels.by_name(c) for c in classes] or labels.foreground
    return {label.name: list(itertools.islice(source.candidates(labels, [label], seed), count)) for label in wanted}


def test_every_sentence_once(grammar_of: Callable[[str], grammar.Grammar]) -> None:
    source = grammar_of(FARM_GRAMMAR)
    buses = [c.prompt for c in source.candidates(FARM, [BUS], 0)]
    assert Counter(re.sub("in a field|on the field", "F", p) for p in buses) == Counter(
        [
            "a photo of an orange bus facing left F,",
            "a photo of an orange bus facing left F, at night",
            "a photo of an orange bus facing left on a hill,",
        ]
    )
    sheep = list(source.candidates(FARM, [SHEEP], 0))
    assert len(sheep) == 2 * 3 + 2 * 2
    assert len({c.prompt for c in sheep}) == len(sheep)
    assert {"two sheep hill", "three sheep field"} <= {c.prompt for c in sheep}
    assert all("facing" not in c.prompt for c in sheep), "a slot without a value for the class is left out"


def test_words_articles_and_plurals(grammar_of: Callable[[str], grammar.Grammar]) -> None:
    prompts = [c.prompt for seed in range(8) for c in grammar_of(FARM_GRAMMAR).candidates(FARM, [COW], seed)]
    text = " / ".join(prompts)
    for part in (
        "an orange cow",
        "a brown cow",
        "a brown dairy cow",
        "two cows",
        "three dairy cattle",
        "in a field",
        "on the field",
    ):
        assert part in text
    assert not re.search(r"\ba orange|an brown|dairy cows|[{}]|  | ,", text)


def test_attributes_follow_the_values(grammar_of: Callable[[str], grammar.Grammar]) -> None:
    source = grammar_of(FARM_GRAMMAR)
    by_prompt = {c.prompt: c for c in source.candidates(FARM, [BUS], 0)}
    hill = by_prompt["a photo of an orange bus facing left on a hill,"]
    assert hill.attributes == ("colour=orange", "facing=left", "place=hill", "time=day")
    assert (hill.class_name, hill.class_id) == ("bus", 3)
    assert source.attribute_values(BUS) == {
        "colour": ("orange",),
        "facing": ("left",),
        "place": ("field", "hill"),
        "time": ("day", "night"),
    }
    assert source.attribute_values(COW)["count"] == ("three", "two")


def test_order_follows_from_seed_and_class_alone() -> None:
    alone = shipped("objects", ("cat",), count=40)["cat"]
    labels = read_label_space("objects")
    source = grammar.build(grammar.Options(vocabulary="objects"), None)
    both = list(source.candidates(labels, [labels.by_name("dog"), labels.by_name("cat")], 0))
    assert [c for c in both if c.class_name == "cat"][:40] == alone
    assert shipped("objects", ("cat",), seed=1, count=40)["cat"] != alone
    assert list(source.candidates(labels, [], 0)) == []


def test_first_candidates_are_spread_over_templates_and_values() -> None:
    first = shipped("objects", ("car",), count=480)["car"]
    places = Counter(a for c in first for a in c.attributes if a.startswith("place="))
    assert len(places) == 6
    assert min(places.values()) > 50, "80 expected"
    shapes = Counter(
        (c.prompt.startswith("a photo"), c.prompt.startswith("a picture"), c.prompt.count(",")) for c in first
    )
    assert len(shapes) == 4
    assert min(shapes.values()) > 80, "120 expected"


def test_objects_grammar_says_exactly_what_the_captions_say() -> None:
    templates = {int(np.random.default_rng(seed).random(10)[6] * 4): seed for seed in range(40, 0, -1)}
    assert set(templates) == {0, 1, 2, 3}
    rng = np.random.default_rng(0)
    for name, found in shipped("objects", count=200).items():
        for i in rng.choice(len(found), size=2, replace=False):
            chosen = dict(attribute.split("=") for attribute in found[i].attributes)
            front = chosen["facing"] == "front"
            drawn = [
                objects.draw(seed, 16, class_name=name, **{**chosen, "facing": None if front else chosen["facing"]})
                for seed in templates.values()
            ]
            assert found[i].prompt in {drawing.caption for drawing in drawn}
            assert all(
                set(found[i].attributes) == {f"{k}={v}" for k, v in drawing.attributes if k != "class"}
                for drawing in drawn
            )


def test_objects_grammar_says_every_caption_of_one_object() -> None:
    found = shipped("objects", ("cat", "car", "sofa"))
    for name, candidates in found.items():
        coats, sides = len(objects.colours_of(name)), 2 if "facing" in candidates[0].prompt else 1
        assert len(candidates) == 4 * coats * sides * len(objects.PLACES) * len(objects.TIMES) * len(objects.WEATHERS)


@pytest.mark.parametrize(
    ("name", "space"), [("objects", "objects"), ("voc", "voc"), ("cityscapes", "cityscapes"), ("cityscapes", "camvid")]
)
def test_shipped_grammars_name_every_class_and_read_well(name: str, space: str) -> None:
    labels = read_label_space(space)
    for class_name, candidates in shipped(name, count=150, space=space).items():
        assert len(candidates) == 150
        assert len({c.prompt for c in candidates}) == 150
        for candidate in candidates:
            assert mentions(candidate.prompt, labels.by_name(class_name)), candidate.prompt
            assert not re.search(r"[{}]| ,|  |,,|^\s|\s$|\ba [aeio]|\ban [^aeiouh]", candidate.prompt), candidate.prompt


@pytest.mark.parametrize("name", ["voc", "cityscapes"])
def test_shipped_grammars_name_known_classes_only(name: str) -> None:
    space = read_label_space(name)
    vocabulary = grammar._read(grammar._path(name))
    used = {c for part in (*vocabulary.templates, *itertools.chain(*vocabulary.slots.values())) for c in part.classes}
    members = (
        {c for group in vocabulary.groups.values() for c in group}
        | {c for c in used if c not in vocabulary.groups}
        | set(vocabulary.class_words)
    )
    assert members <= {label.name for label in space.foreground}
    values = {(slot, v.value) for slot, entries in vocabulary.slots.items() for v in entries}
    values |= {item for entries in vocabulary.slots.values() for v in entries for item in (v.attributes or {}).items()}
    assert {(k, v) for rule in vocabulary.forbid for k, words in rule.items() for v in words} <= values


@pytest.mark.parametrize(("name", "smallest"), [("voc", ("sofa", "tvmonitor")), ("cityscapes", ("sky", "terrain"))])
def test_rich_grammars_are_larger_than_the_default_budget(name: str, smallest: tuple[str, ...]) -> None:
    assert all(len(found) == 2000 for found in shipped(name, smallest, count=2000).values())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("templates: []", "name"),
        ("name: x\ntemplates: []", "templates"),
        ("name: x\ntemplates: [a photo]", "neither {class} nor {classes}"),
        ("name: x\ntemplates: ['{class} {place}']", "slot 'place'"),
        ("name: x\ntemplates: ['{class} {place.where}']\nslots: {place: [sea]}", "form place.where, which 'sea'"),
        ("name: x\ntemplates: ['{class}']\nslots: {place: [{value: a=b}]}", "slots.place.0.value"),
        ("name: x\ntemplates: ['{class}']\ntypo: 1", "typo"),
        ("name: [", "cannot be read as YAML"),
        ("just text", "valid dictionary"),
    ],
)
def test_a_malformed_grammar_is_one_line(
    grammar_of: Callable[[str], grammar.Grammar], broken: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        grammar_of(broken)
    assert message in str(caught.value)
    assert "grammar.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_belongs_to_its_groups_in_any_spelling(grammar_of: Callable[[str], grammar.Grammar]) -> None:
    source = grammar_of(
        "name: x\ngroups: {lights: [traffic light]}\ntemplates: [{text: '{class} {at}', classes: [lights]}]\n"
        "slots: {at: [{value: night, classes: [traffic-light]}]}"
    )
    label = Label(4, "Traffic_Light", (4, 0, 0))
    found = list(source.candidates(LabelSpace("x", (label,)), [label], 0))
    assert [c.prompt for c in found] == ["Traffic_Light night"]


def test_a_class_without_a_sentence_is_an_error(grammar_of: Callable[[str], grammar.Grammar]) -> None:
    source = grammar_of("name: x\ntemplates: [{text: '{class}', classes: [cow]}]")
    with pytest.raises(InputError, match="no template is for class 'bus'"):
        list(source.candidates(FARM, [BUS], 0))


@pytest.mark.parametrize("name", ["vox", "missing/grammar.yaml"])
def test_an_unknown_vocabulary_is_an_error(name: str) -> None:
    with pytest.raises(RecipeError, match=name):
        grammar.build(grammar.Options(vocabulary=name), None)


def test_shuffle_is_a_permutation_of_any_range() -> None:
    for total in (1, 2, 3, 17, 64, 1000):
        assert sorted(grammar._shuffled(total, "key")) == list(range(total))
    assert list(grammar._shuffled(1000, "key")) != list(grammar._shuffled(1000, "other"))
    huge = list(itertools.islice(grammar._shuffled(10**30, "key"), 200))
    assert len(set(huge)) == 200
    assert max(huge) > 10**29
