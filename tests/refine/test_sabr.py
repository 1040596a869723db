from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.labels import IGNORE
from synthgen.refine.regions import boundary_band, box_window
from synthgen.refine.sabr import BoxPrompts, boundary_refine, box_prompts, sam_confidence


def blobs(rng: np.random.Generator, size: tuple[int, int], ids: list[int]) -> np.ndarray:
    """A mask of overlapping rectangles."""
    mask = np.full(size, ids[0], np.uint8)
    for _ in range(rng.integers(1, 6)):
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = rng.choice(ids)
    return mask


def decoded(rng: np.random.Generator, prompts: BoxPrompts) -> tuple[np.ndarray, np.ndarray]:
    """What a mask decoder might say: each region shifted and roughened, with some IoU; ties are common."""
    shape = prompts.regions.index.shape
    masks = np.zeros((len(prompts.boxes), *shape), bool)
    for n in range(len(prompts.boxes)):
        shifted = np.roll(prompts.regions.index == n + 1, rng.integers(-2, 3, 2), axis=(0, 1))
        masks[n] = shifted ^ (rng.random(shape) < 0.1)
    return masks, rng.choice([0.25, 0.5, 0.75], len(prompts.boxes)).astype(np.float32)


def reference(
    mask: np.ndarray,
    prompts: BoxPrompts,
    sam: np.ndarray,
    ious: np.ndarray,
    band_px: int,
    least: float,
    background: int | None,
) -> np.ndarray:
    """The update rule of the module, pixel by pixel."""
    result = mask.copy()
    taking_part = []
    for n in range(len(ious)):
        region = prompts.regions.index == n + 1
        if (region & sam[n]).sum() / max((region | sam[n]).sum(), 1) >= least:
            window = np.zeros(mask.shape, bool)
            window[box_window(prompts.boxes[n])] = True
            taking_part.append((n, region, boundary_band(region, band_px), window))
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            claims = [
                (-float(ious[n]), n)
                for n, _, band, window in taking_part
                if window[y, x] and sam[n][y, x] and (band[y, x] or mask[y, x] == IGNORE)
            ]
            if claims:
                result[y, x] = prompts.regions.class_ids[min(claims)[1]]
            elif any(region[y, x] and band[y, x] and not sam[n][y, x] for n, region, band, _ in taking_part):
                result[y, x] = IGNORE if background is None else background
    return result


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 1_000_000),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0, None]),
    st.sampled_from([0.05, 0.5]),
)
def test_the_rule_and_its_invariants(
    seed: int, band_px: int, least: float, background: int | None, padding: float
) -> None:
    rng = np.random.default_rng(seed)
    mask = blobs(rng, (16, 19), [0, 1, 2, IGNORE])
    before = mask.copy()
    prompts = box_prompts(mask, background=background, min_region_px=3, box_padding=padding)
    sam, ious = decoded(rng, prompts)
    got = boundary_refine(mask, prompts, sam, ious, band_px=band_px, min_agreement=least, background=background).mask
    np.testing.assert_array_equal(got, reference(mask, prompts, sam, ious, band_px, least, background))

    np.testing.assert_array_equal(mask, before)
    in_a_band = np.zeros(mask.shape, bool)
    boxes_of = {k: np.zeros(mask.shape, bool) for k in (0, 1, 2)}
    for n in range(len(prompts.boxes)):
        in_a_band |= boundary_band(prompts.regions.index == n + 1, band_px)
        boxes_of[int(prompts.regions.class_ids[n])][box_window(prompts.boxes[n])] = True
    changed = got != mask
    assert not (changed & ~in_a_band & (mask != IGNORE)).any(), "a labelled pixel outside every band changed"
    if background is not None:
        assert not (changed & (mask == IGNORE) & (got == background)).any(), "an unlabelled pixel was called background"
    for k, inside in boxes_of.items():
        if k != background:
            assert not (changed & (got == k) & ~inside).any(), "a class grew beyond its boxes"


def square(size: int, y: slice, x: slice, class_id: int = 1) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[y, x] = class_id
    return mask


def test_the_edge_follows_the_decoder_and_the_inside_does_not() -> None:
    mask = square(20, slice(4, 16), slice(4, 16))
    prompts = box_prompts(mask, background=0, min_region_px=4, box_padding=0.1)
    sam = square(20, slice(5, 17), slice(4, 16)).astype(bool)
    sam[10, 10] = False  # a hole in the middle is none of SABR's business
    got = boundary_refine(mask, prompts, sam[None], np.array([0.9]), band_px=2, min_agreement=0.5, background=0).mask
    np.testing.assert_array_equal(got, square(20, slice(5, 17), slice(4, 16)))


def test_a_decoder_that_latched_on_to_something_else_is_ignored() -> None:
    mask = square(20, slice(2, 8), slice(2, 8))
    prompts = box_prompts(mask, background=0, min_region_px=4, box_padding=0.5)
    sam = square(20, slice(5, 11), slice(5, 11)).astype(bool)[None]
    got = boundary_refine(mask, prompts, sam, np.array([1.0]), band_px=3, min_agreement=0.5, background=0).mask
    np.testing.assert_array_equal(got, mask)


def test_unlabelled_pixels_inside_the_box_are_filled_however_far_from_the_edge() -> None:
    mask = square(20, slice(4, 16), slice(4, 16))
    mask[4:16, 9:16] = IGNORE
    prompts = box_prompts(mask, background=0, min_region_px=4, box_padding=0.5)
    sam = square(20, slice(4, 16), slice(4, 12)).astype(bool)[None]
    got = boundary_refine(mask, prompts, sam, np.array([1.0]), band_px=1, min_agreement=0.5, background=0).mask
    # The box ends at x = 12 (5 wide, padded by 2.5); what SAM leaves out there stays unlabelled.
    assert (got[4:16, 9:11] == 1).all()
    assert (got[4:16, 12:16] == IGNORE).all()


def test_the_higher_predicted_iou_wins_a_contested_pixel() -> None:
    mask = square(12, slice(2, 10), slice(1, 6), 1)
    mask[2:10, 6:11] = 2
    prompts = box_prompts(mask, background=0, min_region_px=4, box_padding=0.3)
    sam = np.stack([square(12, slice(2, 10), slice(1, 7)), square(12, slice(2, 10), slice(5, 11))]).astype(bool)
    for ious, columns_of_one in (([0.9, 0.8], 6), ([0.8, 0.9], 4)):
        got = boundary_refine(mask, prompts, sam, np.array(ious), band_px=2, min_agreement=0.5, background=0).mask
        assert (got[5] == 1).sum() == columns_of_one


def test_no_boxes_no_change() -> None:
    mask = np.zeros((6, 6), np.uint8)
    prompts = box_prompts(mask, background=0, min_region_px=1, box_padding=0.05)
    assert prompts.boxes.shape == (0, 4)
    got = boundary_refine(
        mask, prompts, np.zeros((0, 6, 6), bool), np.zeros(0), band_px=2, min_agreement=0.5, background=0
    ).mask
    np.testing.assert_array_equal(got, mask)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000), st.sampled_from([0, None]))
def test_what_sam_has_changed_has_sams_score_and_all_else_keeps_its_margin(seed: int, background: int | None) -> None:
    rng = np.random.default_rng(seed)
    mask = blobs(rng, (16, 19), [0, 1, 2, IGNORE])
    prompts = box_prompts(mask, background=background, min_region_px=3, box_padding=0.2)
    sam, ious = decoded(rng, prompts)
    refined = boundary_refine(mask, prompts, sam, ious, band_px=2, min_agreement=0.0, background=background)
    changed = refined.mask != mask
    np.testing.assert_array_equal(np.isfinite(refined.sam_iou), changed)
    assert {float(iou) for iou in refined.sam_iou[changed]} <= {float(np.float32(iou)) for iou in ious}
    margin = rng.integers(1, 256, mask.shape).astype(np.uint8)
    margin[refined.mask == IGNORE] = 0
    scored = sam_confidence(margin, refined)
    rewritten = changed & (refined.mask != IGNORE)
    np.testing.assert_array_equal(scored[~rewritten], margin[~rewritten])
    np.testing.assert_array_equal(scored[rewritten], np.maximum(1, np.rint(255 * refined.sam_iou[rewritten])))
    np.testing.assert_array_equal(scored == 0, refined.mask == IGNORE)


def test_the_more_confident_of_two_claims_gives_the_confidence() -> None:
    mask = np.zeros((9, 12), np.uint8)
    mask[2:7, 2:5], mask[2:7, 7:10] = 1, 2
    prompts = box_prompts(mask, background=0, min_region_px=3, box_padding=0.5)
    sam = np.zeros((2, 9, 12), bool)
    sam[0, 2:7, 2:7], sam[1, 2:7, 5:10] = True, True
    refined = boundary_refine(mask, prompts, sam, np.array([0.6, 0.8]), band_px=3, min_agreement=0.1, background=0)
    assert refined.mask[4, 5] == 2 and refined.sam_iou[4, 5] == np.float32(0.8)


def test_a_labelled_pixel_that_the_proposer_is_sure_of_never_changes() -> None:
    rng = np.random.default_rng(3)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 5
    mask[12:14, 12:20] = IGNORE
    prompts = box_prompts(mask, background=0, min_region_px=4, box_padding=0.2)
    sam = np.stack([np.roll(mask == 5, 2, axis=1) for _ in prompts.boxes])
    ious = np.full(len(sam), 0.9, np.float32)
    settings = {"band_px": 4, "min_agreement": 0.1, "background": 0}
    sure = rng.random(mask.shape) < 0.5
    free = boundary_refine(mask, prompts, sam, ious, **settings).mask
    held = boundary_refine(mask, prompts, sam, ious, **settings, sure=sure)
    fixed = sure & (mask != IGNORE)
    assert (free != mask)[fixed].any()
    assert np.array_equal(held.mask[fixed], mask[fixed])
    assert np.array_equal(held.mask[~fixed], free[~fixed])
    assert np.isnan(held.sam_iou[fixed]).all()
