"""A model as one file for other programs: ONNX or TorchScript, checked against the model before it is written.

input `image`     (B, 3, H, W) uint8 RGB, any H and W: normalisation and padding to multiples of 32 px are inside
output `logits`   (B, number of classes, H, W) float32, channels in the order of the label space
metadata          `label_space` (JSON: name, background, labels: [{id, name, colour}]), `input`, `output`; in ONNX
                  metadata_props, in TorchScript the extra files of those names
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segkit.networks.folder import STRIDE_PX
from segkit.networks.latent_diffusion import LatentDiffusionNetwork
from segkit.printable import excerpt, in_one_line, listed
from segtrain.errors import ConfigError, ModelError, RunError
from segtrain.files import make_folder, write_whole
from segtrain.segmenter import Segmenter, load_model

INPUT = "image: (B, 3, H, W) uint8 RGB, 0..255, any H and W"
OUTPUT = "logits: (B, classes, H, W) float32, channels in the order of label_space"
SIZES = ((2, 3, 64, 96), (1, 3, 90, 75))
"""Of the random pictures that both are asked about; as many times larger as the network needs at the least."""
_TIMES = (1, 2, 4)
_MOST = 1e-3  # of the greatest logit: rounding of another order of sums stays far below
_FAILS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """`difference` is the greatest of any logit on the random pictures, `scale` the greatest logit there; `sizes` are
    those of the pictures, (H, W)."""

    path: Path
    kind: str
    num_bytes: int
    difference: float
    scale: float
    sizes: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "path": str(self.path), "input": INPUT, "output": OUTPUT}

    def line(self) -> str:
        """For people."""
        sizes = listed([f"{height} x {width}" for height, width in self.sizes])
        return (
            f"{self.path}: {self.kind}, {self.num_bytes / 1e6:.1f} MB; checked: on random pictures of {sizes} px its "
            f"logits differ from the model's by at most {self.difference:.2g} (the greatest is {self.scale:.3g})\n"
            f"input   {INPUT}\noutput  {OUTPUT}"
        )


class Portable(nn.Module):
    """Pixels to logits with nothing left to do outside."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.network = segmenter.network
        for name, values in zip(("mean", "std"), segmenter.statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1) * 255)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) uint8 to (B, number of classes, H, W) float32."""
        height, width = image.shape[2], image.shape[3]
        pad = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
        pixels = nn.functional.pad(image.float(), pad, mode="replicate")
        logits: torch.Tensor = self.network((pixels - self.mean) / self.std)
        return logits[:, :, :height, :width]


def export(model: Path, kind: str, out: Path) -> Exported:
    """Write a finished model as `onnx` or `torchscript` to a new file.

    Raises ConfigError for another kind, ModelError for a model that cannot be exported or whose export does not give
    its logits, RunError if `out` is there already or cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"to {excerpt(kind)}: no such format; there are: {', '.join(KINDS)}")
    if out.exists() or out.is_symlink():
        raise RunError(f"{out}: is there already: choose another name with --out, or remove it")
    segmenter = load_model(model, "cpu")
    network = segmenter.network
    if isinstance(network, LatentDiffusionNetwork):
        raise ModelError(f"{model}: network {segmenter.spec.network!r} draws samples, which no file format repeats")
    portable = Portable(segmenter).eval()
    facts = {"label_space": json.dumps(segmenter.label_space.to_json()), "input": INPUT, "output": OUTPUT}
    with _quiet(), torch.no_grad():
        try:
            pictures = _random_pictures(portable)
            data = KINDS[kind].encode(portable, pictures[0], facts)
            run = KINDS[kind].open(data)
            answers = [(run(picture), portable(picture).numpy()) for picture in pictures]
        except _FAILS as error:
            what = f"network {segmenter.spec.network!r} ({segmenter.spec.arguments['_model_class']})"
            raise ModelError(f"{model}: {what} cannot be exported to {kind}: {in_one_line(error, 160)}") from error
    scale = max(float(np.abs(ours).max()) for _, ours in answers)
    difference = max(float(np.abs(theirs - ours).max()) for theirs, ours in answers)
    if not difference <= _MOST * scale:
        raise ModelError(
            f"{model}: its export to {kind} gives other logits, by up to {difference:.2g} of {scale:.3g}: nothing was "
            "written"
        )
    make_folder(out.parent)
    write_whole(out, data)
    sizes = tuple((picture.shape[2], picture.shape[3]) for picture in pictures)
    return Exported(out, kind, len(data), difference, scale, sizes)


def _random_pictures(portable: Portable) -> list[torch.Tensor]:
    """Of the least sizes that the network takes: of 64 px some decoders (PAN) leave nothing."""
    for times in _TIMES:
        generator = torch.Generator().manual_seed(0)
        sizes = [(batch, 3, times * height, times * width) for batch, _, height, width in SIZES]
        pictures = [torch.randint(0, 256, size, dtype=torch.uint8, generator=generator) for size in sizes]
        try:
            for picture in pictures:
                portable(picture)
        except _FAILS:
            if times == _TIMES[-1]:
                raise
            continue
        break
    return pictures


Run = Callable[[torch.Tensor], np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """`encode` makes the file's bytes of a network, an example and metadata; `open` makes a function of them."""

    encode: Callable[[Portable, torch.Tensor, dict[str, str]], bytes]
    open: Callable[[bytes], Run]


def _encode_torchscript(portable: Portable, example: torch.Tensor, facts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    traced = torch.jit.trace(portable, example, check_trace=False)
    torch.jit.save(traced, buffer, _extra_files=facts)
    return buffer.getvalue()


def _open_torchscript(data: bytes) -> Run:
    loaded = torch.jit.load(io.BytesIO(data))
    return lambda picture: loaded(picture).numpy()


def _encode_onnx(portable: Portable, example: torch.Tensor, facts: dict[str, str]) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise _no_onnx(error) from error
    buffer: Any = io.BytesIO()  # its annotation names paths alone
    any_size = {0: "batch", 2: "height", 3: "width"}
    # By tracing: torch's newer exporter proves what each size and stride may be, for minutes where this takes seconds.
    torch.onnx.export(
        portable,
        (example,),
        buffer,
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": any_size, "logits": any_size},
    )
    made = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(made, facts)
    data: bytes = made.SerializeToString()
    return data


def _open_onnx(data: bytes) -> Run:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise _no_onnx(error) from error
    fails = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)

    def run(picture: torch.Tensor) -> np.ndarray:
        try:
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            answer: np.ndarray = session.run(["logits"], {"image": picture.numpy()})[0]
        except fails as error:  # none of them has a parent of its own
            raise RuntimeError(str(error)) from error
        return answer

    return run


def _no_onnx(error: ImportError) -> ConfigError:
    return ConfigError(f"to onnx: {error.name} is not installed: pip install 'synthgen-seg[onnx]'")


KINDS = {
    "onnx": _Kind(_encode_onnx, _open_onnx),
    "torchscript": _Kind(_encode_torchscript, _open_torchscript),
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' notes on their own insides and their plans for them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
