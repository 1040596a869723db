"""Finds the data that ships with the package: recipes, vocabularies, card templates, the mini models.

In a checkout they are the top-level folders `pipelines/`, `prompts/` and `data_cards/`; in a wheel the same folders lie
under `synthgen/_shipped/`. Nothing else in the project knows which of the two it runs from.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder of shipped data called `name` (`pipelines`, `prompts`, `data_cards`).

    Raises FileNotFoundError if the installation is incomplete, which is a packaging bug.
    """
    for candidate in (_PACKAGE / "_shipped" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"shipped folder {name!r} is missing from this installation")
