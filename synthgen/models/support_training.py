"""A small segmenter learnt from few labelled images (proposer `support_segmenter`): views, loss, steps.

Few images are made many by strong views: scale, rotation, aspect, flip; brightness, contrast, saturation, tint, blur
and noise; and objects of one image pasted into another (Ghiasi et al., "Simple Copy-Paste", CVPR 2021). The ranges are
ours.

The loss is cross-entropy over the classes in question alone. An image of a prompt may hold the prompt's class and the
background, so the segmenter is trained as it is asked: of a crop, the classes that it shows and the background are its
candidates. Five images of a class cannot tell a horse from a cow, but they can tell an object from its surroundings;
and where a pasted object makes two classes candidates, those two are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from synthgen.models import Labelled
from synthgen.models.devices import torch_threads

if TYPE_CHECKING:
    import torch

THREADS = 2
"""Of a training on a CPU, whatever the recipe's: sums over another number of threads round differently."""
_DECODER = (64, 32, 32, 16, 16)  # channels of the U-Net's decoder: a third of the time of segtrain's own small one
_SCALES, _ASPECT, _DEGREES, _SHIFT = (0.6, 1.6), 0.2, 15.0, 0.3
_PASTED = 0.5  # share of crops into which an object of another image is pasted
_LEAST_PASTED = 0.01  # of the crop, that a pasted object covers
_WARMUP = 1 / 8  # of the steps
_ENCODER_RATE = 0.5  # the pretrained encoder learns at this share of the decoder's rate
_AVERAGE = 0.99  # decay of the weights' running average, which is the result


def new_network(num_classes: int, pretrained: bool, seed: int) -> Any:
    """A U-Net on EfficientNet-Lite0 with `num_classes` channels, a function of its arguments.

    Raises ModelError if the package that holds the ImageNet weights is missing.
    """
    import torch

    from segkit.networks.folder import NetworkSpec, create_network
    from segkit.networks.lite0 import ENCODER, load_lite0

    spec = NetworkSpec(
        {
            "_model_class": "Unet",
            "encoder_name": ENCODER,
            "encoder_weights": None,
            "in_channels": 3,
            "classes": num_classes,
            "decoder_channels": list(_DECODER),
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_network(spec)
    if pretrained:
        load_lite0(network.get_submodule("encoder"))
    return network.to(memory_format=torch.channels_last)


def learn(
    network: Any,
    sets: Sequence[Sequence[Labelled]],
    ids: Sequence[int],
    background: int | None,
    *,
    steps: int,
    batch_size: int,
    crop_px: int,
    learning_rate: float,
    seed: int,
    device: Any,
    watch: Callable[[int], None],
) -> None:
    """Train `network`, whose channel n is class `ids[n]`, in place; afterwards it is set to infer.

    Each batch takes equal shares of all `sets` that have an image. Step s draws from (seed, s) alone. AdamW, linear
    warm-up, then (1 - s / steps)^0.9. `watch` is told of every step.
    """
    import torch

    groups = [[_tensors(sample, ids) for sample in one] for one in sets if one]
    candidate = None if background is None else list(ids).index(background)
    network.to(device).train()
    encoder = list(network.encoder.parameters())
    others = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    optimiser = torch.optim.AdamW(
        [{"params": encoder, "share": _ENCODER_RATE}, {"params": others, "share": 1.0}],
        lr=learning_rate,
        weight_decay=0.01,
    )
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    with torch_threads(THREADS):
        for step in range(steps):
            rate = learning_rate * min(1.0, (step + 1) / max(1.0, _WARMUP * steps)) * (1 - step / steps) ** 0.9
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
            rng = np.random.default_rng([seed, step])
            crops = [crop(groups[n % len(groups)], rng, crop_px, candidate) for n in range(batch_size)]
            images, targets, weights = (torch.stack(parts).to(device) for parts in zip(*crops, strict=True))
            logits = network(normalised(images))
            loss = candidate_loss(logits, targets, weights, candidate)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            _follow(average, network, min(_AVERAGE, (step + 1) / (step + 10)))
            watch(step)
    network.load_state_dict(average)
    network.eval()


def candidate_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, background: int | None
) -> torch.Tensor:
    """Mean weighted cross-entropy over the pixels that have a class, among the candidates of each crop: the channels
    that its targets show and `background`; all channels where that is None.

    logits (B, C, H, W), targets (B, H, W) int64 channels, -1 = none, weights (B, H, W) in [0, 1]. A scalar, 0 if no
    pixel has a class.
    """
    import torch

    known = targets >= 0
    if background is not None:
        shown = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
        shown[:, background] = True
        rows = torch.arange(len(targets), device=logits.device)[:, None, None].expand_as(targets)
        shown[rows[known], targets[known]] = True
        logits = logits.masked_fill(~shown[:, :, None, None], -1e4)
    losses = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1, reduction="none")
    return (losses * weights).sum() / known.sum().clamp(min=1)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) of 0..255 to what encoders of ImageNet expect."""
    import torch

    from segkit.networks.folder import MEAN, STD

    mean, std = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


Views = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]  # image (3, H, W), channels (H, W), weights (H, W)


def crop(samples: Sequence[Views], rng: np.random.Generator, crop_px: int, background: int | None) -> Views:
    """A view of one sample, into which the objects of another may be pasted: image (3, crop, crop) float32 in 0..255,
    channels (crop, crop) int64, weights (crop, crop) float32.

    Objects are all that is not the channel `background`; where that is None, half of the classes (ClassMix).
    """
    import torch

    image, target, weight = _view(samples[int(rng.integers(len(samples)))], rng, crop_px)
    if rng.random() < _PASTED:
        other, other_target, other_weight = _view(samples[int(rng.integers(len(samples)))], rng, crop_px)
        objects = _objects(other_target, rng, background)
        if objects.float().mean() > _LEAST_PASTED:
            image = torch.where(objects, _recoloured(other, rng), image)
            target = torch.where(objects, other_target, target)
            weight = torch.where(objects, other_weight, weight)
    return _recoloured(image, rng), target, weight


def _objects(target: torch.Tensor, rng: np.random.Generator, background: int | None) -> torch.Tensor:
    """(H, W) bool of channels (H, W), -1 = none."""
    import torch

    if background is not None:
        return (target >= 0) & (target != background)
    shown = [int(n) for n in torch.unique(target) if n >= 0]
    chosen = rng.permutation(len(shown))[: (len(shown) + 1) // 2]
    return torch.isin(target, torch.tensor([shown[n] for n in chosen], dtype=target.dtype))


def _tensors(sample: Labelled, ids: Sequence[int]) -> Views:
    """In few bytes: hundreds of a run's own images may be learnt from."""
    import torch

    channel = np.full(256, -1, np.int16)
    channel[list(ids)] = np.arange(len(ids))
    channel[[IGNORE, OUT_OF_DISTRIBUTION]] = -1
    confidence = np.full(sample.mask.shape, 255, np.uint8) if sample.confidence is None else sample.confidence
    return (
        torch.from_numpy(np.array(sample.image)).permute(2, 0, 1),
        torch.from_numpy(channel[sample.mask]),
        torch.from_numpy(np.array(confidence)),
    )


def _view(sample: Views, rng: np.random.Generator, crop_px: int) -> Views:
    """Scaled, stretched, turned, flipped and shifted; beyond its edges the image is mirrored."""
    import torch
    from torch.nn import functional

    image, target, weight = sample
    height, width = target.shape
    scale = math.exp(rng.uniform(math.log(_SCALES[0]), math.log(_SCALES[1])))
    stretch = math.exp(rng.uniform(-_ASPECT, _ASPECT))
    angle = math.radians(rng.uniform(-_DEGREES, _DEGREES))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    across, down = crop_px / (scale * width), crop_px / (scale * height)  # of the image, that the crop shows
    right, below = (rng.uniform(-1, 1) * max(_SHIFT, 1 - share) for share in (across, down))
    cosine, sine = math.cos(angle), math.sin(angle)
    rows = [
        [across * cosine * mirror * stretch, -across * sine, right],
        [down * sine * mirror, down * cosine / stretch, below],
    ]
    grid = functional.affine_grid(torch.tensor([rows]), [1, 1, crop_px, crop_px], align_corners=False)

    def sampled(maps: torch.Tensor, mode: str) -> torch.Tensor:
        found: torch.Tensor = functional.grid_sample(
            maps[None], grid, mode=mode, padding_mode="reflection", align_corners=False
        )[0]
        return found

    both = sampled(torch.stack([target.float(), weight.float() / 255]), "nearest")
    return sampled(image.float(), "bilinear"), both[0].round().long(), both[1]


def _recoloured(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(3, H, W) of 0..255 to the same."""
    import torch

    if rng.random() < 0.8:
        image = image + float(rng.uniform(-48, 48))
    if rng.random() < 0.8:
        mean = image.mean()
        image = (image - mean) * float(rng.uniform(0.5, 1.5)) + mean
    if rng.random() < 0.8:
        grey = image.mean(dim=0, keepdim=True)
        image = (image - grey) * float(rng.uniform(0.2, 1.8)) + grey
    if rng.random() < 0.5:
        image = image * torch.from_numpy(rng.uniform(0.7, 1.3, (3, 1, 1)).astype(np.float32))
    if rng.random() < 0.5:
        image = _blurred(image, float(rng.uniform(0.3, 1.5)))
    if rng.random() < 0.5:
        spread = float(rng.uniform(2, 20))
        image = image + torch.from_numpy(rng.standard_normal(tuple(image.shape), np.float32) * np.float32(spread))
    return image.clamp(0, 255)


def _blurred(image: torch.Tensor, sigma_px: float) -> torch.Tensor:
    import torch
    from torch.nn import functional

    offsets = torch.arange(-3, 4, dtype=torch.float32)
    line = torch.exp(-(offsets**2) / (2 * sigma_px**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = functional.pad(image[:, None], (3, 3, 3, 3), mode="replicate")
    return functional.conv2d(padded, kernel[None, None])[:, 0]


def _follow(average: dict[str, torch.Tensor], network: Any, decay: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value.detach(), 1 - decay)
        else:
            average[name].copy_(value)
