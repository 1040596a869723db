"""The loop: budgets, resuming, averages, the log. Every training is told its length in steps, not by the clock."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from synthgen.training import loop
from synthgen.training.loop import Schedule, train


class Stop(Exception):  # noqa: N818 - it stands for a kill
    pass


class Line(torch.nn.Module):
    """A fit with noise from torch's generator, as the objectives have it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "loss": (self.layer(batch + 0.1 * torch.randn_like(batch)) - batch.sum(1, keepdim=True)).square().mean()
        }


def run_until(stop: int, out: Path, seen: list[torch.Tensor], schedule: Schedule) -> Line:
    """Train until batch number `stop` of this process is asked for."""
    model = Line()
    own = 0

    def batch_of(rng: np.random.Generator, size: int) -> torch.Tensor:
        nonlocal own
        own += 1
        if own > stop:
            raise Stop
        seen.append(torch.from_numpy(rng.standard_normal((size, 4), dtype=np.float32)))
        return seen[-1]

    with pytest.raises(Stop):
        train(model, batch_of, schedule, out)
    return model


def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # every step is stored
    schedule = Schedule(batch_size=3, learning_rate=0.01, steps=20, warmup_steps=4, checkpoint_s=-1.0, threads=1)
    undisturbed: list[torch.Tensor] = []
    run_until(9, tmp_path / "a", undisturbed, schedule)
    killed: list[torch.Tensor] = []
    run_until(4, tmp_path / "b", killed, schedule)
    run_until(5, tmp_path / "b", killed, schedule)
    assert "resumed at step 4" in capsys.readouterr().out
    assert torch.equal(torch.stack(killed), torch.stack(undisturbed))
    assert len({batch.numpy().tobytes() for batch in killed}) == 9
    one, other = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in "ab")
    assert one["step"] == other["step"] == 9
    for part in ("model", "average"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    other_seed: list[torch.Tensor] = []
    run_until(1, tmp_path / "c", other_seed, Schedule(batch_size=3, learning_rate=0.01, steps=20, seed=1, threads=1))
    assert not torch.equal(other_seed[0], undisturbed[0])


def test_a_spent_budget_ends_the_training_with_the_averaged_weights(tmp_path: Path) -> None:
    schedule = Schedule(batch_size=3, learning_rate=0.01, steps=6, threads=1)
    batch_of = lambda rng, size: torch.ones(size, 4)  # noqa: E731
    model = Line()
    facts = train(model, batch_of, schedule, tmp_path)
    assert (facts["steps"], facts["samples"]) == (6, 18)
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(model.layer.weight, stored["average"]["layer.weight"])
    assert not torch.equal(model.layer.weight, stored["model"]["layer.weight"])
    assert train(Line(), batch_of, schedule, tmp_path)["steps"] == facts["steps"]  # nothing is left to do


def test_a_budget_of_minutes_is_over_when_the_clock_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 0.5 * next(ticks))
    schedule = Schedule(batch_size=3, learning_rate=0.01, minutes=1, threads=1, checkpoint_s=1e9)
    batch_of = lambda rng, size: torch.ones(size, 4)  # noqa: E731
    steps = train(Line(), batch_of, schedule, tmp_path)["steps"]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert 10 < steps < 120, "each step looks at the clock more than once"
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows}) and rows[-1]["step"] <= steps
    assert all(rows[n]["minutes"] < rows[n + 1]["minutes"] <= 1 for n in range(len(rows) - 1)) and len(rows) >= 2
    assert rows[0].keys() == {"step", "minutes", "rate", "loss"}


@pytest.mark.parametrize("budget", [{}, {"minutes": 1, "steps": 1}, {"minutes": -1}, {"steps": 0}])
def test_a_budget_is_of_minutes_or_of_steps(budget: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        Schedule(batch_size=1, learning_rate=1.0, **budget)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    schedule = Schedule(batch_size=1, learning_rate=1.0, minutes=1, warmup_steps=10, flat=0.5)
    assert schedule.rate_at(0, 0.0) == pytest.approx(0.1)
    assert schedule.rate_at(99, 0.5) == pytest.approx(1.0)
    falling = [schedule.rate_at(99, spent) for spent in np.linspace(0.5, 1, 20)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0.02)
