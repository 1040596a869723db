"""The teacher: an exponential moving average of the student (Tarvainen and Valpola, Mean teachers, NeurIPS 2017).

Its parameters average, its buffers (statistics of batch norm) too, so it is a network of its own and not a student's
weights under another network's statistics. What the student does not learn is shared and not copied: for a frozen
backbone it is the moving average of a head.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from segkit.networks.folder import STRIDE_PX
from segkit.printable import excerpt
from segtrain.errors import RunError
from segtrain.segmenter import Segmenter
from segtrain.self_training.config import SelfTrainingSettings

_UPDATES = "updates"


class Teacher:
    """Begins as a copy of the student. Its state is all that it has learnt and how often: a resume loses nothing."""

    def __init__(self, student: Segmenter, config: SelfTrainingSettings) -> None:
        """To be made while the student's frozen parameters are marked as such (`requires_grad`)."""
        self._config, self._updates = config, 0
        frozen = {id(parameter): parameter for parameter in student.network.parameters() if not parameter.requires_grad}
        self.network: nn.Module = copy.deepcopy(student.network, dict(frozen))
        self._own = [name for name, p in self.network.named_parameters() if id(p) not in frozen]
        for name, parameter in self.network.named_parameters():
            if name in set(self._own):
                parameter.requires_grad_(False)
        self.network.eval()
        self._segmenter = Segmenter(
            self.network, student.spec, student.label_space, student.device, statistics=student.statistics
        )

    @property
    def updates(self) -> int:
        """How many there were, those of earlier processes included."""
        return self._updates

    @torch.no_grad()
    def logits(self, images: torch.Tensor, bfloat16: bool = False) -> torch.Tensor:
        """(B, 3, H, W) uint8 RGB to (B, C, H, W) float32, without dropout and with statistics of its own."""
        self._segmenter.bfloat16 = bfloat16
        logits = self._segmenter.logits(images)
        if not self._config.teacher_flips:
            return logits
        mirrored = self._segmenter.logits(images.flip(-1)).flip(-1)
        return (logits.softmax(dim=1) + mirrored.softmax(dim=1)).div(2).clamp(min=1e-12).log()

    @torch.no_grad()
    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest channel (H, W) uint8 and its probability (H, W) float32 of a picture (H, W, 3) uint8."""
        height, width = image.shape[:2]
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
        padded = functional.pad(pixels, (0, -width % STRIDE_PX, 0, -height % STRIDE_PX), mode="replicate")
        probability, channels = self.logits(padded)[0, :, :height, :width].softmax(dim=0).max(dim=0)
        return channels.byte().cpu().numpy(), probability.cpu().numpy()

    @torch.no_grad()
    def update(self, student: nn.Module, joint_steps: int) -> None:
        """Take in the student after its `joint_steps`-th step on unlabelled pictures, if it is time."""
        if joint_steps % self._config.teacher_every:
            return
        self._updates += 1
        keep = self._config.teacher_decay
        if self._config.teacher_ramp:
            keep = min(keep, 1 - 1 / (self._updates + 1))
        theirs, ours = dict(student.named_parameters()), dict(self.network.named_parameters())
        for name in self._own:
            ours[name].lerp_(theirs[name].detach(), 1 - keep)
        buffers = dict(student.named_buffers())
        for name, buffer in self.network.named_buffers():
            if buffer.is_floating_point():
                buffer.lerp_(buffers[name], 1 - keep)
            else:  # a counter
                buffer.copy_(buffers[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Parameters that are its own, buffers, and the number of updates."""
        parameters, buffers = dict(self.network.named_parameters()), dict(self.network.named_buffers())
        tensors = {name: parameters[name] for name in self._own} | buffers
        return {f"network.{name}": tensor.clone() for name, tensor in tensors.items()} | {
            _UPDATES: torch.tensor(self._updates)
        }

    @torch.no_grad()
    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Raises RunError for the state of a teacher of another network."""
        own = {name: tensor for name, tensor in self.state().items() if name != _UPDATES}
        given = {name: tensor for name, tensor in tensors.items() if name != _UPDATES}
        wrong = sorted(own.keys() ^ given.keys()) or [name for name in own if own[name].shape != given[name].shape]
        if wrong or _UPDATES not in tensors:
            raise RunError(
                f"teacher of the checkpoint: is of another network ({excerpt(wrong[0] if wrong else _UPDATES)}): "
                "remove checkpoint.pt to train from the start, or use another folder"
            )
        places = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        for name, tensor in given.items():
            places[name.removeprefix("network.")].copy_(tensor)
        self._updates = int(tensors[_UPDATES])
