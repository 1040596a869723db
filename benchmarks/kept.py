"""`python -m benchmarks.kept save|load NAME`: the scores of single trainings, in the repository and in scratch.

`benchmarks/scores/NAME/TRAINING.json` holds what `segtrain eval --json` said of each training behind a table, the words
of its command, the machine and the seconds: every mean, spread and paired difference of the table can be made again
from them. After `load`, `make claims-NAME` trains only what is missing, so a table of many hours can be measured in
pieces; without it everything is trained anew.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.row import SCRATCH

KEPT = Path(__file__).parent / "scores"


def main(argv: list[str] | None = None) -> None:
    """Copy what the other side lacks or has in another form."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept", description=__doc__)
    parser.add_argument("action", choices=("save", "load"))
    parser.add_argument("name", help="flexseg, cgaug, clouds, iccld, use, loop, gfss")
    asked = parser.parse_args(argv)
    scratch, kept = SCRATCH / asked.name / "scores", KEPT / asked.name
    source, target = (scratch, kept) if asked.action == "save" else (kept, scratch)
    if not source.is_dir():
        parser.error(f"{source}: no such folder, so nothing to {asked.action}")
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(source.glob("*.json"))
    for path in paths:
        shutil.copyfile(path, target / path.name)
    print(f"{len(paths)} trainings in {target}")


if __name__ == "__main__":
    main()
