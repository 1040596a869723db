"""The six kinds of model that the pipeline asks for.

A backend is a file of the folder of its kind (see synthgen/backends.py).

One convention for all: images are numpy (H, W, 3) uint8 RGB; masks (H, W) uint8 class ids, 255 = ignore; boxes XYXY and
points (x, y) in pixels; sizes (H, W). Lists in, lists out, same order; a result depends on its own item only, not on
its neighbours in the batch. Tensors, devices and [-1, 1] stay inside a backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from segkit.labels import IGNORE
from segkit.networks.sam import MaskPrompts
from synthgen.labels import LabelSpace


@dataclasses.dataclass(frozen=True, slots=True)
class TextEmbedding:
    """What a text encoder gives for one prompt."""

    tokens: np.ndarray  # (T, D) float32, for cross or joint attention; (0, 0) for encoders that only pool
    pooled: np.ndarray  # (P,) float32, not normalised
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # that the encoder gave, and the bank stores


@dataclasses.dataclass(frozen=True, slots=True)
class PastedObject:
    """An object in a label map whose class the maps' own label space need not have."""

    class_name: str  # a class that the renderer knows
    mask: np.ndarray  # (H, W) bool, of the image's size


@dataclasses.dataclass(frozen=True, slots=True)
class RenderJob:
    """One image to be made. `photograph` is an absolute path; None for what a prompt does not bring."""

    key: str
    prompt: str
    negative: str
    seed: int
    height_px: int
    width_px: int
    embedding: TextEmbedding | None  # of `prompt`, if the bank holds it; None = the renderer encodes it
    negative_embedding: TextEmbedding | None
    photograph: Path | None
    layout: np.ndarray | None  # (H, W) uint8 ids
    control_image: np.ndarray | None = None  # (H, W, 3) uint8, a picture that was brought beside the layout: its depth
    pasted: PastedObject | None = None  # lies on top of the layout


@dataclasses.dataclass(frozen=True, slots=True)
class Rendered:
    """What a renderer gives for one job: an image, or why there is none, and the facts that the image's row keeps."""

    image: np.ndarray | None  # (H, W, 3) uint8
    reason: str = ""  # why there is no image, as a snake_case word: not_finite, unreadable_image
    detail: str = ""  # the same for people, in one line
    denoiser_runs: int = 0  # runs of the denoiser for this image, over steps and guidance branches
    steps: int = 0  # of the sampler; 0 = the renderer has no such setting
    guidance: float = 0.0  # classifier-free guidance; 0 = the renderer has no such setting
    origin_size: tuple[int, int] = (0, 0)  # (H, W) of the photograph that was taken over; (0, 0) = none was


@dataclasses.dataclass(frozen=True, slots=True)
class Prototypes:
    """Support prototypes (Syn4Seg, APE): mean features of the labelled support pixels, L2-normalised."""

    ids: tuple[int, ...]  # class id of each row; an id may own several rows (background is many things)
    vectors: np.ndarray  # (P, D) float32, each row of length 1


@dataclasses.dataclass(frozen=True, slots=True)
class SupportShot:
    """One labelled support image."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) uint8
    class_id: int  # the class that it was chosen for


@dataclasses.dataclass(frozen=True, slots=True)
class ProposalRequest:
    """One image to be labelled coarsely with one of `candidates` (class ids, background included) at each pixel."""

    image: np.ndarray  # (H, W, 3) uint8
    features: np.ndarray  # (h, w, D) float32 of the recipe's feature extractor, L2-normalised per cell
    candidates: tuple[int, ...]
    prompt: str
    layout: np.ndarray | None = None  # (H, W) uint8 ids, the label map that the image was rendered from
    class_names: tuple[str, ...] = ()  # the word for each of `candidates` in a sentence; () = not told


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """The coarse mask of one image, and how sure the proposer is of each label, on a scale of its own."""

    mask: np.ndarray  # (H, W) uint8: a candidate id, or 255 where the proposer does not know
    score: np.ndarray  # (H, W) float32 in [0, 1]; 0 where the mask is 255, or where it is not told


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """The ends of one prompt that are beyond a text encoder's context; "" for what is read to its end."""

    pooled: str  # that the pooled embedding does not see: prompts that differ there alone have the same one
    tokens: str  # that nothing of the embedding sees


class TextEncoder(Protocol):
    id: str  # names encoder and weights; stored with a bank, since it sets the scale of its cosines

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]: ...


@runtime_checkable
class TellsUnread(Protocol):
    """What a text encoder that cuts long prompts also has; one that lacks it is taken to read them whole."""

    def unread(self, prompt: str) -> Unread: ...


@runtime_checkable
class TellsCut(Protocol):
    """What an image scorer that reads only the beginning of long texts also has."""

    def cuts(self, text: str) -> bool: ...


class Renderer(Protocol):
    """Derive from it: what has a body here need not be written again."""

    id: str
    revision: str = ""  # of the weights; "" = there are none

    def expect_labels(self, space: LabelSpace) -> None:
        """Called once, before the first job, with the label space of the layouts that jobs may bring."""
        return None

    def knows_object(self, class_name: str) -> bool:
        """Whether jobs may bring a pasted object of this class."""
        return False

    def prepare(self, prompts: Sequence[str]) -> None:
        """Called before the jobs of a unit with the prompts that will come without an embedding."""
        return None

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        """One Rendered for each job."""
        ...


class FeatureExtractor(Protocol):
    id: str

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(h, w, D) float32 for each image, every cell L2-normalised;

        cell (i, j) covers the image's (i, j)-th h x w part.
        """
        ...


class Proposer(Protocol):
    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Called before the first `propose`, with the support set; where thresholds are chosen from it, first without
        each of its images and at last with all: what was learnt before is to be forgotten."""
        ...

    def propose(self, requests: Sequence[ProposalRequest]) -> list[np.ndarray]:
        """(H, W) uint8 for each request: a candidate id, or 255 where the proposer does not know."""
        ...


@runtime_checkable
class TellsScores(Proposer, Protocol):
    """A proposer that knows how sure it is. Derive from it: then its masks are those of `propose_scored`."""

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """The masks of `propose`, each with its score map."""
        ...

    def propose(self, requests: Sequence[ProposalRequest]) -> list[np.ndarray]:
        return [proposal.mask for proposal in self.propose_scored(requests)]


def proposals(proposer: Proposer, requests: Sequence[ProposalRequest]) -> list[Proposal]:
    """A Proposal for each request; a proposer that tells no scores is taken at its word: 1 where it labels."""
    if isinstance(proposer, TellsScores):
        return proposer.propose_scored(requests)
    return [Proposal(mask, (mask != IGNORE).astype(np.float32)) for mask in proposer.propose(requests)]


@dataclasses.dataclass(frozen=True, slots=True)
class Labelled:
    """What a proposer that learns is taught. Of masks, 254 and 255 count for nothing."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray  # (H, W) uint8 class ids
    confidence: np.ndarray | None = None  # (H, W) uint8, 0..255 = 0..1, the weight of each pixel; None = all 1


@runtime_checkable
class Learns(Protocol):
    """What a proposer also has whose learning is too dear to be done by every worker: a run learns once."""

    @property
    def learns(self) -> bool:
        """After `prepare`: whether this support set is learnt from at all."""
        ...

    @property
    def support(self) -> list[Labelled]:
        """The images of the support set, each once."""
        ...

    def learn(self, sets: Sequence[Sequence[Labelled]], watch: Callable[[int], None]) -> bytes:
        """Learn anew from equal shares of `sets`, telling `watch` of each step; gives what `take` takes."""
        ...

    def take(self, learnt: bytes) -> None:
        """Go on with what another worker's `learn` has given. Raises ModelError if it is damaged."""
        ...


class MaskDecoder(Protocol):
    id: str

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each image and its N prompts ((N, H, W) bool masks, (N,) float32 predicted IoU in [0, 1])."""
        ...


class ImageScorer(Protocol):
    id: str

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(N, D) float32, L2-normalised."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32, L2-normalised; comparable with the images by cosine."""
        ...
