"""A segmenter: network, label space, and the folder that both travel in.

The folder holds `model.safetensors` and `config.json`, which is written last: if it is there, the model is whole.
`config.json` is the one of segmentation_models_pytorch, so `smp.from_pretrained(folder)` loads the network too; what
only segtrain needs stands under `_segtrain`, as smp leaves alone the keys with an underscore. A few-shot model is the
exception: `_segtrain.pop` says so, its encoder and decoder are smp's and the classifier on top is POP's
(`few_shot.network`), which smp cannot load.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from segtrain.config import TrainConfig
from segtrain.errors import ConfigError, DataError, ModelError
from segtrain.few_shot.network import PopNetwork
from segtrain.files import write_whole
from segtrain.labels import LabelSpace, label_space_of
from segtrain.pretrained import ENCODER, WEIGHTS, load_lite0

FORMAT_VERSION = 1
# Channel statistics of ImageNet for RGB in 0..1: what pretrained encoders expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# No encoder of smp shrinks its input by more.
STRIDE_PX = 32
_TAKES_DECODER_CHANNELS = ("Unet", "UnetPlusPlus", "MAnet")
_SMALL_DECODER = (128, 64, 64, 32, 32)


class Segmenter:
    """A network with the meaning of its channels. Build one with `build_segmenter` or `load_model`."""

    def __init__(
        self,
        network: torch.nn.Module,
        arguments: dict[str, Any],
        label_space: LabelSpace,
        device: torch.device,
        novel: tuple[str, ...] = (),
    ) -> None:
        """`arguments` are those that `create_network` made the network from;

        `novel` names the novel classes of a few-shot model.
        """
        self.network, self.novel = network.to(device), novel
        self.arguments, self.label_space, self.device = arguments, label_space, device
        self._mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) uint8 RGB to (B, number of classes, H, W); H and W are multiples of 32.

        Trains or infers, as the network is set.
        """
        return self.network(self.normalised(images))

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) of 0..255 on any device to what the network expects, on its own."""
        return (images.to(self.device).float() - self._mean) / self._std

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[np.ndarray]:
        """Images (H, W, 3) uint8 RGB of any sizes to masks (H, W) uint8 of class ids, in the same order.

        Images of one size share a batch. Sides that are no multiple of 32 are padded by repeating the edge. Raises
        DataError at another shape or dtype.
        """
        by_size: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise DataError(f"image {number}: shape {image.shape} {image.dtype}, must be (H, W, 3) uint8 RGB")
            by_size[image.shape].append(number)
        masks: dict[int, np.ndarray] = {}
        was_training = self.network.training
        self.network.eval()
        for (height, width, _), numbers in by_size.items():
            pad = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
            for start in range(0, len(numbers), batch_size):
                chosen = numbers[start : start + batch_size]
                pixels = torch.from_numpy(np.stack([images[n] for n in chosen])).permute(0, 3, 1, 2)
                padded = torch.nn.functional.pad(pixels.float(), pad, mode="replicate")
                channels = self.logits(padded).argmax(dim=1)[:, :height, :width].to(torch.uint8).cpu().numpy()
                masks.update(zip(chosen, self.label_space.id_of_channel[channels], strict=True))
        self.network.train(was_training)
        return [masks[number] for number in range(len(images))]


def build_segmenter(config: TrainConfig, label_space: LabelSpace, device: torch.device) -> Segmenter:
    """With random or pretrained weights, a function of the config's seed. Raises ModelError or ConfigError."""
    arch = next((name for name in _architectures() if name.lower() == config.arch.lower()), None)
    if arch is None:
        raise ModelError(f"arch {config.arch!r}: no such architecture; there are: {', '.join(_architectures())}")
    arguments: dict[str, Any] = {
        "_model_class": arch,
        "encoder_name": config.encoder,
        "encoder_weights": None,
        "in_channels": 3,
        "classes": len(label_space.classes),
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
    elif config.encoder_weights != "none":
        weights = True if config.encoder.startswith("tu-") else config.encoder_weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = create_network({**arguments, "encoder_weights": weights})
    if config.encoder_weights == WEIGHTS:
        load_lite0(network.get_submodule("encoder"))
    return Segmenter(network, arguments, label_space, device)


def save_model(segmenter: Segmenter, folder: Path, **facts: Any) -> None:
    """Write the two files; `facts` are plain JSON values kept in `config.json`.

    Raises RunError if the folder cannot be written to.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in segmenter.network.state_dict().items()}
    if isinstance(segmenter.network, PopNetwork):
        facts["pop"] = {"num_base": segmenter.network.num_base, "num_novel": segmenter.network.num_novel}
    own = {
        "version": FORMAT_VERSION,
        "novel": list(segmenter.novel),
        "label_space": segmenter.label_space.to_json(),
        "mean": MEAN,
        "std": STD,
        **facts,
    }
    write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    write_whole(folder / "config.json", json.dumps({**segmenter.arguments, "_segtrain": own}, indent=2).encode())


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
    try:
        arguments = json.loads(path.read_text(encoding="utf-8"))
        own = arguments.pop("_segtrain")
        version = own["version"]
        label_space = label_space_of(own["label_space"], str(path))
        pop, novel = own.get("pop"), tuple(own.get("novel", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise ModelError(f"{path}: not a config of segtrain ({type(error).__name__}: {error})") from error
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: version {version!r} of the model format; this segtrain reads version {FORMAT_VERSION}"
        )
    network = create_network(arguments)
    if pop:
        network = PopNetwork(network, pop["num_base"], pop["num_novel"])
    try:
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder / 'model.safetensors'}: cannot be loaded: {_one_line(error)}") from error
    network.eval()
    return Segmenter(network, arguments, label_space, choose_device(device), novel)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA if there is a GPU. Raises ConfigError at a device that this machine has not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # A torch without CUDA answers with AssertionError.
        raise ConfigError(f"device {name!r}: not usable here: {_one_line(error)}") from error
    return device


def _architectures() -> list[str]:
    return [architecture.__name__ for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values()]


def create_network(arguments: dict[str, Any]) -> torch.nn.Module:
    """A network of smp with random weights. Raises ModelError if there is no such architecture or encoder."""
    settings = dict(arguments)
    arch = settings.pop("_model_class")
    try:
        return smp.create_model(arch, **settings)
    except (KeyError, ValueError, RuntimeError, TypeError, OSError) as error:
        # smp and timm each have their own kinds of error for an unknown name, unknown weights and a download that
        # fails.
        raise ModelError(
            f"{arch} with encoder {settings.get('encoder_name')!r}: cannot be built: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."
