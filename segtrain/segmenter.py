"""A segmenter: network, label space, and the model folder that both travel in (`segkit.networks.folder`)."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.labels import LabelSpace, label_space_of
from segkit.networks import smp
from segkit.networks.folder import MEAN, STD, STRIDE_PX, NetworkSpec, create_network, encode, read_folder
from segkit.networks.latent_diffusion import LatentDiffusionNetwork
from segkit.networks.lite0 import ENCODER, WEIGHTS, load_lite0
from segkit.networks.uncertainty import with_uncertainty
from segkit.printable import excerpt, in_one_line
from segtrain.config import MASK_ARCH, TrainConfig
from segtrain.errors import ConfigError, DataError, ModelError
from segtrain.files import write_whole

_TAKES_DECODER_CHANNELS = ("Unet", "UnetPlusPlus", "MAnet")
_SMALL_DECODER = (128, 64, 64, 32, 32)
_MOST_PIXELS = 2**22  # of a batch that is predicted: eight of 724 px, one of twelve megapixels
Answers = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """What a network of smp has made of a batch, part by part, in the precision that it runs in."""

    encoded: list[torch.Tensor]  # maps of the encoder, (B, D_i, h_i, w_i), fine to coarse
    decoded: torch.Tensor  # (B, D, h, w), what the classifier sees
    logits: torch.Tensor  # (B, C, H, W) float32


class Segmenter:
    """A network with the meaning of its channels. Build one with `build_segmenter` or `load_model`."""

    def __init__(
        self,
        network: torch.nn.Module,
        spec: NetworkSpec,
        label_space: LabelSpace,
        device: torch.device,
        novel: tuple[str, ...] = (),
        statistics: tuple[Sequence[float], Sequence[float]] = (MEAN, STD),
    ) -> None:
        """`novel` names the novel classes of a few-shot model; `statistics` are mean and std for pixels in 0..1."""
        # Convolutions of small networks take a fifth less time on a CPU if a pixel's channels lie side by side.
        self._layout = torch.preserve_format if device.type == "mps" else torch.channels_last
        network = network.to(device)
        self.network, self.novel = network.to(memory_format=self._layout), novel
        self.spec, self.label_space, self.device = spec, label_space, device
        self.bfloat16 = False  # whether `logits` runs the network in bfloat16 where torch's autocast does
        self.statistics = statistics
        self._mean, self._std = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in statistics)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) uint8 RGB to (B, number of classes, H, W) float32; H and W are multiples of 32.

        Trains or infers, as the network is set.
        """
        pixels = self.normalised(images)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits: torch.Tensor = self.network(pixels)
        return logits.float()

    @property
    def decoder_width(self) -> int:
        """D of `Pass.decoded`. Raises ModelError if the network is not encoder, decoder and classifier in a row."""
        arch = self.spec.arguments["_model_class"]
        if self.spec.network != "smp" or arch == "DPT":  # whose decoder takes more than maps
            raise ModelError(f"{self.spec.network} {arch}: its decoder takes more than maps: choose another --arch")
        classifier = self.network.get_submodule("segmentation_head.0")
        assert isinstance(classifier, torch.nn.Conv2d), "what the classifiers of smp begin with"
        return classifier.in_channels

    def parts(self, images: torch.Tensor) -> Pass:
        """Like `logits`, with what lies before them, of a network that has a `decoder_width`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            encoded = smp.encode(self.network, self.normalised(images))
            decoded = smp.decode(self.network, encoded)
            logits = smp.classify(self.network, decoded)
        return Pass(encoded, decoded, logits.float())

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) of 0..255 on any device to what the network expects, on its own."""
        pixels = (images.to(self.device).float() - self._mean) / self._std
        return pixels.contiguous(memory_format=self._layout)

    def predict(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[np.ndarray]:
        """Images (H, W, 3) uint8 RGB of any sizes to masks (H, W) uint8 of class ids, in the same order.

        Images of one size share a batch, large ones fewer of them: memory does not grow with their size times
        `batch_size`. Sides that are no multiple of 32 are padded by repeating the edge. Leaves the network as it was,
        in float32. Raises DataError at another shape or dtype, and at a size that the network cannot take.
        """
        masks = self._maps(images, batch_size, lambda pixels: (self.network(pixels).argmax(dim=1),))
        return [self.label_space.id_of_channel[channels] for (channels,) in masks]

    def predict_logits(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[np.ndarray]:
        """Like `predict`, but the logits (number of classes, H, W) float32, in the order of the channels."""
        return [logits for (logits,) in self._maps(images, batch_size, lambda pixels: (self.network(pixels),))]

    def predict_with_uncertainty(
        self, images: Sequence[np.ndarray], batch_size: int = 8
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Like `predict`, each mask with the uncertainty (H, W) float32 of its pixels, high = unknown.

        That of the network's own head, or the energy if it has none. Raises ModelError if none goes on the network.
        """
        network = with_uncertainty(self.network)

        def answers(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            features = network.features(pixels)
            return network.logits(features).argmax(dim=1), network.uncertainty(features)

        maps = self._maps(images, batch_size, answers)
        return [(self.label_space.id_of_channel[channels], uncertainty) for channels, uncertainty in maps]

    def predict_samples(
        self, images: Sequence[np.ndarray], number: int, batch_size: int = 8
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Like `predict`, of a network that samples its answers (`segtrain iccld`): the mask of the mean over `number`
        samples, the entropy of that mean (H, W) float32 in nats, and the masks of the samples (number, H, W) uint8.

        Raises ModelError for a network that has one answer only.
        """
        network = self.network
        if not isinstance(network, LatentDiffusionNetwork):
            raise ModelError(f"network {self.spec.network!r} has one answer only: samples are of `segtrain iccld`")

        def answers(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            channels, total = [], torch.zeros(1, device=pixels.device)
            for sample in network.samples(pixels, number):
                channels.append(sample.argmax(dim=1).to(torch.uint8))  # at most 254 classes
                total = total + sample
            mean = total / number
            entropy = -(mean * mean.clamp(min=1e-12).log()).sum(dim=1)
            return mean.argmax(dim=1), entropy, *channels

        id_of = self.label_space.id_of_channel
        return [
            (id_of[channels], entropy, np.stack([id_of[one] for one in samples]))
            for channels, entropy, *samples in self._maps(images, batch_size, answers)
        ]

    @torch.inference_mode()
    def _maps(self, images: Sequence[np.ndarray], batch_size: int, answers: Answers) -> list[tuple[np.ndarray, ...]]:
        """What `answers` gives of each image, cut to its size: maps (B, ..., H, W) of normalised (B, 3, H, W)."""
        by_size: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise DataError(f"image {number}: shape {image.shape} {image.dtype}, must be (H, W, 3) uint8 RGB")
            by_size[image.shape].append(number)
        maps: dict[int, tuple[np.ndarray, ...]] = {}
        # Each module on its own: what a training has frozen infers while the rest of the network trains.
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        try:
            for (height, width, _), numbers in by_size.items():
                pad = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
                at_once = max(1, min(batch_size, _MOST_PIXELS // (height * width)))
                for start in range(0, len(numbers), at_once):
                    chosen = numbers[start : start + at_once]
                    pixels = torch.from_numpy(np.stack([images[n] for n in chosen])).permute(0, 3, 1, 2)
                    padded = torch.nn.functional.pad(pixels.float(), pad, mode="replicate")
                    found = self._answered(answers, self.normalised(padded))
                    whole = [answer[..., :height, :width].cpu().numpy() for answer in found]
                    maps.update(zip(chosen, zip(*whole, strict=True), strict=True))
        finally:
            for module, training in modes:
                module.training = training
        return [maps[number] for number in range(len(images))]

    def _answered(self, answers: Answers, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        try:
            return answers(pixels)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:  # torch, smp and timm each have their own
            arch, encoder = (self.spec.arguments.get(name) for name in ("_model_class", "encoder_name"))
            raise DataError(
                f"{arch} with encoder {encoder}: cannot take pictures of {pixels.shape[2]} x {pixels.shape[3]} px "
                f"(H x W): {in_one_line(error)}: give it pictures of another size, or train a network that takes any, "
                "as --encoder resnet18"
            ) from error


def build_segmenter(config: TrainConfig, label_space: LabelSpace, device: torch.device) -> Segmenter:
    """With random or pretrained weights, a function of the config's seed, or with those of `init_from`.

    Raises ModelError or ConfigError.
    """
    if config.init_from is None:
        return _build_new(config, label_space, device)
    # What is overwritten is not downloaded.
    segmenter = _build_new(config.model_copy(update={"encoder_weights": "none"}), label_space, device)
    take_weights(segmenter, config.init_from, free=("points",))  # of clip_masks: from --crop, in no weight
    return segmenter


def take_weights(segmenter: Segmenter, folder: Path, free: Collection[str] = ()) -> None:
    """Those of a finished model. Raises ModelError unless it has the same network, but for the settings in `free`, and
    the same classes."""
    model = load_model(folder, "cpu")
    theirs, ours = ({"network": s.spec.network, **s.spec.arguments, **s.spec.settings} for s in (model, segmenter))
    keys = [key for key in {**theirs, **ours} if key not in ("classes", *free)]  # their names are compared below
    differs = next((key for key in keys if theirs.get(key) != ours.get(key)), None)
    if differs is not None:
        raise ModelError(
            f"init_from {folder}: its {differs.removeprefix('_')} is {json.dumps(theirs.get(differs))}, here it is "
            f"{json.dumps(ours.get(differs))}: give the options that it was trained with"
        )
    named = [[(label.id, label.name) for label in s.label_space.labels] for s in (model, segmenter)]
    if named[0] != named[1]:
        raise ModelError(
            f"init_from {folder}: its classes are {', '.join(name for _, name in named[0])}, those of the data are "
            f"{', '.join(name for _, name in named[1])}: ids, names and order must be the same"
        )
    segmenter.network.load_state_dict(model.network.state_dict())


def _build_new(config: TrainConfig, label_space: LabelSpace, device: torch.device) -> Segmenter:
    if config.arch == MASK_ARCH:
        return _build_mask_segmenter(config, label_space, device)
    arch = next((name for name in smp.architectures() if name.lower() == config.arch.lower()), None)
    if arch is None:
        raise ModelError(
            f"arch {excerpt(config.arch)}: no such architecture; there are: {', '.join(smp.architectures())}"
        )
    arguments: dict[str, Any] = {
        "_model_class": arch,
        "encoder_name": config.encoder,
        "encoder_weights": None,
        "in_channels": 3,
        "classes": len(label_space.labels),
    }
    if arch in _TAKES_DECODER_CHANNELS:
        arguments["decoder_channels"] = list(config.decoder_channels or _SMALL_DECODER)
        if len(arguments["decoder_channels"]) != len(_SMALL_DECODER):
            raise ConfigError(
                f"decoder_channels: {len(config.decoder_channels)} numbers, {arch} has {len(_SMALL_DECODER)} "
                "decoder blocks"
            )
    elif config.decoder_channels:
        raise ConfigError(
            f"decoder_channels: {arch} does not take them, only {', '.join(_TAKES_DECODER_CHANNELS)} do: leave it out"
        )
    weights: str | bool | None = None
    if config.encoder_weights == WEIGHTS:
        if config.encoder != ENCODER:
            raise ModelError(
                f"encoder_weights {WEIGHTS!r} are those of {ENCODER}, not of {config.encoder}: set encoder to it"
            )
    elif config.encoder.startswith("tu-"):
        # smp takes any word here: a misspelt one would be ImageNet too
        if config.encoder_weights not in ("imagenet", "none"):
            raise ModelError(
                f"encoder_weights {excerpt(config.encoder_weights)}: of {config.encoder} there are imagenet and none"
            )
        weights = config.encoder_weights == "imagenet" or None
    elif config.encoder_weights != "none":
        weights = config.encoder_weights
    spec = NetworkSpec(arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = create_network(spec, weights)
    if config.encoder_weights == WEIGHTS:
        load_lite0(network.get_submodule("encoder"))
    return Segmenter(network, spec, label_space, device)


def _build_mask_segmenter(config: TrainConfig, label_space: LabelSpace, device: torch.device) -> Segmenter:
    from segkit.networks import clip_masks  # open_clip and transformers take seconds to import

    if config.decoder_channels:
        raise ConfigError(f"decoder_channels: {MASK_ARCH} does not take them: leave it out, there is mask_width")
    arguments = {
        "_model_class": clip_masks.ARCHITECTURE,
        "encoder_name": config.encoder,
        "encoder_weights": None,
        "in_channels": 3,
        "classes": len(label_space.labels),
    }
    settings = {
        "queries": config.mask_queries,
        "width": config.mask_width,
        "decoder_layers": config.mask_layers,
        "points": min(clip_masks.SETTINGS["points"], config.crop_px**2),
    }
    spec = NetworkSpec(arguments, MASK_ARCH, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = create_network(spec, None if config.encoder_weights == "none" else config.encoder_weights)
    return Segmenter(network, spec, label_space, device, statistics=(clip_masks.MEAN, clip_masks.STD))


def save_model(segmenter: Segmenter, folder: Path, **facts: Any) -> None:
    """Write `model.safetensors` and, last, `config.json`: if it is there, the model is whole.

    `facts` are plain JSON values kept in `config.json`. Raises RunError if the folder cannot be written to.
    """
    mean, std = segmenter.statistics
    own = {"novel": list(segmenter.novel), "label_space": segmenter.label_space.to_json(), "mean": mean, "std": std}
    weights, config = encode(segmenter.spec, segmenter.network, {**own, **facts})
    write_whole(folder / "model.safetensors", weights)
    write_whole(folder / "config.json", json.dumps(config, indent=2).encode())


def load_model(folder: str | Path, device: str = "auto") -> Segmenter:
    """A finished model, set to infer. Raises ModelError."""
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        unfinished = (
            ": its training has not finished, run the same `segtrain train` again"
            if (folder / "settings.json").is_file()
            else ""
        )
        raise ModelError(f"{folder}: no config.json, so no model{unfinished}")
    loaded = read_folder(folder)
    try:
        label_space = label_space_of(loaded.facts["label_space"], str(path))
    except DataError as error:
        raise ModelError(str(error)) from error
    novel = loaded.facts.get("novel", [])
    names = {c.name for c in label_space.labels}
    if not isinstance(novel, list) or not all(isinstance(name, str) and name in names for name in novel):
        raise ModelError(f"{path}: novel: {excerpt(novel)} are not classes of the model")
    statistics = (loaded.mean, loaded.std)
    return Segmenter(loaded.network, loaded.spec, label_space, choose_device(device), tuple(novel), statistics)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA if there is a GPU. Raises ConfigError at a device that this machine has not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # A torch without CUDA answers with AssertionError.
        raise ConfigError(f"device {excerpt(name)}: not usable here: {in_one_line(error)}") from error
    return device
