"""A report is one HTML file beside what it is about: no network, nothing in it trusted, never written over a file that
is something else."""

from __future__ import annotations

from pathlib import Path

import jinja2

_HEAD_BYTES = 200  # in which a report bears its mark


def place_of(run: Path, out: Path | None, mark: str, program: str, error: type[Exception]) -> Path:
    """Where the report of the folder `run` goes: `out`, by default `<run>.report.html` beside the folder, which holds
    nothing foreign.

    Raises `error` if a folder is there, a file without `mark` in its first bytes, or one that cannot be read.
    """
    path = out or run.resolve().with_name(f"{run.resolve().name}.report.html")
    if path.is_dir() or (path.exists() and not _bears(path, mark, error)):
        raise error(f"{path}: exists and is no report of {program}; choose another name with --out")
    return path


def _bears(path: Path, mark: str, error: type[Exception]) -> bool:
    try:
        with path.open("rb") as file:
            return mark.encode() in file.read(_HEAD_BYTES)
    except OSError as failed:
        raise error(f"{path}: cannot be read ({failed.strerror or failed}); choose another name with --out") from failed


def templates(folder: Path) -> jinja2.Environment:
    """Of a folder: every text is escaped, a value that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
