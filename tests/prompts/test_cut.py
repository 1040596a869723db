"""Prompts beyond the context of the text encoder: told, and refused where the renderer would not see the class."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest
from doubles.word_bag import Options, WordBag

from segkit.labels import Label
from synthgen.models import TextEmbedding, Unread
from synthgen.prompts.bank import Candidate, ClassBank, Entry
from synthgen.prompts.cut import Context
from synthgen.records import PromptRecord, Subject

CAR = Label(1, "car")
LONG = "a wide empty road with a car"


class FourWords(WordBag):
    """Its pooled embedding sees four words, its tokens six."""

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        return super().encode([" ".join(prompt.split()[:4]) for prompt in prompts])

    def unread(self, prompt: str) -> Unread:
        words = prompt.split()
        return Unread(" ".join(words[4:]), " ".join(words[6:]))


def filled(is_renderers: bool, *prompts: str) -> list[Entry]:
    encoder = FourWords(Options())
    context = Context(lambda: encoder, is_renderers)
    bank = ClassBank(
        CAR, lambda: encoder, lambda_div=0.999, quota=9, budget=9, class_gate=True, rendered=context.rendered
    )
    candidates: Iterator[Candidate] = (Candidate(prompt, "car", 1, ()) for prompt in prompts)
    return list(bank.fill(candidates))


def record(prompt: str, cut: str) -> PromptRecord:
    return PromptRecord("k", "", Subject("car", 1, prompt, ()), "file", 0, -1.0, "", "e", "", "", "", "", cut=cut)


def test_a_class_that_the_renderer_would_not_see_is_refused() -> None:
    (entry,) = filled(True, LONG)
    assert (entry.refusal, entry.detail) == ("class_cut", LONG)
    (entry,) = filled(True, "a road with one parked car in rain")
    assert entry.refusal == "", "the tokens reach further than the comparison"
    (entry,) = filled(False, LONG)
    assert entry.refusal == "", "the renderer encodes the prompt itself"


def test_prompts_that_differ_beyond_the_comparison_are_one() -> None:
    first, second = filled(True, "a car in the snow", "a car in the rain")
    assert (first.refusal, second.refusal) == ("", "near_duplicate")
    assert second.similarity == 1.0 and second.nearest == first.candidate


def test_how_many_are_cut_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    context = Context(lambda: FourWords(Options()), True)
    assert context.uncompared(LONG) == "with a car"
    assert context.rendered(LONG).rstrip() == "a wide empty road with a"
    with caplog.at_level(logging.WARNING):
        context.tell([record("a car", "")])
        assert not caplog.messages
        context.tell([record("a car", ""), record(LONG, "with a car"), record("a car in a wide street", "wide street")])
    (line,) = caplog.messages
    assert "cuts 2 of 3 prompts before their end" in line and "of 1, not rendered either" in line
    assert "'with a car'" in line


def test_an_encoder_that_does_not_tell_is_taken_to_read_all() -> None:
    context = Context(lambda: WordBag(Options()), True)
    assert context.uncompared(LONG) == "" and context.rendered(LONG) == LONG
