from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.rows import changed
from doubles.rows import row as row_of
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.filter import rules as package
from synthgen.filter import stage
from synthgen.filter.decisions import first_refusal, rules
from synthgen.filter.duplicates import nearest_kept
from synthgen.filter.stage import FilterStage, split_of
from synthgen.recipe import Recipe
from synthgen.records import Rejected, Sample, ScoredRecord, columns_of
from synthgen.settings import Rules

GOOD: ScoredRecord = row_of(
    ScoredRecord,
    key="s0",
    parent="p0",
    class_name="cat",
    class_id=8,
    prompt="a cat",
    attributes=(),
    seed=1,
    image="render/0/s0.png",
    height_px=64,
    width_px=64,
    renderer="r",
    model_revision="",
    steps=20,
    guidance=3.0,
    layout="",
    mask="m.png",
    confidence="f.png",
    region_similarity=0.8,
    filled_fraction=1.0,
    labelled_fraction=0.9,
    class_fraction=0.3,
    sam_predicted_iou=0.9,
    text_image_score=0.4,
    class_rank=0,
    pixel_std=40.0,
    image_embedding=(1.0, 0.0),
)
STRICT = Rules(
    min_text_image_score=0.2,
    max_class_rank=2,
    min_class_fraction=0.05,
    max_class_fraction=0.8,
    min_labelled_fraction=0.5,
    min_region_similarity=0.6,
    max_image_similarity=0.95,
    min_pixel_std=5,
)


def decide(rows: list[ScoredRecord], rules: Rules, validation_fraction: float = 0.0) -> dict[str, Sample | Rejected]:
    made = list(FilterStage(rules, validation_fraction).process(rows, Path("unused"), "00000"))
    assert len(made) == len({row.key for row in made})
    return {row.key: row for row in made}


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"pixel_std": 1.0}, "blank_image", "1 < 5"),
        ({"class_fraction": 0.01}, "class_absent", "0.01 < 0.05"),
        ({"class_fraction": 0.95}, "class_overrun", "0.95 > 0.8"),
        ({"labelled_fraction": 0.4}, "low_labelled_fraction", "0.4 < 0.5"),
        ({"region_similarity": 0.12}, "low_region_similarity", "0.12 < 0.6"),
        ({"text_image_score": 0.12}, "low_text_image_score", "0.12 < 0.2"),
        ({"class_rank": 3}, "low_class_rank", "3 > 2"),
    ],
)
def test_each_rule_refuses_what_it_is_for_and_says_why(change: dict[str, float], reason: str, detail: str) -> None:
    assert isinstance(decide([GOOD], STRICT)["s0"], Sample)
    refused = decide([changed(GOOD, **change)], STRICT)["s0"]
    assert isinstance(refused, Rejected)
    assert (refused.stage, refused.reason, refused.detail, refused.parent) == ("filter", reason, detail, "s0")
    assert refused.score == next(iter(change.values()))


@pytest.mark.parametrize(
    ("change", "threshold"),
    [
        ({"pixel_std": 5.0}, {}),
        ({"class_fraction": 0.05}, {}),
        ({"class_fraction": 0.8}, {}),
        ({"labelled_fraction": 0.5}, {}),
        ({"region_similarity": 0.6}, {}),
        ({"text_image_score": 0.2}, {}),
        ({"class_rank": 2}, {}),
        ({"region_similarity": -1.0}, {"min_region_similarity": -1}),
        ({"text_image_score": -1.0}, {"min_text_image_score": -1}),
        ({"class_rank": 99}, {"max_class_rank": -1}),
        ({"prompt": "", "text_image_score": 0.0}, {}),
        ({"class_id": 255, "class_name": "", "class_rank": -1, "class_fraction": 0.0}, {}),
        ({"class_id": 255, "class_name": "", "class_rank": -1, "class_fraction": 1.0}, {}),
        ({"class_rank": -1}, {}),
    ],
)
def test_a_score_at_its_threshold_an_off_rule_and_a_rule_without_subject_accept(change: dict, threshold: dict) -> None:
    assert first_refusal(changed(GOOD, **change), STRICT.model_copy(update=threshold)) is None


class Reader:
    """A row that notes which of its columns are read."""

    def __init__(self, part: Any, read: set[str]) -> None:
        self._part, self._read = part, read

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if dataclasses.is_dataclass(value):
            return Reader(value, self._read)
        self._read.add(name)
        return value


def test_a_rule_reads_what_it_says_that_it_needs() -> None:
    assert {rule.name for rule in rules()} == {path.stem for path in Path(package.__path__[0]).glob("[a-z]*.py")}
    for rule in rules():
        read: set[str] = set()
        if rule.decide:
            rule.decide(Reader(GOOD, read), getattr(STRICT, rule.setting))  # type: ignore[arg-type]
            assert read == set(rule.needs), rule.name
        assert set(rule.needs) <= columns_of(ScoredRecord).keys() and rule.setting in Rules.model_fields
        assert (rule.decide is None) != (rule.compare is None)


def test_a_file_is_all_that_a_rule_takes(tmp_path: Path) -> None:
    """In a process of its own: the recipe's settings are made from the files when it is first imported."""
    source = Path(package.__path__[0]) / "blank_image.py"
    more = source.read_text().replace("ORDER = 10", "ORDER = 5").replace("min_pixel_std", "max_pixel_std")
    (tmp_path / "busy_image.py").write_text(more.replace("at_least", "at_most"))
    code = f"""
import synthgen.filter.rules as package
package.__path__.append({str(tmp_path)!r})
from synthgen.filter.decisions import first_refusal, rules
from synthgen.settings import Rules
import pickle, sys
row = pickle.loads(bytes.fromhex({pickle.dumps(GOOD).hex()!r}))
print([rule.name for rule in rules()][:2], first_refusal(row, Rules(max_pixel_std=30)).rule, Rules().max_pixel_std)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['busy_image', 'blank_image'] busy_image 2.0\n"


def test_the_first_failing_rule_names_the_reason() -> None:
    bad = changed(GOOD, pixel_std=0.0, class_fraction=0.0, labelled_fraction=0.0, class_rank=9)
    names = [rule.name for rule in rules()]
    assert (
        names.index("blank_image")
        < names.index("class_absent")
        < names.index("low_labelled_fraction")
        < names.index("low_class_rank")
    )
    assert decide([bad], STRICT)["s0"].reason == "blank_image"
    assert decide([changed(bad, pixel_std=9.0)], STRICT)["s0"].reason == "class_absent"


def rows_of(seed: int, count: int) -> list[ScoredRecord]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        changed(
            GOOD,
            key=f"s{number:03d}",
            class_id=int(rng.choice([3, 8, 255])),
            prompt=str(rng.choice(["", "a cat"])),
            region_similarity=float(rng.uniform(-1, 1)),
            labelled_fraction=float(rng.random()),
            class_fraction=float(rng.random()),
            text_image_score=float(rng.uniform(-1, 1)),
            class_rank=int(rng.integers(-1, 5)),
            pixel_std=float(rng.uniform(0, 20)),
            image_embedding=tuple(vectors[number].tolist()),
        )
        for number in rng.permutation(count)
    ]


thresholds = st.fixed_dictionaries(
    {
        "min_text_image_score": st.floats(-1, 1),
        "max_class_rank": st.integers(-1, 5),
        "min_class_fraction": st.floats(0, 1),
        "max_class_fraction": st.floats(0, 1),
        "min_labelled_fraction": st.floats(0, 1),
        "min_region_similarity": st.floats(-1, 1),
        "max_image_similarity": st.floats(-1, 1),
        "min_pixel_std": st.floats(0, 30),
    }
)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1000), count=st.integers(0, 40), values=thresholds, fraction=st.floats(0, 1))
def test_every_row_is_accounted_for_once_and_kept_with_its_scores(
    seed: int, count: int, values: dict, fraction: float
) -> None:
    rows = rows_of(seed, count)
    made = decide(rows, Rules(**values), fraction)
    assert made.keys() == {row.key for row in rows}
    for row in rows:
        result = made[row.key]
        if isinstance(result, Rejected):
            assert result.parent == row.key
            continue
        for field in dataclasses.fields(Sample):
            if hasattr(row, field.name):
                assert getattr(result, field.name) == getattr(row, field.name)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000), before=thresholds, after=thresholds, which=st.sampled_from(sorted(Rules.model_fields))
)
def test_one_threshold_changes_only_decisions_of_its_own_rule(seed: int, before: dict, after: dict, which: str) -> None:
    rows = rows_of(seed, 25)
    old = Rules(**{**before, "max_image_similarity": 1})  # off: otherwise one decision bears on the next
    new = old.model_copy(update={which: after[which]})
    rule_of = {
        "min_text_image_score": "low_text_image_score",
        "max_class_rank": "low_class_rank",
        "min_class_fraction": "class_absent",
        "max_class_fraction": "class_overrun",
        "min_labelled_fraction": "low_labelled_fraction",
        "min_region_similarity": "low_region_similarity",
        "max_image_similarity": "near_duplicate_image",
        "min_pixel_std": "blank_image",
    }
    first, second = decide(rows, old), decide(rows, new)
    for row in rows:
        reasons = {getattr(result, "reason", "") for result in (first[row.key], second[row.key])}
        assert len(reasons) == 1 or rule_of[which] in reasons
        if {type(first[row.key]), type(second[row.key])} == {Sample}:
            changed = {
                f.name
                for f in dataclasses.fields(Sample)
                if getattr(first[row.key], f.name) != getattr(second[row.key], f.name)
            }
            assert changed <= {"nearest_image_similarity"}


def test_a_stricter_threshold_never_keeps_what_a_looser_one_refused() -> None:
    rows = rows_of(3, 60)
    kept = []
    for least in (0.0, 0.3, 0.6, 0.9):
        made = decide(rows, Rules(min_class_fraction=0, min_labelled_fraction=least, min_pixel_std=0))
        kept.append({key for key, row in made.items() if isinstance(row, Sample)})
    assert all(strict < loose for loose, strict in itertools.pairwise(kept))


def brute_force(vectors: np.ndarray, limit: float) -> tuple[list[bool], list[float]]:
    kept: list[np.ndarray] = []
    decisions, similarities = [], []
    for vector in vectors:
        best = max((float(vector @ other) for other in kept), default=-1.0)
        decisions.append(best <= limit)
        similarities.append(best)
        if decisions[-1]:
            kept.append(vector)
    return decisions, similarities


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 700])
def test_near_duplicates_agree_with_comparing_all_pairs(count: int) -> None:
    rng = np.random.default_rng(count)
    vectors = rng.normal(size=(count, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    decisions, similarities = brute_force(vectors, 0.8)
    asked: list[int] = []

    def keep(index: int, similarity: float) -> bool:
        asked.append(index)
        return similarity <= 0.8

    found = nearest_kept(vectors.tolist(), keep)
    assert asked == list(range(count))
    assert [value <= 0.8 for value in found] == decisions
    np.testing.assert_allclose(found, similarities, atol=1e-6)


def test_duplicates_are_judged_by_key_order_and_only_against_kept_images() -> None:
    def image(key: str, angle: float, **change: float) -> ScoredRecord:
        return changed(GOOD, key=key, image_embedding=(float(np.cos(angle)), float(np.sin(angle))), **change)

    near = 0.2  # cos(0.2) = 0.980, cos(0.4) = 0.921
    chain = [image("s1", 0), image("s2", near), image("s3", 2 * near)]
    rules = STRICT.model_copy(update={"max_image_similarity": 0.95})
    for order in itertools.permutations(chain):
        made = decide(list(order), rules)
        assert [type(made[key]) for key in ("s1", "s2", "s3")] == [Sample, Rejected, Sample]
        assert made["s2"].reason == "near_duplicate_image"
        assert made["s2"].detail == "0.9801 > 0.95"
        assert made["s1"].nearest_image_similarity == -1
        assert made["s3"].nearest_image_similarity == pytest.approx(np.cos(2 * near), abs=1e-6)
    first_is_bad = [image("s1", 0, pixel_std=0.0), *chain[1:]]
    assert [type(row) for _, row in sorted(decide(first_is_bad, rules).items())] == [Rejected, Sample, Rejected]


def test_identical_images_are_kept_when_the_duplicate_rule_is_off() -> None:
    rows = [changed(GOOD, key=f"s{n}", image_embedding=(0.6, 0.8)) for n in range(4)]
    made = decide(rows, STRICT.model_copy(update={"max_image_similarity": 1}))
    assert all(isinstance(row, Sample) for row in made.values())
    assert made["s3"].nearest_image_similarity == 1


def test_samples_of_one_prompt_or_one_file_are_in_one_split() -> None:
    by_prompt = [changed(GOOD, key=f"s{n}", parent=f"p{n // 4}", origin="") for n in range(160)]
    by_map = [changed(GOOD, key=f"t{n}", parent=f"q{n}", origin=f"map-{n // 5}.png") for n in range(200)]
    made = decide([*by_prompt, *by_map], STRICT.model_copy(update={"max_image_similarity": 1}), 0.5)
    splits: dict[str, set[str]] = {}
    for row in (*by_prompt, *by_map):
        splits.setdefault(row.picture.origin or row.parent, set()).add(made[row.key].split)
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation"}


def test_the_split_follows_from_the_group_alone_and_has_about_the_share_that_was_asked_for() -> None:
    keys = [f"s{n:015x}" for n in range(4000)]
    tenth = {key for key in keys if split_of(key, 0.1) == "validation"}
    quarter = {key for key in keys if split_of(key, 0.25) == "validation"}
    assert tenth < quarter  # a larger share only adds
    assert len(tenth) == pytest.approx(400, abs=80)
    assert len(quarter) == pytest.approx(1000, abs=120)
    assert {split_of(key, 0.0) for key in keys} == {"train"}
    assert {split_of(key, 1.0) for key in keys} == {"validation"}


def test_settings_are_the_thresholds_and_the_split_and_nothing_that_only_changes_speed() -> None:
    def settings_of(**sections: dict) -> dict:
        return stage.settings(Recipe.model_validate({"name": "n", "labels": {"space": "unused"}, **sections}))

    plain = settings_of()
    assert json.loads(json.dumps(plain)) == plain
    assert settings_of(execution={"batch_size": 3, "device": "cpu"}) == plain
    assert settings_of(pack={"samples_per_shard": 7}) == plain
    assert settings_of(filter={"rules": {"min_pixel_std": 9}}) != plain
    assert settings_of(pack={"validation_fraction": 0.5}) != plain
