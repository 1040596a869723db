"""Sentences that a bank keeps away from: prompts.apart_from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.labels import Label
from synthgen.errors import InputError
from synthgen.prompts import stage
from synthgen.prompts.bank import Candidate, ClassBank
from synthgen.prompts.earlier import earlier_text, read_earlier
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord

CAR, BUS = Label(7, "car", (1, 2, 3), ("car", "taxi")), Label(8, "bus", (3, 2, 1), ("bus",))
WORDS = (
    "sand",
    "snow",
    "grass",
    "rock",
    "road",
    "water",
    "mud",
    "ice",
    "wood",
    "straw",
    "clay",
    "moss",
    "tar",
    "stone",
)


def sentences(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"a car on {' and '.join(rng.choice(WORDS, 3, replace=False))}" for _ in range(count)]


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("num_earlier", [1, 5, 40])  # 40: more than a block
def test_a_bank_with_earlier_sentences_is_one_that_was_offered_them_first(
    word_bag: Any, num_earlier: int, indexed: bool
) -> None:
    earlier, new = sentences(0, num_earlier), [s for s in sentences(1, 60) if s not in sentences(0, num_earlier)]
    encoder = word_bag.WordBag(word_bag.Options())
    limits: dict[str, Any] = {"lambda_div": 0.93, "quota": 1000, "budget": 1000, "class_gate": True, "indexed": indexed}

    def of(prompts: list[str], **more: Any) -> list[Any]:
        bank = ClassBank(CAR, lambda: encoder, **limits, **more)
        return list(bank.fill(iter([Candidate(prompt, "car", 7, ()) for prompt in prompts])))

    expected = [e for e in of([*dict.fromkeys(earlier), *new]) if e.candidate.prompt in new]
    found = of(new, earlier=list(dict.fromkeys(earlier)))
    assert [(e.candidate.prompt, e.refusal, e.similarity) for e in found] == [
        (e.candidate.prompt, e.refusal, e.similarity) for e in expected
    ]
    assert [e.nearest and e.nearest.prompt for e in found] == [e.nearest and e.nearest.prompt for e in expected]
    assert any(e.refusal for e in found) and any(not e.refusal for e in found)


def test_what_would_pass_at_another_threshold_is_what_passes_there_beside_the_earlier_ones(word_bag: Any) -> None:
    """`synthgen prompts` advises by it: what is too near to a run before passes at no threshold that is named."""
    earlier, new = sentences(0, 40), [s for s in sentences(1, 60) if s not in sentences(0, 40)]
    encoder = word_bag.WordBag(word_bag.Options())

    def filled(lambda_div: float) -> tuple[ClassBank, int]:
        limits: dict[str, Any] = {"quota": 1000, "budget": 1000, "class_gate": True}
        bank = ClassBank(CAR, lambda: encoder, lambda_div=lambda_div, earlier=list(dict.fromkeys(earlier)), **limits)
        entries = list(bank.fill(iter([Candidate(prompt, "car", 7, ()) for prompt in new])))
        return bank, sum(not entry.refusal for entry in entries)

    grid = (0.6, 0.8, 0.93, 0.99)
    compared, passing = filled(0.8)[0].would_pass(grid)
    assert compared == len(dict.fromkeys(new)) and passing == {value: filled(value)[1] for value in grid}
    assert passing[0.6] < passing[0.99]


def test_what_a_bank_of_its_own_says_of_itself_leaves_the_earlier_ones_out(word_bag: Any) -> None:
    encoder = word_bag.WordBag(word_bag.Options())
    bank = ClassBank(
        CAR, lambda: encoder, lambda_div=0.8, quota=3, budget=50, class_gate=True, earlier=["a car on ice and mud"]
    )
    new = [Candidate(f"a car {place}", "car", 7, (f"place={place}",)) for place in ("by night", "in a box", "at sea")]
    assert [e.refusal for e in bank.fill(iter(new))] == ["", "", ""]
    assert bank.compared()["this bank"].prompts == 3 and bank.compared()["this bank"].values == 3


def test_a_file_is_read_as_it_was_written_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "earlier.tsv"
    path.write_text(earlier_text([("car", "a car\nby  night"), ("bus", "a bus"), ("car", "a taxi"), ("car", "a taxi")]))
    wanted = {"car": ("a car by night", "a taxi"), "bus": ("a bus",)}
    assert read_earlier(str(path), [CAR, BUS]) == wanted
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Windows' editor saves it
    assert read_earlier(str(path), [CAR, BUS]) == wanted
    for text, told in (
        ("car a car\n", "line 1: 'car a car' is not CLASS<TAB>SENTENCE"),
        ("car\ta car\nbus\t \n", "line 2"),
        ("tram\ta tram\n", "'tram' is no class of labels.classes"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            read_earlier(str(path), [CAR, BUS])
    path.write_bytes(b"car\t\xff\n")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_earlier(str(path), [CAR])
    with pytest.raises(InputError, match="nowhere"):
        read_earlier(str(tmp_path / "nowhere"), [CAR])


def test_quotas_hold_for_their_class_alone_and_earlier_sentences_do_not_come_again(
    recipe_with: Callable[..., Recipe], tmp_path: Path
) -> None:
    classes = {"classes": ("cat", "bus", "sofa")}

    def run(name: str, **prompts: Any) -> list[PromptRecord]:
        (tmp_path / name).mkdir()
        rows = stage.build(recipe_with(classes, **prompts), tmp_path).process([], tmp_path / name, "00000")
        return [row for row in rows if isinstance(row, PromptRecord)]

    first = run("first", per_class=5, quotas={"bus": 2, "sofa": 0})
    assert [row.subject.class_name for row in first] == ["cat"] * 5 + ["bus"] * 2
    alike = run("alike", per_class=5)
    assert [row.key for row in alike if row.subject.class_name == "cat"] == [row.key for row in first[:5]]
    path = tmp_path / "earlier.tsv"
    path.write_text(earlier_text((row.subject.class_name, row.subject.prompt) for row in first))
    second = run("second", per_class=5, apart_from=str(path))
    assert not {row.subject.prompt for row in second} & {row.subject.prompt for row in first}
    assert [row.key for row in second if row.subject.class_name == "sofa"] == [
        row.key for row in alike if row.subject.class_name == "sofa"
    ], "a class without earlier sentences is as it was"


def test_the_earlier_sentences_count_for_the_fingerprint_by_what_they_are(
    recipe_with: Callable[..., Recipe], tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.tsv", "b.tsv", "c.tsv")]
    for path, sentence in zip(paths, ("a cat", "a cat", "two cats"), strict=True):
        path.write_text(f"cat\t{sentence}\n")
    a, b, c = (stage.settings(recipe_with({"classes": ("cat",)}, apart_from=str(path))) for path in paths)
    assert a == b != c
    plain = stage.settings(recipe_with({"classes": ("cat",)}))["prompts"]
    assert "apart_from" not in plain and "quotas" not in plain, "a run that was begun without them goes on"
