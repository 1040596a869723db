"""What a ControlNet is fed: the same in training, in the stock pipeline and in the renderer; and how each kind of
condition is drawn, against loops over pixels."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, SD3ControlNetModel, StableDiffusion3ControlNetPipeline, StableDiffusion3Pipeline
from diffusers.image_processor import VaeImageProcessor
from doubles.mini_family import SINGLE_STREAM, write_controlnet, write_family
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from segkit.errors import LabelError, ModelError
from synthgen.labels import Label, LabelSpace, read_label_space
from synthgen.models import RenderJob, TextEmbedding
from synthgen.models.acceleration import encode_without_noise
from synthgen.models.conditions import Conditions
from synthgen.models.control import (
    Control,
    class_shares,
    control_latents,
    control_pixels,
    edge_pictures,
    painted,
    pooled_for,
)
from synthgen.models.model_facts import ModelFacts, write_model_facts
from synthgen.models.renderers import sd3
from synthgen.settings import Execution

CPU = Execution(device="cpu")
CITYSCAPES = read_label_space("cityscapes")
TWINS = LabelSpace(
    "twins", (Label(4, "left", (9, 9, 200)), Label(7, "right", (9, 9, 200)), Label(1, "rest", (90, 0, 0)))
)
"""Two classes of one colour: a palette cannot tell them apart."""
SIDE = 32


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its VAE has a shift and a scale, as SD3's has."""
    folder = write_family(tmp_path_factory.mktemp("family"))
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shift_factor": 0.3, "scaling_factor": 1.7}))
    return folder


def street(*ids: int, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Blocks of the ids in a fixed disorder."""
    cells = np.random.default_rng(len(ids)).choice(ids, (8, 8)).astype(np.uint8)
    return np.asarray(Image.fromarray(cells).resize((size[1], size[0]), Image.Resampling.NEAREST))


def jobs_of(family: Path, layouts: list[np.ndarray], **changes: Any) -> list[RenderJob]:
    config = json.loads((family / "transformer" / "config.json").read_text())
    rng = np.random.default_rng(0)

    def text() -> TextEmbedding:
        tokens, pooled = (
            rng.normal(size=(8, config["joint_attention_dim"])),
            rng.normal(size=config["pooled_projection_dim"]),
        )
        return TextEmbedding(tokens.astype(np.float32), pooled.astype(np.float32))

    nothing = text()
    return [
        dataclasses.replace(RenderJob(f"k{n}", "", "", n, SIDE, SIDE, text(), nothing, None, layout), **changes)
        for n, layout in enumerate(layouts)
    ]


def renderer(family: Path, net: Path | str, **options: Any) -> sd3.Sd3Renderer:
    plain = {"model": str(family), "controlnet": str(net), "steps": 2, "guidance": 3.0}
    return sd3.build(sd3.Options(**{**plain, **options}), CPU)


def pictures(model: sd3.Sd3Renderer, jobs: list[RenderJob]) -> np.ndarray:
    return np.stack([result.image for result in model.render(jobs) if result.image is not None])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The inputs of each call of SD3ControlNetModel.forward."""
    noted: list[dict[str, Any]] = []
    forward = SD3ControlNetModel.forward

    def spy(self: Any, **inputs: Any) -> Any:
        noted.append(inputs)
        return forward(self, **inputs)

    monkeypatch.setattr(SD3ControlNetModel, "forward", spy)
    yield noted


# one truth for training, the stock pipeline and the renderer


@pytest.mark.parametrize("zeros", [False, True])
def test_the_stock_pipeline_and_the_renderer_feed_what_training_feeds(
    family: Path, tmp_path: Path, calls: list[dict[str, Any]], zeros: bool
) -> None:
    place = write_controlnet(tmp_path / "net", family, force_zeros_for_pooled_projection=zeros)
    layout = street(0, 8, 10, 13, 255)
    [job] = jobs_of(family, [layout])
    assert job.embedding is not None and job.negative_embedding is not None
    pooled = torch.from_numpy(np.stack([job.negative_embedding.pooled, job.embedding.pooled]))

    vae = AutoencoderKL.from_pretrained(family, subfolder="vae", dtype=torch.float32)
    net = SD3ControlNetModel.from_pretrained(place, dtype=torch.float32)
    with torch.inference_mode():
        expected = control_latents(control_pixels(painted(CITYSCAPES, layout[None])), net.config, vae)
        raw = vae.encode(control_pixels(painted(CITYSCAPES, layout[None]))).latent_dist.mean
        np.testing.assert_allclose(expected, (raw if zeros else raw - 0.3) * 1.7, rtol=1e-6)

        parts = {f"{part}{n}": None for part in ("text_encoder", "tokenizer") for n in ("", "_2", "_3")}
        plain = StableDiffusion3Pipeline.from_pretrained(family, **parts, dtype=torch.float32)
        stock = StableDiffusion3ControlNetPipeline(controlnet=net, **plain.components)
        encode_without_noise(stock.vae)
        embedded = {"prompt_embeds": job.embedding.tokens, "pooled_prompt_embeds": job.embedding.pooled}
        negative = {
            "negative_prompt_embeds": job.negative_embedding.tokens,
            "negative_pooled_prompt_embeds": job.negative_embedding.pooled,
        }
        stock(
            **{name: torch.from_numpy(value)[None] for name, value in (embedded | negative).items()},
            control_image=Image.fromarray(painted(CITYSCAPES, layout[None])[0]),
            height=SIDE, width=SIDE, num_inference_steps=2, guidance_scale=3.0, output_type="latent",
        )  # fmt: skip
    in_pipeline = list(calls)
    calls.clear()
    renderer(family, place, control_palette="cityscapes", group=1).render([job])
    assert len(in_pipeline) == len(calls) == 2
    for inputs in (*in_pipeline, *calls):
        # kernels round differently for one picture and for the two guidance branches of it
        np.testing.assert_allclose(inputs["controlnet_cond"], expected.repeat(2, 1, 1, 1), atol=1e-4)
        np.testing.assert_array_equal(inputs["pooled_projections"], pooled_for(net.config, pooled))
        assert inputs["pooled_projections"].any() != zeros
    np.testing.assert_array_equal(in_pipeline[1]["hidden_states"].shape, calls[1]["hidden_states"].shape)


@given(image=arrays(np.uint8, (2, 5, 7, 3)))
def test_pixels_are_those_of_the_pipelines_image_processor(image: np.ndarray) -> None:
    stock = VaeImageProcessor(vae_scale_factor=1)
    expected = torch.cat([stock.preprocess(Image.fromarray(one)) for one in image])
    assert torch.equal(control_pixels(image), expected)
    stability = VaeImageProcessor(vae_scale_factor=1, do_normalize=False)  # SD3CannyImageProcessor of its model card
    canny = torch.cat([stability.preprocess(Image.fromarray(one)) * 255 * 0.5 + 0.5 for one in image])
    np.testing.assert_allclose(control_pixels(image, "half_levels"), canny, atol=2e-5)


# kinds


@given(
    maps=arrays(
        np.uint8, st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)
    )
)
@settings(max_examples=60)
def test_edges_are_the_pixels_whose_label_differs_from_a_neighbours(maps: np.ndarray) -> None:
    edges = edge_pictures(maps)
    assert edges.shape == (*maps.shape, 3) and edges.dtype == np.uint8
    for n, y, x in np.ndindex(*maps.shape):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(a, b) for a, b in around if 0 <= a < maps.shape[1] and 0 <= b < maps.shape[2]]
        is_edge = any(maps[n, a, b] != maps[n, y, x] for a, b in inside)
        assert edges[n, y, x].tolist() == [255 * is_edge] * 3


@given(maps=arrays(np.uint8, (2, 6, 8), elements=st.sampled_from([4, 7, 1, 254, 255])))
@settings(max_examples=60)
def test_shares_are_those_of_each_cells_pixels(maps: np.ndarray) -> None:
    shares = class_shares(TWINS, maps, (3, 2)).numpy()
    assert shares.shape == (2, 4, 3, 2)
    for n, c, y, x in np.ndindex(*shares.shape):
        cell = maps[n, 2 * y : 2 * y + 2, 4 * x : 4 * x + 4]
        count = (cell == TWINS.ids[c]).sum() if c < 3 else (cell >= 254).sum()
        assert shares[n, c, y, x] == pytest.approx(count / 8)


@given(maps=arrays(np.uint8, (1, 4, 5), elements=st.sampled_from([*CITYSCAPES.ids, 254, 255])))
def test_a_palette_is_painted_in_the_colours_of_the_label_space(maps: np.ndarray) -> None:
    image = painted(CITYSCAPES, maps)
    for n, y, x in np.ndindex(*maps.shape):
        class_id = int(maps[n, y, x])
        colour = {254: (255, 0, 255), 255: (0, 0, 0)}.get(class_id) or CITYSCAPES.by_id(class_id).colour
        assert tuple(image[n, y, x]) == colour


def test_a_picture_is_resized_as_the_pipeline_would_and_a_map_to_the_nearest_pixel(family: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    [job] = jobs_of(family, [street(0, 10, size=(48, 64))], control_image=photo)
    expected = VaeImageProcessor(vae_scale_factor=4).preprocess(Image.fromarray(photo), height=SIDE, width=SIDE)
    for kind in ("depth", "image"):
        assert torch.equal(Conditions(Control(kind), "it").pixels([job]), expected)  # type: ignore[arg-type]
    plain = dataclasses.replace(job, control_image=None)
    assert plain.layout is not None
    rows, columns = (np.arange(SIDE) * 1.5 + 0.75).astype(int), (np.arange(SIDE) * 2 + 1).astype(int)
    small = plain.layout[rows][:, columns]
    for control, image in (
        (Control("palette", CITYSCAPES), painted(CITYSCAPES, small[None])),
        (Control("edges"), edge_pictures(small[None])),
    ):
        assert torch.equal(Conditions(control, "it").pixels([plain]), control_pixels(image))
    edges = Conditions(Control("edges", scale="half_levels"), "it").pixels([plain])
    assert set(edges.unique().tolist()) == {0.5, 128.0}


def test_what_a_job_lacks_or_brings_for_nothing_is_one_line(family: Path) -> None:
    photo = np.zeros((8, 8, 3), np.uint8)
    [both] = jobs_of(family, [street(0, 1)], control_image=photo)
    [layout] = jobs_of(family, [street(0, 1)])
    bare = dataclasses.replace(layout, layout=None, prompt="a car")
    for control, job, says in (
        (Control("edges"), bare, "needs a label map for every image; prompt 'a car' has none"),
        (Control("depth"), layout, r"is fed depth: a picture for every image; .*control_images"),
        (Control("edges"), both, r"is fed edges and would ignore the pictures of prompts\.source\.control_images"),
    ):
        with pytest.raises(ModelError, match=says) as caught:
            Conditions(control, "sd3:it").pixels([job])
        assert "\n" not in str(caught.value)


# in the renderer


@pytest.fixture(scope="module")
def onehot(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `synthgen adapt` writes it, its ControlNet with a channel a class of TWINS and one more."""
    folder = tmp_path_factory.mktemp("onehot")
    write_controlnet(folder / "controlnet", family, extra_conditioning_channels=4)
    write_model_facts(ModelFacts(0, Control("onehot", TWINS), str(family)), folder)
    return folder


def test_channels_of_classes_stand_behind_the_latents_and_matter(
    family: Path, onehot: Path, calls: list[dict[str, Any]]
) -> None:
    layouts = [street(4, 1), street(7, 1), street(4, 7, 1, 255)]
    assert (painted(TWINS, layouts[0]) == painted(TWINS, layouts[1])).all(), "only the channels tell them apart"
    jobs = [dataclasses.replace(job, seed=1, embedding=None) for job in jobs_of(family, layouts)]
    jobs = [dataclasses.replace(job, embedding=jobs_of(family, layouts)[0].embedding) for job in jobs]
    model = renderer(family, onehot, group=3)
    images = pictures(model, jobs)
    assert (images[0] != images[1]).mean() > 0.1
    vae, config = model._pipeline.vae, model._pipeline.controlnet.config
    with torch.inference_mode():
        latents = control_latents(control_pixels(painted(TWINS, np.stack(layouts))), config, vae)
        expected = torch.cat([latents, class_shares(TWINS, np.stack(layouts), (8, 8))], dim=1)
    assert len(calls) == 2
    for inputs in calls:
        # once without text, once with it
        np.testing.assert_allclose(inputs["controlnet_cond"], torch.cat([expected] * 2), atol=1e-4)

    calls.clear()
    renderer(family, onehot, guidance=1.0, group=3).render(jobs)
    assert [len(inputs["controlnet_cond"]) for inputs in calls] == [3, 3]


@pytest.mark.parametrize("cache", [0.0, 1e-9])
def test_channels_of_classes_go_with_their_own_image(family: Path, onehot: Path, cache: float) -> None:
    """Whatever is rendered before and beside it, also where the step cache calls the ControlNet row by row."""
    model = renderer(family, onehot, step_cache={"threshold": cache})
    jobs = jobs_of(family, [street(4, 1), street(7, 1), street(7, 4), street(4, 7, 1), street(1, 7)])
    together = pictures(model, jobs)
    alone = np.concatenate([pictures(model, [job]) for job in reversed(jobs)])[::-1]
    np.testing.assert_array_equal(alone, together)


def test_a_net_without_text_or_positions_is_fed_by_the_renderer(
    family: Path, tmp_path: Path, calls: list[dict[str, Any]]
) -> None:
    place = write_controlnet(tmp_path / "net", family, **SINGLE_STREAM)
    model = renderer(family, place, control="edges")
    jobs = jobs_of(family, [street(0, 8), street(0, 8, 10, 13, 2)])
    images = pictures(model, jobs)
    assert all(inputs["encoder_hidden_states"] is None for inputs in calls)
    positions, own = model._pipeline.transformer.pos_embed, model._pipeline.controlnet.pos_embed
    assert all(
        torch.equal(a, b) for a, b in zip(positions.state_dict().values(), own.state_dict().values(), strict=True)
    )
    renamed = [
        dataclasses.replace(job, layout=np.where(job.layout == 0, 5, job.layout).astype(np.uint8)) for job in jobs
    ]
    np.testing.assert_array_equal(pictures(model, renamed), images)  # edges know no names
    other = [dataclasses.replace(job, layout=street(*range(9))) for job in jobs]
    assert (pictures(model, other) != images).mean() > 0.1


def test_maps_of_another_label_space_are_translated_by_ids(family: Path, tmp_path: Path) -> None:
    place = write_controlnet(tmp_path / "net", family)
    camvid = read_label_space("camvid")
    layout = street(*camvid.ids, 255)
    names = {
        "pavement": "sidewalk",
        "tree": "vegetation",
        "sign": "traffic sign",
        "pedestrian": "person",
        "bicyclist": "rider",
    }
    translated = layout.copy()
    for label in camvid.labels:
        translated[layout == label.id] = CITYSCAPES.by_name(names.get(label.name, label.name)).id
    own = renderer(family, place, control_palette="cityscapes")
    expected = pictures(own, jobs_of(family, [translated]))
    model = renderer(family, place, control_palette="cityscapes")
    model.expect_labels(camvid)
    np.testing.assert_array_equal(pictures(model, jobs_of(family, [layout])), expected)

    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"{label.name}: sky\n" for label in camvid.labels))
    mine = renderer(family, place, control_palette="cityscapes", control_translation=str(file))
    mine.expect_labels(camvid)
    sky = np.where(layout == 255, 255, CITYSCAPES.by_name("sky").id).astype(np.uint8)
    np.testing.assert_array_equal(pictures(mine, jobs_of(family, [layout])), pictures(own, jobs_of(family, [sky])))
    with pytest.raises(LabelError, match="control_translation"):
        model.expect_labels(read_label_space("objects"))
    renderer(family, place, control="edges").expect_labels(read_label_space("objects"))  # edges have no classes


def test_a_folder_of_adapt_is_used_as_its_synthgen_json_says(family: Path, tmp_path: Path) -> None:
    """Whole, by its controlnet/, and as a bare ControlNet with the recipe's words for it: the same images."""
    whole = tmp_path / "model"
    write_controlnet(whole / "controlnet", family)
    write_model_facts(ModelFacts(0, Control("palette", TWINS)), whole)
    bare = shutil.copytree(whole / "controlnet", tmp_path / "bare")
    space = tmp_path / "twins.yaml"
    space.write_text(json.dumps(TWINS.to_json()))
    jobs = jobs_of(family, [street(4, 7, 1)])
    expected = pictures(renderer(family, bare, control_palette=str(space)), jobs)
    for net in (whole, whole / "controlnet"):
        np.testing.assert_array_equal(pictures(renderer(family, net), jobs), expected)
    assert (pictures(renderer(family, whole, control_palette="voc"), jobs) != expected).any(), (
        "the recipe's word counts"
    )
