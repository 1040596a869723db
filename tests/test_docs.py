"""What the documents name exists: files, functions, recipe keys, links; and what is measured is said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.documents import DOCS, FENCE, KEY, LINK, PAGES, PLACE, ROLE_OF, ROOT, SPAN, found, is_recipe_key, text_of

from synthgen.backends import ROLES
from synthgen.recipe import chosen_backends, read_recipe

# places


def names_in(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def why_missing(place: str) -> str:
    """What is wrong with `file` or `file:name` or `file:Class.name`; "" if it is there."""
    path, _, dotted = place.partition(":")
    if not (ROOT / path).exists():
        return f"no file {path}"
    node: Any = ast.parse((ROOT / path).read_text(encoding="utf-8")) if dotted else None
    for name in filter(None, dotted.split(".")):
        inside = dict(names_in(getattr(node, "body", [])))
        if name not in inside:
            return f"{path} has no {dotted}"
        node = inside[name]
    return ""


@pytest.mark.parametrize(("page", "place"), found(PLACE))
def test_a_place_that_a_document_names_exists(page: str, place: str) -> None:
    assert not why_missing(place), f"{page}: {why_missing(place)}"


def test_a_place_that_does_not_exist_is_noticed() -> None:
    assert not why_missing("synthgen/prompts/dedup.py:GreedyBank.offer")
    for wrong in (
        "synthgen/nothing.py",
        "synthgen/prompts/dedup.py:nothing",
        "synthgen/prompts/dedup.py:GreedyBank.nothing",
    ):
        assert why_missing(wrong)


def test_every_row_of_the_map_of_what_is_built_names_a_place() -> None:
    built = text_of("docs/PAPER_MAP.md").partition("## Not built yet")[0]
    rows = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in built.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    assert len(rows) > 30
    for row in rows:
        assert len(row) == 5, row
        if "where in the code" not in row[2]:
            assert any(PLACE.fullmatch(span) for span in SPAN.findall(row[2])), row
            assert row[4], row


# recipe keys


@pytest.mark.parametrize(("page", "key"), found(KEY))
def test_a_recipe_key_that_a_document_names_exists(page: str, key: str) -> None:
    assert key.endswith(".yaml") or is_recipe_key(key), f"{page}: no recipe key {key}"


def test_a_recipe_key_that_does_not_exist_is_noticed() -> None:
    assert set(ROLE_OF.values()) == set(ROLES) == set(chosen_backends(read_recipe("syn4seg-mini")))
    for right in (
        "refine.sabr.band_fraction",
        "support.drawn.size_px",
        "render.renderer.guidance",
        "refine.proposer.name",
    ):
        assert is_recipe_key(right)
    for wrong in (
        "refine.sabr.width",
        "refine.sabr.enabled.more",
        "render.renderer.guidence",
        "render.renderer.steps.more",
    ):
        assert not is_recipe_key(wrong)


# links


@pytest.mark.parametrize("page", [*PAGES, "docs/LOG.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if re.match(r"[a-z]+:|#", link):
            continue
        assert ((ROOT / page).parent / link.partition("#")[0]).exists(), f"{page}: {link}"


# what is measured, and what there is to read

BENCHMARKED = {"few-shot": "gfss", "flex-seg": "flexseg", "multi-shift": "cgaug", "clouds": "clouds", "iccld": "iccld"}


def is_measured(command: str) -> bool:
    """Whether results.csv has rows of `segtrain COMMAND`."""
    return re.search(rf"^{BENCHMARKED[command]}/", text_of("benchmarks/results.csv"), re.MULTILINE) is not None


@pytest.mark.parametrize("command", BENCHMARKED)
def test_not_measured_is_said_of_methods_without_a_row_alone(command: str) -> None:
    sections = [part for part in text_of("docs/PAPER_MAP.md").split("\n## ") if f"`segtrain {command}`" in part]
    papers = text_of("README.md").partition("## Papers\n")[2].partition("\n## ")[0]
    [line] = [line for line in papers.splitlines() if f"`segtrain {command}`" in line]
    said = [part for part in (line, sections[0]) if re.search("not measured|Nothing is measured", part)]
    assert bool(said) != is_measured(command), said or f"{command} has no row and nobody says so"


def test_the_readme_lists_every_page() -> None:
    listed = text_of("README.md").partition("## Files\n")[2].partition("\n## ")[0].split()
    assert {Path(page).name for page in DOCS} <= set(listed)
