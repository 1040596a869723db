"""`segtrain unimatch`: the student's strong view is to agree with the teacher's sure answers on the weak one.

After UniMatch (Yang et al., CVPR 2023) with the moving average of UniMatch V2 (arXiv 2410.10777), as SENSE (ICML 2026,
arXiv 2605.19289) applies it to generated pictures. All of it is of `segtrain.self_training`; here are the presets. One
strong view a picture, no feature dropout: SENSE's form.
"""

from __future__ import annotations

from pathlib import Path

from segtrain.data.joint import Views
from segtrain.methods.unimatch.config import Config
from segtrain.self_training.method import Opened, SelfTraining, opened, train_with
from segtrain.self_training.pseudo_labels import PseudoLabels, agreed


def train(config: Config) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError."""
    data = opened(config, masks=config.their_masks == "agree")
    return train_with(UniMatch(data, config), data, config)


class UniMatch(SelfTraining):
    """Consistency, and masks of the unlabelled pictures where the teacher agrees with them."""

    def __init__(self, opened: Opened, config: Config) -> None:
        super().__init__(opened, config)
        self._listens = config.their_masks == "agree"

    def heard(self, teacher: PseudoLabels, views: Views) -> PseudoLabels:
        return agreed(teacher, views.said.long()) if self._listens else teacher
