"""What APE did to each class: how much APF kept, and what APR made of the rest.

Syn4Seg's risk is circularity: the network that proposes masks may later learn from its own mistakes. A class of which
nearly nothing is kept, or whose freed pixels nearly all come back as the same class, tells of it. Every unit of the
stage writes its counts beside its masks; a report adds them up. A file is named after the first row that it counts: a
unit whose rows are tried one by one has several.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.labels import IGNORE
from synthgen.errors import RunError
from synthgen.refine.ape import Filtered
from synthgen.refine.calibration import recorded
from synthgen.runner import StageRun

WORST = 3
"""So many classes of the lowest keep rate are named in a run's summary."""
_SUFFIX = "_class_rates.json"


@dataclasses.dataclass(slots=True)
class ClassCounts:
    """Counts of one class over images; the background counts as no class."""

    num_regions: int = 0  # that the proposer gave
    num_kept: int = 0  # of them, by APF
    best_similarity: float = -1.0  # highest s(r) of a region, kept or not: at a lambda_apf above it nothing is kept
    coarse_px: int = 0
    freed_px: int = 0  # of coarse_px, by APF
    filled_px: int = 0  # of freed_px, labelled again by APR with any class
    returned_px: int = 0  # of filled_px, labelled again with the same class

    @property
    def keep_rate(self) -> float:
        """Share of regions that APF kept; 1 if there was none."""
        return self.num_kept / self.num_regions if self.num_regions else 1.0

    @property
    def fill_rate(self) -> float:
        """Share of freed pixels that APR labelled again; 1 if none was freed."""
        return self.filled_px / self.freed_px if self.freed_px else 1.0

    @property
    def return_rate(self) -> float:
        """Share of freed pixels that APR gave back to the class that APF had taken them from; 0 if none was freed."""
        return self.returned_px / self.freed_px if self.freed_px else 0.0

    def add(self, other: ClassCounts) -> None:
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, max(mine, theirs) if field.name == "best_similarity" else mine + theirs)


Rates = dict[int, ClassCounts]
"""By class id."""


def count_image(coarse: np.ndarray, filtered: Filtered, relabelled: np.ndarray) -> Rates:
    """The counts of one image from its masks (H, W) uint8 before APF, after APF (with its regions) and after APR."""
    rates: Rates = {}
    freed = (filtered.mask == IGNORE) & (coarse != IGNORE)
    for k in np.unique(filtered.class_ids).tolist():
        own, of_class = filtered.class_ids == k, coarse == k
        taken = relabelled[freed & of_class]
        rates[int(k)] = ClassCounts(
            num_regions=int(own.sum()),
            num_kept=int(filtered.kept[own].sum()),
            best_similarity=max(-1.0, round(float(filtered.scores[own].max()), 4)),
            coarse_px=int(of_class.sum()),
            freed_px=int(taken.size),
            filled_px=int((taken != IGNORE).sum()),
            returned_px=int((taken == k).sum()),
        )
    return rates


def add_rates(rates: Iterable[Rates]) -> Rates:
    """The sum, sorted by class id."""
    total: Rates = {}
    for each in rates:
        for k, counts in each.items():
            total.setdefault(k, ClassCounts()).add(counts)
    return dict(sorted(total.items()))


def write_rates(rates: Rates, folder: Path, key: str) -> None:
    """Into a unit's folder; `key` is that of the first row. The same rates give the same bytes."""
    body = {str(k): dataclasses.asdict(counts) for k, counts in rates.items()}
    (folder / f"{key}{_SUFFIX}").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def rates_of(stage: StageRun) -> Rates:
    """The sum over the finished units of the stage `refine`; empty where APF is off: it has judged no region then."""
    settings = stage.claim().get("settings", {}) if stage.is_claimed() else {}
    if not settings.get("refine", {}).get("apf", {}).get("enabled", True):
        return {}
    return read_rates(stage.folder / unit.name for unit in stage.units() if stage.is_done(unit))


def rates_text(stage: StageRun) -> list[str]:
    """Lines for a run's summary:

    keep and fill rate over all classes, the classes that fared worst, and each class of which nothing was kept.
    """
    rates = rates_of(stage)
    if not rates:
        return []
    settings = stage.claim()["settings"]
    names = {k: settings["labels"]["names"].get(str(k), str(k)) for k in rates}
    found = recorded(stage)
    least = settings["refine"]["apf"]["lambda_apf"] if found is None else found.thresholds.lambda_apf
    total = ClassCounts()
    for counts in rates.values():
        total.add(counts)
    worst = sorted(rates, key=lambda k: (rates[k].keep_rate, k))[:WORST]
    lines = [
        f"masks: APF kept {total.keep_rate:.0%} of {total.num_regions} regions (least: "
        + ", ".join(f"{names[k]} {rates[k].keep_rate:.0%} of {rates[k].num_regions}" for k in worst)
        + "); "
        + (
            f"of the pixels that it freed APR labelled {total.fill_rate:.0%} again, {total.return_rate:.0%} as before"
            if total.freed_px
            else "it freed no pixel"
        )
    ]
    for k, counts in rates.items():
        if counts.num_kept:
            continue
        if counts.best_similarity >= least:  # then it was too small
            lines.append(
                f"masks: no region of class {names[k]!r} that is like it has refine.apf.min_region_px = "
                f"{settings['refine']['apf']['min_region_px']} pixels ({counts.num_regions} regions were freed): lower "
                "it, or make larger images"
            )
        else:
            lines.append(
                f"masks: every region of class {names[k]!r} was freed ({counts.num_regions} regions, the most "
                "similar at "
                f"{counts.best_similarity:.2f}; refine.apf.lambda_apf is {least}): lower it, or give support "
                "images that look more like them"
            )
    return lines


def read_rates(folders: Iterable[Path]) -> Rates:
    """The sum over units' folders; one without counts (made by an older version) adds nothing.

    Raises RunError for a damaged file.
    """
    return add_rates(_read(path) for folder in folders for path in sorted(folder.glob(f"*{_SUFFIX}")))


def _read(path: Path) -> Rates:
    try:
        body = read_json(path)
        return {int(k): ClassCounts(**counts) for k, counts in body.items()}
    except (InputError, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: is damaged ({error}); move the unit folder {path.parent} away and run the same command again"
        ) from error
