"""What an adaptation looks like while it goes on: the loss, the time left, and a grid of samples every so many
steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segkit.printable import duration
from synthgen.adapt.encoded import EncodedSet
from synthgen.adapt.losses import Losses
from synthgen.adapt_settings import Adapt
from synthgen.images import write_image
from synthgen.training.loop import Step

SHOWN = 6  # crops of a grid
EVERY_S = 5.0  # between two lines


class Watch:
    """Prints a line every few seconds, keeps the losses, and draws a grid every `every` steps."""

    def __init__(self, name: str, folder: Path, every: int, grid: Callable[[], np.ndarray] | None) -> None:
        """`grid` gives an (H, W, 3) uint8 picture; `folder` receives the losses and `samples/`."""
        self._name, self._folder, self._every, self._grid = name, folder, every, grid
        self._losses = Losses(folder, name)
        self._printed, self._sum, self._count = -EVERY_S, 0.0, 0
        self._began: tuple[float, int] | None = None

    def __call__(self, step: Step) -> None:
        self._began = self._began or (time.monotonic(), step.number)
        self._losses.add(step)
        self._sum, self._count = self._sum + step.losses["loss"], self._count + 1
        last = step.number == step.of
        if time.monotonic() - self._printed >= EVERY_S or last:
            print(self._line(step), file=sys.stderr, flush=True)
            self._printed, self._sum, self._count = time.monotonic(), 0.0, 0
        if self._grid is not None and self._every and (step.number % self._every == 0 or last):
            picture = self._grid()
            samples = self._folder / "samples"
            samples.mkdir(exist_ok=True)
            write_image(picture, samples / f"{self._name}-{step.number:06d}.png")
            self._losses.add_picture(picture, step.number)

    def _line(self, step: Step) -> str:
        assert self._began is not None
        made = step.number - self._began[1]
        pace = (time.monotonic() - self._began[0]) / made if made else 0.0
        left = f", {pace:.3g} s a step, {duration(pace * (step.of - step.number))} left" if made else ""
        return f"adapt {self._name:10} {step.number}/{step.of} steps, loss {self._sum / self._count:.4f}{left}"

    def close(self) -> None:
        """Draw the curve of the losses, and write what is still held back."""
        self._losses.close()


def grid_of(
    encoded: EncodedSet, denoiser: Any, controlnet: Any, vae: Any, scheduler: Any, settings: Adapt, seed: int
) -> np.ndarray:
    """SHOWN crops side by side: the map (of a ControlNet), the picture, and what the model makes of map and caption."""
    import torch

    from synthgen.training.sampling import decoded, sample

    device = next(denoiser.parameters()).device
    rows = [encoded.row(len(encoded) * n // SHOWN) for n in range(min(SHOWN, len(encoded)))]
    without = [encoded.row(0, with_caption=False)] * len(rows)

    def tensor(name: str, of: list[dict[str, np.ndarray]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([row[name] for row in of])).to(device).float()

    latents = tensor("latents", rows)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    control = tensor("control", rows) if controlnet is not None else None
    made = sample(
        denoiser, controlnet, scheduler, control, (tensor("states", rows), tensor("states", without)),
        (tensor("pooled", rows), tensor("pooled", without)), noise, settings.samples_steps, settings.samples_guidance,
    )  # fmt: skip
    lines = [decoded(vae, latents), decoded(vae, made)]
    if control is not None:
        lines.insert(0, decoded(vae, control[:, : latents.shape[1]]))
    return np.concatenate([np.concatenate(list(line), axis=1) for line in lines])
