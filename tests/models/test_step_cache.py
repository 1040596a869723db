"""The step cache against a reference that runs the whole model a row at a time, and its promises about pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.mini_family import write_family
from pydantic import ValidationError

from synthgen.models import Rendered, RenderJob, TextEmbedding
from synthgen.models.renderers import sd3
from synthgen.models.step_cache import StepCache, StepCacheOptions
from synthgen.records import seed_of
from synthgen.settings import Execution

CPU = Execution(device="cpu")
STEPS, ROWS, SIDE = 9, 6, 8


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("family"), control_layers=1)


def renderer(model: Path | str, threshold: float = 0.0, **options: Any) -> sd3.Sd3Renderer:
    cache = {
        "threshold": threshold,
        "first_steps": options.pop("first_steps", 2),
        "last_steps": options.pop("last_steps", 1),
    }
    plain = {"model": str(model), "steps": STEPS, "guidance": 3.0, "control_palette": "cityscapes"}
    return sd3.build(sd3.Options(**{**plain, "step_cache": cache, **options}), CPU)


def jobs_of(model: Path | str, number: int = 5, side_px: int = 32, layouts: bool = False) -> list[RenderJob]:
    """Jobs with random texts, unlike one another: the random weights alone would make all rows move alike."""
    rng = np.random.default_rng(0)
    config = sd3.Sd3Renderer(sd3.Options(model=str(model)), CPU)._pipeline.transformer.config

    def text(scale: float) -> TextEmbedding:
        tokens = rng.normal(size=(24, config.joint_attention_dim)) * scale
        return TextEmbedding(
            tokens.astype(np.float32), (rng.normal(size=config.pooled_projection_dim) * scale).astype(np.float32)
        )

    empty = text(0.1)
    size = {"height_px": side_px, "width_px": side_px}
    plain: dict[str, Any] = {"negative": "", "negative_embedding": empty, "photograph": None, **size}
    return [
        RenderJob(
            key=f"k{n}",
            prompt="",
            seed=seed_of(f"k{n}"),
            embedding=text(0.5 * n + 0.1),
            layout=np.full((side_px, side_px), n, np.uint8) if layouts else None,
            **plain,
        )
        for n in range(number)
    ]


def arrays(made: Sequence[Rendered]) -> np.ndarray:
    assert all(result.image is not None for result in made)
    return np.stack([result.image for result in made if result.image is not None])


def runs_of(made: Sequence[Rendered]) -> list[int]:
    return [result.denoiser_runs for result in made]


# the reference


class Schedule:
    """As much of a scheduler as the cache looks at."""

    timesteps = torch.linspace(900, 100, STEPS)


def models_of(family: Path, controlled: bool) -> tuple[Any, Any]:
    pipeline = renderer(family, controlnet=str(family / "controlnet") if controlled else "")._pipeline
    return pipeline.transformer, pipeline.controlnet if controlled else None


def inputs_of(transformer: Any, controlled: bool) -> list[dict[str, torch.Tensor]]:
    """One call a step: latents that wander by another amount in each row and step."""
    draw = torch.Generator().manual_seed(3)
    config = transformer.config
    latents = torch.randn(ROWS, config.in_channels, SIDE, SIDE, generator=draw)
    text = torch.randn(ROWS, 5, config.joint_attention_dim, generator=draw)
    pooled = torch.randn(ROWS, config.pooled_projection_dim, generator=draw)
    condition = torch.randn(ROWS, config.in_channels, SIDE, SIDE, generator=draw) if controlled else torch.zeros(0)
    calls = []
    for time in Schedule.timesteps:
        latents = latents + torch.randn(latents.shape, generator=draw) * torch.linspace(0.01, 0.4, ROWS).reshape(
            -1, 1, 1, 1
        )
        calls.append(
            {"latents": latents, "text": text, "pooled": pooled, "time": time.expand(ROWS), "condition": condition}
        )
    return calls


def whole_model(
    transformer: Any, controlnet: Any, call: dict[str, torch.Tensor], row: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, residual, modulated input) of one row, from a run of the untouched models."""
    one = {name: value[row : row + 1] for name, value in call.items()}
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        transformer.pos_embed.register_forward_hook(lambda _m, _i, out: seen.__setitem__("tokens", out)),
        transformer.norm_out.register_forward_pre_hook(lambda _m, inputs: seen.__setitem__("last", inputs[0])),
        transformer.transformer_blocks[0].norm1.register_forward_hook(
            lambda _m, _i, out: seen.__setitem__("modulated", out[0])
        ),
    ]
    shared = {
        "hidden_states": one["latents"],
        "pooled_projections": one["pooled"],
        "timestep": one["time"],
        "encoder_hidden_states": one["text"],
    }
    control = (
        controlnet(controlnet_cond=one["condition"], conditioning_scale=0.7, return_dict=False, **shared)[0]
        if controlnet is not None
        else None
    )
    transformer(block_controlnet_hidden_states=control, return_dict=False, **shared)
    for hook in hooks:
        hook.remove()
    return seen["tokens"], seen["last"] - seen["tokens"], seen["modulated"]


def finished(transformer: Any, states: torch.Tensor, call: dict[str, torch.Tensor], row: int) -> torch.Tensor:
    """The velocity from what the blocks would have given: the blocks are replaced by one that gives `states`."""

    class Given(torch.nn.Module):
        context_pre_only = True

        def forward(self, **inputs: Any) -> tuple[None, torch.Tensor]:
            return None, states

    blocks = transformer.transformer_blocks
    transformer.transformer_blocks = torch.nn.ModuleList([Given()])
    try:
        one = {name: value[row : row + 1] for name, value in call.items()}
        return transformer(one["latents"], one["text"], one["pooled"], one["time"], return_dict=False)[0]
    finally:
        transformer.transformer_blocks = blocks


@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("rows_per_call", [1, 4])
@torch.inference_mode()
def test_every_row_is_as_the_formula_says(family: Path, controlled: bool, rows_per_call: int) -> None:
    options = StepCacheOptions(threshold=0.35, first_steps=2, last_steps=1)
    transformer, controlnet = models_of(family, controlled)
    calls = inputs_of(transformer, controlled)
    expected, runs = [], [0] * ROWS
    kept: dict[int, torch.Tensor] = {}
    before: dict[int, torch.Tensor] = {}
    moved = [0.0] * ROWS
    for step, call in enumerate(calls):
        for row in range(ROWS):
            tokens, residual, modulated = whole_model(transformer, controlnet, call, row)
            if row in before:
                moved[row] += float((modulated - before[row]).abs().mean() / before[row].abs().mean())
            before[row] = modulated
            if step < 2 or step >= STEPS - 1 or moved[row] >= 0.35:
                kept[row], moved[row] = residual, 0.0
                runs[row] += 1
            expected.append(finished(transformer, tokens + kept[row], call, row))
    assert len(set(runs)) > 2 and STEPS > max(runs) > 3, "the rows are meant to differ, and to be skipped at times"

    cache = StepCache(options, transformer, controlnet, Schedule)
    found = []
    cache.begin(rows_per_call, ROWS // 2, 2)  # the third image only fills up the batch
    for call in calls:
        shared = {"hidden_states": call["latents"], "pooled_projections": call["pooled"], "timestep": call["time"]}
        shared["encoder_hidden_states"] = call["text"]
        control = (
            controlnet(controlnet_cond=call["condition"], conditioning_scale=0.7, return_dict=False, **shared)[0]
            if controlled
            else None
        )
        found.append(transformer(block_controlnet_hidden_states=control, return_dict=False, **shared)[0])
    wanted = [row for row in range(len(calls) * ROWS) if row % (ROWS // 2) < 2]
    torch.testing.assert_close(torch.cat(found)[wanted], torch.cat(expected)[wanted], rtol=1e-4, atol=1e-4)
    assert cache.runs() == [runs[n] + runs[n + ROWS // 2] for n in range(2)]


# pixels


@pytest.mark.parametrize("controlled", [False, True])
def test_off_nothing_is_replaced_and_on_without_reuse_nothing_changes(family: Path, controlled: bool) -> None:
    net = {"controlnet": str(family / "controlnet"), "control_palette": "cityscapes"} if controlled else {}
    jobs = jobs_of(family, layouts=controlled)
    off, careful = renderer(family, **net), renderer(family, threshold=1e-9, **net)
    exact = off.render(jobs)
    assert "forward" not in vars(off._pipeline.transformer)
    assert off.id == sd3.Sd3Renderer(sd3.Options(model=str(family), **net), CPU).id
    near = careful.render(jobs)
    assert np.abs(arrays(near).astype(int) - arrays(exact)).max() <= 1
    assert runs_of(exact) == runs_of(near) == [2 * STEPS] * 5


@pytest.mark.parametrize(("first", "last"), [(1, 0), (2, 1), (3, 4), (20, 0)])
def test_only_forced_steps_run_if_nothing_counts_as_moved(family: Path, first: int, last: int) -> None:
    model = renderer(family, threshold=1e9, first_steps=first, last_steps=last)
    made = model.render(jobs_of(family))
    assert runs_of(made) == [2 * min(STEPS, first + last)] * 5
    assert len({image.tobytes() for image in arrays(made)}) == 5


def test_without_guidance_there_is_one_branch(family: Path) -> None:
    model = renderer(family, threshold=1e9, guidance=1.0)
    assert runs_of(model.render(jobs_of(family))) == [3] * 5


def test_rows_decide_for_themselves_and_images_do_not_follow_their_neighbours() -> None:
    prompts = ("a red car on sand", "a horse on grass", "a boat on the sea", "a cat in a room", "a bus in snow")
    jobs = [RenderJob(f"k{n}", prompt, "", n, 64, 64, None, None, None, None) for n, prompt in enumerate(prompts)]
    model = renderer("mini/objects", threshold=0.2)
    together = model.render(jobs)
    runs = runs_of(together)
    assert len(set(runs)) > 1 and 6 < max(runs) < 2 * STEPS, "the images are meant to be skipped at different steps"
    assert any(number % 2 for number in runs), "and the two branches of one image, too"
    order = [4, 1, 3, 0, 2]
    mixed, alone = model.render([jobs[at] for at in order]), model.render(jobs[3:4])
    assert runs_of(mixed) == [runs[at] for at in order] and runs_of(alone) == [runs[3]]
    np.testing.assert_array_equal(arrays(mixed), arrays(together)[order])
    np.testing.assert_array_equal(arrays(alone), arrays(together)[3:4])


def test_the_controlnet_is_not_run_for_rows_that_reuse_and_still_steers(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import SD3ControlNetModel

    rows: list[int] = []
    real = SD3ControlNetModel.forward

    def counted(self: Any, *args: Any, **inputs: Any) -> Any:
        rows.append(len(inputs["hidden_states"]))
        return real(self, *args, **inputs)

    monkeypatch.setattr(SD3ControlNetModel, "forward", counted)
    jobs = jobs_of(family, 4, layouts=True)
    model = renderer(family, threshold=1e9, controlnet=str(family / "controlnet"))
    made = model.render(jobs)
    assert sum(rows) == sum(runs_of(made)) == 4 * 2 * 3
    other = arrays(model.render([dataclasses.replace(job, layout=np.full_like(job.layout, 11)) for job in jobs]))
    assert all((one != two).any() for one, two in zip(arrays(made), other, strict=True))


def test_a_controlnet_without_text_or_positions_of_its_own(family: Path, tmp_path: Path) -> None:
    """The kind that Stability publishes for SD3.5-Large: single-stream blocks, positions taken from the transformer."""
    from diffusers import SD3ControlNetModel

    config = renderer(family)._pipeline.transformer.config
    torch.manual_seed(0)
    net = SD3ControlNetModel(
        patch_size=2,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        num_layers=1,
        attention_head_dim=config.attention_head_dim,
        num_attention_heads=config.num_attention_heads,
        joint_attention_dim=None,
        pooled_projection_dim=config.pooled_projection_dim,
        pos_embed_max_size=None,
        pos_embed_type=None,
        use_pos_embed=False,
        force_zeros_for_pooled_projection=False,
    )
    for layer in (*net.controlnet_blocks, net.pos_embed_input.proj):
        torch.nn.init.normal_(layer.weight, std=0.3)  # training starts them at zero
    net.save_pretrained(tmp_path / "net")
    jobs = jobs_of(family, 2, layouts=True)
    plain = arrays(renderer(family).render([dataclasses.replace(job, layout=None) for job in jobs]))
    whole = arrays(renderer(family, controlnet=str(tmp_path / "net")).render(jobs))
    assert (whole != plain).mean() > 0.1
    careful, lazy = (renderer(family, threshold=value, controlnet=str(tmp_path / "net")) for value in (1e-9, 1e9))
    assert np.abs(arrays(careful.render(jobs)).astype(int) - whole).max() <= 1
    assert runs_of(lazy.render(jobs)) == [6, 6]


@pytest.mark.parametrize(("world", "net"), [("objects", ""), ("streets", "mini/streets-day")])
def test_the_trained_minis_keep_their_pictures(world: str, net: str) -> None:
    """At the recommended threshold a third of the work is saved and the picture is the same to the eye;

    a torn one would lie at 10 dB.
    """
    from synthgen.drawn import streets

    drawn = streets.draw(5, (48, 96))
    size = {"height_px": 48, "width_px": 96} if net else {"height_px": 64, "width_px": 64}
    prompt = drawn.caption if net else "a photo of a red car on sand"
    job = RenderJob(
        "k",
        prompt,
        "",
        5,
        **size,
        embedding=None,
        negative_embedding=None,
        photograph=None,
        layout=drawn.mask if net else None,
    )
    options: dict[str, Any] = {
        "steps": 20,
        "controlnet": net,
        "guidance": 2.0 if net else 3.0,
        "group": 1,
        "first_steps": 3,
    }
    whole, cached = renderer(f"mini/{world}", **options), renderer(f"mini/{world}", threshold=0.1, **options)
    exact, near = whole.render([job]), cached.render([job])
    error = ((arrays(exact).astype(float) - arrays(near)) ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 30
    assert 8 < near[0].denoiser_runs < 0.85 * 40


def test_an_image_that_is_not_finite_spoils_no_other(family: Path) -> None:
    jobs = jobs_of(family)
    model = renderer(family, threshold=0.2)
    expected = arrays(model.render(jobs))
    assert jobs[2].embedding is not None
    broken = dataclasses.replace(jobs[2].embedding, tokens=np.full_like(jobs[2].embedding.tokens, np.nan))
    made = model.render([*jobs[:2], dataclasses.replace(jobs[2], embedding=broken), *jobs[3:]])
    assert made[2].image is None and made[2].reason == "not_finite"
    np.testing.assert_array_equal(arrays([*made[:2], *made[3:]]), np.delete(expected, 2, axis=0))


# recipe


def test_it_is_an_option_of_the_renderer_and_named_in_its_id(family: Path) -> None:
    assert renderer(family, threshold=0.15).id == f"sd3:{family}+step_cache(0.15,2,1)"
    for wrong in ({"threshold": -0.1}, {"first_steps": 0}, {"last_steps": -1}, {"treshold": 0.1}):
        with pytest.raises(ValidationError):
            StepCacheOptions(**wrong)
