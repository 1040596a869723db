"""Networks trained on drawn scenes that judge generated ones: they know nothing of the mini family."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch

from benchmarks.row import SCRATCH
from synthgen.drawn import streets
from synthgen.minis.train.scenes import Scenes, scenes
from synthgen.training.precision import mixed_precision

CACHE = SCRATCH / "scenes"
NUM_TRAIN = 8_000


def classifier(world: str, field: str, names: tuple[str, ...]) -> torch.nn.Module:
    """A small CNN that tells `field` (an attribute of the drawing) of an image; trained once and kept."""
    data = scenes(world, NUM_TRAIN, cache=CACHE)
    targets = torch.tensor([names.index(dict(row)[field]) for row in data.attributes])
    widths = (3, 32, 64, 128, 128)
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [torch.nn.Conv2d(before, after, 3, stride=2, padding=1), torch.nn.BatchNorm2d(after), torch.nn.ReLU()]
    net = torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(128, len(names))
    )
    return _fit(net, data, targets, SCRATCH / f"judge-{world}-{field}.pt", steps=1500)


def segmenter() -> torch.nn.Module:
    """A UNet that labels street scenes with Cityscapes ids; trained once and kept."""
    data = scenes("streets", NUM_TRAIN, cache=CACHE)
    net = smp.Unet(
        "resnet18", encoder_weights=None, classes=len(streets.CLASSES), decoder_channels=(128, 64, 48, 32, 16)
    )
    return _fit(net, data, None, SCRATCH / "judge-streets-masks.pt", steps=1500)


def predict(net: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """argmax over channels of (N, H, W, 3) uint8, in parts."""
    with torch.inference_mode():
        return np.concatenate([net(tensor(images[i : i + 64])).argmax(1).numpy() for i in range(0, len(images), 64)])


def tensor(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def held_out(world: str, count: int) -> Scenes:
    """Scenes that no training has seen."""
    return scenes(world, count, 0, cache=CACHE)


def _fit(net: torch.nn.Module, data: Scenes, targets: torch.Tensor | None, path: Path, steps: int) -> torch.nn.Module:
    if path.is_file():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    net.train()
    for _ in range(steps):
        rows = rng.integers(len(data.images), size=32)
        truth = torch.from_numpy(data.masks[rows]).long() if targets is None else targets[torch.from_numpy(rows)]
        # generated pictures are softer than drawn ones; a judge that has never seen blur would judge that alone
        pictures = tensor(data.images[rows])
        if rng.random() < 0.5:
            pictures = torch.nn.functional.avg_pool2d(
                torch.nn.functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1
            )
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision("cpu") == "bf16"):
            loss = torch.nn.functional.cross_entropy(net(pictures).float(), truth, ignore_index=255)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return net.eval()
