"""The page as a file: whole HTML, nothing from outside, nothing of a prompt run as code, under its limit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from synthgen.errors import RunError, StorageError
from synthgen.images import read_mask, write_image
from synthgen.report.gallery import PICTURE_BYTES, choose, gallery
from synthgen.report.page import MARK, class_pixels, duration, figure, mask_rates, write_report
from synthgen.report.run_rows import KEPT, read_run

VOID = {"meta", "img", "input", "br", "link", "hr"}
EVIL = (
    "<script>document.title='taken'</script>",
    "</script><img src=x onerror=\"document.title='taken'\">",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }} & <b>",
)


class Parsed(HTMLParser):
    """Fails on tags that do not close as they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]} at line {self.getpos()[0]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def data(self) -> Any:
        return json.loads(next(text for tag, text in self.texts if tag == "script"))


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory, rows_run: Callable[..., Path]) -> str:
    folder = tmp_path_factory.mktemp("evil")
    run = rows_run(folder, 40, prompt=lambda i: f"{EVIL[i % 4]} {i}")
    return write_report(run, folder / "page.html").path.read_text(encoding="utf-8")


def test_html_is_whole_and_ids_are_unique(evil: str) -> None:
    parsed = Parsed(evil)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(attributes["href"])[1:] for tag, attributes in parsed.tags if tag == "a"}
    assert targets <= set(map(str, ids))
    labelled = {attributes["for"] for tag, attributes in parsed.tags if tag == "label" and "for" in attributes}
    assert labelled <= set(ids)
    assert all("alt" in attributes for tag, attributes in parsed.tags if tag == "img")


def test_nothing_comes_from_outside(evil: str) -> None:
    assert (
        "http:" not in evil
        and "https:" not in evil
        and "//" not in re.sub(r"^\s*//.*$|; // .*$|base64,[^\"]*", "", evil, flags=re.MULTILINE)
    )
    for tag, attributes in Parsed(evil).tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value)
    assert re.search(r"@import|url\(", evil) is None
    assert "default-src 'none'" in evil


def test_prompts_stay_text(evil: str) -> None:
    parsed = Parsed(evil)
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 2, "the data and the page's own"
    assert not [attributes for _, attributes in parsed.tags if any(name.startswith("on") for name in attributes)]
    prompts = {card["prompt"] for card in parsed.data()["cards"]}
    assert {text for text in EVIL if any(prompt.startswith(text) for prompt in prompts)} == set(EVIL)
    told = "".join(text for tag, text in parsed.texts if tag not in ("script", "style"))
    assert "{{ 7 * 7 }} & <b>" in told or any(text in told for text in EVIL)
    assert "49 &" not in told


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, rows_run: Callable[..., Path]) -> Path:
    return rows_run(tmp_path_factory.mktemp("large"), 10_000, size_px=48)


def test_ten_thousand_samples_stay_under_twenty_megabytes(large: Path, tmp_path: Path) -> None:
    written = write_report(large, tmp_path / "page.html")
    assert written.num_bytes == written.path.stat().st_size < 20_000_000
    assert (written.num_images, written.num_shown) == (10_000, 480)
    text = written.path.read_text(encoding="utf-8")
    assert "480 of 10,000 images" in text
    data = Parsed(text).data()
    classes = [card["class_id"] for card in data["cards"] if card["outcome"] == KEPT]
    assert [classes.count(i) for i in (1, 2, 3)] == [120, 120, 120]
    assert len([card for card in data["cards"] if card["outcome"] == "class_absent"]) == 120
    assert 2500 < len(data["points"]) <= 5000
    pictures = sum(
        len(card["image"]) + sum(len(mask) for mask in card["masks"] if isinstance(mask, str)) for card in data["cards"]
    )
    assert written.num_bytes - pictures + PICTURE_BYTES < 20_000_000, "larger pictures would not fit"


def test_pictures_never_pass_their_budget(large: Path) -> None:
    made = gallery(read_run(large), 300, picture_bytes=200_000)
    assert 0 < len(made.cards) < 300 and made.num_left_out == 300 - len(made.cards)
    assert (
        sum(
            len(card["image"]) + sum(len(mask) for mask in card["masks"] if isinstance(mask, str))
            for card in made.cards
        )
        <= 200_000
    )


def test_choice_does_not_depend_on_the_order_of_rows(large: Path) -> None:
    images = read_run(large).images
    assert [row["key"] for row in choose(images, 50)] == [row["key"] for row in choose(images[::-1], 50)]
    assert len(choose(images, 10**6)) == len(images)
    assert choose([], 5) == []


def test_a_real_run_tells_what_its_folder_says(finished: Path, tmp_path: Path) -> None:
    written = write_report(finished, tmp_path / "page.html")
    parsed, found = Parsed(written.path.read_text(encoding="utf-8")), read_run(finished)
    cards = parsed.data()["cards"]
    assert {card["key"] for card in cards} == {row["key"] for row in found.images}
    kept = {card["key"] for card in cards if card["outcome"] == KEPT}
    assert kept == {key for shard in found.shards for key in shard["parents"]}
    assert {card["key"] for card in cards if card["shard"]} == kept
    text = " ".join(text for tag, text in parsed.texts if tag not in ("script", "style"))
    for stage in found.stages:
        for refusal in stage.rejected:
            assert refusal.reason.replace("_", " ") in text
    for label in found.space.labels:
        assert label.name in text
    for row in found.images:
        card = next(card for card in cards if card["key"] == row["key"])
        mask = read_mask(finished / row["mask"])
        assert set(card["shows"]) == {label.id for label in found.space.labels if (mask == label.id).mean() >= 0.005}
        assert (int(card["seed"]), card["scores"]["class_fraction"]) == (row["seed"], row["class_fraction"])


def test_what_the_adaptive_steps_did_to_each_class(finished: Path, tmp_path: Path) -> None:
    unit = next(path.parent for path in (finished / "refine").rglob("*_class_rates.json"))
    for path in (finished / "refine").rglob("*_class_rates.json"):
        path.unlink()
    counts = {
        "num_regions": 8,
        "num_kept": 6,
        "best_similarity": 0.75,
        "coarse_px": 1000,
        "freed_px": 200,
        "filled_px": 50,
        "returned_px": 10,
    }
    worse = counts | {"num_kept": 1, "freed_px": 0}
    disc, square = (label.id for label in read_run(finished).space.labels if label.name in ("disc", "square"))
    (unit / "x_class_rates.json").write_text(json.dumps({str(disc): counts, str(square): worse}))
    shown = [(label.id, rates.keep_rate) for label, rates in mask_rates(read_run(finished))]
    assert shown == [(square, 1 / 8), (disc, 6 / 8)], "the class of which least was kept comes first"
    section = (
        write_report(finished, tmp_path / "page.html")
        .path.read_text(encoding="utf-8")
        .partition('id="masks"')[2]
        .partition("</section>")[0]
    )
    cells = re.findall(r'<td class="n">(.*?)</td>', section)
    assert cells == ["1 of 8", "0.75", "0 of 1,000", "-", "-", "6 of 8", "0.75", "200 of 1,000", "25 %", "5 %"]


def test_unfinished_runs_have_a_report(cli: Callable[..., Any], tiny: Callable[..., Path], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    for verb in ("prompts", "render", "refine"):
        assert cli(verb, tiny()).exit_code == 0
        done = cli("report", run, "--out", tmp_path / "page.html")
        assert done.exit_code == 0, done.output
        Parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "not judged yet" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_class_pixels_come_from_the_gallery_until_there_is_a_dataset(finished: Path, tmp_path: Path) -> None:
    packed = class_pixels(read_run(finished), gallery(read_run(finished), 480))
    (finished / "dataset" / "index.json").unlink()
    found = read_run(finished)
    rows = class_pixels(found, gallery(found, 480))
    assert [(row["label"].id, row["pixels"], row["samples"]) for row in rows] == [
        (row["label"].id, row["pixels"], row["samples"]) for row in packed
    ]
    text = write_report(finished, tmp_path / "page.html").path.read_text(encoding="utf-8")
    assert "there is no finished dataset yet" in text


def test_report_lies_beside_the_run_and_the_run_stays_usable(
    cli: Callable[..., Any], tiny: Callable[..., Path], finished: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    done = cli("report", finished)
    assert done.exit_code == 0, done.output
    page = finished.with_name("tiny.report.html")
    assert page.read_text(encoding="utf-8").splitlines()[1] == MARK and str(page) in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert cli("report", finished).exit_code == 0, "a report may be replaced"
    assert cli("run", tiny()).exit_code == 0


def test_what_is_no_report_is_never_overwritten(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.html").write_text("mine")
    for place in (tmp_path / "thesis.html", tmp_path):
        with pytest.raises(StorageError, match="exists and is no report of synthgen; choose another name with --out"):
            write_report(finished, place)
    assert (tmp_path / "thesis.html").read_text() == "mine"


def test_damage_is_told_in_one_line(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder \(no recipe.lock.yaml\)"):
        write_report(tmp_path)
    image = next((finished / "render").rglob("*.png"))
    image.write_bytes(b"no picture")
    assert f"Left out: {image.relative_to(finished)}" in write_report(finished, tmp_path / "page.html").path.read_text(
        encoding="utf-8"
    )
    manifest = finished / "score" / "00000" / "manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:80])
    with pytest.raises(RunError, match=r"manifest\.parquet: is damaged .* move the unit folder") as error:
        write_report(finished, tmp_path / "page.html")
    assert "\n" not in str(error.value)


def test_a_run_from_before_a_column_is_reported_with_its_default(finished: Path, tmp_path: Path) -> None:
    for stage, names in (("prompts", ["cut"]), ("render", ["original", "attempts"])):
        for manifest in (finished / stage).rglob("manifest.parquet"):
            table = pq.read_table(manifest)
            pq.write_table(table.drop_columns(names), manifest)
    rows = read_run(finished)
    assert rows.prompts and {row["cut"] for row in rows.prompts} == {""}
    assert {(row["original"], row["attempts"]) for row in rows.images} == {("", 1)}
    write_report(finished, tmp_path / "page.html")


def test_numbers_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0, 4.24, 59.9, 200, 18_120)] == [
        "0.0 s",
        "4.2 s",
        "59.9 s",
        "3 min 20 s",
        "5 h 02 min",
    ]
    assert [figure(v) for v in (25_467.3, 100.4, 3.14159, 0.00885, 0.0000393)] == [
        "25,467",
        "100",
        "3.14",
        "0.00885",
        "0.000039",
    ]


def test_a_set_that_is_wanted_without_labels_shows_its_pictures(finished: Path) -> None:
    """What `clouds` makes: 255 everywhere, which hatched would hide them all."""
    assert all(card["masks"] for card in gallery(read_run(finished), 480).cards)
    for row in read_run(finished).images:
        if row.get("mask"):
            shape = read_mask(finished / row["mask"]).shape
            write_image(np.full(shape, 255, dtype=np.uint8), finished / row["mask"])
    found = gallery(read_run(finished), 480)
    assert found.cards and not any(card["masks"] for card in found.cards)
    one = next(row for row in read_run(finished).images if row.get("mask") and row["outcome"] == KEPT)
    partly = read_mask(finished / one["mask"]).copy()
    partly[0, 0] = 0
    write_image(partly, finished / one["mask"])
    assert all(card["masks"] for card in gallery(read_run(finished), 480).cards), "one label, and the rest is void"
