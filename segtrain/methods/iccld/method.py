"""`segtrain iccld`: label latents are denoised under source and mixed pictures, and aligned over the domains.

    t, eps                       one time for the pictures of one place in source, mixed and target
    z_t = noised(z_y, eps, t)    z_y: true labels, mixed labels, the teacher's labels of the target
    z0, h = denoiser(z_t, context(picture), t)
    L = w(t) |z0 - z_y|^2 + v(t) ce(decode(z0), y)   of source and mixed   + weight * L_adv(h of the target)

Pixels without a class have a code of their own in z_t and count in no loss. The teacher answers by the full sampler.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.files import open_regular
from segkit.labels import OUT_OF_DISTRIBUTION
from segkit.networks.diffusion.bit_codes import bits_for
from segkit.networks.diffusion.schedule import alpha_sigma, loss_weights, noised
from segkit.networks.diffusion.unet import own_settings
from segkit.networks.folder import NetworkSpec
from segkit.networks.latent_diffusion import Context, LatentDiffusionNetwork, shape_of
from segkit.printable import in_one_line
from segtrain.data.batches import Batch
from segtrain.data.joint import JointBatch
from segtrain.errors import ConfigError, ModelError
from segtrain.losses import mean_over, pixel_losses, without_unknown
from segtrain.methods.iccld.adversary import Adversary, require_room
from segtrain.methods.iccld.config import Config
from segtrain.optimiser import learning_rate
from segtrain.segmenter import Segmenter, build_segmenter, take_weights
from segtrain.self_training.method import Opened, SelfTraining, opened, train_with
from segtrain.self_training.pseudo_labels import PseudoLabels, moved, of_students_view


def train(config: Config) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError."""
    data = opened(config)
    claims = {"unet": unet_digest(config.unet)} if config.begins_with_unet and config.unet else {}
    return train_with(Iccld(data, config), data, config, **claims)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Pictures of one domain: (B, 3, H, W) uint8 and their labels."""

    images: torch.Tensor
    labels: PseudoLabels


class Iccld(SelfTraining):
    """Latent diffusion, inter-coder connection, adversary and self-training, each a switch."""

    def __init__(self, opened: Opened, config: Config) -> None:
        super().__init__(opened, config)
        self._own = config
        self._adversary: Adversary | None = None
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # features and times of source, (mixed,) target

    def build(self, device: torch.device) -> Segmenter:
        """The student, with random denoiser and decoder; raises ModelError or ConfigError."""
        config = self._own
        if config.base is not None or not config.diffusion:
            segmenter = super().build(device)
            if config.base is not None:
                _require_goes_on(segmenter.network, config)
        else:
            segmenter = self._student = _new_student(config, self._opened, device)
        if config.adversary:
            assert isinstance(segmenter.network, LatentDiffusionNetwork)
            require_room(segmenter.network.mid_side(config.crop_px), config)
            self._adversary = Adversary(segmenter.network.mid_width, config, config.seed, device)
        return segmenter

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        assert isinstance(batch, JointBatch)
        config, network = self._own, segmenter.network
        if not isinstance(network, LatentDiffusionNetwork):
            if config.self_training:
                return super().loss(segmenter, batch, step)
            return super().loss(segmenter, dataclasses.replace(batch, views=None), step)
        device = segmenter.device
        truth = without_unknown(batch.targets.to(device))
        parts = [Part(batch.images.to(device), PseudoLabels(truth, torch.ones_like(truth, dtype=torch.float32)))]
        target = None
        aligned = self._is_aligned(step)
        values: dict[str, torch.Tensor] = {}
        if batch.views is not None and (config.self_training or aligned):
            views = moved(batch.views, device)
            plain = self.targets(batch, views, step)
            if config.self_training:
                parts.append(Part(views.student, of_students_view(plain, views)))
                within = views.inside.sum().clamp(min=1)
                values["coverage"] = (plain.channels < OUT_OF_DISTRIBUTION).sum() / within
                values["weight"] = (plain.weights * views.inside).sum() / within
            if aligned:
                target = Part(views.teacher, plain)
        losses, seen = self._denoised(segmenter, network, parts, target)
        weights = [len(parts[0].images), *(config.unlabelled_weight * len(part.images) for part in parts[1:])]
        weighted = [weight * loss for weight, loss in zip(weights, losses["loss"], strict=True)]
        total = torch.stack(weighted).sum() / sum(len(part.images) for part in parts)
        values |= {"latent": losses["latent"][0].detach(), "segmentation": losses["segmentation"][0].detach()}
        self._seen = seen
        if target is not None:
            assert self._adversary is not None
            values["adversary"] = self._adversary.fooling(*seen[-1])
            total = total + config.adversary_weight * values["adversary"]
        return {"loss": total, **values}

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        if self._own.self_training:
            super().after_step(segmenter, batch, losses, step)
        elif self.teacher_learns and step >= self._own.first_joint_step:
            self.teacher.update(segmenter.network, step + 1 - self._own.first_joint_step)
        if self._adversary is not None and self._is_aligned(step) and len(self._seen) > 1:
            *source, target = self._seen
            if not self._own.adversary_mixed:
                source = source[:1]
            source = [(features, t) for features, t in source if len(features)]  # small batches may lack labelled crops
            if source:
                rate = learning_rate(self._own, step) / self._own.learning_rate
                losses["discriminator"] = self._adversary.learn(source, target, rate)
        self._seen = []

    @property
    def teacher_learns(self) -> bool:
        """The adversary, too, is told of the target by the teacher's labels."""
        return self._own.self_training or self._own.adversary

    def state(self) -> dict[str, torch.Tensor]:
        """That of the teacher, and `adversary.*`."""
        own = self._adversary.state() if self._adversary else {}
        return super().state() | {f"adversary.{name}": tensor for name, tensor in own.items()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        super().load_state(tensors)
        if not self._own.self_training:
            self.facts.clear()  # they tell of pseudo-labels that are learnt, and none is
        if self._adversary is not None:
            prefix = "adversary."
            self._adversary.load_state({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})

    def _is_aligned(self, step: int) -> bool:
        return self._adversary is not None and step >= self._own.first_aligned_step

    def _denoised(
        self, segmenter: Segmenter, network: LatentDiffusionNetwork, parts: list[Part], target: Part | None
    ) -> tuple[dict[str, list[torch.Tensor]], list[tuple[torch.Tensor, torch.Tensor]]]:
        """Losses of each part, and middle features with times of each part and, last, of the target.

        One pass of the network over all of them. The times are one draw, of which every domain takes the first.
        """
        every = [*parts, target] if target is not None else parts
        sizes = [len(part.images) for part in every]
        drawn = torch.rand(max(sizes), device=segmenter.device)
        t = torch.cat([drawn[:size] for size in sizes])
        with torch.autocast(segmenter.device.type, torch.bfloat16, enabled=segmenter.bfloat16):
            context = network.context(segmenter.normalised(torch.cat([part.images for part in every])))
            latents = network.latents_of(torch.cat([part.labels.channels for part in every]))
            z0, middle = network.denoise(noised(latents, torch.randn_like(latents), t), context, t)
            learnt = sum(len(part.images) for part in parts)
            logits = network.decode(z0[:learnt], _first(context, learnt)).float()
        losses: dict[str, list[torch.Tensor]] = {"loss": [], "latent": [], "segmentation": []}
        config, start = self._own, 0
        for part in parts:
            rows = slice(start, start + len(part.images))
            start = rows.stop
            latent = latent_loss(z0[rows].float(), latents[rows], t[rows], part.labels, network, config)
            segmentation = segmentation_loss(logits[rows], t[rows], part.labels, config)
            losses["latent"].append(latent)
            losses["segmentation"].append(segmentation)
            losses["loss"].append(config.latent_weight * latent + config.segmentation_weight * segmentation)
        return losses, list(zip(middle.split(sizes), t.split(sizes), strict=True))


def latent_loss(
    z0: torch.Tensor,
    latents: torch.Tensor,
    t: torch.Tensor,
    labels: PseudoLabels,
    network: LatentDiffusionNetwork,
    config: Config,
) -> torch.Tensor:
    """w(t) times the squared error of the predicted latents (B, bits, h, w) in units of their scale, mean over the
    cells that have a class, each with the weight of its pixel.
    """
    middle, stride = network.stride // 2, network.stride
    labelled = labels.channels[:, middle::stride, middle::stride] < OUT_OF_DISTRIBUTION
    weights = labels.weights[:, middle::stride, middle::stride] * loss_weights(t, config.snr_clamp)[:, None, None]
    errors = ((z0 - latents) / network.shape.scale).square().mean(dim=1)
    return (errors * weights * labelled).sum() / labelled.sum().clamp(min=1)


def segmentation_loss(logits: torch.Tensor, t: torch.Tensor, labels: PseudoLabels, config: Config) -> torch.Tensor:
    """v(t) times the cross-entropy of logits (B, C, H, W), mean over the pixels that have a class, each weighted.

    v is what keeps the denoiser from reading the label in z_t where there is hardly any noise.
    """
    losses, labelled = pixel_losses(logits, labels.channels)
    return mean_over(losses * labels.weights * time_weights(t, config)[:, None, None], labelled)


def time_weights(t: torch.Tensor, config: Config) -> torch.Tensor:
    """v (B,) in 0..1."""
    if config.low_t == "weight":
        return alpha_sigma(t)[1].flatten().square()
    if config.low_t == "bound":
        return (t >= config.low_t_bound).float()
    return torch.ones_like(t)


def _first(context: Context, number: int) -> Context:
    return Context([one[:number] for one in context.maps], context.fused[:number], None)


def _require_goes_on(network: nn.Module, config: Config) -> None:
    """Raise ConfigError unless a base model denoises or not as the settings say, and is what those say of it that are
    not as by default."""
    if config.diffusion != isinstance(network, LatentDiffusionNetwork):
        if config.diffusion:
            raise ConfigError(f"base {config.base}: is no model of `segtrain iccld`: leave it out, or --no-diffusion")
        raise ConfigError(f"base {config.base}: denoises label latents: leave --no-diffusion out, or take another base")
    if not isinstance(network, LatentDiffusionNetwork):
        return
    for setting, name in _OF_SHAPE.items():
        ours, theirs = getattr(config, setting), getattr(network.shape, name)
        if ours not in (theirs, Config.model_fields[setting].default):
            raise ConfigError(f"{setting} {ours}: that of base {config.base} is {theirs}: leave one of them out")


_OF_SHAPE = {
    "form": "form",
    "bits": "bits",
    "label_code": "code",
    "latent_scale": "scale",
    "width": "width",
    "sampling_steps": "steps",
    "samples": "samples",
    "intercoder": "intercoder",
}
"""Settings of a new network, and what they are called in a model's folder."""
_OF_ANSWERS = ("steps", "samples")  # of the folder: what says how it is asked, and not what it has learnt


def _new_student(config: Config, opened: Opened, device: torch.device) -> Segmenter:
    own = config.model_copy(update={"init_from": None, "encoder_weights": "none"} if config.init_from else {})
    plain = build_segmenter(own, opened.space, torch.device("cpu"))
    settings: dict[str, Any] = {name: getattr(config, setting) for setting, name in _OF_SHAPE.items()}
    settings["bits"] = config.bits or bits_for(len(opened.space.labels))
    trained = _trained_unet(config) if config.begins_with_unet else None
    if trained is not None:
        settings |= {"unet": own_settings(trained[0].config), "vae": own_settings(trained[1].config)}
    shape = shape_of(settings, len(opened.space.labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = LatentDiffusionNetwork(plain.network.get_submodule("encoder"), len(opened.space.labels), shape)
    if trained is not None:
        network.denoiser.load(*trained)  # type: ignore[operator]  # of that form
    spec = NetworkSpec(plain.spec.arguments, "latent_diffusion", settings)
    segmenter = Segmenter(network, spec, opened.space, device)
    if config.init_from is not None:
        take_weights(segmenter, config.init_from, _OF_ANSWERS)
    return segmenter


def unet_digest(folder: Path) -> str:
    """Of what `_trained_unet` reads; of a folder that lacks it, of less. Raises ModelError."""
    digest = hashlib.sha256()
    for path in sorted(path for part in ("unet", "vae") for path in (folder / part).glob("*")):
        if path.name == "config.json" or _WEIGHTS.fullmatch(path.name):
            with open_regular(path, ModelError) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


_WEIGHTS = re.compile(r"diffusion_pytorch_model(-\d+-of-\d+)?\.safetensors")


def _trained_unet(config: Config) -> tuple[Any, Any]:
    """UNet and autoencoder of a diffusers folder. Raises ModelError."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    assert config.unet is not None, "the config sees to it"
    try:
        local = {"local_files_only": True, "use_safetensors": True}
        unet = UNet2DConditionModel.from_pretrained(config.unet, subfolder="unet", **local)
        return unet, AutoencoderKL.from_pretrained(config.unet, subfolder="vae", **local)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"unet {config.unet}: holds no unet/ and vae/ of diffusers: {in_one_line(error)}") from error
