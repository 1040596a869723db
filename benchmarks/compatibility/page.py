"""Runs each check in the first Python that has its tool, and writes docs/COMPATIBILITY.md.

A tool whose pins do not go with ours can live in an environment of its own: `--with` names its Python, which must find
synthgen too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from benchmarks.compatibility import exports, marks, shards, trainers
from benchmarks.compatibility.checks import CHECKS, Made, make
from synthgen.export.catalogue import available, find

PAGE = Path(__file__).parents[2] / "docs" / "COMPATIBILITY.md"
MODULES = (shards, marks, exports, trainers)
"""Importing them fills CHECKS; the page has their rows in this order."""

NOT_RUN = {
    "detectron2_loader": "not on the package index (it installs from its repository only); the rules of its "
    "loader are checked with Pillow, below",
    "fiftyone_importer": "its importer's rules are checked with Pillow, below",
    "mmseg_loader": "its loader's rules are checked with Pillow, below",
    "dali_reader": "the offsets are checked without it, below",
}


def version(package: str) -> str:
    return metadata.version(package) if package else "-"


def is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(CHECKS[name].module) is not None
    except ModuleNotFoundError:  # of a module with a dot, if its package is not there
        return False


def run_check(name: str, made: Made) -> str:
    """The result in words; "differs: ..." where a comparison failed."""
    try:
        return CHECKS[name].run(made)
    except AssertionError as error:
        return f"**differs**: {error}"


def row(name: str, scratch: Path, made: Made, others: list[str]) -> tuple[str, str]:
    """(version and where, result) of one check, by the first Python that has the tool."""
    entry = CHECKS[name]
    if is_installed(name):
        return version(entry.package), run_check(name, made)
    for python in others:
        done = subprocess.run(
            [python, "-m", "benchmarks.compatibility", "--only", name, str(scratch)],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode == 3:
            continue
        if done.returncode != 0:
            return "-", f"**not run**: {(done.stderr.splitlines() or ['died'])[-1]}"
        found, told = json.loads(done.stdout.splitlines()[-1])
        return f"{found} (own environment)", told
    return "-", f"not run: {NOT_RUN.get(name, 'not installed')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="PYTHON",
        help="Python of another environment that has more tools; repeatable",
    )
    parser.add_argument("--only", nargs=2, metavar=("CHECK", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        name, folder = arguments.only
        if not is_installed(name):
            sys.exit(3)
        made = Made(Path(folder) / "objects/dataset", Path(folder) / "streets/dataset", Path(folder) / "exports")
        print(json.dumps([version(CHECKS[name].package), run_check(name, made)]))
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lines = ["| tool | version | opened | result |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as scratch:
        made = make(Path(scratch))
        ordered = [
            (name, entry)
            for module in MODULES
            for name, entry in CHECKS.items()
            if entry.run.__module__ == module.__name__
        ]
        for name, entry in ordered:
            found, told = row(name, Path(scratch), made, arguments.others)
            lines.append(f"| {entry.tool} | {found} | {entry.opened} | {told} |")
            print(lines[-1], flush=True)
    losses = [f"| `{name}` | {find(name).LOSS or 'nothing'} |" for name in available()]
    PAGE.write_text(_page(lines, losses), encoding="utf-8")


def _page(table: list[str], losses: list[str]) -> str:
    return "\n".join(
        [
            "# What opens our datasets",
            "",
            "Written by `python -m benchmarks.compatibility`. Each row opened every sample of a small packed "
            "dataset (254 and 255 in the masks,",
            "two splits, several shards) or of an export of it, and compared pixels, ids and values with what "
            "the shards hold. A tool whose pins",
            "do not go with ours was run in an environment of its own (`--with PYTHON`, which must find synthgen too).",
            "",
            *table,
            "",
            "Known traps of the tools themselves:",
            "",
            "- mlcroissant keeps what it unpacks under the tar's name alone: after one dataset another one's "
            "`train-000000.tar` is not unpacked.",
            "  Empty its cache folder between two local datasets.",
            "",
            "## What an export does not carry",
            "",
            "| format | lost |",
            "|---|---|",
            *losses,
            "",
            f"Python {sys.version_info.major}.{sys.version_info.minor}.",
            "",
        ]
    )
