"""The image writer beside the renderer: order, files, bounded queue, errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthgen.errors import StorageError
from synthgen.images import read_image
from synthgen.render import writer
from synthgen.render.writer import ImageWriter


def picture(number: int) -> np.ndarray:
    return np.full((4, 6, 3), number, np.uint8)


def test_rows_come_in_their_order_with_their_files(tmp_path: Path) -> None:
    came: list[Any] = []
    with ImageWriter() as images:
        for number in range(40):
            for row in images.write(number, None if number % 7 == 3 else picture(number), tmp_path / f"{number}.png"):
                came.append(row)
                assert row % 7 == 3 or (tmp_path / f"{row}.png").is_file(), "a row came before its image"
        came += images.rest()
    assert came == list(range(40))
    for number in came:
        if number % 7 != 3:
            np.testing.assert_array_equal(read_image(tmp_path / f"{number}.png"), picture(number))
    assert len(list(tmp_path.iterdir())) == 34


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before it is set."""
    opened = threading.Event()
    real: Callable[..., None] = writer.write_image

    def waits(*args: Any) -> None:
        assert opened.wait(20)
        real(*args)

    monkeypatch.setattr(writer, "write_image", waits)
    return opened


def test_the_renderer_goes_on_while_images_wait_and_no_more_wait_than_allowed(
    tmp_path: Path, gate: threading.Event
) -> None:
    with ImageWriter(most_waiting=3) as images:
        for number in range(3):
            assert list(images.write(number, picture(number), tmp_path / f"{number}.png")) == [], (
                "did not wait for the disk"
            )
        threading.Timer(0.2, gate.set).start()
        assert next(images.write(3, picture(3), tmp_path / "3.png")) == 0, "the fourth waits for the first"
        assert list(images.rest()) == [1, 2, 3]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        ImageWriter() as images,
        pytest.raises(StorageError, match=r"none/0\.png: cannot be written .*free the space") as caught,
    ):
        for number in range(3):
            list(images.write(number, picture(number), tmp_path / "none" / f"{number}.png"))
        list(images.rest())
    assert "\n" not in str(caught.value)


def test_leaving_early_waits_for_the_image_at_work_and_drops_the_others(tmp_path: Path, gate: threading.Event) -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), ImageWriter() as images:
        for number in range(5):
            list(images.write(number, picture(number), tmp_path / f"{number}.png"))
        threading.Timer(0.2, gate.set).start()
        raise KeyboardInterrupt
    assert len(list(tmp_path.iterdir())) <= 1
    assert threading.active_count() <= before + 1  # the timer
