from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.labels import IGNORE
from synthgen.errors import RunError
from synthgen.models import Prototypes
from synthgen.records import MaskRecord, Rejected
from synthgen.refine.ape import class_cosines, filter_regions, relabel
from synthgen.refine.class_rates import (
    ClassCounts,
    add_rates,
    count_image,
    rates_of,
    rates_text,
    read_rates,
    write_rates,
)
from synthgen.rows import write_rows
from synthgen.runner import MANIFEST, REJECTED, StageRun


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.2, 0.9]))
def test_an_images_counts_are_what_the_masks_show(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 1, 2, IGNORE], np.uint8), (5, 6)).repeat(2, axis=0).repeat(2, axis=1)
    features, prototypes = unit(rng, 5, 6, 3), Prototypes((1, 2, 0), unit(rng, 3, 3))
    filtered = filter_regions(coarse, features, prototypes, lambda_apf=threshold, min_region_px=5, background=0)
    relabelled = relabel(
        filtered.mask, class_cosines(features, prototypes, coarse.shape), min_cosine=0.3, min_margin=0.0
    )
    rates = count_image(coarse, filtered, relabelled)

    assert set(rates) == {1, 2} & set(np.unique(coarse).tolist())
    assert sum(counts.num_regions for counts in rates.values()) == filtered.num_regions
    assert sum(counts.num_kept for counts in rates.values()) == filtered.num_kept
    for k, counts in rates.items():
        freed = [(y, x) for y, x in np.argwhere(coarse == k) if filtered.mask[y, x] == IGNORE]
        assert counts.coarse_px == (coarse == k).sum()
        assert counts.freed_px == len(freed)
        assert counts.filled_px == sum(relabelled[y, x] != IGNORE for y, x in freed)
        assert counts.returned_px == sum(relabelled[y, x] == k for y, x in freed)
        assert counts.num_kept == 0 or counts.best_similarity >= threshold - 1e-4
        assert 0 <= counts.return_rate <= counts.fill_rate <= 1 and 0 <= counts.keep_rate <= 1


def test_rates_add_up_over_images_and_files(tmp_path: Path) -> None:
    first = {2: ClassCounts(4, 3, 0.5, 100, 40, 20, 10)}
    second = {2: ClassCounts(1, 0, 0.7, 10, 10, 0, 0), 1: ClassCounts(2, 2, 0.9, 30, 0, 0, 0)}
    total = add_rates([first, second])
    assert list(total) == [1, 2]
    assert total[2] == ClassCounts(5, 3, 0.7, 110, 50, 20, 10)
    assert (total[2].keep_rate, total[2].fill_rate, total[2].return_rate) == (0.6, 0.4, 0.2)
    assert (total[1].keep_rate, total[1].fill_rate, total[1].return_rate) == (1.0, 1.0, 0.0)
    assert first[2].num_regions == 4, "adding changes no part"
    for name, keys in (("00000", ("sa", "sb")), ("00001", ())):
        (tmp_path / name).mkdir()
        for key, rates in zip(keys, (first, second), strict=False):
            write_rates(rates, tmp_path / name, key)
    assert read_rates([tmp_path / "00000", tmp_path / "00001"]) == total
    (tmp_path / "00001" / "sc_class_rates.json").write_text("[]")
    with pytest.raises(RunError, match="is damaged"):
        read_rates([tmp_path / "00001"])


def test_the_summary_names_what_fared_worst_and_what_has_nothing(tmp_path: Path) -> None:
    stage = StageRun("refine", tmp_path / "refine", MaskRecord, None)
    (stage.folder / "00000").mkdir(parents=True)
    claimed = {"labels": {"names": {"1": "cat", "2": "bus"}}, "refine": {"apf": {"lambda_apf": 0.8}}}
    (stage.folder / "stage.json").write_text(
        json.dumps({"settings": claimed, "units": [{"name": n, "start": 0, "stop": 1} for n in ("00000", "00001")]})
    )
    write_rates(
        {1: ClassCounts(8, 6, 0.9, 100, 10, 10, 5), 2: ClassCounts(2, 0, 0.41, 30, 30, 0, 0)},
        stage.folder / "00000",
        "s1",
    )
    assert rates_text(stage) == [], "a unit that is not finished does not count"
    write_rows([], Rejected, stage.folder / "00000" / REJECTED)
    write_rows([], MaskRecord, stage.folder / "00000" / MANIFEST)
    assert set(rates_of(stage)) == {1, 2}
    overall, nothing = rates_text(stage)
    assert "kept 60% of 10 regions (least: bus 0% of 2, cat 75% of 8)" in overall
    assert "labelled 25% again, 12% as before" in overall
    assert (
        "every region of class 'bus' was freed (2 regions, the most similar at 0.41; refine.apf.lambda_apf is 0.8)"
        in nothing
    )
    claimed["refine"]["apf"].update(lambda_apf=0.4, min_region_px=64)
    body = json.loads((stage.folder / "stage.json").read_text())
    (stage.folder / "stage.json").write_text(json.dumps(body | {"settings": claimed}))
    _, small = rates_text(StageRun("refine", tmp_path / "refine", MaskRecord, None))
    assert "no region of class 'bus' that is like it has refine.apf.min_region_px = 64 pixels (2 regions" in small


def test_apf_that_is_off_has_judged_no_region(tmp_path: Path) -> None:
    stage = StageRun("refine", tmp_path / "refine", MaskRecord, None)
    (stage.folder / "00000").mkdir(parents=True)
    settings = {"labels": {"names": {"1": "cat"}}, "refine": {"apf": {"enabled": False, "lambda_apf": 0.8}}}
    claim = {"settings": settings, "units": [{"name": "00000", "start": 0, "stop": 1}]}
    (stage.folder / "stage.json").write_text(json.dumps(claim))
    write_rates({1: ClassCounts(8, 8, 0.3, 100, 0, 0, 0)}, stage.folder / "00000", "s1")
    write_rows([], Rejected, stage.folder / "00000" / REJECTED)
    write_rows([], MaskRecord, stage.folder / "00000" / MANIFEST)
    assert rates_of(stage) == {} and rates_text(stage) == []
