"""Settings of `segtrain train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segtrain.config import TrainConfig
from segtrain.data.rare_classes import RareClassSettings, without_unused_rcs

Fraction = Annotated[float, Field(ge=0, le=1)]
_NEUTRAL = {"keep": 1.0, "first_share": 0.0, "others_first": 0.0}  # what changes nothing
_ONLY_FOR_SEVERAL = {**_NEUTRAL, "compare": False}  # what says nothing with one --data


class Config(RareClassSettings, TrainConfig):
    """Train a segmenter, or go on where a killed training of the same settings stopped.

    segtrain train --data photos --data made --ratio 1 --ratio 1 --out model
    segtrain train --data photos --data made --confidence weight --out model
    """

    confidence: Literal["ignore", "weight", "threshold"] = Field(
        "ignore",
        description="what the confidence of a dataset's labels (conf.png) does: nothing; weighs the loss of its "
        "pixels; leaves out those below --confidence-threshold. Labels without one are sure [ours]",
    )
    confidence_threshold: Fraction = Field(0.5, description="0..1, for --confidence threshold [guess]")
    keep: Fraction = Field(
        1.0,
        description="share of the pixels of every --data but the first, those of smallest loss, that are learnt from "
        "(noise-aware selection as of `multi-shift`, where the paper has 0.8); 1 = all",
    )
    first_share: float = Field(
        0.0, ge=0, lt=1, description="share of the steps, at the beginning, that learn from the first --data alone"
    )
    others_first: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, at the beginning, that learn from every --data but the first; the rest "
        "learns from the first alone, which so has the last word",
    )
    compare: bool = Field(
        False,
        description="train on the first --data alone as well, as many steps, in OUT/first-alone, and say what the "
        "others are worth on --validate",
    )

    @model_validator(mode="after")
    def _others_to_treat(self) -> Config:
        if len(self.data) == 1:
            for name, default in _ONLY_FOR_SEVERAL.items():
                if getattr(self, name) != default:
                    raise ValueError(f"{name} is about every --data but the first, and there is one --data")
        if self.first_share and self.others_first:
            raise ValueError("first_share and others_first: the training begins with one or the other, set one to 0")
        if self.compare and self.validation is None:
            raise ValueError("compare needs --validate, labelled images to compare on")
        return self

    def weight_settings(self) -> dict[str, Any]:
        """Without the comparison, a training of its own, and without what changes nothing as it is set."""
        settings = without_unused_rcs(super().weight_settings())
        del settings["compare"]
        for name, neutral in {"confidence": "ignore", **_NEUTRAL}.items():
            if settings[name] == neutral:
                del settings[name]
        if self.confidence != "threshold":
            del settings["confidence_threshold"]
        return settings

    def of_first_alone(self) -> Config:
        """The same training on the first --data, beside the model; without --classes, which may be for others alone:
        what the first one takes of them is to be given to it."""
        alone = {"data": self.data[:1], "ratio": (), "classes": None, "out": self.out / "first-alone"}
        return self.model_copy(update={**alone, **_ONLY_FOR_SEVERAL})
