"""How fast `synthgen adapt` trains beside a plain loop of diffusers: rows adapt/steps_s_* and adapt/encoded_s_*.

The plain loop is what one would write by hand: everything encoded lies in memory, AdamW, the same autocast, no
checkpoint, no log, no rare class sampling. Same networks, same batch, one process, one thread; rounds of both in turn.
The time is the processor's, so that other work on the machine counts for little.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Row, spread_of

STEPS = 24
LEFT_OUT = 4  # first steps of a round
ROUNDS = 3


def rows(folder: Path, recipe_name: str) -> Iterator[Row]:
    """Steps a second of ours and of the plain loop, and pictures a second through the encoding."""
    import torch
    from accelerate import PartialState

    from synthgen.adapt import model_folder
    from synthgen.adapt.run import Adaptation
    from synthgen.recipe import read_recipe

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        recipe = read_recipe(recipe_name, [f"adapt.data.folder={folder}"])
        adaptation = Adaptation(recipe, Path(scratch) / "model")
        state = PartialState(cpu=True)
        model_folder.claim(adaptation.out, adaptation.identity)
        encoded = adaptation._encode(state)
        ours, plain = [], []
        for number in range(ROUNDS):
            ours.append(_ours(adaptation, encoded, Path(scratch) / f"round{number}"))
            plain.append(_plain(adaptation, encoded))
            print(f"  round {number}: ours {ours[-1]:.3f}, plain {plain[-1]:.3f} steps/s", flush=True)
    yield Row("adapt/steps_s_ours", float(np.mean(ours)), "1/s", spread_of(ours), ROUNDS)
    yield Row("adapt/steps_s_plain", float(np.mean(plain)), "1/s", spread_of(plain), ROUNDS)
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    yield Row("adapt/steps_s_ratio", float(np.mean(ratios)), "ratio", spread_of(ratios), ROUNDS)


def _networks(adaptation: Any) -> tuple[Any, Any]:
    import torch

    from synthgen.adapt.networks import load_denoiser, new_controlnet

    denoiser = load_denoiser(adaptation.base, torch.float32)
    return denoiser, new_controlnet(adaptation.config, denoiser, adaptation.settings.controlnet)


def _ours(adaptation: Any, encoded: Any, folder: Path) -> float:
    """Steps a second of the product's own training, log and average included."""
    from synthgen.adapt.objective import Objective
    from synthgen.adapt.samples import Watch
    from synthgen.training.loop import Schedule, train

    settings = adaptation.settings.controlnet
    denoiser, net = _networks(adaptation)
    ticks: list[float] = []
    watch = Watch("controlnet", folder, 0, None)

    def tick(step: Any) -> None:
        watch(step)
        ticks.append(time.process_time())

    schedule = Schedule(
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        steps=STEPS,
        ema=settings.ema,
        betas=(0.9, 0.999),
        checkpoint_s=adaptation.settings.checkpoint_s,
    )
    objective = Objective(denoiser, net, settings, adaptation.base.shift)
    train(objective, encoded.batches(settings.empty), schedule, folder, watch=tick)
    return (len(ticks) - 1 - LEFT_OUT) / (ticks[-1] - ticks[LEFT_OUT])


def _plain(adaptation: Any, encoded: Any) -> float:
    """Steps a second of a loop without anything around it."""
    import torch

    from synthgen.training.precision import mixed_precision

    settings = adaptation.settings.controlnet
    denoiser, net = _networks(adaptation)
    every = [encoded.row(number) for number in range(len(encoded))]
    data = {name: torch.from_numpy(np.stack([row[name] for row in every])).float() for name in every[0]}
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    ticks: list[float] = []
    net.train()
    for _ in range(STEPS):
        chosen = torch.randint(len(every), (settings.batch_size,), generator=generator)
        latents, control, states, pooled = (data[name][chosen] for name in ("latents", "control", "states", "pooled"))
        sigma = torch.sigmoid(torch.randn(settings.batch_size))
        noise = torch.randn_like(latents)
        mixed = torch.lerp(latents, noise, sigma[:, None, None, None])
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision("cpu") == "bf16"):
            parts = net(mixed, control, 1.0, states, pooled, sigma * 1000, return_dict=False)[0]
            made = denoiser(mixed, states, pooled, sigma * 1000, parts, return_dict=False)[0]
        loss = (made.float() - (noise - latents)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ticks.append(time.process_time())
    return (STEPS - 1 - LEFT_OUT) / (ticks[-1] - ticks[LEFT_OUT])
