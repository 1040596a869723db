"""Coarse masks from a trained segmenter:

Syn4Seg's own choice, where the generalised few-shot network that saw the support set labels the images.

`model` is a folder that `segtrain` saved (`segkit.networks.folder`). Classes are matched by name, so the ids of the two
label spaces may differ.

The network that proposes masks here should not be the one that learns from them later: what it gets wrong would come
back as truth. The run's summary and the data card tell what APF kept and what APR gave back, class by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from segkit.spelling import same_name
from synthgen.backends import Cost
from synthgen.errors import LabelError, ModelError
from synthgen.images import IGNORE
from synthgen.labels import LabelSpace, read_label_space
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.sizes import GB, parameters_in
from synthgen.models.weights import resolve

STRIDE_PX = 32  # no encoder of segmentation_models_pytorch shrinks its input by more


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field(description="a folder that `segtrain train` made (config.json, model.safetensors)")
    space: str = Field(
        description="label space that the masks are in: the same as labels.space; the segmenter's classes are "
        "found in it by name"
    )
    min_probability: float = Field(
        0.0, ge=0, le=1, description="a pixel whose likeliest candidate is below this stays 255; 0 = off [ours]"
    )
    longest_side_px: int = Field(
        0, ge=0, le=4096, description="of the image that the network sees; 0 = the image's own size"
    )


def build(options: Options, execution: Any) -> SegmenterProposer:
    from segkit.networks.folder import read_folder

    place = _finished(options)
    folder = read_folder(place)
    space = read_label_space(options.space)
    ids = channel_ids(folder.facts["label_space"], space, place)
    network = folder.network.requires_grad_(False)
    return SegmenterProposer(network, ids, (folder.mean, folder.std), options, execution, space.background)


def weights(options: Options) -> list[tuple[str, str]]:
    """The folder, which no hub has. Raises ModelError if it is not there, before a run has begun."""
    _finished(options)
    return [(options.model, "")]


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """Weights as the folder has them; how much a convolutional network computes does not follow from them."""
    place = resolve(options.model)
    if not isinstance(place, Path):
        return None
    parameters = parameters_in(place)
    return Cost(parameters, None, 4 * parameters / GB)


class SegmenterProposer(TellsScores):
    """Each pixel takes the candidate whose channel is highest;

    candidates that the segmenter was not trained on are never proposed.
    """

    def __init__(
        self,
        network: Any,
        ids: np.ndarray,
        statistics: tuple[Sequence[float], Sequence[float]],
        options: Options,
        execution: Any,
        background: int | None = None,
    ) -> None:
        """`ids` (number of channels,) uint8: ids of the recipe's label space, 255 = not in it; `statistics`:

        mean and std for pixels in 0..1; `background` is the id that the space gives to what it does not name.
        """
        import torch

        self._torch = torch
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        self._network = network.to(self._device)
        self._ids, self._background = ids, background
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, 3, 1, 1) * 255 for values in statistics
        )
        self._options = options

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Nothing to learn: the segmenter has been trained."""

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """The score is the label's probability among all classes of the segmenter."""
        # One by one: rounding may follow the batch's size, and batch_size must not change a pixel.
        return [self._propose(request) for request in requests]

    def _propose(self, request: ProposalRequest) -> Proposal:
        channels = [int(n) for k in dict.fromkeys(request.candidates) for n in np.flatnonzero(self._ids == k)]
        if not channels:
            size = (request.image.shape[0], request.image.shape[1])
            return Proposal(np.full(size, IGNORE, np.uint8), np.zeros(size, np.float32))
        probabilities = self._probabilities(request.image)[channels]
        best, highest = probabilities.argmax(axis=0), probabilities.max(axis=0)
        mask = self._ids[channels][best]
        mask[highest < self._options.min_probability] = IGNORE
        return Proposal(mask, np.where(mask == IGNORE, 0, highest).astype(np.float32))

    def known_probabilities(self, image: np.ndarray) -> np.ndarray:
        """(H, W) float32: the probability of the likeliest class of the recipe's label space at each pixel. The
        background is none: what nobody has named lies in it.
        """
        is_known = (self._ids != IGNORE) & (self._ids != self._background)
        known: np.ndarray = self._probabilities(image)[is_known].max(axis=0, initial=0)
        return known

    def _probabilities(self, image: np.ndarray) -> np.ndarray:
        """(channels, H, W) float32.

        Sides that are no multiple of 32 are padded by repeating the edge, as segtrain does.
        """
        torch, functional = self._torch, self._torch.nn.functional
        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.array(image)).to(self._device).permute(2, 0, 1)[None].float()
        if self._options.longest_side_px:
            factor = self._options.longest_side_px / max(height, width)
            size = [max(1, round(side * factor)) for side in (height, width)]
            pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        rows, columns = pixels.shape[2:]
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32),
        ):
            padded = functional.pad(pixels, (0, -columns % STRIDE_PX, 0, -rows % STRIDE_PX), mode="replicate")
            logits = self._network((padded - self._mean) / self._std).float()[..., :rows, :columns]
            if (rows, columns) != (height, width):
                logits = functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
            probabilities: np.ndarray = logits.softmax(dim=1)[0].cpu().numpy()
        return probabilities


def _finished(options: Options) -> Path:
    place = resolve(options.model)
    if not isinstance(place, Path) or not (place / "config.json").is_file():
        raise ModelError(
            f"proposer `segmenter`: {options.model!r} is no folder with a config.json; give one that `segtrain "
            "train` has finished"
        )
    return place


def channel_ids(theirs: dict[str, Any], space: LabelSpace, where: Path) -> np.ndarray:
    """(number of channels,) uint8: the id in `space` of each channel's class, by name or synonym in any spelling;

    255 for a class that `space` does not have.

    Backgrounds belong together whatever they are called. Raises LabelError if no foreground class is in both.
    """
    known = {same_name(word): ours.id for ours in reversed(space.labels) for word in (*ours.synonyms, ours.name)}
    ids = []
    for label in theirs["labels"]:
        if label["id"] == theirs.get("background") and space.background is not None:
            ids.append(space.background)
            continue
        ids.append(known.get(same_name(label["name"]), IGNORE))
    if not set(ids) - {space.background, IGNORE}:
        raise LabelError(
            f"{where}: its label space {theirs.get('name')!r} shares no class with {space.name!r}; train it on "
            "labels of that space"
        )
    return np.array(ids, np.uint8)
