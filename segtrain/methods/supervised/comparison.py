"""What the other data are worth: a training on all of --data beside one on the first alone."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from segkit.documents import read_json
from segtrain.errors import RunError
from segtrain.evaluate import open_validation, score
from segtrain.files import write_whole
from segtrain.segmenter import load_model

_log = logging.getLogger(__name__)


def compare(everything: Path, first_alone: Path, validation: str, device: str = "auto") -> None:
    """Say both mIoU on the validation set, and write them to `comparison.json` beside the model of `everything`.

    One seed each: a difference of a point or two may be chance. Raises SegtrainError.
    """
    miou = {
        name: _miou(folder, validation, device) for name, folder in (("all", everything), ("first_alone", first_alone))
    }
    with_all, alone = miou["all"], miou["first_alone"]
    gain = None if with_all is None or alone is None else with_all - alone
    write_whole(everything / "comparison.json", json.dumps({"miou": miou, "gain": gain}, indent=2).encode())
    if gain is None:
        _log.warning("compare: no pixel of the validation set is labelled, so nothing can be said")
        return
    told = f"mIoU {miou['all']:.4f} with all of --data, {miou['first_alone']:.4f} with the first alone (one seed each)"
    if gain > 0:
        _log.info("compare: %s: the others give %+.4f", told, gain)
    else:
        _log.warning("compare: %s: the others do not help, %+.4f", told, gain)


def _miou(folder: Path, validation: str, device: str) -> float | None:
    """What the training has written if it is of this very set; else scored now: one that had finished before it was to
    be compared was scored on no set, or on that of its time."""
    path = folder / "validation.json"
    told = read_json(path, RunError) if path.is_file() else {}
    segmenter = load_model(folder, device)
    source = open_validation(validation, segmenter.label_space)
    if isinstance(told, dict) and told.get("identity") == source.identity:
        miou: float | None = told.get("miou")
        return miou
    _log.info("compare: %s is not scored on %s yet: it is scored now", folder, validation)
    return score(segmenter, source).miou
