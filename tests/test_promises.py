"""Every promise of the README has a test that holds it, and that test exists and can fail."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_ROW = re.compile(r"^\| (?P<promise>[A-Z][^|]+\.) \| (?P<tests>`.+`) \|$", re.MULTILINE)


def promised() -> list[str]:
    """The bold words of the README's section."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What you can rely on\n")[2]
    return re.findall(r"^- \*\*(.+?)\*\*", section.partition("\n## ")[0], re.MULTILINE)


def held() -> dict[str, list[str]]:
    """Promise -> its tests, by the page."""
    page = (ROOT / "docs" / "PROMISES.md").read_text(encoding="utf-8")
    return {row["promise"]: re.findall(r"`([^`]+)`", row["tests"]) for row in _ROW.finditer(page)}


def test_every_promise_has_its_tests_and_none_stands_there_alone() -> None:
    assert len(promised()) >= 14
    assert promised() == list(held()), "the same promises in the same order"


@pytest.mark.parametrize("test", sorted({test for tests in held().values() for test in tests}))
def test_the_test_is_there_and_asks_something(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    asked = {
        node.func.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    calls = {
        node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(function))
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert asserts or "raises" in asked or calls & own, "a test that asks nothing cannot fail"
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    assert not [mark for mark in marks if "xfail" in mark or mark == "pytest.mark.skip"]
