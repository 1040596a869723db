"""Scores of a network while it learns, and the best weights so far.

The best is that of the greatest mIoU on the validation set, the earliest of equals. It travels in the checkpoint, so a
training that was killed goes on with the best of the very steps that it goes on from.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

import torch

from segtrain.board import Board
from segtrain.data.source import Source
from segtrain.evaluate import Scores, score
from segtrain.segmenter import Segmenter

RULE = "greatest mIoU on the validation set, the earliest of equals"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Best:
    """`network` is a state dict on the CPU, `miou` in 0..1."""

    step: int
    miou: float
    network: dict[str, torch.Tensor]

    def facts(self) -> dict[str, Any]:
        """For config.json: how it was chosen."""
        return {"step": self.step, "miou": self.miou, "rule": RULE}


class Validation:
    """The validation set of a training. `best` is None as long as nothing was scored, and if `every` is 0."""

    def __init__(self, source: Source, every: int) -> None:
        """`every` so many steps a score is due, 0 = only at the end."""
        self._source, self._every = source, every
        self.best: Best | None = None

    def is_due(self, done: int, steps: int) -> bool:
        """Whether to score after `done` of `steps`; at the end it is done once, by who finishes the training."""
        return bool(self._every) and done % self._every == 0 and done < steps

    def score(self, segmenter: Segmenter, board: Board, done: int) -> Scores:
        """Score the network as it stands after `done` steps: a line, the curves, and the best. Raises DataError."""
        scores = score(segmenter, self._source)
        if scores.miou is None:
            _log.info("step %d: mIoU - on %s: no pixel of it is labelled", done, self._source.path)
            return scores
        board.scalar("validation/miou", scores.miou, done)
        for one in scores.classes:
            if one.iou is not None:
                board.scalar(f"validation/iou/{one.name}", one.iou, done)
        is_best = bool(self._every) and (self.best is None or scores.miou > self.best.miou)
        if is_best:
            network = {name: tensor.detach().cpu().clone() for name, tensor in segmenter.network.state_dict().items()}
            self.best = Best(done, scores.miou, network)
        much = ", the best so far" if is_best else f", the best is that of step {self.best.step}" if self.best else ""
        _log.info("step %d: mIoU %.4f on %s%s", done, scores.miou, self._source.path, much)
        return scores

    def state(self) -> dict[str, Any]:
        """For the checkpoint; empty if there is no best."""
        if self.best is None:
            return {}
        return {
            "step": self.best.step,
            "miou": self.best.miou,
            "network": self.best.network,
            "data": self._known(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. A best of another validation set is dropped: their scores do not compare."""
        if not state or not self._every:
            return
        if state["data"] != self._known():
            _log.info("%s: another validation set than before: the best is chosen anew", self._source.path)
            return
        network = {name: tensor.cpu() for name, tensor in state["network"].items()}
        self.best = Best(state["step"], state["miou"], network)

    @property
    def identity(self) -> dict[str, Any]:
        """Of its images, wherever they lie."""
        return self._source.identity

    def _known(self) -> str:
        return json.dumps(self.identity, sort_keys=True)
