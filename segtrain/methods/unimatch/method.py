"""`segtrain unimatch`: the student's strong view is to agree with the teacher's sure answers on the weak one.

After UniMatch (Yang et al., CVPR 2023) with the moving average of UniMatch V2 (arXiv 2410.10777), as SENSE (ICML 2026,
arXiv 2605.19289) applies it to generated pictures. All of it is of `segtrain.self_training`; here are the presets. One
strong view a picture, no feature dropout: SENSE's form.
"""

from __future__ import annotations

from pathlib import Path

from segtrain.methods.unimatch.config import Config
from segtrain.self_training.method import SelfTraining, opened, train_with


def train(config: Config) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError."""
    data = opened(config)
    return train_with(SelfTraining(data, config), data, config)
