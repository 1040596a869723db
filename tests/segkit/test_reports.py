"""Where a report may be written, and how its page is filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest

from segkit.reports import place_of, templates

MARK = "<!-- a report -->"


def test_the_default_place_is_beside_the_folder_and_a_report_may_be_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run.v1"
    run.mkdir()
    beside = tmp_path / "run.v1.report.html"
    assert place_of(run, None, MARK, "x", ValueError) == beside
    beside.write_text(f"<!doctype html>\n{MARK}\nold")
    assert place_of(run, None, MARK, "x", ValueError) == beside
    assert place_of(run, tmp_path / "new.html", MARK, "x", ValueError) == tmp_path / "new.html"


def test_nothing_foreign_is_taken_for_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late, other = tmp_path / "late.html", tmp_path / "other.html"
    late.write_text("x" * 200 + MARK)
    other.write_text("<!-- another report -->")
    for place in (tmp_path, late, other):
        with pytest.raises(ValueError, match=f"^{place}: exists and is no report of x; choose another name with --out"):
            place_of(tmp_path, place, MARK, "x", ValueError)

    def refuse(self: Path, *given: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"other.html: cannot be read \(Permission denied\); choose another name"):
        place_of(tmp_path, other, MARK, "x", ValueError)


def test_texts_are_escaped_and_missing_values_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("{% if name %}\n<b>{{ name }}</b>\n{% endif %}\n")
    page = templates(tmp_path).get_template("page.html")
    assert page.render(name="<script>") == "<b>&lt;script&gt;</b>\n"
    with pytest.raises(jinja2.UndefinedError):
        page.render()
