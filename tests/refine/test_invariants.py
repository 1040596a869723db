"""What the refinement may never do, for any mask, any features and any decoder (Syn4Seg: APE and SABR)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segkit.labels import IGNORE
from segkit.regions import connected_components
from synthgen.models import Prototypes
from synthgen.refine.ape import adapted_prototypes, class_cosines, confidence_map, filter_regions, relabel
from synthgen.refine.regions import boundary_band, box_window
from synthgen.refine.sabr import boundary_refine, box_prompts

CLASSES = (1, 2, 5)
IDS = st.sampled_from([0, *CLASSES, IGNORE])
UNIT = st.floats(-1, 1, width=32)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as far as the refinement sees it."""

    mask: np.ndarray  # (H, W) uint8
    features: np.ndarray  # (h, w, 3) float32
    prototypes: Prototypes
    background: int | None


@st.composite
def noise(draw: st.DrawFn) -> np.ndarray:
    """Any small mask: everything is near an edge."""
    shape = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    mask: np.ndarray = draw(hnp.arrays(np.uint8, shape, elements=IDS, fill=IDS))
    return mask


@st.composite
def blocks(draw: st.DrawFn) -> np.ndarray:
    """Rectangles on one another: large enough to have an interior, next to each other and to what is unlabelled."""
    height, width = draw(st.integers(10, 24)), draw(st.integers(10, 24))
    mask = np.full((height, width), draw(IDS), np.uint8)
    for _ in range(draw(st.integers(1, 5))):
        top, left = draw(st.integers(0, height - 2)), draw(st.integers(0, width - 2))
        mask[top : top + draw(st.integers(1, 12)), left : left + draw(st.integers(1, 12))] = draw(IDS)
    return mask


@st.composite
def scenes(draw: st.DrawFn) -> Image:
    """Small masks; features and prototypes may be zero, equal or opposite.

    A class may lack a prototype, the background may have several.
    """
    mask = draw(st.one_of(blocks(), noise()))
    grid = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    ids = draw(st.lists(st.sampled_from([0, *CLASSES]), min_size=1, max_size=6))
    vectors = draw(hnp.arrays(np.float32, (len(ids), 3), elements=UNIT))
    features = draw(hnp.arrays(np.float32, (*grid, 3), elements=UNIT, fill=UNIT))
    return Image(mask, normed(features), Prototypes(tuple(ids), normed(vectors)), draw(st.sampled_from([0, None])))


def normed(vectors: np.ndarray) -> np.ndarray:
    """Rows at unit length; a short one becomes zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(lengths > 0.01, vectors / np.maximum(lengths, 0.01), 0).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(scenes(), st.floats(-1, 1), st.integers(1, 30), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 2))
def test_ape_frees_whole_regions_and_labels_free_pixels_only(
    image: Image, lambda_apf: float, min_region_px: int, beta: float, min_cosine: float, min_margin: float
) -> None:
    before = image.mask.copy()
    filtered = filter_regions(
        image.mask,
        image.features,
        image.prototypes,
        lambda_apf=lambda_apf,
        min_region_px=min_region_px,
        background=image.background,
    )
    adapted = adapted_prototypes(filtered.mask, image.features, image.prototypes, beta)
    looks = class_cosines(image.features, adapted, image.mask.shape)
    relabelled = relabel(filtered.mask, looks, min_cosine=min_cosine, min_margin=min_margin)
    np.testing.assert_array_equal(image.mask, before)

    freed = filtered.mask != image.mask
    assert (filtered.mask[freed] == IGNORE).all(), "APF gave a pixel another label"
    assert image.background is None or not (freed & (image.mask == image.background)).any(), "APF freed background"
    regions = connected_components(image.mask, exclude=() if image.background is None else (image.background,))
    for number in range(1, len(regions) + 1):
        region = regions.index == number
        assert freed[region].all() or not freed[region].any(), "APF cut a region"
        assert freed[region].any() or (
            region.sum() >= min_region_px and regions.class_ids[number - 1] in image.prototypes.ids
        )
    changed = relabelled != filtered.mask
    assert (filtered.mask[changed] == IGNORE).all(), "APR changed a trusted pixel"
    assert set(relabelled[changed].tolist()) <= set(image.prototypes.ids)
    np.testing.assert_array_equal(confidence_map(relabelled, looks) == 0, relabelled == IGNORE)
    lengths = np.linalg.norm(adapted.vectors, axis=1)
    assert adapted.ids == image.prototypes.ids and ((np.abs(lengths - 1) < 1e-4) | (lengths < 1e-4)).all()


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    scenes(),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.sampled_from([0.0, 0.0, 0.5]),
    st.integers(1, 6),
)
def test_sabr_writes_in_the_band_and_on_unlabelled_pixels_inside_the_box(
    data: st.DataObject, image: Image, band_px: int, padding: float, min_agreement: float, min_region_px: int
) -> None:
    mask, background = image.mask, image.background
    prompts = box_prompts(mask, background=background, min_region_px=min_region_px, box_padding=padding)
    number = len(prompts.boxes)
    # whatever a decoder may say: nothing, everything, noise, with any predicted IoU
    answers = st.sampled_from([np.zeros(mask.shape, bool), np.ones(mask.shape, bool)]) | hnp.arrays(
        bool, mask.shape, fill=st.booleans()
    )
    of_regions = [prompts.regions.index == n + 1 for n in range(number)]
    sam = np.array([data.draw(answers) ^ (region & data.draw(st.booleans())) for region in of_regions]).reshape(
        number, *mask.shape
    )
    ious = data.draw(hnp.arrays(np.float32, number, elements=st.floats(0, 1, width=32)))
    before = mask.copy()
    got = boundary_refine(
        mask, prompts, sam, ious, band_px=band_px, min_agreement=min_agreement, background=background
    ).mask
    np.testing.assert_array_equal(mask, before)

    bands = [boundary_band(prompts.regions.index == n + 1, band_px) for n in range(number)]
    in_a_band = np.any(bands, axis=0) if number else np.zeros(mask.shape, bool)
    interior = (mask != IGNORE) & ~in_a_band
    assert got[interior].tobytes() == mask[interior].tobytes(), "an interior pixel changed"
    changed = got != mask
    assert not (changed & ~(in_a_band | (mask == IGNORE))).any(), "a pixel outside band and unlabelled changed"
    for k in CLASSES if background == 0 else (0, *CLASSES):
        allowed = np.zeros(mask.shape, bool)
        for n in np.flatnonzero(prompts.regions.class_ids == k):
            allowed[box_window(prompts.boxes[n])] |= (bands[n] | (mask == IGNORE))[box_window(prompts.boxes[n])]
        assert not (changed & (got == k) & ~allowed).any(), (
            "a class left its padded box, or the band of its own regions"
        )
    cleared = changed & (got == (IGNORE if background is None else background))
    assert not (cleared & (mask == IGNORE)).any(), "an unlabelled pixel was called background"
    again = boundary_refine(
        mask, prompts, sam, ious, band_px=band_px, min_agreement=min_agreement, background=background
    ).mask
    np.testing.assert_array_equal(again, got)
