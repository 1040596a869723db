"""Puts the page of a training together and writes it: one file, no network, no script, nothing of it trusted.

Class names and file names come from anywhere: all texts go through jinja's escaping, and the page forbids itself every
connection.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.labels import LabelSpace, label_space_of
from segkit.networks.folder import read_config
from segkit.reports import place_of, templates
from segtrain.data.base_view import base_validation
from segtrain.data.sample import Sample
from segtrain.data.source import Source
from segtrain.errors import DataError, RunError
from segtrain.evaluate import open_validation, score
from segtrain.files import make_folder, write_whole
from segtrain.overlay import colours
from segtrain.report.curves import Curve, chosen, drawing, read_curves
from segtrain.report.way import pictures_of
from segtrain.report.worst import Worst, WorstPicture
from segtrain.segmenter import load_model

MARK = "<!-- segtrain report -->"
"""The second line of every report: what bears it may be replaced by a newer one."""
WORST = 12
_MOST_CLASSES = 40
_HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What came of it."""

    path: Path
    num_bytes: int
    num_worst: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


@dataclasses.dataclass(frozen=True, slots=True)
class _Judged:
    """`scores` in the form of `Scores.to_json`, with what they are of, and the worst pictures; all may be missing."""

    scores: dict[str, Any] | None
    scored_on: str
    worst: Sequence[WorstPicture] = ()
    why_not: str = ""


def write_report(
    run: Path,
    out: Path | None = None,
    *,
    data: Sequence[str] = (),
    best: bool = False,
    num_worst: int = WORST,
    device: str = "auto",
) -> Written:
    """Write the page of a training, finished or not; default place `<run>.report.html` beside its folder.

    A finished model is scored on `data`, by default on the validation set of the training, for classes, confusion and
    worst pictures; `best` takes the best weights in place of the last. Raises SegtrainError: if the folder is that of
    no training, if the data cannot be read, if `out` is a file that is no report or cannot be written.
    """
    path = place_of(run, out, MARK, "segtrain", RunError)
    if not (run / "settings.json").is_file():
        raise RunError(f"{run}: is not the folder of a training (no settings.json)")
    settings = read_json(run / "settings.json", RunError)
    space = label_space_of(settings.get("label_space"), str(run / "settings.json"))
    judged = _judged(run, data, best, num_worst, device)
    content = page(run, settings, space, read_curves(run), judged).encode()
    make_folder(path.parent)
    write_whole(path, content)
    return Written(path, len(content), len(judged.worst))


def _judged(run: Path, data: Sequence[str], best: bool, num_worst: int, device: str) -> _Judged:
    if not (run / "config.json").is_file():
        return _Judged(None, "", why_not="The training has not finished: there is no model to score yet.")
    if best and not (run / "best" / "config.json").is_file():
        raise RunError(f"{run}: has no best/ (a training keeps it with --validate and --validate-every)")
    told = read_json(run / "validation.json", RunError) if (run / "validation.json").is_file() else {}
    places = list(data) or ([told["data"]] if "data" in told else [])
    if not places:
        return _Judged(None, "", why_not="The training had no --validate: name labelled images with --data.")
    segmenter = load_model(run / "best" if best else run, device)
    try:
        sources = [_opened(run, place, segmenter.label_space) for place in places]
    except DataError as error:
        if data:
            raise
        raise DataError(f"{error}: it was the validation set; name where it is now with --data") from error
    worst = Worst(num_worst, segmenter.label_space)

    def see(sample: Sample, prediction: np.ndarray) -> None:
        worst.add(sample.key, sample.image, sample.mask, prediction)

    scores = score(segmenter, *sources, seen=see).to_json()
    return _Judged(scores, ", ".join(source.path.name for source in sources), worst.pictures)


def _opened(run: Path, place: str, space: LabelSpace) -> Source:
    """Labelled images as the training saw its validation set: of a few-shot base stage without the novel classes."""
    whole = read_config(run)[1].get("whole_label_space")
    if whole is None:
        return open_validation(place, space)
    return base_validation(place, label_space_of(whole, str(run / "config.json")), space)


def page(run: Path, settings: dict[str, Any], space: LabelSpace, curves: dict[str, Curve], judged: _Judged) -> str:
    """The HTML."""
    values = {
        "mark": MARK,
        "version": metadata.version("synthgen-seg"),
        "name": run.resolve().name,
        "facts": _facts(run, settings, curves, judged),
        "drawings": [drawing(curve) for curve in chosen(curves)],
        "scores": judged.scores,
        "scored_on": judged.scored_on,
        "no_scores": judged.why_not,
        "matrix": _matrix(judged.scores) if judged.scores else None,
        "worst": judged.worst,
        "way": pictures_of(run),
        "colours": colours(space).tolist(),
        "background": space.background,
        "percent": percent,
        "settings": json.dumps(settings, indent=2, ensure_ascii=False),
    }
    return templates(_HERE).get_template("page.html").render(values)


def percent(share: float | None, digits: int = 2) -> str:
    """`-` where there is nothing."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _facts(run: Path, settings: dict[str, Any], curves: dict[str, Curve], judged: _Judged) -> list[dict[str, str]]:
    """The boxes at the top."""
    planned = settings.get("steps", 0)
    loss, validation = curves.get("train/loss"), curves.get("validation/miou")
    done = loss.steps[-1] if loss else 0
    state = "finished" if (run / "config.json").is_file() else "not finished"
    facts = [{"name": "steps", "value": f"{done:,}", "more": f"of {planned:,}, {state}"}]
    if loss:
        facts.append(
            {"name": "training loss", "value": f"{loss.values[-1]:.4f}", "more": f"at first {loss.values[0]:.4f}"}
        )
    if judged.scores:
        more = f"foreground {percent(judged.scores['foreground_miou'])}"
        facts.append({"name": "mIoU, percent", "value": percent(judged.scores["miou"]), "more": more})
        more = f"boundary F {percent(judged.scores['boundary_f'])}"
        facts.append(
            {"name": "pixel accuracy, percent", "value": percent(judged.scores["pixel_accuracy"]), "more": more}
        )
    if validation and len(validation.values) > 1:
        miou = max(validation.values)
        step = validation.steps[validation.values.index(miou)]
        facts.append({"name": "best mIoU on the way, percent", "value": percent(miou), "more": f"at step {step:,}"})
    network = f"{settings.get('arch', '')} {settings.get('encoder', '')}".strip()
    if network:
        facts.append({"name": "network", "value": str(settings.get("arch")), "more": str(settings.get("encoder"))})
    return facts


def _matrix(scores: dict[str, Any]) -> dict[str, Any]:
    """Rows and columns of the classes that occur, at most `_MOST_CLASSES`: those with the most labelled pixels."""
    counts = np.array(scores["confusion"], dtype=np.int64)
    names = [one["name"] for one in scores["classes"]]
    present = [n for n in range(len(names)) if counts[n].sum() or counts[:, n].sum()]
    kept = sorted(sorted(present, key=lambda n: -int(counts[n].sum()))[:_MOST_CLASSES])
    rows = []
    for n in kept:
        total = int(counts[n].sum())
        cells = [
            {"pixels": int(counts[n, m]), "share": counts[n, m] / total if total else None, "is_hit": n == m}
            for m in kept
        ]
        rows.append({"name": names[n], "cells": cells})
    return {"names": [names[n] for n in kept], "rows": rows, "left_out": len(present) - len(kept)}
