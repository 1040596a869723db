"""Settings of `segtrain unimatch`: those of self-training, with the constants of UniMatch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from segtrain.self_training.config import SelfTrainingConfig

Share = Annotated[float, Field(ge=0, le=1)]


class Config(SelfTrainingConfig):
    """Learn from labelled pictures and, by consistency of a weak and a strong view, from unlabelled ones.

    segtrain unimatch --data my_labelled --unlabelled my_photos --out model
    segtrain unimatch --data few --unlabelled made --their-masks agree --out m
    """

    cut_mix: Share = Field(0.5, description="probability that a box of another crop is pasted in [UniMatch: 0.5]")
    confidence: Literal["none", "threshold", "share"] = Field(
        "threshold",
        description="weight of a pseudo-label: 1, 1 only if the teacher's probability is at least --threshold "
        "[UniMatch], or for all pixels of a crop the share of those that are [DACS]",
    )
    threshold: Share = Field(0.95, description="of the teacher's probability [UniMatch, SENSE: 0.95]")
    their_masks: Literal["ignore", "agree"] = Field(
        "ignore",
        description="masks of the unlabelled pictures, as a generated dataset has them: not read [SENSE]; or a pixel "
        "is learnt for sure where mask and teacher say the same class, and not at all where they do not [ours]",
    )
    teacher_decay: float = Field(
        0.996,
        ge=0,
        lt=1,
        description="share of itself that the teacher keeps at an update [guess: 0.996, as recalled of UniMatch V2]",
    )

    def weight_settings(self) -> dict[str, Any]:
        """Without what changes nothing as it is set."""
        settings = super().weight_settings()
        if self.their_masks == "ignore":
            del settings["their_masks"]
        return settings
