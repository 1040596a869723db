"""Prompts beyond the context of the text encoder: told, and refused where the renderer would not see the class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from doubles.word_bag import Options, WordBag

from segkit.labels import Label
from synthgen.errors import InputError
from synthgen.models import TextEmbedding, Unread
from synthgen.prompts import stage
from synthgen.prompts.bank import Candidate, ClassBank, Entry
from synthgen.prompts.cut import Context
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord, Rejected, Subject

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
    assert "cuts 2 of 3 prompts, the first before 'with a car'" in line
    assert line.endswith("compared with no other, and not rendered of 1; write shorter prompts")


def test_an_encoder_that_does_not_tell_is_taken_to_read_all() -> None:
    context = Context(lambda: WordBag(Options()), True)
    assert context.uncompared(LONG) == "" and context.rendered(LONG) == LONG


def test_the_stage_keeps_what_is_cut_and_refuses_in_one_line(
    recipe_with: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "shares_text", lambda _: True)
    monkeypatch.setattr(stage, "encoder_of", lambda _: lambda: FourWords(Options()))
    (tmp_path / "prompts.txt").write_text("a cat on grass\na cat in the deep snow\na wide empty room with a cat\n")
    source = {"name": "file", "path": str(tmp_path / "prompts.txt")}
    recipe = recipe_with({"classes": ("cat",)}, source=source)
    (tmp_path / "unit").mkdir()
    rows = stage.build(recipe, tmp_path).process([], tmp_path / "unit", "00000")
    assert [row.cut for row in rows if isinstance(row, PromptRecord)] == ["", "deep snow"]
    assert [row.reason for row in rows if isinstance(row, Rejected)] == ["class_cut"]
    (tmp_path / "prompts.txt").write_text("a wide empty room with a cat\n")
    with pytest.raises(InputError, match=r"every candidate was refused \(class_cut 1\); name the class nearer to the"):
        stage.build(recipe, tmp_path).process([], tmp_path / "unit", "00000")
