"""The drawn street world: determinism, exact masks, what occurs, what the caption says."""

from __future__ import annotations

import numpy as np
import pytest

from synthgen.drawn.drawing import Drawing
from synthgen.drawn.streets import CLASSES, DOMAINS, DRAWN, PALETTE, draw
from synthgen.errors import RecipeError

SCENES = 400
COUNTABLE = range(11, 19)


@pytest.fixture(scope="module")
def scenes() -> list[Drawing]:
    return [draw(seed) for seed in range(SCENES)]


def _share_of_scenes(scenes: list[Drawing], class_id: int) -> float:
    return float(np.mean([np.any(scene.mask == class_id) for scene in scenes]))


def test_tables_agree() -> None:
    assert len(CLASSES) == len(PALETTE) == 19
    assert CLASSES[0] == "road" and CLASSES[10] == "sky" and CLASSES[18] == "bicycle"
    assert set(DRAWN) == set(range(19)) - {CLASSES.index("train")}


def test_same_arguments_give_the_same_bytes() -> None:
    for domain in (None, *DOMAINS):
        first, second = draw(7, domain=domain), draw(7, domain=domain)
        assert first.image.tobytes() == second.image.tobytes()
        assert first.mask.tobytes() == second.mask.tobytes()
        assert (first.caption, first.attributes) == (second.caption, second.attributes)
    assert draw(7).image.tobytes() != draw(8).image.tobytes()


@pytest.mark.parametrize("size", [(64, 96), (64, 64), (64, 128), (97, 130)])
def test_domain_changes_the_image_only(size: tuple[int, int]) -> None:
    for seed in range(40, 52):
        drawings = [draw(seed, size, domain=domain) for domain in DOMAINS]
        assert len({d.mask.tobytes() for d in drawings}) == 1
        assert len({d.instances.tobytes() for d in drawings}) == 1
        assert len({d.image.tobytes() for d in drawings}) == len(DOMAINS)
        assert len({dict(d.attributes)["things"] for d in drawings}) == 1


def test_naming_the_drawn_domain_changes_nothing(scenes: list[Drawing]) -> None:
    for seed in range(10):
        again = draw(seed, domain=dict(scenes[seed].attributes)["domain"])
        assert again.image.tobytes() == scenes[seed].image.tobytes()
        assert again.caption == scenes[seed].caption


def test_shapes_types_and_ids(scenes: list[Drawing]) -> None:
    for scene in scenes:
        assert scene.image.shape == (64, 96, 3) and scene.image.dtype == np.uint8
        assert scene.mask.shape == scene.instances.shape == (64, 96)
        assert scene.mask.dtype == np.uint8 and scene.instances.dtype == np.uint16
        assert set(np.unique(scene.mask).tolist()) <= set(DRAWN)
        assert scene.attributes == tuple(sorted(scene.attributes))


def test_common_classes_fill_the_scenes(scenes: list[Drawing]) -> None:
    pixels = np.bincount(np.concatenate([scene.mask.ravel() for scene in scenes]), minlength=19)
    share = pixels / pixels.sum()
    assert 0.2 < share[0] < 0.45 and 0.15 < share[2] < 0.4 and 0.1 < share[10] < 0.35
    assert share[13] > 0.02
    assert _share_of_scenes(scenes, 13) > 0.6


def test_every_drawn_class_occurs_in_four_percent_of_scenes(scenes: list[Drawing]) -> None:
    for class_id in DRAWN:
        assert _share_of_scenes(scenes, class_id) >= 0.04, CLASSES[class_id]


def test_instances_agree_with_the_mask(scenes: list[Drawing]) -> None:
    for scene in scenes:
        assert np.array_equal(scene.instances > 0, np.isin(scene.mask, COUNTABLE))
        ids = [int(i) for i in np.unique(scene.instances) if i]
        assert ids == list(range(1, len(ids) + 1))
        for i in ids:
            region = scene.mask[scene.instances == i]
            assert np.all(region == region[0])
            assert region.size >= 12


def test_persons_are_tall_enough_to_read(scenes: list[Drawing]) -> None:
    heights = []
    for scene in scenes:
        for i in np.unique(scene.instances[scene.mask == 11]):
            rows = np.flatnonzero(np.any(scene.instances == i, axis=1))
            heights.append(rows[-1] - rows[0] + 1)
    assert np.median(heights) >= 15
    assert np.mean(np.array(heights) >= 13) > 0.95  # the rest is half hidden


def test_caption_names_the_domain_and_the_vehicles(scenes: list[Drawing]) -> None:
    templates = set()
    for scene in scenes:
        said = dict(scene.attributes)
        assert said["domain"] in scene.caption
        assert len(scene.caption.split()) <= 24
        for name, class_id, plural in (("car", 13, "cars"), ("truck", 14, "trucks"), ("bus", 15, "buses")):
            count = np.unique(scene.instances[scene.mask == class_id]).size
            assert (name in said["things"].split(",")) == (count > 0)
            if count > 1:
                assert f"{('two', 'three')[count - 2]} {plural}" in scene.caption
            elif count == 1:
                assert f" {name}" in scene.caption and plural not in scene.caption
        templates.add(scene.caption.split()[0])
    assert {dict(scene.attributes)["domain"] for scene in scenes} == set(DOMAINS)
    assert len(templates) > 3


def test_domains_look_as_they_are_called() -> None:
    pictures = {domain: np.stack([draw(seed, domain=domain).image for seed in range(20)]) for domain in DOMAINS}
    masks = np.stack([draw(seed).mask for seed in range(20)])
    bright = {domain: float(picture.mean()) for domain, picture in pictures.items()}
    assert bright["night"] < bright["rain"] < bright["day"] < bright["snow"]
    assert pictures["fog"].std() < pictures["day"].std()
    walk = {domain: float(picture[masks == 1].mean()) for domain, picture in pictures.items()}
    assert walk["snow"] > walk["day"] + 30
    road, kerb = pictures["snow"][masks == 0].mean(), pictures["snow"][masks == 1].mean()
    assert kerb > road + 40


@pytest.mark.parametrize("size", [(32, 48), (64, 60), (64, 129)])
def test_a_size_outside_the_range_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="H <= W <= 2 H"):
        draw(0, size)


def test_an_unknown_domain_is_refused() -> None:
    with pytest.raises(RecipeError, match="'mist' is not one of day, night"):
        draw(0, domain="mist")
