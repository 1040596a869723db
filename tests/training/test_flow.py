"""The rectified-flow objective, and what the pipelines make of what was learnt with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.mini_family import random_flow, random_vae
from PIL import Image

from synthgen.training.flow import tokenize
from synthgen.training.latents import encode
from synthgen.training.pipelines import load_pipeline, load_start, save

CAPTIONS = ["a red car on the road at night", "a white horse in the snow", "", "a boat on the sea, by day"]


def batch_of_latents(size: int = 6, with_maps: bool = False, length: int = 16) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    batch = {
        "latents": torch.randn(size, 4, 8, 8, generator=rng),
        "tokens": torch.randint(0, 8000, (size, length), generator=rng),
    }
    return batch | ({"maps": torch.randn(size, 4, 8, 8, generator=rng)} if with_maps else {})


@pytest.mark.parametrize("control_layers", [0, 1])
def test_steps_on_a_fixed_batch_lower_its_loss(control_layers: int) -> None:
    flow = random_flow(control_layers=control_layers)
    batch = batch_of_latents(with_maps=bool(control_layers))
    optimiser = torch.optim.AdamW(flow.parameters(), lr=2e-3)

    def loss() -> torch.Tensor:
        torch.manual_seed(7)  # the same noise and the same sigma
        return flow(batch)["loss"]

    before = loss().item()
    for _ in range(15):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert before > 1.5  # |noise - data|^2 is 2 where nothing is predicted
    assert loss().item() < 0.9 * before


def test_the_map_reaches_the_first_share_of_a_batch_only() -> None:
    flow = random_flow(control_layers=1)
    batch = batch_of_latents(with_maps=True)

    def losses(maps: torch.Tensor) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        return flow(batch | {"maps": maps})

    with torch.no_grad():
        first, second = losses(batch["maps"]), losses(batch["maps"] * -2)
    assert first["controlled"] != second["controlled"]
    assert first["free"] == second["free"]
    torch.testing.assert_close(first["loss"], (first["controlled"] + first["free"]) / 2)


def test_what_is_learned_is_what_the_pipelines_ask_for(tmp_path: Path) -> None:
    """One Euler step from pure noise is noise - velocity:

    text states, pooled vectors, maps and time must be fed as in training.
    """
    save(random_flow(control_layers=1), random_vae(8, 16, 16), tmp_path)
    pipeline = load_pipeline(tmp_path, control=True)
    flow = random_flow(control_layers=1)
    load_start(flow, tmp_path)
    pipeline.vae.register_to_config(scaling_factor=0.7, shift_factor=0.3)
    ids = tokenize(flow.tokenizer, CAPTIONS[:1])
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    painted = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 15, np.ones((8, 8, 3), np.uint8))
    with torch.no_grad():
        states, pooled = flow.encode_text(ids)
        maps = encode(pipeline.vae, painted[None]) * 0.7
        start = torch.tensor([1000.0])
        residuals = flow.controlnet(noise, maps, 1.0, states, torch.zeros_like(pooled), start, return_dict=False)[0]
        velocities = {
            "plain": flow.transformer(noise, states, pooled, start, return_dict=False)[0],
            "controlled": flow.transformer(noise, states, pooled, start, residuals, return_dict=False)[0],
        }
        asked: dict[str, Any] = {
            "prompt": CAPTIONS[0],
            "latents": noise.clone(),
            "num_inference_steps": 1,
            "guidance_scale": 1.0,
            "max_sequence_length": 0,
            "height": 32,
            "width": 32,
            "output_type": "latent",
        }
        plain = load_pipeline(tmp_path)(**asked).images
        # the pipeline samples the map's latents; their noise is small and this tolerance is not
        controlled = pipeline(**asked, control_image=Image.fromarray(painted)).images
    torch.testing.assert_close(plain, noise - velocities["plain"], atol=1e-4, rtol=1e-4)
    far = (velocities["controlled"] - velocities["plain"]).abs().mean()
    near = (noise - velocities["controlled"] - controlled).abs().mean()
    assert near < 0.35 * far
