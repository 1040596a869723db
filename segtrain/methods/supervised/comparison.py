"""What the other data are worth: a training on all of --data beside one on the first alone."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from segkit.documents import read_json
from segtrain.errors import RunError
from segtrain.files import write_whole

_log = logging.getLogger(__name__)


def compare(everything: Path, first_alone: Path) -> None:
    """Say both mIoU of the validation set, and write them to `comparison.json` beside the model of `everything`.

    One seed each: a difference of a point or two may be chance.
    """
    scores = {name: _scores(folder) for name, folder in (("all", everything), ("first_alone", first_alone))}
    miou = {name: told["miou"] for name, told in scores.items()}
    gain = None if None in miou.values() else miou["all"] - miou["first_alone"]
    write_whole(everything / "comparison.json", json.dumps({"miou": miou, "gain": gain}, indent=2).encode())
    if gain is None:
        _log.warning("compare: no pixel of the validation set is labelled, so nothing can be said")
        return
    told = f"mIoU {miou['all']:.4f} with all of --data, {miou['first_alone']:.4f} with the first alone (one seed each)"
    if gain > 0:
        _log.info("compare: %s: the others give %+.4f", told, gain)
    else:
        _log.warning("compare: %s: the others do not help, %+.4f", told, gain)


def _scores(folder: Path) -> dict[str, Any]:
    path = folder / "validation.json"
    if not path.is_file():
        raise RunError(f"{path}: not there: it was removed, or the training had no --validate; use another --out")
    told: dict[str, Any] = read_json(path, RunError)
    return told
