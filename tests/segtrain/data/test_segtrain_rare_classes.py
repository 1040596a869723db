"""`--rcs`: whose images are drawn by rare class, in a plain training and beside pictures without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.killed_training import weights

from segtrain.config import checked
from segtrain.data.mixture import open_sources
from segtrain.data.rare_classes import rare_classes
from segtrain.methods.supervised import config as supervised
from segtrain.methods.supervised.method import train
from segtrain.methods.unimatch.config import Config as UniMatch
from segtrain.self_training.method import opened

RARE = 3  # the only picture that shows class 5


@pytest.fixture
def folder(tmp_path: Path, write_folder, pairs) -> str:
    """8 pictures, of which one shows the class 5."""
    shown = [(image, mask if n == RARE else np.zeros_like(mask)) for n, (image, mask) in enumerate(pairs(8))]
    return str(write_folder(tmp_path / "labelled", shown))


@pytest.fixture
def config(settings, folder: str) -> Callable[..., supervised.Config]:
    def make(**changes: Any) -> supervised.Config:
        values = settings(data=[folder], batch_size=4).model_dump(exclude_unset=True)
        return checked(supervised.Config, {**values, **changes})

    return make


@pytest.mark.parametrize(("rcs", "number"), [("none", 0), ("first", 1), ("all", 2)])
def test_none_the_first_or_every_labelled_source_is_drawn_so(config, folder: str, rcs: str, number: int) -> None:
    made = config(data=[folder, folder], rcs=rcs)
    sources, space = open_sources(made)
    assert sorted(rare_classes(sources, space, made)) == list(range(number))


def test_beside_photographs_the_labelled_crops_alone_are_drawn_so(config, folder: str) -> None:
    values = config().model_dump(include=config().model_fields_set)
    rows: dict[str, list[int]] = {}
    for rcs in ("none", "first"):
        changes = {"rcs": rcs, "unlabelled": [folder], "steps": 40, "unlabelled_share": 0.5}
        data = opened(checked(UniMatch, {**values, **changes})).data
        drawn = [data.batch(step) for step in range(40)]
        for number, name in enumerate(("labelled", "unlabelled")):
            rows[f"{name} {rcs}"] = [row for one in drawn for row in one.rows[one.sources == number].tolist()]
    assert (
        np.mean(np.array(rows["labelled first"]) == RARE) > 0.9 > 0.3 > np.mean(np.array(rows["labelled none"]) == RARE)
    )
    assert rows["unlabelled first"] == rows["unlabelled none"]


def test_a_plain_training_learns_from_what_is_drawn(config, tmp_path: Path) -> None:
    plain, rare = (weights(train(config(out=tmp_path / rcs, rcs=rcs))) for rcs in ("none", "first"))
    assert plain != rare


def test_without_it_the_settings_are_those_of_a_training_that_did_not_know_it(config) -> None:
    assert not [name for name in config().weight_settings() if name.startswith("rcs")]
    assert not [name for name in config(rcs_temperature=0.5).weight_settings() if name.startswith("rcs")]
    told = config(rcs="first").weight_settings()
    assert told["rcs"] == "first" and told["rcs_temperature"] == 0.01
