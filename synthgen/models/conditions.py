"""From the jobs of one call to what their ControlNet is fed: pixels, and channels that no pixel can carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from synthgen.errors import LabelError, ModelError
from synthgen.labels import OUT_OF_DISTRIBUTION, LabelSpace
from synthgen.models import RenderJob
from synthgen.models.control import Control, class_shares, control_pixels, edge_pictures, nearest, painted
from synthgen.models.label_translation import translation_table


class Conditions:
    """Makes the conditions of a renderer's jobs; `owner` is its id, for messages."""

    def __init__(self, control: Control, owner: str, translation: str = "") -> None:
        """`translation` is the file that `label_translation.translation_table` takes."""
        self.control = control
        self._owner = owner
        self._translation = translation
        self._ids: np.ndarray | None = None  # (256,) uint8: an id of the maps -> one of the ControlNet's label space

    def expect_labels(self, space: LabelSpace) -> None:
        """The label space of the maps that will come; without this call it is taken for the ControlNet's own.

        Raises LabelError in one line if they cannot be translated.
        """
        if self.control.labels is not None:
            self._ids = translation_table(space, self.control.labels, self._translation)

    def pixels(self, jobs: Sequence[RenderJob]) -> Any:
        """(N, 3, H, W) float32 tensor, as the VAE gets it, of jobs of one size.

        Raises ModelError for a job that lacks what this kind of condition is made of, or brings what it would ignore.
        """
        kind = self.control.kind
        if kind in ("depth", "image"):
            images = np.stack([self._picture(job) for job in jobs])
        else:
            maps = self._maps(jobs)
            images = edge_pictures(maps) if kind == "edges" else painted(self._labels, maps)
        return control_pixels(images, self.control.scale)

    def channels(self, jobs: Sequence[RenderJob], grid: tuple[int, int]) -> Any:
        """(N, extra channels, h, w) float32 tensor to stand behind the latents of the pixels; None if there is none."""
        return class_shares(self._labels, self._maps(jobs), grid) if self.control.extra_channels else None

    @property
    def _labels(self) -> LabelSpace:
        assert self.control.labels is not None, f"{self.control.kind} has a label space"
        return self.control.labels

    def _maps(self, jobs: Sequence[RenderJob]) -> np.ndarray:
        """(N, H, W) uint8 ids of the ControlNet's label space, or the maps' own for edges."""
        maps = np.stack([self._layout(job) for job in jobs])
        translated = maps if self._ids is None else self._ids[maps]
        for ids, job in zip(translated, jobs, strict=True):
            if job.pasted is not None:  # after the translation: its class need not be in the maps' label space
                ids[job.pasted.mask] = self.object_id(job.pasted.class_name)
        return translated

    def object_id(self, class_name: str) -> int | None:
        """The id under which a pasted object of this class is painted, by name or synonym; None if there is none.
        Edges show any object: what it is comes from the prompt.
        """
        if self.control.kind == "edges":
            return OUT_OF_DISTRIBUTION
        try:
            return None if self.control.labels is None else self.control.labels.by_name(class_name).id
        except LabelError:
            return None

    def _layout(self, job: RenderJob) -> np.ndarray:
        if job.layout is None:
            raise ModelError(
                f"{self._owner} needs a label map for every image; prompt {job.prompt!r} has none (use a prompt "
                "source that gives layouts)"
            )
        if job.control_image is not None:
            raise ModelError(
                f"{self._owner} is fed {self.control.kind} and would ignore the pictures of "
                "prompts.source.control_images: leave that key out, or set render.renderer.control to depth or image"
            )
        return nearest(job.layout, (job.height_px, job.width_px))

    def _picture(self, job: RenderJob) -> np.ndarray:
        if job.control_image is None:
            raise ModelError(
                f"{self._owner} is fed {self.control.kind}: a picture for every image; prompt {job.prompt!r} has none "
                "(prompts.source={name: layouts, control_images: FOLDER} brings one beside each label map)"
            )
        size = (job.width_px, job.height_px)
        return np.asarray(Image.fromarray(job.control_image).resize(size, Image.Resampling.LANCZOS))


class ExtraChannels:
    """Appends channels to the condition of each call of a ControlNet: no pipeline can feed them.

    A hook in front of `forward`, so that it stands before whatever replaces `forward` (step cache, offloading).
    """

    def __init__(self, net: Any) -> None:
        self.channels: Any = None  # (N, C, h, w) tensor of the images of the coming call; None = none
        net.register_forward_pre_hook(self._append, with_kwargs=True)

    def _append(self, net: Any, positional: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
        import torch

        if self.channels is None:
            return None
        condition = inputs["controlnet_cond"]
        branches = len(condition) // len(self.channels)  # 2 with guidance: the images without text, then with it
        extra = self.channels.to(condition.device, condition.dtype).repeat(branches, 1, 1, 1)
        return positional, inputs | {"controlnet_cond": torch.cat([condition, extra], dim=1)}
