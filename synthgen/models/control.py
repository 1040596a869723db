"""What a ControlNet of the SD3 kind is fed: the picture of a condition, and that picture as latents.

Training (`synthgen adapt`), rendering and the tests all go through this file. It says what diffusers' own training
script and its pipeline disagree about (diffusers issues 9686, 10821, 11867): pixels are in [-1, 1], and the VAE's shift
is subtracted unless the ControlNet's config has `force_zeros_for_pooled_projection`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from PIL import Image

from synthgen.errors import ModelError
from synthgen.labels import IGNORE, LabelSpace

Kind = Literal["palette", "onehot", "edges", "depth", "image"]
"""palette: the label map in colours. onehot: that, and the share of each class in each latent cell as more channels.
edges: the borders of the label map, white on black. depth and image: a picture that the user brings beside the map.
"""

Scale = Literal["signed", "half_levels"]
"""Pixels x in [0, 1] as the VAE gets them. signed: 2 x - 1. half_levels: 255 x / 2 + 0.5, what Stability's ControlNet
of edges for SD3.5-Large was trained with (its card's SD3CannyImageProcessor).
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """The kind of condition of a ControlNet, and the label space whose colours or channels it has learnt."""

    kind: Kind
    labels: LabelSpace | None = None  # of palette and onehot
    scale: Scale = "signed"

    @property
    def extra_channels(self) -> int:
        """Channels beside the latents of the picture: one a class and one for all that is no class."""
        return len(self.labels.ids) + 1 if self.kind == "onehot" and self.labels is not None else 0


def require_colours(control: Control) -> None:
    """Raise ModelError in one line if the condition is colours alone and several classes have none of their own."""
    if control.kind != "palette" or control.labels is None:
        return
    black = [label.name for label in control.labels.labels if not any(label.colour)]
    if len(black) > 1:
        raise ModelError(
            f"label space {control.labels.name!r}: {black[0]!r} and {black[1]!r} are both black, and a ControlNet that "
            "is fed colours could not tell them apart: give each class a `colour` of its own in its labels.yaml"
        )


def control_pixels(images: np.ndarray, scale: Scale = "signed") -> Any:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32 tensor: in [-1, 1], as the pipeline's image processor gives it, or in
    [0.5, 128] for `half_levels`."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return pixels / 127.5 - 1 if scale == "signed" else pixels / 2 + 0.5


def control_latents(image: Any, config: Any, vae: Any) -> Any:
    """What StableDiffusion3ControlNetPipeline feeds as `controlnet_cond` for pixels (N, 3, H, W): (N, C, h, w).

    `config` is the ControlNet's. The posterior's mean is taken: a sample would depend on what was encoded before it.
    """
    shift = 0.0 if config.force_zeros_for_pooled_projection else vae.config.shift_factor
    return (vae.encode(image).latent_dist.mean - shift) * vae.config.scaling_factor


def pooled_for(config: Any, pooled: Any) -> Any:
    """What the pipeline feeds the ControlNet as `pooled_projections` for those of the prompts, (N, D)."""
    return pooled * 0 if config.force_zeros_for_pooled_projection else pooled


def class_shares(labels: LabelSpace, maps: np.ndarray, grid: tuple[int, int]) -> Any:
    """The share that each class has of each latent cell: (N, classes + 1, h, w) float32, summing to 1 over channels.

    `maps` (N, H, W) uint8 ids; H and W are multiples of h and w. The last channel is what is no class (254, 255).
    DGInStyle's one-hot condition, averaged over cells instead of passed through convolutions.
    """
    import torch

    count = len(labels.ids)
    channels = torch.from_numpy(np.minimum(labels.channel_of_id, count))[torch.from_numpy(maps).long()].long()
    number, height, width = channels.shape
    rows, columns = height // grid[0], width // grid[1]
    cells = channels.view(number, grid[0], rows, grid[1], columns).permute(0, 1, 3, 2, 4).flatten(3)
    shares = torch.stack([(cells == channel).float().mean(-1) for channel in range(count + 1)], dim=1)
    return shares


def painted(labels: LabelSpace, maps: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 ids -> (N, H, W, 3) uint8 in the label space's colours; ignore is black."""
    table = labels.colour_table()
    table[IGNORE] = (0, 0, 0)
    return table[maps]


def edge_pictures(maps: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 ids -> (N, H, W, 3) uint8: white where a pixel's label differs from that of the pixel above,
    below, left or right of it, else black. Exact, where a Canny of the painted map would miss colours that are near."""
    across, down = maps[:, :, 1:] != maps[:, :, :-1], maps[:, 1:] != maps[:, :-1]
    edges = np.zeros(maps.shape, bool)
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return np.repeat(edges[..., None].astype(np.uint8) * 255, 3, axis=-1)


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 ids at another size (H, W): a blend of two ids would stand for a class that is not there."""
    return np.asarray(Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST))
