"""A training that is killed and goes on at once writes a log that is read in the order it was written."""

from __future__ import annotations

import itertools
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from segtrain.board import Board


def test_a_log_that_goes_on_within_a_second_is_read_in_order(tmp_path: Path, monkeypatch) -> None:
    """The second writer's number has one digit more, so its name sorts first if both open in the same second."""
    numbers = itertools.count(9)
    monkeypatch.setattr(event_file_writer._global_uid, "get", lambda: next(numbers))
    for first, values in ((0, (0.0, 0.1, 0.2)), (2, (1.2, 1.3))):
        board = Board(tmp_path, first)
        for step, value in enumerate(values, first):
            board.scalar("loss", value, step)
        board.close()
    points = [
        (e.step, round(e.value, 1)) for e in EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    ]
    assert points == [(0, 0.0), (1, 0.1), (2, 1.2), (3, 1.3)]
