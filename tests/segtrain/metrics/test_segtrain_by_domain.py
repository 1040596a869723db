"""Scores by domain: against counting pixels, and from `segtrain eval --by-domain`."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from segtrain.cli import app
from segtrain.data.domains import domain_of_metadata, read_domains
from segtrain.data.formats import open_dataset
from segtrain.errors import DataError
from segtrain.evaluate import evaluate, full_band
from segtrain.methods.supervised.method import train
from segtrain.metrics.by_domain import DomainScores, averages
from segtrain.metrics.iou import mean_iou

IDS = [0, 3, 7]


def test_domains_against_counting_pixels() -> None:
    rng = np.random.default_rng(0)
    scores, kept = DomainScores(IDS), {}
    for number in range(12):
        domain = ["fog", "day", "night"][number % 3]
        truth = rng.choice([*IDS, 254, 255], size=(9, 11)).astype(np.uint8)
        guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice(IDS)).astype(np.uint8)
        band = rng.random(truth.shape) < 0.4
        kept.setdefault(domain, []).append((guess, truth, band))
        scores.add(domain, guess, truth, band)
    made = scores.scores()
    assert [score.name for score in made] == ["day", "fog", "night"]
    for score in made:
        guess, truth, band = (np.stack(part) for part in zip(*kept[score.name], strict=True))
        assert score.num_images == 4 and score.miou == pytest.approx(mean_iou(guess, truth, IDS))
        for place, error in ((band, score.boundary_error), (~band, score.interior_error)):
            counted = place & (truth < 254)
            assert error == pytest.approx(np.mean(guess[counted] != truth[counted]))


def test_the_papers_averages_where_their_domains_are() -> None:
    five = {"ACDC": 0.4, "Dark Zurich": 0.2, "Cityscapes": 0.6, "BDD100K": 0.5, "mapillary-vistas": 0.7}
    made = averages(five)
    assert made == pytest.approx({"mean": 0.48, "avg2": 0.3, "avg3": 0.6, "avg5": 0.48})
    assert averages({"DZ": 0.2, "acdc": 0.4, "cs": None}) == pytest.approx({"mean": 0.3, "avg2": 0.3})
    assert averages({"day": 0.5, "fog": 0.1}) == pytest.approx({"mean": 0.3})
    assert averages({"day": None}) == {}


def test_the_mean_counts_every_domain_whatever_its_name_is_written_in() -> None:
    """The papers' names are looked up by their Latin letters and digits; other names keep theirs."""
    assert averages({"雨": 0.2, "雪": 0.6, "夜": None}) == pytest.approx({"mean": 0.4})
    assert averages({"cam 1": 0.2, "cam-1": 0.6}) == pytest.approx({"mean": 0.4})


def test_the_domain_of_a_folder_and_of_a_shards_json(tmp_path: Path) -> None:
    (tmp_path / "domains.txt").write_text("a.b\tnight\n\nc d\tfog \n")
    assert read_domains(tmp_path) == {"a.b": "night", "c d": "fog"}
    assert read_domains(tmp_path / "none") == {}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"domain": "acdc", "attributes": ["domain=fog"]}, "acdc"),
        ({"attributes": ["time=noon", "domain=in fog"]}, "in fog"),
        ({"attributes": [""]}, ""),
        ({"domain": 3}, ""),
        ({}, ""),
    ]
    for values, domain in cases:
        assert domain_of_metadata(json.dumps(values).encode(), "x") == domain
    with pytest.raises(DataError, match="x: must be one JSON object"):
        domain_of_metadata(b"[]", "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\tfog\nb night\n", "domains.txt:2: 'b night' is not `stem<TAB>domain`"),
        ("a\t\n", "domains.txt:1: .* is not `stem<TAB>domain`"),
        ("a\tfog\na\tday\n", "domains.txt:2: 'a' is of 'fog' already"),
    ],
)
def test_a_table_of_domains_that_is_wrong_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "domains.txt").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_domains(tmp_path)
    assert "\n" not in str(caught.value)


def test_stems_of_the_table_are_found_as_those_of_a_folder_are(tmp_path: Path, write_folder, pairs) -> None:
    """With accents apart on the disk and in one in the table, which an editor has given a byte order mark."""
    folder = write_folder(tmp_path / "data", pairs(2))
    for part in ("images", "labels"):
        (folder / part / "f0000.png").rename(folder / part / f"{unicodedata.normalize('NFD', 'é')}.png")
    (folder / "domains.txt").write_text("f0001\tday\né\tnight\n", encoding="utf-8-sig")
    source = open_dataset(folder, "", None)
    assert {source.name(row): source.domain(row) for row in range(2)} == {
        "f0001.png": "day",
        f"{unicodedata.normalize('NFD', 'é')}.png": "night",
    }


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def model(settings, tmp_path: Path, write_folder, pairs) -> Path:
    return train(settings(steps=1, data=[str(write_folder(tmp_path / "train", pairs(3)))]))


def test_eval_scores_each_domain_of_several_sets(model: Path, tmp_path: Path, write_folder, pairs) -> None:
    first = write_folder(tmp_path / "first", pairs(4))
    (first / "domains.txt").write_text("".join(f"f{n:04d}\t{'day' if n < 1 else 'fog'}\n" for n in range(4)))
    second = write_folder(tmp_path / "second", pairs(2))
    (second / "domains.txt").write_text("f0000\tfog\nf0001\tsnow\n")
    result = run(
        *("eval", "--model", model, "--data", first, "--data", second, "--by-domain", "--device", "cpu"),
        *("--json", tmp_path / "scores.json"),
    )
    assert result.exit_code == 0, result.output
    assert "boundary error" in result.stdout and "mIoU over domains: mean" in result.stdout
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert [(d["name"], d["num_images"]) for d in saved["domains"]] == [("day", 1), ("fog", 4), ("snow", 1)]
    assert saved["num_images"] == 6
    assert saved["averages"]["mean"] == pytest.approx(np.mean([d["miou"] for d in saved["domains"]]))
    alone = evaluate(model, second, device="cpu", by_domain=True, domains=["DZ"])
    assert [(d.name, d.num_images) for d in alone.domains] == [("DZ", 2)] and alone.domains[0].miou == alone.miou
    assert evaluate(model, second, device="cpu").domains == ()


def test_pooled_errors_of_a_domain_are_those_of_its_band(model: Path, tmp_path: Path, write_folder, pairs) -> None:
    from segtrain.segmenter import load_model

    folder = write_folder(tmp_path / "d", pairs(3))
    (score,) = evaluate(model, folder, device="cpu", by_domain=True, domains=["day"]).domains
    source, segmenter = open_dataset(folder, "", None), load_model(model, "cpu")
    samples = [source.read(row) for row in range(3)]
    wrong = np.stack([segmenter.predict([s.image])[0] != s.mask for s in samples])
    band = np.stack([full_band(s.mask) for s in samples])
    assert 0.3 < band.mean() < 0.7
    assert score.boundary_error == pytest.approx(wrong[band].mean())
    assert score.interior_error == pytest.approx(wrong[~band].mean())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by-domain"], "1 of 2 samples declare no domain, the first is f0001.png: add domains.txt"),
        (["--by-domain", "--domain", "a", "--domain", "b"], "domain: 2 names for 1 sources"),
        (
            ["--domain", "a"],
            "domain: 1 names for 1 sources: give one for each --data, in the same order, and --by-domain",
        ),
    ],
)
def test_a_missing_domain_is_one_line(
    model: Path, tmp_path: Path, write_folder, pairs, arguments: list[str], says: str
) -> None:
    folder = write_folder(tmp_path / "d", pairs(2))
    (folder / "domains.txt").write_text("f0000\tfog\n")
    result = run("eval", "--model", model, "--data", folder, *arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert says in result.stderr.replace("'", "")


def test_a_shard_without_a_domain_is_named_and_one_with_it_scored(
    model: Path, tmp_path: Path, write_shards, pairs
) -> None:
    shards = write_shards(tmp_path / "d", pairs(2))
    with pytest.raises(DataError, match=r"2 of 2 samples declare no domain, the first is 's0000'"):
        evaluate(model, shards, split="train", device="cpu", by_domain=True)
    scores = evaluate(model, shards, split="train", device="cpu", by_domain=True, domains=["fog"])
    assert [d.name for d in scores.domains] == ["fog"]
