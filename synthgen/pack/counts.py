"""What the runner knows about a finished run and the data card tells."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class ModelUse:
    """One set of weights that took part. Empty texts where nothing is known; the card then says so."""

    role: str  # as in synthgen.backends.ROLES, or "gate NAME"
    id: str
    revision: str = ""
    license: str = ""
    license_link: str = ""
    dataset_license: str = ""  # `license_name` of a dataset card, where the model's licence goes over to the images


@dataclasses.dataclass(frozen=True, slots=True)
class MaskRate:
    """What APE did to one class: shares 0..1."""

    class_id: int
    num_regions: int  # that the proposer gave
    kept: float  # of the regions, by APF
    filled: float | None  # of the pixels that APF freed: labelled again by APR, with any class; None if it freed none
    returned: float | None  # of the same: labelled again with the class that they were taken from


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the samples of a dataset."""

    pixels: Counter[int] = dataclasses.field(default_factory=Counter)  # id in the masks -> pixels, 255 too
    occurs: Counter[int] = dataclasses.field(default_factory=Counter)  # id -> samples that have it
    # class id -> samples made for it, 255 = for none
    made_for: Counter[int] = dataclasses.field(default_factory=Counter)
    key_lengths: set[int] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(frozen=True, slots=True)
class RunCounts:
    """Totals of a run by stage, in the order in which the stages ran.

    `seconds` is for reports: it stays out of the dataset, whose bytes must not depend on how fast or how
    often a run was started.
    """

    made: Mapping[str, int] = dataclasses.field(default_factory=dict)  # stage -> rows made
    # stage -> reason -> rows refused
    rejected: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)  # stage -> time spent in it
    models: tuple[ModelUse, ...] = ()
    cut_prompts: int = 0  # that are longer than the text encoder reads
    lambda_div: float | None = None  # that was chosen; None where the recipe says it
    compares_prompts: bool = True  # False where label maps are rendered, which are all kept
    calibrated: Mapping[str, float] = dataclasses.field(default_factory=dict)  # thresholds chosen from the support set
    mask_rates: tuple[MaskRate, ...] = ()  # by class id; classes of which the proposer gave a region
