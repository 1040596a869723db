"""The render stage: keys, seeds, what a renderer is asked for, and what becomes of what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from doubles.mini_family import write_family
from doubles.recorder import SIZE, recipe_of, row_of
from PIL import Image

from segkit.errors import UserError
from synthgen.errors import ModelError
from synthgen.images import read_image, write_image
from synthgen.labels import read_label_space
from synthgen.models.provenance import pinned
from synthgen.records import Rejected, RenderRecord, seed_of
from synthgen.render import stage

COMMIT = "c" * 40


def test_each_image_has_a_row_and_a_lossless_file(render: Callable[..., Any], tmp_path: Path) -> None:
    prompts = [row_of(number) for number in range(3)]
    rows, recorder = render(prompts, recipe_of(render__images_per_prompt=2))
    assert all(type(row) is RenderRecord for row in rows)
    assert [row.parent for row in rows] == [prompt.key for prompt in prompts for _ in range(2)]
    assert len({row.key for row in rows}) == 6
    for row, job in zip(rows, recorder.jobs, strict=True):
        assert (row.key, row.picture.seed) == (job.key, seed_of(job.key))
        assert (row.subject.prompt, row.subject.class_name, row.subject.class_id, row.subject.attributes) == (
            job.prompt,
            "car",
            3,
            ("time=night",),
        )
        assert (row.picture.height_px, row.picture.width_px) == SIZE
        assert (row.picture.renderer, row.picture.model_revision, row.picture.steps, row.picture.guidance) == (
            "recorder",
            "r7",
            3,
            1.5,
        )
        assert row.picture.image == f"render/u-7/{row.key}.png"
        np.testing.assert_array_equal(
            read_image(tmp_path / "work" / f"{row.key}.png"), np.full((*SIZE, 3), row.picture.seed % 251, np.uint8)
        )
        assert job.negative == "blur"


def test_a_key_follows_from_prompt_layout_run_seed_and_number_alone(render: Callable[..., Any]) -> None:
    prompts = [row_of(number) for number in range(5)]
    keys = [row.key for row in render(prompts)[0]]
    for batch_size in (1, 3, 100):
        rows, recorder = render(prompts[::-1], recipe_of(execution__batch_size=batch_size))
        assert [row.key for row in rows] == keys[::-1]
        assert max(map(len, recorder.batches)) == min(batch_size, 5)
    more = [row.key for row in render(prompts, recipe_of(render__images_per_prompt=2))[0]]
    assert more[::2] == keys
    assert not set(keys) & {row.key for row in render(prompts, recipe_of(seed=4))[0]}


def test_what_gave_no_image_is_refused_with_its_reason(render: Callable[..., Any], tmp_path: Path) -> None:
    bad = row_of(1, prompt="this fails")
    rows, recorder = render([row_of(0), bad, row_of(2), row_of(3)])
    assert [type(row) for row in rows] == [RenderRecord, Rejected, RenderRecord, RenderRecord]
    assert rows[1] == Rejected(recorder.jobs[1].key, bad.key, "render", "too_dark", "no light in 'this fails'", 0.0)
    made = [row for row in rows if isinstance(row, RenderRecord)]
    assert {path.name for path in (tmp_path / "work").iterdir()} == {f"{row.key}.png" for row in made}


def test_photographs_that_cannot_be_read_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    whole = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    write_image(whole, place / "whole.png")
    (place / "cut.png").write_bytes((place / "whole.png").read_bytes()[:500])
    (place / "page.png").write_text("<html>")
    Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3)).save(place / "deep.png")
    recipe = recipe_of(render__renderer={"name": "images", "longest_side_px": 30})
    names = ("whole.png", "cut.png", "page.png", "deep.png")
    rows = [row_of(number, photograph=str(place / name)) for number, name in enumerate(names)]
    (tmp_path / "work").mkdir()
    kept, *refused = stage.build(recipe, tmp_path).process(rows, tmp_path / "work", "u")
    assert isinstance(kept, RenderRecord)
    made = kept.picture
    assert (made.height_px, made.width_px) == (20, 30)
    assert (made.origin_height_px, made.origin_width_px) == (40, 60)
    assert (made.renderer, made.model_revision, made.steps, made.guidance) == ("images", "", 0, 0.0)
    assert [(row.reason, row.parent) for row in refused] == [("unreadable_image", row.key) for row in rows[1:]]
    details = [row.detail for row in refused]
    assert all(name in detail for name, detail in zip(names[1:], details, strict=True))
    assert "8 bits" in details[2] and len({detail.split(":", 1)[1] for detail in details}) == 3


def test_the_layout_reaches_the_renderer_as_ids(render: Callable[..., Any], tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_image(ids, tmp_path / "layout.png")
    (row,), recorder = render([row_of(0, layout="layout.png", origin="plan.png")])
    np.testing.assert_array_equal(recorder.jobs[0].layout, ids)
    assert (row.picture.layout, row.picture.origin) == ("layout.png", "plan.png")
    assert (row.picture.origin_height_px, row.picture.origin_width_px) == (0, 0)


def test_the_picture_of_a_layout_and_the_label_space_reach_the_renderer(
    render: Callable[..., Any], tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_image(np.zeros((4, 4), np.uint8), tmp_path / "layout.png")
    write_image(picture, tmp_path / "depth.png")
    rows = [row_of(0, layout="layout.png", control_image="depth.png"), row_of(1, layout="layout.png")]
    _, recorder = render(rows)
    np.testing.assert_array_equal(recorder.jobs[0].control_image, picture)
    assert recorder.jobs[1].control_image is None
    assert recorder.space == read_label_space("objects")


def test_settings_know_the_files_that_a_controlnet_is_driven_by(tmp_path: Path) -> None:
    translation = tmp_path / "mine.yaml"

    def settings(text: str) -> dict[str, Any]:
        translation.write_text(text)
        net = {"controlnet": "somebody/net", "control_translation": str(translation)}
        with pinned({"some/model": COMMIT, "somebody/net": COMMIT}):
            return stage.settings(recipe_of(render__renderer={"name": "sd3", "model": "some/model", **net}))

    assert settings("car: car\n") == settings("car: car\n") != settings("car: 255\n")
    translation.unlink()
    with pytest.raises(UserError, match=r"mine\.yaml: no such file"), pinned({"some/model": COMMIT}):
        stage.settings(
            recipe_of(render__renderer={"name": "sd3", "model": "some/model", "control_translation": str(translation)})
        )


# settings


@pytest.fixture
def pins() -> Iterator[None]:
    """Hub ids of these tests stand for commits, so that nobody is asked."""
    with pinned({"some/model": COMMIT}):
        yield


@pytest.mark.usefixtures("pins")
def test_settings_hold_what_changes_a_pixel_and_nothing_else(tmp_path: Path) -> None:
    settings = stage.settings(recipe_of())
    assert settings["render"]["renderer"]["control_scale"] == 1.0  # a default that the recipe does not write down
    assert settings["files"]["sampling"] == "28 steps, guidance 4.5, skip layers none"  # what it leaves to the makers
    assert settings["revisions"] == {"some/model": COMMIT}
    same = recipe_of(execution={"device": "auto", "batch_size": 9, "unit_rows": 5, "workers": 2})
    assert stage.settings(same) == settings
    for change in (
        {"seed": 4},
        {"render__height_px": 48},
        {"render__renderer": {"name": "sd3", "model": "some/model", "steps": 9}},
    ):
        assert stage.settings(recipe_of(**change)) != settings


def test_settings_know_the_weights_of_denoiser_and_controlnet(tmp_path: Path) -> None:
    for name in ("model", "net"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    recipe = recipe_of(
        render__renderer={"name": "sd3", "model": str(tmp_path / "model"), "controlnet": str(tmp_path / "net")}
    )
    before = stage.settings(recipe)["revisions"]
    model, net = str(tmp_path / "model"), str(tmp_path / "net")
    assert set(before) == {model, net} and all(value.startswith("local-") for value in before.values())
    (tmp_path / "net" / "config.json").write_text('{"trained": "longer"}')
    after = stage.settings(recipe)["revisions"]
    assert after[model] == before[model] and after[net] != before[net]


def test_a_hub_id_that_nobody_can_resolve_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    recipe = recipe_of(render__renderer={"name": "sd3", "model": "never/seen-before"})
    with pytest.raises(ModelError, match="'never/seen-before' is not in the local cache and the Hub cannot be reached"):
        stage.settings(recipe)


# with the real backend


def test_bytes_do_not_follow_the_batch_size(tmp_path: Path) -> None:
    family = str(write_family(tmp_path / "family"))
    made = []
    for batch_size in (1, 5):
        recipe = recipe_of(
            prompts={"embedder": {"name": "sd3", "model": family}},
            render__renderer={"name": "sd3", "model": family, "steps": 2},
            execution__batch_size=batch_size,
        )
        folder = tmp_path / f"of-{batch_size}"
        folder.mkdir()
        rows = list(stage.build(recipe, tmp_path).process([row_of(number) for number in range(5)], folder, "u"))
        made.append({row.key: (folder / f"{row.key}.png").read_bytes() for row in rows})
        assert (
            rows[0].picture.renderer == f"sd3:{family}"
            and rows[0].picture.model_revision.startswith("local-")
            and rows[0].picture.steps == 2
        )
    assert made[0] == made[1]
    assert len(set(made[0].values())) == 5


def test_a_step_cache_is_told_for_each_sample(tmp_path: Path) -> None:
    family = str(write_family(tmp_path / "family"))
    rows = {}
    for threshold in (0.0, 1e9):
        cache = {"threshold": threshold, "first_steps": 1, "last_steps": 1}
        renderer = {"name": "sd3", "model": family, "steps": 4, "step_cache": cache}
        recipe = recipe_of(prompts={"embedder": {"name": "sd3", "model": family}}, render__renderer=renderer)
        (tmp_path / str(threshold)).mkdir()
        rows[threshold] = list(
            stage.build(recipe, tmp_path).process([row_of(0), row_of(1)], tmp_path / str(threshold), "u")
        )
    assert [row.denoiser_runs for row in rows[0.0]] == [8, 8]
    assert [row.denoiser_runs for row in rows[1e9]] == [4, 4]
    assert rows[1e9][0].picture.renderer == f"sd3:{family}+step_cache(1e+09,1,1)"
