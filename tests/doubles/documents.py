"""The documents in parts: fences, code spans, lines of shell; and what is a place or a recipe key."""

from __future__ import annotations

import functools
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from synthgen.backends import available, find
from synthgen.recipe import Recipe
from synthgen.settings import Backend

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "CHANGELOG.md", *(page for page in DOCS if page != "docs/LOG.md"))  # a log may name what is gone
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PLACE = re.compile(
    r"(?:synthgen|segtrain|segkit|tests|docs|benchmarks|prompts|pipelines|data_cards)/[\w./-]*(?::[\w.]+)?"
)
KEY = re.compile(rf"(?:{'|'.join(Recipe.model_fields)})(?:\.[a-z0-9_]+)+")


@functools.cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fences(page: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(page)) if kind == language]


def spans(page: str) -> list[str]:
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text_of(page)))]


def found(pattern: re.Pattern[str]) -> list[Any]:
    """(page, span) of every code span that is such a thing as a whole."""
    return [
        pytest.param(page, span, id=f"{Path(page).stem}-{span}")
        for page in PAGES
        for span in dict.fromkeys(spans(page))
        if pattern.fullmatch(span)
    ]


# recipe keys

ROLE_OF = {
    "prompts.source": "prompt_source",
    "prompts.embedder": "text_encoder",
    "render.compose": "composer",
    "render.renderer": "renderer",
    "refine.features": "feature_extractor",
    "refine.proposer": "proposer",
    "refine.mask_decoder": "mask_decoder",
    "filter.scorer": "image_scorer",
}


def is_recipe_key(key: str) -> bool:
    """Whether the recipe has the key; below a backend, whether any shipped backend of that role has the option."""
    section: Any = Recipe
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if section is Backend:
            options = [
                find(role, name).Options for role in [ROLE_OF[".".join(parts[:depth])]] for name in available(role)
            ]
            return len(parts) == depth + 1 and (part == "name" or any(part in each.model_fields for each in options))
        if not (isinstance(section, type) and issubclass(section, BaseModel)) or part not in section.model_fields:
            return False
        kind = section.model_fields[part].annotation
        section = next(
            (each for each in typing.get_args(kind) if isinstance(each, type) and issubclass(each, BaseModel)), kind
        )
    return True


def shell_lines(page: str) -> list[str]:
    """Lines of every shell block; one that ends in a backslash goes on in the next."""
    return [line for block in fences(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
