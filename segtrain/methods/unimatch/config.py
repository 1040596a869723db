"""Settings of `segtrain unimatch`: those of self-training, with the constants of UniMatch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segtrain.self_training.config import SelfTrainingConfig

Share = Annotated[float, Field(ge=0, le=1)]


class Config(SelfTrainingConfig):
    """Learn from labelled pictures and, by consistency of a weak and a strong view, from unlabelled ones.

    segtrain unimatch --data my_labelled --unlabelled my_photos --out model
    """

    cut_mix: Share = Field(0.5, description="probability that a box of another crop is pasted in [UniMatch: 0.5]")
    confidence: Literal["none", "threshold", "share"] = Field(
        "threshold",
        description="weight of a pseudo-label: 1, 1 only if the teacher's probability is at least --threshold "
        "[UniMatch], or for all pixels of a crop the share of those that are [DACS]",
    )
    threshold: Share = Field(0.95, description="of the teacher's probability [UniMatch, SENSE: 0.95]")
    teacher_decay: float = Field(
        0.996,
        ge=0,
        lt=1,
        description="share of itself that the teacher keeps at an update [guess: 0.996, as recalled of UniMatch V2]",
    )


COMMANDS = {"unimatch": Config}
