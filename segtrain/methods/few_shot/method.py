"""`segtrain few-shot`: the two stages."""

from __future__ import annotations

from pathlib import Path

from segtrain.methods.few_shot.base_learning import learn_base
from segtrain.methods.few_shot.config import BaseConfig, NovelConfig
from segtrain.methods.few_shot.novel_learning import learn_novel


def train(config: BaseConfig | NovelConfig) -> Path:
    """The stage whose settings these are; returns the model's folder. Raises SegtrainError."""
    return learn_base(config) if isinstance(config, BaseConfig) else learn_novel(config)
