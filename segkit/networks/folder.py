"""A segmenter as a folder: `config.json` says what the network is, `model.safetensors` holds its weights.

`config.json` is that of segmentation_models_pytorch (so `smp.from_pretrained(folder)` loads a plain network too), with
what smp does not know under `_segtrain`:

version      of this format, 1
network      the file of `segkit.networks` that builds the network; `smp` if it is not there
<network>    the settings that this file takes beside smp's arguments, e.g. `pop: {num_base: 15, num_novel: 5}`
label_space  name, background, labels: [{id, name, colour}] in the order of the channels
mean, std    channel statistics of what the network expects, for pixels in 0..1

Loading takes nothing from the network and runs nothing from the folder: arguments are checked, `encoder_weights` is
never passed on, weights are safetensors. Folders written before `network` was are POP's if they have `pop`.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from segkit.documents import read_json
from segkit.errors import ModelError
from segkit.printable import excerpt, in_one_line

FORMAT_VERSION = 1
STRIDE_PX = 32  # no encoder of segmentation_models_pytorch shrinks its input by more
# Channel statistics of ImageNet for RGB in 0..1: what pretrained encoders expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FOLDER = Path(__file__).parent
_NO_NETWORK = ("__init__", "folder", "lite0", "sam")
_ENCODER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")  # timm would load `hf-hub:...` and `local-dir:...`


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What a network is built from, without its weights."""

    arguments: Mapping[str, Any]  # of smp.create_model, with the architecture as `_model_class`
    network: str = "smp"  # a file of segkit.networks
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what that file takes beside


@dataclasses.dataclass(frozen=True, slots=True)
class SegmenterFolder:
    """A loaded folder: the network in float32, set to infer, and all that `_segtrain` says."""

    spec: NetworkSpec
    network: nn.Module
    facts: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def networks() -> list[str]:
    """The kinds of networks, by file name."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem not in _NO_NETWORK)


def create_network(spec: NetworkSpec, encoder_weights: str | bool | None = None) -> nn.Module:
    """With random weights; `encoder_weights` are downloaded by smp or timm under that name.

    Raises ModelError at an unknown network, argument, architecture or encoder.
    """
    if spec.network not in networks():
        raise ModelError(f"network {excerpt(spec.network)}: not known; there are: {', '.join(networks())}")
    module = importlib.import_module(f"segkit.networks.{spec.network}")
    network: nn.Module = module.build(checked_arguments(spec.arguments), dict(spec.settings), encoder_weights)
    return network


def read_folder(folder: Path) -> SegmenterFolder:
    """Raises ModelError for a folder that is not one of segtrain's, or whose weights are damaged or not finite."""
    spec, facts = read_config(folder)
    path = folder / "config.json"
    try:
        mean, std = (tuple(float(value) for value in facts[name]) for name in ("mean", "std"))
        _require(len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0, "mean, std")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: mean and std must be three numbers each: {in_one_line(error)}") from error
    network = create_network(spec)
    weights = folder / "model.safetensors"
    try:
        if not weights.is_file():
            raise FileNotFoundError(f"no such file: {weights.name}")
        tensors = load_file(weights)
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{weights}: cannot be loaded: {in_one_line(error)}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"{weights}: {excerpt(name)} holds numbers that are not finite: train the model again")
    return SegmenterFolder(spec, network.float().eval(), facts, mean, std)  # type: ignore[arg-type]  # of length 3


def read_config(folder: Path) -> tuple[NetworkSpec, dict[str, Any]]:
    """What the network is, and `_segtrain`; loads no weights. Raises ModelError."""
    path = folder / "config.json"
    raw = read_json(path, ModelError)
    facts = raw.get("_segtrain") if isinstance(raw, dict) else None
    if not isinstance(facts, dict) or not isinstance(facts.get("label_space"), dict):
        raise ModelError(f"{path}: is no config that segtrain wrote: train one with `segtrain train`")
    if facts.get("version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: version {excerpt(facts.get('version'))} of the model format; version {FORMAT_VERSION} is read"
        )
    network = facts.get("network", "pop" if facts.get("pop") else "smp")
    if not isinstance(network, str) or network not in networks():
        raise ModelError(f"{path}: network {excerpt(network)}: not known; there are: {', '.join(networks())}")
    settings = facts.get(network) or {}
    if not isinstance(settings, dict):
        raise ModelError(f"{path}: {network}: {excerpt(settings)} is no mapping of settings")
    try:
        arguments = checked_arguments({key: value for key, value in raw.items() if key != "_segtrain"})
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    labels = facts["label_space"].get("labels")
    if not isinstance(labels, list) or len(labels) != arguments["classes"]:
        raise ModelError(f"{path}: label_space must list as many labels as the network has classes")
    return NetworkSpec(arguments, network, settings), facts


def encode(spec: NetworkSpec, network: nn.Module, facts: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Content of `model.safetensors`, and of `config.json` as plain JSON values. `facts` go under `_segtrain`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    own = {"version": FORMAT_VERSION, "network": spec.network, "mean": MEAN, "std": STD, **facts}
    if spec.settings:
        own[spec.network] = dict(spec.settings)
    return save(tensors, metadata={"format": "pt"}), {**checked_arguments(spec.arguments), "_segtrain": own}


def checked_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network of smp, each of its kind; `encoder_weights` is None whatever was there.

    Raises ModelError at one that is missing, of another kind or not known.
    """
    unknown = [key for key in arguments if key not in _KINDS]
    if unknown:
        raise ModelError(f"argument {excerpt(unknown[0])} of the network: not known; there are: {', '.join(_KINDS)}")
    known = {**arguments, "encoder_weights": None}
    for key, fits in _KINDS.items():
        if key in known and not fits(known[key]):
            raise ModelError(f"argument {key} of the network: {excerpt(known[key])} cannot be")
        if key not in known and key != "decoder_channels":
            raise ModelError(f"argument {key} of the network is missing")
    return known


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


_KINDS = {
    "_model_class": lambda value: isinstance(value, str),
    "encoder_name": lambda value: isinstance(value, str) and _ENCODER_NAME.fullmatch(value) is not None,
    "encoder_weights": lambda value: value is None,
    "in_channels": lambda value: value == 3 and _is_count(value, 3),
    "classes": lambda value: _is_count(value, 254),
    "decoder_channels": lambda value: (
        isinstance(value, list | tuple) and 1 <= len(value) <= 8 and all(_is_count(n, 65536) for n in value)
    ),
}


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
