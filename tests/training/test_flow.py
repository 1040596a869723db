"""The rectified-flow objective, and what the pipelines make of what was learnt with it."""

from __future__ import annotations

from pathlib import Path

import torch
from doubles.mini_family import random_flow, random_vae

from synthgen.training.flow import tokenize
from synthgen.training.pipelines import load_pipeline, load_start, save

CAPTIONS = ["a red car on the road at night", "a white horse in the snow", "", "a boat on the sea, by day"]


def batch_of_latents(size: int = 6, length: int = 16) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    return {
        "latents": torch.randn(size, 4, 8, 8, generator=rng),
        "tokens": torch.randint(0, 8000, (size, length), generator=rng),
    }


def test_steps_on_a_fixed_batch_lower_its_loss() -> None:
    flow = random_flow()
    batch = batch_of_latents()
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


def test_what_is_learned_is_what_the_pipelines_ask_for(tmp_path: Path) -> None:
    """One Euler step from pure noise is noise - velocity: text states, pooled vectors and time must be fed as in
    training.
    """
    save(random_flow(), random_vae(8, 16, 16), tmp_path)
    flow = random_flow()
    load_start(flow, tmp_path)
    ids = tokenize(flow.tokenizer, CAPTIONS[:1])
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        states, pooled = flow.encode_text(ids)
        velocity = flow.transformer(noise, states, pooled, torch.tensor([1000.0]), return_dict=False)[0]
        made = load_pipeline(tmp_path)(
            prompt=CAPTIONS[0], latents=noise.clone(), num_inference_steps=1, guidance_scale=1.0,
            max_sequence_length=0, height=32, width=32, output_type="latent",
        ).images  # fmt: skip
    torch.testing.assert_close(made, noise - velocity, atol=1e-4, rtol=1e-4)
