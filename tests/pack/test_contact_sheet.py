"""The contact sheet: which samples are on it, and that masks can be seen on them."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from doubles.rows import row as row_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segkit.colours import voc_colour
from synthgen.errors import InputError
from synthgen.images import write_image
from synthgen.pack.contact_sheet import CELL_PX, GAP_PX, choose, contact_sheet
from synthgen.records import Sample, key_of

MakeRun = Callable[..., Any]


def _row(class_id: int, number: int) -> Sample:
    return cast(Sample, row_of(Sample, key=key_of("s", class_id, number), class_id=class_id))


def _brute_choice(rows: list[Sample], limit: int) -> list[Sample]:
    """Deal out class by class, lowest key first, with everything in memory."""
    piles = [
        sorted((r for r in rows if r.subject.class_id == i), key=lambda r: r.key)
        for i in sorted({r.subject.class_id for r in rows})
    ]
    dealt: list[Sample] = []
    while any(piles) and len(dealt) < limit:
        for pile in piles:
            if pile and len(dealt) < limit:
                dealt.append(pile.pop(0))
    return sorted(dealt, key=lambda r: (r.subject.class_id, r.key))


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=6), limit=st.integers(1, 12), seed=st.integers(0, 99))
def test_choice_is_balanced_and_does_not_depend_on_order(counts: list[int], limit: int, seed: int) -> None:
    rows = [_row(class_id, number) for class_id, count in enumerate(counts) for number in range(count)]
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    chosen = choose(iter(shuffled), limit)
    assert chosen == _brute_choice(rows, limit)
    assert len(chosen) == min(limit, len(rows))
    shares = Counter(row.subject.class_id for row in chosen)
    unfinished = [shares[i] for i, count in enumerate(counts) if shares[i] < count]
    assert not unfinished or max(unfinished) - min(unfinished) <= 1


def test_masks_are_seen_and_background_is_left_alone(make_run: MakeRun) -> None:
    run = make_run(count=1, size=(64, 64))
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, 32:] = 7
    grey = np.full((64, 64, 3), 100, dtype=np.uint8)
    write_image(mask, run.folder / run.samples[0].labelling.mask)
    write_image(grey, run.folder / run.samples[0].picture.image)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(run.folder, run.samples, run.labels))))
    cell = sheet[GAP_PX : GAP_PX + CELL_PX, GAP_PX : GAP_PX + CELL_PX]
    assert (cell[:, :60] == 100).all()
    colour = np.array(run.labels.by_id(7).colour)
    np.testing.assert_array_equal(cell[5, 120], np.round(100 * 0.55 + colour * 0.45))
    np.testing.assert_array_equal(cell[5, 64], colour)  # the boundary is drawn in full


def test_classes_to_which_nobody_gave_a_colour_are_told_apart(make_run: MakeRun) -> None:
    run = make_run(count=1, size=(64, 64))
    labels = dataclasses.replace(
        run.labels, labels=tuple(dataclasses.replace(each, colour=(0, 0, 0)) for each in run.labels.labels)
    )
    mask = np.full((64, 64), 1, dtype=np.uint8)
    mask[:, 32:] = 7
    write_image(mask, run.folder / run.samples[0].labelling.mask)
    write_image(np.full((64, 64, 3), 100, dtype=np.uint8), run.folder / run.samples[0].picture.image)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(run.folder, run.samples, labels))))
    cell = sheet[GAP_PX : GAP_PX + CELL_PX, GAP_PX : GAP_PX + CELL_PX]
    assert cell[5, 5].tolist() != cell[5, 120].tolist()
    legend = sheet[-40:].reshape(-1, 3)
    assert all((legend == voc_colour(class_id)).all(axis=1).sum() > 20 for class_id in (1, 7))


def test_sheet_fits_many_samples_of_any_shape(make_run: MakeRun) -> None:
    run = make_run(count=50, size=(24, 96))
    sheet = Image.open(io.BytesIO(contact_sheet(run.folder, run.samples, run.labels)))
    assert sheet.mode == "RGB" and sheet.width <= 1200 and sheet.height < 2000
    assert contact_sheet(run.folder, run.samples[::-1], run.labels) == contact_sheet(
        run.folder, run.samples, run.labels
    )


def test_a_missing_picture_is_named(make_run: MakeRun) -> None:
    run = make_run(count=2)
    (run.folder / run.samples[0].labelling.mask).unlink()
    with pytest.raises(InputError, match=r"mask\.png: no such file"):
        contact_sheet(run.folder, run.samples, run.labels)


def test_pictures_without_any_label_are_shown_as_they_are(make_run: MakeRun) -> None:
    """What `clouds` makes has no masks; hatching all over would hide the pictures."""
    run = make_run(count=2, size=(64, 64))
    for sample in run.samples:
        write_image(np.full((64, 64, 3), 100, dtype=np.uint8), run.folder / sample.picture.image)
        write_image(np.full((64, 64), 255, dtype=np.uint8), run.folder / sample.labelling.mask)

    def cells() -> list[np.ndarray]:
        sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(run.folder, run.samples, run.labels))))
        lefts = (GAP_PX, 2 * GAP_PX + CELL_PX)
        return [sheet[GAP_PX : GAP_PX + CELL_PX, left : left + CELL_PX] for left in lefts]

    assert all((cell == 100).all() for cell in cells())
    write_image(np.zeros((64, 64), dtype=np.uint8), run.folder / run.samples[0].labelling.mask)
    assert any((cell == 100).all() for cell in cells()), "background is left clear"
    assert not all((cell == 100).all() for cell in cells()), "among labelled ones a picture without labels is hatched"
