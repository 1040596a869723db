"""The page in a real browser. Skipped, and says so, where there is none: set SYNTHGEN_CHROMIUM or install chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from synthgen.report.page import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("SYNTHGEN_CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason=f"NO BROWSER: none of {', '.join(NAMES)} here and SYNTHGEN_CHROMIUM is not set; page not opened",
)


def after_scripts(page: Path, script: str = "") -> tuple[str, str]:
    """(DOM after the scripts have run, console)."""
    assert BROWSER is not None
    opened = page.with_name("opened.html")
    opened.write_text(
        page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8"
    )
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    command = [BROWSER, *options, f"--user-data-dir={page.parent / 'profile'}", opened.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_scripts_run_and_filters_filter(tmp_path: Path, rows_run: Callable[..., Path]) -> None:
    page = write_report(
        rows_run(tmp_path, 40, prompt=lambda i: f"<img src=x onerror=\"document.title='taken'\"> {i}"),
        tmp_path / "page.html",
    ).path
    dom, console = after_scripts(page)
    assert console == ""
    assert 'data-ready="yes"' in dom and "<title>tiny - synthgen report</title>" in dom
    gallery = dom[dom.index('id="cards"') : dom.index('id="more"')]
    assert gallery.count('class="mask"') == 40 and gallery.count("data:image/png") == 40
    assert dom[dom.index('<svg id="map"') :].count("<circle") == 44
    choose = (
        "const s = document.getElementById('outcome'); s.value = 'class_absent'; s.dispatchEvent(new Event('input'));"
    )
    dom, console = after_scripts(page, choose)
    assert console == ""
    assert dom[dom.index('id="cards"') : dom.index('id="more"')].count('class="mask"') == 4 and "4 match" in dom
    off = (
        "const m = document.getElementById('step'); m.value = 0; m.dispatchEvent(new Event('input')); "
        "document.querySelector('.card').click();"
    )
    dom, _ = after_scripts(page, off)
    assert len(re.findall(r'<img alt="" class="mask"[^>]* hidden=""', dom)) >= 40
    assert re.search(r'<dialog id="large"[^>]* open=""', dom)


def test_the_map_can_be_walked_without_a_mouse(tmp_path: Path, rows_run: Callable[..., Path]) -> None:
    page = write_report(rows_run(tmp_path, 40), tmp_path / "page.html").path
    dom, _ = after_scripts(page)
    assert re.search(r'<p id="map-told"[^>]*>&nbsp;</p>', dom)
    press = (
        "const m = document.getElementById('map'); m.focus(); document.title = document.activeElement.id; "
        "const told = new Set();"
    )
    press += "const press = (key) => { m.dispatchEvent(new KeyboardEvent('keydown', {key}));"
    press += " told.add(document.getElementById('map-told').textContent); };"
    press += "for (let i = 0; i < 100; i++) press('ArrowLeft'); for (let i = 0; i < 100; i++) press('ArrowRight');"
    press += (
        "document.documentElement.dataset.told = told.size; document.documentElement.dataset.last = [...told].pop();"
    )
    dom, console = after_scripts(page, press)
    assert console == "" and "<title>map</title>" in dom
    found = re.search(r'data-told="(\d+)"', dom)
    assert found and int(found[1]) > 10, "arrow keys went through the points and told of each"
    assert re.search(r'<p id="map-told"[^>]*>\w+: a photo of', dom)


def test_no_text_is_wider_than_a_telephone(tmp_path: Path, rows_run: Callable[..., Path]) -> None:
    page = write_report(rows_run(tmp_path, 40, prompt=lambda i: f"{'word ' * 40}{i}"), tmp_path / "page.html").path
    widths = "document.body.style.width = '400px';"
    widths += (
        "const wide = [...document.querySelectorAll('main > section')].filter((s) => s.scrollWidth > "
        "401).map((s) => s.id);"
    )
    widths += "document.documentElement.dataset.wide = wide.join(' ');"
    dom, _ = after_scripts(page, widths)
    assert 'data-wide=""' in dom, re.search(r'data-wide="[^"]*"', dom)
