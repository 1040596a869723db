"""Maps, windows and domains drawn by weight: what `synthgen improve` asks of the source `layouts`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from synthgen.backends import load, statement
from synthgen.errors import LabelError, RecipeError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.prompts.need import Need
from synthgen.prompts.sources.layouts import Options
from synthgen.settings import Execution

SPACE = read_label_space("cityscapes")
ROAD, CAR, TRAIN = (SPACE.by_name(name).id for name in ("road", "car", "train"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty maps: the first eight show a train, the others a car, each with a pixel of its own."""
    place = tmp_path_factory.mktemp("maps")
    for kind in ("images", "labels"):
        (place / kind).mkdir()
    for number in range(40):
        mask = np.full((20, 30), ROAD, np.uint8)
        mask[:5, :8] = TRAIN if number < 8 else CAR
        mask[10 + number // 30, number % 30] = CAR  # less than the share that counts
        write_image(np.zeros((20, 30, 3), np.uint8), place / "images" / f"{number:02d}.png")
        write_image(mask, place / "labels" / f"{number:02d}.png")
    return place


def candidates(folder: Path, seed: int = 0, **options: Any) -> list[Any]:
    given = {"name": "layouts", "folder": str(folder), **options}
    source = load("prompt_source", given, Execution())
    source.expect_size(20, 30)
    return list(source.candidates(SPACE, (), seed))


def test_maps_of_a_heavy_class_are_drawn_more_often(folder: Path) -> None:
    def trains(**options: Any) -> int:
        drawn = [
            c.layout.path.name
            for seed in range(20)
            for c in candidates(folder, seed, limit=4, domains=("x",), **options)
        ]
        assert len(drawn) == 80
        return sum(name < "08" for name in drawn)

    alike, heavy, light = (
        trains(),
        trains(class_weights={"train": 20.0}),
        trains(class_weights={"train": 0.01, "road": 0.01}),
    )
    assert light <= 3 < alike < 30 < 55 < heavy
    assert trains(class_weights={"train": 20.0}) == heavy == trains(class_weights={"TRAIN": 20.0})
    first = [c.layout.path.name for c in candidates(folder, 3, limit=40, class_weights={"train": 20.0})]
    assert sorted(set(first)) == [f"{n:02d}.png" for n in range(40)], "all of them are all of them"


def test_windows_are_cut_around_heavy_classes(folder: Path) -> None:
    def trains(weights: dict[str, float]) -> int:
        found = candidates(folder, windows={"count": 40, "temperature": 10.0}, domains=("x",), class_weights=weights)
        return sum(c.layout.path.name < "08" for c in found)

    assert trains({"train": 0.001, "road": 0.001}) == trains({"Train": 0.001, "ROAD": 0.001}) == 0
    assert trains({"car": 0.001, "road": 0.001}) == 40


def test_domains_are_drawn_by_their_weights_without_repeats(folder: Path) -> None:
    options = {"domains": ("at night", "in fog", "in rain"), "domains_per_map": 1, "domain_weights": (6.0, 3.0, 1.0)}
    found = Counter(c.attributes[0] for seed in range(10) for c in candidates(folder, seed, **options))
    assert sum(found.values()) == 400
    assert [round(found[f"domain={d}"] / 40) for d in options["domains"]] == pytest.approx([6, 3, 1], abs=1)
    two = candidates(folder, **{**options, "domains_per_map": 2})
    by_map = Counter(c.layout.path.name for c in two)
    assert set(by_map.values()) == {2} and len({(c.layout.path.name, c.attributes) for c in two}) == 80


def test_bad_weights_are_refused(folder: Path) -> None:
    for bad in (
        {"domains": ("a", "b"), "domain_weights": (1.0,)},
        {"domains": ("a",), "domain_weights": (0.0,)},
        {"class_weights": {"car": -1.0}},
        {"class_weights": {"car": float("inf")}},
    ):
        with pytest.raises(ValidationError, match="weights"):
            Options(folder=str(folder), **bad)
    with pytest.raises((LabelError, RecipeError), match="tramway"):
        candidates(folder, limit=3, class_weights={"tramway": 2.0})


def test_what_is_needed_becomes_options(folder: Path) -> None:
    need = Need({"car": 0.5, "train": 1.5}, {"night": 1.6, "fog": 0.4})
    config = {"name": "layouts", "folder": str(folder), "domains": ("at night", "in fog", "in snow")}
    assert statement("prompt_source", config, "aimed", None, need, 12) == {
        "class_weights": {"car": 0.5, "train": 1.5},
        "domains_per_map": 1,
        "domain_weights": (1.6, 0.4, 1.0),
        "limit": 12,
    }
    windows = {**config, "windows": {"count": 5}, "domains_per_map": 2}
    changed = statement("prompt_source", windows, "aimed", None, need, 12)
    assert (changed["windows"]["count"], changed["domains_per_map"], "limit" in changed) == (6, 2, False)
    plain = statement("prompt_source", config, "aimed", None, Need({"car": 1.0}, {}), 12)
    assert (plain["domains_per_map"], plain["limit"], "domain_weights" in plain) == (3, 4, False)
    Options.model_validate({k: v for k, v in {**config, **plain}.items() if k != "name"})
