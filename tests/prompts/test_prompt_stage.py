"""The prompt stage: a bank for each class, its embeddings, its coverage, its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.prompt_bank import TWO, MakeRecipe, run
from safetensors.numpy import load_file

from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.prompts import stage
from synthgen.prompts.coverage import coverage_of, coverage_text
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord, Rejected
from synthgen.rows import write_rows


def test_a_bank_for_each_class(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    made, refused = run(recipe_with(TWO, lambda_div=0.85, per_class=12), tmp_path / "unit")
    assert [row.subject.class_name for row in made] == ["cat"] * 12 + ["bus"] * 12
    assert {row.subject.class_id for row in made} == {8, 6}
    assert len({row.key for row in made} | {row.key for row in refused}) == len(made) + len(refused)
    assert refused
    assert {(row.stage, row.reason, row.parent) for row in refused} == {("prompts", "near_duplicate", "")}
    assert all(
        row.score >= 0.85 and any(row.detail.endswith(f"near to {m.subject.prompt!r}") for m in made) for row in refused
    )
    for name in ("cat", "bus"):
        rows = [row for row in made if row.subject.class_name == name]
        assert (rows[0].order, rows[0].similarity, rows[0].nearest) == (0, -1.0, "")
        assert [row.order for row in rows] == sorted(row.order for row in rows)
        assert all(
            row.similarity < 0.85 and row.nearest in {r.key for r in rows[:i]} for i, row in enumerate(rows) if i
        )
    assert {(row.source, row.embedder, row.parent, row.embedding_file) for row in made} == {
        ("grammar", "word_bag", "", "prompts/00000/embeddings-00000.safetensors")
    }


def test_recorded_similarities_are_those_of_the_embeddings(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    made, _ = run(recipe_with(TWO, lambda_div=0.85, per_class=12), tmp_path / "unit")
    stored = load_file(tmp_path / "unit" / "embeddings-00000.safetensors")
    unit = {row.key: stored[f"{row.key}.pooled"] / np.linalg.norm(stored[f"{row.key}.pooled"]) for row in made}
    for row in made:
        if row.nearest:
            assert unit[row.key] @ unit[row.nearest] == pytest.approx(row.similarity, abs=2e-6)


def test_embeddings_of_accepted_prompts_and_of_the_negative(
    recipe_with: MakeRecipe, tmp_path: Path, word_bag: Any
) -> None:
    made, _ = run(recipe_with(TWO, render={"negative": "blurry text"}, per_class=3), tmp_path / "unit")
    stored = load_file(tmp_path / "unit" / "embeddings-00000.safetensors")
    prompts = {row.key: row.subject.prompt for row in made} | {"negative": "blurry text"}
    assert set(stored) == {f"{key}.{part}" for key in prompts for part in ("tokens", "pooled")}
    for key, expected in zip(prompts, word_bag.WordBag(word_bag.Options()).encode(list(prompts.values())), strict=True):
        np.testing.assert_array_equal(stored[f"{key}.tokens"], expected.tokens)
        np.testing.assert_array_equal(stored[f"{key}.pooled"], expected.pooled)
        assert stored[f"{key}.tokens"].dtype == np.float32


def test_an_encoder_without_tokens_stores_nothing(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    embedder = {"name": "prompt_doubles.word_bag", "tokens": False}
    made, _ = run(recipe_with(TWO, embedder=embedder, per_class=3), tmp_path / "unit")
    assert {row.embedding_file for row in made} == {""}
    assert {row.embedder for row in made} == {"word_bag"}
    assert [path.name for path in (tmp_path / "unit").iterdir()] == ["coverage.json"]


def test_the_same_recipe_gives_the_same_bytes(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_with(TWO, lambda_div=0.8, per_class=8)
    for name in ("one", "two"):
        made, refused = run(recipe, tmp_path / name)
        write_rows(made, PromptRecord, tmp_path / name / "manifest.parquet")
        write_rows(refused, Rejected, tmp_path / name / "rejected.parquet")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["coverage.json", "embeddings-00000.safetensors", "manifest.parquet", "rejected.parquet"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other, _ = run(recipe_with(TWO, seed=1, lambda_div=0.8, per_class=8), tmp_path / "three")
    assert [row.subject.prompt for row in other] != [row.subject.prompt for row in made]


def test_a_class_does_not_depend_on_the_others(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    alone, _ = run(recipe_with({"classes": ("bus",)}, per_class=10), tmp_path / "alone")
    both, _ = run(recipe_with(TWO, per_class=10), tmp_path / "both")
    assert [row for row in both if row.subject.class_name == "bus"] == alone


def test_every_class_but_the_background_by_default(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    made, _ = run(recipe_with(per_class=2), tmp_path / "unit")
    assert [row.subject.class_id for row in made] == [i for i in range(1, 21) for _ in range(2)]


def test_coverage_says_why_each_class_ended(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(
        "\n".join(
            ["a cat", "a cat on grass in the rain", "some kittens asleep", "a bus", "a bus by the sea"]
            + [f"a bus by the sea {i}" for i in range(9)]
        )
    )
    source = {"name": "file", "path": str(path)}
    made, refused = run(
        recipe_with(
            {"classes": ("cat", "bus", "sofa")}, source=source, per_class=3, budget_per_class=5, lambda_div=0.75
        ),
        tmp_path / "unit",
    )
    coverage = coverage_of((tmp_path / "unit" / "coverage.json").read_text())
    assert (coverage.source, coverage.embedder, coverage.lambda_div) == ("file", "word_bag", 0.75)
    assert [(c.class_name, c.stopped, c.tried) for c in coverage.classes] == [
        ("cat", "quota", 3),
        ("bus", "budget", 5),
        ("sofa", "exhausted", 0),
    ]
    assert sum(c.accepted for c in coverage.classes) == len(made)
    assert sum(sum(c.refused.values()) for c in coverage.classes) == len(refused)


def test_coverage_of_the_grammar_lists_what_is_missing(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    made, _ = run(recipe_with({"classes": ("cat",)}, per_class=4, lambda_div=0.99), tmp_path / "unit")
    (cat,) = coverage_of((tmp_path / "unit" / "coverage.json").read_text()).classes
    places = {"grass", "road", "sand", "sea", "room", "snow"}
    used = {a.removeprefix("place=") for row in made for a in row.subject.attributes if a.startswith("place=")}
    assert set(cat.used["place"]) == used
    assert set(cat.missing["place"]) == places - used


def test_photographs_need_no_encoder_and_are_short_of_nothing(
    recipe_with: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in "cab":
        write_image(np.zeros((8, 8, 3), np.uint8), photographs / f"{name}.png")
    (photographs / "d.png").write_bytes(b"damaged")
    recipe = recipe_with(
        source={"name": "images", "folder": str(photographs)}, embedder={"name": "no.such.encoder"}, per_class=1
    )
    made, refused = run(recipe, tmp_path / "unit")
    assert not [record for record in caplog.records if "fewer than" in record.getMessage()]
    assert [row.photograph for row in made] == [f"{name}.png" for name in "abc"]
    assert {
        (
            row.subject.prompt,
            row.subject.class_name,
            row.subject.class_id,
            row.similarity,
            row.embedder,
            row.embedding_file,
        )
        for row in made
    } == {("", "", 255, -1.0, "", "")}
    assert [row.reason for row in refused] == ["unreadable_image"]
    assert not (tmp_path / "unit" / "embeddings-00000.safetensors").exists()


def test_scenes_about_no_class_when_the_gate_is_off(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "scenes.txt"
    path.write_text("an empty street\na quiet square\n")
    made, _ = run(recipe_with(source={"name": "file", "path": str(path)}, class_gate=False), tmp_path / "unit")
    assert [(row.subject.prompt, row.subject.class_name, row.subject.class_id) for row in made] == [
        ("an empty street", "", 255),
        ("a quiet square", "", 255),
    ]
    assert all(row.embedding_file for row in made)


def test_a_source_with_nothing_to_say_is_an_error(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n")
    recipe = recipe_with({"classes": ("bus",)}, source={"name": "file", "path": str(path)})
    with pytest.raises(InputError, match="'file' proposes nothing for bus"):
        run(recipe, tmp_path / "unit")


@pytest.mark.parametrize(
    ("classes", "message"),
    [(("carpet",), "carpet"), (("cat", "kitten"), "named twice"), (("background",), "is the background")],
)
def test_wanted_classes_are_checked(
    recipe_with: MakeRecipe, tmp_path: Path, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        stage.build(recipe_with({"classes": classes}), tmp_path)


def test_settings_notice_what_changes_the_bank_and_nothing_else(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n")
    source = {"name": "file", "path": str(path)}
    base = stage.settings(recipe_with(source=source))
    assert json.loads(json.dumps(base)) == json.loads(json.dumps(stage.settings(recipe_with(source=source))))
    changed = [
        recipe_with(TWO, source=source),
        recipe_with(source=source, seed=1),
        recipe_with(source=source, lambda_div=0.5),
        recipe_with(source=source, render={"negative": "blurry"}),
        recipe_with(source={"name": "grammar"}),
    ]
    assert all(stage.settings(recipe) != base for recipe in changed)
    path.write_text("a dog\n")
    assert stage.settings(recipe_with(source=source)) != base
    path.write_text("a cat\n")
    faster = recipe_with(source=source).model_dump()
    faster["execution"]["batch_size"] = 1
    assert stage.settings(Recipe.model_validate(faster)) == base


def test_says_once_in_one_line_that_the_renderer_encodes_again(
    recipe_with: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe_with(TWO, render={"renderer": {"name": "sd3"}}, per_class=3), tmp_path / "apart")
    assert [record.getMessage() for record in caplog.records] == [
        "prompts: word_bag only compares prompts; the renderer 'sd3' encodes each prompt itself"
    ]
    caplog.clear()
    monkeypatch.setattr(stage, "shares_text", lambda recipe: True)
    run(recipe_with(TWO, per_class=3), tmp_path / "together")
    assert caplog.records == []


def test_what_is_off_class_is_rejected_with_its_cosine(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a photo of a cat\nin an old empty house there is a very small carved wooden cat\n")
    recipe = recipe_with({"classes": ("cat",)}, source={"name": "file", "path": str(path)}, min_class_similarity=0.6)
    made, refused = run(recipe, tmp_path / "unit")
    assert [row.subject.prompt for row in made] == ["a photo of a cat"]
    ((reason, score, detail),) = [(row.reason, row.score, row.detail) for row in refused]
    assert (reason, detail) == ("off_class", "in an old empty house there is a very small carved wooden cat")
    assert 0 < score < 0.6
    (cat,) = coverage_of((tmp_path / "unit" / "coverage.json").read_text()).classes
    assert cat.refused == {"off_class": 1}


def test_an_indexed_bank_of_ordinary_size_is_the_exact_one(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    exact = run(recipe_with(TWO, per_class=12, lambda_div=0.85), tmp_path / "exact")
    assert run(recipe_with(TWO, per_class=12, lambda_div=0.85, dedup="indexed"), tmp_path / "indexed") == exact


def test_coverage_tells_what_class_names_and_an_uncompared_list_would_have_given(
    recipe_with: MakeRecipe, tmp_path: Path
) -> None:
    accepted, rejected = run(recipe_with(TWO, per_class=12, lambda_div=0.8), tmp_path / "unit")
    text = (tmp_path / "unit" / "coverage.json").read_text()
    for found in coverage_of(text).classes:
        names, uncompared, bank = (
            found.compared[way] for way in ("class name alone", "candidates uncompared", "this bank")
        )
        assert names == {"prompts": found.accepted, "distinct": 1, "nearest": 1.0, "values": 0}
        assert bank["prompts"] == bank["distinct"] == uncompared["prompts"] == found.accepted
        assert uncompared["distinct"] < bank["distinct"] and uncompared["nearest"] > bank["nearest"]
        mine = [row for row in accepted if row.subject.class_name == found.class_name]
        assert bank["values"] == len({attribute for row in mine for attribute in row.subject.attributes})
    assert any(row.reason == "near_duplicate" for row in rejected)
    lines = [line.split() for line in coverage_text(coverage_of(text)).splitlines()]
    assert ["at", "equal", "budget", "prompts", "distinct", "nearest", "attribute", "values"] in lines
    assert ["class", "name", "alone", "24", "2", "1.000", "0"] in lines
    assert [line[:4] for line in lines if line[:2] == ["this", "bank"]] == [["this", "bank", "24", "24"]]


def test_the_settings_know_the_weights_and_every_option_of_the_encoder(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    """Other weights in the same folder give another bank, and so does a default that the recipe does not write down."""
    model = tmp_path / "clip"
    model.mkdir()
    (model / "open_clip_config.json").write_text("{}")
    recipe = recipe_with(embedder={"name": "clip", "model": str(model)})
    before = stage.settings(recipe)
    assert before["prompts"]["embedder"]["revisions"][str(model)].startswith("local-")
    (model / "open_clip_config.json").write_text('{"trained": "longer"}')
    assert stage.settings(recipe) != before
    sd3 = stage.settings(recipe_with(embedder={"name": "sd3", "model": "mini/objects"}))["prompts"]["embedder"]
    assert {"pooled", "t5", "max_sequence_length", "revision"} <= sd3.keys()
