from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from doubles.rows import row as row_of

from segkit.labels import Label
from synthgen.errors import ModelError
from synthgen.filter import score
from synthgen.filter.score import ScoreStage, class_rank, class_text, pixel_std
from synthgen.images import write_image
from synthgen.models.provenance import pinned
from synthgen.recipe import Recipe
from synthgen.records import MaskRecord, Rejected, ScoredRecord

WANTED = (Label(1, "red", (255, 0, 0)), Label(2, "green", (0, 255, 0), ("lime",)), Label(3, "blue", (0, 0, 255)))


class ColourScorer:
    """Embeds an image as its mean colour and a text as the colours that it names."""

    id = "colour"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        means = np.array([image.reshape(-1, 3).mean(axis=0) for image in images]).reshape(-1, 3)
        with np.errstate(invalid="ignore"):  # a black image has no direction: NaN
            return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        named = np.array(
            [[word in text for word in ("red", "lime", "blue")] for text in texts], dtype=np.float32
        ).reshape(-1, 3)
        return named / np.linalg.norm(named, axis=1, keepdims=True)


def record(key: str, class_id: int, prompt: str) -> MaskRecord:
    return row_of(
        MaskRecord,
        key=key,
        parent="p",
        class_name="",
        class_id=class_id,
        prompt=prompt,
        attributes=(),
        seed=1,
        image=f"render/00000/{key}.png",
        height_px=8,
        width_px=8,
        renderer="r",
        model_revision="",
        steps=1,
        guidance=1.0,
        layout="",
        coarse="c",
        filtered="f",
        relabelled="r",
        mask="m",
        confidence="n",
        num_regions=1,
        num_kept_regions=1,
        region_similarity=0.5,
        filled_fraction=1.0,
        labelled_fraction=0.75,
        class_fraction=0.5,
        num_sam_boxes=0,
        sam_predicted_iou=-1.0,
    )


def paint(run: Path, key: str, colour: tuple[int, int, int]) -> None:
    folder = run / "render" / "00000"
    folder.mkdir(parents=True, exist_ok=True)
    write_image(np.full((8, 8, 3), colour, dtype=np.uint8), folder / f"{key}.png")


def test_scores_compare_the_image_with_its_prompt_and_with_the_wanted_classes(tmp_path: Path) -> None:
    paint(tmp_path, "s1", (200, 100, 0))  # most like red, then green, then blue
    rows = [record("s1", 2, "a lime wall")]
    scorer = ColourScorer()
    (made,) = ScoreStage(tmp_path, scorer, WANTED, 4).process(rows, tmp_path, "00000")
    assert isinstance(made, ScoredRecord)
    assert scorer.texts[:3] == ["a photo of a red", "a photo of a lime", "a photo of a blue"]
    assert made.scores.text_image_score == pytest.approx(100 / np.hypot(200, 100))
    assert made.scores.class_rank == 1
    assert made.scores.pixel_std == 0
    np.testing.assert_allclose(made.image_embedding, np.array([200, 100, 0]) / np.hypot(200, 100), atol=1e-6)
    assert (made.key, made.parent, made.labelling.mask, made.labelling.labelled_fraction) == ("s1", "p", "m", 0.75)


def test_no_class_and_no_prompt_give_the_values_that_stand_for_none(tmp_path: Path) -> None:
    paint(tmp_path, "s1", (200, 100, 0))
    paint(tmp_path, "s2", (200, 100, 0))
    first, second = ScoreStage(tmp_path, ColourScorer(), WANTED, 4).process(
        [record("s1", 255, ""), record("s2", 77, "red")], tmp_path, "0"
    )
    assert (first.scores.class_rank, first.scores.text_image_score) == (-1, 0)
    assert second.scores.class_rank == -1  # a class that is not among the wanted ones has no rank


def test_every_row_is_made_or_rejected_whatever_the_batch_size(tmp_path: Path) -> None:
    rows = [record(f"s{n}", 1 + n % 3, ["a red thing", "a blue thing", ""][n % 3]) for n in range(9)]
    for n, row in enumerate(rows):
        paint(tmp_path, row.key, (10 * n + 1, 40, 90))
    paint(tmp_path, "s2", (0, 0, 0))  # its embedding is NaN
    (tmp_path / rows[4].picture.image).write_bytes(b"not a png")
    (tmp_path / rows[7].picture.image).unlink()
    results = []
    for batch_size in (1, 2, 4, 100):
        made = sorted(
            ScoreStage(tmp_path, ColourScorer(), WANTED, batch_size).process(rows, tmp_path, "00000"),
            key=lambda row: row.key,
        )
        assert [row.key for row in made] == [row.key for row in rows]
        results.append(made)
    assert all(result == results[0] for result in results)
    rejected = {row.key: row for row in results[0] if isinstance(row, Rejected)}
    assert set(rejected) == {"s2", "s4", "s7"}
    for row in rejected.values():
        assert (row.reason, row.stage, row.parent) == ("blank_or_unreadable", "score", row.key)
        assert f"render/00000/{row.key}.png" in row.detail
        assert str(tmp_path) not in row.detail  # the same on every machine
    assert "not finite" in rejected["s2"].detail


def test_a_whole_batch_of_unreadable_images_is_rejected(tmp_path: Path) -> None:
    made = list(
        ScoreStage(tmp_path, ColourScorer(), WANTED, 8).process(
            [record("s1", 1, "red"), record("s2", 1, "red")], tmp_path, "0"
        )
    )
    assert [row.reason for row in made] == ["blank_or_unreadable"] * 2


def test_class_rank_counts_the_classes_that_are_more_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 5))
    image = rng.normal(size=5)
    by_similarity = sorted(range(7), key=lambda c: -float(vectors[c] @ image))
    assert [class_rank(image, vectors, c) for c in by_similarity] == list(range(7))


def test_pixel_std_is_that_of_the_grey_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    assert pixel_std(np.repeat(grey[..., None], 3, axis=2)) == pytest.approx(grey.std())
    assert pixel_std(np.full((4, 4, 3), (30, 200, 90), dtype=np.uint8)) == pytest.approx(0, abs=1e-9)


def test_a_class_is_asked_for_by_the_word_that_people_say() -> None:
    assert class_text(WANTED[1]) == "a photo of a lime"
    assert score.SINGLE_UNIT is False


def test_settings_name_the_scorer_and_the_words_that_are_scored(tmp_path: Path) -> None:
    def settings_of(classes: list[str], synonyms: str = "", **sections: dict) -> dict:
        space = tmp_path / "labels.yaml"
        space.write_text(
            "name: colours\nbackground: 0\nlabels:\n- {id: 0, name: background, colour: [0, 0, 0]}\n"
            f"- {{id: 1, name: red, colour: [255, 0, 0], synonyms: [{synonyms}]}}\n- {{id: 2, name: blue, "
            f"colour: [0, 0, 255]}}\n"
        )
        return score.settings(
            Recipe.model_validate({"name": "n", "labels": {"space": str(space), "classes": classes}, **sections})
        )

    every = settings_of([])
    assert json.loads(json.dumps(every)) == every
    assert every["classes"] == [[1, "a photo of a red"], [2, "a photo of a blue"]]
    assert settings_of(["blue"])["classes"] == [[2, "a photo of a blue"]]
    assert settings_of([], synonyms="crimson")["classes"][0] == [1, "a photo of a crimson"]
    # no threshold asks for new scores
    assert settings_of([], filter={"rules": {"min_pixel_std": 9}}, execution={"batch_size": 2}) == every
    with pinned({"other/clip": "c" * 40}):
        other = settings_of([], filter={"scorer": {"name": "open_clip", "model": "other/clip"}})
    assert other["revisions"] == {"other/clip": "c" * 40}
    assert other["scorer"] == {"name": "open_clip", "model": "other/clip"} != every["scorer"]


def test_a_prompt_that_the_scorer_cuts_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Short(ColourScorer):
        def cuts(self, text: str) -> bool:
            return len(text) > 20

    (tmp_path / "render" / "00000").mkdir(parents=True)
    for key in ("a", "b", "c"):
        write_image(np.full((8, 8, 3), (250, 3, 3), np.uint8), tmp_path / f"render/00000/{key}.png")
    rows = [
        record("a", 1, "red"),
        record("b", 1, "red on a very long street"),
        record("c", 1, "red, red, red, red, red"),
    ]
    list(ScoreStage(tmp_path, Short(), WANTED, 1).process(rows, tmp_path, "u"))
    (line,) = caplog.messages
    assert line.startswith(
        "filter: colour reads only the beginning of 'red on a very long street', so text_image_score"
    )
    caplog.clear()
    list(ScoreStage(tmp_path, ColourScorer(), WANTED, 1).process(rows, tmp_path, "u"))
    assert not caplog.messages


def test_a_rank_counts_the_classes_that_are_more_like_the_image() -> None:
    vectors = np.eye(3, dtype=np.float32)
    image = np.array([0.6, 0.8, 0.0], np.float32)
    assert [class_rank(image, vectors, index) for index in range(3)] == [1, 0, 2]


@pytest.mark.parametrize("broken", ["image", "classes"])
def test_an_embedding_that_is_no_number_is_told_and_not_the_best(broken: str) -> None:
    vectors, image = np.eye(3, dtype=np.float32), np.array([0.6, 0.8, 0.0], np.float32)
    (image if broken == "image" else vectors[1])[:] = np.nan
    with pytest.raises(ModelError, match=r"filter\.scorer: an embedding of it is not finite"):
        class_rank(image, vectors, 0)
