"""The page of Syn4Seg's claims, and the parts of its benchmarks that are arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import claims_syn4seg, dedup, fewshot, prompt_images, prompts, run
from benchmarks.claims_syn4seg import MISSING, PAGE, page
from benchmarks.table import Line, results, times
from synthgen.labels import read_label_space


def line(value: str, spread: str = "", n: str = "3") -> Line:
    return Line(value, "fraction", spread, n, "a machine", "2026-11-21")


def test_the_page_says_what_was_measured() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(results(), times()), "run `python -m benchmarks.table`"


def test_every_figure_of_the_page_is_a_row_that_a_benchmark_gives() -> None:
    asked: set[str] = set()

    class Asked(dict[str, Line]):
        def __contains__(self, name: object) -> bool:
            asked.add(str(name))
            return False

        def get(self, name: str, default: object = None) -> None:  # type: ignore[override]
            asked.add(name)

    text = page(Asked(), {})
    known = {name for names in run.BENCHMARKS.values() for name in names}
    assert asked <= known, asked - known
    wanted = {name for name in known if name.startswith(claims_syn4seg.FAMILIES)}
    shown_elsewhere = {name for name in wanted if name.startswith("masks/") and name.count("/") == 2} | {"gfss/minutes"}
    recalls = {name for name in wanted if name.startswith("dedup/") and name.endswith("_recall")}
    assert wanted - shown_elsewhere - recalls <= asked, "a row family is not on the page"
    assert "Machine:" not in text and text.count(MISSING) > 100


def test_gains_are_held_against_the_aims_beyond_the_spread() -> None:
    table = {"gfss/1shot/gain/novel": line("0.0812", "0.01"), "gfss/1shot/gain/harmonic": line("0.035", "0.02")}
    table |= {"gfss/5shot/gain/novel": line("0.02", "0.001"), "gfss/1shot/sabr/novel": line("0.51", "0.012")}
    text = page({**table, "gfss/minutes": line("300")}, {"benchmarks.fewshot:objects": "2 min"})
    assert "novel: +8.1 ± 1.0 points (aim: 5; reached)" in text
    assert "harmonic: +3.5 ± 2.0 points (aim: 3; not reached beyond the spread)" in text
    assert "novel: +2.0 ± 0.1 points (aim: 5; not reached)" in text
    assert (
        "0.51 ± 0.012" in text and "Machine: a machine. Date: 2026-11-21. Wall time: fewshot:objects 300 min." in text
    )


def test_what_was_not_run_says_why() -> None:
    table = {f"dedup/1m_384/ours_{what}": line("not run: too long") for what in ("s", "recall")}
    text = page({**table, "masks/drawn/prototype/coarse_miou": line("0.75", "1e-9")}, {})
    assert "| not run |" in text and "- 1,000,000 x 384: not run: too long" in text
    assert "| 0.75 |" in text, "a spread of nothing is not shown"


def test_a_benchmark_leaves_its_time(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(tmp_path, type(PAGE))
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(run, "TIMES", tmp_path / "times.csv")
    monkeypatch.setattr(run, "BENCHMARKS", {"tests.benchmarks.test_claims_syn4seg:made_up": ("made/up",)})
    monkeypatch.setattr(run.importlib, "import_module", lambda _: __import__("types").SimpleNamespace(made_up=made_up))
    run.main(["made/"])
    run.main(["made/"])
    assert (
        (tmp_path / "times.csv")
        .read_text()
        .splitlines()[1]
        .startswith("tests.benchmarks.test_claims_syn4seg:made_up,0")
    )
    assert (
        len((tmp_path / "times.csv").read_text().splitlines())
        == len((tmp_path / "results.csv").read_text().splitlines())
        == 2
    )
    assert "made/up" in capsys.readouterr().out


def made_up() -> list[run.Row]:
    return [run.Row("made/up", 1.0, "fraction")]


def test_banks_of_equal_budget() -> None:
    space = read_label_space("objects")
    for bank in prompts.BANKS[:2]:
        made = prompt_images.prompts_of(bank, space, 3, seed=1)
        assert len(made) == 60 and all(space.by_id(class_id).spoken in text for class_id, text in made)
    assert len(set(prompt_images.prompts_of("classname", space, 3, seed=1))) == 20
    first, again, other = (prompt_images.prompts_of("templates", space, 3, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_kid_is_nought_for_one_distribution_and_grows_with_distance() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(1, 1, (400, 8))
    same, near, far = (prompt_images.kid(rng.normal(mean, 1, (300, 8)), drawn) for mean in (1, 1.3, 2))
    assert abs(same) < 0.02 < near < far
    x, y, scale = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), 0.0
    scale = float(np.sqrt((y**2).mean()))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / scale**2 / 3 + 1) ** 3)

    own = np.mean([kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    theirs = np.mean([kernel(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    both = np.mean([kernel(a, b) for a in x for b in y])
    assert prompt_images.kid(x, y) == pytest.approx(own + theirs - 2 * both)


def test_diversity_is_within_classes() -> None:
    features = np.array([[1.0, 0], [1, 0], [0, 1], [0, 2], [1, 1]])
    assert prompt_images.diversity(features, np.array([1, 1, 2, 2, 3])) == pytest.approx(0)
    assert prompt_images.diversity(features, np.array([1, 2, 1, 2, 3])) == pytest.approx(1)


def test_agreement_is_the_lower_of_two_shares() -> None:
    reference = np.array([True] * 4 + [False] * 6)
    assert dedup.agreement(reference, reference) == 1
    found = reference.copy()
    found[0] = False
    assert dedup.agreement(found, reference) == 0.75
    found[4:] = True
    assert dedup.agreement(found, reference) == 0


def test_variants_are_those_of_the_benchmark() -> None:
    assert tuple(claims_syn4seg.VARIANTS) == fewshot.VARIANTS
