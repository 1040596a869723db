"""`synthgen adapt` on the shapes of SD3.5-Large and SD3.5-Medium: two steps each way, saved, loaded by stock diffusers,
rendered.

Widths, heads, text encoders and latents are the published ones; layers are few and weights random.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from synthgen.adapt.recipe import recipe_for
from synthgen.adapt.run import adapt
from synthgen.backends import load
from synthgen.drawn.split import write_split
from synthgen.models import RenderJob
from synthgen.settings import Execution

pytestmark = pytest.mark.slow
SIZE_PX = (64, 96)
SETS = (
    *(f"render.{name}_px={side}" for name, side in zip(("height", "width"), SIZE_PX, strict=True)),
    "adapt.crops.per_image=1",
    "adapt.lora.steps=2",
    "adapt.lora.batch_size=1",
    "adapt.controlnet.steps=2",
    "adapt.controlnet.batch_size=1",
    "adapt.controlnet.learning_rate=0.01",  # else two steps from zero do not show
    "adapt.controlnet.warmup_steps=1",
    "adapt.gradient_checkpointing=true",
    "adapt.samples_every=0",
)


@pytest.mark.parametrize("name", ["sd35_large", "sd35_medium"])
def test_it_trains_saves_loads_and_renders(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, give_memory_back: Callable[[], None]
) -> None:
    base: Path = request.getfixturevalue(name)
    folder, out = tmp_path / "day", tmp_path / "model"
    write_split(folder, "streets", 2, 3_000_000, domain="day")
    adapt(recipe_for("", str(folder), str(base), SETS), out)
    give_memory_back()
    config = json.loads((out / "controlnet" / "config.json").read_text(encoding="utf-8"))
    assert config["num_layers"] == 1
    assert config["dual_attention_layers"] == ([0] if name == "sd35_medium" else [])
    assert (config["in_channels"], config["extra_conditioning_channels"]) == (16, 0)

    from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline

    net = SD3ControlNetModel.from_pretrained(out, subfolder="controlnet", dtype=torch.bfloat16)
    assert net.controlnet_blocks[0].weight.detach().abs().max() > 0
    parts = {f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")}
    stock = StableDiffusion3ControlNetPipeline.from_pretrained(base, controlnet=net, **parts, dtype=torch.bfloat16)
    stock.load_lora_weights(out / "lora")
    del stock, net
    give_memory_back()

    options = {"name": "sd3", "model": str(base), "controlnet": str(out), "steps": 1, "guidance": 1.0}
    renderer = load("renderer", options, Execution(device="cpu", dtype="bfloat16"))
    road = np.zeros(SIZE_PX, dtype=np.uint8)
    half = road.copy()
    half[:32] = 10
    jobs = [RenderJob(str(n), "a street", "", 1, *SIZE_PX, None, None, None, ids) for n, ids in enumerate((road, half))]
    images = [made.image for made in renderer.render(jobs)]
    assert all(image is not None and image.shape == (*SIZE_PX, 3) for image in images)
    assert (images[0] != images[1]).mean() > 0.05
