"""The bank of one class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.labels import Label
from synthgen.errors import ModelError
from synthgen.images import write_image
from synthgen.prompts import bank
from synthgen.prompts.bank import Candidate, ClassBank, Entry
from synthgen.prompts.compared import nearest_similarity

CAR = Label(7, "car", (1, 2, 3), ("car", "taxi"))


def cars(*prompts: str) -> Iterator[Candidate]:
    return (Candidate(prompt, "car", 7, ()) for prompt in prompts)


def numbered(prefix: str = "a car") -> Iterator[Candidate]:
    """Endless, each nearly alike: only the last of many words differs."""
    return (Candidate(f"{prefix} in the same old street with word{i}", "car", 7, ()) for i in itertools.count())


@pytest.fixture
def make(word_bag: Any) -> Any:
    def build(label: Label | None = CAR, broken: str = "", **changed: Any) -> tuple[ClassBank, Any]:
        encoder = word_bag.WordBag(word_bag.Options(broken=broken))
        limits = {"lambda_div": 0.9, "quota": 3, "budget": 100, "class_gate": True, **changed}
        return ClassBank(label, lambda: encoder, **limits), encoder

    return build


def kept(entries: list[Entry]) -> list[str]:
    return [entry.candidate.prompt for entry in entries if not entry.refusal]


def test_near_duplicates_are_refused_with_their_neighbour(make: Any) -> None:
    filled, _ = make(lambda_div=0.7)
    first, near, other = filled.fill(cars("a red car on sand", "a red car on snow", "one taxi by night"))
    assert (first.refusal, first.similarity, first.nearest) == ("", -1.0, None)
    assert (near.refusal, near.detail, near.embedding) == ("near_duplicate", "a red car on sand", None)
    assert near.similarity >= 0.7
    assert near.nearest == first.candidate
    assert other.refusal == ""
    assert other.nearest == first.candidate
    assert -1 < other.similarity < 0.7
    assert [entry.order for entry in (first, near, other)] == [0, 1, 2]
    assert filled.stopped == "exhausted"


def test_the_class_must_be_named(make: Any) -> None:
    prompts = ("a red carpet", "two taxis by night")
    filled, encoder = make()
    missing, named = filled.fill(cars(*prompts))
    assert (missing.refusal, missing.detail) == ("class_missing", "a red carpet")
    assert named.refusal == ""
    assert encoder.encoded == [["two taxis by night"]], "what is refused by its words is not embedded"
    assert kept(list(make(class_gate=False)[0].fill(cars(*prompts)))) == list(prompts)


def test_a_prompt_about_no_class_passes_only_without_the_gate(make: Any) -> None:
    scene = Candidate("an empty street", "", 255, ())
    assert [entry.refusal for entry in make(None)[0].fill(iter([scene]))] == ["class_missing"]
    assert [entry.refusal for entry in make(None, class_gate=False)[0].fill(iter([scene]))] == [""]


def test_stops_at_the_quota(make: Any) -> None:
    filled, encoder = make(quota=3, lambda_div=1.0)
    entries = list(filled.fill(numbered()))
    assert len(entries) == 3
    assert filled.stopped == "quota"
    assert [len(block) for block in encoder.encoded] == [bank.BLOCK]


def test_stops_at_the_budget(make: Any) -> None:
    filled, encoder = make(quota=3, budget=70, lambda_div=0.5)
    entries = list(filled.fill(numbered()))
    assert len(entries) == 70
    assert len(kept(entries)) == 1
    assert filled.stopped == "budget"
    assert sum(map(len, encoder.encoded)) == 70


def test_a_text_that_comes_again_is_refused_even_with_the_comparison_off(make: Any) -> None:
    entries = list(make(lambda_div=1.0)[0].fill(cars("a car", "a car", "a taxi")))
    assert [entry.refusal for entry in entries] == ["", "repeated", ""]


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_the_size_of_blocks_changes_nothing(make: Any, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    prompts = [
        f"{a} {b} car {c} x{i % 3}"
        for i, (a, b, c) in enumerate(
            itertools.product(("red", "old"), ("big", "wet", "fast"), ("by day", "at night", "here"))
        )
    ]
    limits = {"quota": 6, "budget": 17, "lambda_div": 0.75}
    expected = list(make(**limits)[0].fill(cars(*prompts)))
    assert 0 < len(kept(expected)) < len(expected)
    monkeypatch.setattr(bank, "BLOCK", block)
    found = list(make(**limits)[0].fill(cars(*prompts)))
    told = [(e.candidate, e.order, e.refusal, e.detail, e.similarity, e.nearest) for e in found]
    assert told == [(e.candidate, e.order, e.refusal, e.detail, e.similarity, e.nearest) for e in expected]


def test_photographs_are_all_taken_without_an_encoder(make: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for path in paths:
        write_image(np.zeros((4, 4, 3), np.uint8), path)
    paths[5].write_bytes(b"no image")
    filled, encoder = make(None, quota=2, budget=3)
    entries = list(filled.fill(Candidate("", "", 255, (), photograph=path) for path in paths))
    assert [entry.refusal for entry in entries] == ["unreadable_image" if i == 5 else "" for i in range(40)]
    assert str(paths[5]) in entries[5].detail
    assert {(entry.similarity, entry.nearest, entry.embedding) for entry in entries} == {(-1.0, None, None)}
    assert filled.stopped == "exhausted"
    assert encoder.encoded == []


def test_a_broken_embedding_is_an_error_that_names_the_prompt(make: Any) -> None:
    with pytest.raises(ModelError, match="'a purple car' is zero or not finite"):
        list(make(broken="purple")[0].fill(cars("a red car", "a purple car")))


def test_a_prompt_about_something_else_is_off_class(make: Any, word_bag: Any) -> None:
    encoder = word_bag.WordBag(word_bag.Options())
    prompts = [
        "a photo of a car",
        "a photo of a red car by night",
        "one taxi rank sign between nine tall grey office towers",
    ]
    anchor, *vectors = (e.pooled / np.linalg.norm(e.pooled) for e in encoder.encode(["a photo of a car", *prompts]))
    cosines = [float(vector @ anchor) for vector in vectors]
    assert cosines[0] > cosines[1] > 0.5 > cosines[2]
    entries = list(make(lambda_div=1.0, min_class_similarity=0.5)[0].fill(cars(*prompts)))
    assert [entry.refusal for entry in entries] == ["", "", "off_class"]
    assert entries[2].similarity == pytest.approx(cosines[2], abs=1e-5)
    assert (entries[2].nearest, entries[2].embedding, entries[2].detail) == (None, None, prompts[2])
    assert [entry.refusal for entry in make(lambda_div=1.0)[0].fill(cars(*prompts))] == ["", "", ""], "off by default"


def test_what_is_off_class_is_nobodys_neighbour_and_counts_for_the_budget(make: Any) -> None:
    off = "one taxi rank sign between nine tall grey office towers"
    filled, _ = make(lambda_div=0.9, min_class_similarity=0.5, quota=2, budget=4)
    entries = list(
        filled.fill(cars(off, off + " again", "a photo of a car", "a photo of a red car in snow", "a car", "a taxi"))
    )
    assert [entry.refusal for entry in entries] == ["off_class", "off_class", "", ""]
    assert entries[2].similarity == -1.0, "the first accepted one has no neighbour"
    assert filled.stopped == "quota"


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_the_floor_does_not_depend_on_blocks(make: Any, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    prompts = [
        f"a photo of a car {'far ' * (i % 5)}thing{i % 7} {'lost among many other grey things' if i % 3 == 0 else ''}"
        for i in range(20)
    ]
    limits = {"quota": 5, "budget": 18, "lambda_div": 0.87, "min_class_similarity": 0.7}
    expected = [(e.candidate, e.refusal, e.similarity) for e in make(**limits)[0].fill(cars(*prompts))]
    assert {refusal for _, refusal, _ in expected} == {"", "near_duplicate", "off_class"}
    monkeypatch.setattr(bank, "BLOCK", block)
    assert [(e.candidate, e.refusal, e.similarity) for e in make(**limits)[0].fill(cars(*prompts))] == expected


class Listener:
    """An agent that gives its prompts in rounds and notes what it hears."""

    def __init__(self, *rounds: list[str]) -> None:
        self.stopped = ""
        self.rounds = [list(cars(*prompts)) for prompts in rounds]
        self.limits: list[int] = []
        self.heard: list[list[tuple[str, str]]] = []

    def __iter__(self) -> Listener:
        return self

    def __next__(self) -> Candidate:
        raise AssertionError("an agent is asked for rounds")

    def next_round(self, limit: int) -> list[Candidate]:
        self.limits.append(limit)
        return self.rounds.pop(0)[:limit] if self.rounds else []

    def hear(self, entries: Sequence[Entry]) -> None:
        self.heard.append([(entry.candidate.prompt, entry.refusal) for entry in entries])
        assert all(entry.embedding is None for entry in entries)


def test_an_agent_hears_what_became_of_each_round_before_the_next(make: Any) -> None:
    agent = Listener(["a red car on sand", "a red car on snow"], ["a dog"], ["one taxi by night"])
    filled, _ = make(lambda_div=0.7, quota=9, budget=40)
    entries = list(filled.fill(agent))
    assert agent.heard == [
        [("a red car on sand", ""), ("a red car on snow", "near_duplicate")],
        [("a dog", "class_missing")],
        [("one taxi by night", "")],
    ]
    assert [entry.order for entry in entries] == [0, 1, 2, 3]
    assert agent.limits == [32, 32, 32, 32]
    assert all(entry.embedding is not None for entry in entries if not entry.refusal)
    assert filled.stopped == "exhausted"


def test_an_agents_own_word_for_why_it_ended(make: Any) -> None:
    agent = Listener(["a car"])
    agent.stopped = "saturated"
    filled, _ = make()
    assert len(list(filled.fill(agent))) == 1
    assert filled.stopped == "saturated"


def test_an_agent_is_never_asked_for_more_than_the_budget(make: Any) -> None:
    agent = Listener(["a car", "a dog"], ["a cat", "a cow", "a hen"], ["a taxi"])
    filled, _ = make(quota=9, budget=4)
    assert len(list(filled.fill(agent))) == 4
    assert agent.limits == [4, 2]
    assert filled.stopped == "budget"


def test_nearest_similarity_is_that_of_the_double_loop() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = [max(float(unit[i] @ unit[j]) for j in range(300) if j != i) for i in range(300)]
    assert nearest_similarity(vectors) == pytest.approx(np.mean(nearest), abs=1e-6)
    assert nearest_similarity(vectors[:1]) == -1
