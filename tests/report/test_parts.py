"""Numbers behind the pictures, against plain references."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.labels import Label, LabelSpace
from synthgen.prompts.sources import grammar
from synthgen.records import Rejected
from synthgen.report.lineage import lineage, template_of
from synthgen.report.prompt_map import duplicate_pair, principal_axes, prompt_map
from synthgen.report.run_rows import KEPT, read_run
from synthgen.report.scores import BINS, SCORES, histogram
from synthgen.report.thumbnails import FILL_ALPHA, overlay, photograph
from synthgen.settings import Rules

SPACE = LabelSpace(
    "three", (Label(0, "background", (0, 0, 0)), Label(1, "cat", (200, 10, 20)), Label(9, "dog", (5, 90, 250))), 0
)


def opened(address: str) -> Image.Image:
    kind, _, data = address.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{(image.format or '').lower()}"
    return image


def test_axes_are_those_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 9)) * np.arange(1, 10)
    rows -= rows.mean(axis=0)
    axes, shares = principal_axes(rows.astype(np.float32))
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    for n in range(2):
        assert abs(abs(float(axes[:, n] @ right[n])) - 1) < 1e-5
        assert math.isclose(shares[n], values[n] ** 2 / (values**2).sum(), rel_tol=1e-4)
        assert axes[np.abs(axes[:, n]).argmax(), n] > 0


def test_near_duplicates_lie_at_their_distance(tmp_path: Path, rows_run: Callable[..., Path]) -> None:
    found = read_run(rows_run(tmp_path, 30))
    stage = found.stage("prompts")
    assert stage is not None
    made = prompt_map(found.run, found.prompts, stage.rejected)
    assert made is not None and made.num_prompts == 30
    accepted, refused = [p for p in made.points if p.near < 0], [p for p in made.points if p.near >= 0]
    assert (len(accepted), len(refused)) == (30, 3)
    for point in refused:
        near = made.points[point.near]
        assert point.prompt == f"again {near.prompt}"
        assert math.isclose(math.dist((point.x, point.y), (near.x, near.y)), math.sqrt(2 - 2 * 0.97), rel_tol=1e-6)
    assert prompt_map(found.run, [{**row, "embedding_file": ""} for row in found.prompts], ()) is None


@pytest.mark.parametrize(
    "pair", [("a cat", "a dog"), ("it's", 'say "no"'), ("x is too near to y", "z' is too near to 'w"), ("\\ \n", "")]
)
def test_pairs_of_a_refusal_are_read_back(pair: tuple[str, str]) -> None:
    assert duplicate_pair(f"{pair[0]!r} is too near to {pair[1]!r}") == pair


@pytest.mark.parametrize("detail", ["", "a is too near to b", "1 is too near to 2", "'a' is far from 'b'"])
def test_other_details_are_no_pairs(detail: str) -> None:
    assert duplicate_pair(detail) is None


def test_histogram_counts_every_value_once() -> None:
    rng = np.random.default_rng(2)
    score = next(score for score in SCORES if score.key == "class_fraction")
    images: list[dict[str, Any]] = [
        {"class_fraction": float(v), "class_id": 1, "outcome": KEPT if v > 0.2 else "class_absent"}
        for v in rng.random(500)
    ]
    images.append({"outcome": "unreadable_image"})
    images.append({"class_fraction": 1.0, "class_id": 255, "outcome": KEPT})  # about no class, so it has no such score
    made = histogram(score, images, Rules(min_class_fraction=0.2, max_class_fraction=0.9))
    assert made is not None
    assert sum(kept for kept, _ in made.counts) == sum(row["outcome"] == KEPT for row in images[:500])
    assert sum(a + b for a, b in made.counts) == made.num_values == 500
    assert max(a + b for _, a, b in made.bars) == 1 and len(made.bars) == BINS
    for x, value, word in made.thresholds:
        assert math.isclose(made.low + x * (made.high - made.low), value)
        assert word == ("at least" if value == 0.2 else "at most")
    assert histogram(score, [], Rules()) is None


def test_rules_that_are_off_have_no_line() -> None:
    bounds = {score.key: score.thresholds(Rules()) for score in SCORES}
    assert bounds["text_image_score"] == bounds["class_rank"] == bounds["nearest_image_similarity"] == (None, None)
    on = Rules(min_text_image_score=0.2, max_class_rank=0, max_image_similarity=0.9)
    assert [
        next(s for s in SCORES if s.key == key).thresholds(on)
        for key in ("text_image_score", "class_rank", "nearest_image_similarity")
    ] == [
        (0.2, None),
        (None, 0.0),
        (None, 0.9),
    ]


def test_refused_near_duplicates_keep_their_place_in_the_histogram() -> None:
    score = next(score for score in SCORES if score.key == "nearest_image_similarity")
    images = [
        {"nearest_image_similarity": 0.5, "outcome": KEPT},
        {"outcome": "near_duplicate_image", "score": 0.99},
        {"outcome": "class_absent"},
    ]
    made = histogram(score, images, Rules(max_image_similarity=0.95))
    assert made is not None and made.num_values == 2 and made.high == 0.99


def test_images_without_a_score_are_counted_and_not_drawn() -> None:
    score = next(score for score in SCORES if score.key == "sam_predicted_iou")
    images = [{"sam_predicted_iou": v, "outcome": KEPT} for v in (0.8, 0.9, -1.0)] + [{"outcome": "unreadable_image"}]
    made = histogram(score, images, Rules())
    assert made is not None and (made.num_values, made.num_none, made.low) == (2, 1, 0.8)


def test_overlay_has_the_colours_of_the_space() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:14, 4:14] = 1
    mask[4:14, 16:26] = 9
    mask[16:] = 255
    pixels = np.asarray(opened(overlay(mask, SPACE)).convert("RGBA"))
    assert pixels.shape == (20, 30, 4)
    assert tuple(pixels[8, 8]) == (200, 10, 20, FILL_ALPHA) and tuple(pixels[8, 20]) == (5, 90, 250, FILL_ALPHA)
    assert tuple(pixels[4, 8]) == (200, 10, 20, 255), "edges are solid"
    assert (pixels[:3, :, 3] == 0).all(), "background is clear"
    hatched = pixels[17:, :, 3] > 0
    assert hatched.any() and not hatched.all()


def test_overlay_tells_classes_apart_to_which_nobody_gave_a_colour() -> None:
    space = LabelSpace("plain", (Label(0, "ground"), Label(1, "cat"), Label(2, "dog")), 0)
    mask = np.repeat(np.arange(3, dtype=np.uint8), 10)[None].repeat(20, axis=0)
    pixels = np.asarray(opened(overlay(mask, space)).convert("RGBA"))[..., :3]
    assert len({tuple(pixels[5, x]) for x in (15, 25)} | {(0, 0, 0)}) == 3


def test_overlay_of_more_classes_than_a_palette_holds() -> None:
    space = LabelSpace("many", tuple(Label(i, f"c{i}", (i, 255 - i, i // 2)) for i in range(254)))
    mask = np.repeat(np.arange(254, dtype=np.uint8), 2)[None].repeat(2, axis=0)
    pixels = np.asarray(opened(overlay(mask, space, longest_px=600)).convert("RGBA"))[..., :3]
    assert (pixels == space.paint(mask)).all()


def test_pictures_are_small_and_never_enlarged() -> None:
    assert opened(photograph(np.zeros((900, 600, 3), np.uint8), 200)).size == (133, 200)
    assert opened(photograph(np.zeros((20, 30, 3), np.uint8), 200)).size == (30, 20)


def test_template_of_every_sentence_of_a_grammar() -> None:
    options = grammar.Options(vocabulary="objects")
    source = grammar.build(options, None)
    templates = {template.text for template in grammar.read_vocabulary(options).templates}
    from synthgen.labels import read_label_space

    space = read_label_space("objects")
    for label in space.foreground:
        for candidate, _ in zip(source.candidates(space, [label], 3), range(20), strict=False):
            assert grammar.template_of(options, candidate.prompt) in templates, candidate.prompt
    assert grammar.template_of(options, "nobody says this") == ""


def test_lineage_goes_from_template_to_shard(finished: Path) -> None:
    found = read_run(finished)
    row = next(row for row in found.images if row["outcome"] == KEPT)
    steps = lineage(found, row)
    titles = [step.title for step in steps]
    assert titles == [
        "Template",
        "Prompt",
        "Image",
        *(f"Mask: {w}" for w in ("coarse", "APF", "APR", "final")),
        "Confidence",
        "Scores",
        "Shard",
    ]
    assert steps[0].text == template_of(found, row) == "a photo of {a} {size} {class} {place}"
    assert steps[1].text == row["prompt"] and ("seed", str(row["seed"])) in steps[2].facts
    assert steps[-1].text == row["shard"] and dict(steps[-1].facts)["sha256"] == next(
        s["sha256"] for s in found.shards if f"{s['key']}.tar" == row["shard"]
    )
    refused = next(row for row in found.images if row["stage"] == "filter")
    assert lineage(found, refused)[-1].title == "Scores"
    assert ("refused because", refused["detail"]) in lineage(found, refused)[-1].facts


def test_a_refusal_without_an_image_is_no_image(tmp_path: Path, rows_run: Callable[..., Path]) -> None:
    found = read_run(rows_run(tmp_path, 10))
    assert isinstance(found.stages[0].rejected[0], Rejected)
    assert len(found.images) == 10
    assert [row["outcome"] for row in found.images].count("class_absent") == 1
