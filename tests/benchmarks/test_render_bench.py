"""The scripts that need a GPU run here on tiny models;

what the hardware table adds up is checked on shapes that can be counted by hand.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from doubles.mini_family import write_family

from benchmarks import hardware, render, wiring
from benchmarks.row import Row


def test_the_full_size_script_runs_and_gives_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = write_family(tmp_path / "family", control_layers=1)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: None)
    rows = {row.name: row for row in render.full_size(family, "cpu", 32, 2, 1, "a GPU")}
    assert set(rows) == set(render.gpu_names())
    for variant in render.VARIANTS:
        for suffix in ("", "_controlnet"):
            assert isinstance(rows[f"engine/{variant}{suffix}_images_s_gpu"].value, float)
    assert rows["engine/cache_controlnet_runs_gpu"].value == 1.0  # two steps: both are forced


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the rows are measured")
def test_without_a_gpu_the_rows_say_so() -> None:
    rows = [*render.gpu(), *wiring.full_size()]
    assert {row.name for row in rows} == {*render.gpu_names(), "wiring/sd35_large_s", "wiring/sd35_large_gb"}
    assert {row.value for row in rows} == {"not run: no GPU"}


def test_overhead_is_what_lies_between_the_models_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds between the first step's begin and the last one's end, of which the models have eight."""

    class Watched:
        def __init__(self, pipeline: Any) -> None: ...
        def __enter__(self) -> Any:
            return spans

        def __exit__(self, *error: object) -> None: ...

    spans: list[Any] = []
    calls = [
        ("vae", 0.0, 1.0),
        ("transformer", 2.0, 5.0),
        ("transformer", 6.0, 9.0),
        ("vae", 9.5, 10.5),
        ("transformer", 11.0, 12.0),
        ("vae", 12.0, 20.0),
    ]
    monkeypatch.setattr(render, "_watched", Watched)
    monkeypatch.setattr(render, "_stage", lambda *args: SimpleNamespace(_renderer=SimpleNamespace(_pipeline=None)))
    monkeypatch.setattr(render, "_bank", lambda *args: [])
    monkeypatch.setattr(render, "_unit", lambda *args: spans.extend(calls))
    [row] = render.overhead()
    assert isinstance(row, Row)
    assert row.value == pytest.approx(0.2)


def test_living_bytes_are_those_of_tensors_that_are_still_there() -> None:
    def run() -> torch.Tensor:
        first = torch.zeros(1000)  # 4 kB
        second = first + 1  # 8 kB
        view = second[:10]
        del first, second  # the view keeps its storage: 4 kB
        third = torch.zeros(500)  # 6 kB
        return third + view.sum()  # 4 bytes for the sum, 2 kB for the result

    assert hardware.peak_bytes(run) == 8004
    assert hardware.peak_bytes(lambda: torch.zeros(3000).add_(1).reshape(30, 100)) == 12000


def test_bytes_of_linear_layers_can_be_counted_as_if_they_were_smaller() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.Conv2d(1, 1, 3, bias=False))
    assert hardware.num_bytes(model) == 4 * (200 + 20 + 9)
    assert hardware.num_bytes(model, 0.5) == 100 + 4 * (20 + 9)
