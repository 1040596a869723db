"""The recipe of a round, aimed at what is weak."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synthgen.errors import RecipeError
from synthgen.images import write_image
from synthgen.improve.next_recipe import SEEDS, aimed
from synthgen.prompts.need import Need
from synthgen.recipe import Recipe, read_recipe

NEED = Need({"disc": 0.5, "square": 0.5, "bar": 2.0, "background": 1.0}, {})


@pytest.fixture
def base(tiny: Callable[..., Path]) -> Recipe:
    return read_recipe(str(tiny()))


def test_quotas_follow_the_need_and_all_else_is_the_runs_own(base: Recipe, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.tsv"
    earlier.write_text("bar\ta bar\n")
    made = aimed(base, NEED, 12, 2, earlier, ["filter.rules.min_class_fraction=0.05"])
    assert made.prompts.quotas == {"disc": 2, "square": 2, "bar": 8}
    assert made.prompts.budget_per_class == 24, "twice as many tries for twice the greatest quota"
    assert made.prompts.apart_from == str(earlier)
    assert (made.seed, made.filter.rules.model_dump()["min_class_fraction"]) == (base.seed + 2, 0.05)
    assert made.title == "Shapes on sand, made by doubles; round 2 of synthgen improve"
    changed = {"prompts": made.prompts, "seed": base.seed, "title": base.title, "filter": base.filter}
    assert made.model_copy(update=changed) == base.model_copy(update={"prompts": made.prompts})


def test_the_count_is_of_images_and_not_of_prompts(base: Recipe) -> None:
    made = aimed(base, NEED, 36, 1, None, ["render.images_per_prompt=3"])
    assert made.prompts.quotas == {"disc": 2, "square": 2, "bar": 8}, "12 prompts of 3 images"
    of_the_run = base.model_copy(update={"render": base.render.model_copy(update={"images_per_prompt": 4})})
    assert sum(aimed(of_the_run, NEED, 6, 1, None, []).prompts.quotas.values()) == 2


def test_a_class_that_nobody_scored_has_the_mean_weight(base: Recipe) -> None:
    made = aimed(base, Need({"disc": 1.0, "square": 2.0}, {}), 8, 1, None, [])
    assert made.prompts.quotas == {"disc": 2, "square": 4, "bar": 2} and made.prompts.apart_from == ""


def test_a_class_that_the_scores_spell_in_another_way_has_its_weight(base: Recipe) -> None:
    """The segmenter learnt from the user's own labels first, which call it so."""
    made = aimed(base, Need({"Disc": 0.5, "SQUARE": 0.5, "bar": 2.0}, {}), 12, 1, None, [])
    assert made.prompts.quotas == {"disc": 2, "square": 2, "bar": 8}


def test_the_seed_of_a_round_stays_a_seed(base: Recipe) -> None:
    assert aimed(base.model_copy(update={"seed": SEEDS - 1}), NEED, 3, 1, None, []).seed == 0


def test_a_source_with_a_list_of_its_own_is_refused(base: Recipe, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "photos" / "one.png")
    source = base.prompts.source.model_validate({"name": "images", "folder": str(tmp_path / "photos")})
    photographs = base.model_copy(update={"prompts": base.prompts.model_copy(update={"source": source})})
    with pytest.raises(RecipeError, match="'images': gives the list that it has"):
        aimed(photographs, NEED, 12, 1, None, [])
