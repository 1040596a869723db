"""Segmentation as the denoising of label latents under the features of an image (ICCLD, arXiv 2412.16859, as far as
its abstract goes; form and numbers are ours, after DDP and LDMSeg).

    image -> encoder -> F_2, F_4, F_8, F_16 (an smp encoder)      context = fuse(F_4, F_8, F_16)        (B, width, h, w)
    labels -> codes of D bits, -1 or +1, times scale, at a quarter of the resolution        z              (B, D, h, w)
    scale * denoiser(z_t, context, t) -> z0, and h, its middle features, which the adversary sees
    label decoder(z0) + inter-coder connections: zero-initialised 1x1 convolutions of F_4 and F_2       (B, C, H, W)

The inter-coder connection leads from the image's encoder into the label's decoder, past the bottleneck of the latents;
zeros at first, so a training starts without it. `form` is which denoiser: `light` has four residual blocks, `unet` is a
diffusers UNet2DConditionModel on [z_t ; latents of a frozen AutoencoderKL] at an eighth of the resolution.

Inference takes `steps` DDIM steps from noise that follows from the image's pixels, or the mean over `samples` of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segkit.errors import ModelError
from segkit.networks import smp
from segkit.networks.diffusion.bit_codes import BitCode
from segkit.networks.diffusion.schedule import ddim, noise_of
from segkit.networks.diffusion.unet import STRIDE as UNET_STRIDE
from segkit.networks.diffusion.unet import UnetDenoiser
from segkit.networks.folder import MEAN, STD
from segkit.printable import excerpt

STRIDE = {"light": 4, "unet": UNET_STRIDE}  # pixels a latent


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The settings in a model's folder. Raises ModelError through `shape_of`."""

    form: str = "light"
    bits: int = 5
    code: str = "binary"  # of BitCode; folders that do not say are of before there was another one
    scale: float = 0.1  # of the bits [DDP: 0.1 by default, 0.01 in its released configs]
    width: int = 64
    steps: int = 3
    samples: int = 1
    intercoder: bool = True
    unet: dict[str, Any] | None = None  # configuration of UNet2DConditionModel
    vae: dict[str, Any] | None = None  # configuration of AutoencoderKL


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What is known of the images, whatever the noise."""

    maps: list[torch.Tensor]  # of the encoder, fine to coarse
    fused: torch.Tensor  # (B, width, h, w) at the resolution of the latents
    latents: torch.Tensor | None  # (B, 4, h, w) of the images, form `unet`


def shape_of(settings: dict[str, Any], num_classes: int) -> Shape:
    """Raises ModelError at a setting that is not known, out of range, or does not go with the classes."""
    known = {field.name for field in dataclasses.fields(Shape)}
    strange = sorted(set(settings) - known)
    if strange:
        raise ModelError(f"network 'latent_diffusion': setting {excerpt(strange[0])} is not known")
    shape = Shape(**settings)
    wholes = (("bits", 1, 8), ("width", 8, 1024), ("steps", 1, 1000), ("samples", 1, 100))
    for name, low, high in wholes:
        value = getattr(shape, name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ModelError(f"network 'latent_diffusion': {name} {excerpt(value)}: must be {low} to {high}")
    if shape.form not in STRIDE:
        raise ModelError(
            f"network 'latent_diffusion': form {excerpt(shape.form)}: not known; there are: {', '.join(STRIDE)}"
        )
    if not isinstance(shape.scale, int | float) or not 0 < shape.scale <= 10:
        raise ModelError(f"network 'latent_diffusion': scale {excerpt(shape.scale)}: must be above 0, at most 10")
    if shape.form == "unet" and not (isinstance(shape.unet, dict) and isinstance(shape.vae, dict)):
        raise ModelError("network 'latent_diffusion': form 'unet' needs the configurations `unet` and `vae`")
    BitCode(num_classes, shape.bits, shape.code)
    return shape


def build(
    arguments: dict[str, Any], settings: dict[str, Any], encoder_weights: str | bool | None
) -> LatentDiffusionNetwork:
    """`arguments` are those of an smp network, of which the encoder is taken; `settings` those of Shape.

    Raises ModelError.
    """
    shape = shape_of(settings, arguments["classes"])
    encoder = smp.build(arguments, {}, encoder_weights).encoder
    return LatentDiffusionNetwork(encoder, arguments["classes"], shape)


class LatentDiffusionNetwork(nn.Module):
    """Encoder, denoiser and label decoder. `forward` samples; a training calls the parts."""

    def __init__(self, encoder: Any, num_classes: int, shape: Shape) -> None:
        """`encoder` is one of smp that gives maps at strides 2, 4, 8 and 16. Raises ModelError for another."""
        super().__init__()
        widths = list(encoder.out_channels)
        if len(widths) < 5 or 0 in widths[1:5]:
            raise ModelError(
                f"{type(encoder).__name__}: has no maps at strides 2, 4, 8 and 16, which the label decoder needs: take "
                "another encoder, as tu-tf_efficientnet_lite0 or resnet50, or another architecture, as Unet"
            )
        self.shape, self.code = shape, BitCode(num_classes, shape.bits, shape.code)
        length = self.code.length
        self.stride = STRIDE[shape.form]
        self.encoder = encoder
        self.fuse = nn.ModuleList(nn.Conv2d(width, shape.width, 1) for width in widths[2:5])
        self.fused = nn.Sequential(nn.Conv2d(shape.width, shape.width, 3, padding=1), _norm(shape.width), nn.SiLU())
        if shape.form == "light":
            self.denoiser: nn.Module = LightDenoiser(length, shape.width)
        else:
            self.denoiser = UnetDenoiser(length, shape.width, shape.unet or {}, shape.vae or {})
        self.label_decoder = LabelDecoder(length, shape.width, num_classes, widths[1:3], shape.intercoder)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Name patterns of what never learns, for a training's groups."""
        return ("denoiser.vae.*",) if self.shape.form == "unet" else ()

    @property
    def mid_width(self) -> int:
        """Channels of the middle features of the denoiser."""
        width: int = self.denoiser.mid_width  # type: ignore[assignment]  # of both denoisers
        return width

    def mid_side(self, side_px: int) -> int:
        """Cells a side of the middle features of a square picture."""
        halvings: int = self.denoiser.mid_halvings  # type: ignore[assignment]  # of both denoisers
        return -(-side_px // (self.stride * 2**halvings))

    def latents_of(self, channels: torch.Tensor) -> torch.Tensor:
        """(B, H, W) channels, 254 and 255 for none, to label latents (B, D, h, w): the label in the middle of each
        cell.
        """
        middle = self.stride // 2
        return self.shape.scale * self.code.encode(channels[:, middle :: self.stride, middle :: self.stride])

    def context(self, images: torch.Tensor) -> Context:
        """(B, 3, H, W) normalised; H and W are multiples of 32."""
        maps = smp.encode(self, images)
        size = (images.shape[-2] // self.stride, images.shape[-1] // self.stride)
        fused = torch.stack([_resized(layer(one), size) for layer, one in zip(self.fuse, maps[2:5], strict=True)])
        latents = None
        if self.shape.form == "unet":
            latents = self.denoiser.image_latents(self._pixels(images))  # type: ignore[operator]  # of that form
        return Context(maps, self.fused(fused.sum(dim=0)), latents)

    def denoise(self, z: torch.Tensor, context: Context, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z_t (B, D, h, w) at times (B,) in 0..1 to the z0 that is behind it, and middle features (B, D, h', w').

        The denoiser gives bits, numbers about 1, which are then scaled. If it gave latents, its first errors, in units
        of the scale, would be as many times too large as the scale is small, and Adam, which remembers their squares
        for a thousand steps, would hardly move.
        """
        made, middle = self.denoiser(z, context.fused, context.latents, t)
        return self.shape.scale * made, middle

    def decode(self, z0: torch.Tensor, context: Context) -> torch.Tensor:
        """(B, D, h, w) to logits (B, C, H, W)."""
        logits: torch.Tensor = self.label_decoder(z0 / self.shape.scale, context.maps[1:3])
        return logits

    def sample(self, context: Context, noise: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, H, W) by `steps` DDIM steps from noise (B, D, h, w)."""
        z0 = ddim(lambda z, t: self.denoise(z, context, t)[0], noise, self.shape.steps)
        return self.decode(z0, context)

    def samples(self, images: torch.Tensor, number: int) -> Iterator[torch.Tensor]:
        """(B, 3, H, W) normalised to `number` times probabilities (B, C, H, W), each from noise of its own; one is made
        when it is asked for, since all of a large picture are gigabytes.
        """
        context = self.context(images)
        pixels = self._pixels(images)
        size = (self.code.length, images.shape[-2] // self.stride, images.shape[-1] // self.stride)
        for n in range(number):
            yield self.sample(context, noise_of(pixels, size, n)).float().softmax(dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to log-probabilities (B, C, H, W): the mean over `samples` samples."""
        total = functools.reduce(torch.add, self.samples(images, self.shape.samples))
        return (total / self.shape.samples).clamp(min=1e-12).log()

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        """The uint8 pixels that normalised images were made of, exactly."""
        mean, std = (images.new_tensor(values, dtype=torch.float32).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
        return (images.float() * std + mean).round().clamp(0, 255).to(torch.uint8)


class LightDenoiser(nn.Module):
    """Four residual blocks on [z_t ; context], told the time; the middle features are those after the second."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.mid_width, self.mid_halvings = width, 0
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(length + width, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(4))
        self.last = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, length, 1))

    def forward(
        self, z: torch.Tensor, context: torch.Tensor, latents: torch.Tensor | None, t: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        told = self.time(_waves(t, self.mid_width))
        hidden, middle = self.first(torch.cat([z, context], dim=1)), context
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, told)
            if number == 1:
                middle = hidden
        return self.last(hidden), middle


class LabelDecoder(nn.Module):
    """Label latents to logits at full resolution; `intercoder` adds the encoder's maps, through zeros at first."""

    def __init__(self, length: int, width: int, num_classes: int, widths: list[int], intercoder: bool) -> None:
        """`widths` are those of F_2 and F_4."""
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(length, width, 3, padding=1), nn.SiLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), _norm(width), nn.SiLU())
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.connections = nn.ModuleList(_zero(nn.Conv2d(one, width, 1)) for one in widths if intercoder)

    def forward(self, z0: torch.Tensor, maps: list[torch.Tensor]) -> torch.Tensor:
        fine, coarse = maps
        hidden = _resized(self.first(z0), coarse.shape[-2:])
        if len(self.connections):
            hidden = hidden + self.connections[1](coarse)
        hidden = self.second(_resized(hidden, fine.shape[-2:]))
        if len(self.connections):
            hidden = hidden + self.connections[0](fine)
        logits = self.classifier(hidden)
        return functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """Two convolutions, the time as scale and shift between them, and the way past."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = _norm(width), _norm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.told = nn.Linear(width, 2 * width)

    def forward(self, hidden: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        inner = self.first(functional.silu(self.before(hidden)))
        scale, shift = self.told(told)[..., None, None].chunk(2, dim=1)
        inner = self.after(inner) * (1 + scale) + shift
        made: torch.Tensor = hidden + self.second(functional.silu(inner))
        return made


def _norm(width: int) -> nn.GroupNorm:
    """No batch statistics: source, mixed and target pictures go through one after the other."""
    return nn.GroupNorm(max(n for n in range(1, 9) if width % n == 0), width)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _waves(t: torch.Tensor, width: int) -> torch.Tensor:
    """Times (B,) in 0..1 as sines and cosines (B, width)."""
    from diffusers.models.embeddings import get_timestep_embedding

    return get_timestep_embedding(t * 1000, width)


def _resized(maps: torch.Tensor, size: Any) -> torch.Tensor:
    if maps.shape[-2:] == torch.Size(size):
        return maps
    shrinks = maps.shape[-1] > size[-1]
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)
