"""`segtrain report`: one page of a training, finished or not, that needs nothing but a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from doubles.killed_training import Killed, kill_at
from PIL import Image
from typer.testing import CliRunner, Result

from segtrain.cli import app
from segtrain.evaluate import evaluate
from segtrain.methods.supervised.method import train
from segtrain.overlay import overlay
from segtrain.report.curves import Curve, chosen, drawing, read_curves
from segtrain.report.worst import Worst
from segtrain.segmenter import load_model

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def of(self, tag: str, name: str = "") -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and (not name or name in (a.get("class") or "").split())]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *(str(a) for a in arguments)])


@pytest.fixture
def trained(settings, tmp_path: Path, write_folder, pairs) -> Path:
    """A training whose second class has a hostile name, with scores on the way."""
    classes = ({"id": 0, "name": "ground", "colour": [9, 9, 9]}, {"id": 5, "name": HOSTILE, "colour": [200, 0, 0]})
    data = str(write_folder(tmp_path / "data", pairs(4, (40, 48)), classes=classes))
    return train(settings(data=[data], validation=data, validate_every=2, log_every=1, learning_rate=0.03))


def test_the_page_of_a_training_shows_what_its_files_say(trained: Path, tmp_path: Path) -> None:
    result = run(trained, "--device", "cpu", "--worst", 3, "--json")
    assert result.exit_code == 0, result.output
    path = tmp_path / "model.report.html"
    assert json.loads(result.stdout) == {"path": str(path), "num_bytes": path.stat().st_size, "num_worst": 3}
    text = path.read_text()
    page = Page(text)
    scores = evaluate(trained, str(tmp_path / "data"), device="cpu")
    for one in scores.classes:
        assert one.name in page.texts and f"{100 * (one.iou or 0):.2f}" in page.texts
    rows = np.array(scores.confusion)[:, :-1]
    shares = [f"{100 * share:.1f}" for share in (rows / rows.sum(axis=1, keepdims=True)).ravel()]
    cells = [data for tag, data in cells_of(text)]
    assert cells == shares
    labels = [svg["aria-label"] for svg in page.of("svg")]
    assert [label.split(",")[0] for label in labels if label][:2] == ["training loss", "mIoU on the validation set"]
    pictures = page.of("img")
    assert len(pictures) == 9 and all((p["src"] or "").startswith("data:image/webp;base64,") for p in pictures)
    mious = [float(word.split()[1]) for word in page.texts if re.fullmatch(r"mIoU \d+\.\d\d", word)]
    assert len(mious) == 3 and mious == sorted(mious)


def cells_of(text: str) -> list[tuple[str, str]]:
    return re.findall(r'<td( class="hit")? style="--share: [\d.]+" title="[\d,]+ px">([\d.-]+)</td>', text)


def test_it_is_one_file_that_connects_to_nothing_and_runs_nothing(trained: Path) -> None:
    assert run(trained, "--device", "cpu").exit_code == 0
    text = trained.with_name("model.report.html").read_text()
    assert HOSTILE not in text and "&lt;script&gt;" in text
    page = Page(text)
    assert not page.of("script") and not page.of("link") and not page.of("iframe")
    for _, attributes in page.tags:
        assert not [n for n in attributes if n.startswith("on")]
        assert all((attributes.get(n) or "#").startswith(("#", "data:")) for n in ("src", "href"))
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "max-width: 760px" in text


def test_an_unfinished_training_has_its_curves(settings, monkeypatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        train(settings(log_every=1))
    assert run(tmp_path / "model", "--out", tmp_path / "new" / "r.html").exit_code == 0
    page = Page((tmp_path / "new" / "r.html").read_text())
    assert "of 6, not finished" in page.texts
    assert "The training has not finished: there is no model to score yet." in page.texts
    assert page.of("svg") and not page.of("img")


def test_other_data_and_the_best_weights(trained: Path, tmp_path: Path, write_folder, pairs) -> None:
    classes = ({"id": 0, "name": "ground"}, {"id": 5, "name": HOSTILE})
    other = write_folder(tmp_path / "other", pairs(2, (64, 64)), classes=classes)
    assert run(trained, "--data", other, "--best", "--device", "cpu").exit_code == 0
    text = trained.with_name("model.report.html").read_text()
    assert "2 images of other." in text
    best = evaluate(trained / "best", str(other), device="cpu")
    assert f"<strong>{100 * (best.miou or 0):.2f}</strong>" in text


def test_a_training_without_a_validation_set_has_its_curves_alone(settings, tmp_path: Path) -> None:
    result = run(train(settings(log_every=1)), "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "model.report.html").read_text())
    assert "of 6, finished" in page.texts
    assert "The training had no --validate: name labelled images with --data." in page.texts
    assert page.of("svg") and not page.of("img") and not page.of("table")


def test_a_base_stage_is_scored_as_it_scored_its_validation_set(tmp_path: Path, write_folder, pairs) -> None:
    """Whose masks show the novel class too, which is background there."""
    classes = [{"id": 0, "name": "ground"}, {"id": 5, "name": "thing"}, {"id": 6, "name": "other"}]
    made = pairs(4)
    for _, mask in made[:2]:
        mask[mask == 5] = 6
    data, out = write_folder(tmp_path / "data", made, classes=classes), tmp_path / "base"
    options = "--steps 2 --batch-size 2 --crop 32 --arch Unet --decoder-channels 8,8,8,8,8 --device cpu"
    words = f"few-shot base --data {data} --validate {data} --novel other --encoder tu-test_efficientnet --out {out}"
    assert CliRunner().invoke(app, f"{words} {options}".split()).exit_code == 0
    result = run(out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    told = json.loads((out / "validation.json").read_text())
    assert told["classes"][0]["pixels"] == 4 * 32 * 32 - 2 * 16 * 16
    assert f"{told['classes'][0]['pixels']:,}" in Page(out.with_name("base.report.html").read_text()).texts


def test_pictures_of_the_way_are_shown_the_first_of_a_kind_and_the_last(trained: Path) -> None:
    assert 'id="way"' not in report_of(trained)
    (trained / "pictures").mkdir()
    for step in (2, 4, 10, 200, 1_000_000):
        Image.new("RGB", (300, 20), (step % 251, 9, 9)).save(trained / "pictures" / f"self-training-{step:06d}.png")
    Image.new("RGB", (3_000, 20)).save(trained / "pictures" / "other-000001.png")
    for stranger in ("notes.png", "other-1.png", "-000001.png"):
        Image.new("RGB", (8, 8)).save(trained / "pictures" / stranger)
    page = Page(report_of(trained))
    shown = [image for image in page.of("img") if " at step " in (image["alt"] or "")]
    assert [image["alt"] for image in shown] == [
        "other at step 1",
        *(f"self-training at step {step}" for step in (2, 10, 200, 1_000_000)),
    ]
    sizes = []
    for image in shown:
        with Image.open(io.BytesIO(base64.b64decode((image["src"] or "").partition(",")[2]))) as picture:
            sizes.append(picture.size)
    assert sizes == [(1600, 11)] + [(300, 20)] * 4
    (trained / "pictures" / "other-000002.png").write_bytes(b"no picture")
    result = run(trained, "--device", "cpu")
    assert result.exit_code == 2 and "other-000002.png" in result.stderr and result.stderr.count("\n") == 1


def report_of(trained: Path) -> str:
    assert run(trained, "--device", "cpu").exit_code == 0
    return trained.with_name("model.report.html").read_text()


def test_mistakes_are_one_line_and_foreign_files_stay(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.report.html"
    out.write_text("mine")
    (tmp_path / "data").rename(tmp_path / "moved")
    for arguments, says in (
        ((trained,), "exists and is no report of segtrain"),
        ((tmp_path,), "is not the folder of a training"),
        ((trained, "--out", tmp_path / "r.html"), "no such folder: it was the validation set; name where it is now"),
    ):
        result = run(*arguments, "--device", "cpu")
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    assert out.read_text() == "mine"
    for _ in range(2):  # a report replaces a report
        assert run(trained, "--data", tmp_path / "moved", "--out", tmp_path / "r.html").exit_code == 0


def test_the_worst_pictures_are_kept_and_painted(tiny_model: Path, pairs) -> None:
    space = load_model(tiny_model, "cpu").label_space
    worst = Worst(2, space)
    made = pairs(4)
    for number, (image, mask) in enumerate(made):
        wrong = mask.copy()
        wrong[: (0, 9, 31, 3)[number]] = 5
        worst.add(f"p{number}", image, mask, wrong)
    worst.add("empty", made[0][0], np.full((32, 32), 255, np.uint8), made[0][1])
    assert [picture.name for picture in worst.pictures] == ["p2", "p1"]
    image, mask = made[2]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(worst.pictures[0].truth.partition(",")[2]))))
    assert np.abs(shown.astype(int) - overlay(image, mask, space)).mean() < 6  # WebP
    assert np.array_equal(overlay(image, mask, space)[mask == 0], image[mask == 0])


def test_a_curve_is_drawn_where_its_values_are(trained: Path) -> None:
    curves = read_curves(trained)
    miou = curves["validation/miou"]
    drawn = drawing(miou)
    assert drawn.title == "mIoU on the validation set, percent" and drawn.last == f"{100 * miou.values[-1]:.2f}"
    assert [text for *_, text in drawn.dots] == [
        f"step {step}: {100 * value:.2f}" for step, value in zip(miou.steps, miou.values, strict=True)
    ]
    assert float(drawn.up[-1][1]) > 1 or max(miou.values) < 0.01, "the axis is in percent as well"
    assert curves["train/loss"].steps == (1, 2, 3, 4, 5, 6)
    assert [curve.name for curve in chosen(curves)][:2] == ["train/loss", "validation/miou"]
    drawn = drawing(Curve("train/loss", (0, 50, 100), (4.0, 1.0, 2.5)))
    (x0, y0), (x1, y1), (x2, y2) = ([float(v) for v in point.split(",")] for point in drawn.line.split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(2 * (y2 - y0), abs=0.2), "downwards is less"
    assert [text for _, text in drawn.up] == ["1", "2.5", "4"]
    many = drawing(Curve("train/loss", tuple(range(3000)), tuple(float(n % 2) for n in range(3000))))
    assert len(many.line.split()) == 500 and many.mean and not many.dots
    assert drawing(Curve("train/loss", (7,), (3.0,))).dots
